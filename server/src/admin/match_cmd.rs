//! `edeploy-server match` and `generate`: one file against another, without a CONFIGDIR.
//!
//! Both are pure: the binary reads the files, calls, and prints.

use anyhow::Context;
use serde_json::json;
use specs::cmdb::Cmdb;
use specs::diagnostic::Diagnostic;
use specs::explain;
use specs::facts::Facts;
use specs::lang::Spec;
use specs::matching::{Match, Matcher, NoMatch};
use specs::value::Variables;

/// What matching one spec against one list of facts gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Whether the spec fits.
    pub matched: bool,
    /// For people.
    pub text: String,
    /// For machines.
    pub json: serde_json::Value,
}

/// Matches a spec against facts, and says why not when it does not fit.
pub fn verdict(spec: &Spec, facts: &Facts) -> Verdict {
    let matcher = Matcher::new(facts);
    let mut verdict = match matcher.find(spec) {
        Ok(found) => matched(spec, facts, &found),
        Err(NoMatch::Unsatisfied) => unsatisfied(&matcher, spec),
        Err(undecided @ NoMatch::BudgetExhausted) => {
            Verdict { matched: false, text: undecided.to_string(), json: no_match(true) }
        }
    };
    let warnings: Vec<String> = spec.warnings.iter().map(Diagnostic::to_string).collect();
    if !warnings.is_empty() {
        verdict.text = format!("{}\n{}", warnings.join("\n"), verdict.text);
        verdict.json["warnings"] = json!(spec.warnings);
    }
    verdict
}

fn matched(spec: &Spec, facts: &Facts, found: &Match) -> Verdict {
    let mut text = String::from("matched");
    for (line, &fact) in spec.lines.iter().zip(&found.lines) {
        let fact = &facts.0[fact];
        text.push_str(&format!(
            "\n  line {}: {} takes {} {} {} = {}",
            line.number,
            line.to_text(),
            fact.0,
            fact.1,
            fact.2,
            fact.3,
        ));
    }
    text.push_str(&shown("variables", &found.variables));
    text.push_str(&shown("CMDB keys", &found.cmdb_variables));
    let lines: Vec<_> = spec
        .lines
        .iter()
        .zip(&found.lines)
        .map(|(line, &fact)| json!({"line": line.number, "index": fact, "fact": facts.0[fact]}))
        .collect();
    let json = json!({
        "matched": true,
        "vars": found.variables,
        "cmdb_vars": found.cmdb_variables,
        "lines": lines,
        "budget_exhausted": false,
    });
    Verdict { matched: true, text: escaped(&text), json }
}

fn unsatisfied(matcher: &Matcher<'_>, spec: &Spec) -> Verdict {
    let mut json = no_match(false);
    let mut text = vec!["no match".to_owned()];
    if let Ok(Some(mismatch)) = explain::explain(matcher, spec) {
        text.push(mismatch.sentence(matcher, spec));
        json["mismatch"] = json!(mismatch);
    }
    if let Ok(Some(mend)) = explain::mend(matcher, spec) {
        text.push(mend.sentence(spec));
        json["mend"] = json!(mend);
    }
    Verdict { matched: false, text: text.join("\n"), json }
}

fn no_match(budget_exhausted: bool) -> serde_json::Value {
    json!({
        "matched": false,
        "vars": {},
        "cmdb_vars": {},
        "lines": [],
        "budget_exhausted": budget_exhausted,
    })
}

fn shown(title: &str, variables: &Variables) -> String {
    if variables.is_empty() {
        return String::new();
    }
    let all: Vec<String> =
        variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("\n{title}: {}", all.join(" "))
}

/// Facts are a machine's word: its control characters do not reach the terminal.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => escaped.push('\n'),
            character if character.is_control() => escaped.extend(character.escape_default()),
            character => escaped.push(character),
        }
    }
    escaped
}

/// The entries that a CMDB expression, `generate({…})` or a list, expands to, as JSON. Messages
/// call it `name`.
pub fn entries(name: &str, expression: &str) -> anyhow::Result<Vec<serde_json::Value>> {
    let cmdb = Cmdb::parse(name, expression, &Default::default())
        .map_err(|findings| {
            let all: Vec<String> = findings.iter().map(Diagnostic::to_string).collect();
            anyhow::Error::msg(all.join("\n"))
        })
        .context("this expression cannot be expanded")?;
    Ok(cmdb
        .entries()
        .map(|entry| {
            let fields = entry.fields.iter().map(|field| (field.key.clone(), json!(field.value)));
            serde_json::Value::Object(fields.collect())
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(spec: &str, facts: &str) -> Verdict {
        let spec = Spec::parse("vm.specs", spec).unwrap();
        verdict(&spec, &Facts::parse("vm.hw", facts.as_bytes()).unwrap())
    }

    const DISK: &str = r#"[["disk", "vda", "size", "10"], ["cpu", "logical", "number", 2]]"#;

    #[test]
    fn a_match_names_the_fact_of_each_line() {
        let verdict =
            answer("[('disk', '$disk', 'size', 'gt(4)'),\n ('cpu', '$$c', 'number', '$n')]", DISK);
        assert_eq!(
            verdict.json,
            json!({
                "matched": true,
                "vars": {"c": "logical", "disk": "vda", "n": 2},
                "cmdb_vars": {"c": "logical"},
                "lines": [
                    {"line": 1, "index": 0, "fact": ["disk", "vda", "size", "10"]},
                    {"line": 2, "index": 1, "fact": ["cpu", "logical", "number", 2]},
                ],
                "budget_exhausted": false,
            })
        );
        assert!(verdict.text.contains("takes disk vda size = 10"), "{}", verdict.text);
        assert!(verdict.text.ends_with("CMDB keys: c=logical"), "{}", verdict.text);
    }

    #[test]
    fn a_mismatch_names_the_line_and_the_mend() {
        let verdict = answer("[('disk', '$disk', 'size', 'gt(40)')]", DISK);
        assert_eq!(verdict.json["matched"], false);
        assert_eq!(verdict.json["vars"], json!({}));
        assert_eq!(verdict.json["mismatch"]["line"], 0);
        assert_eq!(verdict.json["mismatch"]["nearest"][0]["fact"], 0);
        assert_eq!(verdict.json["mend"]["with"], json!(["disk", "$disk", "size", "ge(10)"]));
        assert_eq!(verdict.json["budget_exhausted"], false);
        assert!(verdict.text.starts_with("no match\nline 1, "), "{}", verdict.text);
    }

    #[test]
    fn warnings_come_along_and_control_characters_do_not() {
        let facts = r#"[["a", "b", "c", "foo(1)"], ["a", "b", "d", "\u001b[2J"]]"#;
        let verdict = answer("[('a', 'b', 'c', 'foo(1)'), ('a', 'b', 'd', '$x')]", facts);
        assert!(verdict.matched);
        assert!(verdict.text.contains("`foo` is not a function"), "{}", verdict.text);
        assert!(!verdict.text.contains('\u{1b}'), "{}", verdict.text);
        assert_eq!(verdict.json["warnings"][0]["code"], "spec-function");
    }

    #[test]
    fn an_expression_expands_to_its_entries() {
        assert_eq!(
            entries("EXPR", "generate({'ip': '10.0.0.9-10', 'n': 1})").unwrap(),
            [json!({"ip": "10.0.0.9", "n": 1}), json!({"ip": "10.0.0.10", "n": 1})]
        );
        let error = entries("EXPR", "generate({'port': 1})").unwrap_err();
        assert!(format!("{error:#}").contains("EXPR:1"), "{error:#}");
    }
}
