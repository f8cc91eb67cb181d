//! Sentences: where they are broken, cut and cleaned.

use super::*;

#[test]
fn lines_are_broken_at_blanks_and_words_that_fit_nowhere_inside() {
    let word = |length: usize| "x".repeat(length);
    for (lengths, expected) in [
        (&[3, 4][..], "3 4"),
        // 60 and 39 and the blank between them are 100.
        (&[60, 39, 1], "60 39|1"),
        (&[60, 40], "60|40"),
        (&[100], "100"),
        (&[100, 1], "100|1"),
        (&[1, 100, 1], "1|100|1"),
        (&[101], "100|1"),
        (&[101, 98, 1], "100|1 98|1"),
        (&[250, 48, 49], "100|100|50 48|49"),
        (&[], ""),
    ] {
        let text = lengths.iter().map(|&length| word(length)).collect::<Vec<_>>().join(" ");
        let lines = wrapped(&text);
        let lines: Vec<String> = lines
            .split('\n')
            .map(|line| {
                let lengths = line.split(' ').map(|word| word.len().to_string());
                lengths.filter(|length| length != "0").collect::<Vec<_>>().join(" ")
            })
            .collect();
        assert_eq!(lines.join("|"), expected, "{lengths:?}");
    }
}

#[test]
fn texts_are_cut_to_sixty_characters_and_control_characters_are_spelled() {
    for (text, expected) in [
        ("é".repeat(60), "é".repeat(60)),
        ("é".repeat(61), format!("{}…", "é".repeat(60))),
        ("a\u{1b}[2J\tb".to_owned(), "a\\u{1b}[2J\\tb".to_owned()),
    ] {
        assert_eq!(shown(&text), expected);
    }
}
