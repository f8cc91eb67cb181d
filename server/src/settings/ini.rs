//! Reads the INI syntax of edeploy.conf into sections of entries, each with its line.
//!
//! The dialect is what the README's file uses: `[SECTION]`, `KEY = value` or `KEY: value`, whole
//! comment lines with `#` or `;`. Keys are case-insensitive and given back in upper case. A key or
//! section given twice is an error here: silently taking one of them hides a mistake. A reader of
//! our own because the common crates lose the line numbers that such messages need.

/// `KEY = value` with where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) line: usize,
}

/// `[NAME]` and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawSection {
    pub(super) name: String,
    pub(super) entries: Vec<Entry>,
}

/// What is wrong, and in which line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IniError {
    pub(super) line: usize,
    pub(super) what: String,
}

pub(super) fn parse(text: &str) -> Result<Vec<RawSection>, IniError> {
    let mut sections: Vec<RawSection> = Vec::new();
    for (position, raw) in text.lines().enumerate() {
        let line = position + 1;
        let error = |what: String| Err(IniError { line, what });
        let content = raw.trim();
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = content.strip_prefix('[') {
            let Some(name) = rest.strip_suffix(']').map(str::trim).filter(|name| !name.is_empty())
            else {
                return error(format!("`{content}` is not a section: write `[NAME]`"));
            };
            if sections.iter().any(|section| section.name == name) {
                return error(format!("section `{name}` is there twice"));
            }
            sections.push(RawSection { name: name.to_owned(), entries: Vec::new() });
            continue;
        }
        let Some((key, value)) = content.split_once(['=', ':']) else {
            return error(format!("`{content}` is neither `[SECTION]` nor `KEY = value`"));
        };
        let Some(section) = sections.last_mut() else {
            return error(format!("`{}` stands before the first `[SECTION]`", key.trim()));
        };
        let key = key.trim().to_ascii_uppercase();
        if section.entries.iter().any(|entry| entry.key == key) {
            return error(format!("key `{key}` is there twice in section `{}`", section.name));
        }
        section.entries.push(Entry { key, value: value.trim().to_owned(), line });
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_error(text: &str, line: usize, part: &str) {
        let error = parse(text).unwrap_err();
        assert_eq!(error.line, line, "{error:?}");
        assert!(error.what.contains(part), "{error:?}");
    }

    #[test]
    fn sections_keys_and_comments() {
        let sections =
            parse("# top\n[SERVER]\nConfigDir = /a b/\n; no\nURL: http://x:80/\n\n[LAB]\n")
                .unwrap();
        assert_eq!(sections.len(), 2);
        assert_eq!(
            sections[0].entries,
            [
                Entry { key: "CONFIGDIR".into(), value: "/a b/".into(), line: 3 },
                Entry { key: "URL".into(), value: "http://x:80/".into(), line: 5 },
            ]
        );
        assert_eq!(sections[1].name, "LAB");
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        check_error("[A]\nx\n", 2, "neither");
        check_error("x = 1\n", 1, "before the first");
        check_error("[A\n", 1, "not a section");
        check_error("[A]\n[A]\n", 2, "twice");
        check_error("[A]\nk=1\nK=2\n", 3, "twice");
    }
}
