//! Takes secrets out of texts that are kept or sent.

/// What stands in a secret's place.
const PLACEHOLDER: &str = "<secret>";

/// Lines of a secret that are shorter are not secrets by themselves: `}`, or a blank line.
const SHORTEST_LINE: usize = 6;

/// The text with every secret replaced, in each of the forms in which it may be written.
/// Longer forms go first, so that one which holds another leaves nothing behind.
pub fn redact(text: &str, secrets: &[String]) -> String {
    redact_as(text, secrets, PLACEHOLDER)
}

/// As [`redact`], with another placeholder.
pub(crate) fn redact_as(text: &str, secrets: &[String], placeholder: &str) -> String {
    let mut forms: Vec<String> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    forms.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
    forms.dedup();
    forms.iter().fold(text.to_owned(), |text, form| text.replace(form.as_str(), placeholder))
}

/// A secret and its longer lines, each as it is, as the insides of a quoted string of Rust, JSON
/// and RON, and as those of a quoted word of a shell.
fn forms(secret: &str) -> Vec<String> {
    let lines = secret.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE);
    let mut forms = Vec::new();
    for part in [secret].into_iter().chain(lines) {
        forms.push(part.to_owned());
        forms.push(part.escape_debug().to_string());
        forms.push(part.escape_default().to_string());
        forms.push(part.replace('\'', r"'\''"));
        if let Ok(json) = serde_json::to_string(part) {
            let inside = json.strip_prefix('"').and_then(|json| json.strip_suffix('"'));
            forms.extend(inside.map(str::to_owned));
        }
    }
    forms.retain(|form| !form.is_empty());
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_secret_is_left() {
        let secrets = ["pass".to_owned(), "password".to_owned(), String::new(), "a\"b".to_owned()];
        assert_eq!(redact("password pass", &secrets), "<secret> <secret>");
        assert_eq!(redact(r#"("a\"b")"#, &secrets), r#"("<secret>")"#);
    }

    #[test]
    fn a_secret_is_found_in_a_shell_word_and_line_by_line() {
        let secrets = ["it's me".to_owned(), "BEGIN\n  0123456789\n}\nabcdef'g\nEND".to_owned()];
        for (text, expected) in [
            (r"echo 'it'\''s me'", "echo '<secret>'"),
            ("line 2: 0123456789", "line 2: <secret>"),
            (r"'abcdef'\''g'", "'<secret>'"),
            ("BEGIN } END", "BEGIN } END"),
        ] {
            assert_eq!(redact(text, &secrets), expected);
        }
    }
}
