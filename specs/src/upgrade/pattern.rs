//! One pattern of an `exclude` or `add_only` file, with rsync's meaning.
//!
//! `*` stops at slashes, `**` does not, `?` is one character, `[…]` a class, a backslash takes
//! the next character as it is (only where there is a wildcard). A leading slash anchors at the
//! top of the tree; a trailing one means folders only; without a slash inside, only the last
//! part of a path is looked at; a pattern that ends in `/***` also means the folder itself.

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// What to compare, without anchor and trailing slash.
    text: Vec<u8>,
    anchored: bool,
    folders_only: bool,
    /// Compared with the whole path; otherwise with the last part.
    whole: bool,
    /// Otherwise the text is compared byte by byte.
    wild: bool,
    /// Ended in `/***`.
    with_content: bool,
}

impl Pattern {
    /// Reads one pattern, without the `+ ` or `- ` before it.
    pub fn new(text: &str) -> Pattern {
        let mut rest = text.as_bytes();
        let anchored = rest.first() == Some(&b'/');
        if anchored {
            rest = &rest[1..];
        }
        let with_content = rest.ends_with(b"/***");
        if with_content {
            rest = &rest[..rest.len() - 4];
        }
        let folders_only = rest.last() == Some(&b'/');
        if folders_only {
            rest = &rest[..rest.len() - 1];
        }
        let wild = rest.iter().any(|byte| b"*?[".contains(byte));
        let double_star = rest.windows(2).any(|pair| pair == b"**");
        let whole = anchored || with_content || rest.contains(&b'/') || double_star;
        Pattern { text: rest.to_vec(), anchored, folders_only, whole, wild, with_content }
    }

    /// Whether it means this path, given without a leading slash.
    pub fn matches(&self, path: &[u8], folder: bool) -> bool {
        if self.with_content {
            // The folder itself, or anything below a folder that the pattern means.
            let below = || {
                let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
                slashes.map(|(position, _)| position).any(|end| self.compare(&path[..end]))
            };
            return (folder && self.compare(path)) || below();
        }
        (folder || !self.folders_only) && self.compare(path)
    }

    fn compare(&self, path: &[u8]) -> bool {
        if !self.whole {
            let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
            return self.compare_text(name);
        }
        if self.anchored || self.text.starts_with(b"**") {
            return self.compare_text(path);
        }
        // Unanchored with a slash: the end of the path, from any slash on.
        let starts = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        std::iter::once(0)
            .chain(starts.map(|(position, _)| position + 1))
            .any(|start| self.compare_text(&path[start..]))
    }

    fn compare_text(&self, text: &[u8]) -> bool {
        if self.wild { wildcards(&self.text, text) } else { self.text == text }
    }
}

/// Whether a pattern with wildcards means the whole text.
fn wildcards(pattern: &[u8], text: &[u8]) -> bool {
    // Where to go on when the rest does not fit: one byte more under the last star of each kind.
    // A single star must not cross a slash, so the last double star is kept beside it.
    let (mut at, mut seen) = (0, 0);
    let mut single: Option<(usize, usize)> = None;
    let mut double: Option<(usize, usize)> = None;
    loop {
        if pattern[at..].starts_with(b"**") {
            while pattern.get(at) == Some(&b'*') {
                at += 1;
            }
            (single, double) = (None, Some((at, seen)));
            continue;
        }
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            single = Some((at, seen));
            continue;
        }
        if at == pattern.len() && seen == text.len() {
            return true;
        }
        if let Some(&byte) = text.get(seen)
            && let Some(length) = one(&pattern[at..], byte)
        {
            (at, seen) = (at + length, seen + 1);
            continue;
        }
        single = single.filter(|(_, from)| text.get(*from).is_some_and(|byte| *byte != b'/'));
        let again = if single.is_some() { &mut single } else { &mut double };
        let Some((after, from)) = again else { return false };
        if *from >= text.len() {
            return false;
        }
        *from += 1;
        (at, seen) = (*after, *from);
    }
}

/// How long the first element of the pattern is, when it means this byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern.first()? {
        b'?' => (byte != b'/').then_some(1),
        // At the end it takes nothing as it is, and nothing matches.
        b'\\' => (*pattern.get(1)? == byte).then_some(2),
        b'[' => {
            let (length, means) = class(pattern, byte)?;
            (means && byte != b'/').then_some(length)
        }
        literal => (*literal == byte).then_some(1),
    }
}

/// Length of the class that the pattern begins with, and whether the byte is in it. `None` when
/// it is never closed or holds a name that there is none of, which matches nothing.
fn class(pattern: &[u8], byte: u8) -> Option<(usize, bool)> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let first = if negated { 2 } else { 1 };
    let mut at = first;
    let mut found = false;
    loop {
        match *pattern.get(at)? {
            b']' if at > first => return Some((at + 1, found != negated)),
            b'[' if pattern.get(at + 1) == Some(&b':') => {
                let rest = &pattern[at + 2..];
                let length = rest.iter().position(|byte| *byte == b']')?;
                match rest[..length].strip_suffix(b":") {
                    Some(name) => {
                        found |= named(name, byte)?;
                        at += length + 3;
                    }
                    // Without `:]` the bracket is a character like any other.
                    None => {
                        found |= byte == b'[';
                        at += 1;
                    }
                }
            }
            _ => {
                let low = character(pattern, &mut at)?;
                found |= byte == low;
                if pattern.get(at) == Some(&b'-') && pattern.get(at + 1) != Some(&b']') {
                    at += 1;
                    let high = character(pattern, &mut at)?;
                    found |= (low..=high).contains(&byte);
                }
            }
        }
    }
}

/// The character of a class that stands at `at`, as it is when a backslash is before it.
fn character(pattern: &[u8], at: &mut usize) -> Option<u8> {
    if pattern.get(*at) == Some(&b'\\') {
        *at += 1;
    }
    *at += 1;
    pattern.get(*at - 1).copied()
}

/// Whether a byte is in the class of this name, if there is one.
fn named(name: &[u8], byte: u8) -> Option<bool> {
    Some(match name {
        b"alnum" => byte.is_ascii_alphanumeric(),
        b"alpha" => byte.is_ascii_alphabetic(),
        b"blank" => matches!(byte, b' ' | b'\t'),
        b"cntrl" => byte.is_ascii_control(),
        b"digit" => byte.is_ascii_digit(),
        b"graph" => byte.is_ascii_graphic(),
        b"lower" => byte.is_ascii_lowercase(),
        b"print" => byte.is_ascii_graphic() || byte == b' ',
        b"punct" => byte.is_ascii_punctuation(),
        b"space" => byte.is_ascii_whitespace() || byte == b'\x0b',
        b"upper" => byte.is_ascii_uppercase(),
        b"xdigit" => byte.is_ascii_hexdigit(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(pattern: &str, means: &[&str], not: &[&str]) {
        let pattern = Pattern::new(pattern);
        let matches = |path: &str| {
            let name = path.trim_end_matches('/');
            pattern.matches(name.as_bytes(), path.ends_with('/'))
        };
        for path in means {
            assert!(matches(path), "{pattern:?} must mean `{path}`");
        }
        for path in not {
            assert!(!matches(path), "{pattern:?} must not mean `{path}`");
        }
    }

    /// What a pattern means, from the definition: every way in which the stars can be filled.
    fn by_definition(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', b'*', rest @ ..] => {
                let rest = &rest[rest.iter().take_while(|byte| **byte == b'*').count()..];
                (0..=text.len()).any(|end| by_definition(rest, &text[end..]))
            }
            [b'*', rest @ ..] => (0..=text.len())
                .take_while(|&end| !text[..end].contains(&b'/'))
                .any(|end| by_definition(rest, &text[end..])),
            _ => text.split_first().is_some_and(|(&byte, text)| match pattern {
                [b'?', rest @ ..] => byte != b'/' && by_definition(rest, text),
                [b'[', b'!', b'a', b'-', b'b', b']', rest @ ..] => {
                    !b"ab/".contains(&byte) && by_definition(rest, text)
                }
                [b'\\', own, rest @ ..] | [own, rest @ ..] => {
                    byte == *own && by_definition(rest, text)
                }
                [] => false,
            }),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 3_000, failure_persistence: None, ..Default::default()
        })]

        #[test]
        fn stars_are_filled_in_whatever_way_fits(
            pattern in r"(a|b|c|/|\?|\*|\*\*|\[!a-b\]|\\\*){0,6}",
            text in r"(a|b|c|/|\*){0,7}",
        ) {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(wildcards(pattern, text), by_definition(pattern, text));
        }
    }

    #[test]
    fn patterns_mean_what_they_mean_to_rsync() {
        check("lost+found", &["lost+found", "a/lost+found/"], &["lost+found/x", "xlost+found"]);
        check("/boot/grub", &["boot/grub", "boot/grub/"], &["x/boot/grub", "boot/grub/x"]);
        check("/dev/", &["dev/"], &["dev", "x/dev/", "dev/null"]);
        check("etc/fstab", &["etc/fstab", "x/etc/fstab"], &["xetc/fstab", "etc/fstab/x"]);
        check("/etc/init.d/.depend.*", &["etc/init.d/.depend.boot"], &["etc/init.d/x.depend.a"]);
        check("*", &["a", "a/b"], &[]);
        check("/*", &["a"], &["a/b"]);
        check("/var/**", &["var/a", "var/a/b"], &["var", "x/var/a"]);
        check("/var/***", &["var/", "var/a", "var/a/b/"], &["var", "vary/"]);
        check("**/cache", &["var/cache", "a/b/cache"], &["xcache/y"]);
        check("a/*/c", &["a/b/c", "x/a/b/c"], &["a/b/d/c", "a/c"]);
        check("a/**/c", &["a/b/c", "a/b/d/c"], &["a/c"]);
        check("/a*b?", &["abc", "axxbc"], &["ab", "a/bc", "ab/"]);
        check("*.py[co]", &["x.pyc", "a/x.pyo"], &["x.py", "x.pyx"]);
        check("[!a-c]x", &["dx"], &["ax", "cx"]);
        check("[]x]", &["]", "x"], &["y"]);
        check("[[:digit:]]*", &["1a"], &["a1"]);
        check("[ab", &[], &["a", "[ab"]);
        check("[[a]x", &["[x", "ax"], &["x", ":x"]);
        check(r"\*", &["*"], &["a"]);
        check(r"a*\", &[], &[r"ab\", "ab"]);
        check(r"a\*b*", &["a*bc"], &["axbc"]);
        check("a**c*e", &["abcde", "a/b/cde"], &["a/bc/de", "abcd"]);
    }

    /// As rsync 3.2.7 answered for each ASCII character but the slash and the point.
    #[test]
    fn classes_hold_what_they_hold_for_rsync() {
        let members = |pattern: &str| -> String {
            let pattern = Pattern::new(pattern);
            let bytes = (1..128).filter(|byte| !b"/.".contains(byte));
            let members = bytes.filter(|byte| pattern.matches(&[*byte], false));
            members.map(char::from).collect()
        };
        let (digits, lower) = ("0123456789", "abcdefghijklmnopqrstuvwxyz");
        let upper = lower.to_uppercase();
        let punctuation = "!\"#$%&'()*+,-:;<=>?@[\\]^_`{|}~";
        let graphic: String =
            (b'!'..=b'~').filter(|b| !b"/.".contains(b)).map(char::from).collect();
        for (pattern, expected) in [
            ("[[:alnum:]]", format!("{digits}{upper}{lower}")),
            ("[[:alpha:]]", format!("{upper}{lower}")),
            ("[[:blank:]]", "\t ".to_owned()),
            ("[[:cntrl:]]", (1..32).chain([127]).map(char::from).collect()),
            ("[[:graph:]]", graphic.clone()),
            ("[[:print:]]", format!(" {graphic}")),
            ("[[:punct:]]", punctuation.to_owned()),
            ("[[:space:]]", "\t\n\u{b}\u{c}\r ".to_owned()),
            ("[[:upper:]]", upper.clone()),
            ("[[:lower:]]", lower.to_owned()),
            ("[[:xdigit:]]", format!("{digits}ABCDEFabcdef")),
            ("[[:digit:]-z]", format!("-{digits}z")),
            ("[![:none:]]", String::new()),
            ("[[:digit:", String::new()),
            ("[[:x]", ":[x".to_owned()),
            ("[c-a]", "c".to_owned()),
            ("[a-\\]]", "a".to_owned()),
            (r"[\[-a]", "[\\]^_`a".to_owned()),
            (r"[a\-c]", "-ac".to_owned()),
            ("[a-c-e]", "-abce".to_owned()),
            ("[a-]", "-a".to_owned()),
            (r"[\\]", "\\".to_owned()),
        ] {
            assert_eq!(members(pattern), expected, "{pattern}");
        }
    }
}
