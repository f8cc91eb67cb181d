//! Lists that are hard to decide, made from those of the corpus, which fall into the same traps as
//! real ones: disks and NICs that are all alike, joined by names, and one line that spoils it.
//!
//! Shared by the tests of this crate and the long ones of the lab.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use specs::facts::{Fact, Facts};
use specs::lang::Spec;
use specs::literal::{Literal, Style};
use specs::matching::{Matcher, NoMatch};
use specs::value::Value;

/// The columns of a line as they are written.
type Columns = [Value; 4];

/// A spec, told by what was done to which file.
pub(crate) struct Hard {
    /// For people.
    pub(crate) name: String,
    /// The list.
    pub(crate) spec: Spec,
}

/// All files below `folder` whose name ends so, in order.
pub(crate) fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The specs below `folder`; those of the original that lack a comma, with it.
pub(crate) fn specs(folder: &Path) -> Vec<Hard> {
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let spec = Spec::parse(&name, &text).or_else(|error| {
            let (before, after) = text.split_at(error.span.start);
            Spec::parse(&name, &format!("{before},{after}"))
        });
        Hard { name, spec: spec.unwrap() }
    };
    files(folder, ".specs").into_iter().map(read).collect()
}

fn spec_of(name: &str, lines: &[Columns]) -> Hard {
    let lines =
        lines.iter().map(|line| Literal::Tuple(line.iter().cloned().map(Literal::Value).collect()));
    let text = Literal::List(lines.collect()).to_file(Style::RON);
    let spec = Spec::parse(name, &text).unwrap_or_else(|error| panic!("{error}"));
    Hard { name: name.to_owned(), spec }
}

fn variable(name: &str) -> Value {
    Value::from(format!("${name}"))
}

/// The facts of every machine below `folder`, each made harder as well.
pub(crate) fn all_machines(folder: &Path) -> Vec<(String, Facts)> {
    let paths = files(folder, ".hw").into_iter().chain(files(folder, ".hw_"));
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let facts = Facts::parse(&name, &std::fs::read(&path).unwrap()).unwrap();
        let kinds = ["as it is", "last fact first", "every device twice"];
        kinds
            .into_iter()
            .zip(machines(&facts))
            .map(move |(kind, facts)| (format!("{name}, {kind}"), facts))
    };
    paths.flat_map(read).collect()
}

/// What deciding all of some lists took.
#[derive(Default)]
pub(crate) struct Effort {
    /// How many were decided.
    pub(crate) lists: usize,
    /// How many matched.
    pub(crate) matched: usize,
    /// The hardest: steps that were enough, spec and machine.
    pub(crate) hardest: Vec<(u64, String, String)>,
}

impl Effort {
    /// Decides a list in at most `budget` steps, and panics when they are not enough.
    pub(crate) fn decide(
        &mut self,
        hard: &Hard,
        machine: &str,
        matcher: &Matcher<'_>,
        budget: u64,
    ) {
        let mut steps = 1_000;
        let found = loop {
            match matcher.find_within(&hard.spec, steps) {
                Err(NoMatch::BudgetExhausted) if steps < budget => steps = (2 * steps).min(budget),
                found => break found,
            }
        };
        let gave_up = found == Err(NoMatch::BudgetExhausted);
        assert!(!gave_up, "{} on {machine}: not decided in {budget} steps", hard.name);
        self.lists += 1;
        self.matched += usize::from(found.is_ok());
        self.hardest.push((steps, hard.name.clone(), machine.to_owned()));
        if self.hardest.len() > 1_000 {
            self.keep_hardest();
        }
    }

    fn keep_hardest(&mut self) {
        self.hardest.sort_by(|a, b| b.cmp(a));
        self.hardest.truncate(10);
    }

    /// For people.
    pub(crate) fn told(mut self) -> String {
        self.keep_hardest();
        let Effort { lists, matched, hardest } = self;
        let mut text = format!("{lists} lists decided, {matched} of them match; the hardest:");
        for (steps, spec, machine) in hardest {
            text.push_str(&format!("\nwithin {steps} steps: {spec} on {machine}"));
        }
        text
    }
}

/// Replaces the columns that are this variable and nothing else.
fn renamed(lines: &[Columns], from: &str, to: &str) -> Vec<Columns> {
    let (from, to) = (variable(from), variable(to));
    let rename = |column: &Value| if *column == from { to.clone() } else { column.clone() };
    lines.iter().map(|line| line.each_ref().map(rename)).collect()
}

/// A spec made harder in every way there is here; `facts` says which keys a machine has.
pub(crate) fn variations(hard: &Hard, facts: &Facts) -> Vec<Hard> {
    let lines: Vec<Columns> =
        hard.spec.lines.iter().map(|line| line.columns.clone().map(|it| it.source)).collect();
    let names: Vec<String> =
        hard.spec.variables().into_iter().map(|(name, _)| name.to_owned()).collect();
    let mut found = Vec::new();
    let mut add = |what: &str, lines: &[Columns]| {
        found.push(spec_of(&format!("{}: {what}", hard.name), lines));
    };
    add("as it is", &lines);
    let mut reversed = lines.clone();
    reversed.reverse();
    add("last line first", &reversed);
    // Anything goes, in one column or in two.
    for columns in [&[3][..], &[1], &[1, 3]] {
        let mut open = lines.clone();
        for (number, line) in open.iter_mut().enumerate() {
            for &column in columns {
                if !line[column].as_text().starts_with('$') {
                    line[column] = variable(&format!("open-{number}-{column}"));
                }
            }
        }
        add(&format!("any value in columns {columns:?}"), &open);
        // The same once more: twice the devices that there are.
        let mut twice = open.clone();
        for name in &names {
            open = renamed(&open, name, &format!("{name}-again"));
        }
        for (number, line) in open.iter_mut().enumerate() {
            for column in [1, 3] {
                if line[column].as_text().starts_with("$open-") {
                    line[column] = variable(&format!("open-{number}-{column}-again"));
                }
            }
        }
        twice.extend(open);
        add(&format!("twice, any value in columns {columns:?}"), &twice);
    }
    // Two variables that have to be one.
    for pair in names.windows(2) {
        add(&format!("{} is {}", pair[0], pair[1]), &renamed(&lines, &pair[0], &pair[1]));
    }
    let values: BTreeSet<&String> =
        names.iter().filter(|name| lines.iter().any(|line| line[3] == variable(name))).collect();
    let mut alike = lines.clone();
    for name in &values {
        alike = renamed(&alike, name, "alike");
    }
    add("all values alike", &alike);
    // A line at the end that most devices cannot satisfy.
    let keys: BTreeSet<(&str, &str)> =
        facts.0.iter().map(|fact| (fact.0.as_str(), fact.2.as_str())).collect();
    for name in names.iter().rev() {
        let Some(line) = lines.iter().find(|line| line[1] == variable(name)) else { continue };
        let class = line[0].as_text();
        for (_, key) in keys.iter().filter(|(of, _)| *of == class) {
            let mut more = lines.clone();
            let value = variable("last");
            more.push([line[0].clone(), variable(name), Value::from(*key), value.clone()]);
            more.push([line[0].clone(), variable("other"), Value::from("slot"), value]);
            add(&format!("{name} has a {key} that is the slot of another"), &more);
        }
    }
    found
}

/// A machine as it is, last fact first, and with every device twice.
fn machines(facts: &Facts) -> [Facts; 3] {
    let mut reversed = facts.clone();
    reversed.0.reverse();
    let mut twice = facts.clone();
    twice.0.extend(facts.0.iter().map(|fact| {
        let Fact(class, name, key, value) = fact.clone();
        Fact(class, format!("{name}-b"), key, value)
    }));
    [facts.clone(), reversed, twice]
}
