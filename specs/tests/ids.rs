//! The original's numbers of accounts: its recorded cases, and every table that it ships.
#![expect(clippy::disallowed_methods, reason = "tests read their fixtures")]

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value as Json;
use specs::ids::{Accounts, Kind, Numbers, Table, account_command, merge};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[derive(Deserialize)]
struct Case {
    test: String,
    function: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    is_group: bool,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    uids: Json,
    #[serde(default)]
    gids: Json,
    result: Json,
}

/// `{"name": ["uid", "gid"]}`, with an empty gid for none, as the original holds accounts.
fn accounts(json: &Json) -> Accounts {
    let number = |json: &Json| json.as_str().and_then(|text| text.parse().ok());
    let entry = |(name, pair): (&String, &Json)| {
        let id = number(&pair[0]).expect("a number");
        (name.clone(), Numbers { id, group: number(&pair[1]) })
    };
    json.as_object().map(|object| object.iter().map(entry).collect()).unwrap_or_default()
}

#[test]
fn the_recorded_cases_of_the_original_pass() {
    let file = repository().join("tests/fixtures/corpus/unit-cases-mngids.json");
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(cases.len(), 25, "the corpus changed");
    for case in cases {
        match case.function.as_str() {
            "mngids.parse" => {
                let kind = if case.is_group { Kind::Groups } else { Kind::Users };
                let mut found = Accounts::new();
                merge(kind, &case.content, &mut found).unwrap();
                assert_eq!(found, accounts(&case.result), "{}", case.test);
            }
            "mngids.parse_cmdline" => {
                let table = Table { users: accounts(&case.uids), groups: accounts(&case.gids) };
                let command = account_command(&case.args, &table).unwrap().expect("an account");
                let mut arguments = command.arguments;
                // The original took the place of the programs, which it had renamed.
                arguments[0].push_str(".real");
                assert_eq!(serde_json::json!(arguments), case.result, "{}", case.test);
            }
            other => panic!("no such function: {other}"),
        }
    }
}

#[test]
fn every_table_of_the_original_is_read() {
    let folder = repository().join("scripts/roles/ids");
    let mut tables = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let table = Table::parse(&path.display().to_string(), &text)
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(table.users["root"], Numbers { id: 0, group: Some(0) }, "{}", path.display());
        tables += 1;
    }
    assert!(tables >= 11, "{tables} tables");
}
