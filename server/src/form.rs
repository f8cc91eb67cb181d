//! Reads `multipart/form-data` (RFC 7578) from a body that is complete and bounded already.
//!
//! Strict where a client could hide something: one boundary, each part ended by it, a closing
//! boundary, limits on the number of parts and the length of names, no field twice. File names
//! are reduced to a safe last component. By hand, because the kept crates for it are
//! asynchronous; over a slice it is short.

use memchr::memmem;

/// A parsed form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Form {
    fields: Vec<Field>,
}

/// One part of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The name of the field.
    pub name: String,
    /// The last component of the file name, safe to join to a folder; `None` when the part had
    /// no file name, or one of which nothing safe is left.
    pub file_name: Option<String>,
    /// What it holds.
    pub content: Vec<u8>,
}

/// Why a body is not a form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// Some other content type, or none.
    #[error(
        "expected Content-Type multipart/form-data with a boundary, got `{0}`; \
         with curl: curl -F file=@FACTS URL"
    )]
    NotAForm(String),
    /// Nothing at all.
    #[error("the body is empty; expected a form with the field `file`")]
    Empty,
    /// The first boundary is missing.
    #[error("the body does not begin with the boundary that Content-Type names")]
    NoBoundary,
    /// The body ends before the closing boundary.
    #[error("the body ends inside part {0}: the upload was cut off")]
    Truncated(usize),
    /// A part's header cannot be understood.
    #[error("part {0} has no `Content-Disposition: form-data; name=\"…\"`")]
    NoName(usize),
    /// More parts than any client of ours sends.
    #[error("more than {MAX_FIELDS} parts")]
    TooManyParts,
    /// A part's header is longer than any client of ours sends.
    #[error("the header of part {0} is longer than {MAX_PART_HEADER} bytes")]
    LongHeader(usize),
    /// The same field twice: which one counts?
    #[error("the field `{0}` is there twice")]
    Duplicate(String),
    /// A field that must be text is not.
    #[error("the field `{0}` is not UTF-8 text of at most {MAX_TEXT} bytes")]
    NotText(String),
}

/// Parts of one form; ours have seven at most.
const MAX_FIELDS: usize = 16;
/// Bytes of one part's header.
const MAX_PART_HEADER: usize = 4096;
/// Bytes of a field that is text.
const MAX_TEXT: usize = 256;

impl Form {
    /// The form in `body`, whose `Content-Type` is given.
    pub fn parse(content_type: Option<&str>, body: &[u8]) -> Result<Form, FormError> {
        let boundary = boundary(content_type.unwrap_or_default())?;
        if body.is_empty() {
            return Err(FormError::Empty);
        }
        let delimiter = format!("--{boundary}").into_bytes();
        let inner = [b"\r\n", delimiter.as_slice()].concat();
        let finder = memmem::Finder::new(&inner);
        // A preamble is allowed by the standard and sent by nobody.
        let mut rest = body.strip_prefix(delimiter.as_slice()).ok_or(FormError::NoBoundary)?;
        let mut form = Form::default();
        loop {
            let number = form.fields.len() + 1;
            if rest.starts_with(b"--") {
                return Ok(form);
            }
            if form.fields.len() == MAX_FIELDS {
                return Err(FormError::TooManyParts);
            }
            let part = rest.strip_prefix(b"\r\n").ok_or(FormError::Truncated(number))?;
            let window = &part[..part.len().min(MAX_PART_HEADER)];
            let header_end = match memmem::find(window, b"\r\n\r\n") {
                Some(end) => end,
                None if window.len() == MAX_PART_HEADER => {
                    return Err(FormError::LongHeader(number));
                }
                None => return Err(FormError::Truncated(number)),
            };
            // The boundary may follow at once: the line end before it is the header's own.
            let content = &part[header_end + 2..];
            let end = finder.find(content).ok_or(FormError::Truncated(number))?;
            let (name, file_name) =
                disposition(&part[..header_end]).ok_or(FormError::NoName(number))?;
            if form.fields.iter().any(|field| field.name == name) {
                return Err(FormError::Duplicate(crate::request::shown(&name, 60)));
            }
            let bytes = content.get(2..end).unwrap_or_default().to_vec();
            form.fields.push(Field { name, file_name, content: bytes });
            rest = &content[end + inner.len()..];
        }
    }

    /// All parts, in order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The part with this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The text of the part with this name.
    pub fn text(&self, name: &str) -> Result<Option<&str>, FormError> {
        let Some(field) = self.field(name) else { return Ok(None) };
        let text = str::from_utf8(&field.content).ok().filter(|text| text.len() <= MAX_TEXT);
        text.map(|text| Some(text.trim())).ok_or_else(|| FormError::NotText(name.to_owned()))
    }
}

/// The last component of a file name that a stranger chose, when it is safe to join to a folder:
/// letters, digits and `._+-` stay, anything else becomes `_`; a name that is empty or begins
/// with a dot is refused, and so is one longer than a file name may be.
pub fn safe_file_name(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next()?;
    if last.is_empty() || last.starts_with('.') || last.len() > 200 {
        return None;
    }
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._+-".contains(c) { c } else { '_' };
    Some(last.chars().map(safe).collect())
}

/// The boundary that `Content-Type` names.
fn boundary(content_type: &str) -> Result<String, FormError> {
    let error = || FormError::NotAForm(crate::request::shown(content_type, 80));
    let (kind, parameters) = content_type.split_once(';').ok_or_else(error)?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return Err(error());
    }
    let value = parameter(parameters, "boundary").ok_or_else(error)?;
    let sane = (1..=70).contains(&value.len()) && value.bytes().all(|b| (0x20..0x7f).contains(&b));
    if sane { Ok(value) } else { Err(error()) }
}

/// Name and file name of a part, from its header lines.
fn disposition(header: &[u8]) -> Option<(String, Option<String>)> {
    let header = str::from_utf8(header).ok()?;
    let value = header.split("\r\n").find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let (kind, parameters) = value.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return None;
    }
    let name = parameter(parameters, "name").filter(|name| !name.is_empty())?;
    let file_name = parameter(parameters, "filename").and_then(|name| safe_file_name(&name));
    Some((name, file_name))
}

/// The value of `key` in `; key=value; key="quoted \" value"`.
fn parameter(text: &str, key: &str) -> Option<String> {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([';', ' ', '\t']);
        let (name, after) = rest.split_once('=')?;
        let mut value = String::new();
        if let Some(quoted) = after.strip_prefix('"') {
            let mut characters = quoted.char_indices().peekable();
            loop {
                match characters.next()? {
                    // Only these two are escaped by anyone; elsewhere a backslash is itself.
                    (_, '\\') => match characters.next_if(|(_, next)| matches!(next, '"' | '\\')) {
                        Some((_, escaped)) => value.push(escaped),
                        None => value.push('\\'),
                    },
                    (end, '"') => {
                        rest = &quoted[end + 1..];
                        break;
                    }
                    (_, character) => value.push(character),
                }
            }
        } else {
            let end = after.find(';').unwrap_or(after.len());
            value.push_str(after[..end].trim());
            rest = &after[end..];
        }
        if name.trim().eq_ignore_ascii_case(key) {
            return Some(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=XX";

    fn parse(body: &str) -> Result<Form, FormError> {
        Form::parse(Some(TYPE), body.as_bytes())
    }

    #[test]
    fn fields_files_and_empty_parts() {
        let form = parse(
            "--XX\r\nContent-Disposition: form-data; name=\"section\"\r\n\r\nLAB\r\n\
             --XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a b.hw\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n[]\r\n--X\r\n\r\n\
             --XX\r\ncontent-disposition: form-data; name=empty\r\n\r\n\r\n--XX--\r\n",
        )
        .unwrap();
        assert_eq!(form.text("section"), Ok(Some("LAB")));
        let file = form.field("file").unwrap();
        assert_eq!(file.file_name.as_deref(), Some("a_b.hw"));
        assert_eq!(file.content, b"[]\r\n--X\r\n");
        assert_eq!(form.text("empty"), Ok(Some("")));
        assert_eq!(form.text("absent"), Ok(None));
    }

    #[test]
    fn broken_bodies_are_told_apart() {
        let part = "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n";
        for (body, expected) in [
            (String::new(), FormError::Empty),
            ("hello".into(), FormError::NoBoundary),
            (part.into(), FormError::Truncated(1)),
            (format!("{part}--XX\r\nContent-Disp"), FormError::Truncated(2)),
            (format!("{part}{part}--XX--"), FormError::Duplicate("a".into())),
            ("--XX\r\nContent-Type: x\r\n\r\n1\r\n--XX--".into(), FormError::NoName(1)),
            (format!("--XX\r\n{}", "x".repeat(5000)), FormError::LongHeader(1)),
        ] {
            assert_eq!(parse(&body), Err(expected), "{body:.60}");
        }
        let many: String = (0..17).map(|n| part.replace("\"a\"", &format!("\"f{n}\""))).collect();
        assert_eq!(parse(&many), Err(FormError::TooManyParts));
        for content_type in [None, Some("text/plain"), Some("multipart/form-data; boundary=\"\"")] {
            let error = Form::parse(content_type, b"x").unwrap_err();
            assert!(matches!(error, FormError::NotAForm(_)), "{error}");
        }
    }

    #[test]
    fn file_names_cannot_leave_their_folder() {
        for (name, expected) in [
            ("../../etc/passwd", Some("passwd")),
            ("C:\\x\\y.log.gz", Some("y.log.gz")),
            ("a\u{0}b;rm -rf", Some("a_b_rm_-rf")),
            ("..", None),
            (".hidden", None),
            ("dir/", None),
            ("", None),
        ] {
            assert_eq!(safe_file_name(name).as_deref(), expected, "{name:?}");
        }
    }

    #[test]
    fn no_prefix_of_a_form_is_a_form() {
        let body = "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--XX--";
        for length in 0..body.len() {
            assert!(parse(&body[..length]).is_err(), "{length}");
        }
        assert!(parse(body).is_ok());
    }
}
