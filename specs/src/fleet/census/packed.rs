//! Records as small as they get while nobody looks at them: what all have in common, and that is
//! nearly all of a record, is stored once.
//!
//! A record is written as JSON, as the journal does, and compressed against a typical one. What
//! is unpacked is what was packed: a record that JSON cannot hold is kept as it is.

use std::sync::Arc;

use crate::cmdb::Field;
use crate::machine::Record;
use crate::value::Value;

/// Packs records and unpacks them.
#[derive(Debug, Clone, Default)]
pub(super) struct Packer {
    /// A record as JSON: the one with the most in it so far.
    typical: Arc<Vec<u8>>,
}

/// A record, as the census keeps it: small, and for whoever needs the record itself to unpack
/// when nobody waits for it.
#[derive(Debug, Clone)]
pub struct Packed(Form);

#[derive(Debug, Clone)]
enum Form {
    /// What differs from the typical record of its time.
    Small { bytes: Box<[u8]>, typical: Arc<Vec<u8>> },
    /// One of a few, or one that cannot be packed.
    Plain(Arc<Record>),
}

/// A typical record is not longer than what the compression can refer to.
const LONGEST: usize = 32 << 10;

impl Packer {
    pub(super) fn pack(&mut self, record: &Record) -> Packed {
        let json = if is_kept_by_json(record) { serde_json::to_vec(record).ok() } else { None };
        let Some(json) = json else { return Packed::plain(record) };
        // Rarely: each makes those after it smaller, and none of those before it.
        let more = self.typical.len() + self.typical.len() / 4;
        if json.len() > more && json.len() <= LONGEST {
            self.typical = Arc::new(json.clone());
        }
        let typical = Arc::clone(&self.typical);
        let bytes = lz4_flex::block::compress_prepend_size_with_dict(&json, &typical);
        let packed = Packed(Form::Small { bytes: bytes.into_boxed_slice(), typical });
        debug_assert_eq!(packed.unpack().as_ref(), Some(record));
        packed
    }
}

/// JSON has neither infinity nor NaN. Everything else of a record it gives back, for the values of
/// facts and CMDBs are nested less deeply than it is read ([`crate::literal::MAX_DEPTH`]).
fn is_kept_by_json(record: &Record) -> bool {
    let assigned = record.assignment.iter();
    let pinned = record.pin.iter().flat_map(|pin| pin.variables.values());
    let variables = assigned.clone().flat_map(|it| it.variables.values()).chain(pinned);
    let entries =
        assigned.filter_map(|it| it.entry.as_ref()).flat_map(|it| [&it.before, &it.after]);
    let fields = entries.flat_map(|entry| &entry.fields).map(|Field { value, .. }| value);
    variables.chain(fields).all(is_finite)
}

fn is_finite(value: &Value) -> bool {
    match value {
        Value::Float(number) => number.is_finite(),
        Value::List(items) => items.iter().all(is_finite),
        Value::None | Value::Bool(_) | Value::Integer(_) | Value::Text(_) => true,
    }
}

impl Packed {
    /// A record as it is: one of a few, or one that cannot be packed.
    pub(super) fn plain(record: &Record) -> Packed {
        Packed(Form::Plain(Arc::new(record.clone())))
    }

    /// The record that was packed; `None` would be a defect of this module.
    pub fn unpack(&self) -> Option<Record> {
        match &self.0 {
            Form::Plain(record) => Some(record.as_ref().clone()),
            Form::Small { bytes, typical } => {
                let json = lz4_flex::block::decompress_size_prepended_with_dict(bytes, typical);
                json.ok().and_then(|json| serde_json::from_slice(&json).ok())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::fleet::Change;
    use crate::machine::{HistoryLine, Identity, Pin};
    use crate::wire::{ron_options, to_ron};
    use proptest::collection::{btree_map, vec};
    use proptest::num::f64::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    use proptest::prelude::*;

    #[test]
    fn what_is_unpacked_is_what_was_packed() {
        let mut packer = Packer::default();
        let mut packed = Vec::new();
        for number in 0..50 {
            let id = format!("machine-{number}").parse().unwrap();
            let mut record = Record::new(id, Identity::default(), 1_700_000_000 + number);
            for line in 0..number {
                record.note(number, format!("line {line} of \"{number}\""));
            }
            packed.push((packer.pack(&record), record));
        }
        for (packed, record) in packed {
            assert_eq!(packed.unpack(), Some(record));
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::None),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Integer),
            // All that are finite.
            (NORMAL | SUBNORMAL | ZERO | POSITIVE | NEGATIVE).prop_map(Value::Float),
            any::<String>().prop_map(Value::Text),
        ];
        leaf.prop_recursive(4, 16, 4, |inner| vec(inner, 0..4).prop_map(Value::List))
    }

    proptest! {
        /// In memory, in the journal (JSON, where a change is tagged), and in its file (RON).
        #[test]
        fn a_record_comes_back_from_wherever_it_is_stored(
            variables in btree_map(any::<String>(), any_value(), 0..4),
            line in any::<String>(),
        ) {
            let mut record = Record::new("a".parse().unwrap(), Identity::default(), 0);
            record.pin = Some(Pin { profile: "vm".parse().unwrap(), variables });
            record.history.push(HistoryLine { at: 0, text: line });
            prop_assert_eq!(Packer::default().pack(&record).unpack(), Some(record.clone()));
            let ron = to_ron(&record).unwrap();
            prop_assert_eq!(&ron_options().from_str::<Record>(&ron).unwrap(), &record, "{}", ron);
            let change = Change::Record { record: Box::new(record) };
            let json = serde_json::to_string(&change).unwrap();
            prop_assert_eq!(serde_json::from_str::<Change>(&json).unwrap(), change, "{}", json);
        }
    }

    #[test]
    fn what_json_does_not_keep_is_kept() {
        let mut record = Record::new("a".parse().unwrap(), Identity::default(), 0);
        let infinite = Value::List(vec![Value::Float(f64::INFINITY)]);
        let variables = [("x".to_owned(), infinite)].into();
        record.pin = Some(Pin { profile: "vm".parse().unwrap(), variables });
        assert_eq!(Packer::default().pack(&record).unpack(), Some(record));
    }

    #[test]
    fn a_record_like_others_is_small() {
        let mut packer = Packer::default();
        let sizes = (0..20).map(|number| {
            let id = format!("machine-{number}").parse().unwrap();
            let mut record = Record::new(id, Identity::default(), 1_700_000_000 + number);
            record.note(number, format!("leased: vm as host{number}"));
            match packer.pack(&record).0 {
                Form::Small { bytes, .. } => bytes.len(),
                Form::Plain(_) => usize::MAX,
            }
        });
        assert!(sizes.skip(1).all(|size| size < 150), "as JSON it has more than 300 bytes");
    }
}
