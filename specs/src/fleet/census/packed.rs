//! Records as small as they get while nobody looks at them: what all have in common, and that is
//! nearly all of a record, is stored once.
//!
//! A record is written as JSON, as the journal does, and compressed against a typical one. What
//! is unpacked is what was packed.

use std::sync::Arc;

use crate::machine::Record;

/// Packs records and unpacks them.
#[derive(Debug, Clone, Default)]
pub(super) struct Packer {
    /// A record as JSON: the one with the most in it so far.
    typical: Arc<Vec<u8>>,
}

/// A record.
#[derive(Debug, Clone)]
pub(super) enum Packed {
    /// What differs from the typical record of its time.
    Small { bytes: Box<[u8]>, typical: Arc<Vec<u8>> },
    /// One of a few, or one that cannot be written.
    Plain(Box<Record>),
}

/// A typical record is not longer than what the compression can refer to.
const LONGEST: usize = 32 << 10;

impl Packer {
    pub(super) fn pack(&mut self, record: &Record) -> Packed {
        let Ok(json) = serde_json::to_vec(record) else {
            return Packed::Plain(Box::new(record.clone()));
        };
        // Rarely: each makes those after it smaller, and none of those before it.
        let more = self.typical.len() + self.typical.len() / 4;
        if json.len() > more && json.len() <= LONGEST {
            self.typical = Arc::new(json.clone());
        }
        let typical = Arc::clone(&self.typical);
        let bytes = lz4_flex::block::compress_prepend_size_with_dict(&json, &typical);
        let packed = Packed::Small { bytes: bytes.into_boxed_slice(), typical };
        // JSON has no float without an end, for one.
        match packed.unpack() {
            Some(unpacked) if unpacked == *record => packed,
            _ => Packed::Plain(Box::new(record.clone())),
        }
    }
}

impl Packed {
    /// The record that was packed.
    pub(super) fn unpack(&self) -> Option<Record> {
        match self {
            Packed::Plain(record) => Some(record.as_ref().clone()),
            Packed::Small { bytes, typical } => {
                let json = lz4_flex::block::decompress_size_prepended_with_dict(bytes, typical);
                json.ok().and_then(|json| serde_json::from_slice(&json).ok())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::machine::{Identity, Pin};
    use crate::value::Value;

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

    #[test]
    fn what_json_does_not_keep_is_kept() {
        let mut record = Record::new("a".parse().unwrap(), Identity::default(), 0);
        let variables = [("x".to_owned(), Value::Float(f64::INFINITY))].into();
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
            match packer.pack(&record) {
                Packed::Small { bytes, .. } => bytes.len(),
                Packed::Plain(_) => usize::MAX,
            }
        });
        assert!(sizes.skip(1).all(|size| size < 150), "as JSON it has more than 300 bytes");
    }
}
