//! Facts from what a machine sent or a `.hw` file holds: JSON, RON or Python literals.
//!
//! Clients are not trusted: sizes and counts have limits, values stay values, and an error has a
//! place.

use super::{Fact, Facts};
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::literal::{Document, MAX_DEPTH, Node, text_of};
use crate::value::Value;

/// The most facts one machine may have. The largest list of the original has about 1,500.
pub const MAX_FACTS: usize = 20_000;

/// The longest text of a fact, in bytes.
pub const MAX_TEXT: usize = 16 << 10;

/// How deeply lists may nest in the value of a fact, in JSON as in literals, where the value stands
/// in a tuple in a list.
pub const MAX_NESTING: usize = MAX_DEPTH - 2;

const SHAPE: &str = "facts are written `[[\"disk\", \"sda\", \"size\", \"10\"], …]`";

/// The largest file of facts, in bytes.
pub const MAX_BYTES: usize = 16 << 20;

impl Facts {
    /// Reads a list of `(class, name, key, value)`, as JSON lists or as tuples of either
    /// literal syntax. `file` is only a name for messages.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Facts, Diagnostic> {
        if bytes.len() > MAX_BYTES {
            let message = format!("facts larger than {} MiB are not read", MAX_BYTES >> 20);
            let nowhere = Span::default();
            return Err(Diagnostic::error(Code::FactsTooLarge, file, "", nowhere, message)
                .with_help(
                    "a machine reports some thousand facts at most: is this another file?",
                ));
        }
        let text = text_of(file, bytes)?;
        match serde_json::from_str::<serde_json::Value>(text) {
            Ok(json) => from_json(json).map_err(|message| {
                Diagnostic::error(Code::FactsShape, file, text, Span::default(), message)
                    .with_help(SHAPE)
            }),
            Err(json_error) => match Document::parse(file, text) {
                Ok(document) => from_document(&document),
                Err(literal_error) => Err(further(file, text, &json_error, literal_error)),
            },
        }
    }
}

/// Of two readers that both failed, the one that came further is the one that was meant.
fn further(file: &str, text: &str, json: &serde_json::Error, literal: Diagnostic) -> Diagnostic {
    if (json.line(), json.column()) <= (literal.line, literal.column) {
        return literal;
    }
    let line_start: usize =
        text.split_inclusive('\n').take(json.line().saturating_sub(1)).map(str::len).sum();
    let start = line_start + json.column().saturating_sub(1);
    let message = json.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    Diagnostic::error(Code::FactsJson, file, text, Span { start, end: start + 1 }, message)
        .with_help(SHAPE)
}

/// Takes what was read apart: texts are many, and none is copied.
fn from_json(json: serde_json::Value) -> Result<Facts, String> {
    let serde_json::Value::Array(list) = json else {
        return Err("facts are a list of lists of four".to_owned());
    };
    check_count(list.len())?;
    list.into_iter()
        .enumerate()
        .map(|(position, item)| {
            let columns = match item {
                serde_json::Value::Array(columns) => columns,
                _ => Vec::new(),
            };
            let values = columns.into_iter().map(json_value).collect::<Option<Vec<Value>>>();
            fact(values).map_err(|why| format!("fact {}: {why}", position + 1))
        })
        .collect::<Result<Vec<Fact>, String>>()
        .map(Facts)
}

fn json_value(json: serde_json::Value) -> Option<Value> {
    Some(match json {
        serde_json::Value::Null => Value::None,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Value::Integer(whole),
            // Beyond 64 bits with a sign: the digits, as the literal reader has it.
            (None, Some(whole)) => Value::Text(whole.to_string()),
            (None, None) => Value::Float(number.as_f64()?),
        },
        serde_json::Value::String(text) => Value::Text(text),
        serde_json::Value::Array(items) => {
            Value::List(items.into_iter().map(json_value).collect::<Option<Vec<Value>>>()?)
        }
        serde_json::Value::Object(_) => return None,
    })
}

fn from_document(document: &Document) -> Result<Facts, Diagnostic> {
    let shape = |node: &Node, why: String| {
        document.error(Code::FactsShape, node.span, why).with_help(SHAPE)
    };
    let root = document.root();
    let items =
        root.items().ok_or_else(|| shape(root, "facts are a list of tuples of four".to_owned()))?;
    check_count(items.len()).map_err(|why| shape(root, why))?;
    items
        .iter()
        .map(|item| {
            let columns = item.items().unwrap_or_default();
            let values = columns.iter().map(Node::value).collect::<Option<Vec<Value>>>();
            fact(values).map_err(|why| shape(item, why))
        })
        .collect::<Result<Vec<Fact>, Diagnostic>>()
        .map(Facts)
}

fn check_count(count: usize) -> Result<(), String> {
    if count > MAX_FACTS {
        return Err(format!("{count} facts are more than the {MAX_FACTS} one machine may have"));
    }
    Ok(())
}

/// Class, name and key are kept as text; real files hold a number there now and then.
fn fact(values: Option<Vec<Value>>) -> Result<Fact, String> {
    let values = values.ok_or("a mapping is not a value of a fact")?;
    let count = values.len();
    let Ok([class, name, key, value]) = <[Value; 4]>::try_from(values) else {
        return Err(format!("a fact has class, name, key and value; this has {count} columns"));
    };
    if [&class, &name, &key, &value].into_iter().any(|value| value.nesting() > MAX_NESTING) {
        return Err(format!("lists in a value of a fact are nested more than {MAX_NESTING} deep"));
    }
    let fact = Fact(class.into_text(), name.into_text(), key.into_text(), value);
    let longest = [fact.0.len(), fact.1.len(), fact.2.len(), fact.3.text().len()];
    if longest.into_iter().any(|length| length > MAX_TEXT) {
        return Err(format!("a text of a fact is longer than {} KiB", MAX_TEXT >> 10));
    }
    Ok(fact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str, &str, Value)]) {
        let facts = Facts::parse("x.hw", text.as_bytes()).expect("these facts are right");
        let expected = expected
            .iter()
            .map(|(class, name, key, value)| {
                Fact((*class).into(), (*name).into(), (*key).into(), value.clone())
            })
            .collect();
        assert_eq!(facts, Facts(expected));
    }

    #[test]
    fn three_notations_say_the_same() {
        let expected = [
            ("disk", "vda", "size", Value::from("10")),
            ("cpu", "logical", "number", Value::Integer(2)),
            ("cpu", "physical", "clock", Value::Float(2.5)),
            ("system", "x", "y", Value::None),
        ];
        check(
            r#"[["disk","vda","size","10"],["cpu","logical","number",2],
                ["cpu","physical","clock",2.5],["system","x","y",null]]"#,
            &expected,
        );
        check(
            "[('disk', u'vda', 'size', '10'), ('cpu', 'logical', 'number', 2L),
              ('cpu', 'physical', 'clock', 2.5), # a comment
              ('system', 'x', 'y', None)]",
            &expected,
        );
        check(
            r#"[("disk", "vda", "size", "10"), ("cpu", "logical", "number", 2), // a comment
                ("cpu", "physical", "clock", 2.5), ("system", "x", "y", None)]"#,
            &expected,
        );
    }

    #[test]
    fn values_of_json_stay_what_they_are() {
        check(
            r#"[["a","b",7,-9223372036854775808],["a","b","c",9223372036854775807],
                ["a","b","c",18446744073709551615],["a","b","c",true],["a","b","c",["x",1]],
                ["a","b","c",1e3],["a","b","c",1.8446744446744074e25]]"#,
            &[
                ("a", "b", "7", Value::Integer(i64::MIN)),
                ("a", "b", "c", Value::Integer(i64::MAX)),
                ("a", "b", "c", Value::from("18446744073709551615")),
                ("a", "b", "c", Value::Bool(true)),
                ("a", "b", "c", Value::List(vec!["x".into(), 1.into()])),
                ("a", "b", "c", Value::Float(1000.0)),
                // The nearest float, not its neighbour.
                ("a", "b", "c", Value::Float(1.8446744446744074e25)),
            ],
        );
    }

    #[track_caller]
    fn refused(text: &str, code: &str, line_and_column: (usize, usize), part: &str) {
        let error = Facts::parse("x.hw", text.as_bytes()).expect_err("these facts are wrong");
        assert_eq!((error.code.as_ref(), error.line, error.column), {
            (code, line_and_column.0, line_and_column.1)
        });
        assert!(error.message.contains(part), "{error}");
    }

    #[test]
    fn what_is_no_list_of_facts_is_refused_with_its_place() {
        refused("", "literal-syntax", (1, 1), "file ends");
        refused("{}", "facts-shape", (1, 1), "list");
        refused("[('a', 'b', 'c')]", "facts-shape", (1, 2), "this has 3 columns");
        refused("[['a', 'b', 'c', 'd', 'e']]", "facts-shape", (1, 2), "this has 5 columns");
        refused(r#"[["a", "b", "c"]]"#, "facts-shape", (1, 1), "fact 1: a fact has");
        refused("[('a', 'b', 'c', {})]", "facts-shape", (1, 2), "mapping");
        refused("[\n('a', 'b', 'c', open('/etc/shadow'))]", "literal-syntax", (2, 17), "open");
        refused("[[\"a\", \"b\",\n \"c\", tru]]", "facts-json", (2, 10), "expected");
    }

    #[test]
    fn limits_hold() {
        let many = format!("[{}]", "[\"a\",\"b\",\"c\",\"d\"],".repeat(MAX_FACTS + 1));
        refused(&many, "facts-shape", (1, 1), "are more than");
        let long = format!("[[\"a\",\"b\",\"c\",\"{}\"]]", "x".repeat(MAX_TEXT + 1));
        refused(&long, "facts-shape", (1, 1), "longer than");
        // One less is read.
        let fact = format!("[\"a\",\"b\",\"c\",\"{}\"]", "x".repeat(MAX_TEXT));
        assert!(Facts::parse("x", format!("[{fact}]").as_bytes()).is_ok());
        let one = "[\"a\",\"b\",\"c\",1]";
        let most = format!("[{one}{}]", format!(",{one}").repeat(MAX_FACTS - 1));
        assert_eq!(Facts::parse("x", most.as_bytes()).map(|facts| facts.0.len()), Ok(MAX_FACTS));
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        for (open, close) in [("[[\"a\",\"b\",\"c\",", "]]"), ("[('a','b','c',", ")]")] {
            let facts = format!("{open}{}{close}", nested(MAX_NESTING));
            assert!(Facts::parse("x", facts.as_bytes()).is_ok(), "{facts}");
        }
        let json = format!("[[\"a\",\"b\",\"c\",{}]]", nested(MAX_NESTING + 1));
        refused(&json, "facts-shape", (1, 1), "nested more than 30 deep");
        let tuples = format!("[('a','b','c',{})]", nested(MAX_NESTING + 1));
        refused(&tuples, "literal-syntax", (1, 46), "nested more than 32 deep");
        let deep = "[".repeat(100_000);
        let error = Facts::parse("x", deep.as_bytes()).expect_err("far too deep");
        assert!(error.message.contains("recursion limit"), "{error}");
    }
}
