//! The text of a CMDB that lists its entries, packed: a text of 100,000 entries has ten megabytes,
//! of which a server that waits for machines needs nothing, and an allocation one entry.
//!
//! Consecutive entries form a block, with what stands before each of them, and are packed
//! together: entries of one file resemble each other. What is unpacked is what was packed, byte
//! by byte. Not here: what an entry says.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::Changed;

/// Entries of a block: more are smaller, and take longer to unpack.
const TOGETHER: usize = 32;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Sheet {
    /// At least one. The last one holds what stands after the last entry as well.
    blocks: Vec<Block>,
    /// Where each entry stands in the text of its block.
    places: Vec<Place>,
    last: Last,
}

/// Where an entry stands: half as large as a range.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: u32,
    end: u32,
}

impl Place {
    fn new(start: usize, end: usize) -> Place {
        // No file that is read is that long, and what is written is not much longer.
        let narrow = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Place { start: narrow(start), end: narrow(end) }
    }

    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// The packed text of consecutive entries.
#[derive(Debug, Clone)]
struct Block(Box<[u8]>);

impl Block {
    fn pack(text: &str) -> Block {
        Block(lz4_flex::block::compress_prepend_size(text.as_bytes()).into_boxed_slice())
    }

    fn unpack(&self) -> String {
        let bytes = lz4_flex::block::decompress_size_prepended(&self.0);
        let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        text.expect("a block was packed from a text, and nobody has touched it since")
    }
}

/// The block that was looked at last: who looks at an entry looks at it, or at the next one, again.
#[derive(Debug, Default)]
struct Last(Mutex<Option<(usize, Arc<str>)>>);

impl Clone for Last {
    fn clone(&self) -> Last {
        Last::default()
    }
}

impl Sheet {
    /// The sheet of this text, in which entries stand at these places, in order.
    pub(super) fn new(text: &str, entries: Vec<Range<usize>>) -> Sheet {
        let mut blocks = Vec::with_capacity(entries.len() / TOGETHER + 1);
        let mut places = Vec::with_capacity(entries.len());
        let mut begin = 0;
        for (number, together) in entries.chunks(TOGETHER).enumerate() {
            let is_last = (number + 1) * TOGETHER >= entries.len();
            let end = together.last().filter(|_| !is_last).map_or(text.len(), |last| last.end);
            places.extend(together.iter().map(|at| Place::new(at.start - begin, at.end - begin)));
            blocks.push(Block::pack(&text[begin..end]));
            begin = end;
        }
        if blocks.is_empty() {
            blocks.push(Block::pack(text));
        }
        Sheet { blocks, places, last: Last::default() }
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// How the entry at a position is written.
    pub(super) fn entry(&self, position: usize) -> Option<String> {
        let place = self.places.get(position)?;
        Some(self.unpacked(position / TOGETHER)[place.range()].to_owned())
    }

    /// Where the entry at a position stands in the text.
    pub(super) fn span(&self, position: usize) -> Option<Range<usize>> {
        let Range { start, end } = self.places.get(position)?.range();
        let blocks = &self.blocks[..position / TOGETHER];
        let before: usize = blocks.iter().map(|block| block.unpack().len()).sum();
        Some(before + start..before + end)
    }

    /// In which column, from 0, the entry at a position begins.
    pub(super) fn column(&self, position: usize) -> usize {
        let mut column = 0;
        let mut end = self.places.get(position).map(|place| place.start as usize);
        for number in (0..=position / TOGETHER).rev() {
            let text = self.unpacked(number);
            let before = &text[..end.take().unwrap_or(text.len())];
            let line = before.rfind('\n').map(|at| &before[at + 1..]);
            column += line.unwrap_or(before).chars().count();
            if line.is_some() {
                break;
            }
        }
        column
    }

    /// The text, with these entries written anew.
    pub(super) fn text(&self, changed: &BTreeMap<usize, Changed>) -> String {
        let mut out = String::new();
        for number in 0..self.blocks.len() {
            self.write_block(number, changed, &mut out);
        }
        out
    }

    /// As [`Sheet::text`], and that is the text from now on.
    pub(super) fn fold(&mut self, changed: &BTreeMap<usize, Changed>) -> String {
        let mut out = String::new();
        for number in 0..self.blocks.len() {
            let begin = out.len();
            let moved = self.write_block(number, changed, &mut out);
            if let Some(moved) = moved {
                let first = number * TOGETHER;
                self.places[first..first + moved.len()].copy_from_slice(&moved);
                self.blocks[number] = Block::pack(&out[begin..]);
            }
        }
        self.last = Last::default();
        out
    }

    /// Adds the text of a block to `out`. Where its entries stand now, when any has changed.
    fn write_block(
        &self,
        number: usize,
        changed: &BTreeMap<usize, Changed>,
        out: &mut String,
    ) -> Option<Vec<Place>> {
        let text = self.blocks[number].unpack();
        let first = number * TOGETHER;
        let places = &self.places[first..self.places.len().min(first + TOGETHER)];
        if changed.range(first..first + TOGETHER).next().is_none() {
            out.push_str(&text);
            return None;
        }
        let begin = out.len();
        let mut at = 0;
        let mut moved = Vec::with_capacity(places.len());
        for (position, place) in (first..).zip(places) {
            let Range { start, end } = place.range();
            out.push_str(&text[at..start]);
            let start_now = out.len() - begin;
            out.push_str(changed.get(&position).map_or(&text[start..end], |it| &it.text));
            moved.push(Place::new(start_now, out.len() - begin));
            at = end;
        }
        out.push_str(&text[at..]);
        Some(moved)
    }

    fn unpacked(&self, number: usize) -> Arc<str> {
        let mut last = self.last.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((known, text)) if *known == number => Arc::clone(text),
            _ => {
                let text: Arc<str> = self.blocks[number].unpack().into();
                *last = Some((number, Arc::clone(&text)));
                text
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::cmdb::Entry;

    /// A text of so many entries, and where they stand.
    fn list(entries: usize, separator: &str) -> (String, Vec<Range<usize>>) {
        let mut text = "# ä\n[".to_owned();
        let mut places = Vec::new();
        for number in 0..entries {
            text.push_str(separator);
            let start = text.len();
            text.push_str(&format!("{{\"name\": \"ö{number}\"}}"));
            places.push(start..text.len());
            text.push(',');
        }
        text.push_str("]\n# the end\n");
        (text, places)
    }

    fn check(entries: usize, separator: &str) {
        let (text, places) = list(entries, separator);
        let mut sheet = Sheet::new(&text, places.clone());
        let none = BTreeMap::new();
        assert_eq!((sheet.len(), sheet.text(&none)), (entries, text.clone()));
        for (position, place) in places.iter().enumerate() {
            assert_eq!(sheet.entry(position).as_deref(), Some(&text[place.clone()]));
            assert_eq!(sheet.span(position), Some(place.clone()));
            let line = text[..place.start].rsplit('\n').next().unwrap_or_default();
            assert_eq!(sheet.column(position), line.chars().count());
        }
        assert_eq!((sheet.entry(entries), sheet.span(entries)), (None, None));
        // One is longer, one shorter, and one of a block of its own stays.
        let change = |text: &str| Changed { entry: Entry::default(), text: text.to_owned() };
        let changed: BTreeMap<usize, Changed> =
            [(0, change("{\"name\": \"a much longer one\"}")), (entries / 2, change("{}"))].into();
        let expected = sheet.text(&changed);
        assert_eq!(sheet.fold(&changed), expected);
        assert_eq!(sheet.text(&none), expected);
        for (position, place) in places.iter().enumerate() {
            let written = changed.get(&position).map_or(&text[place.clone()], |it| &it.text);
            assert_eq!(sheet.entry(position).as_deref(), Some(written));
            assert_eq!(&expected[sheet.span(position).unwrap()], written);
        }
    }

    #[test]
    fn a_text_is_kept_and_changed_byte_by_byte() {
        for entries in [1, TOGETHER - 1, TOGETHER, TOGETHER + 1, 5 * TOGETHER] {
            check(entries, "\n ");
            // All on one line.
            check(entries, " ");
        }
        let sheet = Sheet::new("[] # none", Vec::new());
        assert_eq!((sheet.len(), sheet.text(&BTreeMap::new())), (0, "[] # none".to_owned()));
    }

    #[test]
    fn entries_like_others_are_small() {
        let (text, places) = list(10_000, "\n ");
        let sheet = Sheet::new(&text, places);
        let packed: usize = sheet.blocks.iter().map(|block| block.0.len()).sum();
        assert!(packed * 2 < text.len(), "{packed} of {}", text.len());
    }
}
