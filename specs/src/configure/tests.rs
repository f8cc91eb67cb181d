//! Configure files read right and wrong, each finding at its place.

use super::*;

const VM: &str = include_str!("../../profiles/vm.configure");

/// Findings as `line:column message (help)`.
fn findings(text: &str) -> Vec<String> {
    match Configure::parse("vm.configure", text) {
        Ok(_) => Vec::new(),
        Err(findings) => findings
            .into_iter()
            .map(|finding| {
                let help = finding.help.map(|help| format!(" ({help})")).unwrap_or_default();
                format!("{}:{} {}{help}", finding.line, finding.column, finding.message)
            })
            .collect(),
    }
}

/// The sample with one text replaced, which must be there.
fn with(from: &str, to: &str) -> String {
    assert!(VM.contains(from), "the sample holds no {from}");
    VM.replacen(from, to, 1)
}

#[test]
fn the_sample_of_the_documentation_is_read() {
    // The sample of the design page, word for word.
    let text = r#"// vm.configure: what a machine of this profile shall be
(
    role: (name: "mysql", version: "D7-F.1.0.0"),
    hostname: "{{ hostname }}",
    disks: [
        (device: "/dev/{{ disk }}", table: gpt, boot: auto, partitions: [
            (label: "root", size: "rest", use: filesystem(type: ext4, mount: "/")),
        ]),
        (each: ["disk2", "disk3"], device: "/dev/{{ item }}", table: gpt, partitions: [
            (label: "data-{{ item }}", size: "rest", use: filesystem(type: xfs, mount: "/srv/{{ item }}")),
        ]),
    ],
    network: (interfaces: [
        (name: "{{ eth }}", mac: "{{ mac }}", address: static("{{ ip }}/{{ netmask }}"), gateway: "{{ gateway }}"),
    ]),
    files: [(path: "/etc/motd.d/role", content: "mysql on {{ hostname }}\n", mode: "0644")],
    kernel_args: ["console=ttyS0,115200n8"],
    run: [(name: "firstboot", at: after_tree, chroot: true, command: ["systemctl", "enable", "mysql"])],
)"#;
    let configure = Configure::parse("vm.configure", text).unwrap();
    assert_eq!(configure.machine.disks.len(), 2);
    assert_eq!(configure.machine.run[0].command.as_deref().unwrap().len(), 3);
    let variables: Vec<String> = configure.variables().into_keys().collect();
    assert_eq!(variables, ["disk", "eth", "gateway", "hostname", "ip", "mac", "netmask"]);
    assert_eq!(configure.at("disks[1].partitions[0].use.mount").to_string(), "vm.configure:10:88");
    assert_eq!(configure.at("network.interfaces[0].address[0]").to_string(), "vm.configure:14:63");
}

#[test]
fn findings_have_a_place_and_say_how_to_mend_them() {
    for (text, expected) in [
        (
            with("hostname:", "hostnam:"),
            "5:5 there is no field `hostnam` here (did you mean `hostname`?)",
        ),
        (
            with("type: ext4", "type: ext5"),
            "8:65 `ext5` is not possible here (did you mean `ext4`?)",
        ),
        (
            with("table: gpt", "table: zfs"),
            "7:44 `zfs` is not possible here (possible: `gpt`, `msdos`)",
        ),
        (
            with("\"0644\"", "0644"),
            "18:80 `0644` would be read as a decimal number (write it as text: \"0644\")",
        ),
        (
            with("boot: auto", "table: gpt"),
            "7:49 `table` is given twice (it stands in line 7 already; remove one)",
        ),
        (
            with("{{ eth }}", "{{ eth-mgmt }}"),
            "13:20 `eth-mgmt` in a template is a subtraction (the variable is written {{ eth_mgmt }} \
             or {{ var[\"eth-mgmt\"] }}; a subtraction needs spaces)",
        ),
        (
            with("{{ hostname }}", "{{ hostname"),
            "5:15 the template cannot be read: unexpected end of input, expected end of variable block",
        ),
        (with("    hostname: \"{{ hostname }}\",\n", ""), "24:1 the field `hostname` is missing"),
        (with("\"rest\"", "5"), "8:35 expected string (a text stands in double quotes)"),
    ] {
        let found = findings(&text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(expected), "{}\nexpected {expected}", found[0]);
    }
}

#[test]
fn several_findings_come_in_the_order_of_the_file() {
    let text = with("\"0644\"", "0644").replacen("{{ hostname }}", "{{ host-name }}", 1);
    let found = findings(&text);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("5:15 `host-name`") && found[1].contains("`0644`"), "{found:?}");
}

#[test]
fn a_script_of_the_original_is_named() {
    assert_eq!(
        findings("disk1 = '/dev/' + var['disk']\n"),
        ["1:1 vm.configure is a Python script of the original: edeploy-server import DIR OUT \
          (the import converts what it can and lists the rest)"]
    );
    assert_eq!(findings(""), findings("# nothing"));
}

#[test]
fn near_words_are_proposed() {
    assert_eq!(did_you_mean("partition", &["partitions", "device"]), "did you mean `partitions`?");
    assert_eq!(did_you_mean("zzzzzz", &["gpt", "msdos"]), "possible: `gpt`, `msdos`");
    assert_eq!(distance("kitten", "sitting"), 3);
    assert_eq!(distance("", "abc"), 3);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]

    #[test]
    fn reading_never_panics(text in "\\PC*") {
        let _ = Configure::parse("x.configure", &text);
        let _ = Configure::parse("x.configure", &format!("({text}"));
    }

    #[test]
    fn a_damaged_sample_never_panics(
        cut in 0..VM.len(),
        length in 0..40_usize,
        insert in "[(){}\\[\\]\",:rdn0-9'/*#\\\\ -]{0,6}",
    ) {
        let end = (cut + length).min(VM.len());
        if VM.is_char_boundary(cut) && VM.is_char_boundary(end) {
            let damaged = format!("{}{insert}{}", &VM[..cut], &VM[end..]);
            if let Err(findings) = Configure::parse("vm.configure", &damaged) {
                for finding in findings {
                    proptest::prop_assert!(finding.line >= 1 && finding.column >= 1);
                }
            }
        }
    }
}

#[test]
fn a_field_that_is_missing_is_named() {
    let errors = Configure::parse("f", "(hostname: \"h\", disks: [])").unwrap_err();
    let text = errors[0].to_string();
    assert!(text.contains("the field `role` is missing"), "{text}");
    assert!(text.contains("help: add `role: …` before this place"), "{text}");
}

#[test]
fn words_are_as_far_apart_as_it_takes_letters_to_change() {
    for (one, other, expected) in [
        ("disk", "disk", 0),
        ("", "abc", 3),
        ("abc", "", 3),
        ("kitten", "sitting", 3),
        ("flaw", "lawn", 2),
        ("ab", "ba", 2),
        ("é", "e", 1),
        ("partition", "partitions", 1),
    ] {
        assert_eq!(distance(one, other), expected, "{one} {other}");
    }
    let possible = ["size", "partitions"];
    for (found, expected) in [
        ("siz", "did you mean `size`?"),
        ("sz", "did you mean `size`?"),
        ("s", "possible: `size`, `partitions`"),
        // A third of a long word may be wrong.
        ("partXXXons", "did you mean `partitions`?"),
        ("parXXXXons", "possible: `size`, `partitions`"),
    ] {
        assert_eq!(did_you_mean(found, &possible), expected, "{found}");
    }
}
