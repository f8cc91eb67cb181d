//! The matcher, against a search that tries everything.

use std::collections::BTreeMap;

use specs::facts::{Fact, Facts};
use specs::lang::{Spec, Test, Truth, Unit};
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

/// The first assignment in list order, by trying all.
fn by_brute_force(spec: &Spec, facts: &Facts) -> Option<Vec<usize>> {
    let count = facts.0.len();
    let mut lines = vec![0; spec.lines.len()];
    'assignments: loop {
        if satisfies(spec, facts, &lines) {
            return Some(lines);
        }
        // The next number in base `count`, its last digit being the last line.
        for digit in lines.iter_mut().rev() {
            *digit = (*digit + 1) % count;
            if *digit != 0 {
                continue 'assignments;
            }
        }
        return None;
    }
}

/// Whether this assignment satisfies the spec, from the definition.
fn satisfies(spec: &Spec, facts: &Facts, lines: &[usize]) -> bool {
    let mut bound = BTreeMap::new();
    let distinct = (0..lines.len()).all(|line| !lines[..line].contains(&lines[line]));
    distinct
        && spec.lines.iter().zip(lines).all(|(line, &fact)| {
            let fact = &facts.0[fact];
            let texts = [fact.0.clone(), fact.1.clone(), fact.2.clone(), fact.3.as_text()];
            line.columns.iter().zip(&texts).enumerate().all(|(at, (column, text))| {
                let unit = Unit::of_fact(&texts[0], &texts[1], &texts[2]).filter(|_| at == 3);
                let holds = match &column.test {
                    None => true,
                    Some(Test::Literal(value)) => value.as_text() == *text,
                    Some(Test::Function(function)) => function.of(text, unit) == Truth::Yes,
                };
                let same = column.variable.as_ref().is_none_or(|variable| {
                    bound.entry(variable.name.clone()).or_insert_with(|| text.clone()) == text
                });
                holds && same
            })
        })
}
