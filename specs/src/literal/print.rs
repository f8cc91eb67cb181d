//! Literals that the program made, as text of either syntax.

use std::fmt::Write as _;

use super::{Syntax, escape, lexer};
use crate::value::Value;

/// A literal without a place: what is written into a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// A value; its lists are written `[…]`.
    Value(Value),
    /// `[…]`
    List(Vec<Literal>),
    /// `(…)`
    Tuple(Vec<Literal>),
    /// `{…}`
    Dict(Vec<(String, Literal)>),
    /// `generate({…})`
    Generate(Box<Literal>),
    /// `secret("…")`
    Secret(String),
}

impl<T: Into<Value>> From<T> for Literal {
    fn from(value: T) -> Literal {
        Literal::Value(value.into())
    }
}

/// How new text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// The syntax.
    pub syntax: Syntax,
    /// The quotes around texts: always `"` in RON.
    pub quote: char,
}

impl Style {
    /// RON.
    pub const RON: Style = Style { syntax: Syntax::Ron, quote: '"' };
    /// Python literals with single quotes, as the original writes them.
    pub const PYTHON: Style = Style { syntax: Syntax::Python, quote: '\'' };

    /// The style of a file with so many texts in single and in double quotes.
    pub(super) fn of(syntax: Syntax, (single, double): (usize, usize)) -> Style {
        match syntax {
            Syntax::Python if double <= single => Style::PYTHON,
            syntax => Style { syntax, quote: '"' },
        }
    }
}

impl Literal {
    /// The literal on one line. Reading it back in the same syntax gives the same literal.
    pub fn to_text(&self, style: Style) -> String {
        let mut text = String::new();
        self.write(style, &mut text);
        text
    }

    /// A whole file: a list has one item a line. If nothing else in it tells the syntax, a
    /// first line does.
    pub fn to_file(&self, style: Style) -> String {
        let text = match self {
            Literal::List(items) if !items.is_empty() => {
                let mut text = "[\n".to_owned();
                for item in items {
                    text.push_str("    ");
                    item.write(style, &mut text);
                    text.push_str(",\n");
                }
                text + "]\n"
            }
            other => other.to_text(style) + "\n",
        };
        telling_syntax(text, style.syntax)
    }

    pub(super) fn write(&self, style: Style, text: &mut String) {
        match self {
            Literal::Value(value) => write_value(value, style, text),
            Literal::List(items) => {
                text.push('[');
                separated(items, text, |item, text| item.write(style, text));
                text.push(']');
            }
            Literal::Tuple(items) => {
                text.push('(');
                separated(items, text, |item, text| item.write(style, text));
                text.push_str(if items.len() == 1 { ",)" } else { ")" });
            }
            Literal::Dict(entries) => {
                text.push('{');
                separated(entries, text, |(key, value), text| {
                    text.push_str(&escape::encode(key, style.quote, style.syntax));
                    text.push_str(": ");
                    value.write(style, text);
                });
                text.push('}');
            }
            Literal::Generate(argument) => {
                text.push_str("generate(");
                argument.write(style, text);
                text.push(')');
            }
            Literal::Secret(secret) => {
                let quoted = escape::encode(secret, style.quote, style.syntax);
                let _infallible = write!(text, "secret({quoted})");
            }
        }
    }
}

/// The text with a first line that tells its syntax, if nothing else in it does.
pub(super) fn telling_syntax(mut text: String, syntax: Syntax) -> String {
    if lexer::detect(&text) != syntax {
        let line = match syntax {
            Syntax::Python => "# -*- python -*-\n",
            Syntax::Ron => "// RON\n",
        };
        // The mark of the byte order comes first or is none.
        let start = if text.starts_with('\u{feff}') { 3 } else { 0 };
        text.insert_str(start, line);
    }
    text
}

fn separated<T>(items: &[T], text: &mut String, mut write: impl FnMut(&T, &mut String)) {
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            text.push_str(", ");
        }
        write(item, text);
    }
}

fn write_value(value: &Value, style: Style, text: &mut String) {
    match value {
        Value::None => text.push_str("None"),
        Value::Bool(value) => text.push_str(match (style.syntax, value) {
            (Syntax::Python, true) => "True",
            (Syntax::Python, false) => "False",
            (Syntax::Ron, true) => "true",
            (Syntax::Ron, false) => "false",
        }),
        // What is not finite has no literal; it compares as its text anyway.
        Value::Float(number) if !number.is_finite() => {
            text.push_str(&escape::encode(&number.to_string(), style.quote, style.syntax));
        }
        Value::Integer(_) | Value::Float(_) => text.push_str(&value.as_text()),
        Value::Text(value) => text.push_str(&escape::encode(value, style.quote, style.syntax)),
        Value::List(items) => {
            text.push('[');
            separated(items, text, |item, text| write_value(item, style, text));
            text.push(']');
        }
    }
}
