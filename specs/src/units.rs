//! The small types that everything else is made of: sizes, MAC addresses, names, identifiers.
//!
//! Each parses its one text form, prints it back unchanged and cannot hold a wrong value.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not the value it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct UnitError {
    /// What was found, shortened to 60 characters.
    pub text: String,
    /// What would have been right, with its article and an example.
    pub expected: &'static str,
}

fn unit_error(text: &str, expected: &'static str) -> UnitError {
    UnitError { text: text.chars().take(60).collect(), expected }
}

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// One MiB, the alignment of every partition.
    pub const MIB: Bytes = Bytes(1 << 20);

    /// How many whole sectors of `sector` bytes fit.
    pub fn sectors(self, sector: SectorSize) -> u64 {
        self.0 / u64::from(sector.get())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
        let mut whole = self.0;
        let mut tenths = 0;
        let mut unit = 0;
        while whole >= 1024 && unit < UNITS.len() - 1 {
            tenths = (whole % 1024) * 10 / 1024;
            whole /= 1024;
            unit += 1;
        }
        if tenths == 0 {
            write!(f, "{whole} {}", UNITS[unit])
        } else {
            write!(f, "{whole}.{tenths} {}", UNITS[unit])
        }
    }
}

/// The logical sector size of a disk: 512 or 4096 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct SectorSize(u32);

impl SectorSize {
    /// The size nearly every disk has.
    pub const DEFAULT: SectorSize = SectorSize(512);

    /// The size in bytes.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for SectorSize {
    type Error = UnitError;

    fn try_from(bytes: u32) -> Result<SectorSize, UnitError> {
        match bytes {
            512 | 4096 => Ok(SectorSize(bytes)),
            other => Err(unit_error(&other.to_string(), "a sector size (512 or 4096)")),
        }
    }
}

impl From<SectorSize> for u32 {
    fn from(size: SectorSize) -> u32 {
        size.0
    }
}

/// Defines a newtype over `String` that is checked once, when it is made.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text as it was given (MAC addresses: in lower case).
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = UnitError;

            fn from_str(text: &str) -> Result<$name, UnitError> {
                let check: fn(&str) -> Option<String> = $check;
                check(text).map($name).ok_or_else(|| unit_error(text, $expected))
            }
        }

        impl TryFrom<String> for $name {
            type Error = UnitError;

            fn try_from(text: String) -> Result<$name, UnitError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_text!(
    /// The name of a profile, role or version: `[A-Za-z0-9][A-Za-z0-9._+-]*`. Such a name is
    /// safe as one component of a path or URL.
    Name,
    "a name (letters, digits, `.`, `_`, `+`, `-`; first a letter or digit)",
    |text| {
        let mut characters = text.chars();
        let first = characters.next()?;
        (first.is_ascii_alphanumeric()
            && characters.all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c)))
        .then(|| text.to_owned())
    }
);

checked_text!(
    /// An Ethernet address in lower case, six octets with colons.
    Mac,
    "a MAC address such as `52:54:00:88:17:3c`",
    |text| {
        let octets: Vec<&str> = text.split(':').collect();
        (octets.len() == 6
            && octets.iter().all(|o| o.len() == 2 && o.chars().all(|c| c.is_ascii_hexdigit())))
        .then(|| text.to_ascii_lowercase())
    }
);

checked_text!(
    /// A UUID in its usual form, lower case.
    Uuid,
    "a UUID such as `0b1e2d3c-4f50-4a6b-8c7d-9e0f10213243`",
    |text| {
        let groups: Vec<usize> = text.split('-').map(str::len).collect();
        (groups == [8, 4, 4, 4, 12]
            && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit()))
        .then(|| text.to_ascii_lowercase())
    }
);

checked_text!(
    /// The serial number of a FAT file system as `blkid` prints it: `1A2B-3C4D`.
    FatId,
    "a FAT volume id such as `1A2B-3C4D`",
    |text| {
        let groups: Vec<usize> = text.split('-').map(str::len).collect();
        (groups == [4, 4] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit()))
            .then(|| text.to_ascii_uppercase())
    }
);

checked_text!(
    /// 128 bits as 32 hexadecimal digits: nonces of uploads and tickets of allocations.
    Token,
    "a token of 32 hexadecimal digits",
    |text| {
        (text.len() == 32 && text.chars().all(|c| c.is_ascii_hexdigit()))
            .then(|| text.to_ascii_lowercase())
    }
);

impl Token {
    /// The token that these 16 bytes (of the caller's random source) spell.
    pub fn from_bytes(bytes: [u8; 16]) -> Token {
        Token(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl Uuid {
    /// The UUID that the allocation `nonce` gives to the thing called `purpose` (for example
    /// `partition /dev/vda 2`): the same plan made twice names the same things. RFC 9562
    /// version 8 (vendor's own), variant 10.
    pub fn derived(nonce: &Token, purpose: &str) -> Uuid {
        let digest =
            blake3::derive_key("edeploy 2026 plan uuid", format!("{nonce} {purpose}").as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        bytes[6] = 0x80 + bytes[6] % 0x10;
        bytes[8] = 0x80 + bytes[8] % 0x40;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Uuid(format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        ))
    }
}

impl FatId {
    /// As [`Uuid::derived`], for the 32 bits that FAT has.
    pub fn derived(nonce: &Token, purpose: &str) -> FatId {
        let uuid = Uuid::derived(nonce, purpose);
        let hex = uuid.as_str().to_ascii_uppercase();
        FatId(format!("{}-{}", &hex[..4], &hex[4..8]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_as_path_components() {
        for good in ["vm", "D12-F.1.0.0", "hp-mlx", "a+b_c"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-x", "a/b", "a b", "a\n", "é"] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_are_kept_in_lower_case() {
        assert_eq!("52:54:00:AB:cd:EF".parse::<Mac>().unwrap().as_str(), "52:54:00:ab:cd:ef");
        assert!("52:54:00:ab:cd".parse::<Mac>().is_err());
        assert!("52-54-00-ab-cd-ef".parse::<Mac>().is_err());
    }

    #[test]
    fn derived_identifiers_depend_on_nonce_and_purpose_alone() {
        let nonce = Token::from_bytes([7; 16]);
        let one = Uuid::derived(&nonce, "partition /dev/vda 1");
        assert_eq!(one, Uuid::derived(&nonce, "partition /dev/vda 1"));
        assert_ne!(one, Uuid::derived(&nonce, "partition /dev/vda 2"));
        assert_ne!(one, Uuid::derived(&Token::from_bytes([8; 16]), "partition /dev/vda 1"));
        assert_eq!(one.as_str().parse::<Uuid>().unwrap(), one);
        // The bits of version and variant are set, the others differ.
        let mut variants = std::collections::BTreeSet::new();
        let mut thirds = std::collections::BTreeSet::new();
        for number in 0..100 {
            let uuid = Uuid::derived(&nonce, &format!("partition {number}"));
            assert_eq!(&uuid.as_str()[14..15], "8", "{uuid}");
            variants.insert(uuid.as_str()[19..20].to_owned());
            thirds.insert(uuid.as_str()[15..16].to_owned());
        }
        assert_eq!(variants, ["8", "9", "a", "b"].map(str::to_owned).into());
        assert_eq!(thirds.len(), 16);
    }

    #[test]
    fn sizes_print_with_one_decimal_at_most() {
        assert_eq!(Bytes(512).to_string(), "512 B");
        assert_eq!(Bytes(10 << 30).to_string(), "10 GiB");
        assert_eq!(Bytes(1536 << 20).to_string(), "1.5 GiB");
    }
}
