//! One literal value as it stands in facts, CMDB entries and variables.
//!
//! Responsible for the shape, for the text form that matching compares, and for nothing else:
//! places in files belong to the literal reader, meaning belongs to whoever holds the value.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The variables of a match: names without `$`, in alphabetical order.
pub type Variables = BTreeMap<String, Value>;

/// A literal of either file syntax. Mappings keep the order of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// `None` in Python files, `None` in RON, `null` in JSON.
    None,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction or an exponent.
    Float(f64),
    /// Text.
    Text(String),
    /// A list or a tuple.
    List(Vec<Value>),
}

impl Value {
    /// The text that comparison uses when one side is text: `8` and `"8"` are the same value.
    pub fn as_text(&self) -> String {
        self.text().into_owned()
    }

    /// The same, not copied where it is a text already.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Value::Text(text) => Cow::Borrowed(text),
            other => Cow::Owned(other.to_string()),
        }
    }

    /// The same, of a value that is needed no longer.
    pub fn into_text(self) -> String {
        match self {
            Value::Text(text) => text,
            other => other.to_string(),
        }
    }

    /// Whether two values are the same to a spec or a CMDB key (design: text wins).
    pub fn same_as(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::Text(_), _) | (_, Value::Text(_)) => self.text() == other.text(),
            _ => self == other,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::None => f.write_str("None"),
            Value::Bool(value) => f.write_str(if *value { "True" } else { "False" }),
            Value::Integer(value) => write!(f, "{value}"),
            // `{:?}` keeps the `.0` of whole floats, as Python's `str` does.
            Value::Float(value) => write!(f, "{value:?}"),
            Value::Text(value) => f.write_str(value),
            Value::List(items) => {
                f.write_str("[")?;
                for (position, item) in items.iter().enumerate() {
                    if position > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{item}")?;
                }
                f.write_str("]")
            }
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Integer(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Python's `str`: what a fact or an entry is compared with.
    #[test]
    fn values_are_shown_as_the_original_shows_them() {
        for (value, expected) in [
            (Value::None, "None"),
            (Value::Bool(true), "True"),
            (Value::Bool(false), "False"),
            (Value::Integer(-8), "-8"),
            (Value::Float(2.0), "2.0"),
            (Value::from("a b"), "a b"),
            (Value::List(vec![]), "[]"),
            (Value::List(vec![1.into(), "b".into(), Value::None]), "[1, b, None]"),
        ] {
            assert_eq!(value.to_string(), expected);
            assert_eq!(value.as_text(), expected);
        }
    }
}
