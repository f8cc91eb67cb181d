//! Keys and items that come, change and go.

use expect_test::{Expect, expect};

use super::*;
use crate::value::Value;

fn text(text: &str) -> Literal {
    Literal::from(text)
}

/// The text once keys of the first mapping of its list are set and removed.
#[track_caller]
fn after(before: &str, values: &[(&str, Literal)], remove: &[&str]) -> String {
    let document = Document::parse("f", before).unwrap_or_else(|error| panic!("{error}"));
    let mut editor = document.edit();
    editor.set(&document.root().items().unwrap()[0], values, remove);
    let after = editor.finish();
    Document::parse("f", &after).unwrap_or_else(|error| panic!("{after}\n{error}"));
    after
}

#[track_caller]
fn edited(before: &str, values: &[(&str, Literal)], remove: &[&str], expected: Expect) {
    expected.assert_eq(&after(before, values, remove));
}

fn used() -> [(&'static str, Literal); 2] {
    [("used", Literal::from(1)), ("mac", text("a'b"))]
}

#[test]
fn new_keys_come_last_in_the_layout_of_the_entry() {
    edited(
        "[{'a': 1}, {'b': 2}]",
        &used(),
        &[],
        expect![[r#"[{'a': 1, 'used': 1, 'mac': 'a\'b'}, {'b': 2}]"#]],
    );
    edited("[{\"a\": 1,}]", &used(), &[], expect![[r#"[{"a": 1, "used": 1, "mac": "a'b",}]"#]]);
    edited("[{}]", &used(), &[], expect![[r#"[{"used": 1, "mac": "a'b"}]"#]]);
    // What stands behind the comment stays behind it.
    edited(
        "// c\n[{\n  \"a\": 1, /* d */ }]",
        &[("b", Literal::from(2))],
        &[],
        expect![[r#"
        // c
        [{
          "a": 1,
          "b": 2, /* d */ }]"#]],
    );
    // Quoted as most texts of the file are.
    let one = [("b", text("x"))];
    edited(r#"[{"a": True}]"#, &one, &[], expect![[r#"[{"a": True, "b": "x"}]"#]]);
    edited(r#"[{"a": 'x', "c": 1}]"#, &one, &[], expect![[r#"[{"a": 'x', "c": 1, "b": "x"}]"#]]);
    edited(r#"[{"a": 'x'}]"#, &one, &[], expect![[r#"[{"a": 'x', 'b': 'x'}]"#]]);
    edited(
        "[\n  {\n    'a': 1,  # one, two\n    'b': ('x'),  # end\n    # last\n  },\n]",
        &used(),
        &[],
        expect![[r#"
        [
          {
            'a': 1,  # one, two
            'b': ('x'),  # end
            'used': 1,
            'mac': 'a\'b',
            # last
          },
        ]"#]],
    );
    edited(
        "[{'a': 1,\n  'b': 2  # no comma\n }]",
        &used(),
        &[],
        expect![[r#"
        [{'a': 1,
          'b': 2,  # no comma
          'used': 1,
          'mac': 'a\'b'
         }]"#]],
    );
    edited(
        "[{'a': 1,\n  'b': 2}]",
        &used(),
        &[],
        expect![[r#"
        [{'a': 1,
          'b': 2,
          'used': 1,
          'mac': 'a\'b'}]"#]],
    );
}

#[test]
fn what_does_not_change_stays_as_it_is_written() {
    let same = [("a", Literal::Value(Value::Integer(16))), ("b", text("xy"))];
    edited(
        "[{'a': 0x10, \"b\": 'x' 'y'}]",
        &same,
        &[],
        expect![[r#"[{'a': 0x10, "b": 'x' 'y'}]"#]],
    );
    let one = [("a", text("new"))];
    edited("[{ 'a' :('old') , 'b':2 }]", &one, &[], expect![[r#"[{ 'a' :'new' , 'b':2 }]"#]]);
}

#[test]
fn removed_keys_take_their_commas_and_lines_with_them() {
    edited("[{'a': 1, 'used': 1}]", &[], &["used"], expect!["[{'a': 1}]"]);
    edited("[{'used': 1, 'a': 1}]", &[], &["used"], expect!["[{'a': 1}]"]);
    edited("[{'used': 1}]", &[], &["used"], expect!["[{}]"]);
    edited("[{'a': 1, 'used': 1, 'b': 2}]", &[], &["used"], expect!["[{'a': 1, 'b': 2}]"]);
    edited("[{'a': 1, 'used': 1, 'b': 2}]", &[], &["used", "b"], expect!["[{'a': 1}]"]);
    edited("[{'a': 1, 'b': 2, 'c': 3, 'd': 4}]", &[], &["a", "d"], expect!["[{'b': 2, 'c': 3}]"]);
    edited("[{'a': 1, 'b': 2, 'c': 3}]", &[], &["a", "b", "c"], expect!["[{}]"]);
    edited("[{'a': 1 , 'b': 2}]", &[], &["a"], expect!["[{'b': 2}]"]);
    edited(
        "[{'a': 1, 'used': 1}]",
        &[("c", Literal::from(3))],
        &["used"],
        expect!["[{'a': 1, 'c': 3}]"],
    );
    edited(
        "[\n {\n  'a': 1,\n  'used': 1,\n  'b': 2,\n }]",
        &[],
        &["used"],
        expect![[r#"
        [
         {
          'a': 1,
          'b': 2,
         }]"#]],
    );
    edited(
        "[{'a': 1,  # a, b\n  'used': 1}]",
        &[],
        &["used"],
        expect![[r#"
        [{'a': 1,  # a, b
          }]"#]],
    );
}

#[test]
fn setting_and_taking_back_gives_the_same_bytes() {
    for before in [
        "[{'a': 1}]",
        "[{'a': 1,\n  'b': 2}]",
        "[{'a': 1,\n  'b': 2  # c\n }]",
        "[\n  {\n    \"a\": 1, // c\n    \"b\": 2, // d\n  },\n]",
    ] {
        let document = Document::parse("f", before).unwrap();
        let mut editor = document.edit();
        editor.set(&document.root().items().unwrap()[0], &used(), &[]);
        let changed = Document::parse("f", &editor.finish()).unwrap();
        let mut editor = changed.edit();
        editor.set(&changed.root().items().unwrap()[0], &[], &["used", "mac"]);
        let after = editor.finish();
        // The comma that had to be added before a comment stays: comments are never moved.
        assert_eq!(after.replace("2,  # c", "2  # c"), before);
    }
}

#[test]
fn items_are_pushed_and_replaced() {
    let document = Document::parse("f", "[\n  ('hp', 4),  # c\n]\n").unwrap();
    let mut editor = document.edit();
    let count = &document.root().items().unwrap()[0].items().unwrap()[1];
    editor.replace(count, &Literal::from(3));
    editor.push(document.root(), &Literal::Tuple(vec![text("vm"), text("*")]));
    assert_eq!(editor.finish(), "[\n  ('hp', 3),  # c\n  ('vm', '*'),\n]\n");
}

#[test]
fn comments_around_a_removed_key_stay() {
    for (before, expected) in [
        ("[{'a': 1 # c\n, 'b': 2}]", "[{# c\n'b': 2}]"),
        ("[{'b': 2,\n  'a': 1\n  # c\n  ,\n}]", "[{'b': 2\n  # c\n  ,\n}]"),
        ("[{\"a\": 1 /* , /* c */ */ , \"b\": 2}]", "[{/* , /* c */ */ \"b\": 2}]"),
        ("[{\"b\": 2, /* c */ \"a\": 1 /* d */, /* e */}]", "[{\"b\": 2, /* c */ /* d *//* e */}]"),
        ("[{\"b\": 2 /* c */, \"a\": 1 /* d */}]", "[{\"b\": 2 /* c */, /* d */}]"),
        ("[{ # c\r\n 'a': 1, # d\r\n}]", "[{ # c\r\n # d\r\n}]"),
        ("[{ # c\r\n 'a': 1,\r\n}]", "[{ # c\r\n}]"),
        // A carriage return alone ends no line.
        ("[{\n'a': 1,\r'b': 2\n}]", "[{\n\r'b': 2\n}]"),
    ] {
        assert_eq!(after(before, &[], &["a"]), expected, "{before}");
    }
}

#[test]
fn comments_around_a_changed_value_stay() {
    let two = [("a", Literal::from(2))];
    for (before, expected) in [
        ("[{'a' # c\n : ( # d\n 'x')}]", "[{'a' # c\n : ( # d\n 2)}]"),
        ("[{'a': ('x' # d\n) , }]", "[{'a': (2 # d\n) , }]"),
        ("[{\"a\" /* c */ : /* d */ r\"\\\" /* e */}]", "[{\"a\" /* c */ : /* d */ 2 /* e */}]"),
    ] {
        assert_eq!(after(before, &two, &[]), expected, "{before}");
    }
}

#[test]
fn lines_end_as_the_line_before_does() {
    let one = [("b", Literal::from(2))];
    for (before, expected) in [
        ("[{\r\n 'a': 1, # c\r\n}]\r\n", "[{\r\n 'a': 1, # c\r\n 'b': 2,\r\n}]\r\n"),
        ("[{\r\n 'a': 1 # c\r\n}]\r\n", "[{\r\n 'a': 1, # c\r\n 'b': 2\r\n}]\r\n"),
        ("[{ # c\r\n}]", "[{'b': 2 # c\r\n}]"),
    ] {
        assert_eq!(after(before, &one, &[]), expected, "{before}");
    }
}

#[test]
fn an_item_of_an_empty_tuple_leaves_it_a_tuple() {
    for (before, expected) in [("# c\n()", "# c\n(1,)"), ("// c\n()", "// c\n(1,)")] {
        let document = Document::parse("f", before).unwrap();
        let mut editor = document.edit();
        editor.push(document.root(), &Literal::from(1));
        let after = editor.finish();
        assert_eq!(after, expected);
        let tuple = Literal::Tuple(vec![Literal::Value(Value::Integer(1))]);
        assert_eq!(Document::parse("f", &after).map(|it| it.root().literal()), Ok(tuple));
    }
}
