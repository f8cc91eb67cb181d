//! Bringing the network up on a captured tree, with a fake for `ip` and `udhcpc`.

use std::sync::Mutex;

use super::*;
use crate::options::RawCmdline;
use crate::report::testing::{Screen, console};
use crate::world::Output;

/// Two ports: eth0 has a link, eth1 does not.
fn machine() -> (tempfile::TempDir, Root) {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::new(folder.path());
    for (name, index, carrier) in [("eth0", "2", "1"), ("eth1", "3", "0")] {
        let address = format!("52:54:00:00:00:0{index}");
        for (file, content) in [
            ("type", "1"),
            ("ifindex", index),
            ("address", &address),
            ("carrier", carrier),
            ("device/driver/x", ""),
        ] {
            let path = format!("/sys/class/net/{name}/{file}");
            root.write(&path, content.as_bytes(), 0o644, None).unwrap();
        }
    }
    (folder, root)
}

/// Answers DHCP on the interfaces it is told to (`eth1@3`: only from the third question on), fails commands that begin with given words, and
/// remembers every command.
struct Network<'a> {
    root: &'a Root,
    answering: &'a [&'a str],
    failing: &'a [&'a str],
    transcript: Mutex<Vec<String>>,
}

impl<'a> Network<'a> {
    /// The interface on which this question, the last of the transcript, is answered.
    fn answered(&self, question: &str) -> Option<&'a str> {
        let asked = self.transcript.lock().unwrap().iter().filter(|line| *line == question).count();
        self.answering.iter().find_map(|entry| {
            let (name, first) = entry.split_once('@').unwrap_or((entry, "1"));
            let answers = asked >= first.parse().unwrap();
            (answers && question.contains(&format!("-i {name} "))).then_some(name)
        })
    }
}

struct Port<'a>(&'a Network<'a>);

impl Runner for Port<'_> {
    fn run(&mut self, cmd: &Cmd) -> Result<Output, CmdError> {
        let line = cmd.to_string();
        self.0.transcript.lock().unwrap().push(line.clone());
        if self.0.failing.iter().any(|start| line.starts_with(start)) {
            return Err(CmdError::Exit { cmd: line, code: 2, stderr_tail: "no firmware".into() });
        }
        if line.starts_with("busybox udhcpc") {
            let Some(interface) = self.0.answered(&line) else {
                return Err(CmdError::Exit { cmd: line, code: 1, stderr_tail: "no lease".into() });
            };
            // Each port is in a network of its own: eth0 in 10.0.2.0/24, eth1 in 10.1.2.0/24.
            let number = interface.trim_start_matches("eth");
            let json = format!(
                r#"{{"address":"10.{number}.2.15/24","routers":["10.{number}.2.2"],
                "name_servers":["10.{number}.2.3"],"domain":null}}"#
            );
            let path = format!("/run/edeploy/dhcp/{interface}");
            self.0.root.write(&path, json.as_bytes(), 0o644, None).unwrap();
        }
        Ok(Output::default())
    }

    fn run_streaming(&mut self, cmd: &Cmd, _: &mut dyn FnMut(&str)) -> Result<Output, CmdError> {
        self.run(cmd)
    }

    fn run_all(&mut self, cmds: &[Cmd]) -> Vec<Result<Output, CmdError>> {
        cmds.iter().map(|cmd| self.run(cmd)).collect()
    }
}

fn up(
    root: &Root,
    answering: &'static [&'static str],
    cmdline: &str,
) -> (Result<String, LinkError>, Vec<String>, Screen) {
    up_failing(root, answering, &[], cmdline)
}

fn up_failing(
    root: &Root,
    answering: &'static [&'static str],
    failing: &'static [&'static str],
    cmdline: &str,
) -> (Result<String, LinkError>, Vec<String>, Screen) {
    // Leaked: runners are boxed for ever, and a test ends soon.
    let network: &'static Network<'static> = Box::leak(Box::new(Network {
        root: Box::leak(Box::new(root.clone())),
        answering,
        failing,
        transcript: Mutex::default(),
    }));
    let options = AgentOptions::parse(&RawCmdline::parse(cmdline)).unwrap();
    let (console, screen) = console();
    let link =
        Link { root, runner: &|| Box::new(Port(network)), console: &console, sleep: &|_| {} };
    let result = link.up(&options).map(|network| network.to_string());
    let transcript = network.transcript.lock().unwrap().clone();
    (result, transcript, screen)
}

#[test]
fn only_ports_with_a_link_ask_and_the_answer_is_applied() {
    let (_folder, root) = machine();
    let (result, transcript, _) = up(&root, &["eth0"], "");
    assert_eq!(result.unwrap(), "eth0 10.0.2.15/24");
    expect_test::expect![[r#"
        ip link set lo up
        ip link set eth0 up
        ip link set eth1 up
        busybox udhcpc -f -q -n -t 4 -T 2 -A 1 -i eth0 -s /run/edeploy/dhcp-event
        ip address replace 10.0.2.15/24 dev eth0
        ip route replace default via 10.0.2.2 dev eth0 metric 100"#]]
    .assert_eq(&transcript.join("\n"));
    assert_eq!(root.read_text("/etc/resolv.conf").unwrap(), "nameserver 10.0.2.3\n");
}

#[test]
fn without_an_answer_every_port_is_named_with_its_link() {
    let (_folder, root) = machine();
    let (result, transcript, screen) = up(&root, &[], "");
    let error = result.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no DHCP answer in 6 rounds: eth0 (driver): link, eth1 (driver): no link"
    );
    assert_eq!(transcript.iter().filter(|line| line.contains("udhcpc")).count(), 6);
    assert!(screen.text().contains("eth0: no DHCP answer (round 6 of 6, "), "{}", screen.text());
}

#[test]
fn static_addresses_vlans_and_ports_left_alone() {
    let (_folder, root) = machine();
    let (result, transcript, _) = up(&root, &[], "IP=eth0:192.168.7.9/24@30,other:none");
    assert_eq!(result.unwrap(), "eth0.30 192.168.7.9/24");
    expect_test::expect![[r#"
        ip link set lo up
        ip link set eth0 up
        ip link add link eth0 name eth0.30 type vlan id 30
        ip link set eth0.30 up
        ip address replace 192.168.7.9/24 dev eth0.30"#]]
    .assert_eq(&transcript.join("\n"));
    assert_eq!(up(&root, &[], "IP=all:none").0.unwrap(), "none wanted");
}

#[test]
fn no_cable_and_no_card_are_different_errors() {
    let (_folder, root) = machine();
    let (result, _, _) = up(&root, &[], "IP=eth0:none LINK_UP_TIMEOUT=3");
    assert_eq!(
        result.unwrap_err().to_string(),
        "no interface has a link after 3 s: eth1 (driver): no link"
    );
    let empty = tempfile::tempdir().unwrap();
    let (result, _, screen) = up(&Root::new(empty.path()), &[], "");
    assert!(matches!(result, Err(LinkError::NoInterface)));
    assert_eq!(screen.text().lines().count(), 2);
}

#[test]
fn a_card_that_cannot_be_used_does_not_keep_the_others_from_it() {
    let (_folder, root) = machine();
    // eth1 has a link and lacks its firmware; then eth0 refuses its address.
    root.write("/sys/class/net/eth1/carrier", b"1", 0o644, None).unwrap();
    let no_firmware: &[&str] = &["ip link set eth1 up"];
    let (result, _, screen) = up_failing(&root, &["eth0", "eth1"], no_firmware, "");
    assert_eq!(result.unwrap(), "eth0 10.0.2.15/24");
    let note = "eth1 is left out: `ip link set eth1 up` exited with 2; its last words: no firmware";
    assert!(screen.text().contains(note), "{}", screen.text());
    let no_address: &[&str] = &["ip address replace 10.0.2.15/24 dev eth0"];
    let (result, _, _) = up_failing(&root, &["eth0", "eth1"], no_address, "");
    assert_eq!(result.unwrap(), "eth1 10.1.2.15/24");
    let (result, _, _) = up_failing(&root, &[], no_firmware, "LINK_UP_TIMEOUT=0");
    assert_eq!(
        result.unwrap_err().to_string(),
        "no DHCP answer in 6 rounds: eth0 (driver): link, eth1: `ip link set eth1 up` exited \
         with 2; its last words: no firmware"
    );
}

#[test]
fn without_any_usable_card_each_is_named_with_what_it_refused() {
    let (_folder, root) = machine();
    for (failing, cmdline, expected) in [
        (
            "ip link set",
            "",
            "no network interface can be used: eth0: `ip link set eth0 up` exited with 2; its \
             last words: no firmware, eth1: `ip link set eth1 up` exited with 2; its last words: \
             no firmware",
        ),
        (
            "ip address",
            "IP=all:10.0.0.9/8",
            "no network interface can be used: eth0: `ip address replace 10.0.0.9/8 dev eth0` \
             exited with 2; its last words: no firmware",
        ),
    ] {
        let failing: &'static [&'static str] = Box::leak(Box::new([failing]));
        let (result, _, _) = up_failing(&root, &[], failing, cmdline);
        assert_eq!(result.unwrap_err().to_string(), expected);
    }
}

/// Two ports with a link.
fn machine_with_two_links() -> (tempfile::TempDir, Root) {
    let (folder, root) = machine();
    root.write("/sys/class/net/eth1/carrier", b"1", 0o644, None).unwrap();
    (folder, root)
}

#[test]
fn of_several_gateways_the_one_of_the_card_that_was_started_from_is_best() {
    for (cmdline, routes, name_server) in [
        (
            "",
            "via 10.0.2.2 dev eth0 metric 100, via 10.1.2.2 dev eth1 metric 101",
            "nameserver 10.0.2.3\n",
        ),
        (
            "BOOTIF=01-52-54-00-00-00-03",
            "via 10.1.2.2 dev eth1 metric 100, via 10.0.2.2 dev eth0 metric 101",
            "nameserver 10.1.2.3\n",
        ),
    ] {
        let (_folder, root) = machine_with_two_links();
        let (result, transcript, _) = up(&root, &["eth0", "eth1"], cmdline);
        result.unwrap();
        let set: Vec<&str> = transcript
            .iter()
            .filter_map(|line| line.strip_prefix("ip route replace default "))
            .collect();
        assert_eq!(set.join(", "), routes, "{cmdline}");
        assert_eq!(root.read_text("/etc/resolv.conf").unwrap(), name_server, "{cmdline}");
    }
}

#[test]
fn silent_ports_are_asked_again_until_the_server_can_be_reached() {
    for (answering, cmdline, questions, expected) in [
        // eth0 leads anywhere: eth1 may stay silent.
        (["eth0", "eth1@3"], "", 2, "eth0 10.0.2.15/24"),
        // Unless the machine was started from eth1.
        (
            ["eth0", "eth1@3"],
            "BOOTIF=01-52-54-00-00-00-03",
            4,
            "eth0 10.0.2.15/24, eth1 10.1.2.15/24",
        ),
        // The address of eth0 does not lead to the server, or does.
        (
            ["", "eth1@3"],
            "IP=eth0:192.168.7.9/24 SERV=10.1.2.2",
            3,
            "eth0 192.168.7.9/24, eth1 10.1.2.15/24",
        ),
        (["", "eth1@3"], "IP=eth0:192.168.7.9/24 SERV=192.168.7.1", 1, "eth0 192.168.7.9/24"),
        // In the end an address is an address.
        (["", ""], "IP=eth0:192.168.7.9/24 SERV=10.1.2.2", 6, "eth0 192.168.7.9/24"),
    ] {
        let (_folder, root) = machine_with_two_links();
        let (result, transcript, _) = up(&root, Box::leak(Box::new(answering)), cmdline);
        assert_eq!(result.unwrap(), expected, "{cmdline}");
        let asked = transcript.iter().filter(|line| line.contains("udhcpc")).count();
        assert_eq!(asked, questions, "{cmdline}");
    }
}

#[test]
fn the_name_of_a_vlan_fits_and_one_that_is_there_is_taken() {
    let (_folder, root) = machine();
    // What the first try of `edeploy-agent run` has left.
    root.write("/sys/class/net/eth0.30/uevent", b"DEVTYPE=vlan", 0o644, None).unwrap();
    let (result, transcript, _) = up(&root, &[], "IP=eth0:192.168.7.9/24@30,other:none");
    assert_eq!(result.unwrap(), "eth0.30 192.168.7.9/24");
    assert!(!transcript.iter().any(|line| line.contains("link add")), "{transcript:?}");

    for (name, vlan, expected) in
        [("enp129s0f1", 4094, "enp129s0f1.4094"), ("enp129s0f1np1", 12, "if7.12")]
    {
        for (file, content) in
            [("type", "1"), ("ifindex", "7"), ("carrier", "1"), ("device/vendor", "x")]
        {
            let path = format!("/sys/class/net/{name}/{file}");
            root.write(&path, content.as_bytes(), 0o644, None).unwrap();
        }
        let (result, transcript, _) =
            up(&root, &[], &format!("IP={name}:10.0.0.9/8@{vlan},other:none"));
        assert_eq!(result.unwrap(), format!("{expected} 10.0.0.9/8"));
        let add = format!("ip link add link {name} name {expected} type vlan id {vlan}");
        assert!(transcript.contains(&add), "{transcript:?}");
    }
}
