//! `explain`: for one machine, for all, and as a difference.

use serde_json::Value;
use tempfile::TempDir;

use crate::{corpus, folder, run, text};

const CONFIGURE: &str = r#"(
    role: (name: "mysql", version: "D12-F.1.0.0"),
    hostname: "{{ hostname }}",
    disks: [(device: "/dev/{{ disk }}", table: gpt, boot: auto, partitions: [
        (label: "root", size: "rest", use: filesystem(type: ext4, mount: "/")),
    ])],
)
"#;

const FACTS: &str = "[
 ('disk', 'vda', 'size', '80'),
 ('disk', 'vda', 'bytes', '80000000000'),
 ('network', 'eth0', 'serial', '52:54:00:12:34:56'),
 ('ipmi', 'lan', 'password', 'hunter22'),
]
";

fn config(state: &str) -> TempDir {
    folder(&[
        ("state", state),
        ("hp.specs", "[\n ('disk', '$disk', 'size', 'gt(100)'),\n]\n"),
        ("hp.configure", CONFIGURE),
        ("bmc.specs", "[\n ('ipmi', 'lan', 'password', 'swordfish'),\n]\n"),
        ("bmc.configure", CONFIGURE),
        ("vm.specs", "[('disk', '$disk', 'size', 'gt(4)')]"),
        ("vm.cmdb", "[{'hostname': 'host03', 'used': 1}, {'hostname': 'host04'}]"),
        ("vm.configure", CONFIGURE),
        ("all.specs", "[]"),
        ("all.configure", "(role: 1)"),
        ("facts.hw", FACTS),
    ])
}

#[track_caller]
fn explain(config: &TempDir, more: &[&str]) -> (i32, String) {
    let facts = config.path().join("facts.hw");
    run(&[&["explain", text(config.path()), text(&facts)], more].concat())
}

#[test]
fn the_first_screen_answers_why_not_hp() {
    let config = config("[('hp', 4), ('bmc', 1), ('old', 0), ('vm', '*'), ('all', 2)]");
    let (code, shown) = explain(&config, &[]);
    let expected = r#"gets vm as host04

 PROFILE  COUNT  ANSWER   WHY
 hp       4      no       line 2: disk vda size 80 is not gt(100)
 bmc      1      no       line 2: ipmi lan password [secret] is not [secret]
 old      0      skipped  count 0; there is no old.specs
 vm       *      yes      as host04, entry 2 of vm.cmdb: the first that is free

hp (no)
  line 2, ("disk", "$disk", "size", "gt(100)"): nearest is ("disk", "vda", "size", "80"), whose value
  is not gt(100)
  it would fit with line 2 ("disk", "$disk", "size", "ge(80)"), or if fact 1 were ("disk", "vda",
  "size", "101")

bmc (no)
  line 2, ("ipmi", "lan", "password", "[secret]"): nearest is ("ipmi", "lan", "password", "[secret]"),
  whose value is not [secret]
  it would fit with line 2 ("ipmi", "lan", "password", "regexp()")

old (skipped)
  its count in `state` is 0
  there is no old.specs

vm (yes)
  as host04
  entry 2 of vm.cmdb (the first that is free): disk=vda hostname=host04 used=1
"#;
    let (shown, stops) = shown.split_once("\nall (stops)\n").unwrap();
    // What a broken configure file is told to be is its reader's business.
    let line = |text: &str| {
        let lines = text.lines().filter(|line| !line.contains(" stops "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(line(shown), line(expected));
    assert!(stops.contains("all.configure:1:"), "{stops}");
    assert_eq!(code, 0);
    assert!(shown.lines().take(24).any(|line| line.contains("hp       4      no")));
}

#[test]
fn one_profile_alone_and_the_exit_code_of_a_no() {
    let config = config("[('hp', 4), ('bmc', 1)]");
    let (code, shown) = explain(&config, &["--profile", "hp"]);
    assert_eq!(code, 1);
    assert!(shown.starts_with("gets nothing (422): no profile fits this machine\n"), "{shown}");
    assert!(shown.contains("hp (no)") && !shown.contains("bmc"), "{shown}");
    let (code, shown) = explain(&config, &["--profile", "hq"]);
    assert_eq!((code, shown.as_str()), (3, "edeploy-server: `state` names no profile `hq`\n"));
    assert_eq!(run(&["explain"]).0, 2);
}

#[test]
fn machines_read_a_mend_for_every_profile_that_does_not_fit() {
    let config = config("[('hp', 4), ('bmc', 0), ('vm', '*')]");
    let (code, shown) = explain(&config, &["--json"]);
    let json: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, &json["answer"], &json["profile"]), (0, &"plan".into(), &"vm".into()));
    let profiles = json["profiles"].as_array().unwrap();
    let outcomes: Vec<&str> =
        profiles.iter().map(|profile| profile["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["mismatch", "skipped", "taken"]);
    assert_eq!(profiles[0]["mend"]["with"], serde_json::json!(["disk", "$disk", "size", "ge(80)"]));
    assert_eq!(profiles[0]["mismatch"]["nearest"][0]["actual"], "80");
    assert_eq!(profiles[1]["mend"]["with"][3], "regexp()");
    assert_eq!((&profiles[1]["count"], &profiles[2]["count"]), (&0.into(), &"*".into()));
    assert_eq!(profiles[2]["entry"]["position"], 1);
    assert_eq!(profiles[2]["entry"]["why"], "first_free");
    assert!(!shown.contains("hunter22"), "{shown}");
}

#[test]
fn a_machine_is_named_by_its_stored_facts() {
    let config = config("[('vm', '*')]");
    let conf = config.path().join("edeploy.conf");
    std::fs::write(&conf, "[SERVER]\nCONFIGDIR=.\nHWDIR=.\nLOGDIR=.\n").unwrap();
    let (code, shown) = run(&["explain", "facts", "--config", text(&conf)]);
    assert_eq!((code, shown.lines().next()), (0, Some("gets vm as host04")));
    let (code, shown) = run(&["explain", "r7u12", "--config", text(&conf)]);
    assert_eq!(code, 3);
    assert!(shown.contains("r7u12 is neither a file nor a machine"), "{shown}");
}

/// The configuration of the original with configure files that fit its variables.
fn original() -> TempDir {
    let config = folder(&[]);
    for name in ["hp.specs", "vm.specs", "kvm-test.specs"] {
        let from = corpus("edeploy/config").join(name);
        std::fs::copy(from, config.path().join(name)).unwrap();
    }
    let state = "[('hp', '*'), ('vm', '*'), ('kvm-test', '*')]";
    std::fs::write(config.path().join("state"), state).unwrap();
    let vm = "[('disk', '$disk', 'size', 'gt(4)'), ('system', 'product', 'vendor', 'Bochs')]";
    std::fs::write(config.path().join("vm.specs"), vm).unwrap();
    config
}

#[test]
fn a_changed_spec_differs_for_exactly_the_machines_it_concerns() {
    let machines = folder(&[]);
    let mut all = 0;
    for folder in ["cardiff-vms", "edeploy/config/hw", "hardware/tests/cardiff_samples"] {
        for entry in std::fs::read_dir(corpus(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().trim_end_matches('_').to_owned();
            if name.ends_with(".hw") {
                std::fs::copy(&path, machines.path().join(name)).unwrap();
                all += 1;
            }
        }
    }
    let (old, new) = (original(), original());
    // What the matcher says on its own: whom the old list took, and whom the new one does.
    let fits = |config: &TempDir, profile: &str| -> Vec<String> {
        let file = config.path().join(format!("{profile}.specs"));
        let spec = std::fs::read_to_string(&file).unwrap();
        let spec = specs::lang::Spec::parse("specs", &spec).unwrap();
        let mut names = Vec::new();
        for entry in std::fs::read_dir(machines.path()).unwrap() {
            let path = entry.unwrap().path();
            let facts = specs::facts::Facts::parse("hw", &std::fs::read(&path).unwrap()).unwrap();
            if specs::matching::Matcher::new(&facts).find(&spec).is_ok() {
                names.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
            }
        }
        names.sort();
        names
    };
    let changed = "[('disk', '$disk', 'size', 'gt(4)'), ('system', 'product', 'vendor', 'HP')]";
    std::fs::write(new.path().join("vm.specs"), changed).unwrap();
    let (before, after) = (fits(&old, "vm"), fits(&new, "vm"));
    let mut concerned: Vec<String> =
        before.iter().filter(|name| !after.contains(name)).cloned().collect();
    concerned.extend(after.iter().filter(|name| !before.contains(name)).cloned());
    concerned.sort();
    assert!(!concerned.is_empty() && concerned.len() < all, "{} of {all}", concerned.len());

    let (machines, old, new) = (text(machines.path()), text(old.path()), text(new.path()));
    let arguments = ["explain", new, "--all", machines, "--against", old];
    let (code, shown) = run(&[&arguments[..], &["--json"]].concat());
    let json: Value = serde_json::from_str(&shown).unwrap();
    let differing: Vec<&str> =
        json.as_array().unwrap().iter().map(|it| it["machine"].as_str().unwrap()).collect();
    assert_eq!((code, differing), (1, concerned.iter().map(String::as_str).collect()));
    let (code, shown) = run(&arguments);
    let last = format!("{} of {all} machines differ", concerned.len());
    assert_eq!((code, shown.lines().last()), (1, Some(last.as_str())));
    let (code, shown) = run(&["explain", old, "--all", machines, "--against", old]);
    let none = format!("none of {all} machines would get another profile or entry\n");
    assert_eq!((code, shown), (0, none));
}

#[test]
fn an_entry_that_changes_is_a_difference() {
    let (old, new) = (config("[('vm', '*')]"), config("[('vm', '*')]"));
    std::fs::write(new.path().join("vm.cmdb"), "[{'hostname': 'host09'}]").unwrap();
    let (old_path, new_path) = (text(old.path()), text(new.path()));
    let all = ["explain", new_path, "--all", old_path];
    let (code, shown) = run(&[&all[..], &["--against", old_path]].concat());
    let expected = " MACHINE  BEFORE       NOW          WHY \n \
                    facts    vm, entry 2  vm, entry 1  \n1 of 1 machines differ\n";
    let trimmed = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.trim_end().to_owned()).collect()
    };
    assert_eq!((code, trimmed(&shown)), (1, trimmed(expected)));
    let (code, shown) = run(&all);
    assert!(code == 0 && shown.ends_with("1 of 1 machines get something\n"), "{shown}");
}
