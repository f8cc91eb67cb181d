//! One finding about one place in a file: what is wrong, where, and how to mend it.
//!
//! Every reader of the crate reports through this type, so that an error in a spec list, a CMDB
//! or a state file looks the same on a console, in a log, in `--json` and in a refusal. It is
//! not for errors without a place; those are the `Error` enums of their modules.

mod code;

use std::fmt;

use serde::Serialize;

pub use code::Code;

/// A range of bytes in the text of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// First byte after it.
    pub end: usize,
}

impl Span {
    /// From the start of `self` to the end of `other`.
    pub fn to(self, other: Span) -> Span {
        Span { start: self.start, end: other.end }
    }
}

/// Whether a finding stops the file from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used; it probably does not say what was meant.
    Warning,
}

/// A finding with its place. `Display` renders it with the source line and a caret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Diagnostic {
    /// The kind of finding.
    pub code: Code,
    /// Error or warning.
    pub severity: Severity,
    /// The file as its reader was told to call it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The place in bytes.
    pub span: Span,
    /// What is wrong: one sentence, lower case, without a full stop.
    pub message: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The source line, without its end; control characters are shown as `\u{..}`.
    pub excerpt: String,
    /// Carets under the source line, in columns of what is shown.
    #[serde(skip)]
    caret: (usize, usize),
}

/// Source lines are cut after this many characters when they are shown.
const SHOWN_COLUMNS: usize = 160;

impl Diagnostic {
    /// An error at `span` of `text`, which is the whole text of `file`.
    pub fn error(
        code: Code,
        file: &str,
        text: &str,
        span: Span,
        message: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic::new(code, Severity::Error, file, text, span, message.into())
    }

    /// A warning at `span` of `text`, which is the whole text of `file`.
    pub fn warning(
        code: Code,
        file: &str,
        text: &str,
        span: Span,
        message: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic::new(code, Severity::Warning, file, text, span, message.into())
    }

    /// The same finding with advice.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// The same finding, shown in the text that the one it was made from stands for.
    pub(crate) fn in_text(self, text: &str) -> Diagnostic {
        let shown =
            Diagnostic::new(self.code, self.severity, &self.file, text, self.span, self.message);
        Diagnostic { help: self.help, ..shown }
    }

    /// One line without the source: `vm.specs:3:7: unknown function`.
    pub fn one_line(&self) -> String {
        format!("{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }

    fn new(
        code: Code,
        severity: Severity,
        file: &str,
        text: &str,
        span: Span,
        message: String,
    ) -> Diagnostic {
        let start = floor_char_boundary(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |length| start + length);
        let end = floor_char_boundary(text, span.end).clamp(start, line_end.max(start));
        let (mut excerpt, lead) = shown(&text[line_start..start]);
        let (marked, width) = shown(&text[start..end]);
        excerpt.push_str(&marked);
        excerpt.push_str(&shown(text[end..line_end].trim_end_matches('\r')).0);
        let caret = (lead, width.max(1));
        let (excerpt, caret) = window(&excerpt, caret);
        Diagnostic {
            code,
            severity,
            file: file.to_owned(),
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            span,
            message,
            help: None,
            excerpt,
            caret,
        }
    }
}

/// The largest character boundary of `text` that is not after `offset`.
fn floor_char_boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// The text as a terminal may show it, and its width in characters.
fn shown(text: &str) -> (String, usize) {
    let mut shown = String::new();
    for character in text.chars() {
        match character {
            '\t' => shown.push(' '),
            character if character.is_control() => shown.extend(character.escape_unicode()),
            character => shown.push(character),
        }
    }
    let width = shown.chars().count();
    (shown, width)
}

/// Cuts a long source line to the part around the caret.
fn window(source: &str, (lead, width): (usize, usize)) -> (String, (usize, usize)) {
    let length = source.chars().count();
    if length <= SHOWN_COLUMNS {
        return (source.to_owned(), (lead, width));
    }
    let first = lead.saturating_sub(SHOWN_COLUMNS / 2).min(length - SHOWN_COLUMNS);
    let part = source.chars().skip(first).take(SHOWN_COLUMNS).collect();
    let lead = lead - first;
    (part, (lead, width.min((SHOWN_COLUMNS - lead).max(1))))
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let (lead, width) = self.caret;
        writeln!(f, "{severity}[{}]: {}", self.code, self.message)?;
        writeln!(f, "{margin}--> {}:{}:{}", self.file, self.line, self.column)?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{}", format!("{number} | {}", self.excerpt).trim_end())?;
        write!(f, "{margin} | {}{}", " ".repeat(lead), "^".repeat(width))?;
        if let Some(help) = &self.help {
            write!(f, "\n{margin} = help: {help}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(text: &str, marked: &str, expected: Expect) {
        let start = text.find(marked).expect("the marked text stands in the text");
        let span = Span { start, end: start + marked.len() };
        let finding = Diagnostic::error(Code::SpecShape, "vm.specs", text, span, "this is wrong")
            .with_help("write something else");
        expected.assert_eq(&format!("{finding}\n"));
    }

    #[test]
    fn the_caret_stands_under_the_place() {
        check(
            "[\n    ('a', 'b'),\n]\n",
            "'b'",
            expect![[r#"
                error[spec-shape]: this is wrong
                 --> vm.specs:2:11
                  |
                2 |     ('a', 'b'),
                  |           ^^^
                  = help: write something else
            "#]],
        );
    }

    #[test]
    fn tabs_wide_and_control_characters_do_not_shift_the_caret() {
        check(
            "\t'é\u{7}', 'b'\r\n",
            "'b'",
            expect![[r#"
                error[spec-shape]: this is wrong
                 --> vm.specs:1:8
                  |
                1 |  'é\u{7}', 'b'
                  |            ^^^
                  = help: write something else
            "#]],
        );
    }

    #[test]
    fn a_place_at_the_end_or_inside_a_character_is_shown_too() {
        let at_end = Diagnostic::error(Code::SpecShape, "f", "[1", Span { start: 2, end: 2 }, "m");
        assert_eq!((at_end.line, at_end.column), (1, 3));
        let inside = Diagnostic::error(Code::SpecShape, "f", "é", Span { start: 1, end: 9 }, "m");
        assert_eq!((inside.line, inside.column), (1, 1));
    }

    #[test]
    fn a_very_long_line_is_cut_around_the_caret() {
        let text = format!("{}!{}", "a".repeat(1000), "b".repeat(1000));
        let finding =
            Diagnostic::error(Code::SpecShape, "f", &text, Span { start: 1000, end: 1001 }, "m");
        assert_eq!(finding.column, 1001);
        assert_eq!(finding.excerpt.chars().count(), SHOWN_COLUMNS);
        assert_eq!(finding.excerpt.chars().nth(finding.caret.0), Some('!'));
        assert_eq!(finding.caret.0, SHOWN_COLUMNS / 2, "in the middle");
        // At both ends, and a place that is wider than what is shown.
        for (start, end) in [(0, 1), (10, 20), (1995, 2001), (500, 1500), (1990, 2001), (0, 2001)] {
            let span = Span { start, end };
            let finding = Diagnostic::error(Code::SpecShape, "f", &text, span, "m");
            let (lead, width) = finding.caret;
            assert_eq!(finding.excerpt.chars().count(), SHOWN_COLUMNS, "{span:?}");
            let first = text.find(&finding.excerpt).expect("a part of the line");
            assert!(text[first..].starts_with(&finding.excerpt) && lead + width <= SHOWN_COLUMNS);
            assert_eq!(width, (end - start).min(SHOWN_COLUMNS - lead), "{span:?}");
            let marked: String = finding.excerpt.chars().skip(lead).take(width).collect();
            assert!(text[start..end].starts_with(&marked), "{span:?}");
        }
    }
}
