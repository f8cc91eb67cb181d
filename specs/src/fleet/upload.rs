//! A machine sends its facts: what it gets.
//!
//! This is the order of the questions: which machine it is (`recognise`), whether it holds
//! something already, which profile it is offered (`offer`), and what the books say once it takes
//! it. What a refusal tells is in `refusal`; `trial` plays all of it through for people.

mod offer;
mod recognise;
mod refusal;
pub(super) mod trial;

use std::borrow::Cow;
use std::sync::Arc;

use super::draft::Draft;
use super::{Answer, Change, Decision, Fresh, Refused, World};
use crate::catalog::Loaded;
use crate::facts::Facts;
use crate::machine::{Assignment, Phase, Record, Seconds};
use crate::matching::Matcher;
use crate::plan::{Action, BootTarget, Plan};
use crate::secret;
use crate::units::{Name, Token};
use offer::{No, Offer};
pub(super) use recognise::{NOBODY, twin};
pub use refusal::Untold;

impl World {
    /// Decides what a machine with these facts gets. Uploading again gives the same: the same
    /// entry, the same identifiers in the plan, no second count.
    pub fn upload(&self, facts: &Facts, now: Seconds, fresh: &Fresh) -> Decision {
        self.upload_matched(&Matcher::new(facts), now, fresh)
    }

    fn upload_matched(&self, matcher: &Matcher<'_>, now: Seconds, fresh: &Fresh) -> Decision {
        let (mut decision, untold) = self.decide(matcher, now, fresh);
        if let (Answer::Refused(refused), Some(untold)) = (&mut decision.answer, untold) {
            untold.tell(matcher, refused);
        }
        decision
    }

    /// As [`World::upload`], except that a refusal does not say why profiles do not match: that
    /// takes longest and can be told later, when the world is no longer needed. The facts come
    /// prepared, so that nobody waits for that either.
    pub fn decide(
        &self,
        matcher: &Matcher<'_>,
        now: Seconds,
        fresh: &Fresh,
    ) -> (Decision, Option<Untold>) {
        if let Some(refusal) = self.refuse_without_state() {
            return (refusal, None);
        }
        let mut draft = Draft::new(self, now);
        let facts = matcher.facts();
        let record = match self.recognise(facts, &mut draft) {
            Ok(record) => record,
            Err(refusal) => return (*refusal, None),
        };
        let upload = Upload { facts, matcher, fresh };
        if record.phase == Phase::Installed {
            return (upload.installed(draft, record), None);
        }
        if record.is_bound() {
            return (upload.resume(draft, record), None);
        }
        upload.begin(draft, record)
    }

    fn refuse_without_state(&self) -> Option<Decision> {
        match &self.state {
            Loaded::Good(_) => None,
            Loaded::Missing => Some(Decision::refused(
                503,
                "the configuration holds no `state`: no profile can be tried",
            )),
            Loaded::Broken(findings) => Some(Decision::refused(503, offer::broken(findings))),
        }
    }
}

/// One upload, while it is decided.
struct Upload<'a> {
    facts: &'a Facts,
    matcher: &'a Matcher<'a>,
    fresh: &'a Fresh,
}

impl Upload<'_> {
    /// Identifiers of a plan derive from this: the same as long as the machine holds what it
    /// was given, another one when it is installed anew.
    fn nonce<'a>(&'a self, record: &'a Record) -> &'a Token {
        match &record.assignment {
            Some(assignment) if record.phase != Phase::Armed => &assignment.nonce,
            _ => &self.fresh.nonce,
        }
    }

    /// The machine is installed: it boots its disk.
    fn installed(&self, mut draft: Draft<'_>, record: Record) -> Decision {
        let Some(assignment) = &record.assignment else { return self.begin(draft, record).0 };
        let answer = Answer::Installed {
            machine: record.id.clone(),
            hostname: assignment.hostname.clone(),
            profile: assignment.profile.clone(),
            disk: assignment.boot_disk.clone(),
            root: assignment.root.clone(),
        };
        draft.save_with_facts(record, self.facts);
        draft.finish(answer)
    }

    /// The machine holds an assignment: that profile and entry, or nothing.
    fn resume(&self, draft: Draft<'_>, record: Record) -> Decision {
        let Some(assignment) = &record.assignment else { return self.begin(draft, record).0 };
        let profile = assignment.profile.clone();
        let name = record.display_name().to_owned();
        let advice = format!("`edeploy-server release {name}` gives up what it holds");
        if draft.count(&profile).is_none() {
            let reason =
                format!("{name} was given {profile}, which is no longer in `state`: {advice}");
            return self.refuse_bound(draft, record, 409, reason);
        }
        if !assignment.counted && draft.count(&profile).is_some_and(|count| !count.is_available()) {
            let reason = format!(
                "{name} failed, its count of {profile} went back and is used up by now: raise it \
                 in `state`, or {advice}"
            );
            return self.refuse_bound(draft, record, 409, reason);
        }
        match draft.world.offer(&profile, &record, self) {
            Ok(offer) => self.give(draft, record, offer),
            Err(No::Stop { status, reason }) => self.refuse_bound(draft, record, status, reason),
            Err(no) => {
                let reason = self.told(draft.world, &profile, &no);
                let reason =
                    format!("{name} was given {profile}, which no longer fits: {reason}; {advice}");
                self.refuse_bound(draft, record, 422, reason)
            }
        }
    }

    /// A machine that holds something keeps it, and gets nothing now.
    fn refuse_bound(
        &self,
        mut draft: Draft<'_>,
        record: Record,
        status: u16,
        reason: String,
    ) -> Decision {
        draft.save_with_facts(record, self.facts);
        draft.finish(Answer::Refused(Refused { status, reason, profiles: Vec::new() }))
    }

    /// The machine holds nothing: the first profile that fits and has something left.
    fn begin(&self, draft: Draft<'_>, record: Record) -> (Decision, Option<Untold>) {
        let mut tried: Vec<(Name, Option<No>)> = Vec::new();
        for profile in candidates(draft.world, &record) {
            if draft.count(&profile).is_none_or(|count| !count.is_available()) {
                tried.push((profile, None));
                continue;
            }
            match draft.world.offer(&profile, &record, self) {
                Ok(offer) => return (self.give(draft, record, offer), None),
                Err(stop @ No::Stop { .. }) => {
                    tried.push((profile, Some(stop)));
                    break;
                }
                Err(no) => tried.push((profile, Some(no))),
            }
        }
        let refused = refusal::refused(&tried);
        let catalog = Arc::clone(&draft.world.catalog);
        let untold = Untold::of(catalog, tried);
        (self.unmatched(draft, record, refused), Some(untold))
    }

    /// Why a profile was not given, in one sentence.
    fn told(&self, world: &World, profile: &Name, no: &No) -> String {
        match no {
            No::Match(no) => refusal::why(self.matcher, &world.catalog, profile, no),
            No::Specs(reason) | No::Left(reason) | No::Stop { reason, .. } => reason.clone(),
        }
    }

    fn unmatched(&self, mut draft: Draft<'_>, mut record: Record, refused: Refused) -> Decision {
        let now = draft.now;
        let first = record.history.is_empty();
        // What it held before was given back already; a failure stays visible as such.
        if !matches!(record.phase, Phase::Failed | Phase::Released) {
            record.enter(Phase::Unmatched, now);
        }
        if first {
            record.note(now, format!("unmatched: {}", refused.reason));
        }
        draft.save_with_facts(record, self.facts);
        draft.finish(Answer::Refused(refused))
    }

    /// The machine is given what was offered.
    fn give(&self, mut draft: Draft<'_>, mut record: Record, offer: Offer) -> Decision {
        let now = draft.now;
        if record.assignment.as_ref().is_some_and(|it| it.profile != offer.profile) {
            draft.give_count_back(&mut record);
        }
        let earlier = record.assignment.take().filter(|it| it.profile == offer.profile);
        let repeated = record.phase == Phase::Leased
            && earlier.as_ref().is_some_and(|assignment| assignment.next_event == 0);
        if let Some(holding) = &offer.holding {
            let stored = draft.world.cmdb(&offer.profile).and_then(|it| it.entry(holding.position));
            if stored.as_ref() != Some(&holding.after) {
                let (position, entry) = (holding.position, holding.after.clone());
                draft.set_entry(&offer.profile, position, entry, None);
            }
        }
        let ticket = match &earlier {
            Some(assignment) if repeated => assignment.ticket.clone(),
            _ => self.fresh.ticket.clone(),
        };
        let kept = earlier.as_ref().filter(|_| record.phase != Phase::Armed);
        let nonce = kept.map_or(&self.fresh.nonce, |assignment| &assignment.nonce).clone();
        let entry = offer.holding.as_ref().map(|holding| &holding.after);
        let variables = secret::redacted_variables(entry, &offer.merged);
        record.assignment = Some(Assignment {
            hostname: offer.plan.hostname.clone(),
            variables: offer::without(variables, &offer.secret),
            nonce,
            ticket: ticket.clone(),
            counted: earlier.as_ref().is_some_and(|assignment| assignment.counted),
            destroying: earlier.as_ref().is_some_and(|assignment| assignment.destroying),
            next_event: 0,
            step: None,
            disks: None,
            boot_disk: boot_disk(&offer.plan),
            root: offer.plan.root.clone(),
            entry: offer.holding,
            profile: offer.profile.clone(),
        });
        draft.take_count(&mut record);
        if !repeated {
            let hostname = &offer.plan.hostname;
            record.note(now, format!("leased: {} as {hostname}", offer.profile));
        }
        record.enter(Phase::Leased, now);
        record.heard = now;
        record.complaint = None;
        let machine = record.id.clone();
        let known = draft.stored(&machine).map(Cow::into_owned);
        let heard = known.map(|known| Box::new(Record { heard: now, ..known }));
        let asked_again = heard.map(|record| Change::Record { record });
        draft.save_with_facts(record, self.facts);
        let mut decision =
            draft.finish(Answer::Plan { machine, ticket, plan: Box::new(offer.plan) });
        // The answer is as true without it: losing it does no more harm than losing an event.
        if decision.changes.iter().eq(&asked_again) {
            decision.durable = false;
        }
        decision
    }
}

/// The profiles to try, in order: by hand, or what the machine had last, then as in `state`.
fn candidates(world: &World, record: &Record) -> Vec<Name> {
    if let Some(pin) = &record.pin {
        return vec![pin.profile.clone()];
    }
    let last = match record.phase {
        Phase::Failed => record.assignment.as_ref().map(|assignment| &assignment.profile),
        _ => None,
    };
    let listed: Vec<&Name> = match world.state.good() {
        Some(state) => state.profiles().map(|(profile, _)| profile).collect(),
        None => Vec::new(),
    };
    let last = last.filter(|last| listed.contains(last));
    let rest = listed.iter().copied().filter(|profile| Some(*profile) != last);
    last.into_iter().chain(rest).cloned().collect()
}

/// The disk the boot loader goes to: where the machine will boot from.
fn boot_disk(plan: &Plan) -> String {
    let target = plan.steps.iter().find_map(|step| match &step.action {
        Action::InstallBootLoader { target: BootTarget::Bios { disk } } => Some(disk),
        _ => None,
    });
    let first = plan.disks.first().map(|disk| &disk.path);
    target.or(first).cloned().unwrap_or_default()
}
