//! The language on more lists, and on more broken inputs, than a quick run has time for.

#[path = "../../specs/tests/stress/hard_lists.rs"]
mod hard_lists;

use std::path::PathBuf;

use hard_lists::{Effort, all_machines, specs, variations};
use lab::artifacts::checkout;
use lab::props;
use specs::matching::Matcher;

/// A hundredth of what `match` may spend.
const BUDGET: u64 = 1_000_000;

fn corpus() -> PathBuf {
    checkout().join("tests/fixtures/corpus")
}

#[test]
fn every_list_made_from_the_corpus_is_decided_on_every_machine() {
    let mut effort = Effort::default();
    let specs = specs(&corpus());
    for (name, facts) in all_machines(&corpus()) {
        let matcher = Matcher::new(&facts);
        for hard in specs.iter().flat_map(|hard| variations(hard, &facts)) {
            effort.decide(&hard, &name, &matcher, BUDGET);
        }
    }
    println!("{}", effort.told());
}

/// Made harder twice: a sample of the some millions that there are.
#[test]
fn lists_made_harder_twice_are_decided() {
    let mut effort = Effort::default();
    let specs = specs(&corpus());
    for (number, (name, facts)) in all_machines(&corpus()).into_iter().enumerate() {
        let matcher = Matcher::new(&facts);
        let once = specs.iter().flat_map(|hard| variations(hard, &facts));
        for hard in once.skip(number % 97).step_by(97) {
            for harder in variations(&hard, &facts) {
                effort.decide(&harder, &name, &matcher, BUDGET);
            }
        }
    }
    println!("{}", effort.told());
}

/// Inputs of the fuzzers' corpora, each broken in ways that follow from its number alone.
#[test]
fn properties_hold_on_inputs_that_were_broken_at_random() {
    const ROUNDS: u64 = 2_000;
    let root = checkout().join("tests/fuzz/corpus");
    for (name, property) in props::ALL {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(root.join(name)).unwrap().map(|it| it.unwrap().path()).collect();
        paths.sort();
        let inputs: Vec<Vec<u8>> = paths.iter().map(|it| std::fs::read(it).unwrap()).collect();
        for _ in 0..ROUNDS {
            let mut bytes = inputs[random.below(inputs.len())].clone();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len() + 1);
                let end = (at + random.below(8)).min(bytes.len());
                let other = &inputs[random.below(inputs.len())];
                let from = random.below(other.len() + 1);
                let piece = other[from..(from + random.below(12)).min(other.len())].to_vec();
                bytes.splice(at..end, piece);
            }
            property(&bytes);
        }
        println!("{name}: {ROUNDS} inputs");
    }
}

/// Numbers that look random and are the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).unwrap_or_default()
    }
}
