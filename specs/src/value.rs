//! One literal value as it stands in facts, CMDB entries and variables.
//!
//! Responsible for the shape, for the text form that matching compares, and for nothing else:
//! places in files belong to the literal reader, meaning belongs to whoever holds the value.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Unexpected, Visitor};

/// The variables of a match: names without `$`, in alphabetical order.
pub type Variables = BTreeMap<String, Value>;

/// A literal of either file syntax that is not a mapping.
#[derive(Debug, Clone, PartialEq, Serialize)]
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

    /// How many lists are around the innermost value.
    pub fn nesting(&self) -> usize {
        match self {
            Value::List(items) => 1 + items.iter().map(Value::nesting).max().unwrap_or(0),
            _ => 0,
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

/// By hand: derived, each variant is tried until one fits, with a written error for each that
/// does not, and records are full of values. In RON a bare word is read like `()`, as nothing;
/// what this project writes has none.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, a truth value, nothing, or a list of these")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::None)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::None)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    /// A whole number that is too large for an `i64` is read as a float.
    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    /// RON has characters, and no value is one.
    fn visit_char<E: Error>(self, value: char) -> Result<Value, E> {
        Err(E::invalid_type(Unexpected::Char(value), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a record stores them in RON, the journal in JSON.
    #[test]
    fn values_are_read_as_they_were_written() {
        let large = 10_000_000_000_000_000_000.0;
        for (json, expected) in [
            ("null", Value::None),
            ("true", Value::Bool(true)),
            ("-9223372036854775808", Value::Integer(i64::MIN)),
            ("9223372036854775807", Value::Integer(i64::MAX)),
            ("10000000000000000000", Value::Float(large)),
            ("0.1", Value::Float(0.1)),
            ("2.0", Value::Float(2.0)),
            ("\"a\\nb\"", Value::from("a\nb")),
            (
                "[1,[\"b\",null]]",
                Value::List(vec![1.into(), Value::List(vec!["b".into(), Value::None])]),
            ),
        ] {
            assert_eq!(serde_json::from_str::<Value>(json).unwrap(), expected, "{json}");
            let ron = crate::wire::to_ron(&expected).unwrap();
            assert_eq!(
                crate::wire::ron_options().from_str::<Value>(&ron).unwrap(),
                expected,
                "{ron}"
            );
        }
        let error = serde_json::from_str::<Value>("[1,{}]").unwrap_err().to_string();
        assert!(error.contains("invalid type: map, expected text, a number"), "{error}");
    }

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
