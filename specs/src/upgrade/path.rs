//! A path inside a tree: bytes without a leading slash, none of whose parts leads elsewhere.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest path that the kernel takes, without the final NUL.
const LONGEST: usize = 4095;

/// Why bytes are not a path of a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` cannot be a path of a tree: {reason}")]
pub struct PathError {
    /// The bytes, escaped.
    pub text: String,
    /// What is wrong with them.
    pub reason: &'static str,
}

/// See the module. Ordered by bytes: a folder comes before what it holds. `Display` and serde
/// use the escaped form, in which no blank, control character or stray byte is left.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TreePath(Box<[u8]>);

impl TreePath {
    /// Checks the bytes of a path.
    pub fn new(bytes: &[u8]) -> Result<TreePath, PathError> {
        let error = |reason| Err(PathError { text: escape(bytes), reason });
        if bytes.len() > LONGEST {
            return error("it is longer than 4095 bytes");
        }
        if bytes.contains(&0) {
            return error("it holds a NUL byte");
        }
        for part in bytes.split(|&byte| byte == b'/') {
            match part {
                b"" => return error("it is absolute or has an empty part"),
                b"." | b".." => return error("it has a part `.` or `..`"),
                _ if part.len() > 255 => return error("a part is longer than 255 bytes"),
                _ => {}
            }
        }
        Ok(TreePath(bytes.into()))
    }

    /// Whether it can be a part of a path.
    fn is_name(name: &[u8]) -> bool {
        !matches!(name, b"" | b"." | b"..")
            && name.len() <= 255
            && !name.contains(&0)
            && !name.contains(&b'/')
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The folder that it lies in; `None` at the top of the tree.
    pub fn parent(&self) -> Option<TreePath> {
        let slash = self.0.iter().rposition(|&byte| byte == b'/')?;
        Some(TreePath(self.0[..slash].into()))
    }

    /// All folders that it lies in, innermost first.
    pub fn ancestors(&self) -> impl Iterator<Item = TreePath> {
        std::iter::successors(self.parent(), TreePath::parent)
    }

    /// The last part.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|&byte| byte == b'/').next().unwrap_or(&self.0)
    }

    /// The path of something in this folder.
    pub fn child(&self, name: &[u8]) -> Result<TreePath, PathError> {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(name);
        if TreePath::is_name(name) && bytes.len() <= LONGEST {
            // What it lies in has been checked before.
            return Ok(TreePath(bytes.into_boxed_slice()));
        }
        TreePath::new(&bytes)
    }

    /// Whether it lies below `folder`.
    pub fn is_below(&self, folder: &TreePath) -> bool {
        self.0.strip_prefix(&*folder.0).is_some_and(|rest| rest.starts_with(b"/"))
    }

    /// The limits of everything below it in an ordered map: from the first, to before the second.
    pub fn span(&self) -> (TreePath, TreePath) {
        // The byte after `/` is `0`; neither limit needs to be a path that exists.
        let end = |byte| TreePath([&self.0[..], &[byte]].concat().into());
        (end(b'/'), end(b'0'))
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl From<TreePath> for String {
    fn from(path: TreePath) -> String {
        path.to_string()
    }
}

impl TryFrom<String> for TreePath {
    type Error = PathError;

    fn try_from(text: String) -> Result<TreePath, PathError> {
        text.parse()
    }
}

impl FromStr for TreePath {
    type Err = PathError;

    /// Reads the escaped form.
    fn from_str(text: &str) -> Result<TreePath, PathError> {
        if !text.contains('\\') {
            return TreePath::new(text.as_bytes());
        }
        let bytes = unescape(text).ok_or_else(|| PathError {
            text: text.to_owned(),
            reason: "a backslash is not followed by `x` and two hexadecimal digits",
        })?;
        TreePath::new(&bytes)
    }
}

/// Bytes as one word of text: blanks, controls, backslashes and what is not UTF-8 as `\xNN`.
pub(super) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_whitespace() || character.is_control() || character == '\\' {
                let mut buffer = [0; 4];
                for byte in character.encode_utf8(&mut buffer).bytes() {
                    text.push_str(&format!("\\x{byte:02x}"));
                }
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// The bytes that [`escape`] wrote; `None` when the text is no such form.
pub(super) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..position]);
        let digits = rest[position..].strip_prefix("\\x")?.get(..2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[position + 4..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_is_behind_a_slash() {
        let path = |text: &str| text.parse::<TreePath>().unwrap();
        for (text, below) in [
            ("etc/a", true),
            ("etc/a/b", true),
            ("etc", false),
            ("etcx", false),
            ("etcx/a", false),
            ("et", false),
            ("usr/etc/a", false),
        ] {
            assert_eq!(path(text).is_below(&path("etc")), below, "{text}");
        }
    }

    #[test]
    fn a_child_is_one_part_more() {
        let folder: TreePath = "etc/ssl".parse().unwrap();
        let of = |name: &[u8]| folder.child(name).map(|path| path.to_string()).ok();
        assert_eq!(of(b"certs").as_deref(), Some("etc/ssl/certs"));
        assert_eq!(format!("{folder:?}"), "`etc/ssl`");
        assert_eq!(serde_json::to_string(&folder).unwrap(), "\"etc/ssl\"");
        for name in [&b""[..], b".", b"..", b"a\0b", &[b'x'; 256]] {
            assert_eq!(of(name), None, "{name:?}");
        }
        assert!(of(&[b'x'; 255]).is_some());
        let deep: TreePath = ["x"; LONGEST.div_ceil(2)].join("/").parse().unwrap();
        assert!(deep.child(b"x").is_err(), "{LONGEST} bytes are full");
    }

    #[test]
    fn a_path_cannot_lead_out_of_its_tree() {
        for (bytes, reason) in [
            (&b""[..], "absolute or has an empty part"),
            (b"/etc/passwd", "absolute"),
            (b"etc//passwd", "empty part"),
            (b"etc/", "empty part"),
            (b"../etc", "`..`"),
            (b"etc/../../x", "`..`"),
            (b"./etc", "`.`"),
            (b"a\0b", "NUL"),
        ] {
            let error = TreePath::new(bytes).unwrap_err();
            assert!(error.reason.contains(reason), "{error}");
        }
        assert!(TreePath::new(&[b'a'; 256]).is_err());
        for good in ["etc/passwd", "..etc", "a.b/...", "-rf", "etc/init.d/.depend.start"] {
            assert_eq!(TreePath::new(good.as_bytes()).unwrap().as_bytes(), good.as_bytes());
        }
    }

    #[test]
    fn any_name_survives_its_escaped_form() {
        for (bytes, text) in [
            (&b"a b\n"[..], r"a\x20b\x0a"),
            (b"caf\xc3\xa9", "café"),
            (b"\xff\xfe", r"\xff\xfe"),
            (br"a\b", r"a\x5cb"),
            ("a\u{a0}b".as_bytes(), r"a\xc2\xa0b"),
        ] {
            let path = TreePath::new(bytes).unwrap();
            assert_eq!(path.to_string(), text);
            assert_eq!(text.parse::<TreePath>().unwrap(), path);
        }
        assert!(r"a\q".parse::<TreePath>().is_err());
        assert!(r"a\x2fetc\x2e".parse::<TreePath>().is_ok(), "an escaped slash is a slash");
        assert!(r"\x2e\x2e/x".parse::<TreePath>().is_err(), "an escaped `..` is one");
    }

    #[test]
    fn what_lies_below_a_folder_is_one_range() {
        let path = |text: &str| text.parse::<TreePath>().unwrap();
        let all: std::collections::BTreeSet<TreePath> =
            ["a", "a-b", "a.b/c", "a/b", "a/b/c", "a0", "b"].map(path).into();
        let (start, end) = path("a").span();
        let below: Vec<String> = all.range(start..end).map(TreePath::to_string).collect();
        assert_eq!(below, ["a/b", "a/b/c"]);
        assert!(path("a/b").is_below(&path("a")) && !path("a-b").is_below(&path("a")));
        let up: Vec<TreePath> = path("a/b/c").ancestors().collect();
        assert_eq!(up, [path("a/b"), path("a")]);
        assert_eq!(path("a/b/c").name(), b"c");
    }
}
