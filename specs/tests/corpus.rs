//! Recorded answers of the original on real data: the same here, or a row in `specs/README.md`.
#![expect(clippy::disallowed_methods, reason = "tests read their fixtures")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use specs::facts::Facts;
use specs::lang::Spec;
use specs::literal::{Document, Literal, Style};
use specs::matching::{self, Matcher};
use specs::value::Variables;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/corpus")
}

fn read(path: &str) -> Vec<u8> {
    std::fs::read(corpus().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn json(path: &str) -> serde_json::Value {
    serde_json::from_slice(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn variables(json: &serde_json::Value) -> Variables {
    serde_json::from_value(json.clone()).expect("a mapping of values")
}

/// A spec list or fact list of a JSON file, as a literal.
fn literal(json: &serde_json::Value) -> Literal {
    match json {
        serde_json::Value::Array(items) => Literal::List(items.iter().map(literal).collect()),
        other => Literal::Value(serde_json::from_value(other.clone()).expect("a value")),
    }
}

fn spec(json: &serde_json::Value) -> Result<Spec, String> {
    let text = literal(json).to_file(Style::PYTHON);
    Spec::parse("case.specs", &text).map_err(|error| error.message)
}

fn facts(json: &serde_json::Value) -> Result<Facts, String> {
    Facts::parse("case.hw", json.to_string().as_bytes()).map_err(|error| error.message)
}

fn spec_file(path: &str) -> Result<Spec, specs::diagnostic::Diagnostic> {
    Spec::parse(path, std::str::from_utf8(&read(path)).unwrap())
}

fn machine(path: &str) -> Facts {
    Facts::parse(path, &read(path)).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_pair_that_the_original_answered_has_the_same_answer() {
    let matrix = json("expected-matrix.json");
    let mut machines: BTreeMap<String, Facts> = BTreeMap::new();
    let (mut pairs, mut matches) = (0, 0);
    for (spec_path, by_machine) in matrix["pairs"].as_object().unwrap() {
        let spec = spec_file(spec_path);
        for (path, expected) in by_machine.as_object().unwrap() {
            if expected.get("error").is_some() {
                let error = spec.as_ref().expect_err("the original cannot load it either");
                assert_eq!((error.line, error.code.as_ref()), (20, "literal-syntax"), "{error}");
                continue;
            }
            let facts = machines.entry(path.clone()).or_insert_with(|| machine(path));
            let spec = spec.as_ref().unwrap_or_else(|error| panic!("{error}"));
            // Real data takes little work, far from the budget.
            let found = Matcher::new(facts).find_within(spec, 100_000);
            pairs += 1;
            if expected["matched"] == true {
                matches += 1;
                let found = found.unwrap_or_else(|error| panic!("{spec_path} {path}: {error}"));
                assert_eq!(found.variables, variables(&expected["vars"]), "{spec_path} {path}");
                assert_eq!(found.cmdb_variables, variables(&expected["cmdb_vars"]));
            } else {
                assert_eq!(found, Err(matching::NoMatch::Unsatisfied), "{spec_path} {path}");
            }
        }
    }
    assert_eq!((pairs, matches, machines.len()), (561, 13, 51));
}

#[test]
fn the_unit_tests_of_the_original_hold() {
    let mut count = 0;
    for case in json("unit-cases.json").as_array().unwrap() {
        let (machine, lines) = match case["function"].as_str().unwrap() {
            "matcher.match_all" => (case["args"][0].clone(), case["args"][1].clone()),
            "matcher.match_spec" => (case["args"][1].clone(), serde_json::json!([case["args"][0]])),
            _ => continue,
        };
        count += 1;
        let name = &case["test"];
        let found = Matcher::new(&facts(&machine).unwrap()).find(&spec(&lines).unwrap());
        assert_eq!(found.is_ok(), case["result"] != false, "{name}");
        if let (Ok(found), Some(after)) = (found, case["args_after"][2].as_object())
            && !after.is_empty()
        {
            assert_eq!(found.variables, variables(&case["args_after"][2]), "{name}");
        }
    }
    assert_eq!(count, 17);
}

/// What this answers to a case: the error, `no`, or all variables and the CMDB keys.
fn answer(case: &serde_json::Value) -> String {
    let parsed = spec(&case["specs"]).and_then(|spec| Ok((spec, facts(&case["lines"])?)));
    match parsed {
        Err(error) => format!("error: {error}"),
        Ok((spec, facts)) => match Matcher::new(&facts).find(&spec) {
            Ok(found) => matched(&found.variables, &found.cmdb_variables),
            Err(_) => "no".to_owned(),
        },
    }
}

fn matched(all: &Variables, keys: &Variables) -> String {
    let all = serde_json::to_string(all).unwrap();
    if keys.is_empty() {
        all
    } else {
        format!("{all}, keys {}", serde_json::to_string(keys).unwrap())
    }
}

/// The table of deviations in `specs/README.md`: the name of a case, and what this answers.
fn deviations() -> BTreeMap<String, String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).expect("the language reference is there");
    let (_, below) = readme.split_once("\n## Where this differs").expect("the table is there");
    below
        .split("\n## ")
        .next()
        .into_iter()
        .flat_map(str::lines)
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter_map(|(name, rest)| {
            let columns: Vec<&str> = rest.trim_end_matches(" |").split(" | ").collect();
            (columns.len() == 3).then(|| (name.to_owned(), columns[1].to_owned()))
        })
        .collect()
}

#[test]
fn edge_cases_have_the_same_answer_or_a_row_with_a_reason() {
    let mut deviations = deviations();
    let mut wrong = Vec::new();
    for case in json("edge-match.json").as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let mut case = case.clone();
        if name == "backtrack-51th-candidate" {
            // The list is abbreviated in the recording.
            let mut lines: Vec<_> =
                (0..60).map(|i| serde_json::json!(["d", i.to_string(), "s", "1"])).collect();
            lines.push(serde_json::json!(["d", "50", "t", "x"]));
            case["lines"] = lines.into();
        }
        let answer = answer(&case);
        let recorded = &case["result"];
        let original = if recorded.get("error").is_some() {
            "a crash".to_owned()
        } else if recorded["matched"] == true {
            matched(&variables(&recorded["vars"]), &variables(&recorded["cmdb_vars"]))
        } else {
            "no".to_owned()
        };
        if answer != original && deviations.remove(name) != Some(format!("`{answer}`")) {
            wrong.push(format!("| `{name}` | {original} | `{answer}` | |"));
        }
    }
    assert!(wrong.is_empty(), "neither the same nor explained:\n{}", wrong.join("\n"));
    assert!(deviations.is_empty(), "rows without a deviation: {deviations:?}");
}

/// Every literal file of the corpus below this folder: its name and text.
fn literal_files(folder: &Path, files: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            literal_files(&path, files);
        } else if [".specs", ".cmdb", ".hw", ".hw_"].iter().any(|end| name.ends_with(end))
            || name == "state"
        {
            files.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn every_literal_file_is_printed_and_changed_without_loss() {
    let mut files = Vec::new();
    literal_files(&corpus(), &mut files);
    assert!(files.len() > 70, "{} files", files.len());
    for (name, text) in files {
        let Ok(document) = Document::parse(&name, &text) else {
            assert!(name.starts_with("hp-mlx") && name.ends_with(".specs"), "{name}");
            continue;
        };
        assert_eq!(document.replaced([]), text);
        let literal = document.root().literal();
        for style in [Style::RON, Style::PYTHON] {
            let printed = Document::parse(&name, &literal.to_file(style)).unwrap();
            assert_eq!(
                (printed.root().literal(), printed.syntax()),
                (literal.clone(), style.syntax)
            );
        }
        // An item of the list on its own; of long lists every n-th, so that the test stays short.
        let items = document.root().items().unwrap_or_default();
        for item in items.iter().step_by(items.len() / 16 + 1) {
            let after = document.replaced([(item, Literal::from(-7))]);
            assert_eq!(after, [&text[..item.span.start], "-7", &text[item.span.end..]].concat());
            let changed = Document::parse(&name, &after).unwrap();
            assert_eq!(changed.syntax(), document.syntax());
        }
    }
}
