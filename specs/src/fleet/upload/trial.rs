//! What an upload would be answered, and what each profile of `state` says to the machine, the
//! ones that were never asked as well.
//!
//! The answer is that of [`World::upload`], whose changes are dropped. The profiles are asked with
//! the same machine in mind: what it holds, what it held, what an operator decided for it.

use std::fmt;

use serde::{Serialize, Serializer};

use super::offer::{self, No, Offer};
use super::{Answer, Draft, Upload, World};
use crate::catalog;
use crate::explain::{Mend, Mismatch, explain, mend};
use crate::facts::Facts;
use crate::fleet::Fresh;
use crate::machine::{Holding, Identity, Phase, Record, Seconds, system_name};
use crate::matching::{Matcher, NoMatch};
use crate::secret;
use crate::state::Count;
use crate::units::Name;
use crate::value::Variables;

/// An upload, played through.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// What the machine would be told.
    pub answer: Answer,
    /// What the log would say.
    pub warnings: Vec<String>,
    /// The profiles, in the order of `state`.
    pub profiles: Vec<Tried>,
}

/// One profile and this machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tried {
    /// Its name.
    pub profile: Name,
    /// How many of it may still be installed: a number or `"*"`.
    #[serde(serialize_with = "as_in_state")]
    pub count: Count,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, for people, on one line.
    pub brief: String,
    /// Why, for people: sentences in lines of at most 100 columns.
    pub reason: String,
    /// What the machine would get of its CMDB, when it fits and there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<Given>,
    /// Where its specs fail, when they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mismatch: Option<Mismatch>,
    /// The smallest change that makes them fit, when they do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<Mend>,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// What became of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The machine gets it, or has it.
    Taken,
    /// It fits, and another one is taken.
    Fits,
    /// Its count is 0, so it is not tried.
    Skipped,
    /// Its specs do not fit.
    Mismatch,
    /// Whether its specs fit was not decided within the budget.
    Undecided,
    /// Its specs are missing or broken.
    Unreadable,
    /// It fits and has no CMDB entry left for this machine.
    NothingLeft,
    /// It fits, and something is wrong with it that must be mended first.
    Stops,
}

/// A CMDB entry that a machine would be given.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Given {
    /// Where it stands in the CMDB, from 0.
    pub position: usize,
    /// Why this one.
    pub why: Chosen,
    /// What it would hold afterwards, secrets replaced.
    pub values: Variables,
}

/// Why a machine gets this entry and no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Chosen {
    /// It holds it already.
    Held,
    /// It held it before, and it is still as it was.
    HeldBefore,
    /// An operator named it (`assign`).
    Assigned,
    /// The first that agrees on its `$$` variables, which are these.
    Keys(String),
    /// It has the values that the facts bind.
    SameValues,
    /// The first that is free.
    FirstFree,
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Chosen::Held => f.write_str("the machine holds it already"),
            Chosen::HeldBefore => f.write_str("the machine held it before"),
            Chosen::Assigned => f.write_str("an operator assigned it"),
            Chosen::Keys(keys) => write!(f, "the first for {keys}"),
            Chosen::SameValues => f.write_str("it has this machine's values"),
            Chosen::FirstFree => f.write_str("the first that is free"),
        }
    }
}

fn as_in_state<S: Serializer>(count: &Count, serializer: S) -> Result<S::Ok, S::Error> {
    match count {
        Count::Unlimited => serializer.serialize_str("*"),
        Count::Left(left) => serializer.serialize_i64(*left),
    }
}

impl World {
    /// Plays an upload of these facts through, and asks every profile. Changes nothing.
    pub fn try_out(&self, facts: &Facts, now: Seconds, fresh: &Fresh) -> Trial {
        let matcher = Matcher::new(facts);
        let decision = self.upload_matched(&matcher, now, fresh);
        let upload = Upload { facts, matcher: &matcher, fresh };
        let record = match self.recognise(facts, &mut Draft::new(self, now)) {
            Ok(record) => record,
            // Nobody knows which machine it is; its facts can be held against the specs.
            Err(_) => Record::new(system_name(facts), Identity::of(facts), now),
        };
        let taken = match &decision.answer {
            Answer::Plan { plan, .. } => Some(plan.profile.clone()),
            Answer::Installed { profile, .. } => Some(profile.clone()),
            Answer::Refused(_) | Answer::Recorded { .. } | Answer::Done(_) => None,
        };
        let trying = Trying { world: self, upload: &upload, record: &record, taken };
        let state = self.state.good();
        let profiles = state.into_iter().flat_map(|state| state.profiles());
        let profiles = profiles.map(|(profile, count)| trying.profile(profile, count)).collect();
        Trial { answer: decision.answer, warnings: decision.warnings, profiles }
    }
}

struct Trying<'a> {
    world: &'a World,
    upload: &'a Upload<'a>,
    record: &'a Record,
    taken: Option<Name>,
}

impl Trying<'_> {
    fn profile(&self, profile: &Name, count: Count) -> Tried {
        let mut tried = Tried {
            profile: profile.clone(),
            count,
            outcome: Outcome::Mismatch,
            brief: String::new(),
            reason: String::new(),
            entry: None,
            mismatch: None,
            mend: None,
            advice: None,
        };
        let counted = self.record.assignment.as_ref().is_some_and(|it| it.profile == *profile);
        let skipped = !count.is_available() && !counted;
        (tried.outcome, tried.reason) = match self.world.offer(profile, self.record, self.upload) {
            Ok(offer) => {
                let holding = offer.holding.as_ref();
                tried.entry = holding.map(|holding| self.given(profile, &offer, holding));
                self.fits(profile, &offer)
            }
            Err(No::Match(no)) => self.mismatch(profile, no, &mut tried),
            Err(No::Specs(reason)) => (Outcome::Unreadable, reason),
            Err(No::Left(reason)) => (Outcome::NothingLeft, reason),
            Err(No::Stop { reason, .. }) => (Outcome::Stops, reason),
        };
        if tried.brief.is_empty() {
            tried.brief = tried.reason.replace('\n', " ");
        }
        if skipped {
            let fits = matches!(tried.outcome, Outcome::Fits | Outcome::NothingLeft);
            tried.outcome = Outcome::Skipped;
            let reason = if fits { "its specs fit".to_owned() } else { tried.reason };
            tried.reason = format!("its count in `state` is {count}\n{reason}");
            let brief = if fits { "its specs fit" } else { &tried.brief };
            tried.brief = format!("count {count}; {brief}");
        }
        tried
    }

    fn fits(&self, profile: &Name, offer: &Offer) -> (Outcome, String) {
        let name = &offer.plan.hostname;
        match &self.taken {
            Some(taken) if taken == profile && self.record.phase == Phase::Installed => {
                (Outcome::Taken, format!("installed as {}", self.record.display_name()))
            }
            Some(taken) if taken == profile => (Outcome::Taken, format!("as {name}")),
            Some(taken) if self.record.is_bound() => {
                (Outcome::Fits, format!("it fits, and the machine holds {taken}"))
            }
            Some(taken) => (Outcome::Fits, format!("it fits as well, and {taken} comes first")),
            None => (Outcome::Fits, "it fits, but nothing is given".to_owned()),
        }
    }

    fn mismatch(&self, profile: &Name, no: NoMatch, tried: &mut Tried) -> (Outcome, String) {
        let matcher = self.upload.matcher;
        let files = self.world.catalog.profile(profile);
        let spec = files.and_then(|files| files.specs.good());
        let (Some(spec), NoMatch::Unsatisfied) = (spec, no) else {
            return (Outcome::Undecided, no.to_string());
        };
        // A list that could be refuted may still be too large to be explained.
        tried.mend = mend(matcher, spec).ok().flatten();
        tried.advice = tried.mend.as_ref().map(|mend| mend.sentence(spec));
        tried.mismatch = explain(matcher, spec).ok().flatten();
        if let Some(mismatch) = &tried.mismatch {
            tried.brief = mismatch.in_short(matcher);
        }
        let reason = tried.mismatch.as_ref().map(|mismatch| mismatch.sentence(matcher, spec));
        (Outcome::Mismatch, reason.unwrap_or_else(|| no.to_string()))
    }

    /// The entry that the machine would hold, and why it is this one.
    fn given(&self, profile: &Name, offer: &Offer, holding: &Holding) -> Given {
        let earlier = self.record.assignment.as_ref().filter(|it| it.profile == *profile);
        let earlier = earlier.and_then(|assignment| assignment.entry.as_ref());
        let pin = self.record.pin.as_ref().filter(|pin| pin.profile == *profile);
        let spec = self.world.catalog.profile(profile).and_then(|files| files.specs.good());
        let keys = spec.map(|spec| catalog::cmdb_keys(spec, &offer.merged));
        let bound = spec.and_then(|spec| self.upload.matcher.find(spec).ok());
        let same_values = bound.is_some_and(|bound| {
            !bound.variables.is_empty() && holding.before.agrees(&bound.variables)
        });
        let why = match earlier {
            Some(earlier) if earlier.bound => Chosen::Held,
            Some(earlier) if earlier.position == holding.position => Chosen::HeldBefore,
            _ if pin.is_some_and(|pin| !pin.variables.is_empty()) => Chosen::Assigned,
            _ => match keys.filter(|keys| !keys.is_empty()) {
                Some(keys) => Chosen::Keys(offer::listed(&keys, &offer.secret)),
                None if same_values => Chosen::SameValues,
                None => Chosen::FirstFree,
            },
        };
        let entry = &holding.after;
        let values = secret::redacted_variables(Some(entry), &entry.variables());
        Given { position: holding.position, why, values }
    }
}
