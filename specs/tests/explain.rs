//! Explanations and mends: applied mechanically they work, and nothing smaller does.
#![expect(clippy::disallowed_methods, reason = "tests read their fixtures")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use specs::explain::{FactChange, Mend, explain, mend};
use specs::facts::{Fact, Facts};
use specs::lang::Spec;
use specs::literal::{Literal, Style};
use specs::matching::Matcher;
use specs::value::Value;

fn spec_of(lines: &[[Value; 4]]) -> Spec {
    let lines =
        lines.iter().map(|line| Literal::Tuple(line.iter().cloned().map(Literal::Value).collect()));
    let text = Literal::List(lines.collect()).to_file(Style::RON);
    Spec::parse("f.specs", &text).unwrap_or_else(|error| panic!("{error}"))
}

fn lines_of(spec: &Spec) -> Vec<[Value; 4]> {
    spec.lines.iter().map(|line| line.columns.clone().map(|column| column.source)).collect()
}

/// Applies a mend in every way it offers; each time the spec must fit.
fn apply(mend: &Mend, spec: &Spec, facts: &Facts) {
    match mend {
        Mend::Line { line, with, or_fact, columns, .. } => {
            let mut lines = lines_of(spec);
            let changed = lines[*line].iter().zip(with).filter(|(a, b)| a != b).count();
            assert!(changed <= *columns, "{changed} columns change, not {columns}");
            lines[*line] = with.clone();
            assert!(Matcher::new(facts).find(&spec_of(&lines)).is_ok(), "{mend:?}");
            if let Some(change) = or_fact {
                let FactChange { fact, with } = &**change;
                let mut facts = facts.clone();
                facts.0[*fact] = with.clone();
                assert!(Matcher::new(&facts).find(spec).is_ok(), "{mend:?}");
            }
        }
        Mend::Missing { lines: missing, count } => {
            assert_eq!(missing.len(), *count);
            let mut lines = lines_of(spec);
            for &line in missing.iter().rev() {
                lines.remove(line);
            }
            assert!(Matcher::new(facts).find(&spec_of(&lines)).is_ok(), "{mend:?}");
        }
    }
}

#[track_caller]
fn check(spec: &str, facts: &str, expected: Expect) {
    let spec = Spec::parse("vm.specs", spec).unwrap();
    let facts = Facts::parse("vm.hw", facts.as_bytes()).unwrap();
    let matcher = Matcher::new(&facts);
    let mismatch = explain(&matcher, &spec).unwrap().expect("the spec does not fit");
    let mend = mend(&matcher, &spec).unwrap().expect("the spec does not fit");
    apply(&mend, &spec, &facts);
    let sentence = mismatch.sentence(&matcher, &spec);
    assert!(sentence.lines().all(|line| line.chars().count() <= 100), "{sentence}");
    expected.assert_eq(&format!("{sentence}\n{}\n", mend.sentence(&spec)));
}

const TWO_DISKS: &str = "[('disk', 'sda', 'size', '80'), ('disk', 'sdb', 'size', 'N/A'),
    ('network', 'eth0', 'ipv4', '10.0.0.1'), ('network', 'eth1', 'serial', 'aa:bb')]";

#[test]
fn the_line_that_failed_and_the_nearest_fact_are_told() {
    check(
        "[('disk', '$d', 'size', '$s=gt(100)')]",
        TWO_DISKS,
        expect![[r#"
            line 1, ("disk", "$d", "size", "$s=gt(100)"): nearest is ("disk", "sda", "size", "80"), whose value
            is not gt(100)
            it would fit with line 1 ("disk", "$d", "size", "$s=ge(80)"), or if fact 1 were ("disk", "sda",
            "size", "101")
        "#]],
    );
    check(
        "[('disk', 'sdb', 'size', 'gt(100)')]",
        TWO_DISKS,
        expect![[r#"
        line 1, ("disk", "sdb", "size", "gt(100)"): nearest is ("disk", "sdb", "size", "N/A"), where gt(100)
        does not apply: `N/A` is not a number
        it would fit with line 1 ("disk", "sdb", "size", "N/A"), or if fact 2 were ("disk", "sdb", "size",
        "101")
    "#]],
    );
    check(
        "[('network', '$e', 'ipv4', 'network(10.0.0.0/8)'),\n ('network', '$e', 'serial', '$mac')]",
        TWO_DISKS,
        expect![[r#"
            line 2, ("network", "$e", "serial", "$mac"): nearest is ("network", "eth1", "serial", "aa:bb"),
            whose name is not $e = eth0
            it would fit with line 2 ("network", "eth1", "serial", "$mac"), or if fact 4 were ("network",
            "eth0", "serial", "aa:bb")
        "#]],
    );
    check(
        "[('disk', '$d', 'size', 'gt(4)'),\n ('disk', '$d', 'size', 'lt(100)')]",
        TWO_DISKS,
        expect![[r#"
            line 2, ("disk", "$d", "size", "lt(100)"): only ("disk", "sda", "size", "80") fits it, and line 1
            takes that
            it would fit with line 2 ("disk", "sdb", "size", "N/A"), or if fact 2 were ("disk", "sda", "size",
            "99")
        "#]],
    );
    check(
        "[('network', '$e', '$e', '10.0.0.1')]",
        TWO_DISKS,
        expect![[r#"
        line 1, ("network", "$e", "$e", "10.0.0.1"): nearest is ("network", "eth0", "ipv4", "10.0.0.1"),
        whose key is not $e = eth0
        it would fit with line 1 ("network", "eth0", "$e", "10.0.0.1")
    "#]],
    );
    let spec = "[('disk', '$d', 'size', '80'), ('disk', '$d', 'serial', '$$s')]";
    let spec = Spec::parse("f", spec).unwrap();
    let facts = Facts::parse("f", TWO_DISKS.as_bytes()).unwrap();
    let mismatch = explain(&Matcher::new(&facts), &spec).unwrap().unwrap();
    let bound = mismatch.bound.into_iter().collect::<Vec<_>>();
    assert_eq!(bound, [("d".to_owned(), Value::from("sda"))]);
    // Two columns, and the variable that only stands in the way with its condition stays.
    check(
        "[('disk', '$d', 'size', '$s=gt(100)'),\n ('disk', '$d', 'size', 'N/A')]",
        TWO_DISKS,
        expect![[r#"
            line 1, ("disk", "$d", "size", "$s=gt(100)"): nearest is ("disk", "sda", "size", "80"), whose value
            is not gt(100)
            it would fit with line 1 ("disk", "sda", "size", "$s=ge(80)"), or if fact 1 were ("disk", "sdb",
            "size", "101")
        "#]],
    );
    check(
        "[('gpu', '$g', 'memory', 'gt(4)'), ('fan', '$f', 'speed', '$s'), ('disk', '$d', 'size', '80')]",
        TWO_DISKS,
        expect![[r#"
            line 1, ("gpu", "$g", "memory", "gt(4)"): nearest is ("disk", "sda", "size", "80"), whose class is
            not gpu
            it would fit if there were facts for 2 more lines: 1, 1
        "#]],
    );
    check(
        "[('a', 'b', 'c', 'd'),\n ('e', 'f', 'g', 'h'),\n ('i', 'j', 'k', 'l'),\n\n ('m', 'n', 'o', 'p')]",
        "[]",
        expect![[r#"
            line 1, ("a", "b", "c", "d"): the machine reported no facts at all
            it would fit if there were facts for 4 more lines: 1 to 3, 5
        "#]],
    );
    check(
        "[('disk', '$d', 'size', '80'),\n ('gpu', 'a', 'b', 'c'),\n ('gpu', 'd', 'e', 'f')]",
        TWO_DISKS,
        expect![[r#"
            line 2, ("gpu", "a", "b", "c"): nearest is ("disk", "sda", "size", "80"), whose class is not gpu
            it would fit if there were facts for 2 more lines: 2, 3
        "#]],
    );
    check(
        "[('disk', '$d', 'size', 'gt(4)')]",
        "[]",
        expect![[r#"
        line 1, ("disk", "$d", "size", "gt(4)"): the machine reported no facts at all
        it would fit if there were a fact for line 1
    "#]],
    );
}

#[test]
fn the_fewest_lines_are_in_the_way_and_the_later_ones_of_as_many() {
    // In each class, the first line is at odds with all behind it.
    for (keys, expected) in [(&["k", "l", "m"][..], [0, 3]), (&["k", "l"], [1, 3])] {
        let (mut lines, mut facts) = (Vec::new(), Vec::new());
        for class in ["a", "b"] {
            for key in keys {
                lines.push([class, &format!("${class}"), key, "1"].map(Value::from));
                let name = if *key == "k" { "1" } else { "2" };
                facts.push(Fact(class.into(), name.into(), (*key).into(), "1".into()));
            }
        }
        let facts = Facts(facts);
        let mend = mend(&Matcher::new(&facts), &spec_of(&lines)).unwrap();
        assert_eq!(mend, Some(Mend::Missing { count: 2, lines: expected.into() }), "{keys:?}");
    }
}

/// People change values before names, and the class last.
#[test]
fn the_column_that_people_change_first_is_changed() {
    let spec = Spec::parse("f", "[('a', 'b', 'c', 'd')]").unwrap();
    let mut facts = vec![
        Fact("x".into(), "b".into(), "c".into(), "d".into()),
        Fact("a".into(), "b".into(), "x".into(), "d".into()),
        Fact("a".into(), "x".into(), "c".into(), "d".into()),
        Fact("a".into(), "b".into(), "c".into(), "x".into()),
    ];
    for column in [3, 1, 2, 0] {
        let mend = mend(&Matcher::new(&Facts(facts.clone())), &spec).unwrap().unwrap();
        let Mend::Line { columns, with, .. } = mend else { panic!("one line is enough") };
        assert_eq!((columns, with[column].as_text().as_str()), (1, "x"));
        facts.pop();
    }
}

/// Of several facts it is the one with the nearest number, from below or above.
#[test]
fn the_nearest_number_is_told_first() {
    for (condition, nearest) in
        [("gt(100)", "80"), ("lt(5)", "10"), ("range(12, 13)", "10"), ("and(gt(9000))", "10")]
    {
        let spec = Spec::parse("f", &format!("[('disk', '$d', 'size', '{condition}')]")).unwrap();
        let facts = "[('disk', 'a', 'size', 10), ('disk', 'b', 'size', 80), \
                     ('disk', 'c', 'size', 'N/A'), ('disk', 'd', 'size', 50)]";
        let facts = Facts::parse("f", facts.as_bytes()).unwrap();
        let mismatch = explain(&Matcher::new(&facts), &spec).unwrap().unwrap();
        assert_eq!(mismatch.nearest[0].actual.as_text(), nearest, "{condition}");
    }
}

#[test]
fn a_mend_names_the_fact_of_a_secret_and_never_the_secret() {
    let facts = "[('ipmi', 'lan1', 'password', 's3cret'), ('ipmi', 'lan1', 'note', 's3cret')]";
    let facts = Facts::parse("f", facts.as_bytes()).unwrap();
    for (line, expected) in [
        ("('ipmi', 'lan', 'password', '$p')", ["ipmi", "lan1", "password", "$p"]),
        ("('ipmi', 'lan1', 'password', 'x')", ["ipmi", "lan1", "password", "regexp()"]),
        // The same text under another key.
        ("('ipmi', 'lan1', 'note', 'x')", ["ipmi", "lan1", "note", "regexp()"]),
    ] {
        let spec = Spec::parse("f", &format!("[{line}]")).unwrap();
        let mend = mend(&Matcher::new(&facts), &spec).unwrap();
        let Some(Mend::Line { with, .. }) = mend else { panic!("{line}: {mend:?}") };
        assert_eq!(with, expected.map(Value::from), "{line}");
    }
}

/// Facts that hold in as many columns are told apart by how far they are from what failed.
#[test]
fn the_nearest_name_is_told_first_whatever_came_before() {
    let spec = Spec::parse("f", "[('slot', 'gt(10)', 'size', '5')]").unwrap();
    let fact = |name: &str| Fact("slot".into(), name.into(), "size".into(), Value::Integer(5));
    let facts = Facts(["1", "2", "3", "9"].map(fact).into());
    let mismatch = explain(&Matcher::new(&facts), &spec).unwrap().unwrap();
    let told: Vec<usize> = mismatch.nearest.iter().map(|nearest| nearest.fact).collect();
    assert_eq!(told, [3, 2, 1]);
}

#[test]
fn sentences_stay_within_their_lines_and_show_no_control_characters() {
    let long = "x".repeat(500);
    let spec = Spec::parse("f", &format!("[(\"a\", \"b\", \"c\", \"{long}\")]")).unwrap();
    let facts = Facts(vec![Fact("a".into(), "\u{1b}[2J".into(), "c".into(), long[1..].into())]);
    let matcher = Matcher::new(&facts);
    let sentence = explain(&matcher, &spec).unwrap().unwrap().sentence(&matcher, &spec);
    assert!(sentence.lines().all(|line| line.chars().count() <= 100), "{sentence}");
    assert!(!sentence.contains('\u{1b}'), "{sentence}");
}

/// Every spec of the corpus against every machine it does not fit.
#[test]
fn every_mend_of_the_corpus_works() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/corpus");
    let read = |path: &str| std::fs::read(corpus.join(path)).unwrap();
    let matrix: serde_json::Value = serde_json::from_slice(&read("expected-matrix.json")).unwrap();
    let pairs = matrix["pairs"].as_object().unwrap();
    let specs: Vec<Spec> = pairs
        .keys()
        .filter_map(|path| Spec::parse(path, std::str::from_utf8(&read(path)).unwrap()).ok())
        .collect();
    let mut mended = 0;
    for path in pairs.values().next().unwrap().as_object().unwrap().keys() {
        let facts = Facts::parse(path, &read(path)).unwrap();
        let matcher = Matcher::new(&facts);
        for spec in &specs {
            let Some(mend) = mend(&matcher, spec).unwrap() else { continue };
            apply(&mend, spec, &facts);
            let mismatch =
                explain(&matcher, spec).unwrap().expect("what can be mended does not fit");
            let sentence = mismatch.sentence(&matcher, spec);
            assert!(sentence.lines().all(|line| line.chars().count() <= 100), "{sentence}");
            mended += 1;
        }
    }
    assert_eq!(mended, 548);
}

const WORDS: [&str; 4] = ["a", "b", "1", "2"];

fn small_instance() -> impl Strategy<Value = (Vec<[Value; 4]>, Facts)> {
    let columns = vec!["a", "b", "1", "$x", "$y", "gt(1)", "$y=in(a, 2)", "not(b)"];
    let column = || prop::sample::select(columns.clone()).prop_map(Value::from);
    let word = || prop::sample::select(WORDS.to_vec());
    let line = (column(), column(), column()).prop_map(|(a, b, d)| [a, b, Value::from("k"), d]);
    let fact = (word(), word(), word())
        .prop_map(|(a, b, d)| Fact(a.to_owned(), b.to_owned(), "k".to_owned(), d.into()));
    (prop::collection::vec(line, 1..4), prop::collection::vec(fact, 1..5).prop_map(Facts))
}

/// All ways to put words into at most `count` of the columns.
fn variants(columns: &[Value; 4], count: usize) -> Vec<[Value; 4]> {
    let mut variants = vec![columns.clone()];
    for _ in 0..count {
        let mut more = Vec::new();
        for variant in &variants {
            for at in 0..4 {
                for word in WORDS.into_iter().chain(["k"]) {
                    let mut changed = variant.clone();
                    changed[at] = Value::from(word);
                    more.push(changed);
                }
            }
        }
        variants.extend(more);
    }
    variants
}

/// Whether replacing at most `count` columns of one line or one fact makes the spec fit.
fn mended_by(lines: &[[Value; 4]], facts: &Facts, count: usize) -> bool {
    let line_does = (0..lines.len()).any(|at| {
        variants(&lines[at], count).into_iter().any(|line| {
            let mut lines = lines.to_vec();
            lines[at] = line;
            Matcher::new(facts).find(&spec_of(&lines)).is_ok()
        })
    });
    let spec = spec_of(lines);
    line_does
        || (0..facts.0.len()).any(|at| {
            let Fact(a, b, c, d) = facts.0[at].clone();
            let columns = [a.into(), b.into(), c.into(), d];
            variants(&columns, count).into_iter().any(|[a, b, c, d]| {
                let mut facts = facts.clone();
                facts.0[at] = Fact(a.as_text(), b.as_text(), c.as_text(), d);
                Matcher::new(&facts).find(&spec).is_ok()
            })
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_smaller_mend_exists((lines, facts) in small_instance()) {
        let spec = spec_of(&lines);
        let matcher = Matcher::new(&facts);
        let mismatch = explain(&matcher, &spec).unwrap();
        let Some(mend) = mend(&matcher, &spec).unwrap() else {
            prop_assert!(mismatch.is_none() && Matcher::new(&facts).find(&spec).is_ok());
            return Ok(());
        };
        apply(&mend, &spec, &facts);
        match mend {
            Mend::Line { columns, .. } => prop_assert!(!mended_by(&lines, &facts, columns - 1)),
            Mend::Missing { count, .. } => {
                // No subset with one line more fits.
                for kept in 0..1_usize << lines.len() {
                    if kept.count_ones() as usize > lines.len() - count {
                        let lines: Vec<_> = (0..lines.len())
                            .filter(|line| kept & (1 << line) != 0)
                            .map(|line| lines[line].clone())
                            .collect();
                        prop_assert!(Matcher::new(&facts).find(&spec_of(&lines)).is_err());
                    }
                }
            }
        }
        // The line told is the first that cannot be satisfied with those before it.
        let line = mismatch.unwrap().line;
        prop_assert!(Matcher::new(&facts).find(&spec_of(&lines[..line])).is_ok());
        prop_assert!(Matcher::new(&facts).find(&spec_of(&lines[..=line])).is_err());
    }
}
