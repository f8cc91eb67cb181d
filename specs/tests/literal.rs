//! Literals of every shape: printed and read again in both syntaxes, and changed in place.

use proptest::prelude::*;
use specs::diagnostic::Span;
use specs::literal::{Document, Literal, Style, Syntax};
use specs::value::Value;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,8}",
        "\\PC{0,4}",
        prop::collection::vec(any::<char>(), 0..4).prop_map(|all| all.into_iter().collect()),
        Just("'\"\\\n\t\r\0#//*".to_owned()),
    ]
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Integer),
        any::<f64>().prop_filter("finite", |x| x.is_finite()).prop_map(Value::Float),
        text().prop_map(Value::Text),
    ]
}

fn dict(values: BoxedStrategy<Literal>) -> impl Strategy<Value = Literal> {
    let entries = prop::collection::btree_map(text(), values, 0..4);
    entries.prop_map(|entries| Literal::Dict(entries.into_iter().collect()))
}

fn literal() -> impl Strategy<Value = Literal> {
    let leaf = prop_oneof![
        8 => scalar().prop_map(Literal::Value),
        1 => text().prop_map(Literal::Secret),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        let several = prop::collection::vec(inner.clone(), 0..4);
        prop_oneof![
            several.clone().prop_map(Literal::List),
            several.prop_map(Literal::Tuple),
            dict(inner.clone().boxed()),
            dict(inner.boxed()).prop_map(|dict| Literal::Generate(Box::new(dict))),
        ]
    })
}

fn style() -> impl Strategy<Value = Style> {
    let double = Style { syntax: Syntax::Python, quote: '"' };
    prop::sample::select(vec![Style::RON, Style::PYTHON, double])
}

/// Entries of a CMDB, laid out by hand: each on a line with a comment, or all on one.
fn cmdb() -> impl Strategy<Value = (String, bool)> {
    let entry = prop::collection::btree_map("[a-e]", 0..99_i64, 1..4);
    (prop::collection::vec(entry, 1..4), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(entries, python, tall, comma)| {
            let (quote, comment) =
                if python { ('\'', "# one, 'two'") } else { ('"', "// one, \"two") };
            let mut text = format!("{comment}\n[");
            for entry in entries {
                text.push_str("\n  {");
                let count = entry.len();
                for (number, (key, value)) in entry.into_iter().enumerate() {
                    if tall {
                        text.push_str("\n    ");
                    }
                    text.push_str(&format!("{quote}{key}{quote} : {value}"));
                    if comma || number + 1 < count {
                        text.push(',');
                    }
                    if tall {
                        text.push_str(&format!("  {comment}\n"));
                    }
                }
                text.push_str("},");
            }
            (text + "\n]\n", comma)
        },
    )
}

/// What may stand between two tokens: blanks, ends of lines and comments, none with a comma.
fn gap(python: bool) -> impl Strategy<Value = String> {
    let both = [" ", "\t", "\n", "\r\n", "\n    "];
    let of_python = ["# it's \"so\"\n", " #\r\n", "\\\n", "\\\r\n"];
    let of_ron = ["// it's # \"so\"\n", " //\r\n", "/* a /* b */ : */", "/**/", "/* a\n } */"];
    let own = if python { of_python.to_vec() } else { of_ron.to_vec() };
    let piece = prop::sample::select([&both[..], &own].concat());
    let pieces = prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat());
    prop_oneof![1 => Just(String::new()), 1 => pieces]
}

/// A value as somebody may write it, comments within redundant parentheses included.
fn written_value(python: bool) -> impl Strategy<Value = String> {
    let both = ["7", "\"a, b\"", "[1, 2]", "[]", "secret(\"x\")", "(1,)", "()", "\"\\\\\""];
    let of_python = ["'it''s'", "r'\\''", "(7)", "( # why\n 7 )", "((# why\r\n7))", "'''a'b'''"];
    let of_ron = ["r\"\\\"", "r#\"a\"b\\\"#", "r##\"a\"#b\"##", "(7)", "Some(/* why */ 7)", "true"];
    let own = if python { of_python } else { of_ron };
    prop::sample::select([&both[..], &own].concat()).prop_map(str::to_owned)
}

/// A list of two mappings with comments everywhere, in either syntax.
fn commented() -> impl Strategy<Value = String> {
    (any::<bool>(), any::<bool>()).prop_flat_map(|(python, marked)| {
        let gaps = prop::collection::vec(gap(python), 5);
        let entry = ("[a-e]", (written_value(python), gaps));
        let mapping = (
            prop::collection::vec(entry, 0..4),
            any::<bool>(),
            prop::collection::vec(gap(python), 3),
        );
        prop::collection::vec(mapping, 2).prop_map(move |mappings| {
            let mark = match (python, marked) {
                (true, _) => "# python\n",
                (false, true) => "// ron\n",
                (false, false) => "",
            };
            let quote = if python { '\'' } else { '"' };
            let mut text = format!("{mark}[");
            for (mut entries, comma, around) in mappings {
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                entries.dedup_by(|a, b| a.0 == b.0);
                text.extend([&around[0], "{", &around[1]].map(String::from));
                let count = entries.len();
                for (number, (key, (value, gaps))) in entries.into_iter().enumerate() {
                    let key = format!("{quote}{key}{quote}");
                    text.extend([&gaps[0], &key, &gaps[1], ":", &gaps[2], &value, &gaps[3]]);
                    if comma || number + 1 < count {
                        text.extend([",", &gaps[4]]);
                    }
                }
                text.extend(["}", &around[2], ","]);
            }
            text + "]\n"
        })
    })
}

/// The text without what an edit may add or take at its border.
fn squeezed(text: &str) -> String {
    text.replace([' ', '\t', '\r', '\n', ',', '\\', '(', ')'], "")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_printed_is_read_again(literal in literal(), style in style()) {
        let file = literal.to_file(style);
        let document = Document::parse("f", &file).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(document.root().literal(), literal);
        prop_assert_eq!(document.syntax(), style.syntax);
        prop_assert_eq!(document.edit().finish(), file);
    }

    #[test]
    fn one_key_set_and_taken_back_leaves_every_other_byte((text, comma) in cmdb(), pick in 0..9_usize) {
        let document = Document::parse("f", &text).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let items = document.root().items().unwrap_or_default();
        let pick = pick % items.len();
        let mut editor = document.edit();
        editor.set(&items[pick], &[("used", Literal::from(1)), ("mac", Literal::from("x'\""))], &[]);
        let changed = editor.finish();
        let changed = Document::parse("f", &changed).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let after = changed.root().items().unwrap_or_default();
        for (number, (before, after)) in items.iter().zip(after).enumerate() {
            let (old, new) = (&text[before.span.start..before.span.end], &changed.text()[after.span.start..after.span.end]);
            if number == pick {
                prop_assert_eq!(after.get("used").and_then(|node| node.value()), Some(Value::Integer(1)));
                prop_assert_eq!(after.entries().map(<[_]>::len), before.entries().map(|e| e.len() + 2));
            } else {
                prop_assert_eq!(old, new);
            }
        }
        prop_assert_eq!(document.comments().len(), changed.comments().len());
        let mut editor = changed.edit();
        editor.set(&after[pick], &[], &["used", "mac"]);
        let back = editor.finish();
        if comma || !text.contains("\n    ") {
            prop_assert_eq!(back, text);
        } else {
            // The comma that stands before a comment now may stay: comments are not moved.
            prop_assert!(back.len() <= text.len() + 1, "{}", back);
            let back = Document::parse("f", &back).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(back.root().literal(), document.root().literal());
        }
    }

    #[test]
    fn a_key_changed_added_or_removed_leaves_every_other_byte_and_comment(
        text in commented(),
        at in 0..2_usize,
        key in "[a-f]",
        remove in any::<bool>(),
    ) {
        let document = Document::parse("f", &text).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let items = document.root().items().unwrap_or_default();
        let new = Literal::from("it's \"new\"");
        let mut editor = document.edit();
        if remove {
            editor.set(&items[at], &[], &[&key]);
        } else {
            editor.set(&items[at], &[(&key, new.clone())], &[]);
        }
        let after = editor.finish();
        let changed = Document::parse("f", &after)
            .map_err(|error| TestCaseError::fail(format!("{text:?}\n{after:?}\n{error}")))?;

        // It says what it should.
        let mut expected: Vec<Literal> = items.iter().map(|item| item.literal()).collect();
        let Literal::Dict(entries) = &mut expected[at] else { panic!("{text}") };
        match (entries.iter().position(|(known, _)| *known == key), remove) {
            (Some(position), true) => drop(entries.remove(position)),
            (Some(position), false) => entries[position].1 = new.clone(),
            (None, true) => {}
            (None, false) => entries.push((key.clone(), new.clone())),
        }
        prop_assert_eq!(changed.root().literal(), Literal::List(expected), "{:?}", text);
        prop_assert_eq!(changed.syntax(), document.syntax());

        // The rest is as it was.
        let entry = items[at].entries().unwrap_or_default().iter().find(|entry| entry.key == key);
        let written = new.to_text(document.style());
        let (place, put) = match (entry, remove) {
            (Some(entry), true) => (entry.key_span.to(entry.value.span), ""),
            (Some(entry), false) => (entry.value.span, written.as_str()),
            (None, _) => (Span::default(), ""),
        };
        let rest = [&text[..place.start], put, &text[place.end..]].map(squeezed).concat();
        let name = Literal::from(key.as_str()).to_text(document.style());
        let added = squeezed(&format!("{name}: {written}"));
        let came = if entry.is_none() { added.as_str() } else { "" };
        prop_assert_eq!(squeezed(&after).replacen(came, "", 1), rest, "{:?}\n{:?}", text, after);
        let stays = |it: &&Span| it.end <= place.start || place.end <= it.start;
        let comments = document.comments().iter().filter(stays);
        let comments: Vec<&str> = comments.map(|it| &text[it.start..it.end]).collect();
        let left = changed.comments().iter().map(|it| &after[it.start..it.end]);
        prop_assert_eq!(left.collect::<Vec<&str>>(), comments, "{:?}", text);
        let other = |document: &Document| {
            let span = document.root().items().unwrap_or_default()[1 - at].span;
            document.text()[span.start..span.end].to_owned()
        };
        prop_assert_eq!(other(&changed), other(&document));
    }

    #[test]
    fn no_text_makes_a_reader_fail_otherwise_than_with_a_place(text in "[\\[\\](){}'\"#/*,:+\\-a-f0-9 \n\\\\]{0,40}") {
        if let Err(error) = Document::parse("f", &text) {
            prop_assert!(error.line >= 1 && error.column >= 1 && !error.to_string().is_empty());
        }
        drop(specs::lang::Spec::parse("f", &text));
        drop(specs::facts::Facts::parse("f", text.as_bytes()));
    }

    #[test]
    fn no_column_makes_the_language_fail(column in "(in|gt|network|regexp|not|and|or|range|\\$x=|\\$)?\\(?[(),a-c0-9\"'$= /\\[\\]{}.*+\\\\|]{0,20}\\)?") {
        let column = Literal::from(column.as_str()).to_text(Style::RON);
        drop(specs::lang::Spec::parse("f", &format!("[(\"a\", \"b\", \"c\", {column})]")));
    }
}
