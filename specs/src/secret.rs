//! Which values are secret, and how they are kept out of what is stored and shown.
//!
//! A value is secret when it is written `secret("…")` or when its key has `pass`, `secret` or
//! `token` in it. Whoever writes a log, a record for people, stored facts or a page asks here.
//! The CMDB file itself, the plan on its way to the machine and the journal hold the values:
//! they are readable by the server alone.

use crate::cmdb::Entry;
use crate::facts::{Fact, Facts};
use crate::machine::Record;
use crate::value::{Value, Variables};

/// What stands in the place of a secret.
pub const REDACTED: &str = "[secret]";

/// Values shorter than this are not looked for in running text: they would take out half of it.
const SHORTEST_IN_TEXT: usize = 4;

/// Whether a key is named like a secret.
pub fn is_secret_key(key: &str) -> bool {
    let key = key.to_lowercase();
    ["pass", "secret", "token"].iter().any(|part| key.contains(part))
}

/// The secret values among an entry's and a machine's, to be put into
/// [`crate::plan::Plan::secrets`]; each once, in alphabetical order.
pub fn values(entry: &Entry, variables: &Variables) -> Vec<String> {
    let written = entry.fields.iter().filter(|field| field.secret || is_secret_key(&field.key));
    let named = variables.iter().filter(|(key, _)| is_secret_key(key));
    let mut secrets: Vec<String> = written
        .map(|field| &field.value)
        .chain(named.map(|(_, value)| value))
        .flat_map(texts)
        .collect();
    secrets.sort();
    secrets.dedup();
    secrets
}

/// The texts within a value.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::List(items) => items.iter().flat_map(texts).collect(),
        Value::None => Vec::new(),
        other => vec![other.as_text()].into_iter().filter(|text| !text.is_empty()).collect(),
    }
}

/// The variables with secret values replaced; `entry` knows which were written as secrets.
pub fn redacted_variables(entry: Option<&Entry>, variables: &Variables) -> Variables {
    let written = |key: &str| {
        entry.is_some_and(|entry| entry.fields.iter().any(|field| field.key == key && field.secret))
    };
    variables
        .iter()
        .map(|(key, value)| {
            let secret = is_secret_key(key) || written(key);
            (key.clone(), if secret { Value::from(REDACTED) } else { value.clone() })
        })
        .collect()
}

/// The entry with secret values replaced.
#[must_use]
pub fn redacted_entry(entry: &Entry) -> Entry {
    let mut entry = entry.clone();
    for field in &mut entry.fields {
        if field.secret || is_secret_key(&field.key) {
            field.value = Value::from(REDACTED);
        }
    }
    entry
}

/// The record as it may be shown: its entry without secret values.
#[must_use]
pub fn redacted_record(record: &Record) -> Record {
    let mut record = record.clone();
    if let Some(assignment) = &mut record.assignment
        && let Some(holding) = &mut assignment.entry
    {
        holding.before = redacted_entry(&holding.before);
        holding.after = redacted_entry(&holding.after);
        holding.before_text = None;
    }
    if let Some(pin) = &mut record.pin {
        pin.variables = redacted_variables(None, &pin.variables);
    }
    record
}

/// The facts as they may be stored: values under keys named like secrets are replaced.
#[must_use]
pub fn redacted_facts(facts: &Facts) -> Facts {
    let redact = |fact: &Fact| {
        let value = if is_secret_key(&fact.2) { Value::from(REDACTED) } else { fact.3.clone() };
        Fact(fact.0.clone(), fact.1.clone(), fact.2.clone(), value)
    };
    Facts(facts.0.iter().map(redact).collect())
}

/// The text with every one of these values replaced, the longest first, so that a secret that
/// is part of another leaves nothing of it. Values of fewer than four characters are left.
#[must_use]
pub fn redacted_text(text: &str, secrets: &[String]) -> String {
    let mut secrets: Vec<&String> =
        secrets.iter().filter(|secret| secret.chars().count() >= SHORTEST_IN_TEXT).collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), REDACTED))
}
