//! `generate({…})`: many entries from one template.
//!
//! Every value of the template is a stream; entry *i* takes the *i*-th item of each, and the
//! shortest stream ends the list. A text without a range and anything that is neither text nor
//! list is the same in every entry. A text with a range `8-12` (several joined by `:`, counted
//! down when the second number is the smaller one, padded with zeros when the first number
//! begins with one) gives one text per number. An IPv4 address may have ranges in each of its
//! four parts, the last part running fastest. A list or tuple gives its items as they are.
//!
//! Nothing is expanded until it is asked for: item *i* is computed, so that a template of a
//! hundred thousand entries costs as much to hold as one of ten.

use crate::cmdb::{Entry, Field};
use crate::value::Value;

/// More entries than this are a mistake in a range, not a data centre.
pub const MOST_ENTRIES: u64 = 1_000_000;

/// Why a template gives no list of entries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    /// A list joined by `:` holds something that is no range.
    #[error("`{text}` joins a range and a single number with `:`")]
    SingleInGroup {
        /// Index of the template's value.
        index: usize,
        /// The text.
        text: String,
    },
    /// A number of an address is above 255.
    #[error("`{text}` counts beyond 255, the largest number in an IPv4 address")]
    Address {
        /// Index of the template's value.
        index: usize,
        /// The text.
        text: String,
    },
    /// A number that no range can begin or end with.
    #[error("a number of `{text}` has more than {MOST_DIGITS} digits")]
    Number {
        /// Index of the template's value.
        index: usize,
        /// The text.
        text: String,
    },
    /// Nothing says how long the list is.
    #[error("no range and no list says how many entries there are")]
    Endless,
    /// More than [`MOST_ENTRIES`].
    #[error("the template gives {entries} entries, more than {MOST_ENTRIES}")]
    TooMany {
        /// How many.
        entries: u64,
    },
}

impl GenerateError {
    /// Which value of the template is to blame; `None` when it is the template as a whole.
    pub fn index(&self) -> Option<usize> {
        match self {
            GenerateError::SingleInGroup { index, .. }
            | GenerateError::Address { index, .. }
            | GenerateError::Number { index, .. } => Some(*index),
            GenerateError::Endless | GenerateError::TooMany { .. } => None,
        }
    }
}

impl GenerateError {
    /// How to mend it.
    pub fn help(&self) -> &'static str {
        match self {
            GenerateError::SingleInGroup { .. } => "write the number as a range, for example `5-5`",
            GenerateError::Address { .. } => "end the range at 255 and let the part before count",
            GenerateError::Number { .. } => "break the digits up with a letter or a point",
            GenerateError::Endless => "give one value a range such as `host01-20`",
            GenerateError::TooMany { .. } => "look at the ranges: a digit too many?",
        }
    }
}

/// Numbers of ranges are computed in 64 bits.
const MOST_DIGITS: usize = 18;

/// A template, understood: any entry of the list can be asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Generator {
    columns: Vec<Column>,
    length: usize,
}

/// One key of the template.
#[derive(Debug, Clone, PartialEq)]
struct Column {
    key: String,
    secret: bool,
    stream: Stream,
}

impl Generator {
    /// Understands a template.
    ///
    /// # Errors
    ///
    /// A `:` group with a single number, an address beyond 255, a list without an end.
    pub fn new(template: &Entry) -> Result<Generator, GenerateError> {
        let mut columns = Vec::with_capacity(template.fields.len());
        for (index, field) in template.fields.iter().enumerate() {
            let stream = Stream::of(&field.value, index)?;
            columns.push(Column { key: field.key.clone(), secret: field.secret, stream });
        }
        let plain = template.fields.iter().all(|field| matches!(field.value, Value::Text(_)));
        let shortest = columns.iter().filter_map(|column| column.stream.length()).min();
        let length = match shortest {
            Some(length) => length,
            None if plain => 1,
            None => return Err(GenerateError::Endless),
        };
        match usize::try_from(length) {
            Ok(small) if length <= MOST_ENTRIES => Ok(Generator { columns, length: small }),
            _ => Err(GenerateError::TooMany { entries: length }),
        }
    }

    /// How many entries there are: none when a value of the template is an empty list.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Entry number `position`, from 0, with the keys in the order of the template.
    pub fn entry(&self, position: usize) -> Option<Entry> {
        (position < self.length).then(|| {
            let field = |column: &Column| Field {
                key: column.key.clone(),
                value: column.stream.item(position),
                secret: column.secret,
            };
            Entry { fields: self.columns.iter().map(field).collect() }
        })
    }

    /// Whether the entries have this key.
    pub fn has(&self, key: &str) -> bool {
        self.columns.iter().any(|column| column.key == key)
    }

    /// The value of one key in entry number `position`.
    pub fn value(&self, position: usize, key: &str) -> Option<Value> {
        let column = self.columns.iter().find(|column| column.key == key)?;
        (position < self.length).then(|| column.stream.item(position))
    }

    /// All entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        (0..self.length).filter_map(|position| self.entry(position))
    }
}

/// What one value of a template gives, entry by entry.
#[derive(Debug, Clone, PartialEq)]
enum Stream {
    Constant(Value),
    Items(Vec<Value>),
    Text { before: String, numbers: Numbers, after: String },
    Address([Numbers; 4]),
}

impl Stream {
    fn of(value: &Value, index: usize) -> Result<Stream, GenerateError> {
        match value {
            Value::List(items) => Ok(Stream::Items(items.clone())),
            Value::Text(text) => match address(text, index)? {
                Some(parts) => Ok(Stream::Address(parts)),
                None => ranged_text(text, index),
            },
            other => Ok(Stream::Constant(other.clone())),
        }
    }

    /// How many items there are; `None` when there is no end to them.
    fn length(&self) -> Option<u64> {
        match self {
            Stream::Constant(_) => None,
            Stream::Items(items) => Some(items.len() as u64),
            Stream::Text { numbers, .. } => Some(numbers.length()),
            Stream::Address(parts) => {
                Some(parts.iter().map(Numbers::length).fold(1, u64::saturating_mul))
            }
        }
    }

    /// Item number `position`, which is below the length.
    fn item(&self, position: usize) -> Value {
        let position_in_numbers = position as u64;
        match self {
            Stream::Constant(value) => value.clone(),
            Stream::Items(items) => items[position].clone(),
            Stream::Text { before, numbers, after } => {
                let mut text = before.clone();
                numbers.write(position_in_numbers, &mut text);
                text.push_str(after);
                Value::Text(text)
            }
            Stream::Address(parts) => {
                let mut rest = position_in_numbers;
                let mut digits = [0; 4];
                for (digit, part) in digits.iter_mut().zip(parts).rev() {
                    *digit = rest % part.length();
                    rest /= part.length();
                }
                let mut text = String::with_capacity(15);
                for (part, digit) in parts.iter().zip(digits) {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    part.write(digit, &mut text);
                }
                Value::Text(text)
            }
        }
    }
}

/// Ranges joined by `:`, at least one.
#[derive(Debug, Clone, PartialEq)]
struct Numbers(Vec<Range>);

/// The numbers from `first` to `last`, both included, up or down.
#[derive(Debug, Clone, PartialEq)]
struct Range {
    first: u64,
    last: u64,
    /// Padded with zeros to this many digits.
    width: usize,
}

impl Numbers {
    fn length(&self) -> u64 {
        self.0.iter().map(Range::length).sum()
    }

    fn largest(&self) -> u64 {
        self.0.iter().map(|range| range.first.max(range.last)).max().unwrap_or(0)
    }

    /// Appends number `position`, which is below the length.
    fn write(&self, mut position: u64, text: &mut String) {
        for range in &self.0 {
            if position < range.length() {
                let number = if range.first <= range.last {
                    range.first + position
                } else {
                    range.first - position
                };
                push_number(text, number, range.width);
                return;
            }
            position -= range.length();
        }
    }
}

impl Range {
    fn length(&self) -> u64 {
        self.first.abs_diff(self.last) + 1
    }
}

/// Appends a number, with zeros before it up to `width` digits: `write!` does the same in several
/// times as long, and a hall has some hundred thousand of them.
fn push_number(text: &mut String, mut number: u64, width: usize) {
    let mut digits = ['0'; MOST_DIGITS + 2];
    let mut first = digits.len();
    while number > 0 || first == digits.len() {
        first -= 1;
        digits[first] = char::from(b'0' + (number % 10) as u8);
        number /= 10;
    }
    text.extend(&digits[first.min(digits.len() - width)..]);
}

/// A text with a range somewhere: the first group of ranges varies, everything else stays.
fn ranged_text(text: &str, index: usize) -> Result<Stream, GenerateError> {
    let Some(start) = first_range(text) else {
        return Ok(Stream::Constant(Value::Text(text.to_owned())));
    };
    let (numbers, after) = take_group(&text[start..], text, index)?;
    Ok(Stream::Text { before: text[..start].to_owned(), numbers, after: after.to_owned() })
}

/// Four parts of an IPv4 address, at least one of them with a range; `None` when the text is no
/// such thing.
fn address(text: &str, index: usize) -> Result<Option<[Numbers; 4]>, GenerateError> {
    if !text.contains('-') || !text.chars().all(|c| c.is_ascii_digit() || ":.-".contains(c)) {
        return Ok(None);
    }
    let mut parts = Vec::new();
    for part in text.split('.') {
        let numbers = if is_number(part) {
            let number = number(part, text, index)?;
            Numbers(vec![Range { first: number, last: number, width: width(part) }])
        } else if first_range(part) == Some(0) {
            match take_group(part, text, index)? {
                (numbers, "") => numbers,
                _ => return Ok(None),
            }
        } else {
            return Ok(None);
        };
        parts.push(numbers);
    }
    let Ok(parts) = <[Numbers; 4]>::try_from(parts) else { return Ok(None) };
    match parts.iter().map(Numbers::largest).max() {
        Some(largest) if largest > 255 => {
            Err(GenerateError::Address { index, text: text.to_owned() })
        }
        _ => Ok(Some(parts)),
    }
}

/// Where the first `digits-digits` begins.
fn first_range(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut start = 0;
    while start < bytes.len() {
        let digits = count_digits(&bytes[start..]);
        let end = start + digits;
        if digits > 0
            && bytes.get(end) == Some(&b'-')
            && bytes.get(end + 1).is_some_and(u8::is_ascii_digit)
        {
            return Some(start);
        }
        start = end.max(start + 1);
    }
    None
}

/// Takes `a-b:c-d…` off the front of `rest`, which begins with a range; `whole` is for messages.
fn take_group<'a>(
    mut rest: &'a str,
    whole: &str,
    index: usize,
) -> Result<(Numbers, &'a str), GenerateError> {
    let mut ranges = Vec::new();
    loop {
        let (first, after) = rest.split_at(count_digits(rest.as_bytes()));
        let after = &after[1..];
        let (last, after) = after.split_at(count_digits(after.as_bytes()));
        ranges.push(Range {
            first: number(first, whole, index)?,
            last: number(last, whole, index)?,
            width: width(first),
        });
        match after.strip_prefix(':') {
            Some(next) if first_range(next) == Some(0) => rest = next,
            Some(next) if next.starts_with(|c: char| c.is_ascii_digit()) => {
                return Err(GenerateError::SingleInGroup { index, text: whole.to_owned() });
            }
            _ => return Ok((Numbers(ranges), after)),
        }
    }
}

fn count_digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && count_digits(text.as_bytes()) == text.len()
}

fn number(digits: &str, whole: &str, index: usize) -> Result<u64, GenerateError> {
    match digits.parse() {
        Ok(number) if digits.len() <= MOST_DIGITS => Ok(number),
        _ => Err(GenerateError::Number { index, text: whole.to_owned() }),
    }
}

/// Numbers are padded when the first one begins with a zero.
fn width(first: &str) -> usize {
    if first.starts_with('0') { first.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(values: Vec<(&str, Value)>) -> Entry {
        Entry { fields: values.into_iter().map(|(key, value)| Field::new(key, value)).collect() }
    }

    /// The texts that `h` takes when the template is `{'h': text}`.
    fn texts(text: &str) -> Result<Vec<String>, GenerateError> {
        let generator = Generator::new(&template(vec![("h", text.into())]))?;
        Ok((0..generator.len()).map(|i| generator.value(i, "h").unwrap().as_text()).collect())
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(texts(text).unwrap(), expected, "{text}");
    }

    #[test]
    fn only_the_first_group_of_a_text_varies() {
        check("rack1-2-node3-4", &["rack1-node3-4", "rack2-node3-4"]);
        check("h1-2x", &["h1x", "h2x"]);
        check("é8-10é", &["é8é", "é9é", "é10é"]);
        check("host", &["host"]);
        check("a-1", &["a-1"]);
        check("1-", &["1-"]);
    }

    #[test]
    fn a_group_joins_ranges_and_nothing_else() {
        check("100-100:94-92", &["100", "94", "93", "92"]);
        check("h1-2:eth0", &["h1:eth0", "h2:eth0"]);
        for text in ["h1-3:5", "10.0.0.1-3:5", "h1-2:4-5:7"] {
            assert_eq!(
                texts(text),
                Err(GenerateError::SingleInGroup { index: 0, text: text.to_owned() })
            );
        }
    }

    #[test]
    fn addresses_count_like_an_odometer_and_stop_at_255() {
        check("10.0.1-2.08-09", &["10.0.1.08", "10.0.1.09", "10.0.2.08", "10.0.2.09"]);
        check("1.2-3", &["1.2", "1.3"]);
        assert!(matches!(texts("10.0.0.250-256"), Err(GenerateError::Address { .. })));
    }

    #[test]
    fn lists_without_an_end_or_beyond_reason_are_refused() {
        let of = |value: Value| Generator::new(&template(vec![("p", value)])).map(|_| ());
        assert_eq!(of(Value::Integer(8080)), Err(GenerateError::Endless));
        assert_eq!(of(Value::Bool(true)), Err(GenerateError::Endless));
        assert_eq!(of("1-1000000".into()), Ok(()));
        assert_eq!(of("1-1000001".into()), Err(GenerateError::TooMany { entries: 1_000_001 }));
        for text in ["1-99999999999999999999", "1-9999999999999999999", "1234567890123456789-5"] {
            assert!(matches!(of(text.into()), Err(GenerateError::Number { .. })), "{text}");
        }
        assert_eq!(of("0-255.0-255.0-255.0-255".into()).map_err(|error| error.index()), Err(None));
    }

    #[test]
    fn numbers_are_padded_up_to_their_width() {
        for (number, width, expected) in [
            (0, 0, "0"),
            (7, 3, "007"),
            (1234, 3, "1234"),
            (999_999_999_999_999_999, 18, "999999999999999999"),
            (1, 18, "000000000000000001"),
            (u64::MAX, 0, "18446744073709551615"),
        ] {
            let mut text = "h".to_owned();
            push_number(&mut text, number, width);
            assert_eq!(text, format!("h{expected}"));
        }
    }

    #[test]
    fn an_empty_list_gives_no_entries_and_an_empty_template_one() {
        let empty = template(vec![("l", Value::List(vec![])), ("h", "h1-3".into())]);
        let empty = Generator::new(&empty).unwrap();
        assert_eq!(empty.len(), 0);
        assert_eq!(Generator::new(&Entry::default()).unwrap().entries().count(), 1);
        let two = Generator::new(&template(vec![("h", "h1-2".into())])).unwrap();
        assert_eq!((two.entry(2), two.value(2, "h")), (None, None));
        assert!(two.entry(1).is_some() && two.has("h") && !two.has("x"));
    }
}
