//! What operators decide: release, reinstall, rebind, forget, assign.

use super::draft::Draft;
use super::{Answer, Decision, World};
use crate::machine::{Phase, Pin, Record, Seconds};
use crate::units::Name;
use crate::value::Variables;

impl World {
    /// Takes back what a machine holds: its entry becomes what it was before the match, its
    /// count goes back to `state`. The machine stays known.
    pub fn release(&self, machine: &Name, now: Seconds) -> Decision {
        self.change(machine, now, |draft, record| {
            let name = record.display_name().to_owned();
            if record.assignment.is_none() && record.pin.is_none() {
                return Err(format!("{name} holds nothing"));
            }
            if draft.world.counts().is_none() {
                return Err(NO_STATE.to_owned());
            }
            let installing = record.phase.is_leased();
            give_everything_back(draft, record);
            record.enter(Phase::Released, now);
            record.note(now, "released");
            let still = if installing { "; it was still installing" } else { "" };
            Ok(format!("{name} is released{still}"))
        })
    }

    /// Lets an installed machine be installed once more at its next upload, with the same
    /// entry and count.
    pub fn reinstall(&self, machine: &Name, now: Seconds) -> Decision {
        self.change(machine, now, |_, record| {
            let name = record.display_name().to_owned();
            match record.phase {
                Phase::Installed => {
                    record.enter(Phase::Armed, now);
                    record.note(now, "to be installed again");
                    Ok(format!("{name} will be installed again when it boots from the network"))
                }
                Phase::Leased | Phase::Installing | Phase::Failed | Phase::Armed => {
                    Ok(format!("{name} is {}: its next upload gets a plan anyway", record.phase))
                }
                Phase::Unmatched | Phase::Released => {
                    Err(format!("{name} is {}: there is nothing to install again", record.phase))
                }
            }
        })
    }

    /// Lets the next machine that shares evidence with this record be this machine, whatever
    /// else has changed about it: a MAC address, or, when none of its addresses belongs to
    /// another record, the serial number or the UUID. The record that a swapped board was given
    /// meanwhile gives way, when it is the only other one with that number and its machine has
    /// written to no disk.
    pub fn rebind(&self, machine: &Name, now: Seconds) -> Decision {
        self.change(machine, now, |_, record| {
            let name = record.display_name().to_owned();
            let double = self.census.double_of(record).map(|double| {
                let double = double.display_name();
                format!("; {double}, which has its serial or UUID, is forgotten then")
            });
            let double = double.unwrap_or_default();
            record.rebinding = true;
            record.note(now, "waits for the machine that takes it over (rebind)");
            Ok(format!(
                "the next upload with a MAC address of {name} is taken for it, or one with its \
                 serial or UUID and no address of another machine{double}",
            ))
        })
    }

    /// Gives back what a machine holds and removes it from memory.
    pub fn forget(&self, machine: &Name, now: Seconds) -> Decision {
        let Some(known) = self.census.get(machine) else { return unknown(machine) };
        if self.counts().is_none() {
            return Decision::refused(503, NO_STATE);
        }
        let mut draft = Draft::new(self, now);
        let mut record = known;
        let name = record.display_name().to_owned();
        give_everything_back(&mut draft, &mut record);
        draft.forget(record);
        draft.finish(Answer::Done(format!("{name} is forgotten, and what it held is free")))
    }

    /// Decides by hand what a machine gets at its next upload: this profile, and with these
    /// values, which choose the CMDB entry when it has them and win over facts otherwise.
    pub fn assign(
        &self,
        machine: &Name,
        profile: &Name,
        variables: Variables,
        now: Seconds,
    ) -> Decision {
        let listed = self.state.good().and_then(|state| state.count(profile));
        if listed.is_none() {
            return Decision::refused(404, format!("`state` names no profile {profile}"));
        }
        self.change(machine, now, |_, record| {
            let name = record.display_name().to_owned();
            if record.is_bound() {
                return Err(format!(
                    "{name} is {} and holds what it was given: `edeploy-server release {name}` \
                     first",
                    record.phase
                ));
            }
            record.pin = Some(Pin { profile: profile.clone(), variables });
            record.note(now, format!("assigned by hand: {profile}"));
            Ok(format!("{name} gets {profile} at its next upload"))
        })
    }

    /// Changes one record; `change` answers the sentence for the operator, or why not.
    fn change(
        &self,
        machine: &Name,
        now: Seconds,
        change: impl FnOnce(&mut Draft<'_>, &mut Record) -> Result<String, String>,
    ) -> Decision {
        let Some(known) = self.census.get(machine) else { return unknown(machine) };
        let mut draft = Draft::new(self, now);
        let mut record = known.clone();
        match change(&mut draft, &mut record) {
            Ok(sentence) => {
                if record != known {
                    draft.save(record);
                }
                draft.finish(Answer::Done(sentence))
            }
            Err(reason) => Decision::refused(409, reason),
        }
    }
}

/// Why nothing can be given back.
const NO_STATE: &str = "there is no `state` that can be understood: mend it first, or the count \
                        of what is given back would be lost";

fn unknown(machine: &Name) -> Decision {
    Decision::refused(404, format!("no machine {machine} is known"))
}

fn give_everything_back(draft: &mut Draft<'_>, record: &mut Record) {
    draft.free_entry(record);
    draft.give_count_back(record);
    record.assignment = None;
    record.pin = None;
    record.rebinding = false;
}
