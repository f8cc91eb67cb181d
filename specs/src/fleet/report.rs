//! A machine tells how it goes, or tells nothing for too long.

use super::census::Who;
use super::draft::Draft;
use super::upload::{NOBODY, twin};
use super::{Answer, Decision, World};
use crate::event::{DiskState, Event};
use crate::facts::Facts;
use crate::machine::{HistoryLine, Identity, Phase, Record, Seconds, system_name};
use crate::units::Token;

/// Longest text of a machine that goes into a record.
const TEXT: usize = 500;

/// What a machine says of a failure of which the server has no plan.
#[derive(Debug, Clone, Copy)]
pub struct Complaint<'a> {
    /// The profile it thinks of; empty or `*` when there is none.
    pub profile: &'a str,
    /// Why, when it says so.
    pub reason: Option<&'a str>,
}

impl World {
    /// Takes the events that the machine with this ticket reports, of which the first has the
    /// number `sequence`. Events that were taken before are passed over.
    pub fn events(
        &self,
        ticket: &Token,
        sequence: u64,
        events: &[Event],
        now: Seconds,
    ) -> Decision {
        let Some(known) = self.census.by_ticket(ticket) else { return unknown_ticket() };
        let mut draft = Draft::new(self, now);
        let mut record = known.clone();
        let Some(assignment) = &mut record.assignment else { return unknown_ticket() };
        let known_already = assignment.next_event.saturating_sub(sequence);
        let skip = usize::try_from(known_already).unwrap_or(usize::MAX);
        let end = sequence.saturating_add(events.len() as u64);
        assignment.next_event = assignment.next_event.max(end);
        let next = assignment.next_event;
        if record.phase == Phase::Failed && !record.is_bound() {
            let name = record.display_name();
            return Decision::refused(
                409,
                format!(
                    "{name} has failed or was silent for too long, and what it held was given \
                     back: write nothing, and upload again"
                ),
            );
        }
        record.heard = now;
        let mut durable = false;
        for event in events.iter().skip(skip) {
            durable |= take_event(&mut draft, &mut record, event);
        }
        let machine = record.id.clone();
        if record != known {
            draft.save(record);
        }
        let mut decision = draft.finish(Answer::Recorded { machine, next });
        decision.durable &= durable;
        decision
    }

    /// `failure=<profile>` of an upload: the machine with this ticket gave up. For a profile it
    /// does not hold nothing changes, and nothing is ever matched instead.
    pub fn failure(&self, ticket: &Token, profile: &str, now: Seconds) -> Decision {
        let Some(known) = self.census.by_ticket(ticket) else { return unknown_ticket() };
        let Some(assignment) = &known.assignment else { return unknown_ticket() };
        if assignment.profile.as_str() != profile {
            let name = known.display_name();
            return Decision::refused(
                409,
                format!(
                    "{name} holds profile {}, not the one that is said to have failed: nothing \
                     was changed",
                    assignment.profile
                ),
            );
        }
        let answer = Answer::Recorded { machine: known.id.clone(), next: assignment.next_event };
        if !known.phase.is_leased() {
            return Decision::unchanged(answer);
        }
        let mut draft = Draft::new(self, now);
        let mut record = known.clone();
        record.heard = now;
        fail(&mut draft, &mut record, "failed: the machine reported a failure".to_owned());
        draft.save(record);
        draft.finish(answer)
    }

    /// `failure=` of a machine that shows no ticket, for it never got a plan: noted where people
    /// look. Anyone could have sent it, so no count, entry, phase or lease changes.
    pub fn complaint(&self, facts: &Facts, failure: &Complaint<'_>, now: Seconds) -> Decision {
        let identity = Identity::of(facts);
        let mut record = match self.census.identify(&identity) {
            Who::Known { record, .. } => *record,
            Who::New { .. } => {
                Record::new(self.census.unused_id(&system_name(facts)), identity, now)
            }
            Who::Twin { of, evidence } => return twin(&of, &evidence),
            Who::Nobody => return Decision::refused(422, NOBODY),
        };
        let profile = match failure.profile {
            "" | "*" => String::new(),
            profile => format!(" of {}", clean(profile)),
        };
        let reason = failure.reason.map(|reason| format!(": {}", clean(reason)));
        let text =
            format!("reported a failure{profile} without a plan{}", reason.unwrap_or_default());
        let mut draft = Draft::new(self, now);
        draft.warnings.push(format!("{} {text}", record.display_name()));
        let machine = record.id.clone();
        if record.complaint.as_ref().is_none_or(|earlier| earlier.text != text) {
            record.note(now, text.clone());
        }
        record.complaint = Some(HistoryLine { at: now, text });
        draft.save_with_facts(record, facts);
        draft.finish(Answer::Recorded { machine, next: 0 })
    }

    /// Fails every machine whose lease of `lease` seconds has run out. `None` when there is none.
    pub fn expire(&self, now: Seconds, lease: Seconds) -> Option<Decision> {
        let limit = now.checked_sub(lease)?;
        let mut draft = Draft::new(self, now);
        let mut names = Vec::new();
        for mut record in self.census.silent_since(limit) {
            let silent = now - record.heard;
            names.push(record.display_name().to_owned());
            fail(&mut draft, &mut record, format!("failed: silent for {} minutes", silent / 60));
            draft.save(record);
        }
        if names.is_empty() {
            return None;
        }
        draft.warnings.push(format!("silent for too long: {}", names.join(", ")));
        Some(draft.finish(Answer::Done(format!("{} leases ran out", names.len()))))
    }
}

fn unknown_ticket() -> Decision {
    Decision::refused(
        409,
        "this ticket is not valid (any longer): the machine was released or given a new plan; \
         upload again",
    )
}

/// Takes one event. Answers whether losing it would do harm.
fn take_event(draft: &mut Draft<'_>, record: &mut Record, event: &Event) -> bool {
    let now = draft.now;
    let ended = !(record.phase.is_leased() || record.phase == Phase::Failed);
    if ended {
        return false;
    }
    let mut revived = false;
    if record.phase == Phase::Failed && !matches!(event, Event::Failed { .. } | Event::Unknown) {
        // Taken for dead, and it is alive: what it holds was kept for it.
        revived = true;
        record.enter(Phase::Installing, now);
        record.note(now, "heard of again");
        if !draft.take_count(record) {
            let name = record.display_name();
            draft.warnings.push(format!(
                "{name} goes on although its count was given back and is used up by now"
            ));
        }
    }
    let Some(assignment) = &mut record.assignment else { return revived };
    let harm = match event {
        Event::StepStarted { step, destructive } => {
            assignment.step = Some(clean(step));
            let first = *destructive && !assignment.destroying;
            if *destructive {
                assignment.destroying = true;
                let entered = record.phase != Phase::Installing;
                record.enter(Phase::Installing, now);
                if entered {
                    record.note(now, format!("installing: {}", clean(step)));
                }
                first || entered
            } else {
                false
            }
        }
        Event::Progress { step, done, total } => {
            let step = clean(step);
            assignment.step = Some(match total {
                Some(total) if *total > 0 => {
                    let percent = u128::from(*done) * 100 / u128::from(*total);
                    format!("{step} {}%", percent.min(100))
                }
                _ => step,
            });
            false
        }
        Event::StepEnded { error: None, .. } | Event::Unknown => false,
        Event::StepEnded { step, error: Some(error), .. } => {
            let line = format!("step {} failed: {}", clean(step), clean(error));
            record.note(now, line);
            true
        }
        Event::Warning { step, text } => {
            record.note(now, format!("warning in {}: {}", clean(step), clean(text)));
            true
        }
        Event::Installed { seconds } => {
            assignment.step = None;
            assignment.destroying = true;
            assignment.disks = None;
            let line = format!("installed: {} in {seconds:.0} s", assignment.hostname);
            record.enter(Phase::Installed, now);
            record.note(now, line);
            true
        }
        Event::Failed { step, error, disks } => {
            assignment.disks = Some(*disks);
            let disks = match disks {
                DiskState::Untouched => "disks untouched",
                DiskState::Cleared => "disks cleared",
                DiskState::Unknown => "disks in an unknown state",
            };
            let line = format!("failed in {}: {} ({disks})", clean(step), clean(error));
            if record.phase == Phase::Failed {
                record.note(now, line);
            } else {
                fail(draft, record, line);
            }
            true
        }
    };
    revived || harm
}

/// The machine failed: its count goes back, and its entry as well while nothing was destroyed.
fn fail(draft: &mut Draft<'_>, record: &mut Record, line: String) {
    let now = draft.now;
    draft.give_count_back(record);
    if record.assignment.as_ref().is_some_and(|assignment| !assignment.destroying) {
        draft.free_entry(record);
    }
    if let Some(assignment) = &mut record.assignment {
        assignment.step = None;
    }
    record.enter(Phase::Failed, now);
    record.note(now, line);
}

/// A machine's text as it may be stored and shown.
fn clean(text: &str) -> String {
    let mut clean = String::new();
    for character in text.chars().take(TEXT) {
        if character.is_control() {
            clean.extend(character.escape_default());
        } else {
            clean.push(character);
        }
    }
    clean
}
