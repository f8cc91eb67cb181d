//! What stands between quotes, decoded, and encoded again.

use super::Syntax;

/// An escape that cannot be read: where it begins within the body, how long it is, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadEscape {
    pub(super) at: usize,
    pub(super) length: usize,
    pub(super) why: String,
}

/// The text that `body` (between the quotes, not raw) stands for.
pub(super) fn decode(body: &str, syntax: Syntax) -> Result<String, BadEscape> {
    let mut text = String::with_capacity(body.len());
    let mut at = 0;
    while let Some(offset) = body[at..].find('\\') {
        text.push_str(&body[at..at + offset]);
        at += offset;
        let (piece, length) = match syntax {
            Syntax::Python => python_escape(&body[at..]),
            Syntax::Ron => ron_escape(&body[at..]),
        }
        .map_err(|(length, why)| BadEscape { at, length, why })?;
        match piece {
            Piece::Character(character) => text.push(character),
            Piece::Nothing => {}
            Piece::AsItStands => text.push_str(&body[at..at + length]),
        }
        at += length;
    }
    text.push_str(&body[at..]);
    Ok(text)
}

enum Piece {
    Character(char),
    Nothing,
    /// Python keeps the backslash of an escape it does not know.
    AsItStands,
}

type Escape = Result<(Piece, usize), (usize, String)>;

/// The escape at the start of `rest`, which is `\` and at least one more character.
fn python_escape(rest: &str) -> Escape {
    let Some(kind) = rest[1..].chars().next() else { return Ok((Piece::AsItStands, 1)) };
    let simple = |character| Ok((Piece::Character(character), 2));
    match kind {
        '\n' => Ok((Piece::Nothing, 2)),
        '\r' if rest[2..].starts_with('\n') => Ok((Piece::Nothing, 3)),
        '\\' | '\'' | '"' => simple(kind),
        'a' => simple('\u{7}'),
        'b' => simple('\u{8}'),
        'f' => simple('\u{c}'),
        'n' => simple('\n'),
        'r' => simple('\r'),
        't' => simple('\t'),
        'v' => simple('\u{b}'),
        '0'..='7' => {
            let digits =
                rest[1..].bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
            code_point(&rest[1..=digits], 8, 1 + digits)
        }
        'x' => fixed(rest, 2),
        'u' => fixed(rest, 4),
        'U' => fixed(rest, 8),
        'N' => Err((2, "characters by name (`\\N{…}`) are not read".to_owned())),
        other => Ok((Piece::AsItStands, 1 + other.len_utf8())),
    }
}

fn ron_escape(rest: &str) -> Escape {
    let Some(kind) = rest[1..].chars().next() else {
        return Err((1, "a backslash escapes nothing here".to_owned()));
    };
    let simple = |character| Ok((Piece::Character(character), 2));
    match kind {
        '\\' | '\'' | '"' => simple(kind),
        'n' => simple('\n'),
        'r' => simple('\r'),
        't' => simple('\t'),
        '0' => simple('\0'),
        'x' => fixed(rest, 2),
        'u' if rest[2..].starts_with('{') => match rest.find('}') {
            Some(end) => code_point(&rest[3..end], 16, end + 1),
            None => Err((3, "`\\u{` needs its `}`".to_owned())),
        },
        'u' => fixed(rest, 4),
        other => Err((
            1 + other.len_utf8(),
            format!("`\\{}` is not an escape; a backslash is written `\\\\`", other.escape_debug()),
        )),
    }
}

/// `\x41`, `\u0041`: exactly `count` hexadecimal digits after the letter.
fn fixed(rest: &str, count: usize) -> Escape {
    let digits = rest[2..].bytes().take(count).take_while(u8::is_ascii_hexdigit).count();
    if digits < count {
        return Err((2 + digits, format!("{count} hexadecimal digits should follow")));
    }
    code_point(&rest[2..2 + count], 16, 2 + count)
}

fn code_point(digits: &str, radix: u32, length: usize) -> Escape {
    u32::from_str_radix(digits, radix)
        .ok()
        .and_then(char::from_u32)
        .map(|character| (Piece::Character(character), length))
        .ok_or_else(|| (length, "this is not a character".to_owned()))
}

/// The text in these quotes, with every escape that both syntaxes would need.
pub(crate) fn encode(text: &str, quote: char, syntax: Syntax) -> String {
    let mut encoded = String::with_capacity(text.len() + 2);
    encoded.push(quote);
    for character in text.chars() {
        match character {
            '\\' => encoded.push_str("\\\\"),
            '\n' => encoded.push_str("\\n"),
            '\r' => encoded.push_str("\\r"),
            '\t' => encoded.push_str("\\t"),
            c if c == quote => {
                encoded.push('\\');
                encoded.push(c);
            }
            c if c.is_control() => match syntax {
                Syntax::Python => encoded.push_str(&format!("\\u{:04x}", u32::from(c))),
                Syntax::Ron => encoded.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            },
            c => encoded.push(c),
        }
    }
    encoded.push(quote);
    encoded
}
