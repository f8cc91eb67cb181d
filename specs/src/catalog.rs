//! What a CONFIGDIR says, made from the texts of its files.
//!
//! Responsible for reading each file on its own, so that a mistake in the files of one profile
//! stops that profile and no other, and for saying which of them is broken and where. A broken
//! `state` stops everything: without it nobody knows which profile comes first. The counts and
//! entries that change while machines are installed live in [`crate::fleet::World`]; opening
//! files and noticing that one has changed is the server's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::configure::Configure;
use crate::diagnostic::Diagnostic;
use crate::lang::Spec;
use crate::literal;
use crate::units::Name;
use crate::value::Variables;

/// A file of a CONFIGDIR. `Display` is its file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum File {
    /// `state`
    State,
    /// `<profile>.specs`
    Specs(Name),
    /// `<profile>.cmdb`
    Cmdb(Name),
    /// `<profile>.configure`
    Configure(Name),
    /// A script that a configure file names.
    Script(String),
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            File::State => f.write_str("state"),
            File::Specs(profile) => write!(f, "{profile}.specs"),
            File::Cmdb(profile) => write!(f, "{profile}.cmdb"),
            File::Configure(profile) => write!(f, "{profile}.configure"),
            File::Script(name) => f.write_str(name),
        }
    }
}

/// What became of reading a file.
#[derive(Debug, Clone, Default)]
pub enum Loaded<T> {
    /// There is none.
    #[default]
    Missing,
    /// It says this.
    Good(T),
    /// It cannot be understood; at least one finding says why.
    Broken(Vec<Diagnostic>),
}

impl<T> Loaded<T> {
    /// What it says, when it can be understood.
    pub fn good(&self) -> Option<&T> {
        match self {
            Loaded::Good(value) => Some(value),
            Loaded::Missing | Loaded::Broken(_) => None,
        }
    }

    pub(crate) fn good_mut(&mut self) -> Option<&mut T> {
        match self {
            Loaded::Good(value) => Some(value),
            Loaded::Missing | Loaded::Broken(_) => None,
        }
    }
}

/// The files of a profile that only people change.
#[derive(Debug, Clone, Default)]
pub struct Profile {
    /// What hardware fits.
    pub specs: Loaded<Spec>,
    /// What a machine shall be.
    pub configure: Loaded<Configure>,
}

/// Everything that only people change: specs, configure files and scripts.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// By name of the profile.
    pub profiles: BTreeMap<Name, Profile>,
    /// Texts of scripts, by file name.
    pub scripts: BTreeMap<String, String>,
}

impl Catalog {
    /// The profile of this name; one without files when there is none.
    pub fn profile(&self, name: &Name) -> Option<&Profile> {
        self.profiles.get(name)
    }
}

/// The variables by which the CMDB of a profile with this spec list is looked up: those written
/// `$$` anywhere, else all of them.
pub fn lookup_keys(spec: &Spec) -> BTreeSet<String> {
    let variables = spec.variables();
    let keyed = variables.iter().any(|(_, cmdb)| *cmdb);
    let wanted = variables.iter().filter(|(_, cmdb)| *cmdb || !keyed);
    wanted.map(|(name, _)| (*name).to_owned()).collect()
}

/// Those of the variables of a match that are CMDB keys.
pub(crate) fn cmdb_keys(spec: &Spec, variables: &Variables) -> Variables {
    let keys = spec.variables().into_iter().filter(|(_, cmdb)| *cmdb);
    keys.filter_map(|(name, _)| variables.get_key_value(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The text of a file, or where it stops being UTF-8.
pub(crate) fn text_of<'a>(file: &File, bytes: &'a [u8]) -> Result<&'a str, Vec<Diagnostic>> {
    literal::text_of(&file.to_string(), bytes).map_err(|finding| vec![finding])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the index of a CMDB is made of: with other keys each entry would be looked at.
    #[test]
    fn entries_are_looked_up_by_the_variables_that_say_so_or_by_all() {
        for (columns, expected) in [
            (["a", "b", "c"], &[][..]),
            (["$disk", "size", "$size=gt(4)"], &["disk", "size"]),
            (["$disk", "size", "$$size"], &["size"]),
            (["$$disk", "$$key", "$size"], &["disk", "key"]),
        ] {
            let [name, key, value] = columns;
            let text = format!("[('disk', '{name}', '{key}', '{value}')]");
            let spec = Spec::parse("vm.specs", &text).unwrap();
            assert!(lookup_keys(&spec).iter().eq(expected), "{text}");
        }
    }
}
