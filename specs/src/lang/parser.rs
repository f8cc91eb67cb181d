//! The text of one column into what it means.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use regex::RegexBuilder;

use super::{Column, Comparison, Function, Quantity, Test, Variable};
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::literal::{Document, Kind, Node};
use crate::value::Value;

/// The names of the functions; everything else in front of a parenthesis is literal text.
const NAMES: [&str; 11] =
    ["in", "gt", "ge", "lt", "le", "range", "network", "regexp", "not", "and", "or"];

/// How deeply functions may be nested.
const MAX_DEPTH: usize = 32;

/// Reads a column of a spec line.
pub(super) fn column(
    document: &Document,
    node: &Node,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Column, Diagnostic> {
    let Kind::Scalar(source) = &node.kind else {
        let message = format!("a column is a text or a number, not {}", node.describe());
        return Err(document
            .error(Code::SpecShape, node.span, message)
            .with_help("put it in quotes: a column is compared as text"));
    };
    let column =
        |variable, test| Column { source: source.clone(), span: node.span, variable, test };
    let Value::Text(text) = source else {
        return Ok(column(None, Some(Test::Literal(source.clone()))));
    };
    let place = |at: usize, length: usize| place_of(document, node, text, at, length);
    let syntax_error = |fault: Fault| {
        let error = document.error(Code::SpecSyntax, place(fault.at, fault.length), fault.message);
        error.with_help(fault.help)
    };
    let (variable, test_at) = variable(text).map_err(syntax_error)?;
    if variable.is_some() && test_at == text.len() {
        return Ok(column(variable, None));
    }
    match test(text, test_at).map_err(syntax_error)? {
        (test, None) => Ok(column(variable, Some(test))),
        (test, Some(doubt)) => {
            let span = place(test_at, text.len() - test_at);
            warnings.push(document.warning(Code::SpecFunction, span, doubt).with_help(format!(
                "the functions are {}; to say that the text is meant: in(\"{}\")",
                NAMES.join(", "),
                &text[test_at..],
            )));
            Ok(column(variable, Some(test)))
        }
    }
}

/// The place of a part of a column's text; the whole column when escapes shift it.
fn place_of(document: &Document, node: &Node, text: &str, at: usize, length: usize) -> Span {
    let written = &document.text()[node.span.start..node.span.end];
    let Some(offset) = written.find(text) else { return node.span };
    let start = node.span.start + offset + at;
    Span { start, end: start + length }
}

/// Whether a text in a column would be a literal, without a doubt.
pub(super) fn is_plain(text: &str) -> bool {
    !text.starts_with('$') && matches!(test(text, 0), Ok((Test::Literal(_), None)))
}

/// What is wrong with a column: place within its text, and help.
struct Fault {
    at: usize,
    length: usize,
    message: String,
    help: String,
}

fn fault(at: usize, length: usize, message: impl Into<String>) -> Fault {
    let help = "functions are written like `gt(4)`, `in(a, b)`, `and(gt(4), not(in(6)))`";
    Fault { at, length, message: message.into(), help: help.to_owned() }
}

impl Fault {
    fn help(mut self, help: impl Into<String>) -> Fault {
        self.help = help.into();
        self
    }
}

/// The variable a column begins with, and where its condition begins (the end if it has none).
fn variable(text: &str) -> Result<(Option<Variable>, usize), Fault> {
    let Some(rest) = text.strip_prefix('$') else { return Ok((None, 0)) };
    let cmdb = rest.starts_with('$');
    let start = if cmdb { 2 } else { 1 };
    let end = text.find('=').unwrap_or(text.len());
    let name = &text[start..end];
    if name.is_empty() || name.starts_with('$') {
        let help = "variables are written `$name`, CMDB keys `$$name`";
        return Err(fault(0, end.max(1), "a variable needs a name").help(help));
    }
    if end + 1 == text.len() {
        return Err(fault(end, 1, "a condition should follow `=`")
            .help(format!("write `${name}` alone, or for example `${name}=gt(4)`")));
    }
    let variable = Variable { name: name.to_owned(), cmdb };
    Ok((Some(variable), if end < text.len() { end + 1 } else { end }))
}

/// The condition at `start`, and a doubt about it if a function may have been meant.
fn test(text: &str, start: usize) -> Result<(Test, Option<String>), Fault> {
    let literal = || Test::Literal(Value::from(&text[start..]));
    let Some((name, open)) = call_at(text, start) else {
        return Ok((literal(), doubt(&text[start..])));
    };
    let mut parser = Parser { text, at: open + 1 };
    let function = parser.function(name, start, 0)?;
    let rest = text[parser.at..].trim();
    if rest.is_empty() {
        return Ok((Test::Function(function), None));
    }
    if rest.ends_with(')') {
        let extra = rest.bytes().all(|byte| byte == b')');
        let message = if extra { "one `)` too many" } else { "nothing may follow a function" };
        return Err(fault(parser.at, text.len() - parser.at, message)
            .help("several conditions are combined with and(…), or(…)"));
    }
    Ok((literal(), Some(format!("this is read as text, because of the `{rest}` at its end"))))
}

/// The function that is called at `at`, and where its parenthesis opens.
fn call_at(text: &str, at: usize) -> Option<(&'static str, usize)> {
    let rest = &text[at..];
    let open = rest.find('(')?;
    let name = NAMES.into_iter().find(|name| *name == &rest[..open])?;
    Some((name, at + open))
}

/// Whether a literal looks as if a function was meant.
fn doubt(text: &str) -> Option<String> {
    let open = text.find('(')?;
    let name = text[..open].trim_end();
    let looks_like_a_name =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if !text.ends_with(')') || open + 2 == text.len() || !looks_like_a_name {
        return None;
    }
    if NAMES.contains(&name) {
        return Some(format!("`{name} (` is read as text: no blank belongs before `(`"));
    }
    (name.len() == open).then(|| format!("`{name}` is not a function; this is read as text"))
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

/// An argument that is not a function: where it begins, and its text without quotes.
struct Item {
    at: usize,
    text: String,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn here(&self, message: impl Into<String>) -> Fault {
        fault(self.at, self.rest().chars().next().map_or(0, char::len_utf8), message)
    }

    /// The arguments of `name`, from behind its parenthesis to behind the closing one.
    fn function(&mut self, name: &str, start: usize, depth: usize) -> Result<Function, Fault> {
        if depth > MAX_DEPTH {
            let message = format!("functions are nested more than {MAX_DEPTH} deep");
            return Err(fault(start, name.len(), message));
        }
        match name {
            "regexp" => self.regexp(),
            "not" | "and" | "or" => self.combination(name, start, depth),
            _ => {
                let items = self.items(name)?;
                let wrong_count = |wanted: &str| {
                    let count = items.len();
                    let message = format!("`{name}` takes {wanted}; this has {count}");
                    fault(start, self.at - start, message)
                };
                let number = |item: &Item| {
                    Quantity::parse(&item.text).ok_or_else(|| {
                        fault(item.at, item.text.len(), format!("`{}` is not a number", item.text))
                            .help("numbers are decimal, with or without a unit: 4, 2.5, 4GB, 1GiB, 10Gbit/s")
                    })
                };
                let comparison = match name {
                    "in" => return Ok(Function::In(items.into_iter().map(|i| i.text).collect())),
                    "network" => {
                        return items
                            .iter()
                            .map(network)
                            .collect::<Result<_, _>>()
                            .map(Function::Network);
                    }
                    "range" => {
                        let [low, high] = items.as_slice() else {
                            return Err(wrong_count("two numbers"));
                        };
                        return Ok(Function::Range(number(low)?, number(high)?));
                    }
                    "gt" => Comparison::Greater,
                    "ge" => Comparison::AtLeast,
                    "lt" => Comparison::Less,
                    _ => Comparison::AtMost,
                };
                match items.as_slice() {
                    [item] => Ok(Function::Compare(comparison, number(item)?)),
                    _ => Err(wrong_count("one number")),
                }
            }
        }
    }

    fn combination(&mut self, name: &str, start: usize, depth: usize) -> Result<Function, Fault> {
        let mut parts = Vec::new();
        loop {
            self.skip_blanks();
            let part = match call_at(self.text, self.at) {
                Some((inner, open)) => {
                    let inner_start = self.at;
                    self.at = open + 1;
                    self.function(inner, inner_start, depth + 1)?
                }
                // A text among conditions is compared: `not(yes)` is `not(in(yes))`.
                None => Function::In(vec![self.item(name)?.text]),
            };
            parts.push(part);
            if self.closes(name)? {
                break;
            }
        }
        match name {
            "and" => Ok(Function::And(parts)),
            "or" => Ok(Function::Or(parts)),
            _ => match <[Function; 1]>::try_from(parts) {
                Ok([inner]) => Ok(Function::Not(Box::new(inner))),
                Err(parts) => {
                    let count = parts.len();
                    let message = format!("`not` takes one condition; this has {count}");
                    Err(fault(start, self.at - start, message).help("write not(or(…, …))"))
                }
            },
        }
    }

    fn items(&mut self, name: &str) -> Result<Vec<Item>, Fault> {
        let mut items = Vec::new();
        loop {
            items.push(self.item(name)?);
            if self.closes(name)? {
                return Ok(items);
            }
        }
    }

    /// After an argument: a comma (`false`) or the end of the call (`true`).
    fn closes(&mut self, name: &str) -> Result<bool, Fault> {
        self.skip_blanks();
        let closes = match self.rest().chars().next() {
            Some(',') => false,
            Some(')') => true,
            Some(_) => return Err(self.here("`,` or `)` should stand here")),
            None => return Err(self.unclosed(name)),
        };
        self.at += 1;
        Ok(closes)
    }

    fn unclosed(&self, name: &str) -> Fault {
        let length = self.text.len();
        fault(length, 0, format!("the `)` of `{name}(` is missing"))
    }

    /// A quoted text, or everything up to the comma or parenthesis that ends the argument.
    fn item(&mut self, name: &str) -> Result<Item, Fault> {
        self.skip_blanks();
        let at = self.at;
        if let Some(quote @ ('"' | '\'')) = self.rest().chars().next() {
            let body = &self.rest()[1..];
            let end = body
                .find(quote)
                .ok_or_else(|| fault(at, 1, format!("the closing {quote} is missing")))?;
            let text = body[..end].to_owned();
            self.at += end + 2;
            return Ok(Item { at: at + 1, text });
        }
        let mut depth = 0_usize;
        let end = self.rest().find(|character| {
            match character {
                '(' => depth += 1,
                ')' if depth == 0 => return true,
                ')' => depth -= 1,
                ',' => return depth == 0,
                _ => {}
            }
            false
        });
        let end = end.ok_or_else(|| self.unclosed(name))?;
        let text = self.rest()[..end].trim_end().to_owned();
        if text.is_empty() {
            return Err(self
                .here(format!("an argument of `{name}` is missing"))
                .help("an empty text is written \"\""));
        }
        self.at += end;
        Ok(Item { at, text })
    }

    /// One regular expression, with or without quotes; commas belong to it.
    fn regexp(&mut self) -> Result<Function, Fault> {
        self.skip_blanks();
        let rest = self.rest();
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
        let (at, source) = match quote {
            Some(quote) => {
                // The closing quote is the one with the parenthesis behind it.
                let body = &rest[1..];
                let end = body
                    .match_indices(quote)
                    .map(|(end, _)| end)
                    .find(|end| matches!(body[end + 1..].trim_start().chars().next(), Some(')')));
                let end = end.ok_or_else(|| self.unclosed("regexp"))?;
                let source = body[..end].to_owned();
                let at = self.at + 1;
                self.at = at + end + 1;
                self.skip_blanks();
                (at, source)
            }
            None => {
                let end = regexp_length(rest).ok_or_else(|| self.unclosed("regexp"))?;
                let (at, source) = (self.at, rest[..end].to_owned());
                self.at += end;
                (at, source)
            }
        };
        self.at += 1;
        RegexBuilder::new(&source)
            .size_limit(1 << 20)
            .nest_limit(50)
            .build()
            .map(Function::Regexp)
            .map_err(|error| {
                let why = error.to_string();
                let why = why.lines().last().unwrap_or_default();
                let why = why.strip_prefix("error: ").unwrap_or(why);
                fault(at, source.len(), format!("this regular expression cannot be read: {why}"))
                    .help(
                        "all of them run in linear time: no look-around, no back-references; \
                     `(`, `)`, `{` and `\\` as such are written with `\\` before them",
                    )
            })
    }
}

/// How long an unquoted regular expression is: up to the parenthesis that nothing in it opened.
fn regexp_length(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    let (mut depth, mut class_start) = (0_usize, None);
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], class_start) {
            (b'\\', _) => at += 1,
            (b'[', None) => {
                class_start = Some(at);
                // `[]a]` and `[^]a]`: a bracket that comes first is one of the characters.
                at += usize::from(bytes.get(at + 1) == Some(&b'^'));
                at += usize::from(bytes.get(at + 1) == Some(&b']'));
            }
            (b']', Some(_)) => class_start = None,
            (b'(', None) => depth += 1,
            (b')', None) if depth == 0 => return Some(at),
            (b')', None) => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    // A class that never ends is a fault of the expression: take all up to the last parenthesis.
    class_start.and(rest.rfind(')'))
}

/// `10.0.0.0/8`, `10.0.0.5/8` (host bits are ignored), `10.0.0.0/255.0.0.0`, `10.0.0.1`, IPv6.
fn network(item: &Item) -> Result<IpNet, Fault> {
    let wrong = || {
        fault(item.at, item.text.len(), format!("`{}` is not a network", item.text))
            .help("networks are written 10.0.0.0/8, 10.0.0.0/255.0.0.0 or 2001:db8::/32")
    };
    let text = item.text.trim();
    let (address, mask) = text.split_once('/').unwrap_or((text, ""));
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let full = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match mask {
        "" if text.contains('/') => return Err(wrong()),
        "" => full,
        mask => match (mask.parse::<u8>(), mask.parse::<IpAddr>()) {
            (Ok(prefix), _) => prefix,
            (_, Ok(mask)) if mask.is_ipv4() == address.is_ipv4() => ipnet::ip_mask_to_prefix(mask)
                .or_else(|_| ipnet::ip_mask_to_prefix(inverted(mask)))
                .map_err(|_| wrong())?,
            _ => return Err(wrong()),
        },
    };
    IpNet::new(address, prefix).map(|network| network.trunc()).map_err(|_| wrong())
}

/// The original reads host masks (`0.0.0.255`) as well.
fn inverted(mask: IpAddr) -> IpAddr {
    match mask {
        IpAddr::V4(mask) => IpAddr::V4(Ipv4Addr::from_bits(!mask.to_bits())),
        IpAddr::V6(mask) => IpAddr::V6(Ipv6Addr::from_bits(!mask.to_bits())),
    }
}
