//! Files of `KEY=VALUE` lines in the shell's notation, such as `/var/lib/edeploy/conf`.
//!
//! The original sources them; here they are parsed, so that a value is never more than a value.
//! Lines that are not assignments (comments, empty ones) stay where they are when keys are set.

use crate::world::quote;

/// The value of a key: the last assignment counts, as in a shell. `None` when there is none.
pub fn get(text: &str, key: &str) -> Option<String> {
    lines(text).rev().filter_map(assignment).find(|(name, _)| *name == key).map(|(_, value)| value)
}

/// The text with these keys set: in place where they stand, appended where they do not.
pub fn set(text: &str, keys: &[(String, String)]) -> String {
    let mut lines: Vec<String> = lines(text).map(str::to_owned).collect();
    for (key, value) in keys {
        let line = format!("{key}={}", quote(value));
        let is_key = |line: &String| assignment(line).is_some_and(|(name, _)| name == key.as_str());
        match lines.iter().position(is_key) {
            Some(first) => {
                lines[first] = line;
                let mut position = 0;
                lines.retain(|line| {
                    position += 1;
                    position - 1 <= first || !is_key(line)
                });
            }
            None => lines.push(line),
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Also without the carriage return of a last line that does not end: it would be one of a line
/// end as soon as another line follows.
fn lines(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    text.lines().map(|line| line.trim_end_matches('\r'))
}

/// Name and value of a line such as `KEY="a b"` or `export KEY=value  # remark`.
fn assignment(line: &str) -> Option<(&str, String)> {
    let line = line.trim_start();
    let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
    let (name, rest) = line.split_once('=')?;
    let is_name = !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then(|| (name, unquote(rest)))
}

/// The first word of a text, without its quotes. `$` and backquotes have no meaning.
fn unquote(text: &str) -> String {
    let mut word = String::new();
    let mut characters = text.chars();
    let mut quoted_by = None;
    while let Some(character) = characters.next() {
        match (character, quoted_by) {
            ('\'' | '"', None) => quoted_by = Some(character),
            (_, Some(open)) if character == open => quoted_by = None,
            ('\\', None) => word.extend(characters.next()),
            ('\\', Some('"')) => match characters.next() {
                Some(next) if "\"\\$`".contains(next) => word.push(next),
                Some(next) => word.extend(['\\', next]),
                None => word.push('\\'),
            },
            (_, None) if character.is_whitespace() || character == ';' => break,
            _ => word.push(character),
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_a_shell_would_but_never_run() {
        let text = "# VERS=0\nVERS=D12-F.1.0.0\nROLE=\"my sql\"\nexport A='it'\\''s' # why\n\
                    B=$(reboot)\nC=\nVERS=D12-F.1.0.1\n9X=1\nE=\"\r";
        for (key, value) in [
            ("VERS", Some("D12-F.1.0.1")),
            ("ROLE", Some("my sql")),
            ("A", Some("it's")),
            ("B", Some("$(reboot)")),
            ("C", Some("")),
            ("D", None),
            ("E", Some("")),
            ("9X", None),
        ] {
            assert_eq!(get(text, key).as_deref(), value, "{key}");
        }
    }

    #[test]
    fn keys_are_set_in_place_and_other_lines_stay() {
        let key = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let text = "# made by build\nVERS=1\nROLE=base\nVERS=2\n";
        let keys = [key("VERS", "3"), key("SERV", "10.0.2.2"), key("N", "a b")];
        let set = set(text, &keys);
        assert_eq!(set, "# made by build\nVERS=3\nROLE=base\nSERV=10.0.2.2\nN='a b'\n");
        assert_eq!(get(&set, "N").as_deref(), Some("a b"));
        assert_eq!(super::set("", &[key("A", "")]), "A=''\n");
        assert_eq!(super::set("# kept\r\n#\r", &[key("A", "1")]), "# kept\n#\nA=1\n");
    }
}
