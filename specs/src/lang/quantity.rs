//! Numbers as the original tolerates them (blanks, underscores, exponents), and units.
//!
//! Most facts are bare numbers whose unit follows from their key (a disk's `size` is in GB);
//! some carry one (`1000GB`, `10Mbit/s`). A bare argument is compared in the fact's own unit, an
//! argument with a unit in that unit.

use std::cmp::Ordering;

/// A unit: what it measures, and how many of the base unit it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unit {
    /// Its usual spelling.
    pub name: &'static str,
    measures: Measure,
    factor: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    Bytes,
    BitsPerSecond,
    Hertz,
    Rotation,
}

const fn unit(name: &'static str, measures: Measure, factor: f64) -> Unit {
    Unit { name, measures, factor }
}

const UNITS: [Unit; 20] = [
    unit("B", Measure::Bytes, 1.0),
    unit("KB", Measure::Bytes, 1e3),
    unit("MB", Measure::Bytes, 1e6),
    unit("GB", Measure::Bytes, 1e9),
    unit("TB", Measure::Bytes, 1e12),
    unit("PB", Measure::Bytes, 1e15),
    unit("KiB", Measure::Bytes, 1024.0),
    unit("MiB", Measure::Bytes, 1_048_576.0),
    unit("GiB", Measure::Bytes, 1_073_741_824.0),
    unit("TiB", Measure::Bytes, 1_099_511_627_776.0),
    unit("PiB", Measure::Bytes, 1_125_899_906_842_624.0),
    unit("bit/s", Measure::BitsPerSecond, 1.0),
    unit("kbit/s", Measure::BitsPerSecond, 1e3),
    unit("Mbit/s", Measure::BitsPerSecond, 1e6),
    unit("Gbit/s", Measure::BitsPerSecond, 1e9),
    unit("Hz", Measure::Hertz, 1.0),
    unit("kHz", Measure::Hertz, 1e3),
    unit("MHz", Measure::Hertz, 1e6),
    unit("GHz", Measure::Hertz, 1e9),
    unit("rpm", Measure::Rotation, 1.0),
];

impl Unit {
    /// The unit of this spelling, in any case.
    fn named(name: &str) -> Option<Unit> {
        UNITS.into_iter().find(|unit| unit.name.eq_ignore_ascii_case(name))
    }

    /// The unit in which the facts of this class, name and key are reported.
    pub fn of_fact(class: &str, name: &str, key: &str) -> Option<Unit> {
        let name = match (class, name, key) {
            ("disk", _, "size") => "GB",
            ("disk", _, "bytes") | ("memory", _, "size") | ("system", "memory", "size") => "B",
            ("network", _, "size") => "bit/s",
            ("cpu", _, "frequency" | "clock") | ("memory", _, "clock") => "Hz",
            ("cpu", _, key) if key.ends_with("Mhz") => "MHz",
            _ => return None,
        };
        Unit::named(name)
    }
}

/// A number with the unit it was written with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantity {
    /// As written: never NaN.
    pub number: f64,
    /// As written.
    pub unit: Option<Unit>,
}

impl Quantity {
    /// Reads `8`, ` 1_000 `, `1e3`, `2.5`, `-1`, `inf`, `4GB`, `10 Mbit/s`.
    pub fn parse(text: &str) -> Option<Quantity> {
        let text = text.trim();
        let bare = text.trim_start_matches(['+', '-']);
        if text.len() <= bare.len() + 1
            && ["inf", "infinity"].iter().any(|name| bare.eq_ignore_ascii_case(name))
        {
            let number = if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY };
            return Some(Quantity { number, unit: None });
        }
        let (number, unit) = text.split_at(number_length(text));
        let unit = match unit.trim_start() {
            "" => None,
            name => Some(Unit::named(name)?),
        };
        let pairs = number.as_bytes().windows(3);
        let misplaced = number.starts_with('_') || number.ends_with('_') || {
            let underscore =
                |w: &[u8]| w[1] == b'_' && !(w[0].is_ascii_digit() && w[2].is_ascii_digit());
            pairs.into_iter().any(underscore)
        };
        if misplaced || !number.contains(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let number: f64 = number.replace('_', "").parse().ok()?;
        Some(Quantity { number, unit })
    }

    /// How the value of a fact, reported in `natural` unless it carries a unit, compares with
    /// this argument; `None` when the two cannot be compared.
    pub fn compare_fact(&self, fact: &str, natural: Option<Unit>) -> Option<Ordering> {
        let fact = Quantity::parse(fact)?;
        let (left, right) = match (self.unit, fact.unit) {
            (None, None) => (fact.number, self.number),
            (None, Some(own)) => match natural {
                Some(natural) if natural.measures == own.measures => {
                    (fact.number * own.factor, self.number * natural.factor)
                }
                _ => (fact.number, self.number),
            },
            (Some(wanted), own) => {
                let own = own.or(natural)?;
                if own.measures != wanted.measures {
                    return None;
                }
                (fact.number * own.factor, self.number * wanted.factor)
            }
        };
        left.partial_cmp(&right)
    }
}

/// The length of the number that a text begins with.
fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    while at < bytes.len() {
        let signed = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = matches!(bytes[at], b'e' | b'E')
            && bytes.get(at + 1 + signed).is_some_and(u8::is_ascii_digit);
        match bytes[at] {
            b'0'..=b'9' | b'.' | b'_' => at += 1,
            _ if exponent => at += 1 + signed,
            _ => break,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_original_reads_them() {
        for (text, expected) in [
            ("8", Some(8.0)),
            (" 20 ", Some(20.0)),
            ("+1_000", Some(1000.0)),
            ("-1.5e+3", Some(-1500.0)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("1E3", Some(1000.0)),
            ("-inf", Some(f64::NEG_INFINITY)),
            ("+Infinity", Some(f64::INFINITY)),
            ("inf", Some(f64::INFINITY)),
            ("++inf", None),
            ("++1", None),
            ("-", None),
            ("2e-3", Some(0.002)),
            ("1e", None),
            ("1e+", None),
            ("1e+GB", None),
            ("1e3GB", Some(1000.0)),
            ("1_.5", None),
            ("1._5", None),
            ("1_0.5_0", Some(10.5)),
            ("4 gib", Some(4.0)),
            ("", None),
            (".", None),
            ("_1", None),
            ("1_", None),
            ("1__0", None),
            ("1.2.3", None),
            ("0x10", None),
            ("nan", None),
            ("N/A", None),
            ("4 parsecs", None),
        ] {
            assert_eq!(Quantity::parse(text).map(|q| q.number), expected, "{text}");
        }
    }

    #[test]
    fn units_are_compared_in_the_unit_that_was_meant() {
        let gb = Unit::of_fact("disk", "sda", "size");
        let check = |argument: &str, fact, natural, expected| {
            let argument = Quantity::parse(argument).unwrap();
            assert_eq!(argument.compare_fact(fact, natural), expected, "{argument:?} {fact}");
        };
        use Ordering::{Equal, Greater, Less};
        check("4", "8", None, Some(Greater));
        check("4GB", "4", gb, Some(Equal));
        check("4GiB", "4", gb, Some(Less));
        check("4GB", "4", None, None);
        check("4GB", "4000mb", None, Some(Equal));
        check("500", "1TB", gb, Some(Greater));
        check("1000", "1TB", gb, Some(Equal));
        check("2", "4GB", gb, Some(Greater));
        check("8", "4GB", gb, Some(Less));
        check("0.5GB", "500MB", gb, Some(Equal));
        check("500", "1TB", None, Some(Less));
        check("1Gbit/s", "10 Mbit/s", None, Some(Less));
        check("1Gbit/s", "10GB", None, None);
        check("4", "N/A", gb, None);
    }
}
