//! Literals of every shape: printed and read again in both syntaxes, and changed in place.

use proptest::prelude::*;
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
