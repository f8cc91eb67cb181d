//! Where things stand in a RON file, and what `ron` lets pass although it must not.
//!
//! A scan over the text that follows RON's grammar only as far as it must: it knows structs,
//! lists, maps, strings and everything else as a word. Where the text is not RON it stops
//! without a word, because `ron` reports that better. It finds two things itself: a field given
//! twice (the last would silently win) and a number with a leading zero (`mode: 0644` would be
//! read as decimal).

use std::collections::BTreeMap;

use crate::diagnostic::Span;

/// Line and column, both from 1, the column in characters.
pub type Place = (usize, usize);

/// Deeper nesting than this is not scanned; `ron` refuses it as well.
const MAX_DEPTH: usize = 64;

/// The places of all values and strings of a file.
#[derive(Debug, Clone, Default)]
pub struct Places {
    by_path: BTreeMap<String, Place>,
    strings: Vec<(Place, String)>,
}

impl Places {
    /// The place of the value at `path` (`disks[0].partitions[1].size`), or of the nearest value
    /// around it.
    pub fn of(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            if let Some(place) = self.by_path.get(path) {
                return *place;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return self.by_path.get("").copied().unwrap_or((1, 1)),
            }
        }
    }

    /// All strings of the file that are values, in order.
    pub fn strings(&self) -> impl Iterator<Item = (Place, &str)> {
        self.strings.iter().map(|(place, text)| (*place, text.as_str()))
    }
}

/// Something that is wrong although `ron` would read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What.
    pub what: String,
    /// How to mend it.
    pub help: String,
}

/// What a scan found.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    /// Where things stand.
    pub places: Places,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// Whether a configure file is a script of the original: anything that, comments aside, does
/// not begin with `(`.
pub fn is_python(text: &str) -> bool {
    let mut scanner = Scanner::new(text);
    scanner.skip_blank();
    scanner.skip_attributes();
    scanner.peek() != Some('(')
}

/// Scans a file as far as it is RON.
pub fn scan(text: &str) -> Scan {
    let mut scanner = Scanner::new(text);
    scanner.skip_blank();
    scanner.skip_attributes();
    // `None` means that the rest is not RON, which is for `ron` to say.
    let _ = scanner.value("", 0);
    scanner.found
}

/// The bytes of the word or string that stands at `place`, or after blanks there: `ron` points
/// right behind the colon.
pub fn span(text: &str, place: Place) -> Span {
    let line = text.split_inclusive('\n').take(place.0.saturating_sub(1)).map(str::len).sum();
    let rest = &text[line..];
    let column =
        rest.char_indices().nth(place.1.saturating_sub(1)).map_or(rest.len(), |(at, _)| at);
    let token = rest[column..].trim_start_matches(' ');
    let column = rest.len() - token.len();
    let length = match token.strip_prefix('"') {
        Some(string) => string.find(['"', '\n']).map_or(token.len(), |end| end + 2),
        None => token
            .find(|c: char| !(c.is_alphanumeric() || "_+-.".contains(c)))
            .unwrap_or(token.len()),
    };
    let start = line + column;
    Span { start, end: (start + length).min(text.len()) }
}

struct Scanner<'a> {
    rest: &'a str,
    place: Place,
    found: Scan,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Scanner<'a> {
        let rest = text.strip_prefix('\u{feff}').unwrap_or(text);
        Scanner { rest, place: (1, 1), found: Scan::default() }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.rest = &self.rest[next.len_utf8()..];
        self.place = match next {
            '\n' => (self.place.0 + 1, 1),
            _ => (self.place.0, self.place.1 + 1),
        };
        Some(next)
    }

    fn eat(&mut self, expected: &str) -> bool {
        let found = self.rest.starts_with(expected);
        if found {
            for _ in expected.chars() {
                self.next();
            }
        }
        found
    }

    /// Skips white space and comments, nested ones included.
    fn skip_blank(&mut self) {
        loop {
            if self.peek().is_some_and(char::is_whitespace) {
                self.next();
            } else if self.rest.starts_with("//") {
                while self.peek().is_some_and(|next| next != '\n') {
                    self.next();
                }
            } else if self.eat("/*") {
                let mut depth = 1;
                while depth > 0 {
                    if self.eat("*/") {
                        depth -= 1;
                    } else if self.eat("/*") {
                        depth += 1;
                    } else if self.next().is_none() {
                        return;
                    }
                }
            } else {
                return;
            }
        }
    }

    /// Skips `#![enable(…)]`.
    fn skip_attributes(&mut self) {
        while self.rest.starts_with("#!") {
            while self.next().is_some_and(|next| next != ']') {}
            self.skip_blank();
        }
    }

    fn word(&mut self) -> &'a str {
        let length = self
            .rest
            .find(|c: char| !(c.is_alphanumeric() || "_+-.".contains(c)))
            .unwrap_or(self.rest.len());
        let word = &self.rest[..length];
        self.eat(word);
        word
    }

    /// One value at `path`; `None` when this is not RON.
    fn value(&mut self, path: &str, depth: usize) -> Option<()> {
        self.skip_blank();
        if depth > MAX_DEPTH {
            return None;
        }
        let place = self.place;
        self.found.places.by_path.entry(path.to_owned()).or_insert(place);
        match self.peek()? {
            '(' => self.fields(path, depth),
            '[' => self.items(path, depth),
            '{' => self.entries(path, depth),
            '\'' => self.character(),
            _ => {
                if let Some(text) = self.string()? {
                    self.found.places.strings.push((place, text));
                    return Some(());
                }
                let word = self.word();
                if word.is_empty() {
                    return None;
                }
                self.check_number(word, place);
                self.skip_blank();
                // An enum variant: its fields belong to the same path.
                if self.peek() == Some('(') { self.fields(path, depth) } else { Some(()) }
            }
        }
    }

    fn check_number(&mut self, word: &str, place: Place) {
        let digits = word.trim_start_matches(['+', '-']);
        let octal = digits.len() > 1
            && digits.starts_with('0')
            && digits.chars().all(|c| c.is_ascii_digit() || c == '_');
        if octal {
            self.found.problems.push(Problem {
                place,
                what: format!("`{word}` would be read as a decimal number"),
                help: format!("write it as text: \"{word}\""),
            });
        }
    }

    /// `(a: 1, b: 2)` or `(1, 2)`.
    fn fields(&mut self, path: &str, depth: usize) -> Option<()> {
        self.next();
        let mut seen: BTreeMap<&str, Place> = BTreeMap::new();
        for position in 0.. {
            self.skip_blank();
            if self.eat(")") {
                break;
            }
            let place = self.place;
            match self.field_name() {
                Some(name) => {
                    if let Some(first) = seen.insert(name, place) {
                        self.found.problems.push(Problem {
                            place,
                            what: format!("`{name}` is given twice"),
                            help: format!("it stands in line {} already; remove one", first.0),
                        });
                    }
                    self.value(&join(path, name), depth + 1)?;
                }
                None => self.value(&format!("{path}[{position}]"), depth + 1)?,
            }
            self.separator(')')?;
        }
        Some(())
    }

    /// A name and the colon after it; nothing is consumed when there is none.
    fn field_name(&mut self) -> Option<&'a str> {
        let (rest, place) = (self.rest, self.place);
        let name = self.word();
        self.skip_blank();
        if !name.is_empty() && self.eat(":") {
            return Some(name);
        }
        (self.rest, self.place) = (rest, place);
        None
    }

    fn items(&mut self, path: &str, depth: usize) -> Option<()> {
        self.next();
        for position in 0.. {
            self.skip_blank();
            if self.eat("]") {
                break;
            }
            self.value(&format!("{path}[{position}]"), depth + 1)?;
            self.separator(']')?;
        }
        Some(())
    }

    fn entries(&mut self, path: &str, depth: usize) -> Option<()> {
        self.next();
        for position in 0.. {
            self.skip_blank();
            if self.eat("}") {
                break;
            }
            self.value(&format!("{path}[{position}]"), depth + 1)?;
            self.skip_blank();
            self.eat(":").then_some(())?;
            self.value(&format!("{path}[{position}]"), depth + 1)?;
            self.separator('}')?;
        }
        Some(())
    }

    fn separator(&mut self, end: char) -> Option<()> {
        self.skip_blank();
        (self.eat(",") || self.peek() == Some(end)).then_some(())
    }

    fn character(&mut self) -> Option<()> {
        self.next();
        if self.next()? == '\\' {
            self.next()?;
        }
        while self.next()? != '\'' {}
        Some(())
    }

    /// A string, raw or not: its text, or `Some(None)` when something else stands here.
    fn string(&mut self) -> Option<Option<String>> {
        let hashes =
            self.rest.strip_prefix('r').map(|rest| rest.len() - rest.trim_start_matches('#').len());
        if let Some(hashes) = hashes
            && self.rest[1 + hashes..].starts_with('"')
        {
            self.eat(&format!("r{}\"", "#".repeat(hashes)));
            let end = format!("\"{}", "#".repeat(hashes));
            let mut text = String::new();
            while !self.eat(&end) {
                text.push(self.next()?);
            }
            return Some(Some(text));
        }
        if !self.eat("\"") {
            return Some(None);
        }
        let mut text = String::new();
        loop {
            match self.next()? {
                '"' => return Some(Some(text)),
                '\\' => text.push(self.escape()?),
                other => text.push(other),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        Some(match self.next()? {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            '0' => '\0',
            'x' => {
                let digits = self.rest.get(..2)?;
                self.eat(digits);
                char::from(u8::from_str_radix(digits, 16).ok()?)
            }
            'u' => {
                self.eat("{").then_some(())?;
                let digits = self.word();
                self.eat("}").then_some(())?;
                char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
            }
            other => other,
        })
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_its_place() {
        let text = "// a comment\n(\n  role: (name: \"é\", version: \"1\"),\n  \
                    disks: [(use: filesystem(type: ext4, mount: \"/\"))],\n  address: static(r#\"x\"#),\n  \
                    run: [1, { \"a\": 2, 'é': (3) }],\n)";
        let places = scan(text).places;
        for (path, expected) in [
            ("", (2, 1)),
            ("role", (3, 9)),
            ("role.version", (3, 30)),
            ("disks[0]", (4, 11)),
            ("disks[0].use.mount", (4, 47)),
            ("address", (5, 12)),
            ("address[0]", (5, 19)),
            ("run[0]", (6, 9)),
            ("run[1]", (6, 12)),
            ("run[1][0]", (6, 14)),
            ("run[1][1]", (6, 22)),
            ("disks[0].use.nothing", (4, 17)),
            ("nowhere", (2, 1)),
        ] {
            assert_eq!(places.of(path), expected, "{path}");
        }
        let strings: Vec<&str> = places.strings().map(|(_, text)| text).collect();
        assert_eq!(strings, ["é", "1", "/", "x", "a"]);
        let scanned = scan(r#"("\u{e9}\x41\n\t\r\0\\\"")"#).places;
        let strings: Vec<&str> = scanned.strings().map(|(_, text)| text).collect();
        assert_eq!(strings, ["éA\n\t\r\0\\\""]);
    }

    #[test]
    fn what_ron_lets_pass_is_found() {
        let check = |text: &str, expected: &[(Place, &str)]| {
            let found: Vec<(Place, String)> =
                scan(text).problems.into_iter().map(|p| (p.place, p.what)).collect();
            let expected: Vec<(Place, String)> =
                expected.iter().map(|(place, what)| (*place, (*what).to_owned())).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("(a: 1, b: 2)", &[]);
        check("(a: 1,\n a: 2)", &[((2, 2), "`a` is given twice")]);
        check("(a: (b: 1), c: (b: 1))", &[]);
        check("(mode: 0644)", &[((1, 8), "`0644` would be read as a decimal number")]);
        check("(mode: \"0644\", n: 0, f: 0.5, h: 0x10)", &[]);
        check("(a: \"(b: 1, b: 2\", c: 'x', d: '\\'')", &[]);
        check("(a: 1, /* a: 2, /* a */ */ b: 1)", &[]);
        // What follows is read again.
        check("(a: 1, /* /* */ a: 2 */ a: 3)", &[((1, 25), "`a` is given twice")]);
        check("(a: r#\"\"b: 1\"#, c: '\\u{27}', a: 3)", &[((1, 30), "`a` is given twice")]);
        check("(a: 'x', a: 3, b: '(')", &[((1, 10), "`a` is given twice")]);
        check("(a: {\"x\": 1, \"y\": [2]}, a: 3)", &[((1, 25), "`a` is given twice")]);
    }

    /// `ron` says so, and the scan must come to its end before.
    #[test]
    fn what_is_nested_too_deeply_is_not_scanned() {
        let deep = |open: &str, close: &str, depth| {
            let text = format!("({}{}, a: 1, a: 2)", open.repeat(depth), close.repeat(depth));
            scan(&text).problems.len()
        };
        for (open, close) in [("[", "]"), ("(", ")"), ("(b: ", ")"), ("{", ":1}"), ("{1:", "}")] {
            assert_eq!(deep(open, close, 100_000), 0, "{open}");
        }
        assert_eq!(deep("a: [", "]", 0), 0);
        let nested =
            |depth| scan(&format!("(a: {}{}, a: 2)", "[".repeat(depth), "]".repeat(depth)));
        assert_eq!(nested(MAX_DEPTH).problems.len(), 1);
        assert_eq!(nested(MAX_DEPTH + 1).problems.len(), 0);
    }

    #[test]
    fn a_script_of_the_original_is_recognised() {
        for script in ["disk = 1", "# -*- python -*-\nrun('x')", "", "'''(x)'''", "import os"] {
            assert!(is_python(script), "{script}");
        }
        for ron in ["(role: 1)", "// vm\n  /* x */ (", "#![enable(implicit_some)]\n(", "\u{feff}("]
        {
            assert!(!is_python(ron), "{ron}");
        }
    }
}
