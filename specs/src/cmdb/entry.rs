//! One entry of a CMDB: keys and values, which of them are secret, and how it is written.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::literal::{Kind, Literal, Node, Style};
use crate::value::{Value, Variables};

/// The mark of an entry that was handed out.
pub const USED: &str = "used";

/// Entries that are longer than this are written with one key a line, as the original did.
const COLUMNS: usize = 80;

/// One entry: its fields in the order of the file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Entry {
    /// Its fields; no key stands twice.
    pub fields: Vec<Field>,
}

/// One key of an entry, with its value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Value,
    /// Whether the value was written `secret("…")`, and will be again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
}

impl Field {
    /// A field that is no secret.
    pub fn new(key: impl Into<String>, value: impl Into<Value>) -> Field {
        Field { key: key.into(), value: value.into(), secret: false }
    }

    /// Reads a value of a mapping; `None` when no field can hold it (a nested mapping).
    pub(crate) fn read(key: &str, node: &Node) -> Option<Field> {
        let secret = matches!(node.kind, Kind::Secret(_));
        Some(Field { key: key.to_owned(), value: node.value()?, secret })
    }

    fn literal(&self) -> Literal {
        match &self.value {
            Value::Text(text) if self.secret => Literal::Secret(text.clone()),
            value => Literal::Value(value.clone()),
        }
    }
}

impl Entry {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.fields.iter().find(|field| field.key == key).map(|field| &field.value)
    }

    /// Whether it carries the mark `used`, whatever its value: as in the original, `used: 0`
    /// counts as used.
    pub fn is_used(&self) -> bool {
        self.get(USED).is_some()
    }

    /// Whether every one of these variables is a key of the entry with the same value.
    pub fn agrees(&self, variables: &Variables) -> bool {
        variables
            .iter()
            .all(|(name, wanted)| self.get(name).is_some_and(|value| value.same_as(wanted)))
    }

    /// The entry as it is stored for a machine with these variables, which win over its own
    /// values: marked used, in alphabetical order as the original writes it.
    #[must_use]
    pub fn bound_to(&self, variables: &Variables) -> Entry {
        let mut fields: Vec<Field> = self
            .fields
            .iter()
            .filter(|field| field.key != USED && !variables.contains_key(&field.key))
            .cloned()
            .collect();
        for (name, value) in variables {
            let secret = self.fields.iter().any(|field| field.key == *name && field.secret);
            fields.push(Field { key: name.clone(), value: value.clone(), secret });
        }
        fields.retain(|field| field.key != USED);
        fields.push(Field::new(USED, Value::Integer(1)));
        fields.sort_by(|a, b| a.key.cmp(&b.key));
        Entry { fields }
    }

    /// The entry with the values of these keys marked as secrets, to be written `secret("…")`.
    #[must_use]
    pub fn with_secrets(mut self, keys: &BTreeSet<String>) -> Entry {
        for field in self.fields.iter_mut().filter(|field| keys.contains(&field.key)) {
            field.secret = true;
            // Only a text can be written so; it compares as the number does.
            field.value = Value::Text(field.value.as_text());
        }
        self
    }

    /// Its keys and values as variables.
    pub fn variables(&self) -> Variables {
        self.fields.iter().map(|field| (field.key.clone(), field.value.clone())).collect()
    }

    /// Reads a mapping; `None` when it is no mapping or holds one.
    pub(crate) fn read(node: &Node) -> Option<Entry> {
        let fields = node.entries()?.iter().map(|entry| Field::read(&entry.key, &entry.value));
        Some(Entry { fields: fields.collect::<Option<_>>()? })
    }

    /// The entry as text whose `{` stands in column `indent`, from 0: on one line when that is
    /// short enough, else with one key a line.
    pub fn to_text(&self, style: Style, indent: usize) -> String {
        let fields: Vec<String> = self
            .fields
            .iter()
            .map(|field| {
                let key = Literal::from(field.key.as_str()).to_text(style);
                format!("{key}: {}", field.literal().to_text(style))
            })
            .collect();
        let one_line = format!("{{{}}}", fields.join(", "));
        if indent + one_line.chars().count() < COLUMNS {
            return one_line;
        }
        let separator = format!(",\n{}", " ".repeat(indent + 1));
        format!("{{{}}}", fields.join(&separator))
    }
}
