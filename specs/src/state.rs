//! `state`: which profiles there are, in which order they are tried, and how many machines of
//! each may still be installed.
//!
//! Responsible for the file's meaning and for rewriting it so that a changed count is the only
//! difference. Deciding when a count changes is [`crate::fleet`].

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::diagnostic::{Code, Diagnostic};
use crate::literal::{Document, Kind, Literal, Node};
use crate::units::Name;
use crate::value::Value;

/// How many machines of a profile may still be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    /// As many as come (`"*"`).
    Unlimited,
    /// This many. Files may hold a negative number: it means none.
    Left(i64),
}

impl Count {
    /// Whether another machine may be installed.
    pub fn is_available(self) -> bool {
        match self {
            Count::Unlimited => true,
            Count::Left(left) => left > 0,
        }
    }

    /// The count after `by` were given back, or taken when that is negative.
    #[must_use]
    pub fn plus(self, by: i64) -> Count {
        match self {
            Count::Unlimited => Count::Unlimited,
            Count::Left(left) => Count::Left(left.saturating_add(by)),
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Count::Unlimited => f.write_str("*"),
            Count::Left(left) => write!(f, "{left}"),
        }
    }
}

/// The file `state`: profiles in the order in which they are tried.
#[derive(Debug, Clone)]
pub struct State {
    document: Document,
    lines: Vec<Line>,
    /// What was taken and given back that the file does not say yet, by profile.
    pending: BTreeMap<Name, i64>,
}

/// One profile of the file.
#[derive(Debug, Clone)]
struct Line {
    profile: Name,
    /// As the file has it.
    read: Count,
}

impl State {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// What is no literal, no list of pairs, a name no profile can have, a profile named twice,
    /// a count that is none. All of them at once.
    pub fn parse(file: &str, text: &str) -> Result<State, Vec<Diagnostic>> {
        let document = Document::parse(file, text).map_err(|finding| vec![finding])?;
        let root = document.root();
        let Some(items) = root.items() else {
            let message = format!("a state is a list of pairs, not {}", root.describe());
            let finding = document.error(Code::StateShape, root.span, message);
            return Err(vec![finding.with_help("write `[(\"vm\", 4), (\"hp\", \"*\")]`")]);
        };
        let mut lines: Vec<Line> = Vec::new();
        let mut findings = Vec::new();
        for item in items {
            match line(&document, item) {
                Ok(line) if lines.iter().any(|earlier| earlier.profile == line.profile) => {
                    let message = format!("profile `{}` stands here a second time", line.profile);
                    findings.push(
                        document
                            .error(Code::StateTwice, item.span, message)
                            .with_help("leave one line, with the sum of the counts"),
                    );
                }
                Ok(line) => lines.push(line),
                Err(finding) => findings.push(finding),
            }
        }
        if !findings.is_empty() {
            return Err(findings);
        }
        Ok(State { document, lines, pending: BTreeMap::new() })
    }

    /// The profiles and their counts, in the order in which they are tried.
    pub fn profiles(&self) -> impl Iterator<Item = (&Name, Count)> + '_ {
        self.lines.iter().map(|line| (&line.profile, self.count_of(line)))
    }

    /// The count of a profile; `None` when the file does not name it.
    pub fn count(&self, profile: &Name) -> Option<Count> {
        let line = self.lines.iter().find(|line| line.profile == *profile)?;
        Some(self.count_of(line))
    }

    fn count_of(&self, line: &Line) -> Count {
        line.read.plus(self.pending.get(&line.profile).copied().unwrap_or(0))
    }

    /// Takes machines from the count of a profile, or gives them back.
    pub fn add(&mut self, profile: &Name, by: i64) {
        let pending = self.pending.entry(profile.clone()).or_default();
        *pending = pending.saturating_add(by);
    }

    /// Says what the file does not say yet, whatever was said before.
    pub fn set_pending(&mut self, pending: BTreeMap<Name, i64>) {
        self.pending = pending;
    }

    /// Takes over a file that was edited by hand: what this one had pending is pending there.
    #[must_use]
    pub fn rebased_on(&self, edited: State) -> State {
        State { pending: self.pending.clone(), ..edited }
    }

    /// The file was written with this text, which [`State::to_text`] gave now or earlier: from
    /// now on that is what was read. Counts that changed since stay changed.
    pub fn written(&mut self, text: &str) {
        let Ok(written) = State::parse(self.document.file(), text) else { return };
        for line in &mut self.lines {
            let Some(there) = written.lines.iter().find(|it| it.profile == line.profile) else {
                continue;
            };
            if let (Count::Left(before), Count::Left(after)) = (line.read, there.read)
                && let Some(pending) = self.pending.get_mut(&line.profile)
            {
                *pending = pending.saturating_sub(after.saturating_sub(before));
            }
            line.read = there.read;
        }
        // What went back to a profile that is not listed has gone with its line.
        self.pending.retain(|profile, _| self.lines.iter().any(|line| line.profile == *profile));
        self.document = written.document;
    }

    /// The text of the file as it has to be now: a count that changed is the only difference.
    pub fn to_text(&self) -> String {
        let items = self.document.root().items().unwrap_or_default();
        self.document.replaced(self.lines.iter().zip(items).filter_map(|(line, item)| {
            let [_, count] = item.items()? else { return None };
            // A `*` never becomes another count.
            match self.count_of(line) {
                Count::Left(now) if line.read != Count::Left(now) => {
                    Some((count, Literal::Value(Value::Integer(now))))
                }
                _ => None,
            }
        }))
    }
}

/// Reads one `(profile, count)`.
fn line(document: &Document, item: &Node) -> Result<Line, Diagnostic> {
    let Some([name, count]) = item.items() else {
        let message = format!("a line of a state is a pair, not {}", item.describe());
        let finding = document.error(Code::StateShape, item.span, message);
        return Err(finding.with_help("write `(\"vm\", 4)` or `(\"vm\", \"*\")`"));
    };
    let profile = name.as_text().and_then(|text| text.parse::<Name>().ok()).ok_or_else(|| {
        document
            .error(Code::StateName, name.span, "this is no name of a profile")
            .with_help("letters, digits, `.`, `_`, `+`, `-`; first a letter or digit")
    })?;
    let read = match &count.kind {
        Kind::Scalar(Value::Integer(left)) => Some(Count::Left(*left)),
        Kind::Scalar(Value::Text(text)) if text == "*" => Some(Count::Unlimited),
        Kind::Scalar(Value::Text(text)) => text.trim().parse().ok().map(Count::Left),
        _ => None,
    };
    let read = read.ok_or_else(|| {
        document
            .error(Code::StateCount, count.span, "a count is a whole number or `\"*\"`")
            .with_help("write how many machines may still be installed, or `\"*\"` for any number")
    })?;
    Ok(Line { profile, read })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[track_caller]
    fn check(before: &str, profile: &str, by: i64, after: &str) {
        let mut state = State::parse("state", before).unwrap();
        assert_eq!(state.to_text(), before);
        state.add(&name(profile), by);
        assert_eq!(state.to_text(), after);
        state.written(after);
        assert_eq!(state.to_text(), after);
    }

    #[test]
    fn a_changed_count_is_the_only_difference() {
        check(
            "# racks\n[('hp' , 4), # old\n ('vm', '*')]\n",
            "hp",
            -1,
            "# racks\n[('hp' , 3), # old\n ('vm', '*')]\n",
        );
        check("[(\"b\", \"1\")]", "b", -1, "[(\"b\", 0)]");
        check("[['b', 1,],]", "b", 1, "[['b', 2,],]");
    }

    #[test]
    fn a_file_whose_only_mark_of_python_was_the_count_stays_python() {
        // Parentheses around one text make a tuple in RON, which names no profile.
        check("[((\"b\"), '1')]", "b", -1, "# -*- python -*-\n[((\"b\"), 0)]");
        check("[(\"b\" \"c\", '1')]", "bc", 1, "# -*- python -*-\n[(\"b\" \"c\", 2)]");
    }

    #[test]
    fn counts_are_numbers_numeric_texts_or_a_star() {
        let state = State::parse("state", "[('a', 2), ('b', '3'), ('c', '*'), ('d', -1)]").unwrap();
        let counts: Vec<Count> = state.profiles().map(|(_, count)| count).collect();
        let expected = [Count::Left(2), Count::Left(3), Count::Unlimited, Count::Left(-1)];
        assert_eq!(counts, expected);
        let available: Vec<bool> = counts.into_iter().map(Count::is_available).collect();
        assert_eq!(available, [true, true, true, false]);
    }

    #[test]
    fn every_mistake_is_found_with_its_place() {
        let text = "[('a', 1), ('a', 2), ('../b', 1), ('c', 'x'), ('d',), 7]";
        let findings = State::parse("state", text).unwrap_err();
        let shown: Vec<(&str, usize)> =
            findings.iter().map(|finding| (finding.code.as_ref(), finding.column)).collect();
        let expected = [
            ("state-twice", 12),
            ("state-name", 23),
            ("state-count", 41),
            ("state-shape", 47),
            ("state-shape", 55),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn an_edit_by_hand_keeps_what_was_taken_meanwhile() {
        let mut state = State::parse("state", "[('a', 5), ('b', 2), ('c', 1)]").unwrap();
        state.add(&name("a"), -2);
        let edited = State::parse("state", "[('b', 9), ('a', 10), ('d', '*')]").unwrap();
        let rebased: Vec<(String, Count)> = state
            .rebased_on(edited)
            .profiles()
            .map(|(profile, count)| (profile.to_string(), count))
            .collect();
        let expected = [("b", Count::Left(9)), ("a", Count::Left(8)), ("d", Count::Unlimited)];
        assert_eq!(rebased, expected.map(|(profile, count)| (profile.to_owned(), count)));
    }

    #[test]
    fn what_was_pending_is_told_after_a_restart() {
        let mut state = State::parse("state", "[('a', 5), ('b', 2)]").unwrap();
        state.add(&name("b"), -1);
        state.set_pending([(name("a"), -2)].into());
        let counts: Vec<Count> = state.profiles().map(|(_, count)| count).collect();
        assert_eq!(counts, [Count::Left(3), Count::Left(2)]);
        assert_eq!(state.to_text(), "[('a', 3), ('b', 2)]");
    }

    #[test]
    fn what_is_pending_outlives_a_star() {
        let state = |text: &str| State::parse("state", text).unwrap();
        let mut counts = state("[('a', 5)]");
        counts.add(&name("a"), -2);
        let counts = counts.rebased_on(state("[('a', '*')]"));
        assert_eq!(counts.count(&name("a")), Some(Count::Unlimited));
        let counts = counts.rebased_on(state("[('a', 7)]"));
        assert_eq!(counts.count(&name("a")), Some(Count::Left(5)));
    }
}
