//! Which values are secret, and how they are kept out of what is stored and shown.
//!
//! A value is secret when it is written `secret("…")` or when its key has `pass`, `secret` or
//! `token` in it. Whoever stores facts or tells of an entry's values asks here, before they are
//! in a record, a page or an answer. The CMDB file itself, the plan on its way to the machine,
//! what a record keeps of its entry, and the journal hold the values: they are readable by the
//! server alone. Out of logs the agent keeps the values that the plan names as secrets.

use std::borrow::Cow;

use crate::cmdb::Entry;
use crate::facts::{Fact, Facts};
use crate::value::{Value, Variables};

/// What stands in the place of a secret.
pub const REDACTED: &str = "[secret]";

/// Whether a key is named like a secret.
pub fn is_secret_key(key: &str) -> bool {
    let key = match key.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) {
        true => Cow::Owned(key.to_lowercase()),
        // Every key of every machine is asked.
        false => Cow::Borrowed(key),
    };
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

/// The facts as they may be stored: values under keys named like secrets are replaced.
#[must_use]
pub fn redacted_facts(facts: &Facts) -> Facts {
    let redact = |fact: &Fact| {
        let value = if is_secret_key(&fact.2) { Value::from(REDACTED) } else { fact.3.clone() };
        Fact(fact.0.clone(), fact.1.clone(), fact.2.clone(), value)
    };
    Facts(facts.0.iter().map(redact).collect())
}
