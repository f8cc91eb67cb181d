//! The kernel command line as words, with nothing made of them yet.
//!
//! Splits as the kernel does: at blanks, except within double quotes. The words between two
//! pipes are set apart: they are for the installed system and set no option here.

/// The words of a kernel command line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RawCmdline {
    words: Vec<String>,
    carried: Vec<String>,
    unclosed_pipe: bool,
}

impl RawCmdline {
    /// Splits a command line, as `/proc/cmdline` shows it.
    pub fn parse(text: &str) -> RawCmdline {
        let (own, carried, unclosed_pipe) = match text.split_once('|') {
            None => (words(text), Vec::new(), false),
            Some((before, rest)) => match rest.split_once('|') {
                Some((between, after)) => {
                    let mut own = words(before);
                    own.extend(words(after));
                    (own, words(between), false)
                }
                None => (words(before), Vec::new(), true),
            },
        };
        RawCmdline { words: own, carried, unclosed_pipe }
    }

    /// The value of the last `name=value`; quotes around the value are not part of it.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self
            .words
            .iter()
            .rev()
            .filter_map(|word| word.split_once('='))
            .find(|(key, _)| *key == name)?;
        Some(value.trim_matches('"'))
    }

    /// The words between pipes, as they were written.
    pub fn carried(&self) -> &[String] {
        &self.carried
    }

    /// Whether there was one pipe without a second.
    pub fn unclosed_pipe(&self) -> bool {
        self.unclosed_pipe
    }
}

/// Splits at blanks outside double quotes.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '"' => {
                quoted = !quoted;
                word.push(character);
            }
            blank if blank.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            other => word.push(other),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_the_kernel_does() {
        let cmdline = RawCmdline::parse("a=1  b=\"two words\"\tc a=3\n");
        assert_eq!(cmdline.get("a"), Some("3"));
        assert_eq!(cmdline.get("b"), Some("two words"));
        assert_eq!(cmdline.get("c"), None);
    }

    #[test]
    fn words_between_pipes_are_carried_and_set_nothing() {
        for text in ["SERV=a |x=1 SERV=b| y", "SERV=a | x=1 SERV=b | y"] {
            let cmdline = RawCmdline::parse(text);
            assert_eq!(cmdline.get("SERV"), Some("a"), "{text}");
            assert_eq!(cmdline.carried(), ["x=1", "SERV=b"], "{text}");
            assert!(!cmdline.unclosed_pipe());
        }
        assert!(RawCmdline::parse("SERV=a | x").unclosed_pipe());
    }
}
