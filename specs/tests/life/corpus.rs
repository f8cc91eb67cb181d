//! The recorded answers of the original's CMDB, `generate()` and state code, and its files.
//! Where an answer differs there is a row in `specs/README.md`, and here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use specs::cmdb::generate::Generator;
use specs::cmdb::{Choice, Claimant, Cmdb, Entry};
use specs::literal::{Document, Syntax};
use specs::state::{Count, State};
use specs::value::{Value, Variables};

const EDGE_CMDB: &str = include_str!("../../../tests/fixtures/corpus/edge-cmdb.json");
const EDGE_GENERATE: &str = include_str!("../../../tests/fixtures/corpus/edge-generate.json");
const UNIT_CASES: &str = include_str!("../../../tests/fixtures/corpus/unit-cases.json");

macro_rules! corpus {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("../../../tests/fixtures/corpus/", $path)))),*]
    };
}

/// Every CMDB of the corpus.
const CMDBS: [(&str, &str); 11] = corpus![
    "config-tools/virtualization/tests/data/edeploy/hw1.cmdb",
    "config-tools/virtualization/tests/datas/etc/edeploy/common.cmdb",
    "config-tools/virtualization/tests/datas/etc/edeploy/virt-node.cmdb",
    "edeploy-history/config/hp@2013-06-13-fec329f73b.cmdb",
    "edeploy-history/config/hp@2013-06-14-f0b51a04f9.cmdb",
    "edeploy-history/config/kvm-test@2013-06-13-b7fd86bf80.cmdb",
    "edeploy-history/config/vm-centos@2013-09-19-8b98e5e37a.cmdb",
    "edeploy/config/backup.cmdb",
    "edeploy/config/hp-mlx.cmdb",
    "edeploy/config/hp.cmdb",
    "edeploy/config/kvm-test.cmdb",
];

/// Every state of the corpus.
const STATES: [(&str, &str); 4] = corpus![
    "edeploy-history/config/state@2013-06-09-ea2d24e6db",
    "edeploy-history/config/state@2013-06-12-921d7b88dc",
    "edeploy-history/config/state@2014-04-11-4a679cd7ee",
    "edeploy/config/state",
];

fn value(json: &Json) -> Value {
    serde_json::from_value(json.clone()).unwrap()
}

fn variables(json: &Json) -> Variables {
    let object = json.as_object().into_iter().flatten();
    object.map(|(key, json)| (key.clone(), value(json))).collect()
}

fn entries(json: &Json) -> Vec<Variables> {
    json.as_array().unwrap().iter().map(variables).collect()
}

fn read(cmdb: &Cmdb) -> Vec<Variables> {
    cmdb.entries().map(|entry| entry.variables()).collect()
}

fn no_keys() -> BTreeSet<String> {
    BTreeSet::new()
}

/// The list that `generate(<expression>)` stands for, or the code of the finding.
fn generate(expression: &str) -> Result<Vec<Variables>, String> {
    match Cmdb::parse("x.cmdb", &format!("generate({expression})"), &no_keys()) {
        Ok(cmdb) => Ok(read(&cmdb)),
        Err(findings) => Err(findings[0].code.to_string()),
    }
}

#[test]
fn generate_answers_as_the_original_but_for_its_bugs() {
    // Each of these has a row in the table of deviations.
    let deviations = BTreeMap::from([
        ("{'h':'h1-3:5'}", "cmdb-generate"),
        ("{'ip':'10.0.0.1-3:5'}", "cmdb-generate"),
        ("{'n':8080,'h':'x'}", "cmdb-generate"),
        ("{'d':{'a':'1-3'},'h':'h1-2'}", "cmdb-nested"),
    ]);
    let cases: Vec<Json> = serde_json::from_str(EDGE_GENERATE).unwrap();
    assert_eq!(cases.len(), 34);
    for case in cases {
        let expression = case["expr"].as_str().unwrap();
        let expected = match deviations.get(expression) {
            Some(code) => Err((*code).to_owned()),
            None => Ok(entries(&case["result"]["result"])),
        };
        assert_eq!(generate(expression), expected, "{expression}");
    }
}

#[test]
fn generate_passes_the_unit_tests_of_the_original() {
    let cases: Vec<Json> = serde_json::from_str(UNIT_CASES).unwrap();
    let mut run = 0;
    for case in cases {
        let argument = &case["args"][0];
        let expression = match case["function"].as_str().unwrap() {
            "generate.generate" if case["kwargs"] == serde_json::json!({}) => argument.to_string(),
            "generate._generate_values" | "generate._generate_range" => {
                format!("{{'v': {argument}}}")
            }
            _ => continue,
        };
        let expected: Vec<Variables> = match case["result"][0].is_object() {
            true => entries(&case["result"]),
            false => {
                let values = case["result"].as_array().unwrap().iter();
                values.map(|json| Variables::from([("v".to_owned(), value(json))])).collect()
            }
        };
        assert_eq!(generate(&expression), Ok(expected), "{}", case["test"]);
        run += 1;
    }
    assert_eq!(run, 8);
}

#[test]
fn entries_are_chosen_as_by_the_original_but_for_its_traps() {
    let cases: Vec<Json> = serde_json::from_str(EDGE_CMDB).unwrap();
    let mut all: Vec<(String, Json)> =
        cases.into_iter().map(|case| (case["name"].as_str().unwrap().to_owned(), case)).collect();
    let units: Vec<Json> = serde_json::from_str(UNIT_CASES).unwrap();
    for unit in units.iter().filter(|unit| unit["function"] == "cmdb.update_cmdb") {
        let args = &unit["args"];
        let picked = (unit["result"] == true).then_some(0);
        let case = serde_json::json!({
            "entries": args[0], "vars": args[1], "pref": args[2], "forced": args[3],
            "result": {
                "cmdb": if picked.is_some() { &unit["args_after"][0] } else { &args[0] },
                "picked_index": picked,
            },
        });
        all.push((unit["test"].as_str().unwrap().to_owned(), case));
    }
    assert_eq!(all.len(), 12);
    // Each of these has a row in the table of deviations.
    let deviations =
        BTreeMap::from([("reuse-type-mismatch", 0), ("empty-vars-takes-first-even-used", 1)]);
    for (name, case) in all {
        let vars = variables(&case["vars"]);
        let forced = case["forced"] == true;
        let keys = if forced { variables(&case["pref"]) } else { Variables::new() };
        let names = if forced { &keys } else { &vars }.keys().cloned().collect();
        let mut cmdb = Cmdb::parse("x.cmdb", &case["entries"].to_string(), &names).unwrap();
        let who =
            Claimant { holder: Box::new(|_| None), machine: None, identifies: Box::new(|_| true) };
        let picked = match cmdb.choose(&keys, &vars, &who) {
            Choice::Entry(position) => Some(position),
            Choice::Unknown | Choice::Exhausted => None,
            other => panic!("{name}: {other:?}"),
        };
        let recorded = case["result"]["picked_index"].as_u64().and_then(|it| it.try_into().ok());
        let expected = deviations.get(name.as_str()).copied().or(recorded);
        assert_eq!(picked, expected, "{name}");
        if let Some(position) = picked.filter(|_| expected == recorded) {
            let bound = cmdb.entry(position).unwrap().bound_to(&vars);
            cmdb.set(position, bound, None);
            assert_eq!(read(&cmdb), entries(&case["result"]["cmdb"]), "{name}");
        }
    }
}

#[test]
fn states_count_as_in_the_original() {
    let cases: Vec<Json> = serde_json::from_str(UNIT_CASES).unwrap();
    let mut run = 0;
    for case in cases.iter().filter(|case| case["function"] == "state.State.failed_profile") {
        let mut state = State::parse("state", &case["state_before"].to_string()).unwrap();
        let profile = case["args"][0].as_str().unwrap().parse().unwrap();
        state.add(&profile, 1);
        let after = State::parse("state", &case["state_after"].to_string()).unwrap();
        assert!(state.profiles().eq(after.profiles()));
        run += 1;
    }
    assert_eq!(run, 1);
}

/// Asserts that two texts are equal outside of one range of the first.
#[track_caller]
fn check_only_within(before: &str, after: &str, start: usize, end: usize) {
    assert_ne!(before, after);
    assert!(after.starts_with(&before[..start]), "{after}");
    assert!(after.ends_with(&before[end..]), "{after}");
}

#[test]
fn one_bound_entry_is_the_only_difference_in_its_file() {
    let more = [
        (
            "literal.cmdb",
            "# rack 7\n[\n  {'ip': '1', # first\n   'used': 1},\n\n {'ip':'2'} , {\"ip\" : 3},]\n# end\n",
        ),
        (
            "ron.cmdb",
            "// rack 7\n[\n  {\"ip\": \"1\"}, /* x */\n\t{\"ip\": \"é\", \"l\": [1, 2]},\n]\n",
        ),
        ("one-line.cmdb", "[{'ip': '1'}, {'ip': '2'}]"),
        ("parentheses.cmdb", "([{'ip': '1'}, {'ip': '2'}])"),
    ];
    for (path, text) in CMDBS.into_iter().chain(more) {
        let cmdb = Cmdb::parse(path, text, &no_keys()).unwrap();
        assert_eq!(cmdb.to_text(), text, "{path}: unchanged");
        // A `generate` file is expanded by its first write, outside of which nothing differs.
        let mut expanded = cmdb.clone();
        let first = expanded.entry(0).unwrap();
        expanded.set(0, first.bound_to(&Variables::new()), None);
        expanded.set(0, first.clone(), None);
        let base = expanded.to_text();
        let document = Document::parse(path, &base).unwrap();
        let nodes = document.root().items().unwrap();
        assert_eq!(nodes.len(), cmdb.len(), "{path}");
        assert_eq!(document.syntax() == Syntax::Ron, path == "ron.cmdb", "{path}");
        // Long generated lists: every n-th, so that the test stays short.
        let step = nodes.len() / 8 + 1;
        for (position, node) in nodes.iter().enumerate().step_by(step) {
            let mut changed = Cmdb::parse(path, &base, &no_keys()).unwrap();
            let before = changed.entry(position).unwrap();
            let written = changed.entry_text(position).unwrap().to_owned();
            let variables = Variables::from([("mac".to_owned(), Value::from("52:54:00:88:17:3c"))]);
            changed.set(position, before.bound_to(&variables), None);
            let text = changed.to_text();
            check_only_within(&base, &text, node.span.start, node.span.end);
            let read = Cmdb::parse(path, &text, &no_keys()).unwrap();
            assert_eq!(read.entry(position), Some(before.bound_to(&variables)), "{path}");
            changed.set(position, before, Some(&written));
            assert_eq!(changed.to_text(), base, "{path}: and back");
        }
    }
}

#[test]
fn one_changed_count_is_the_only_difference_in_its_state() {
    for (path, text) in STATES {
        let state = State::parse(path, text).unwrap();
        assert_eq!(state.to_text(), text, "{path}");
        let document = Document::parse(path, text).unwrap();
        let lines = document.root().items().unwrap();
        for ((profile, count), line) in state.profiles().zip(lines) {
            let Count::Left(left) = count else { continue };
            let mut changed = state.clone();
            changed.add(profile, 1234 - left);
            let count = &line.items().unwrap()[1];
            check_only_within(text, &changed.to_text(), count.span.start, count.span.end);
            let read = State::parse(path, &changed.to_text()).unwrap();
            assert_eq!(read.count(profile), Some(Count::Left(1234)));
        }
    }
}

#[test]
fn a_secret_stays_written_as_one() {
    let text = "[{'ip': '1', 'ipmi': secret('s3cret')}]";
    let mut cmdb = Cmdb::parse("x.cmdb", text, &no_keys()).unwrap();
    let entry: Entry = cmdb.entry(0).unwrap();
    cmdb.set(0, entry.bound_to(&Variables::new()), None);
    assert_eq!(cmdb.to_text(), "[{'ip': '1', 'ipmi': secret('s3cret'), 'used': 1}]");
}

#[test]
fn a_template_of_65536_entries_is_a_list_of_as_many() {
    let text = "generate({'ip': '10.7.0-255.0-255', 'h': 'n00000-65535'})";
    let cmdb = Cmdb::parse("x.cmdb", text, &no_keys()).unwrap();
    assert_eq!((cmdb.len(), cmdb.free()), (65_536, 65_536));
    let last = cmdb.entry(65_535).unwrap();
    assert_eq!(last.get("ip"), Some(&Value::from("10.7.255.255")));
    assert_eq!(last.get("h"), Some(&Value::from("n65535")));
    let template = Entry::default();
    assert_eq!(Generator::new(&template).unwrap().entries().count(), 1);
}
