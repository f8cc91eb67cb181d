//! Text into tokens, once the syntax is known; and which syntax a text is in.
//!
//! Tokens are kept raw: what an escape means is decided by `escape`, what a number is by
//! `parser`.

use super::Syntax;
use crate::diagnostic::{Code, Diagnostic, Span};

/// What a token is; its text is `text[span]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// One of `[ ( { ] ) } , : + -`.
    Mark(u8),
    /// A text with its quotes and prefix.
    Quoted(Quoted),
    /// Begins with a digit, or a point and a digit.
    Number,
    /// A name or keyword.
    Word,
    /// The end of the file.
    End,
}

/// How a text is quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quoted {
    /// Bytes before the text: prefix and opening quotes.
    pub(super) open: usize,
    /// Bytes after it.
    pub(super) close: usize,
    /// Whether backslashes are plain.
    pub(super) raw: bool,
}

#[derive(Debug)]
pub(super) struct Lexer<'a> {
    file: &'a str,
    text: &'a str,
    syntax: Syntax,
    at: usize,
    pub(super) comments: Vec<Span>,
    /// How many texts stood in single and in double quotes.
    pub(super) quotes: (usize, usize),
}

impl<'a> Lexer<'a> {
    pub(super) fn new(file: &'a str, text: &'a str, syntax: Syntax) -> Lexer<'a> {
        let at = if text.starts_with('\u{feff}') { 3 } else { 0 };
        Lexer { file, text, syntax, at, comments: Vec::new(), quotes: (0, 0) }
    }

    pub(super) fn error(&self, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(Code::LiteralSyntax, self.file, self.text, span, message)
    }

    /// The next token; after the last one, [`Token::End`] for ever.
    pub(super) fn next(&mut self) -> Result<(Token, Span), Diagnostic> {
        self.skip_blank_and_comments()?;
        let start = self.at;
        let rest = &self.text.as_bytes()[start..];
        let Some(&first) = rest.first() else {
            return Ok((Token::End, Span { start, end: start }));
        };
        let token = match first {
            b'[' | b'(' | b'{' | b']' | b')' | b'}' | b',' | b':' | b'+' | b'-' => {
                self.at += 1;
                Token::Mark(first)
            }
            b'"' | b'\'' => self.quoted(start, false)?,
            b'0'..=b'9' => self.number(),
            b'.' if rest.get(1).is_some_and(u8::is_ascii_digit) => self.number(),
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => self.word_or_prefixed(start)?,
            _ => return Err(self.stranger(start)),
        };
        Ok((token, Span { start, end: self.at }))
    }

    fn stranger(&self, start: usize) -> Diagnostic {
        let character = self.text[start..].chars().next().unwrap_or(' ');
        let span = Span { start, end: start + character.len_utf8() };
        let error =
            self.error(span, format!("`{}` is not part of a literal", character.escape_debug()));
        match (self.syntax, character) {
            (Syntax::Ron, '#') => error.with_help("in a RON file comments begin with `//`"),
            (Syntax::Python, '/') => error.with_help("in a Python file comments begin with `#`"),
            _ => error.with_help("texts stand in quotes"),
        }
    }

    fn skip_blank_and_comments(&mut self) -> Result<(), Diagnostic> {
        loop {
            let bytes = &self.text.as_bytes()[self.at..];
            let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'\x0c');
            self.at += bytes.iter().position(|byte| !is_blank(byte)).unwrap_or(bytes.len());
            // Almost always a token follows.
            if !matches!(self.text.as_bytes().get(self.at), Some(b'#' | b'/' | b'\\')) {
                return Ok(());
            }
            let rest = &self.text[self.at..];
            let start = self.at;
            let length = match self.syntax {
                Syntax::Python if rest.starts_with('#') => line_length(rest),
                // A backslash at the end of a line joins it with the next one.
                Syntax::Python if joined_line_length(rest.as_bytes()) > 0 => {
                    self.at += joined_line_length(rest.as_bytes());
                    continue;
                }
                Syntax::Ron if rest.starts_with("//") => line_length(rest),
                Syntax::Ron if rest.starts_with("/*") => {
                    block_comment_length(rest).ok_or_else(|| {
                        self.error(Span { start, end: start + 2 }, "this comment has no end")
                            .with_help("comments that begin with `/*` end with `*/`")
                    })?
                }
                _ => return Ok(()),
            };
            self.at += length;
            self.comments.push(Span { start, end: self.at });
        }
    }

    fn number(&mut self) -> Token {
        let bytes = self.text.as_bytes();
        let hexadecimal =
            bytes[self.at..].starts_with(b"0x") || bytes[self.at..].starts_with(b"0X");
        while let Some(&byte) = bytes.get(self.at) {
            let exponent_sign = !hexadecimal
                && matches!(byte, b'+' | b'-')
                && matches!(bytes[self.at - 1], b'e' | b'E');
            if !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.') || exponent_sign) {
                break;
            }
            self.at += 1;
        }
        Token::Number
    }

    fn word_or_prefixed(&mut self, start: usize) -> Result<Token, Diagnostic> {
        let rest = &self.text[start..];
        let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        let quote_follows = after.starts_with(['"', '\'']);
        match (self.syntax, word) {
            (Syntax::Ron, "r") if after.starts_with(['"', '#']) => self.ron_raw(start),
            (Syntax::Python, "u" | "U") if quote_follows => {
                self.at += length;
                self.quoted(start, false)
            }
            (Syntax::Python, "r" | "R" | "ur" | "uR" | "Ur" | "UR") if quote_follows => {
                self.at += length;
                self.quoted(start, true)
            }
            (_, word) if quote_follows => Err(self
                .error(
                    Span { start, end: start + length + 1 },
                    format!("texts with the prefix `{word}` are not literals here"),
                )
                .with_help("write the text without the prefix")),
            _ => {
                self.at += length;
                Ok(Token::Word)
            }
        }
    }

    /// `r"…"`, `r#"…"#`.
    fn ron_raw(&mut self, start: usize) -> Result<Token, Diagnostic> {
        let rest = &self.text[start + 1..];
        let hashes = rest.len() - rest.trim_start_matches('#').len();
        let open = 1 + hashes + 1;
        let unclosed = || {
            self.error(Span { start, end: start + open }, "this text has no end").with_help(
                format!("a text that begins with `r{}\"` ends with `\"{0}`", "#".repeat(hashes)),
            )
        };
        let body = rest[hashes..].strip_prefix('"').ok_or_else(unclosed)?;
        let end = body.find(&format!("\"{}", "#".repeat(hashes))).ok_or_else(unclosed)?;
        self.at = start + open + end + 1 + hashes;
        Ok(Token::Quoted(Quoted { open, close: 1 + hashes, raw: true }))
    }

    /// A text whose opening quote is at `self.at` and whose prefix began at `start`.
    fn quoted(&mut self, start: usize, raw: bool) -> Result<Token, Diagnostic> {
        let bytes = self.text.as_bytes();
        let quote = bytes[self.at];
        if quote == b'\'' && self.syntax == Syntax::Ron {
            let span = Span { start, end: start + 1 };
            return Err(self
                .error(span, "texts of a RON file stand in double quotes")
                .with_help("write `\"…\"`, or take the `//` comments and `true` out of the file"));
        }
        let triple =
            self.syntax == Syntax::Python && bytes[self.at..].starts_with(&[quote, quote, quote]);
        let width = if triple { 3 } else { 1 };
        let opening = Span { start, end: self.at + width };
        self.at += width;
        loop {
            match bytes.get(self.at) {
                Some(b'\\') => self.at += joined_line_length(&bytes[self.at..]).max(2),
                Some(b'\n') if self.syntax == Syntax::Python && !triple => {
                    return Err(self
                        .error(opening, "this text has no end on its line")
                        .with_help(CLOSE));
                }
                Some(&byte) if byte == quote => {
                    if !triple || bytes[self.at..].starts_with(&[quote, quote, quote]) {
                        break;
                    }
                    self.at += 1;
                }
                Some(_) => self.at += 1,
                None => return Err(self.error(opening, "this text has no end").with_help(CLOSE)),
            }
        }
        self.at += width;
        match quote {
            b'\'' => self.quotes.0 += 1,
            _ => self.quotes.1 += 1,
        }
        Ok(Token::Quoted(Quoted { open: opening.end - start, close: width, raw }))
    }
}

const CLOSE: &str = "close it with the quote it begins with";

/// How long the line is, without its end.
fn line_length(rest: &str) -> usize {
    rest.lines().next().map_or(0, str::len)
}

/// The length of a backslash and the line end behind it; 0 when `rest` does not begin with these.
fn joined_line_length(rest: &[u8]) -> usize {
    let joins = [&b"\\\n"[..], b"\\\r\n"];
    joins.into_iter().find(|join| rest.starts_with(join)).map_or(0, <[u8]>::len)
}

/// Block comments of RON nest.
fn block_comment_length(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    let mut depth = 0_usize;
    let mut at = 0;
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => {
                depth += 1;
                at += 2;
            }
            b"*/" => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => at += 1,
        }
    }
    None
}

/// The syntax of a text: RON unless it holds a token that only Python has. A text with tokens of
/// both is RON when the first of them is RON's, and its reader will name the stranger.
pub(super) fn detect(text: &str) -> Syntax {
    let bytes = text.as_bytes();
    let mut none_seen = false;
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        match bytes[at] {
            b'\'' | b'#' => return Syntax::Python,
            b'/' if rest.starts_with(b"//") || rest.starts_with(b"/*") => return Syntax::Ron,
            b'"' if rest.starts_with(b"\"\"\"") => return Syntax::Python,
            b'"' => at += double_quoted_length(rest),
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
                let length = rest
                    .iter()
                    .position(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'_'))
                    .unwrap_or(rest.len());
                let after = &rest[length..];
                at += length;
                match (&rest[..length], after.first()) {
                    (b"True" | b"False", _) => return Syntax::Python,
                    (b"true" | b"false", _) | (b"r", Some(b'#')) => return Syntax::Ron,
                    (b"u" | b"U" | b"R", Some(b'"')) => return Syntax::Python,
                    (b"r", Some(b'"')) => match ron_raw_length(after) {
                        Some(length) => at += length,
                        None => return Syntax::Python,
                    },
                    (b"None", _) => none_seen = true,
                    _ => {}
                }
            }
            _ => at += 1,
        }
    }
    if none_seen { Syntax::Python } else { Syntax::Ron }
}

fn double_quoted_length(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of the raw text whose quote `rest` begins with, its `r` before. In RON the next
/// quote ends it; `None` when that cannot be, since no literal goes on as the text then would: in
/// Python a backslash keeps a quote in the text, and three quotes begin one.
fn ron_raw_length(rest: &[u8]) -> Option<usize> {
    let Some(end) = rest[1..].iter().position(|byte| *byte == b'"') else {
        return Some(rest.len());
    };
    let (body, after) = (&rest[1..1 + end], &rest[end + 2..]);
    let follows = after.iter().find(|byte| !byte.is_ascii_whitespace());
    let may_end = follows.is_none_or(|byte| b",:])}/#".contains(byte));
    let kept_in_python = body.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1;
    let triple = body.is_empty() && after.starts_with(b"\"");
    (may_end || !(kept_in_python || triple)).then_some(end + 2)
}
