//! Matching against brute force on small random lists, and planted instances that explode a
//! search without pruning. Work is limited in steps, so that a busy machine fails no test; a
//! million steps are some milliseconds. The limits lie a third or so above what is needed.

mod brute_force;

use brute_force::{by_brute_force, satisfies};
use proptest::prelude::*;
use specs::facts::{Fact, Facts};
use specs::lang::Spec;
use specs::literal::{Literal, Style};
use specs::matching::{Match, Matcher, NoMatch};
use specs::value::Value;

type Columns = [String; 4];

fn spec(lines: &[Columns]) -> Spec {
    let lines = lines.iter().map(|columns| {
        Literal::Tuple(columns.iter().map(|column| Literal::from(column.as_str())).collect())
    });
    let text = Literal::List(lines.collect()).to_file(Style::RON);
    Spec::parse("f.specs", &text).unwrap_or_else(|error| panic!("{error}"))
}

fn facts(rows: &[Columns]) -> Facts {
    let fact = |[a, b, c, d]: &Columns| Fact(a.clone(), b.clone(), c.clone(), d.as_str().into());
    Facts(rows.iter().map(fact).collect())
}

fn columns(a: &str, b: &str, c: &str, d: &str) -> Columns {
    [a, b, c, d].map(str::to_owned)
}

fn word() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c", "1", "2"]).prop_map(str::to_owned)
}

fn column() -> impl Strategy<Value = String> {
    let columns = vec![
        "a",
        "b",
        "1",
        "$x",
        "$y",
        "$z",
        "$$x",
        "$y=not(in(a))",
        "gt(1)",
        "not(gt(1))",
        "in(a, 1)",
        "$z=or(in(b), ge(2))",
        "regexp([ab1])",
        "and(in(a, b), not(b))",
    ];
    prop::sample::select(columns).prop_map(str::to_owned)
}

fn small_instance() -> impl Strategy<Value = (Vec<Columns>, Vec<Columns>)> {
    let line = (column(), column(), prop::sample::select(vec!["k", "$x", "$k"]), column())
        .prop_map(|(a, b, c, d)| [a, b, c.to_owned(), d]);
    let fact = (word(), word(), prop::sample::select(vec!["k", "a", "1"]), word())
        .prop_map(|(a, b, c, d)| [a, b, c.to_owned(), d]);
    (prop::collection::vec(line, 0..5), prop::collection::vec(fact, 1..7))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_answer_is_the_one_of_brute_force((lines, rows) in small_instance()) {
        let (spec, facts) = (spec(&lines), facts(&rows));
        let found = Matcher::new(&facts).find(&spec);
        prop_assert_ne!(&found, &Err(NoMatch::BudgetExhausted));
        prop_assert_eq!(found.ok().map(|found| found.lines), by_brute_force(&spec, &facts));
    }

    #[test]
    fn whether_there_is_a_match_does_not_depend_on_the_order(
        (lines, rows) in small_instance(), seed in 0..100_usize,
    ) {
        let (mut other_lines, mut other_rows) = (lines.clone(), rows.clone());
        other_rows.rotate_left(seed % rows.len());
        if !lines.is_empty() { other_lines.rotate_left(seed % lines.len()); }
        let one = Matcher::new(&facts(&rows)).find(&spec(&lines)).is_ok();
        prop_assert_eq!(one, Matcher::new(&facts(&other_rows)).find(&spec(&lines)).is_ok());
        prop_assert_eq!(one, Matcher::new(&facts(&rows)).find(&spec(&other_lines)).is_ok());
    }
}

#[track_caller]
fn planted(lines: &[Columns], rows: &[Columns], steps: u64) -> Option<Match> {
    let (spec, facts) = (spec(lines), facts(rows));
    match Matcher::new(&facts).find_within(&spec, steps) {
        Ok(found) => {
            assert!(satisfies(&spec, &facts, &found.lines));
            Some(found)
        }
        Err(NoMatch::Unsatisfied) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Disks and NICs in one order; lines that pair them off in the reverse one.
fn reversed(n: usize) -> (Vec<Columns>, Vec<Columns>) {
    let (mut lines, mut rows) = (Vec::new(), Vec::new());
    for i in 0..n {
        lines.push(columns("disk", &format!("$d{i}"), "size", "1000"));
        rows.push(columns("disk", &format!("sd{i}"), "size", "1000"));
    }
    for i in 0..n {
        lines.push(columns("network", &format!("$e{i}"), "link", "yes"));
        rows.push(columns("network", &format!("eth{i}"), "link", "yes"));
    }
    for i in 0..n {
        lines.push(columns("pair", &format!("$d{i}"), &format!("$e{i}"), &format!("$p{i}")));
        rows.push(columns("pair", &format!("sd{}", n - 1 - i), &format!("eth{i}"), "p"));
    }
    for i in 0..n {
        lines.push(columns("slot", &format!("$e{i}"), "number", &i.to_string()));
        rows.push(columns("slot", &format!("eth{i}"), "number", &i.to_string()));
    }
    (lines, rows)
}

#[test]
fn disks_and_nics_that_pair_off_only_in_reverse_order() {
    for n in 1..=12 {
        let (lines, mut rows) = reversed(n);
        let (cubic, square) = ((100 * n * n * n + 300) as u64, (5 * n * n + 10) as u64);
        let found = planted(&lines, &rows, cubic).expect("there is one assignment");
        assert_eq!(found.variables["d0"], Value::from(format!("sd{}", n - 1)));
        // The last pair is taken away, or made one that is there already.
        let mut without = rows.clone();
        without.remove(3 * n - 1);
        assert_eq!(planted(&lines, &without, square), None);
        rows[3 * n - 1] = columns("pair", "sd0", "eth0", "p");
        if n > 1 {
            assert_eq!(planted(&lines, &rows, square), None);
        }
    }
}

/// The third line moves the first to another disk, the fourth moves the third and the second: a
/// disk that was asked about for one line is asked about again for the next.
#[test]
fn lines_make_room_for_one_another_more_than_once() {
    let disk = |names: &str| columns("disk", names, "size", "1000");
    let lines = ["in(a, d)", "in(a, b, e)", "in(a, b)", "in(a, d)"].map(disk);
    let rows = ["a", "b", "d", "e"].map(disk);
    let found = planted(&lines, &rows, 200).expect("there is one assignment");
    assert_eq!(found.lines, [0, 3, 1, 2]);
}

#[test]
fn equal_lines_with_one_fact_too_few_are_refuted() {
    // Every disk has the size, one has no slot: no two lines are different, all are permuted.
    for n in 2..=12 {
        let (cubic, square) = ((25 * n * n * n + 300) as u64, (10 * n * n) as u64);
        let (mut lines, mut rows) = (Vec::new(), Vec::new());
        for i in 0..n {
            lines.push(columns("disk", &format!("$d{i}"), "size", "1000"));
            lines.push(columns("disk", &format!("$d{i}"), "slot", &format!("$s{i}")));
            rows.push(columns("disk", &format!("sd{i}"), "size", "1000"));
            // The first disk has two slots: counting facts is not enough.
            let holder = if i == n - 1 { 0 } else { i };
            rows.push(columns("disk", &format!("sd{holder}"), "slot", &i.to_string()));
        }
        assert_eq!(planted(&lines, &rows, square), None, "{n}");
        rows.push(columns("disk", &format!("sd{}", n - 1), "slot", "x"));
        assert!(planted(&lines, &rows, cubic).is_some(), "{n}");
    }
}

/// Six variables in a ring, 200 candidates for each line, joined in one way at the very end.
fn ring(closed: bool) -> (Vec<Columns>, Vec<Columns>) {
    let (mut lines, mut rows) = (Vec::new(), Vec::new());
    for i in 0..6 {
        let next = (i + 1) % 6;
        lines.push(columns(&format!("c{i}"), &format!("$v{i}"), "to", &format!("$v{next}")));
        for k in 0..199 {
            // Steps around the ring add up to a shift that is never zero.
            let shift = if i == 5 { 1 } else { 0 };
            let value = format!("n{}", (k * 7 + shift) % 199);
            rows.push(columns(&format!("c{i}"), &format!("n{}", (k * 7) % 199), "to", &value));
        }
        if closed || i != 3 {
            rows.push(columns(&format!("c{i}"), "last", "to", "last"));
        }
    }
    (lines, rows)
}

#[test]
fn six_variables_over_two_hundred_candidates() {
    let (lines, rows) = ring(true);
    let found = planted(&lines, &rows, 550_000).expect("the last of each closes the ring");
    assert!(found.variables.values().all(|value| *value == Value::from("last")));
    let (lines, rows) = ring(false);
    assert_eq!(planted(&lines, &rows, 280_000), None);
}

#[test]
fn six_disks_of_two_hundred_that_only_the_last_line_tells_apart() {
    let (mut lines, mut rows) = (Vec::new(), Vec::new());
    for i in 0..6 {
        lines.push(columns("disk", &format!("$d{i}"), "size", "$size"));
        lines.push(columns("disk", &format!("$d{i}"), "slot", &format!("$s{i}=gt({i})")));
    }
    for k in 0..200 {
        // Sizes come in groups of five, and one of six at the end.
        let size = if k >= 194 { 999 } else { k / 5 };
        rows.push(columns("disk", &format!("d{k}"), "size", &size.to_string()));
        rows.push(columns("disk", &format!("d{k}"), "slot", "9"));
    }
    let found = planted(&lines, &rows, 1_300_000).expect("the last group has six");
    assert_eq!(found.variables["size"], Value::from("999"));
    assert_eq!(found.variables["d0"], Value::from("d194"));
    rows.truncate(rows.len() - 2);
    assert_eq!(planted(&lines, &rows, 650_000), None);
}

#[test]
fn a_group_that_cannot_match_is_not_tried_once_for_each_match_of_the_others() {
    // Three free variables beside an odd ring that two values cannot colour.
    let (mut lines, mut rows) = (Vec::new(), Vec::new());
    for i in 0..3 {
        lines.push(columns("disk", &format!("$d{i}"), "size", "gt(1)"));
    }
    for i in 0..7 {
        lines.push(columns(
            &format!("r{i}"),
            &format!("$v{i}"),
            "k",
            &format!("$v{}", (i + 1) % 7),
        ));
        rows.push(columns(&format!("r{i}"), "0", "k", "1"));
        rows.push(columns(&format!("r{i}"), "1", "k", "0"));
    }
    for k in 0..300 {
        rows.push(columns("disk", &format!("d{k}"), "size", "5"));
    }
    assert_eq!(planted(&lines, &rows, 1_500), None);
    // Twelve pairs that can be had either way beside four that three colours cannot tell apart:
    // the pairs have fewer candidates and are decided first, in 4096 ways.
    let (mut lines, mut rows) = (Vec::new(), Vec::new());
    for i in 0..12 {
        for key in ["one", "other"] {
            lines.push(columns(&format!("p{i}"), &format!("$p{i}"), key, "1"));
            rows.push(columns(&format!("p{i}"), "left", key, "1"));
            rows.push(columns(&format!("p{i}"), "right", key, "1"));
        }
    }
    for (one, other) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
        let edge = format!("e{one}{other}");
        lines.push(columns(&edge, &format!("$c{one}"), "k", &format!("$c{other}")));
        for (a, b) in [("r", "g"), ("r", "b"), ("g", "r"), ("g", "b"), ("b", "r"), ("b", "g")] {
            rows.push(columns(&edge, a, "k", b));
        }
    }
    assert_eq!(planted(&lines, &rows, 1_600), None);
}
