//! A machine sends its facts: what it gets.

pub(super) mod trial;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::census::Who;
use super::draft::Draft;
use super::{Answer, Decision, Fresh, Refused, World};
use crate::catalog::{self, Catalog, Loaded};
use crate::cmdb::{Choice, Claimant, Entry};
use crate::diagnostic::Diagnostic;
use crate::explain;
use crate::facts::Facts;
use crate::lang::Spec;
use crate::machine::{Assignment, Holding, Identity, Phase, Record, Seconds, system_name};
use crate::matching::{Matcher, NoMatch};
use crate::plan::build::{self, Inputs};
use crate::plan::{Action, BootTarget, Plan};
use crate::secret;
use crate::units::{Mac, Name};
use crate::value::{Value, Variables};
use crate::wire::ProfileRefusal;

/// The variable that names the profile, as in the original. It is not stored in the entry.
const PROFILE_VARIABLE: &str = "edeploy-profile";

/// Why a machine without any number is refused.
pub(super) const NOBODY: &str = "the facts hold no MAC address, serial number or UUID that tells \
                                 this machine from others: nothing was given";

/// Why a profile is not the machine's.
#[derive(Debug)]
enum No {
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
struct Offer {
    profile: Name,
    holding: Option<Holding>,
    merged: Variables,
    /// The names of the variables that are bound to secrets.
    secret: BTreeSet<String>,
    plan: Plan,
}

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

    /// The record of the machine with these facts, a new one if need be.
    fn recognise(&self, facts: &Facts, draft: &mut Draft<'_>) -> Result<Record, Box<Decision>> {
        let identity = Identity::of(facts);
        let now = draft.now;
        let macs = identity.macs.clone();
        let (record, displaced) = match self.census.identify(&identity) {
            Who::Nobody => {
                return Err(Box::new(Decision::refused(422, NOBODY)));
            }
            Who::Twin { of, evidence } => return Err(Box::new(twin(&of, &evidence))),
            Who::New { resembles } => {
                let id = self.census.unused_id(&system_name(facts));
                warn_of_resemblance(draft, &id, &identity, &resembles);
                (Record::new(id, identity, now), Vec::new())
            }
            Who::Known { mut record, displaced } => {
                if std::mem::take(&mut record.rebinding) {
                    record.note(now, "taken over by the machine that uploaded (rebind)");
                    record.identity = identity;
                } else {
                    record.identity = identity.or_earlier(std::mem::take(&mut record.identity));
                }
                (*record, displaced)
            }
        };
        let spoken_for: Vec<Name> = displaced.iter().map(|other| other.id.clone()).collect();
        for other in displaced {
            displace(draft, other, &macs);
        }
        for mut other in self.census.formerly_with(&macs) {
            if other.id != record.id && !spoken_for.contains(&other.id) {
                other.identity.lose(&macs);
                other.note(now, format!("a NIC it had is now in {}", record.display_name()));
                draft.save(other);
            }
        }
        Ok(record)
    }

    fn refuse_without_state(&self) -> Option<Decision> {
        match &self.state {
            Loaded::Good(_) => None,
            Loaded::Missing => Some(Decision::refused(
                503,
                "the configuration holds no `state`: no profile can be tried",
            )),
            Loaded::Broken(findings) => Some(Decision::refused(503, broken(findings))),
        }
    }

    /// Whether a profile would be given to the machine, and what.
    fn offer(&self, profile: &Name, record: &Record, upload: &Upload<'_>) -> Result<Offer, No> {
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
        let bind = |position: usize, before: Entry, before_text: Option<String>| {
            let after = before.bound_to(variables).with_secrets(secret);
            Ok(Some(Holding { position, before, before_text, after, bound: true }))
        };
        let earlier = record.assignment.as_ref().filter(|it| it.profile == *profile);
        if let Some(holding) = earlier.and_then(|assignment| assignment.entry.as_ref()) {
            if holding.bound {
                if !holding.before.agrees(&keys) && !holding.after.agrees(&keys) {
                    let name = record.display_name();
                    let reason = format!(
                        "{name} holds entry {} of {profile}.cmdb, which is not for {}: \
                         `edeploy-server release {name}` lets it choose again",
                        holding.position + 1,
                        listed(&keys, secret),
                    );
                    return Err(No::Stop { status: 409, reason });
                }
                let Holding { position, before, before_text, .. } = holding.clone();
                return bind(position, before, before_text);
            }
            // It was given back before anything was destroyed: the same one, if it is still so.
            let unchanged = cmdb.entry(holding.position).as_ref() == Some(&holding.before);
            let taken = self.census.holder(profile, holding.position).is_some();
            if unchanged && !taken && holding.before.agrees(&keys) {
                let Holding { position, before, before_text, .. } = holding.clone();
                return bind(position, before, before_text);
            }
        }
        let pinned = record.pin.as_ref().filter(|pin| pin.profile == *profile);
        let named = pinned.and_then(|pin| {
            let free = cmdb.find_free(&pin.variables)?;
            self.census.holder(profile, free).is_none().then_some(free)
        });
        let choice = match named {
            Some(position) => Choice::Entry(position),
            None => cmdb.choose(&keys, variables, &self.claimant(profile, record)),
        };
        match choice {
            Choice::NoneNeeded => Ok(None),
            Choice::Entry(position) => {
                let before = cmdb.entry(position).unwrap_or_default();
                bind(position, before, cmdb.entry_text(position).map(str::to_owned))
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

/// One upload, while it is decided.
struct Upload<'a> {
    facts: &'a Facts,
    matcher: &'a Matcher<'a>,
    fresh: &'a Fresh,
}

impl Upload<'_> {
    /// Identifiers of a plan derive from this: the same as long as the machine holds what it
    /// was given, another one when it is installed anew.
    fn nonce<'a>(&'a self, record: &'a Record) -> &'a crate::units::Token {
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
        let refused = refused(&tried);
        let catalog = Arc::clone(&draft.world.catalog);
        let no_match = tried.into_iter().map(|(_, no)| match no {
            Some(No::Match(no)) => Some(no),
            _ => None,
        });
        let untold = Untold { catalog, no_match: no_match.collect() };
        (self.unmatched(draft, record, refused), Some(untold))
    }

    /// Why a profile was not given, in one sentence.
    fn told(&self, world: &World, profile: &Name, no: &No) -> String {
        match no {
            No::Match(no) => why(self.matcher, &world.catalog, profile, no),
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
            variables: without(variables, &offer.secret),
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
        draft.save_with_facts(record, self.facts);
        draft.finish(Answer::Plan { machine, ticket, plan: Box::new(offer.plan) })
    }
}

/// Why profiles did not match, not put in words yet.
#[derive(Debug, Clone)]
pub struct Untold {
    catalog: Arc<Catalog>,
    /// For each profile of the refusal, if that is why.
    no_match: Vec<Option<NoMatch>>,
}

impl Untold {
    /// Puts it in words.
    pub fn tell(&self, matcher: &Matcher<'_>, refused: &mut Refused) {
        for (told, no) in refused.profiles.iter_mut().zip(&self.no_match) {
            if let (Some(no), Ok(profile)) = (no, told.profile.parse()) {
                told.reason = why(matcher, &self.catalog, &profile, no);
            }
        }
    }
}

/// Where the specs of a profile fail, in one sentence.
fn why(matcher: &Matcher<'_>, catalog: &Catalog, profile: &Name, no: &NoMatch) -> String {
    if *no == NoMatch::BudgetExhausted {
        // Looking for the line that failed would be as hopeless, at the same cost.
        return no.to_string();
    }
    let spec = catalog.profile(profile).and_then(|files| files.specs.good());
    match spec.map(|spec| (spec, explain::explain(matcher, spec))) {
        Some((spec, Ok(Some(mismatch)))) => mismatch.sentence(matcher, spec),
        _ => no.to_string(),
    }
}

/// The refusal of a machine that was tried on these profiles (`None`: none was wanted).
fn refused(tried: &[(Name, Option<No>)]) -> Refused {
    let profiles = tried.iter().map(|(profile, no)| ProfileRefusal {
        profile: profile.to_string(),
        reason: match no {
            None => "skipped: its count in `state` is 0".to_owned(),
            // Told later.
            Some(No::Match(_)) => String::new(),
            Some(No::Specs(reason) | No::Left(reason) | No::Stop { reason, .. }) => reason.clone(),
        },
    });
    let profiles = profiles.collect();
    if let Some((_, Some(No::Stop { status, reason }))) = tried.last() {
        return Refused { status: *status, reason: reason.clone(), profiles };
    }
    let wanted = tried.iter().any(|(_, no)| no.is_some());
    let fitted = tried.iter().any(|(_, no)| matches!(no, Some(No::Left(_))));
    let (status, reason) = match (wanted, fitted) {
        (true, true) => (409, "the profiles that fit have no CMDB entry left"),
        (true, false) => (422, "no profile fits this machine"),
        (false, _) => (409, "no machine of any profile is wanted: every count is 0"),
    };
    Refused { status, reason: reason.to_owned(), profiles }
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

pub(super) fn twin(of: &[Record], evidence: &str) -> Decision {
    let names: Vec<&str> = of.iter().map(|record| record.display_name()).collect();
    let name = names.first().copied().unwrap_or_default();
    let reason = format!(
        "twin of {}: {evidence}; nothing was given. `edeploy-server rebind {name}` if this is \
         that machine with other parts, `edeploy-server forget {name}` if that one is gone",
        names.join(" and "),
    );
    let mut decision = Decision::refused(409, reason.clone());
    decision.warnings.push(reason);
    decision
}

fn warn_of_resemblance(
    draft: &mut Draft<'_>,
    id: &Name,
    identity: &Identity,
    resembles: &[Record],
) {
    let Some(first) = resembles.first() else { return };
    let what = match &identity.serial {
        Some(serial) if first.identity.serial.as_ref() == Some(serial) => {
            format!("serial `{serial}`")
        }
        _ => "UUID".to_owned(),
    };
    let others = if resembles.len() == 1 { "" } else { " and others" };
    let name = first.display_name();
    // With one double, `rebind` does both while nothing is written.
    let advice = match resembles.len() {
        1 => format!("`edeploy-server rebind {name}` before it is installed"),
        _ => format!("`edeploy-server forget {id}`, then `edeploy-server rebind {name}`"),
    };
    draft.warnings.push(format!(
        "a new machine, {id}, has the {what} of {name}{others} and none of its MAC addresses; if \
         it is that machine with another board: {advice}"
    ));
}

/// A record loses what a machine took over from it by `rebind`: its addresses, or everything
/// when it has no other.
fn displace(draft: &mut Draft<'_>, mut other: Record, macs: &[Mac]) {
    other.identity.lose(macs);
    if other.identity.is_addressed() {
        let now = draft.now;
        other.note(now, "lost a MAC address to another machine (rebind)");
        draft.save(other);
    } else {
        draft.free_entry(&mut other);
        draft.give_count_back(&mut other);
        draft.forget(other);
    }
}

/// The first finding of a file, as one line.
fn broken(findings: &[Diagnostic]) -> String {
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
fn without(mut variables: Variables, secret: &BTreeSet<String>) -> Variables {
    for name in secret {
        if let Some(value) = variables.get_mut(name) {
            *value = Value::from(secret::REDACTED);
        }
    }
    variables
}

/// `tag=T1, rack=2`, secrets excepted.
fn listed(keys: &Variables, secret: &BTreeSet<String>) -> String {
    let shown = without(secret::redacted_variables(None, keys), secret);
    shown.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}
