//! Which machine is it: what in the facts tells one machine from another.
//!
//! A permanent MAC address decides. System UUID and serial number only confirm or contradict:
//! whole fleets of virtual machines share one serial. Values that manufacturers leave behind
//! when they forget to fill a field in count as absent; all of them stand in one table.
//!
//! Comparing an identity with the records that exist is [`crate::fleet`].

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::facts::Facts;
use crate::units::{Mac, Name};

/// How many addresses that it no longer shows are remembered of a machine.
pub const FORMER_MACS: usize = 64;

/// What tells one machine from another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Burnt-in addresses of its NICs, in the order of the facts.
    pub macs: Vec<Mac>,
    /// Addresses it had in earlier uploads and not in the last: NICs that were not found, or
    /// taken out. The last seen come first, at most [`FORMER_MACS`]; each goes when another
    /// machine shows it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_macs: Vec<Mac>,
    /// Serial number of the product, when it has a real one.
    pub serial: Option<String>,
    /// System UUID in lower case, when it has a real one.
    pub uuid: Option<String>,
    /// Product name, for people.
    pub product: String,
}

/// Serial numbers and UUIDs that say nothing, in lower case. Beside these, anything made of one
/// repeated character (separators aside) and anything shorter than three characters is junk.
const JUNK: [&str; 26] = [
    "0123456789",
    "0123456789abcdef",
    "1234567890",
    "123456789",
    "01234567890123456789",
    "03000200-0400-0500-0006-000700080009",
    "12345678-1234-5678-90ab-cddeefaabbcc",
    "00020003-0004-0005-0006-000700080009",
    "base board serial number",
    "chassis serial number",
    "default string",
    "default",
    "empty",
    "invalid",
    "n/a",
    "none",
    "not applicable",
    "not available",
    "not present",
    "not settable",
    "not specified",
    "o.e.m.",
    "system serial number",
    "to be filled by o.e.m.",
    "to be filled by oem",
    "unknown",
];

/// Addresses that are no one's.
const JUNK_MACS: [&str; 2] = ["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"];

/// A serial number or UUID in its compared form (trimmed, lower case); `None` when it is junk that
/// tells no machine from another.
pub fn meaningful(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    let characters: BTreeSet<char> = text.chars().filter(|c| c.is_alphanumeric()).collect();
    let junk = text.chars().count() < 3 || characters.len() < 2 || JUNK.contains(&text.as_str());
    (!junk).then_some(text)
}

impl Identity {
    /// The identity that these facts speak of.
    pub fn of(facts: &Facts) -> Identity {
        let product = |key: &str| facts.text("system", "product", key).unwrap_or_default();
        Identity {
            macs: permanent_macs(facts),
            former_macs: Vec::new(),
            serial: meaningful(&product("serial")),
            uuid: meaningful(&product("uuid")),
            product: product("name"),
        }
    }

    /// Whether nothing in it could tell the machine from another.
    pub fn is_empty(&self) -> bool {
        self.macs.is_empty() && self.serial.is_none() && self.uuid.is_none()
    }

    /// This identity, with what an earlier one had and this one lacks: a serial that could not
    /// be read this time is still the machine's, and so is a NIC that was not found.
    #[must_use]
    pub fn or_earlier(self, earlier: Identity) -> Identity {
        let mut former_macs = Vec::new();
        for mac in earlier.macs.into_iter().chain(earlier.former_macs) {
            if !self.macs.contains(&mac) && !former_macs.contains(&mac) {
                former_macs.push(mac);
            }
        }
        former_macs.truncate(FORMER_MACS);
        Identity {
            former_macs,
            serial: self.serial.or(earlier.serial),
            uuid: self.uuid.or(earlier.uuid),
            ..self
        }
    }

    /// Whether it has, or had, an address by which it could be recognised.
    pub fn is_addressed(&self) -> bool {
        !(self.macs.is_empty() && self.former_macs.is_empty())
    }

    /// Loses the addresses that another machine shows.
    pub(crate) fn lose(&mut self, macs: &[Mac]) {
        self.macs.retain(|mac| !macs.contains(mac));
        self.former_macs.retain(|mac| !macs.contains(mac));
    }

    /// The first permanent MAC address that both have.
    pub fn shared_mac<'a>(&'a self, other: &Identity) -> Option<&'a Mac> {
        self.macs.iter().find(|mac| other.macs.contains(mac))
    }

    /// The evidence that the two are different machines, as a phrase; `None` when there is none.
    /// The serial decides where both have one; UUIDs change with the hypervisor's mood.
    pub fn contradiction(&self, other: &Identity) -> Option<String> {
        let (what, here, there) = match (&self.serial, &other.serial, &self.uuid, &other.uuid) {
            (Some(here), Some(there), ..) => ("serial", here, there),
            (_, _, Some(here), Some(there)) if same_uuid(here, there) => return None,
            (_, _, Some(here), Some(there)) => ("UUID", here, there),
            _ => return None,
        };
        (here != there).then(|| format!("{what} `{here}` here, `{there}` on record"))
    }

    /// Whether serial or UUID of both are real and equal.
    pub fn confirms(&self, other: &Identity) -> bool {
        let same_uuids = match (&self.uuid, &other.uuid) {
            (Some(here), Some(there)) => same_uuid(here, there),
            _ => false,
        };
        same_uuids || (self.serial.is_some() && self.serial == other.serial)
    }
}

/// Whether two UUIDs are the same, or one with the bytes of its first three groups swapped:
/// versions of `dmidecode` and of firmware disagree about their order.
fn same_uuid(here: &str, there: &str) -> bool {
    here == there || swapped(here).is_some_and(|swapped| swapped == there)
}

/// A UUID in the other order; `None` for what is none.
fn swapped(uuid: &str) -> Option<String> {
    let groups: Vec<&str> = uuid.split('-').collect();
    let lengths = groups.iter().map(|group| group.len());
    if !uuid.is_ascii() || !lengths.eq([8, 4, 4, 4, 12]) {
        return None;
    }
    let swap = |group: &str| -> String {
        (0..group.len()).step_by(2).rev().map(|at| &group[at..at + 2]).collect()
    };
    let [first, second, third] = [groups[0], groups[1], groups[2]].map(swap);
    Some(format!("{first}-{second}-{third}-{}-{}", groups[3], groups[4]))
}

/// The burnt-in addresses among the facts. A detector that knows marks them with `permanent`;
/// facts of the original mark none, and then every address counts.
fn permanent_macs(facts: &Facts) -> Vec<Mac> {
    let network = || facts.0.iter().filter(|fact| fact.0 == "network");
    let marked = network().any(|fact| fact.2 == "permanent");
    let permanent: BTreeSet<&str> = network()
        .filter(|fact| fact.2 == "permanent" && fact.3.text() == "yes")
        .map(|fact| fact.1.as_str())
        .collect();
    let mut macs: Vec<Mac> = Vec::new();
    for fact in network().filter(|fact| fact.2 == "serial") {
        if marked && !permanent.contains(fact.1.as_str()) {
            continue;
        }
        if let Ok(mac) = fact.3.text().parse::<Mac>()
            && !JUNK_MACS.contains(&mac.as_str())
            && !macs.contains(&mac)
        {
            macs.push(mac);
        }
    }
    macs
}

/// How many characters of a product name or serial go into a name.
const NAME_PART: usize = 64;

/// The name under which facts are stored, as the original makes it: product name (vendor when
/// there is none), serial, first MAC address, each with what is no word character removed.
pub fn system_name(facts: &Facts) -> Name {
    let word = |text: Option<String>| -> String {
        let text = text.unwrap_or_default();
        let kept = text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_');
        kept.take(NAME_PART).collect()
    };
    let product = facts
        .text("system", "product", "name")
        .filter(|name| !name.is_empty())
        .or_else(|| facts.text("system", "product", "vendor"));
    let mut name = word(product);
    name.push('-');
    let serial = word(facts.text("system", "product", "serial"));
    if !serial.is_empty() {
        name.push_str(&serial);
        name.push('-');
    }
    if let Some(mac) = facts.macs().first() {
        name.push_str(&mac.as_str().replace(':', "-"));
    }
    let name = name.trim_start_matches(['-', '_']);
    name.parse().unwrap_or_else(|_| unnamed())
}

/// The name of a machine whose facts hold nothing to name it by.
fn unnamed() -> Name {
    "machine".parse().expect("a word of letters is a name")
}
