//! The matcher, against a search that tries everything.

#[path = "../../../specs/tests/matching/brute_force.rs"]
mod brute_force;

use brute_force::by_brute_force;
use specs::explain::{Mend, explain, mend};
use specs::facts::{Fact, Facts};
use specs::lang::Spec;
use specs::literal::{Literal, Style};
use specs::matching::{Matcher, NoMatch, Prepared};

const COLUMNS: [&str; 20] = [
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
    "range(1, 2)",
    "network(10.0.0.0/8)",
    "and(lt(3GB), le(2))",
    "$$x=not(network(10.0.0.0/9))",
];

const WORDS: [&str; 9] = ["a", "b", "c", "k", "1", "2", "3", "N/A", "10.0.0.1"];

/// On small lists the matcher finds what trying everything finds, and nothing else; what does not
/// match is explained, and matches once it is mended as proposed.
pub fn matcher(bytes: &[u8]) {
    let Some((&shape, bytes)) = bytes.split_first() else { return };
    let (lines, rows) = (usize::from(shape & 3) + 1, usize::from(shape >> 2 & 3) + 2);
    let mut bytes = bytes.iter().map(|byte| usize::from(*byte)).chain(std::iter::repeat(0));
    let mut pick = |from: &[&'static str]| from[bytes.next().unwrap_or(0) % from.len()];
    let line = |columns: [&str; 4]| Literal::Tuple(columns.map(Literal::from).to_vec());
    let mut lines: Vec<Literal> =
        (0..lines).map(|_| line(std::array::from_fn(|_| pick(&COLUMNS)))).collect();
    let facts: Vec<Fact> = (0..rows)
        .map(|_| {
            let [class, name, key] = std::array::from_fn(|_| pick(&WORDS).to_owned());
            Fact(class, name, key, pick(&WORDS).into())
        })
        .collect();
    let facts = Facts(facts);
    let spec_of = |lines: &[Literal]| {
        let text = Literal::List(lines.to_vec()).to_file(Style::RON);
        match Spec::parse("f", &text) {
            Ok(spec) => spec,
            Err(finding) => panic!("{finding}"),
        }
    };
    let spec = spec_of(&lines);
    let found = Matcher::new(&facts).find(&spec);
    assert_ne!(found, Err(NoMatch::BudgetExhausted));
    let fits = found.is_ok();
    let found = found.ok().map(|found| found.lines);
    assert_eq!(found, by_brute_force(&spec, &facts), "{lines:?} {facts:?}");

    let prepared = Prepared::new(facts.clone());
    let matcher = prepared.matcher();
    let (Ok(why), Ok(mend)) = (explain(&matcher, &spec), mend(&matcher, &spec)) else {
        panic!("no explanation of {lines:?} against {facts:?}");
    };
    assert_eq!((why.is_none(), mend.is_none()), (fits, fits));
    if let Some(why) = why {
        assert!(Matcher::new(&facts).find(&spec_of(&lines[..why.line])).is_ok(), "{why:?}");
        assert!(Matcher::new(&facts).find(&spec_of(&lines[..=why.line])).is_err(), "{why:?}");
        readable(&why.sentence(&matcher, &spec));
        readable(&why.in_short(&matcher));
    }
    mend.iter().for_each(|mend| readable(&mend.sentence(&spec)));
    match mend {
        None => {}
        Some(Mend::Line { line: at, with, or_fact, .. }) => {
            lines[at] = Literal::Tuple(with.into_iter().map(Literal::Value).collect());
            assert!(Matcher::new(&facts).find(&spec_of(&lines)).is_ok(), "{lines:?} {facts:?}");
            if let Some(change) = or_fact {
                let mut facts = facts;
                facts.0[change.fact] = change.with;
                assert!(Matcher::new(&facts).find(&spec).is_ok(), "{spec:?} {facts:?}");
            }
        }
        Some(Mend::Missing { lines: missing, .. }) => {
            missing.iter().rev().for_each(|line| drop(lines.remove(*line)));
            assert!(Matcher::new(&facts).find(&spec_of(&lines)).is_ok(), "{lines:?} {facts:?}");
        }
    }
}

/// A sentence for people: lines that a terminal shows whole.
fn readable(sentence: &str) {
    assert!(!sentence.is_empty());
    assert!(sentence.lines().all(|line| line.chars().count() <= 100), "{sentence}");
}
