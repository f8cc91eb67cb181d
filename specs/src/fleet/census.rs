//! All machines that are known, and the ways to find one: by MAC, serial, UUID, host name,
//! ticket, CMDB entry, and by how long it has been silent. None of them walks the records.

use std::collections::{BTreeMap, BTreeSet};

use crate::machine::{Identity, Record, Seconds};
use crate::units::{Mac, Name, Token};

/// The records, with their indexes.
#[derive(Debug, Clone, Default)]
pub struct Census {
    records: BTreeMap<Name, Record>,
    by_mac: BTreeMap<Mac, BTreeSet<Name>>,
    /// Addresses that machines showed earlier.
    by_former_mac: BTreeMap<Mac, BTreeSet<Name>>,
    /// Serials and UUIDs, each with a letter before it that tells them apart.
    by_number: BTreeMap<String, BTreeSet<Name>>,
    by_hostname: BTreeMap<String, BTreeSet<Name>>,
    by_ticket: BTreeMap<Token, Name>,
    by_entry: BTreeMap<(Name, usize), Name>,
    leases: BTreeSet<(Seconds, Name)>,
    rebinding: BTreeSet<Name>,
}

/// Which record an upload belongs to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Who<'a> {
    /// None; the evidence names machines that it resembles.
    New { resembles: Vec<&'a Record> },
    /// This one; `displaced` are records that lose what they share with it (`rebind`).
    Known { record: &'a Record, displaced: Vec<&'a Record> },
    /// It cannot be decided: the records in question and the evidence.
    Twin { of: Vec<&'a Record>, evidence: String },
    /// The facts hold nothing to tell the machine by.
    Nobody,
}

impl Census {
    /// The record with this id.
    pub fn get(&self, id: &Name) -> Option<&Record> {
        self.records.get(id)
    }

    /// All records, by id.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// How many machines are known.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether no machine is known.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The machines that an operator can mean by this text: host name, id, serial, UUID or MAC.
    pub fn find(&self, text: &str) -> Vec<&Record> {
        let text = text.trim();
        let mut ids: BTreeSet<&Name> = BTreeSet::new();
        ids.extend(self.by_hostname.get(text).into_iter().flatten());
        if let Some((id, _)) =
            text.parse().ok().and_then(|id: Name| self.records.get_key_value(&id))
        {
            ids.insert(id);
        }
        if let Ok(mac) = text.replace('-', ":").parse::<Mac>() {
            ids.extend(self.by_mac.get(&mac).into_iter().flatten());
            ids.extend(self.by_former_mac.get(&mac).into_iter().flatten());
        }
        let lower = text.to_lowercase();
        for number in [serial_key(&lower), uuid_key(&lower)] {
            ids.extend(self.by_number.get(&number).into_iter().flatten());
        }
        self.resolve(ids)
    }

    /// The machine that was given this ticket, while it is valid.
    pub fn by_ticket(&self, ticket: &Token) -> Option<&Record> {
        self.records.get(self.by_ticket.get(ticket)?)
    }

    /// The machine that holds this entry of the profile's CMDB.
    pub fn holder(&self, profile: &Name, position: usize) -> Option<&Record> {
        // The key is built for the look-up; names are short.
        self.records.get(self.by_entry.get(&(profile.clone(), position))?)
    }

    /// The profiles of which machines hold CMDB entries.
    pub(super) fn profiles_held(&self) -> BTreeSet<&Name> {
        // From the first entry of one profile to the first of the next.
        let next = |after: Option<&Name>| match after {
            None => self.by_entry.keys().next(),
            Some(profile) => {
                self.by_entry.range((profile.clone(), usize::MAX)..).next().map(|(key, _)| key)
            }
        };
        let profiles = std::iter::successors(next(None), |(profile, _)| next(Some(profile)));
        profiles.map(|(profile, _)| profile).collect()
    }

    /// Machines in a lease that were last heard of before `limit`, the most silent first.
    pub fn silent_since(&self, limit: Seconds) -> impl Iterator<Item = &Record> {
        let silent = self.leases.iter().take_while(move |(heard, _)| *heard < limit);
        silent.filter_map(|(_, id)| self.records.get(id))
    }

    /// Adds or replaces a record.
    pub(super) fn insert(&mut self, record: Record) {
        self.remove(&record.id.clone());
        let id = &record.id;
        for mac in &record.identity.macs {
            self.by_mac.entry(mac.clone()).or_default().insert(id.clone());
        }
        for mac in &record.identity.former_macs {
            self.by_former_mac.entry(mac.clone()).or_default().insert(id.clone());
        }
        for number in numbers(&record.identity) {
            self.by_number.entry(number).or_default().insert(id.clone());
        }
        if let Some(assignment) = &record.assignment {
            let hostname = assignment.hostname.clone();
            self.by_hostname.entry(hostname).or_default().insert(id.clone());
            self.by_ticket.insert(assignment.ticket.clone(), id.clone());
        }
        if let Some((profile, holding)) = record.bound_entry() {
            self.by_entry.insert((profile.clone(), holding.position), id.clone());
        }
        if record.phase.is_leased() {
            self.leases.insert((record.heard, id.clone()));
        }
        if record.rebinding {
            self.rebinding.insert(id.clone());
        }
        self.records.insert(record.id.clone(), record);
    }

    /// Removes a record.
    pub(super) fn remove(&mut self, id: &Name) -> Option<Record> {
        let record = self.records.remove(id)?;
        for mac in &record.identity.macs {
            remove_from(&mut self.by_mac, mac, id);
        }
        for mac in &record.identity.former_macs {
            remove_from(&mut self.by_former_mac, mac, id);
        }
        for number in numbers(&record.identity) {
            remove_from(&mut self.by_number, &number, id);
        }
        if let Some(assignment) = &record.assignment {
            remove_from(&mut self.by_hostname, &assignment.hostname, id);
            self.by_ticket.remove(&assignment.ticket);
        }
        if let Some((profile, holding)) = record.bound_entry() {
            let key = (profile.clone(), holding.position);
            // When records move between positions one after the other, the next holder may
            // have registered already.
            if self.by_entry.get(&key) == Some(id) {
                self.by_entry.remove(&key);
            }
        }
        self.leases.remove(&(record.heard, id.clone()));
        self.rebinding.remove(id);
        Some(record)
    }

    /// Which record an upload with this identity belongs to (design 5a, "Which machine is it").
    pub(super) fn identify(&self, identity: &Identity) -> Who<'_> {
        let mut ids: BTreeSet<&Name> = BTreeSet::new();
        for mac in &identity.macs {
            ids.extend(self.by_mac.get(mac).into_iter().flatten());
        }
        let sharing = self.resolve(ids);
        let awaiting: Vec<&Record> = self
            .rebinding
            .iter()
            .filter_map(|id| self.records.get(id))
            .filter(|record| {
                // Whole fleets share one serial: it speaks for a machine that has no record of its
                // own, and never makes one machine another.
                record.identity.shared_mac(identity).is_some()
                    || (sharing.is_empty() && record.identity.confirms(identity))
            })
            .collect();
        match (&awaiting[..], &sharing[..]) {
            ([record], _) => {
                let displaced = sharing.iter().filter(|other| other.id != record.id).copied();
                Who::Known { record, displaced: displaced.collect() }
            }
            ([_, _, ..], _) => Who::Twin {
                evidence: "several machines wait for `rebind`, and it resembles all".to_owned(),
                of: awaiting,
            },
            ([], [record]) => match identity.contradiction(&record.identity) {
                Some(contradiction) => {
                    let mac = record.identity.shared_mac(identity);
                    let mac = mac.map_or("", Mac::as_str);
                    let evidence = format!("MAC {mac} is the same, but {contradiction}");
                    Who::Twin { of: sharing, evidence }
                }
                None => Who::Known { record, displaced: Vec::new() },
            },
            ([], [_, _, ..]) => {
                let shared = sharing.iter().filter_map(|record| {
                    let mac = identity.shared_mac(&record.identity)?;
                    Some(format!("MAC {mac} is that of {}", record.display_name()))
                });
                let evidence = shared.collect::<Vec<_>>().join(", ");
                Who::Twin { of: sharing, evidence }
            }
            ([], []) => self.identify_by_former_mac(identity),
        }
    }

    /// The machines that showed one of these addresses earlier, and not in their last upload.
    pub(super) fn formerly_with(&self, macs: &[Mac]) -> Vec<&Record> {
        let ids = macs.iter().filter_map(|mac| self.by_former_mac.get(mac)).flatten();
        self.resolve(ids.collect())
    }

    /// No machine shows any of the addresses now. One that showed one earlier is this one, unless
    /// its number says that the NIC has gone to another.
    fn identify_by_former_mac(&self, identity: &Identity) -> Who<'_> {
        let mut candidates = self.formerly_with(&identity.macs);
        candidates.retain(|record| identity.contradiction(&record.identity).is_none());
        match candidates[..] {
            [] => self.identify_by_number(identity),
            [record] => Who::Known { record, displaced: Vec::new() },
            _ => Who::Twin {
                of: candidates,
                evidence: "its MAC addresses are those that several had earlier".to_owned(),
            },
        }
    }

    /// No MAC is shared. Serial and UUID alone only decide between machines that have no MAC.
    fn identify_by_number(&self, identity: &Identity) -> Who<'_> {
        let mut ids: BTreeSet<&Name> = BTreeSet::new();
        for number in numbers(identity) {
            ids.extend(self.by_number.get(&number).into_iter().flatten());
        }
        let resembles = self.resolve(ids);
        if !identity.macs.is_empty() {
            return Who::New { resembles };
        }
        if identity.is_empty() {
            return Who::Nobody;
        }
        let nameless: Vec<&Record> = resembles
            .iter()
            .filter(|record| {
                !record.identity.is_addressed()
                    && identity.contradiction(&record.identity).is_none()
            })
            .copied()
            .collect();
        match nameless[..] {
            [] => Who::New { resembles },
            [record] => Who::Known { record, displaced: Vec::new() },
            _ => Who::Twin {
                of: nameless,
                evidence: "it has no MAC address, and serial or UUID are those of several"
                    .to_owned(),
            },
        }
    }

    /// A name for a new record: `wanted`, numbered when it is taken.
    pub(super) fn unused_id(&self, wanted: &Name) -> Name {
        if !self.records.contains_key(wanted) {
            return wanted.clone();
        }
        (2_u64..)
            .filter_map(|number| format!("{wanted}.{number}").parse().ok())
            .find(|id| !self.records.contains_key(id))
            .unwrap_or_else(|| wanted.clone())
    }

    fn resolve<'a>(&'a self, ids: BTreeSet<&Name>) -> Vec<&'a Record> {
        ids.into_iter().filter_map(|id| self.records.get(id)).collect()
    }
}

fn numbers(identity: &Identity) -> impl Iterator<Item = String> {
    let serial = identity.serial.as_deref().map(serial_key);
    let uuid = identity.uuid.as_deref().map(uuid_key);
    serial.into_iter().chain(uuid)
}

fn serial_key(serial: &str) -> String {
    format!("s{serial}")
}

fn uuid_key(uuid: &str) -> String {
    format!("u{uuid}")
}

fn remove_from<K: Ord>(index: &mut BTreeMap<K, BTreeSet<Name>>, key: &K, id: &Name) {
    if let Some(ids) = index.get_mut(key) {
        ids.remove(id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}
