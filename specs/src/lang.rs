//! The spec language: what hardware fits a profile.
//!
//! A [`Spec`] is a list of lines; each has four columns that one fact must satisfy together. A
//! column is a literal, a function, a variable (`$disk`, or `$$tag` for a CMDB key) or a variable
//! with a condition (`$size=gt(20)`). This module turns texts into that tree, once, with every
//! error at its place, and knows what a function says of one value. How lines find their facts
//! together is `matching`; how a miss is told is `explain`. The reference for people is
//! `specs/README.md`.

mod function;
mod parser;
mod quantity;

pub use function::{Comparison, Function, Truth};
pub use quantity::{Quantity, Unit};

use crate::diagnostic::{Code, Diagnostic, Span};
use crate::literal::{Document, Kind};
use crate::value::Value;

/// The most lines one spec may have. The longest of the original has 51.
pub const MAX_LINES: usize = 1_000;

/// The lines that a machine must satisfy, each with a fact of its own.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The file, for messages.
    pub file: String,
    /// The lines, in the order of the file. None at all fits every machine.
    pub lines: Vec<Line>,
    /// What can be read but is probably not meant.
    pub warnings: Vec<Diagnostic>,
}

/// One line: class, name, key and value of a fact.
#[derive(Debug, Clone)]
pub struct Line {
    /// The four columns.
    pub columns: [Column; 4],
    /// Number of the text line it begins on, from 1.
    pub number: usize,
}

/// One column of a line.
#[derive(Debug, Clone)]
pub struct Column {
    /// As it is written, decoded.
    pub source: Value,
    /// Where it stands.
    pub span: Span,
    /// What the fact's column is bound to, or compared with when it is bound.
    pub variable: Option<Variable>,
    /// What the fact's column must satisfy.
    pub test: Option<Test>,
}

/// `$name` or `$$name`. The same name is the same variable in both forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Without its `$`.
    pub name: String,
    /// Written `$$`: the value chooses the CMDB entry.
    pub cmdb: bool,
}

/// A condition on one value.
#[derive(Debug, Clone)]
pub enum Test {
    /// The same text.
    Literal(Value),
    /// A function.
    Function(Function),
}

impl Spec {
    /// Reads a spec list in either syntax.
    pub fn parse(file: &str, text: &str) -> Result<Spec, Diagnostic> {
        Spec::from_document(&Document::parse(file, text)?)
    }

    /// Reads a spec list that is already a document.
    pub fn from_document(document: &Document) -> Result<Spec, Diagnostic> {
        let error = |span, message: String| {
            document
                .error(Code::SpecShape, span, message)
                .with_help("a line is written `(\"disk\", \"$disk\", \"size\", \"gt(4)\")`")
        };
        let root = document.root();
        let Kind::List(items) = &root.kind else {
            let message = format!("a spec is a list of lines, not {}", root.describe());
            return Err(error(root.span, message));
        };
        if items.len() > MAX_LINES {
            let message = format!("{} lines are more than the {MAX_LINES} of a spec", items.len());
            return Err(error(root.span, message));
        }
        let mut warnings = Vec::new();
        let mut lines = Vec::with_capacity(items.len());
        // Lines are counted along the way: counting from the start for each would be quadratic.
        let (mut number, mut counted) = (1, 0);
        for item in items {
            number += document.text()[counted..item.span.start].matches('\n').count();
            counted = item.span.start;
            let columns = item.items().ok_or_else(|| {
                let message =
                    format!("a line has four columns in parentheses, not {}", item.describe());
                error(item.span, message)
            })?;
            let columns: &[_; 4] = columns.try_into().map_err(|_| {
                let message = format!(
                    "a line has four columns (class, name, key, value); this one has {}",
                    columns.len(),
                );
                error(item.span, message)
            })?;
            let mut parsed = Vec::with_capacity(4);
            for column in columns {
                parsed.push(parser::column(document, column, &mut warnings)?);
            }
            if let Ok(columns) = <[Column; 4]>::try_from(parsed) {
                lines.push(Line { columns, number });
            }
        }
        Ok(Spec { file: document.file().to_owned(), lines, warnings })
    }

    /// The names of the variables, each once, in order of appearance, with `true` for those that
    /// are CMDB keys anywhere.
    pub fn variables(&self) -> Vec<(&str, bool)> {
        let mut names: Vec<(&str, bool)> = Vec::new();
        for column in self.lines.iter().flat_map(|line| &line.columns) {
            let Some(variable) = &column.variable else { continue };
            match names.iter_mut().find(|(name, _)| *name == variable.name) {
                Some((_, cmdb)) => *cmdb |= variable.cmdb,
                None => names.push((&variable.name, variable.cmdb)),
            }
        }
        names
    }
}

impl Line {
    /// The line as a person would write it: `("disk", "$disk", "size", "gt(4)")`.
    pub fn to_text(&self) -> String {
        let columns = self.columns.clone().map(|column| column.source);
        tuple_text(columns)
    }
}

/// A tuple in RON, as lines and facts are shown in messages.
pub(crate) fn tuple_text(columns: [Value; 4]) -> String {
    use crate::literal::{Literal, Style};
    Literal::Tuple(columns.into_iter().map(Literal::Value).collect()).to_text(Style::RON)
}

impl Column {
    /// The column text that stands for exactly this value, whatever it looks like: `None` for a
    /// text that looks like a function or variable and holds both kinds of quotes.
    pub fn literally(value: &Value) -> Option<Value> {
        let text = value.as_text();
        if parser::is_plain(&text) {
            return Some(value.clone());
        }
        let quote = ['"', '\''].into_iter().find(|quote| !text.contains(*quote))?;
        Some(Value::Text(format!("in({quote}{text}{quote})")))
    }
}

#[cfg(test)]
mod tests;
