//! All machines that are known, and the ways to find one: by MAC, serial, UUID, host name,
//! ticket, CMDB entry, and by how long it has been silent. None of them walks the records.
//!
//! A hall of 10,000 machines has to be small while nothing happens: but for a few, records are
//! kept packed, and are unpacked when they are looked at. What they are found by is kept as a hash; whether a
//! record really has it is seen when it is unpacked.

mod packed;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

pub use self::packed::Packed;
use self::packed::Packer;
use crate::machine::{Identity, Record, Seconds};
use crate::units::{Mac, Name, Token};

/// The records, with their indexes.
#[derive(Debug, Clone, Default)]
pub struct Census {
    numbers: BTreeMap<Name, Number>,
    /// By number; numbers of records that are gone are given again.
    slots: Vec<Option<Packed>>,
    vacant: Vec<Number>,
    packer: Packer,
    /// Hash of what a record is found by, and its number.
    index: BTreeSet<(u64, Number)>,
    /// How many entries machines hold, by profile.
    held: BTreeMap<Name, usize>,
    leases: BTreeSet<(Seconds, Number)>,
    rebinding: BTreeSet<Number>,
}

/// So many records are not worth the work of packing them.
const FEW: usize = 100;

/// What tells a record from others in memory.
type Number = u32;

/// What a record is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key<'a> {
    Mac(&'a Mac),
    /// An address that the machine showed earlier.
    FormerMac(&'a Mac),
    Serial(&'a str),
    Uuid(&'a str),
    Hostname(&'a str),
    Ticket(&'a Token),
    Entry(&'a Name, usize),
}

impl Key<'_> {
    fn hash(self) -> u64 {
        let mut hasher = DefaultHasher::new();
        Hash::hash(&self, &mut hasher);
        hasher.finish()
    }
}

/// Everything that a record is found by.
fn keys(record: &Record) -> Vec<Key<'_>> {
    let identity = &record.identity;
    let mut keys = numbers(identity);
    keys.extend(identity.macs.iter().map(Key::Mac));
    keys.extend(identity.former_macs.iter().map(Key::FormerMac));
    if let Some(assignment) = &record.assignment {
        keys.extend([Key::Hostname(&assignment.hostname), Key::Ticket(&assignment.ticket)]);
    }
    if let Some((profile, holding)) = record.bound_entry() {
        keys.push(Key::Entry(profile, holding.position));
    }
    keys
}

fn numbers(identity: &Identity) -> Vec<Key<'_>> {
    let serial = identity.serial.as_deref().map(Key::Serial);
    let uuid = identity.uuid.as_deref().map(Key::Uuid);
    serial.into_iter().chain(uuid).collect()
}

/// Which record an upload belongs to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Who {
    /// None; the evidence names machines that it resembles, some of them if they are many.
    New { resembles: Vec<Record> },
    /// This one; `displaced` are records that lose what they share with it (`rebind`).
    Known { record: Box<Record>, displaced: Vec<Record> },
    /// It cannot be decided: the records in question and the evidence.
    Twin { of: Vec<Record>, evidence: String },
    /// The facts hold nothing to tell the machine by.
    Nobody,
}

impl Who {
    fn known(record: Record) -> Who {
        Who::Known { record: Box::new(record), displaced: Vec::new() }
    }
}

impl Census {
    /// The record with this id.
    pub fn get(&self, id: &Name) -> Option<Record> {
        self.unpack(*self.numbers.get(id)?)
    }

    /// The record with this id, packed as it is kept.
    pub fn packed(&self, id: &Name) -> Option<Packed> {
        self.slots.get(*self.numbers.get(id)? as usize)?.clone()
    }

    /// All records, by id.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.numbers.values().filter_map(move |number| self.unpack(*number))
    }

    /// The machines that an operator can mean by this text: host name, id, serial, UUID or MAC.
    pub fn find(&self, text: &str) -> Vec<Record> {
        let text = text.trim();
        let lower = text.to_lowercase();
        let mac = text.replace('-', ":").parse::<Mac>().ok();
        let mut keys = vec![Key::Hostname(text), Key::Serial(&lower), Key::Uuid(&lower)];
        keys.extend(mac.iter().flat_map(|mac| [Key::Mac(mac), Key::FormerMac(mac)]));
        let mut found = self.with_any(&keys);
        found.extend(text.parse().ok().and_then(|id: Name| self.get(&id)));
        distinct(found)
    }

    /// The machine that was given this ticket, while it is valid.
    pub fn by_ticket(&self, ticket: &Token) -> Option<Record> {
        self.with(Key::Ticket(ticket)).next()
    }

    /// The machine that holds this entry of the profile's CMDB.
    pub fn holder(&self, profile: &Name, position: usize) -> Option<Record> {
        self.with(Key::Entry(profile, position)).next()
    }

    /// The profiles of which machines hold CMDB entries.
    pub(super) fn profiles_held(&self) -> BTreeSet<&Name> {
        self.held.keys().collect()
    }

    /// Machines in a lease that were last heard of before `limit`, the most silent first.
    pub fn silent_since(&self, limit: Seconds) -> impl Iterator<Item = Record> + '_ {
        let silent = self.leases.iter().take_while(move |(heard, _)| *heard < limit);
        silent.filter_map(move |(_, number)| self.unpack(*number))
    }

    /// Adds or replaces a record.
    pub fn insert(&mut self, record: &Record) {
        self.remove(&record.id);
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(None);
            // More records than that fit in no memory.
            Number::try_from(self.slots.len() - 1).unwrap_or(Number::MAX)
        });
        self.index.extend(keys(record).into_iter().map(|key| (key.hash(), number)));
        if let Some((profile, _)) = record.bound_entry() {
            *self.held.entry(profile.clone()).or_default() += 1;
        }
        if record.phase.is_leased() {
            self.leases.insert((record.heard, number));
        }
        if record.rebinding {
            self.rebinding.insert(number);
        }
        self.slots[number as usize] = Some(match self.numbers.len() {
            0..FEW => Packed::plain(record),
            _ => self.packer.pack(record),
        });
        self.numbers.insert(record.id.clone(), number);
    }

    /// Adds the records of another census, or replaces those here by them.
    pub fn absorb(&mut self, other: Census) {
        for id in other.numbers.keys() {
            self.remove(id);
        }
        // More records than that fit in no memory.
        let first = Number::try_from(self.slots.len()).unwrap_or(Number::MAX);
        let renumbered = |number: Number| first.saturating_add(number);
        self.numbers.extend(other.numbers.into_iter().map(|(id, it)| (id, renumbered(it))));
        self.slots.extend(other.slots);
        self.vacant.extend(other.vacant.into_iter().map(renumbered));
        // Appended in one go, which leaves less room between them than one by one.
        let mut index = other.index.into_iter().map(|(hash, it)| (hash, renumbered(it))).collect();
        self.index.append(&mut index);
        for (profile, held) in other.held {
            *self.held.entry(profile).or_default() += held;
        }
        self.leases.extend(other.leases.into_iter().map(|(heard, it)| (heard, renumbered(it))));
        self.rebinding.extend(other.rebinding.into_iter().map(renumbered));
    }

    /// Removes a record.
    pub(super) fn remove(&mut self, id: &Name) -> Option<Record> {
        let number = self.numbers.remove(id)?;
        let record = self.unpack(number)?;
        for key in keys(&record) {
            self.index.remove(&(key.hash(), number));
        }
        if let Some((profile, _)) = record.bound_entry()
            && let Some(held) = self.held.get_mut(profile)
        {
            *held -= 1;
            if *held == 0 {
                self.held.remove(profile);
            }
        }
        self.leases.remove(&(record.heard, number));
        self.rebinding.remove(&number);
        self.slots[number as usize] = None;
        self.vacant.push(number);
        Some(record)
    }

    /// Which record an upload with this identity belongs to (design 5a, "Which machine is it").
    pub(super) fn identify(&self, identity: &Identity) -> Who {
        let macs: Vec<Key<'_>> = identity.macs.iter().map(Key::Mac).collect();
        let mut sharing = self.with_any(&macs);
        let mut awaiting = self.awaiting(identity, &sharing);
        if awaiting.len() > 1 {
            let evidence = "several machines wait for `rebind`, and it resembles all".to_owned();
            return Who::Twin { of: awaiting, evidence };
        }
        if let Some(record) = awaiting.pop() {
            sharing.retain(|other| other.id != record.id);
            return Who::Known { record: Box::new(record), displaced: sharing };
        }
        match &sharing[..] {
            [] => self.identify_by_former_mac(identity),
            [record] => match identity.contradiction(&record.identity) {
                Some(contradiction) => {
                    let mac = record.identity.shared_mac(identity);
                    let mac = mac.map_or("", Mac::as_str);
                    let evidence = format!("MAC {mac} is the same, but {contradiction}");
                    Who::Twin { of: sharing, evidence }
                }
                None => Who::known(sharing.remove(0)),
            },
            [_, _, ..] => {
                let shared = sharing.iter().filter_map(|record| {
                    let mac = identity.shared_mac(&record.identity)?;
                    Some(format!("MAC {mac} is that of {}", record.display_name()))
                });
                let evidence = shared.collect::<Vec<_>>().join(", ");
                Who::Twin { of: sharing, evidence }
            }
        }
    }

    /// The records that wait for such a machine (`rebind`); `sharing` have its addresses.
    fn awaiting(&self, identity: &Identity, sharing: &[Record]) -> Vec<Record> {
        let waiting = self.rebinding.iter().filter_map(|number| self.unpack(*number));
        let is_meant = |record: &Record| {
            // Whole fleets share one serial: it speaks for a machine that has no record of its
            // own, or only the one that its new board was given.
            let gives_way =
                |other: &Record| self.double_of(record).is_some_and(|double| double.id == other.id);
            record.identity.shared_mac(identity).is_some()
                || (record.identity.confirms(identity) && sharing.iter().all(gives_way))
        };
        distinct(waiting.filter(is_meant).collect())
    }

    /// The one other record with the serial or UUID of this one, while that machine has written
    /// to no disk: what a swapped board was given gives way when `rebind` says so.
    pub(super) fn double_of(&self, record: &Record) -> Option<Record> {
        let mut others = self.resembling(&record.identity);
        others.retain(|other| other.id != record.id);
        let double = others.pop().filter(|_| others.is_empty())?;
        let untouched = double.assignment.as_ref().is_none_or(|it| !it.destroying);
        untouched.then_some(double)
    }

    /// The machines that showed one of these addresses earlier, and not in their last upload.
    pub(super) fn formerly_with(&self, macs: &[Mac]) -> Vec<Record> {
        let keys: Vec<Key<'_>> = macs.iter().map(Key::FormerMac).collect();
        self.with_any(&keys)
    }

    /// No machine shows any of the addresses now. One that showed one earlier is this one, unless
    /// its number says that the NIC has gone to another.
    fn identify_by_former_mac(&self, identity: &Identity) -> Who {
        let mut candidates = self.formerly_with(&identity.macs);
        candidates.retain(|record| identity.contradiction(&record.identity).is_none());
        match candidates.len() {
            0 => self.identify_by_number(identity),
            1 => Who::known(candidates.remove(0)),
            _ => Who::Twin {
                of: candidates,
                evidence: "its MAC addresses are those that several had earlier".to_owned(),
            },
        }
    }

    /// No MAC is shared. Serial and UUID alone only decide between machines that have no MAC.
    fn identify_by_number(&self, identity: &Identity) -> Who {
        if identity.is_empty() {
            return Who::Nobody;
        }
        if !identity.macs.is_empty() {
            return Who::New { resembles: self.resembling(identity) };
        }
        let resembles = self.with_any(&numbers(identity));
        let is_nameless = |record: &&Record| {
            !record.identity.is_addressed() && identity.contradiction(&record.identity).is_none()
        };
        let mut nameless: Vec<Record> = resembles.iter().filter(is_nameless).cloned().collect();
        match nameless.len() {
            0 => Who::New { resembles },
            1 => Who::known(nameless.remove(0)),
            _ => Who::Twin {
                of: nameless,
                evidence: "it has no MAC address, and serial or UUID are those of several"
                    .to_owned(),
            },
        }
    }

    /// A name for a new record: `wanted`, numbered when it is taken.
    pub(super) fn unused_id(&self, wanted: &Name) -> Name {
        if !self.numbers.contains_key(wanted) {
            return wanted.clone();
        }
        (2_u64..)
            .filter_map(|number| format!("{wanted}.{number}").parse().ok())
            .find(|id| !self.numbers.contains_key(id))
            .unwrap_or_else(|| wanted.clone())
    }

    fn unpack(&self, number: Number) -> Option<Record> {
        self.slots.get(number as usize)?.as_ref()?.unpack()
    }

    /// The records that are found by this.
    fn with<'a>(&'a self, key: Key<'a>) -> impl Iterator<Item = Record> + 'a {
        let hash = key.hash();
        let same_hash = self.index.range((hash, 0)..=(hash, Number::MAX));
        let records = same_hash.filter_map(move |(_, number)| self.unpack(*number));
        records.filter(move |record| keys(record).contains(&key))
    }

    /// Some of the machines with the serial or the UUID, which a whole fleet may share: more than
    /// two, if there are.
    fn resembling(&self, identity: &Identity) -> Vec<Record> {
        distinct(numbers(identity).into_iter().flat_map(|key| self.with(key).take(3)).collect())
    }

    /// The records that are found by any of these, each once, by id.
    fn with_any(&self, keys: &[Key<'_>]) -> Vec<Record> {
        distinct(keys.iter().flat_map(|key| self.with(*key)).collect())
    }
}

fn distinct(mut records: Vec<Record>) -> Vec<Record> {
    records.sort_by(|one, other| one.id.cmp(&other.id));
    records.dedup_by(|one, other| one.id == other.id);
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: usize, heard: Seconds) -> Record {
        let mac = format!("52:54:00:00:{:02x}:{:02x}", number / 256, number % 256);
        let macs = vec![mac.parse().unwrap()];
        let identity = Identity { macs, ..Identity::default() };
        let mut record = Record::new(format!("m{number}").parse().unwrap(), identity, heard);
        record.enter(crate::machine::Phase::Leased, heard);
        record
    }

    #[test]
    fn two_censuses_become_one() {
        let mut whole = Census::default();
        let (mut one, mut other) = (Census::default(), Census::default());
        // Some of both are packed, and some places are vacant.
        for number in 0..3 * FEW {
            let part = if number < 2 * FEW { &mut one } else { &mut other };
            part.insert(&record(number, 1000 + number as Seconds));
            whole.insert(&record(number, 1000 + number as Seconds));
        }
        other.remove(&"m250".parse().unwrap());
        whole.remove(&"m250".parse().unwrap());
        // The other one's word counts.
        other.insert(&record(7, 5));
        whole.insert(&record(7, 5));
        one.absorb(other);
        assert_eq!(one.records().count(), 3 * FEW - 1);
        assert!(one.records().eq(whole.records()));
        let silent = |census: &Census| -> Vec<Record> { census.silent_since(1150).collect() };
        assert_eq!(silent(&one), silent(&whole));
        assert_eq!(one.find("52:54:00:00:00:07"), [record(7, 5)]);
        assert_eq!(one.find("52:54:00:00:01:2b"), [record(299, 1299)]);
        // And it goes on.
        one.insert(&record(250, 6));
        assert_eq!(one.find("m250"), [record(250, 6)]);
        assert_eq!(one.records().count(), 3 * FEW);
        assert_eq!(one.find("m251"), [record(251, 1251)]);
    }
}
