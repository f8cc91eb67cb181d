//! The world that transitions look at: what the files say, and who holds what.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Census, Change};
use crate::catalog::{self, Catalog};
pub use crate::catalog::{File, Loaded};
use crate::cmdb::Cmdb;
use crate::configure::Configure;
use crate::diagnostic::Diagnostic;
use crate::lang::Spec;
use crate::state::State;
use crate::units::Name;

/// Everything a transition looks at.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// What only people change; shared with what is told of a decision later.
    pub catalog: Arc<Catalog>,
    /// Order and counts.
    pub state: Loaded<State>,
    /// The last `state` that could be understood, while there is none: counts that go back
    /// meanwhile are kept here, and the mended file gets them.
    last_state: Option<State>,
    /// The CMDBs, by profile.
    pub cmdbs: BTreeMap<Name, Loaded<Cmdb>>,
    /// The machines.
    pub census: Census,
}

impl World {
    /// The files that belong to the profiles in `state` as it is read now, and the CMDBs that
    /// machines hold entries of: what to read next. Scripts are known once the configure files
    /// are read.
    pub fn files(&self) -> Vec<File> {
        let mut files = vec![File::State];
        let listed =
            |profile: &&Name| self.state.good().is_some_and(|it| it.count(profile).is_some());
        let unlisted = self.census.profiles_held().into_iter().filter(|it| !listed(it));
        files.extend(unlisted.map(|profile| File::Cmdb(profile.clone())));
        let Some(state) = self.state.good() else { return files };
        for (profile, _) in state.profiles() {
            files.push(File::Specs(profile.clone()));
            files.push(File::Cmdb(profile.clone()));
            files.push(File::Configure(profile.clone()));
            let configure = self.catalog.profile(profile).and_then(|it| it.configure.good());
            let scripts = configure.map(Configure::scripts).unwrap_or_default();
            files.extend(scripts.into_iter().map(|name| File::Script(name.to_owned())));
        }
        files
    }

    /// Takes over a file as it stands on disk now; `None` when it does not exist.
    ///
    /// A `state` that was edited by hand keeps what was taken and given back since it was last
    /// written. After a CMDB was edited by hand, [`World::reconcile`] says what that means for
    /// the machines that hold its entries.
    ///
    /// # Errors
    ///
    /// The file cannot be understood. The world is as it was before: the last good version
    /// stays in force unless the caller says [`World::set_broken`].
    pub fn read(&mut self, file: &File, bytes: Option<&[u8]>) -> Result<(), Vec<Diagnostic>> {
        let text = bytes.map(|bytes| catalog::text_of(file, bytes)).transpose()?;
        let name = file.to_string();
        match file {
            File::State => {
                let state = text.map(|text| State::parse(&name, text)).transpose()?;
                match state {
                    Some(state) => {
                        let earlier = self.counts();
                        let state = match earlier {
                            Some(earlier) => earlier.rebased_on(state),
                            None => state,
                        };
                        self.last_state = None;
                        self.state = Loaded::Good(state);
                    }
                    None => self.lose_state(Loaded::Missing),
                }
            }
            File::Specs(profile) => {
                let spec = text.map(|text| Spec::parse(&name, text)).transpose();
                let spec = spec.map_err(|finding| vec![finding])?;
                if let Some(cmdb) = self.cmdbs.get_mut(profile).and_then(Loaded::good_mut) {
                    cmdb.reindex(&spec.as_ref().map(catalog::lookup_keys).unwrap_or_default());
                }
                self.profile(profile).specs = spec.map_or(Loaded::Missing, Loaded::Good);
            }
            File::Cmdb(profile) => {
                let spec = self.catalog.profile(profile).and_then(|it| it.specs.good());
                let keys = spec.map(catalog::lookup_keys).unwrap_or_default();
                let cmdb = text.map(|text| Cmdb::parse(&name, text, &keys)).transpose()?;
                let cmdb = cmdb.map_or(Loaded::Missing, Loaded::Good);
                self.cmdbs.insert(profile.clone(), cmdb);
            }
            File::Configure(profile) => {
                let configure = text.map(|text| Configure::parse(&name, text)).transpose()?;
                self.profile(profile).configure = configure.map_or(Loaded::Missing, Loaded::Good);
            }
            File::Script(script) => match text {
                Some(text) => {
                    Arc::make_mut(&mut self.catalog)
                        .scripts
                        .insert(script.clone(), text.to_owned());
                }
                None => {
                    Arc::make_mut(&mut self.catalog).scripts.remove(script);
                }
            },
        }
        Ok(())
    }

    /// Gives up the last good version of a file: its profile is refused with these findings (a
    /// broken `state`: every upload is).
    pub fn set_broken(&mut self, file: &File, findings: Vec<Diagnostic>) {
        match file {
            File::State => self.lose_state(Loaded::Broken(findings)),
            File::Specs(profile) => self.profile(profile).specs = Loaded::Broken(findings),
            File::Cmdb(profile) => {
                self.cmdbs.insert(profile.clone(), Loaded::Broken(findings));
            }
            File::Configure(profile) => {
                self.profile(profile).configure = Loaded::Broken(findings);
            }
            File::Script(script) => {
                Arc::make_mut(&mut self.catalog).scripts.remove(script);
            }
        }
    }

    /// What is left of each profile: as `state` says, or said when it could be understood last.
    pub(super) fn counts(&self) -> Option<&State> {
        self.state.good().or(self.last_state.as_ref())
    }

    fn lose_state(&mut self, instead: Loaded<State>) {
        if let Loaded::Good(state) = std::mem::replace(&mut self.state, instead) {
            self.last_state = Some(state);
        }
    }

    /// Says which counts the file `state` does not hold yet.
    pub fn set_pending_counts(&mut self, pending: BTreeMap<Name, i64>) {
        if let Some(state) = self.state.good_mut().or(self.last_state.as_mut()) {
            state.set_pending(pending);
        }
    }

    /// Makes a change true. Names the file whose text has to be another one now, if there is
    /// one: also a file that cannot be understood or is not there, so that the change is not
    /// taken for written.
    pub fn apply(&mut self, change: &Change) -> Option<File> {
        match change {
            Change::Count { profile, by } => {
                if let Some(state) = self.state.good_mut().or(self.last_state.as_mut()) {
                    state.add(profile, *by);
                }
            }
            Change::Entry { profile, position, entry, text, .. } => {
                if let Some(cmdb) = self.cmdbs.get_mut(profile).and_then(Loaded::good_mut) {
                    cmdb.set(*position, entry.clone(), text.as_deref());
                }
            }
            Change::Record { record } => self.census.insert(record),
            Change::Forget { machine, .. } => {
                self.census.remove(machine);
            }
            Change::Facts { .. } => {}
        }
        change.file()
    }

    /// Whether a file that is rewritten is there and can be understood.
    pub fn is_good(&self, file: &File) -> bool {
        match file {
            File::State => self.state.good().is_some(),
            File::Cmdb(profile) => self.cmdb(profile).is_some(),
            File::Specs(_) | File::Configure(_) | File::Script(_) => false,
        }
    }

    /// The text that a file has to have now; only `state` and CMDBs are ever rewritten.
    pub fn text(&self, file: &File) -> Option<String> {
        match file {
            File::State => Some(self.state.good()?.to_text()),
            File::Cmdb(profile) => Some(self.cmdb(profile)?.to_text()),
            File::Specs(_) | File::Configure(_) | File::Script(_) => None,
        }
    }

    /// As [`World::text`], for one who is about to write it: a CMDB keeps this text and not what
    /// it was made from.
    pub fn fold(&mut self, file: &File) -> Option<String> {
        match file {
            File::Cmdb(profile) => Some(self.cmdbs.get_mut(profile)?.good_mut()?.fold()),
            file => self.text(file),
        }
    }

    /// Tells that a file was written with this text, which [`World::text`] gave now or earlier.
    pub fn written(&mut self, file: &File, text: &str) {
        if let (File::State, Some(state)) = (file, self.state.good_mut()) {
            state.written(text);
        }
    }

    /// The CMDB of a profile, when there is one that can be understood.
    pub fn cmdb(&self, profile: &Name) -> Option<&Cmdb> {
        self.cmdbs.get(profile)?.good()
    }

    fn profile(&mut self, name: &Name) -> &mut catalog::Profile {
        Arc::make_mut(&mut self.catalog).profiles.entry(name.clone()).or_default()
    }
}
