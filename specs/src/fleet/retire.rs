//! Which machines are forgotten because nobody has heard of them for long, or because there are too
//! many of their kind: only such as hold nothing, whatever the settings say.

use super::draft::Draft;
use super::{Answer, Decision, World};
use crate::machine::{Record, Seconds};
use crate::units::Name;

/// What is kept of the records of machines that hold nothing. `None`: all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// Those that changed or were heard of within so many seconds.
    pub age: Option<Seconds>,
    /// The last so many of those.
    pub count: Option<usize>,
}

impl World {
    /// The machines whose records are not kept any longer, the oldest first.
    pub fn surplus(&self, keep: Keep, now: Seconds) -> Vec<Name> {
        if keep == Keep::default() {
            return Vec::new();
        }
        let idle = self.census.records().filter(Record::holds_nothing);
        let mut idle: Vec<(Seconds, Name)> =
            idle.map(|record| (record.last_seen(), record.id)).collect();
        idle.sort_unstable();
        let too_many = keep.count.map_or(0, |count| idle.len().saturating_sub(count));
        let limit = keep.age.map_or(0, |age| now.saturating_sub(age));
        let too_old = idle.partition_point(|(heard, _)| *heard < limit);
        idle.truncate(too_many.max(too_old));
        idle.into_iter().map(|(_, id)| id).collect()
    }

    /// Forgets those of these machines that hold nothing.
    pub fn retire(&self, machines: &[Name], now: Seconds) -> Decision {
        let mut draft = Draft::new(self, now);
        let known = machines.iter().filter_map(|id| self.census.get(id));
        let idle: Vec<Record> = known.filter(Record::holds_nothing).collect();
        let names: Vec<&str> = idle.iter().map(|record| record.id.as_str()).collect();
        let sentence = format!("forgotten, for they hold nothing: {}", names.join(", "));
        draft.forget_all(idle);
        draft.finish(Answer::Done(sentence))
    }
}
