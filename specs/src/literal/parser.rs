//! Tokens into nodes.

use std::collections::BTreeSet;

use super::lexer::{Lexer, Quoted, Token, detect};
use super::{Document, Entry, Kind, MAX_BYTES, MAX_DEPTH, Node, Style, Syntax, escape};
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::value::Value;

/// Reads the one literal of a text.
pub(super) fn parse(file: &str, text: &str) -> Result<Document, Diagnostic> {
    if text.len() > MAX_BYTES {
        let message = format!("the file is larger than {} MiB", MAX_BYTES >> 20);
        let nowhere = Span::default();
        return Err(Diagnostic::error(Code::LiteralTooLarge, file, "", nowhere, message)
            .with_help("split it into the files of several profiles"));
    }
    let mut parser = Parser::new(file, text)?;
    let root = parser.node(0)?;
    let style = parser.finish()?;
    let (syntax, comments) = (parser.syntax, parser.lexer.comments);
    Ok(Document { file: file.to_owned(), text: text.to_owned(), syntax, root, comments, style })
}

/// Reads a list and hands its items out one after the other; `None` when the text is no list.
pub(super) fn each_item(
    file: &str,
    text: &str,
    each: &mut dyn FnMut(Node),
) -> Result<Option<Style>, Diagnostic> {
    if text.len() > MAX_BYTES {
        return Ok(None);
    }
    let mut parser = Parser::new(file, text)?;
    if !parser.at(b'[') {
        return Ok(None);
    }
    parser.items(b']', 0, each)?;
    parser.finish().map(Some)
}

const LITERALS: &str = "a text in quotes, a number, a list `[…]`, a tuple `(…)` or a mapping `{…}`";
const CALLS: &str = "the only calls are `generate({…})` and `secret(\"…\")`";

/// Keys of a mapping that are told apart by comparing each with each.
const MANY: usize = 16;

struct Parser<'a> {
    file: &'a str,
    text: &'a str,
    syntax: Syntax,
    lexer: Lexer<'a>,
    /// The token that comes next.
    ahead: (Token, Span),
    /// Where the token before it ended.
    last_end: usize,
}

impl<'a> Parser<'a> {
    fn new(file: &'a str, text: &'a str) -> Result<Parser<'a>, Diagnostic> {
        let syntax = detect(text);
        let mut lexer = Lexer::new(file, text, syntax);
        let ahead = lexer.next()?;
        Ok(Parser { file, text, syntax, lexer, ahead, last_end: 0 })
    }

    /// Nothing may follow the literal; the style of its texts.
    fn finish(&self) -> Result<Style, Diagnostic> {
        if self.ahead.0 != Token::End {
            let message = "a file holds one literal, and this comes after its end";
            return Err(self
                .error(self.ahead.1, message)
                .with_help("remove it, or put everything into one list"));
        }
        Ok(Style::of(self.syntax, self.lexer.quotes))
    }

    fn error(&self, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(Code::LiteralSyntax, self.file, self.text, span, message)
    }

    fn take(&mut self) -> Result<(Token, Span), Diagnostic> {
        let next = self.lexer.next()?;
        self.last_end = self.ahead.1.end;
        Ok(std::mem::replace(&mut self.ahead, next))
    }

    fn at(&self, mark: u8) -> bool {
        self.ahead.0 == Token::Mark(mark)
    }

    fn node(&mut self, depth: usize) -> Result<Node, Diagnostic> {
        let (token, span) = self.ahead;
        if depth > MAX_DEPTH {
            let message = format!("literals are nested more than {MAX_DEPTH} deep");
            return Err(self.error(span, message).with_help("no file here needs more than four"));
        }
        match token {
            Token::Mark(b'[') => self.sequence(b']', depth),
            Token::Mark(b'(') => self.sequence(b')', depth),
            Token::Mark(b'{') => self.dict(depth),
            Token::Mark(b'+' | b'-') => self.signed(),
            Token::Number => {
                self.take()?;
                Ok(scalar(self.number(span, false)?, span))
            }
            Token::Quoted(_) => {
                let (text, span) = self.text()?;
                Ok(scalar(Value::Text(text), span))
            }
            Token::Word => self.word(depth),
            Token::Mark(_) => Err(self
                .error(span, format!("a literal should stand here, not `{}`", self.raw(span)))
                .with_help(LITERALS)),
            Token::End => Err(self
                .error(span, "the file ends where a literal should stand")
                .with_help(LITERALS)),
        }
    }

    fn raw(&self, span: Span) -> &str {
        &self.text[span.start..span.end]
    }

    /// What stands between two brackets, with these, and whether a comma stands after the last.
    fn items(
        &mut self,
        close: u8,
        depth: usize,
        each: &mut dyn FnMut(Node),
    ) -> Result<(Span, bool), Diagnostic> {
        let (_, open) = self.take()?;
        let mut first = true;
        let mut trailing_comma = false;
        while !self.at(close) {
            if !first && !trailing_comma {
                return Err(self.missing_comma(close, open));
            }
            first = false;
            each(self.node(depth + 1)?);
            trailing_comma = self.comma()?;
        }
        let (_, end) = self.take()?;
        Ok((open.to(end), trailing_comma))
    }

    /// A list, a tuple, or one literal in redundant parentheses.
    fn sequence(&mut self, close: u8, depth: usize) -> Result<Node, Diagnostic> {
        let mut items = Vec::new();
        let (span, trailing_comma) = self.items(close, depth, &mut |item| items.push(item))?;
        if close == b']' {
            return Ok(Node { kind: Kind::List(items), span, outer: span });
        }
        if self.syntax == Syntax::Python && items.len() == 1 && !trailing_comma {
            return Ok(items
                .pop()
                .map(|item| Node { outer: span, ..item })
                .unwrap_or_else(|| scalar(Value::None, span)));
        }
        Ok(Node { kind: Kind::Tuple(items), span, outer: span })
    }

    fn dict(&mut self, depth: usize) -> Result<Node, Diagnostic> {
        let (_, open) = self.take()?;
        let mut entries: Vec<Entry> = Vec::new();
        // Mappings are small: a walk over the keys costs less than a set, but not always.
        let mut keys = BTreeSet::new();
        let mut trailing_comma = false;
        while !self.at(b'}') {
            if !entries.is_empty() && !trailing_comma {
                return Err(self.missing_comma(b'}', open));
            }
            let key = self.node(depth + 1)?;
            let key_span = key.outer;
            let Kind::Scalar(Value::Text(key)) = key.kind else {
                let message = format!("a key should be a text, not {}", key.describe());
                return Err(self.error(key_span, message).with_help("put the key in quotes"));
            };
            let twice = match entries.len() {
                0..MANY => entries.iter().any(|entry| entry.key == key),
                MANY => {
                    keys.extend(entries.iter().map(|entry| entry.key.clone()));
                    !keys.insert(key.clone())
                }
                _ => !keys.insert(key.clone()),
            };
            if twice {
                return Err(self
                    .error(key_span, format!("the key `{key}` stands here for the second time"))
                    .with_help("a mapping holds each key once; remove or rename one of them"));
            }
            if !self.at(b':') {
                return Err(self
                    .error(self.ahead.1, "`:` and a value should follow the key")
                    .with_help("a mapping is written `{\"ip\": \"10.0.0.1\", \"rack\": 7}`"));
            }
            self.take()?;
            entries.push(Entry { key, key_span, value: self.node(depth + 1)? });
            trailing_comma = self.comma()?;
        }
        let (_, end) = self.take()?;
        let span = open.to(end);
        Ok(Node { kind: Kind::Dict(entries), span, outer: span })
    }

    /// Whether a comma came next, which is taken.
    fn comma(&mut self) -> Result<bool, Diagnostic> {
        let there = self.at(b',');
        if there {
            self.take()?;
        }
        Ok(there)
    }

    /// Two items without a comma between them, or the end of the file.
    fn missing_comma(&self, close: u8, open: Span) -> Diagnostic {
        let close = char::from(close);
        match self.ahead.0 {
            Token::End => {
                let opened = self.raw(open);
                self.error(open, format!("this `{opened}` is never closed"))
                    .with_help(format!("the file ends without its `{close}`"))
            }
            Token::Mark(b']' | b')' | b'}') => {
                let found = self.raw(self.ahead.1);
                self.error(self.ahead.1, format!("`{found}` stands where `{close}` should"))
                    .with_help("brackets are closed in the reverse order in which they were opened")
            }
            Token::Mark(b'[' | b'(' | b'{') | Token::Quoted(_) | Token::Number | Token::Word => {
                let span = Span { start: self.last_end, end: self.last_end };
                self.error(span, "a comma is missing here, before the next item")
                    .with_help("write `,` between two items")
            }
            Token::Mark(_) => {
                let found = self.raw(self.ahead.1);
                let message =
                    format!("`{found}` is not part of a literal: `,` or `{close}` should follow");
                self.error(self.ahead.1, message).with_help("write `,` between two items")
            }
        }
    }

    fn signed(&mut self) -> Result<Node, Diagnostic> {
        let (_, sign) = self.take()?;
        let (token, span) = self.take()?;
        let whole = sign.to(span);
        if token != Token::Number {
            return Err(self
                .error(whole, "a number should follow the sign")
                .with_help("a text stands in quotes"));
        }
        let negative = self.raw(sign) == "-";
        Ok(scalar(self.number(span, negative)?, whole))
    }

    fn word(&mut self, depth: usize) -> Result<Node, Diagnostic> {
        let (_, span) = self.take()?;
        let word = self.raw(span).to_owned();
        if self.at(b'(') {
            return self.call(&word, span, depth);
        }
        let value = match (self.syntax, word.as_str()) {
            (_, "None") => Value::None,
            (Syntax::Python, "True") | (Syntax::Ron, "true") => Value::Bool(true),
            (Syntax::Python, "False") | (Syntax::Ron, "false") => Value::Bool(false),
            _ => return Err(self.unknown_word(&word, span)),
        };
        Ok(scalar(value, span))
    }

    fn unknown_word(&self, word: &str, span: Span) -> Diagnostic {
        let error = self.error(span, format!("`{word}` is not a literal"));
        match (self.syntax, word) {
            (Syntax::Ron, "True" | "False") => error.with_help("in a RON file: `true`, `false`"),
            (Syntax::Python, "true" | "false") => error.with_help("in Python: `True`, `False`"),
            (_, "null") => error.with_help("write `None`"),
            _ => error.with_help("texts stand in quotes; names, operators and code are not read"),
        }
    }

    /// `generate({…})`, `secret("…")`, and RON's `Some(…)`.
    fn call(&mut self, name: &str, name_span: Span, depth: usize) -> Result<Node, Diagnostic> {
        if !matches!(name, "generate" | "secret" | "Some") {
            return Err(self
                .error(name_span, format!("`{name}(…)` is not a literal"))
                .with_help(CALLS));
        }
        let (_, open) = self.take()?;
        let argument = self.node(depth + 1)?;
        self.comma()?;
        if !self.at(b')') {
            let message = format!("`{name}` takes one argument and then `)`");
            let place = if self.ahead.0 == Token::End { open } else { self.ahead.1 };
            return Err(self.error(place, message).with_help(CALLS));
        }
        let (_, end) = self.take()?;
        let span = name_span.to(end);
        let kind = match (name, argument.kind) {
            ("secret", Kind::Scalar(Value::Text(text))) => Kind::Secret(text),
            ("secret", _) => {
                return Err(self.error(argument.outer, "`secret` takes one text").with_help(CALLS));
            }
            ("generate", kind @ Kind::Dict(_)) => {
                Kind::Generate(Box::new(Node { kind, ..argument }))
            }
            ("generate", _) => {
                return Err(self
                    .error(argument.outer, "`generate` takes one mapping, `{…}`")
                    .with_help(CALLS));
            }
            (_, kind) => kind,
        };
        Ok(Node { kind, span, outer: span })
    }

    /// One text; in Python, neighbours are joined.
    fn text(&mut self) -> Result<(String, Span), Diagnostic> {
        let (first, mut whole) = self.ahead;
        let mut text = match first {
            Token::Quoted(quoted) => self.unquoted(quoted, whole)?,
            _ => String::new(),
        };
        self.take()?;
        while let (Token::Quoted(quoted), span) = self.ahead {
            if self.syntax == Syntax::Ron {
                break;
            }
            text.push_str(&self.unquoted(quoted, span)?);
            whole = whole.to(span);
            self.take()?;
        }
        Ok((text, whole))
    }

    fn unquoted(&self, quoted: Quoted, span: Span) -> Result<String, Diagnostic> {
        let start = span.start + quoted.open;
        let body = self.raw(Span { start, end: span.end - quoted.close });
        if quoted.raw {
            return Ok(body.to_owned());
        }
        escape::decode(body, self.syntax).map_err(|bad| {
            let start = start + bad.at;
            self.error(Span { start, end: start + bad.length }, bad.why)
                .with_help("a backslash as such is written `\\\\`")
        })
    }

    /// A whole number beyond 64 bits becomes the text of its digits: matching compares text.
    fn number(&self, span: Span, negative: bool) -> Result<Value, Diagnostic> {
        let raw = self.raw(span);
        let wrong = |why: &str| {
            self.error(span, format!("`{raw}` is not a number: {why}"))
                .with_help("a text stands in quotes")
        };
        let underscores = raw.bytes().zip(raw.bytes().skip(1));
        if raw.ends_with('_') || underscores.into_iter().any(|pair| pair == (b'_', b'_')) {
            return Err(wrong("underscores stand between digits"));
        }
        let mut digits = raw.replace('_', "").to_ascii_lowercase();
        if self.syntax == Syntax::Python && digits.ends_with('l') && !digits.starts_with("0x") {
            digits.pop();
        }
        let radix = match digits.get(..2) {
            Some("0x") => 16,
            Some("0o") => 8,
            Some("0b") => 2,
            _ => 10,
        };
        let sign = if negative { "-" } else { "" };
        if radix != 10 {
            let signed = format!("{sign}{}", &digits[2..]);
            return i64::from_str_radix(&signed, radix)
                .map(Value::Integer)
                .map_err(|_| wrong("its digits do not fit its prefix, or it is too large"));
        }
        if digits.bytes().all(|byte| byte.is_ascii_digit()) {
            if digits.starts_with('0') && digits.bytes().any(|b| b != b'0') {
                return Err(wrong("it begins with 0").with_help("put it in quotes to keep the 0"));
            }
            let signed = format!("{sign}{digits}");
            return Ok(signed.parse().map_or(Value::Text(signed), Value::Integer));
        }
        match digits.parse::<f64>() {
            Ok(number) if number.is_finite() => {
                Ok(Value::Float(if negative { -number } else { number }))
            }
            Ok(_) => Err(wrong("it is too large")),
            Err(_) => Err(wrong("it holds something else than digits")),
        }
    }
}

fn scalar(value: Value, span: Span) -> Node {
    Node { kind: Kind::Scalar(value), span, outer: span }
}
