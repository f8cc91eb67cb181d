//! Columns that can be read, what they say of values, and columns that cannot.

use super::*;

/// Reads `("disk", "x", "size", COLUMN)`.
fn spec(column: &str) -> Result<Spec, Diagnostic> {
    use crate::literal::{Literal, Style};
    let column = Literal::from(column).to_text(Style::RON);
    Spec::parse("vm.specs", &format!("[(\"disk\", \"x\", \"size\", {column})]"))
}

#[track_caller]
fn says(column: &str, text: &str) -> Truth {
    let spec = spec(column).unwrap_or_else(|error| panic!("{error}"));
    match spec.lines[0].columns[3].test.as_ref().expect("the column has a condition") {
        Test::Literal(value) => value.same_as(&Value::from(text)).into(),
        Test::Function(function) => function.of(text, Unit::of_fact("disk", "x", "size")),
    }
}

#[test]
fn functions_say_what_their_names_say() {
    use Truth::{No, NotApplicable, Yes};
    for (column, text, expected) in [
        ("gt(4)", "5", Yes),
        ("gt(4)", "4", No),
        ("ge(4)", "4", Yes),
        ("lt( 4 )", " 3 ", Yes),
        ("le(4)", "4.5", No),
        ("gt(4GB)", "5", Yes),
        ("gt(4TB)", "5", No),
        ("gt(4)", "1000GB", Yes),
        ("gt(4)", "N/A", NotApplicable),
        ("range(20, 25)", "25", Yes),
        ("range(20,25)", "26", No),
        ("range(20,25)", "", NotApplicable),
        ("in(10, 20, 30)", "20", Yes),
        ("in(20 , 10)", "20", Yes),
        ("in(10, 20 )", "20", Yes),
        ("in(\"A, B\", 'C)')", "A, B", Yes),
        ("in(\"A, B\", 'C)')", "C)", Yes),
        ("in(A (b), C)", "A (b)", Yes),
        ("in(\"\")", "", Yes),
        ("network(192.168.2.0/24)", "192.168.2.9", Yes),
        ("network(192.168.2.5/24)", "192.168.2.9", Yes),
        ("network(192.168.2.0/255.255.255.0)", "192.168.2.9", Yes),
        ("network(192.168.2.0/0.0.0.255)", "192.168.2.9", Yes),
        ("network(192.168.2.9)", "192.168.2.9", Yes),
        ("network(192.168.2.0/24)", "192.168.3.9", No),
        ("network(192.168.2.0/24, 192.168.3.0/24)", "192.168.3.9", Yes),
        ("network(2001:db8::1/32)", "2001:db8:1::2", Yes),
        ("network(2001:db8::/32)", "192.168.3.9", No),
        ("network(2001:db8::/ffff:ffff::)", "2001:db8:1::2", Yes),
        ("network(2001:db8::/0:0:ffff:ffff:ffff:ffff:ffff:ffff)", "2001:db8:1::2", Yes),
        ("network(2001:db8::/0:0:ffff:ffff:ffff:ffff:ffff:ffff)", "2001:db9::2", No),
        ("network(192.168.2.0/24)", "none", NotApplicable),
        ("regexp(^28:d2:)", "28:d2:44", Yes),
        ("regexp(d2:)", "28:d2:44", Yes),
        ("regexp((28|29):d2)", "29:d2:44", Yes),
        ("regexp(a{1,2}$)", "baa", Yes),
        ("regexp(\"^28\")", "28:d2", Yes),
        ("regexp([)(]x\\))", "(x)", Yes),
        ("regexp([]a])", "]", Yes),
        ("regexp([^]a])", "]a", No),
        ("regexp([])])", ")", Yes),
        ("regexp([^])]x)", "ax", Yes),
        ("and(regexp([ab]), not(b))", "a", Yes),
        ("and(regexp([ab]), not(b))", "b", No),
        ("regexp([^]a])", "]b", Yes),
        ("regexp([^)]\\))", "b)", Yes),
        ("regexp((a(b)c))", "abc", Yes),
        ("regexp(\"a\"b\")", "a\"b", Yes),
        ("not(gt(4))", "3", Yes),
        ("not(gt(4))", "N/A", NotApplicable),
        ("not(in(6,8))", "7", Yes),
        ("not(yes)", "no", Yes),
        ("or(yes, no)", "maybe", No),
        ("or(yes, no)", "no", Yes),
        ("or(in(1,2), gt(5))", "8", Yes),
        ("or(gt(5), in(N/A))", "N/A", Yes),
        ("or(gt(5), in(none))", "N/A", NotApplicable),
        ("and(gt(4), not(in(6,8)))", "7", Yes),
        ("and(gt(4), not(in(6,8)))", "8", No),
        ("and(gt(4), and(gt(5), gt(6)), lt(9))", "8", Yes),
        ("and(gt(4), in(x))", "N/A", No),
        ("and(regexp(a,b), not(regexp(\"c\\)\")))", "a,b", Yes),
    ] {
        assert_eq!(says(column, text), expected, "{column} of {text}");
    }
}

#[test]
fn why_a_function_does_not_apply_is_told() {
    let bytes = Unit::of_fact("memory", "total", "size");
    for (column, text, unit, expected) in [
        ("gt(4GB)", "5", bytes, None),
        ("gt(4GB)", "5", None, Some("`5` is not known to be in GB or the like")),
        ("range(4GB, 5GB)", "5", None, Some("`5` is not known to be in GB or the like")),
        ("gt(4GB)", "N/A", bytes, Some("`N/A` is not a number")),
        ("gt(4)", "N/A", None, Some("`N/A` is not a number")),
        ("not(network(10.0.0.0/8))", "none", None, Some("`none` is not an address")),
        ("and(in(a, b), gt(4))", "a", None, Some("`a` is not a number")),
        ("in(a)", "b", None, None),
    ] {
        let spec = spec(column).unwrap_or_else(|error| panic!("{error}"));
        let Some(Test::Function(function)) = &spec.lines[0].columns[3].test else {
            panic!("{column} is a function")
        };
        let why = function.why_not_applicable(text, unit);
        assert_eq!(why.as_deref(), expected, "{column} of {text}");
    }
}

#[test]
fn whatever_is_not_a_known_function_is_text() {
    for text in [
        "ProLiant DL360p Gen8 (654081-B21)",
        "edeploy_test_vm ()",
        "NIC (rev 2)",
        "",
        "8",
        "in",
        "in)",
        "SATA(5001B4D4188DF017)",
        "sata(5001) rev",
        "sata()",
        "gt",
        "a=b",
    ] {
        assert_eq!(says(text, text), Truth::Yes, "{text}");
        assert!(spec(text).unwrap().warnings.is_empty(), "{text}");
        assert_eq!(Column::literally(&Value::from(text)), Some(Value::from(text)));
    }
    for (text, warning) in [
        ("mac(aa:bb)", "`mac` is not a function"),
        ("foo(20)", "`foo` is not a function"),
        ("gt (4)", "no blank belongs before"),
        ("in(a) b", "because of the `b` at its end"),
    ] {
        assert_eq!(says(text, text), Truth::Yes, "{text}");
        let warnings = spec(text).unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].message.contains(warning), "{warnings:?}");
        // Behind a variable it is the condition that is marked.
        let warnings = spec(&format!("$long={text}")).unwrap().warnings;
        assert_eq!(warnings[0].span.end - warnings[0].span.start, text.len(), "{warnings:?}");
        assert_eq!(warnings[0].column, 25 + "$long=".len(), "{warnings:?}");
    }
    for text in ["$x", "gt(4)", "in(\"a", "$", "foo(20)", "regexp(("] {
        let Some(Value::Text(quoted)) = Column::literally(&Value::from(text)) else {
            panic!("{text} can be quoted")
        };
        assert_eq!(says(&quoted, text), Truth::Yes, "{quoted}");
    }
}

#[test]
fn variables_have_names_and_may_have_conditions() {
    for (column, name, cmdb, conditional) in [
        ("$disk", "disk", false, false),
        ("$$tag", "tag", true, false),
        ("$eth-pub1", "eth-pub1", false, false),
        ("$size=gt(20)", "size", false, true),
        ("$$mac=not(regexp(a=b))", "mac", true, true),
        ("$d=sda", "d", false, true),
    ] {
        let spec = spec(column).unwrap_or_else(|error| panic!("{error}"));
        let parsed = &spec.lines[0].columns[3];
        let variable = Some(Variable { name: name.to_owned(), cmdb });
        assert_eq!((&parsed.variable, parsed.test.is_some()), (&variable, conditional), "{column}");
    }
}

/// Once a key is always a key, wherever it is written so.
#[test]
fn variables_are_listed_once_in_their_order() {
    for (first, second) in [("$x", "$$x"), ("$$x", "$x"), ("$$x", "$$x")] {
        let text = format!("[('a', '$y', 'b', '{first}'), ('c', '{second}', 'd', '$y')]");
        let spec = Spec::parse("f", &text).unwrap();
        assert_eq!(spec.variables(), [("y", false), ("x", true)], "{text}");
        let line = format!("(\"c\", \"{second}\", \"d\", \"$y\")");
        assert_eq!(spec.lines[1].to_text(), line);
    }
}

#[test]
fn columns_that_say_nothing_are_errors_at_their_place() {
    // The column begins at 24, behind `[("disk", "x", "size", "`.
    for (column, at, part) in [
        ("$", 24, "needs a name"),
        ("$$", 24, "needs a name"),
        ("$=gt(4)", 24, "needs a name"),
        ("$$$x", 24, "needs a name"),
        ("$x=", 26, "should follow `=`"),
        ("gt()", 27, "argument of `gt` is missing"),
        ("gt(4, 5)", 24, "`gt` takes one number; this has 2"),
        ("gt(big)", 27, "`big` is not a number"),
        ("gt(0x10)", 27, "`0x10` is not a number"),
        ("$x=gt(4 parsecs)", 30, "not a number"),
        ("range(1)", 24, "`range` takes two numbers; this has 1"),
        ("network(10.0.0.0/33)", 32, "not a network"),
        ("network(10.0.0.0/)", 32, "not a network"),
        ("network(10.0.0.0/255.0.255.0)", 32, "not a network"),
        ("network(10.0.0.0/ffff::)", 32, "not a network"),
        ("network(2001:db8::/255.255.0.0)", 32, "not a network"),
        ("network(network/24)", 32, "not a network"),
        ("regexp(a(?=b))", 31, "look-around"),
        ("regexp(*)", 31, "repetition operator"),
        ("regexp([)", 31, "unclosed character class"),
        ("and(gt(20), lt(50)))", 43, "one `)` too many"),
        ("in(a) or in(b)", 29, "nothing may follow"),
        ("in(\"a\",\"b\"", 34, "`)` of `in(` is missing"),
        ("in(\"a)", 27, "closing \" is missing"),
        ("in(\"a\" b)", 31, "`,` or `)` should stand here"),
        ("not(gt(4), lt(2))", 24, "`not` takes one condition"),
        ("and(gt(4),)", 34, "argument of `and` is missing"),
    ] {
        let error = spec(column).expect_err(column);
        // A quote in the column is escaped in the file: then the whole column is the place.
        let at = if column.contains('"') { 23 } else { at };
        assert_eq!((error.code.as_ref(), error.column), ("spec-syntax", at + 1), "{error}");
        assert!(error.message.contains(part) || error.to_string().contains(part), "{error}");
    }
    let deep = format!("{}gt(4){}", "not(".repeat(10_000), ")".repeat(10_000));
    assert!(spec(&deep).expect_err("too deep").message.contains("nested more than 32"));
}

/// What is marked of a column, no more and no less.
#[test]
fn the_caret_marks_the_part_that_is_wrong() {
    for (column, marked) in [
        ("$", "$"),
        ("$=gt(4)", "$"),
        ("$$$x=1", "$$$x"),
        ("$x=", "="),
        ("gt(4, 5)", "gt(4, 5)"),
        ("and(lt(9), gt( 4 , 5 ))", "gt( 4 , 5 )"),
        ("gt(big)", "big"),
        ("$x=range( 1, high )", "high"),
        ("range(1)", "range(1)"),
        ("network(10.0.0.0/8, 10.0.0.0/33)", "10.0.0.0/33"),
        ("regexp(a(?=b))", "a(?=b)"),
        ("regexp( *x)", "*x"),
        ("and(gt(20), lt(50)))", ")"),
        ("in(a) or in(b)", " or in(b)"),
        ("in(\"a\" é)", "é"),
        ("in(\"a)", "\""),
        ("in('a', 'b)", "'"),
        ("gt(\"x\")", "x"),
        ("not(gt(4), lt(2))", "not(gt(4), lt(2))"),
        ("or(not(a, b), c)", "not(a, b)"),
        ("and(gt(4),)", ")"),
        ("and(gt(4), ", ""),
    ] {
        // In quotes that nothing in the column has, so that no escape shifts the place.
        let quotes = if column.contains('"') { "'" } else { "\"" };
        let other = if quotes == "'" { "'disk'" } else { "\"disk\"" };
        let text = format!("[({other}, {other}, {other}, {quotes}{column}{quotes})]");
        let error = Spec::parse("f", &text).expect_err(column);
        assert_eq!(&text[error.span.start..error.span.end], marked, "{error}");
    }
    let deep = format!("{}gt(4){}", "not(".repeat(33), ")".repeat(33));
    let error = spec(&deep).expect_err("too deep");
    assert_eq!(error.span.end - error.span.start, "gt".len(), "{error}");
}

#[test]
fn lists_of_another_shape_are_errors_at_their_place() {
    for (text, place, part) in [
        ("{}", (1, 1), "a list of lines, not a mapping"),
        ("[\n  'abc']", (2, 3), "not a text"),
        ("[('a', 'b', 'c')]", (1, 2), "this one has 3"),
        ("[('a', 'b', 'c', 'd', 'e')]", (1, 2), "this one has 5"),
        ("[('a', 'b', 'c', ['d'])]", (1, 18), "not a list"),
    ] {
        let error = Spec::parse("f", text).expect_err(text);
        assert_eq!(
            (error.code.as_ref(), error.line, error.column),
            ("spec-shape", place.0, place.1)
        );
        assert!(error.message.contains(part), "{error}");
    }
}
