//! Takes secrets out of texts that are kept or sent.

/// The text with every secret replaced, also where it is written as a JSON or RON string.
/// Longer secrets go first, so that one which holds another leaves nothing behind.
pub fn redact(text: &str, secrets: &[String]) -> String {
    let mut forms: Vec<String> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    forms.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
    forms.dedup();
    forms.iter().fold(text.to_owned(), |text, form| text.replace(form.as_str(), "<secret>"))
}

/// A secret as it is, and as the insides of a quoted string.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned(), secret.escape_debug().to_string()];
    if let Ok(json) = serde_json::to_string(secret) {
        forms.push(json.trim_start_matches('"').trim_end_matches('"').to_owned());
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
}
