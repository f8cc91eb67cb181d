//! One lossless reader for the literal files: specs, CMDB, state and facts, in both syntaxes.
//!
//! Admins edit these files by hand and the server rewrites some of them, so a [`Document`] keeps
//! the text it was read from: every [`Node`] knows its place, comments are kept, and
//! [`Document::replaced`] changes values while every other byte stays as it was. RON is the
//! native syntax; the Python literals of the original (`'…'`, `#`, `True`, implicit
//! concatenation) are read as Python reads them. Nothing is ever evaluated: whatever is not a
//! literal, or one of the calls `generate({…})` and `secret("…")`, is refused with its place.
//!
//! What the literals mean belongs to their readers: `lang` (specs), `cmdb`, `state`, `facts`.
//! Typed RON files (configure, plans, records) are read by the `ron` crate instead.

mod convert;
mod edit;
mod escape;
mod lexer;
mod parser;
mod print;

pub(crate) use escape::encode;
pub use print::{Literal, Style};

use crate::diagnostic::{Code, Diagnostic, Span};
use crate::value::Value;

/// How deeply literals may be nested: far more than any file needs. Records and the journal nest
/// values of facts and CMDBs further, and JSON and RON are read to a depth of 128 only: what is
/// stored must be readable again.
pub const MAX_DEPTH: usize = 32;

/// The largest text that is read, in bytes: ten times a CMDB of 100,000 entries.
pub const MAX_BYTES: usize = 256 << 20;

/// The syntax a file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// The native one: `"…"`, `//` and `/* */` comments, `true`.
    Ron,
    /// The original's: also `'…'` and `"""…"""`, `#` comments, `True`.
    Python,
}

/// One literal and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Where it stands.
    pub span: Span,
    /// The same with the redundant parentheses around it, if there are any.
    outer: Span,
}

/// The kinds of literals.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `None`, a truth value, a number or a text; never a list.
    Scalar(Value),
    /// `[…]`
    List(Vec<Node>),
    /// `(…)`
    Tuple(Vec<Node>),
    /// `{…}`, in the order of the file.
    Dict(Vec<Entry>),
    /// `generate({…})`
    Generate(Box<Node>),
    /// `secret("…")`: text that no log, page or stored fact may show.
    Secret(String),
}

/// One `key: value` of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key: always a text, and unique within its mapping.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

/// A file as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    file: String,
    text: String,
    syntax: Syntax,
    root: Node,
    comments: Vec<Span>,
    style: Style,
}

impl Document {
    /// Reads the text of `file`, which is only a name for messages.
    pub fn parse(file: &str, text: &str) -> Result<Document, Diagnostic> {
        parser::parse(file, text)
    }

    /// As [`Document::parse`], for bytes that should be UTF-8.
    pub fn parse_bytes(file: &str, bytes: &[u8]) -> Result<Document, Diagnostic> {
        Document::parse(file, text_of(file, bytes)?)
    }

    /// The name the file was read under.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The whole text, as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The syntax the text is written in.
    pub fn syntax(&self) -> Syntax {
        self.syntax
    }

    /// The one literal that the file holds.
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// Where the comments stand, in order.
    pub fn comments(&self) -> &[Span] {
        &self.comments
    }

    /// The quotes new entries are written with.
    pub fn style(&self) -> Style {
        self.style
    }

    /// An error about a place of this document.
    pub fn error(&self, code: Code, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, &self.file, &self.text, span, message)
    }

    /// A warning about a place of this document.
    pub fn warning(&self, code: Code, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::warning(code, &self.file, &self.text, span, message)
    }
}

/// Reads a list item by item, none of which is kept, so that a CMDB of 100,000 entries never
/// stands in memory as a tree. Hands each out and returns the style of its texts; `None`, and
/// nothing handed out, when the text is no list.
pub(crate) fn each_item(
    file: &str,
    text: &str,
    each: &mut dyn FnMut(Node),
) -> Result<Option<Style>, Diagnostic> {
    parser::each_item(file, text, each)
}

/// The text of these bytes, or where they stop being UTF-8.
pub(crate) fn text_of<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, Diagnostic> {
    std::str::from_utf8(bytes).map_err(|error| {
        let good = error.valid_up_to();
        let text = String::from_utf8_lossy(bytes);
        let span = Span { start: good, end: good + 1 };
        Diagnostic::error(Code::FileEncoding, file, &text, span, "this byte is not UTF-8")
            .with_help("convert the file, for example with `iconv -f latin1 -t utf-8`")
    })
}

impl Node {
    /// The items of a list or tuple.
    pub fn items(&self) -> Option<&[Node]> {
        match &self.kind {
            Kind::List(items) | Kind::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// The entries of a mapping.
    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.kind {
            Kind::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value of this key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries()?.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The text, when it is one.
    pub fn as_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The value: lists and tuples become lists, a secret its text. `None` for what no value
    /// can hold: a mapping or a call of `generate`.
    pub fn value(&self) -> Option<Value> {
        match &self.kind {
            Kind::Scalar(value) => Some(value.clone()),
            Kind::Secret(text) => Some(Value::Text(text.clone())),
            Kind::List(items) | Kind::Tuple(items) => {
                items.iter().map(Node::value).collect::<Option<Vec<Value>>>().map(Value::List)
            }
            Kind::Dict(_) | Kind::Generate(_) => None,
        }
    }

    /// Whether [`Node::value`] has an answer.
    pub(crate) fn is_value(&self) -> bool {
        match &self.kind {
            Kind::Scalar(_) | Kind::Secret(_) => true,
            Kind::List(items) | Kind::Tuple(items) => items.iter().all(Node::is_value),
            Kind::Dict(_) | Kind::Generate(_) => false,
        }
    }

    /// What it is, with its article, for messages.
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar(Value::None) => "None",
            Kind::Scalar(Value::Bool(_)) => "a truth value",
            Kind::Scalar(Value::Integer(_) | Value::Float(_)) => "a number",
            Kind::Scalar(Value::Text(_)) => "a text",
            Kind::Scalar(Value::List(_)) | Kind::List(_) => "a list",
            Kind::Tuple(_) => "a tuple",
            Kind::Dict(_) => "a mapping",
            Kind::Generate(_) => "a call of `generate`",
            Kind::Secret(_) => "a secret",
        }
    }

    /// The node without its place, to be written elsewhere.
    pub fn literal(&self) -> Literal {
        let all = |items: &[Node]| items.iter().map(Node::literal).collect();
        match &self.kind {
            Kind::Scalar(value) => Literal::Value(value.clone()),
            Kind::List(items) => Literal::List(all(items)),
            Kind::Tuple(items) => Literal::Tuple(all(items)),
            Kind::Dict(entries) => Literal::Dict(
                entries.iter().map(|entry| (entry.key.clone(), entry.value.literal())).collect(),
            ),
            Kind::Generate(argument) => Literal::Generate(Box::new(argument.literal())),
            Kind::Secret(text) => Literal::Secret(text.clone()),
        }
    }
}

#[cfg(test)]
mod tests;
