//! What a profile would give to a machine: whether its specs fit, the entry of its CMDB, the plan.
//!
//! An offer is made without anything being taken, so that every profile can be asked. Not here:
//! which profile is asked, and what becomes of an offer that is accepted.

use std::collections::BTreeSet;

use super::Upload;
use crate::catalog;
use crate::cmdb::{Choice, Claimant, Cmdb, Entry};
use crate::diagnostic::Diagnostic;
use crate::facts::Facts;
use crate::fleet::{Loaded, World};
use crate::lang::Spec;
use crate::machine::{Holding, Identity, Record};
use crate::matching::NoMatch;
use crate::plan::Plan;
use crate::plan::build::{self, Inputs};
use crate::secret;
use crate::units::Name;
use crate::value::{Value, Variables};

/// The variable that names the profile, as in the original. It is not stored in the entry.
const PROFILE_VARIABLE: &str = "edeploy-profile";

/// Why a profile is not the machine's.
#[derive(Debug)]
pub(super) enum No {
    /// The facts do not satisfy its specs; the next one may fit. Why is found when it is asked
    /// for, which it is not when a later profile fits.
    Match(NoMatch),
    /// Nobody can say whether it fits: its specs are missing or broken. The next one may.
    Specs(String),
    /// It fits and has nothing left to give; the next one may.
    Left(String),
    /// It fits, and what is wrong with it must be mended first: no other profile is tried.
    Stop {
        /// HTTP status.
        status: u16,
        /// Why.
        reason: String,
    },
}

/// What a machine would be given.
pub(super) struct Offer {
    pub(super) profile: Name,
    pub(super) holding: Option<Holding>,
    pub(super) merged: Variables,
    /// The names of the variables that are bound to secrets.
    pub(super) secret: BTreeSet<String>,
    pub(super) plan: Plan,
}

impl World {
    /// Whether a profile would be given to the machine, and what.
    pub(super) fn offer(
        &self,
        profile: &Name,
        record: &Record,
        upload: &Upload<'_>,
    ) -> Result<Offer, No> {
        let files = self.catalog.profile(profile);
        let spec = match files.map(|files| &files.specs) {
            Some(Loaded::Good(spec)) => spec,
            Some(Loaded::Broken(findings)) => return Err(No::Specs(broken(findings))),
            Some(Loaded::Missing) | None => {
                return Err(No::Specs(format!("there is no {profile}.specs")));
            }
        };
        let pin = record.pin.as_ref().filter(|pin| pin.profile == *profile);
        let (mut variables, secret) = match (upload.matcher.find(spec), pin) {
            (Ok(matched), _) => {
                let secret = secret_variables(spec, upload.facts, &matched.lines);
                (matched.variables, secret)
            }
            // An assignment by hand is the operator's word for what the facts do not say.
            (Err(_), Some(pin)) if !pin.variables.is_empty() => (Variables::new(), BTreeSet::new()),
            (Err(no), _) => return Err(No::Match(no)),
        };
        let pinned = pin.map(|pin| &pin.variables);
        variables.extend(pinned.into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
        let stop = |status, reason| Err(No::Stop { status, reason });
        let configure = match files.map(|files| &files.configure) {
            Some(Loaded::Good(configure)) => configure,
            Some(Loaded::Broken(findings)) => return stop(503, broken(findings)),
            Some(Loaded::Missing) | None => {
                return stop(503, format!("{profile} fits, but there is no {profile}.configure"));
            }
        };
        let holding = self.holding(profile, record, spec, &variables, &secret)?;
        let unbound = Entry::default().bound_to(&variables).with_secrets(&secret);
        let entry = holding.as_ref().map_or(&unbound, |holding| &holding.after);
        let mut merged = match &holding {
            Some(holding) => holding.after.variables(),
            None => variables,
        };
        merged.insert(PROFILE_VARIABLE.to_owned(), Value::from(profile.as_str()));
        let secrets = secret::values(entry, &merged);
        let inputs = Inputs {
            facts: upload.facts,
            variables: &merged,
            profile,
            nonce: upload.nonce(record),
            secrets: &secrets,
            scripts: &self.catalog.scripts,
        };
        match build::plan(configure, &inputs) {
            Ok(plan) => Ok(Offer { profile: profile.clone(), holding, merged, secret, plan }),
            Err(error) => stop(422, format!("{profile} fits, but no plan can be made: {error}")),
        }
    }

    /// The entry the machine gets from the profile's CMDB, when there is one.
    fn holding(
        &self,
        profile: &Name,
        record: &Record,
        spec: &Spec,
        variables: &Variables,
        secret: &BTreeSet<String>,
    ) -> Result<Option<Holding>, No> {
        let cmdb = match self.cmdbs.get(profile) {
            None | Some(Loaded::Missing) => {
                let held = record.bound_entry().filter(|(held, _)| *held == profile);
                let Some((_, holding)) = held else { return Ok(None) };
                let name = record.display_name();
                let reason = format!(
                    "{name} holds entry {} of {profile}.cmdb, which is not there: put it back, or \
                     `edeploy-server release {name}`",
                    holding.position + 1
                );
                return Err(No::Stop { status: 503, reason });
            }
            Some(Loaded::Good(cmdb)) => cmdb,
            Some(Loaded::Broken(findings)) => {
                return Err(No::Stop { status: 503, reason: broken(findings) });
            }
        };
        let keys = catalog::cmdb_keys(spec, variables);
        let bound = |position: usize, before: Entry, before_text: Option<String>| {
            let after = before.bound_to(variables).with_secrets(secret);
            Some(Holding { position, before, before_text, after, bound: true })
        };
        let earlier = record.assignment.as_ref().filter(|it| it.profile == *profile);
        let earlier = earlier.and_then(|assignment| assignment.entry.as_ref());
        if let Some(earlier) = earlier {
            if earlier.bound {
                must_be_for(earlier, profile, record, &keys, secret)?;
            }
            if earlier.bound || self.is_as_it_was(earlier, profile, cmdb, &keys) {
                let Holding { position, before, before_text, .. } = earlier.clone();
                return Ok(bound(position, before, before_text));
            }
        }
        match self.choose(cmdb, profile, record, &keys, variables) {
            Choice::NoneNeeded => Ok(None),
            Choice::Entry(position) => {
                let before = cmdb.entry(position).unwrap_or_default();
                Ok(bound(position, before, cmdb.entry_text(position)))
            }
            Choice::Held { position, holder } => {
                let known = self.census.get(&holder);
                let name = known.as_ref().map_or(holder.as_str(), Record::display_name);
                Err(No::Left(format!(
                    "entry {} of {profile}.cmdb is for {} and belongs to {name}",
                    position + 1,
                    listed(&keys, secret),
                )))
            }
            Choice::Unknown => {
                let keys = listed(&keys, secret);
                Err(No::Left(format!("no entry of {profile}.cmdb is for {keys}")))
            }
            Choice::Exhausted => {
                Err(No::Left(format!("all {} entries of {profile}.cmdb are used", cmdb.len())))
            }
        }
    }

    /// Whether an entry that was given back before anything was destroyed is still the same and
    /// nobody's: then the machine gets it again.
    fn is_as_it_was(
        &self,
        earlier: &Holding,
        profile: &Name,
        cmdb: &Cmdb,
        keys: &Variables,
    ) -> bool {
        let unchanged = cmdb.entry(earlier.position).as_ref() == Some(&earlier.before);
        let taken = self.census.holder(profile, earlier.position).is_some();
        unchanged && !taken && earlier.before.agrees(keys)
    }

    /// The entry that an operator named, if it is free, or else the CMDB's choice.
    fn choose(
        &self,
        cmdb: &Cmdb,
        profile: &Name,
        record: &Record,
        keys: &Variables,
        variables: &Variables,
    ) -> Choice {
        let pinned = record.pin.as_ref().filter(|pin| pin.profile == *profile);
        let named = pinned.and_then(|pin| {
            let free = cmdb.find_free(&pin.variables)?;
            self.census.holder(profile, free).is_none().then_some(free)
        });
        match named {
            Some(position) => Choice::Entry(position),
            None => cmdb.choose(keys, variables, &self.claimant(profile, record)),
        }
    }

    fn claimant<'a>(&'a self, profile: &'a Name, record: &'a Record) -> Claimant<'a> {
        Claimant {
            holder: Box::new(move |position| {
                self.census.holder(profile, position).map(|holder| holder.id)
            }),
            machine: Some(&record.id),
            identifies: Box::new(move |entry| names_machine(entry, &record.identity)),
        }
    }
}

/// Refuses a machine that holds an entry which is not for the keys that its facts bind now.
fn must_be_for(
    held: &Holding,
    profile: &Name,
    record: &Record,
    keys: &Variables,
    secret: &BTreeSet<String>,
) -> Result<(), No> {
    if held.before.agrees(keys) || held.after.agrees(keys) {
        return Ok(());
    }
    let name = record.display_name();
    let reason = format!(
        "{name} holds entry {} of {profile}.cmdb, which is not for {}: \
         `edeploy-server release {name}` lets it choose again",
        held.position + 1,
        listed(keys, secret),
    );
    Err(No::Stop { status: 409, reason })
}

/// Whether a value of the entry is a MAC, the serial or the UUID of the machine: an entry that
/// is marked used but belongs to no record is this machine's from before there were records.
fn names_machine(entry: &Entry, identity: &Identity) -> bool {
    entry.fields.iter().any(|field| {
        let text = field.value.as_text().to_lowercase();
        identity.macs.iter().any(|mac| mac.as_str() == text)
            || identity.serial.as_deref() == Some(&text)
            || identity.uuid.as_deref() == Some(&text)
    })
}

/// The first finding of a file, as one line.
pub(super) fn broken(findings: &[Diagnostic]) -> String {
    findings.first().map(Diagnostic::one_line).unwrap_or_default()
}

/// The variables that a match binds to values of facts under keys named like secrets, whatever
/// the variables are called.
fn secret_variables(spec: &Spec, facts: &Facts, lines: &[usize]) -> BTreeSet<String> {
    let secret =
        spec.lines.iter().zip(lines).filter(|(_, fact)| {
            facts.0.get(**fact).is_some_and(|fact| secret::is_secret_key(&fact.2))
        });
    secret
        .filter_map(|(line, _)| line.columns[3].variable.as_ref())
        .map(|variable| variable.name.clone())
        .collect()
}

/// The variables with those of these names replaced.
pub(super) fn without(mut variables: Variables, secret: &BTreeSet<String>) -> Variables {
    for name in secret {
        if let Some(value) = variables.get_mut(name) {
            *value = Value::from(secret::REDACTED);
        }
    }
    variables
}

/// `tag=T1, rack=2`, secrets excepted.
pub(super) fn listed(keys: &Variables, secret: &BTreeSet<String>) -> String {
    let shown = without(secret::redacted_variables(None, keys), secret);
    shown.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}
