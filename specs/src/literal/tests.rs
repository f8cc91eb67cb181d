//! Both syntaxes read and printed.

use super::*;

#[track_caller]
fn read(text: &str, syntax: Syntax, expected: Literal) {
    let document = Document::parse("f", text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((document.root().literal(), document.syntax()), (expected, syntax));
    assert_eq!(document.replaced([]), text, "no change changes nothing");
}

fn text(text: &str) -> Literal {
    Literal::from(text)
}

#[test]
fn python_reads_as_python_reads() {
    use Syntax::Python;
    read("'a' \"b\"\n", Python, text("ab"));
    read("('a'\n 'b')", Python, text("ab"));
    read("('a',)", Python, Literal::Tuple(vec![text("a")]));
    read(r"'\n\t\\\'\x41\u00e9\101\0\q'", Python, text("\n\t\\'Aé\u{41}\0\\q"));
    read(r"r'\d+\''", Python, text(r"\d+\'"));
    read("'''a'\"\nb'''", Python, text("a'\"\nb"));
    read("'a\\\nb'", Python, text("ab"));
    read("u'a'", Python, text("a"));
    read("# c\n[True, False, None, 0x10, 1_000, -5, +1.5, 1e3, .5, 10L]", Python, {
        use Value::{Bool, Float, Integer, None};
        let values = [Bool(true), Bool(false), None, Integer(16), Integer(1000), Integer(-5)];
        let floats = [Float(1.5), Float(1000.0), Float(0.5), Integer(10)];
        Literal::List(values.into_iter().chain(floats).map(Literal::Value).collect())
    });
    read("{'a': ('b', [])}", Python, {
        let tuple = Literal::Tuple(vec![text("b"), Literal::List(vec![])]);
        Literal::Dict(vec![("a".into(), tuple)])
    });
}

#[test]
fn ron_reads_as_ron_reads() {
    use Syntax::Ron;
    read(r#"[("hp", 4), ("vm", "*")]"#, Ron, {
        let hp = Literal::Tuple(vec![text("hp"), Literal::Value(Value::Integer(4))]);
        Literal::List(vec![hp, Literal::Tuple(vec![text("vm"), text("*")])])
    });
    read(r##"/* a /* b */ c */ r#"a\"b"#"##, Ron, text(r#"a\"b"#));
    read(r#""\u{e9}\x41\n" // é"#, Ron, text("éA\n"));
    read("(\"a\")", Ron, Literal::Tuple(vec![text("a")]));
    read(r#"generate({"ip": "10.0.0.1-3", "password": secret("x")})"#, Ron, {
        let entries = vec![
            ("ip".to_owned(), text("10.0.0.1-3")),
            ("password".to_owned(), Literal::Secret("x".into())),
        ];
        Literal::Generate(Box::new(Literal::Dict(entries)))
    });
}

#[test]
fn the_first_token_of_one_syntax_decides() {
    for (text, expected) in [
        ("[\"a\"]", Syntax::Ron),
        ("['a']", Syntax::Python),
        ("# 'a'\n[\"a\"]", Syntax::Python),
        ("// 'a' # b\n[\"a\"]", Syntax::Ron),
        ("[\"it's # not //\"]", Syntax::Ron),
        ("[None]", Syntax::Python),
        ("[None, true]", Syntax::Ron),
        ("[True]", Syntax::Python),
        ("[u\"a\"]", Syntax::Python),
        ("[\"\"\"a\"\"\"]", Syntax::Python),
    ] {
        assert_eq!(Document::parse("f", text).map(|d| d.syntax()), Ok(expected), "{text}");
    }
}

#[test]
fn what_only_one_syntax_has_decides_wherever_it_stands() {
    use Syntax::{Python, Ron};
    for (text, expected) in [
        (r##"[r#"a"#]"##, Ron),
        (r#"[r"a", None]"#, Python),
        (r#"[R"a"]"#, Python),
        ("[/* ' */ 1]", Ron),
        // Neither within quotes, nor as a part of a word.
        (r#"["a\"'", "\\", 1]"#, Ron),
        (r#"["a\"", True]"#, Python),
        (r#"["", 'a']"#, Python),
        ("[\"#\"]\n# end", Python),
        (r#"{"True": 1}"#, Ron),
        // A backslash keeps no quote in a raw text of RON.
        (r#"[r"C:\", "it's", "b"]"#, Ron),
        (r##"{r"\\\": 1, "#": 2}"##, Ron),
        (r#"[r"\" /* ' */]"#, Ron),
        (r#"[r"a\"b"]"#, Python),
        (r#"[r"a\\", 'b']"#, Python),
        (r#"[r"""a"b"""]"#, Python),
        (r#"[r"", "'"]"#, Ron),
    ] {
        assert_eq!(Document::parse("f", text).map(|d| d.syntax()), Ok(expected), "{text}");
    }
    for text in ["[Trueish, 'a']", "[xtrue, 'a']", "[u, 'a']", "[r, 'a']"] {
        let error = Document::parse("f", text).expect_err("a word is no literal");
        assert!(error.to_string().contains("is not a literal"), "{error}");
    }
}

#[test]
fn numbers_texts_and_comments_end_where_they_end() {
    for (text, expected) in [
        ("[1e+5, 1E-2,.5]", "[100000.0, 0.01, 0.5]"),
        ("[0x1F, 0o17, 0b11, -0x10, 0X1e]", "[31, 15, 3, -16, 30]"),
        ("[1_000, -7, +7, 00]", "[1000, -7, 7, 0]"),
        (
            "[99999999999999999999, -99999999999999999999]",
            "[99999999999999999999, -99999999999999999999]",
        ),
        ("\u{feff}[1]", "[1]"),
        ("// a\n[1, /* b /* c */ d */ 2, /**/ 3] // e", "[1, 2, 3]"),
        ("# a\n[1, \\\n 2, 7L, 0x1F] # b", "[1, 2, 7, 31]"),
        ("[1,\x0c\t\r\n 2]", "[1, 2]"),
        ("# a\r\n[1, \\\r\n 2, 'b\\\r\nc'] # d\r\n", "[1, 2, bc]"),
        (r###"[r"a\b", r#"b"c"#, r##"d"#e"##]"###, r##"[a\b, b"c, d"#e]"##),
        (r#"['a' "b" '''c''d''' r'\n' u'e']"#, r"[abc''d\ne]"),
        ("(1) # one", "1"),
    ] {
        let document = Document::parse("f", text).unwrap_or_else(|error| panic!("{error}"));
        let value = document.root().value().unwrap_or_else(|| panic!("{text} is a value"));
        assert_eq!(value.to_string(), expected, "{text}");
    }
}

#[track_caller]
fn refused(text: &str, place: (usize, usize), part: &str) {
    let error = Document::parse("f", text).expect_err("this is no literal file");
    assert_eq!((error.line, error.column), place, "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

#[test]
fn whatever_is_no_literal_is_refused_with_its_place() {
    refused("", (1, 1), "the file ends");
    refused("[1", (1, 1), "never closed");
    refused("[1}", (1, 3), "where `]` should");
    refused("[('a', 'b')\n ('c', 'd')]", (1, 12), "a comma is missing");
    refused("['a' 1]", (1, 5), "a comma is missing");
    refused("[\"a\" \"b\"]", (1, 5), "a comma is missing");
    refused("[r\"a\"\"b\"]", (1, 6), "a comma is missing");
    refused("{'a': 1, 'a': 2}", (1, 10), "second time");
    refused("{1: 2}", (1, 2), "key should be a text");
    refused("{'a', 'b'}", (1, 5), "`:` and a value");
    refused("[x]", (1, 2), "`x` is not a literal");
    refused("# c\n[x for x in 'abc']", (2, 2), "`x` is not");
    refused("['a'] + ['b']", (1, 7), "comes after its end");
    refused("['a' + 'b']", (1, 6), "`+` is not part of a literal");
    refused("__import__('os').system('reboot')", (1, 1), "`__import__(…)` is not a literal");
    refused("'a' % 5", (1, 5), "`%` is not part");
    refused("'a\n'", (1, 1), "no end on its line");
    refused("\"a", (1, 1), "no end");
    refused("'''a'", (1, 1), "no end");
    refused("/* a", (1, 1), "no end");
    refused("/*/ 1", (1, 1), "no end");
    refused("[1, / 2]", (1, 5), "`/` is not part of a literal");
    refused("[null]", (1, 2), "write `None`");
    refused("[.]", (1, 2), "`.` is not part of a literal");
    refused("[.a]", (1, 2), "`.` is not part of a literal");
    refused(&"Some(".repeat(100_000), (1, 166), "nested more than 32 deep");
    refused("/* /* */ 1", (1, 1), "no end");
    refused("[0x1e+5]", (1, 6), "`+` is not part of a literal");
    refused("[1_]", (1, 2), "underscores");
    refused("[0x]", (1, 2), "do not fit its prefix");
    refused("[0b12]", (1, 2), "do not fit its prefix");
    refused("[1] / 2 # x", (1, 5), "comments begin with `#`");
    refused("// a\n[1, # x\n]", (2, 5), "comments begin with `//`");
    refused("[b'a']", (1, 2), "prefix `b`");
    refused("f'a'", (1, 1), "prefix `f`");
    refused("['\\xZ']", (1, 3), "2 hexadecimal digits");
    refused("['\\ud800']", (1, 3), "not a character");
    refused("[\"\\q\"]", (1, 3), "not an escape");
    refused("// a\n['b']", (2, 2), "double quotes");
    refused("// a\n[True]", (2, 2), "`true`");
    refused("// a\n[r]", (2, 2), "`r` is not a literal");
    refused("# a\n[true]", (2, 2), "`True`");
    refused("# a\n// b\n[]", (2, 1), "comments begin with `#`");
    refused("[012]", (1, 2), "begins with 0");
    refused("[1e999]", (1, 2), "too large");
    refused("[1__0]", (1, 2), "underscores");
    refused("[1j]", (1, 2), "not a number");
    refused("[-'a']", (1, 2), "a number should follow");
    refused("(role: 1)", (1, 2), "`role` is not a literal");
    refused("generate([])", (1, 10), "takes one mapping");
    refused("secret(1)", (1, 8), "takes one text");
    refused("generate({}, {})", (1, 14), "takes one argument");
    refused(&"[".repeat(70), (1, 34), "nested more than 32 deep");
    refused(&"{'a':".repeat(100_000), (1, 162), "nested more than 32 deep");
}

#[test]
fn a_key_that_comes_again_is_found_among_few_and_many() {
    for keys in [1, 15, 16, 17, 18, 40] {
        let entries = |count: usize| (0..count).map(|key| format!("'k{key}': 0, "));
        let good: String = entries(keys).collect();
        assert!(Document::parse("f", &format!("{{{good}}}")).is_ok(), "{good}");
        for again in [0, keys / 2, keys - 1] {
            let error = Document::parse("f", &format!("{{{good}'k{again}': 1}}")).unwrap_err();
            let expected = format!("the key `k{again}` stands here for the second time");
            assert_eq!((error.message, error.span.start), (expected, 1 + good.len()));
        }
    }
}

/// What is marked of the line, no more and no less.
#[test]
fn the_caret_marks_what_is_wrong() {
    for (text, marked) in [
        ("[b'a']", "b'"),
        ("[rb'a']", "rb'"),
        ("[r'a]", "r'"),
        ("[u\"\"\"a\"]", "u\"\"\""),
        ("[\"a]", "\""),
        ("[r##\"a\"#]", "r##\""),
        ("[x, 'a']", "x"),
        ("[-True]", "-True"),
        ("[1__0]", "1__0"),
        ("['a\\xZZ']", "\\x"),
        ("['a\\x4Z']", "\\x4"),
        ("['\\U00110000']", "\\U00110000"),
        ("[\"\\u{d800}\"]", "\\u{d800}"),
        ("[\"\\u{41\"]", "\\u{"),
        ("[\"\\é\"]", "\\é"),
        ("['\\N{DASH}']", "\\N"),
        ("[1, ;]", ";"),
        ("// a\n['b']", "'"),
        ("/* /* */", "/*"),
    ] {
        let Err(error) = Document::parse("f", text) else { panic!("{text} is a literal file") };
        assert_eq!(&text[error.span.start..error.span.end], marked, "{error}");
    }
}

#[test]
fn characters_may_be_written_as_numbers() {
    for (text, expected) in [
        ("\"\\x41\\u0042\\u{43}\\u{1f600}\"", "ABC😀"),
        ("'\\x41\\u0042\\U0001f600\\103\\0'", "AB😀C\0"),
        ("'\\1018\\18'", "A8\u{1}8"),
        ("'\\a\\b\\f\\n\\r\\t\\v\\q\\\n\\\\\\''", "\x07\x08\x0c\n\r\t\x0b\\q\\'"),
        // Python knows no escape of a lone carriage return, nor of a letter beyond ASCII.
        ("'a\\\rb\\éc'", "a\\\rb\\éc"),
        ("\"\\n\\r\\t\\0\\'\\\"\\\\\"", "\n\r\t\0'\"\\"),
    ] {
        let document = Document::parse("f", text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(document.root().as_text(), Some(expected), "{text}");
    }
}

#[test]
fn a_number_without_an_end_is_a_text() {
    for (number, expected) in
        [(f64::INFINITY, "\"inf\""), (f64::NEG_INFINITY, "\"-inf\""), (1e300, "1e300")]
    {
        assert_eq!(Literal::Value(Value::Float(number)).to_text(Style::RON), expected);
    }
}

#[test]
fn a_printed_file_keeps_its_syntax() {
    let list = Literal::List(vec![Literal::from(1), Literal::Secret("x\u{1}\"'".into())]);
    assert_eq!(list.to_file(Style::PYTHON), "[\n    1,\n    secret('x\\u0001\"\\''),\n]\n",);
    assert_eq!(list.to_file(Style::RON), "[\n    1,\n    secret(\"x\\u{1}\\\"'\"),\n]\n");
    assert_eq!(Literal::List(vec![]).to_file(Style::PYTHON), "# -*- python -*-\n[]\n");
}
