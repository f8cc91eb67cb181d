//! The matcher, against a search that tries everything.

#[path = "../../../specs/tests/matching/brute_force.rs"]
mod brute_force;

use brute_force::by_brute_force;
use specs::facts::{Fact, Facts};
use specs::lang::Spec;
use specs::literal::{Literal, Style};
use specs::matching::{NoMatch, find};

const COLUMNS: [&str; 16] = [
    "a",
    "b",
    "1",
    "2",
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
    "k",
];

const WORDS: [&str; 8] = ["a", "b", "c", "k", "1", "2", "3", "N/A"];

/// On small lists the matcher finds what trying everything finds, and nothing else.
pub fn matcher(bytes: &[u8]) {
    let Some((&shape, bytes)) = bytes.split_first() else { return };
    let (lines, rows) = (usize::from(shape & 3) + 1, usize::from(shape >> 2 & 3) + 2);
    let mut bytes = bytes.iter().map(|byte| usize::from(*byte)).chain(std::iter::repeat(0));
    let mut pick = |from: &[&'static str]| from[bytes.next().unwrap_or(0) % from.len()];
    let line = |columns: [&str; 4]| Literal::Tuple(columns.map(Literal::from).to_vec());
    let lines: Vec<Literal> =
        (0..lines).map(|_| line(std::array::from_fn(|_| pick(&COLUMNS)))).collect();
    let facts: Vec<Fact> = (0..rows)
        .map(|_| {
            let [class, name, key] = std::array::from_fn(|_| pick(&WORDS).to_owned());
            Fact(class, name, key, pick(&WORDS).into())
        })
        .collect();
    let facts = Facts(facts);
    let text = Literal::List(lines).to_file(Style::RON);
    let spec = Spec::parse("f", &text);
    let Ok(spec) = spec else { panic!("{text}") };
    let found = find(&spec, &facts);
    assert_ne!(found, Err(NoMatch::BudgetExhausted));
    assert_eq!(found.ok().map(|found| found.lines), by_brute_force(&spec, &facts), "{text}");
}
