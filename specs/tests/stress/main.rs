//! No list of real data, nor one made from it, runs into the budget.
#![expect(clippy::disallowed_methods, reason = "tests read their fixtures")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod hard_lists;

use std::path::{Path, PathBuf};

use hard_lists::{Effort, all_machines, specs, variations};
use specs::matching::Matcher;

/// A hundredth of what `match` may spend: some milliseconds.
const BUDGET: u64 = 1_000_000;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/corpus")
}

/// Also those on which the original ran into its time limit, which nobody recorded an answer for.
#[test]
fn every_spec_of_the_corpus_is_decided_on_every_machine() {
    let mut effort = Effort::default();
    for (name, facts) in all_machines(&corpus()) {
        let matcher = Matcher::new(&facts);
        for hard in specs(&corpus()) {
            effort.decide(&hard, &name, &matcher, BUDGET / 10);
        }
    }
    assert_eq!(effort.lists, 13 * 3 * 51);
    println!("{}", effort.told());
}

/// A sample of them; `scripts/test --all language` takes all, and harder ones.
#[test]
fn lists_made_from_those_of_the_corpus_are_decided() {
    let mut effort = Effort::default();
    let specs = specs(&corpus());
    for (name, facts) in all_machines(&corpus()).into_iter().step_by(13) {
        let matcher = Matcher::new(&facts);
        for hard in specs.iter().flat_map(|hard| variations(hard, &facts)) {
            effort.decide(&hard, &name, &matcher, BUDGET);
        }
    }
    assert!(effort.lists > 5_000, "{}", effort.lists);
    println!("{}", effort.told());
}
