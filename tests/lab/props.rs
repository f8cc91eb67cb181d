//! What holds for any input of the readers and the matcher, however broken: the bodies of the
//! fuzz targets, and of the test that replays their corpora.
//!
//! A property panics when it does not hold. None of them does I/O.

use std::collections::BTreeMap;

use specs::cmdb::Cmdb;
use specs::configure::Configure;
use specs::facts::{Fact, Facts};
use specs::lang::{Spec, Test, Truth, Unit};
use specs::literal::{Document, Literal, Style};
use specs::machine::{Identity, system_name};
use specs::matching::{NoMatch, find};
use specs::secret::redacted_facts;
use specs::state::State;

/// A property by its name, which is that of its folder of inputs.
pub type Property = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: [Property; 7] = [
    ("literal", literal),
    ("spec", spec),
    ("facts", facts),
    ("state", state),
    ("cmdb", cmdb),
    ("configure", configure),
    ("matcher", matcher),
];

/// A document is edited back to its text, and printed and read again in every style.
pub fn literal(bytes: &[u8]) {
    let Ok(document) = Document::parse_bytes("f", bytes) else { return };
    assert_eq!(document.edit().finish(), document.text());
    let literal = document.root().literal();
    for style in [Style::RON, Style::PYTHON] {
        let printed = literal.to_file(style);
        let read = Document::parse("f", &printed).map(|read| read.root().literal());
        assert_eq!(read.as_ref(), Ok(&literal), "{printed}");
    }
    let (ron, _) = document.to_ron();
    let read = Document::parse("f", &ron).map(|read| read.root().literal());
    assert_eq!(read, Ok(literal), "{ron}");
}

/// The lines of a spec, printed, say the same.
pub fn spec(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Spec::parse("f", text) {
        Ok(spec) => {
            let lines: Vec<String> = spec.lines.iter().map(|line| line.to_text()).collect();
            let printed = format!("// RON\n[{}]", lines.join(",\n"));
            let again = Spec::parse("f", &printed)
                .map(|spec| spec.lines.iter().map(|line| line.to_text()).collect::<Vec<String>>());
            assert_eq!(again, Ok(lines), "{printed}");
        }
        Err(finding) => assert!(finding.line > 0 && !finding.to_string().is_empty()),
    }
}

/// Facts have a name that is safe as a file's, and redacting them twice is redacting them once.
pub fn facts(bytes: &[u8]) {
    let Ok(facts) = Facts::parse("f", bytes) else { return };
    let _ = Identity::of(&facts);
    assert!(!system_name(&facts).as_str().contains('/'));
    let redacted = redacted_facts(&facts);
    assert_eq!(redacted_facts(&redacted), redacted);
}

/// A count of which one is taken is read back, and the text does not change when none is.
pub fn state(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(mut state) = State::parse("state", text) else { return };
    assert_eq!(state.to_text(), text);
    let profiles: Vec<_> = state.profiles().map(|(name, count)| (name.clone(), count)).collect();
    let mut wanted = Vec::new();
    for (profile, count) in profiles {
        state.add(&profile, -1);
        wanted.push((profile, count.plus(-1)));
    }
    let written = state.to_text();
    let read = State::parse("state", &written).map(|state| {
        state.profiles().map(|(profile, count)| (profile.clone(), count)).collect::<Vec<_>>()
    });
    assert_eq!(read, Ok(wanted), "{written}");
}

/// An entry that is bound is the only difference to a CMDB read before.
pub fn cmdb(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let keys = ["hostname".to_owned()].into();
    let Ok(mut cmdb) = Cmdb::parse("f", text, &keys) else { return };
    assert_eq!(cmdb.to_text(), text);
    if cmdb.is_empty() || cmdb.len() > 1_000 {
        return;
    }
    let mut entries: Vec<_> = cmdb.entries().collect();
    assert_eq!(entries.len(), cmdb.len());
    let last = entries.len() - 1;
    let bound = entries[last].bound_to(&[("disk".to_owned(), "vda".into())].into());
    entries[last] = bound.clone();
    cmdb.set(last, bound, None);
    let written = cmdb.to_text();
    let read = Cmdb::parse("f", &written, &keys).map(|cmdb| cmdb.entries().collect::<Vec<_>>());
    assert_eq!(read, Ok(entries), "{written}");
}

/// Whatever can be read as a configure file can be asked what it needs.
pub fn configure(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Configure::parse("f", text) {
        Ok(configure) => {
            let _ = (configure.variables(), configure.scripts());
        }
        Err(findings) => assert!(!findings.is_empty()),
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Every input that a fuzzer found worth keeping.
    #[test]
    fn the_corpora_of_the_fuzzers_hold() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (name, property) in ALL {
            let mut inputs = 0;
            for entry in std::fs::read_dir(root.join(name)).unwrap() {
                property(&std::fs::read(entry.unwrap().path()).unwrap());
                inputs += 1;
            }
            assert!(inputs > 0, "{name}");
        }
    }
}
