//! Literals of every shape: printed and read again in both syntaxes, and changed in place.

use proptest::prelude::*;
use specs::diagnostic::Span;
use specs::literal::{Document, Literal, Node, Style, Syntax};
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

/// Whether `kept` is what stood between two values, but for redundant parentheses of theirs.
fn stays(between: &str, kept: &str) -> bool {
    let Some((before, after)) = between.split_once(kept) else { return false };
    let within = |text: &str, parenthesis: char| {
        text.chars().all(|c| c == parenthesis || " \t\r\n\\".contains(c))
    };
    (before.is_empty() || before.ends_with(')') && within(before, ')'))
        && (after.is_empty() || after.starts_with('(') && within(after, '('))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_printed_is_read_again(literal in literal(), style in style()) {
        let file = literal.to_file(style);
        let document = Document::parse("f", &file).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(document.root().literal(), literal);
        prop_assert_eq!(document.syntax(), style.syntax);
        prop_assert_eq!(document.replaced([]), file);
    }

    #[test]
    fn values_replaced_leave_every_other_byte_and_comment(text in commented(), which in any::<u8>()) {
        let document = Document::parse("f", &text).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let items = document.root().items().unwrap_or_default();
        let new = Literal::from("it's \"new\"");
        let entries = items.iter().flat_map(|item| item.entries().unwrap_or_default());
        let chosen: Vec<&Node> = entries
            .enumerate()
            .filter(|(at, _)| which >> at & 1 == 1)
            .map(|(_, entry)| &entry.value)
            .collect();
        let after = document.replaced(chosen.iter().map(|node| (*node, new.clone())));
        let changed = Document::parse("f", &after)
            .map_err(|error| TestCaseError::fail(format!("{text:?}\n{after:?}\n{error}")))?;

        // It says what it should, in the syntax it was in.
        let mut at = 0;
        let mut mapping = |item: &Node| {
            let entries = item.entries().unwrap_or_default().iter().map(|entry| {
                at += 1;
                let is_new = which >> (at - 1) & 1 == 1;
                (entry.key.clone(), if is_new { new.clone() } else { entry.value.literal() })
            });
            Literal::Dict(entries.collect())
        };
        let expected = Literal::List(items.iter().map(&mut mapping).collect());
        prop_assert_eq!(changed.root().literal(), expected, "{:?}", text);
        prop_assert_eq!(changed.syntax(), document.syntax());

        // Byte for byte, the rest is as it was, but for parentheses that meant nothing.
        let written = new.to_text(document.style());
        let mut rest = after.split(&written);
        let mut start = 0;
        for node in &chosen {
            let between = &text[start..node.span.start];
            prop_assert!(rest.next().is_some_and(|kept| stays(between, kept)), "{:?}\n{:?}", text, after);
            start = node.span.end;
        }
        let end = rest.next();
        prop_assert!(end.is_some_and(|kept| stays(&text[start..], kept)), "{:?}\n{:?}", text, after);
        prop_assert_eq!(rest.next(), None, "{:?}", after);
        let gone = |it: &Span| chosen.iter().any(|node| node.span.start < it.start && it.end < node.span.end);
        let comments = document.comments().iter().filter(|it| !gone(it));
        let comments: Vec<&str> = comments.map(|it| &text[it.start..it.end]).collect();
        let left = changed.comments().iter().map(|it| &after[it.start..it.end]);
        prop_assert_eq!(left.collect::<Vec<&str>>(), comments, "{:?}", text);
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
