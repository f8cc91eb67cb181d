//! The recorded runs of the original's CGI (`upload-scenarios.json`) against ours, with the same
//! facts, specs, CMDB and state. What is decided otherwise here is named case by case.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::deployment::{Deployment, json_of, reason};

/// The corpus of the repository.
fn corpus(name: &str) -> String {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/corpus");
    std::fs::read_to_string(root.join(name)).unwrap()
}

fn recorded(name: &str) -> Value {
    let all: Value = serde_json::from_str(&corpus("upload-scenarios.json")).unwrap();
    let scenarios = all["scenarios"].as_array().unwrap();
    let found = scenarios.iter().find(|scenario| scenario["scenario"] == name);
    found.unwrap_or_else(|| panic!("no scenario `{name}`")).clone()
}

/// The profile of the recorded runs, with a configure file of ours.
fn deployment(state: &str) -> Deployment {
    let deployment = Deployment::new(state, "[]\n");
    for name in ["kvm-test.specs", "kvm-test.cmdb"] {
        deployment.write(&format!("config/{name}"), &corpus(&format!("edeploy/config/{name}")));
    }
    let configure = deployment.read("config/vm.configure");
    deployment.write("config/kvm-test.configure", &configure);
    deployment
}

fn upload(deployment: &Deployment) -> server::request::Response {
    // The recorded runs sent every value as text.
    let facts = corpus("edeploy/tests/hw-match.hw").replace("'channel', 0)", "'channel', '0')");
    assert!(facts.contains("'channel', '0')"), "{facts}");
    deployment.post(&[("file", Some("hw.json"), facts.as_bytes())])
}

/// The entries of a CMDB file as plain values.
fn entries(text: &str) -> Vec<BTreeMap<String, Value>> {
    let keys = std::collections::BTreeSet::new();
    let cmdb = specs::cmdb::Cmdb::parse("kvm-test.cmdb", text, &keys).unwrap();
    cmdb.entries()
        .map(|entry| {
            let value = |value| serde_json::to_value(value).unwrap();
            entry.variables().iter().map(|(key, v)| (key.clone(), value(v))).collect()
        })
        .collect()
}

#[track_caller]
fn check_stored(deployment: &Deployment, recorded: &Value, left: i64) {
    deployment.sync();
    let state = deployment.read("config/state");
    assert!(state.contains(&format!("('kvm-test', {left})")), "{state}");
    let expected: Vec<BTreeMap<String, Value>> =
        serde_json::from_value(recorded["cmdb_after"]["kvm-test.cmdb"].clone()).unwrap();
    assert_eq!(entries(&deployment.read("config/kvm-test.cmdb")), expected);
    for name in recorded["hw_files"].as_array().unwrap() {
        assert!(deployment.path("hw").join(name.as_str().unwrap()).exists(), "{name}");
    }
    assert!(deployment.path("config/kvm-test.cmdb.orig").exists());
}

#[test]
fn a_match_stores_what_the_original_stored() {
    let deployment = deployment("[('kvm-test', 2)]\n");
    let recorded = recorded("match");
    let response = upload(&deployment);
    assert_eq!(response.status, 200, "{}", reason(&response));
    assert_eq!(json_of(&response)["plan"]["plan"]["hostname"], recorded["var"]["hostname"]);
    check_stored(&deployment, &recorded, recorded["state_after"][0][1].as_i64().unwrap());
    let store = deployment.application.store("SERVER").unwrap();
    let record = server::admin::commands::find(&store, "kvm1").unwrap();
    let variables = serde_json::to_value(&record.assignment.unwrap().variables).unwrap();
    assert_eq!(variables, recorded["var"]);
}

#[test]
fn an_upload_again_takes_no_second_count() {
    let deployment = deployment("[('kvm-test', 2)]\n");
    upload(&deployment);
    assert_eq!(upload(&deployment).status, 200);
    // The original went down to 0 here; promise 5 is that it does not.
    check_stored(&deployment, &recorded("again"), 1);
}

#[test]
fn a_count_is_given_back_for_a_ticket_only() {
    let deployment = deployment("[('kvm-test', '*')]\n");
    let facts = corpus("edeploy/tests/hw-match.hw");
    // The original fell through into a match here.
    let response = deployment
        .post(&[("failure", None, b"kvm-test"), ("file", Some("hw.json"), facts.as_bytes())]);
    assert_eq!(response.body, b"recorded\n", "{}", reason(&response));
    deployment.sync();
    assert_eq!(deployment.read("config/state"), "[('kvm-test', '*')]\n");
}

#[test]
fn a_profile_whose_cmdb_is_exhausted_lets_the_next_one_try() {
    // The original aborted; the documented intent is to go on.
    let deployment = Deployment::new("[('a', 5), ('b', 5)]\n", "[]\n");
    let specs = "[('disk', '$disk', 'size', 'gt(0)')]\n";
    let configure = deployment
        .read("config/vm.configure")
        .replace("{{ hostname }}", "b1")
        .replace("{{ eth }}", "eth0")
        .replace("mac: \"{{ mac }}\", address: static(\"{{ ip }}/{{ netmask }}\"), gateway: \"{{ gateway }}\"",
                 "mac: \"52:54:12:34:00:01\", address: dhcp");
    for profile in ["a", "b"] {
        deployment.write(&format!("config/{profile}.specs"), specs);
        deployment.write(&format!("config/{profile}.configure"), &configure);
    }
    deployment.write("config/a.cmdb", "[{'ip': '1', 'used': 1}]\n");
    let response = upload(&deployment);
    assert_eq!(response.status, 200, "{}", reason(&response));
    assert_eq!(json_of(&response)["plan"]["plan"]["profile"], "b");
    deployment.sync();
    assert_eq!(deployment.read("config/state"), "[('a', 5), ('b', 4)]\n");
    assert_eq!(deployment.read("config/a.cmdb"), "[{'ip': '1', 'used': 1}]\n");
}

#[test]
fn what_the_original_refused_is_refused_with_a_status() {
    let deployment = deployment("[('kvm-test', 2)]\n");
    let response = deployment.post(&[("file", Some("hw.json"), b"{oops")]);
    assert_eq!(response.status, 400);
    let response =
        deployment.post(&[("section", None, b"OTHER"), ("file", Some("hw.json"), b"[]")]);
    assert_eq!(response.status, 404);
    let response = deployment.post(&[("file", Some("v-p-s.log.gz"), b"log")]);
    assert_eq!(response.status, 200);
    let logs = recorded("log")["log_files"].clone();
    assert!(deployment.path("logs").join(logs[0].as_str().unwrap()).exists());
    // No configure file: nothing is taken (the original consumed the entry).
    std::fs::remove_file(deployment.path("config/kvm-test.configure")).unwrap();
    let response = upload(&deployment);
    assert!(response.status >= 400, "{}", reason(&response));
    deployment.sync();
    assert_eq!(deployment.read("config/state"), "[('kvm-test', 2)]\n");
    assert!(deployment.read("config/kvm-test.cmdb").contains("generate("));
}
