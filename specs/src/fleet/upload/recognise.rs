//! Which machine sends these facts: a known one, a new one, or one that cannot be told apart.
//!
//! Identities are compared in the census; here is what follows from it for the records. A record
//! that loses its addresses to the machine says so, or is forgotten.

use crate::facts::Facts;
use crate::fleet::census::Who;
use crate::fleet::draft::Draft;
use crate::fleet::{Decision, World};
use crate::machine::{Identity, Record, system_name};
use crate::units::{Mac, Name};

/// Why a machine without any number is refused.
pub(in crate::fleet) const NOBODY: &str = "the facts hold no MAC address, serial number or UUID \
                                           that tells this machine from others: nothing was given";

impl World {
    /// The record of the machine with these facts, a new one if need be.
    pub(super) fn recognise(
        &self,
        facts: &Facts,
        draft: &mut Draft<'_>,
    ) -> Result<Record, Box<Decision>> {
        let identity = Identity::of(facts);
        let now = draft.now;
        let macs = identity.macs.clone();
        let (record, displaced) = match self.census.identify(&identity) {
            Who::Nobody => return Err(Box::new(Decision::refused(422, NOBODY))),
            Who::Twin { of, evidence } => return Err(Box::new(twin(&of, &evidence))),
            Who::New { resembles } => {
                let id = self.census.unused_id(&system_name(facts));
                warn_of_resemblance(draft, &id, &identity, &resembles);
                (Record::new(id, identity, now), Vec::new())
            }
            Who::Known { mut record, displaced } => {
                draft.remember_stored(record.as_ref().clone());
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
}

pub(in crate::fleet) fn twin(of: &[Record], evidence: &str) -> Decision {
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
