//! `edeploy-agent` from the outside: what a person or `udhcpc` starts, and what comes out.
#![expect(clippy::disallowed_methods, reason = "the binary under test is started directly")]
#![expect(
    clippy::unwrap_used,
    reason = "a test may panic; clippy sees only #[test] functions as tests"
)]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn agent(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edeploy-agent")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn machine(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/machines").join(name)
}

#[test]
fn facts_of_a_captured_machine_as_json_are_what_the_server_reads() {
    let folder = machine("qemu-virtio");
    let output = agent(&["detect", "--json", "--root", folder.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let facts: specs::facts::Facts = serde_json::from_slice(&output.stdout).unwrap();
    let disk = facts.disk("vda").unwrap();
    assert_eq!(disk.bytes, Some(specs::units::Bytes(10 << 30)));
    assert_eq!(disk.serial.as_deref(), Some("disk-host03"));
    assert_eq!(facts.macs()[0].as_str(), "52:54:00:88:17:3c");
    assert_eq!(facts.firmware(), specs::facts::Firmware::Bios);
    let folder = machine("server-uefi");
    let output = agent(&["detect", "--json", "--root", folder.to_str().unwrap()]);
    let facts: specs::facts::Facts = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(facts.firmware(), specs::facts::Firmware::Uefi);
    assert_eq!(facts.disk("nvme0n1").unwrap().sector_size.get(), 4096);
}

#[test]
fn facts_of_this_machine_are_a_table() {
    let output = agent(&["detect"]);
    assert!(output.status.success());
    let table = text(&output.stdout);
    assert!(table.starts_with("disk logical\n"), "{table}");
    assert!(table.contains("\nmemory total\n"), "{table}");
    assert!(table.contains("\ncpu logical\n"), "{table}");
}

#[test]
fn under_the_name_of_the_dhcp_script_it_is_the_dhcp_script() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("dhcp-event");
    symlink(env!("CARGO_BIN_EXE_edeploy-agent"), &script).unwrap();
    let run = |event: &str, ip: &str| {
        Command::new(&script)
            .arg(event)
            .env_clear()
            .envs([("interface", "eth0"), ("ip", ip), ("mask", "24")])
            .output()
            .unwrap()
    };
    assert!(run("deconfig", "").status.success());
    let output = run("bound", "10.0.0.1; reboot");
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        text(&output.stderr),
        "edeploy-agent: udhcpc's variable `ip` is missing or wrong: `10.0.0.1; reboot`\n"
    );
}

#[test]
fn wrong_usage_ends_with_two_and_a_missing_plan_with_three() {
    assert_eq!(agent(&[]).status.code(), Some(2));
    assert_eq!(agent(&["detect", "--rooot", "/"]).status.code(), Some(2));
    let output = agent(&["apply", "/does/not/exist", "--arguments", "SERV=a"]);
    assert_eq!(output.status.code(), Some(3));
    let error = text(&output.stderr);
    assert!(error.starts_with("edeploy-agent: cannot read plan `/does/not/exist`: "), "{error}");
    let output = agent(&["apply", "/does/not/exist", "--arguments", "HTTP_PORT=x"]);
    assert!(!output.status.success());
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in
        [&["detect", "--help"][..], &["apply", "--help"], &["run", "--help"], &["--help"]]
    {
        let output = agent(command);
        assert!(output.status.success());
        assert!(text(&output.stdout).contains("Example"), "{command:?}");
    }
}
