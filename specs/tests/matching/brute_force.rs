//! What a spec means, written down as plainly as can be: every assignment of facts to lines in
//! list order, each held against the definition. The matcher is compared with it here, and by the
//! fuzz target of the laboratory.

use std::collections::BTreeMap;

use specs::facts::Facts;
use specs::lang::{Spec, Test, Truth, Unit};

/// The first assignment in list order, by trying all.
pub(crate) fn by_brute_force(spec: &Spec, facts: &Facts) -> Option<Vec<usize>> {
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
pub(crate) fn satisfies(spec: &Spec, facts: &Facts, lines: &[usize]) -> bool {
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
