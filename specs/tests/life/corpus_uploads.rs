//! The recorded uploads to the original's CGI, as far as they are decisions. (Malformed facts,
//! unknown sections and log uploads never reach a decision: they are tests of the server.)

use serde_json::Value as Json;
use specs::facts::{Fact, Facts};
use specs::fleet::Answer;
use specs::value::{Value, Variables};

use crate::hall::{CONFIGURE, Hall};

const SCENARIOS: &str = include_str!("../../../tests/fixtures/corpus/upload-scenarios.json");
const FACTS: &str = include_str!("../../../tests/fixtures/corpus/edeploy/tests/hw-match.hw");
const KVM_SPECS: &str =
    include_str!("../../../tests/fixtures/corpus/edeploy/config/kvm-test.specs");
const KVM_CMDB: &str = include_str!("../../../tests/fixtures/corpus/edeploy/config/kvm-test.cmdb");
const ANY_DISK: &str = "[('disk', '$disk', 'size', 'gt(1)')]";

fn scenario(name: &str) -> Json {
    let all: Json = serde_json::from_str(SCENARIOS).unwrap();
    let all = all["scenarios"].as_array().unwrap();
    all.iter().find(|it| it["scenario"] == name).unwrap_or_else(|| panic!("{name}")).clone()
}

/// The facts of the recording: the channel came as text.
fn facts() -> Facts {
    let mut facts = Facts::parse("hw-match.hw", FACTS.as_bytes()).unwrap();
    for Fact(_, name, _, value) in &mut facts.0 {
        if name == "ipmi-fake" {
            *value = Value::from("0");
        }
    }
    facts
}

fn constant_name(configure: &str) -> String {
    configure.replace("{{ hostname }}", "somehost")
}

#[track_caller]
fn check_variables(hall: &Hall, recorded: &Json) {
    let expected: Variables = serde_json::from_value(recorded["var"].clone()).unwrap();
    let record = hall.world.census.records().next().unwrap();
    assert_eq!(record.assignment.as_ref().unwrap().variables, expected);
}

#[track_caller]
fn check_state(hall: &Hall, recorded: &Json) {
    let lines = recorded["state_after"].as_array().unwrap().iter();
    let expected: Vec<String> = lines
        .map(|line| {
            format!("{}={}", line[0].as_str().unwrap(), line[1].to_string().replace('"', ""))
        })
        .collect();
    assert_eq!(hall.counts(), expected.join(" "));
}

#[test]
fn match_again_and_failure() {
    let mut hall = Hall::new(&[
        ("state", "[('kvm-test', 2)]"),
        ("kvm-test.specs", KVM_SPECS),
        ("kvm-test.cmdb", KVM_CMDB),
        ("kvm-test.configure", CONFIGURE),
    ]);
    let recorded = scenario("match");
    let (_, ticket) = hall.plan(&facts());
    check_variables(&hall, &recorded);
    check_state(&hall, &recorded);
    let entries: Vec<Variables> =
        serde_json::from_value(recorded["cmdb_after"]["kvm-test.cmdb"].clone()).unwrap();
    let cmdb = hall.world.cmdb(&"kvm-test".parse().unwrap()).unwrap();
    assert!(cmdb.entries().map(|entry| entry.variables()).eq(entries));

    // Deviation: the original counts the machine a second time here.
    hall.plan(&facts());
    check_variables(&hall, &scenario("again"));
    assert_eq!(hall.counts(), "kvm-test=1");

    let before = hall.counts();
    hall.operate(|world, now| world.failure(&ticket, "kvm-test", now));
    assert_eq!((before.as_str(), hall.counts().as_str()), ("kvm-test=1", "kvm-test=2"));
    assert_eq!(scenario("failure")["response"], "empty");
}

#[test]
fn a_failure_with_a_star_does_not_fall_through_into_a_match() {
    let mut hall = Hall::new(&[
        ("state", "[('kvm-test', '*')]"),
        ("kvm-test.specs", KVM_SPECS),
        ("kvm-test.cmdb", KVM_CMDB),
        ("kvm-test.configure", CONFIGURE),
    ]);
    let (_, ticket) = hall.plan(&facts());
    let recorded = scenario("failure-with-star falls through");
    assert_eq!(recorded["response"], "configure", "the original answers a script");
    let answer = hall.operate(|world, now| world.failure(&ticket, "kvm-test", now));
    assert!(matches!(answer, Answer::Recorded { .. }));
    check_state(&hall, &recorded);
}

#[test]
fn an_exhausted_cmdb_goes_on_to_the_next_profile() {
    let configure = constant_name(CONFIGURE);
    let mut hall = Hall::new(&[
        ("state", "[('a', 5), ('b', 5)]"),
        ("a.specs", ANY_DISK),
        ("a.cmdb", "[{'ip': '1', 'used': 1}]"),
        ("a.configure", &configure),
        ("b.specs", ANY_DISK),
        ("b.configure", &configure),
    ]);
    hall.plan(&facts());
    // Deviation: the original aborts with "No more entry in the CMDB".
    assert_eq!(scenario("first profile cmdb exhausted")["exit_code"], 1);
    assert_eq!(hall.counts(), "a=5 b=4");
    assert_eq!(hall.text("a.cmdb"), "[{'ip': '1', 'used': 1}]");
}

#[test]
fn a_profile_without_specs_never_fits() {
    let recorded = scenario("first profile has no specs file");
    let mut hall = Hall::new(&[
        ("state", "[('a', 5), ('b', 5)]"),
        ("b.specs", ANY_DISK),
        ("b.configure", &constant_name(CONFIGURE)),
    ]);
    hall.plan(&facts());
    check_variables(&hall, &recorded);
    check_state(&hall, &recorded);
}

#[test]
fn a_profile_without_configure_takes_nothing() {
    let recorded = scenario("no configure file");
    let mut hall =
        Hall::new(&[("state", "[('b', 5)]"), ("b.specs", ANY_DISK), ("b.cmdb", "[{'ip': '1'}]")]);
    let refused = hall.refusal(&facts());
    assert_eq!(
        (refused.status, refused.reason.as_str()),
        (503, "b fits, but there is no b.configure")
    );
    check_state(&hall, &recorded);
    // The original consumes the entry nevertheless (reference, 2.2).
    assert_eq!(hall.text("b.cmdb"), "[{'ip': '1'}]");
}

#[test]
fn a_numeric_text_counts_and_an_empty_cmdb_is_none() {
    let recorded = scenario("string count, empty cmdb");
    let mut hall = Hall::new(&[
        ("state", "[('b', '1')]"),
        ("b.specs", ANY_DISK),
        ("b.cmdb", "[]"),
        ("b.configure", &constant_name(CONFIGURE)),
    ]);
    hall.plan(&facts());
    check_variables(&hall, &recorded);
    check_state(&hall, &recorded);
    assert_eq!((hall.text("state").as_str(), hall.text("b.cmdb").as_str()), ("[('b', 0)]", "[]"));
}
