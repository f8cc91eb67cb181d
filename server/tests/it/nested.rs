//! Values that are lists of lists: what is accepted can be read again from every file it is
//! stored in, and what could not be is refused before anything is stored.

use serde_json::{Value, json};

use crate::deployment::{Deployment, hostname, machine, reason};

/// More than the server keeps as they are in memory.
const MACHINES: u32 = 103;

/// The deepest lists that facts and CMDBs may hold.
const DEEPEST: usize = specs::facts::MAX_NESTING;

fn nested(depth: usize) -> String {
    format!("{}1{}", "[".repeat(depth), "]".repeat(depth))
}

fn machine_with(number: u32, value: &str) -> Value {
    let mut facts = machine(number);
    let value: Value = serde_json::from_str(value).unwrap();
    facts.as_array_mut().unwrap().push(json!(["rack", "front", "layout", value]));
    facts
}

/// A profile that binds such a fact to a variable, and whose CMDB holds such a value itself.
fn deployment() -> Deployment {
    let deployment = Deployment::sized(MACHINES);
    let specs = deployment.read("config/vm.specs");
    let bound = specs.replacen('[', "[\n    (\"rack\", \"front\", \"layout\", \"$layout\"),", 1);
    deployment.write("config/vm.specs", &bound);
    let own = format!("{{\"cables\": {}, \"hostname\"", nested(DEEPEST));
    let cmdb = deployment.read("config/vm.cmdb").replace("{\"hostname\"", &own);
    deployment.write("config/vm.cmdb", &cmdb);
    deployment
}

#[test]
fn what_nests_as_deeply_as_allowed_is_read_again() {
    let mut deployment = deployment();
    let facts: Vec<Value> = (0..MACHINES).map(|n| machine_with(n, &nested(DEEPEST))).collect();
    let upload = |deployment: &Deployment, facts: &Value| {
        let response = deployment.upload(facts);
        assert_eq!(response.status, 200, "{}", reason(&response));
        hostname(&response).unwrap()
    };
    let given: Vec<String> = facts.iter().map(|facts| upload(&deployment, facts)).collect();
    // From memory, from the journal, and from the files.
    for restart in 0..3 {
        for (facts, given) in facts.iter().zip(&given) {
            assert_eq!(upload(&deployment, facts), *given, "{restart}");
        }
        if restart == 1 {
            deployment.sync();
        }
        deployment.restart();
    }
    assert_eq!(deployment.count(), "0");
}

#[test]
fn what_nests_deeper_is_refused_and_nothing_breaks() {
    let mut deployment = deployment();
    // JSON is read to a depth of 127, two of which are around the value.
    for depth in [DEEPEST + 1, 100, 122, 125] {
        let response = deployment.upload(&machine_with(1, &nested(depth)));
        assert_eq!(response.status, 400);
        assert!(reason(&response).contains("nested more than 30 deep"), "{}", reason(&response));
    }
    for _ in 0..2 {
        let response = deployment.upload(&machine_with(2, "[1]"));
        assert_eq!(response.status, 200, "{}", reason(&response));
        deployment.restart();
    }
}
