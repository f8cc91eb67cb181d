//! Changes of a document that leave every byte outside of them as it was.
//!
//! An [`Editor`] collects changes against the places of one [`Document`] and applies them all at
//! once. Comments are never inside a change, except for those within a literal that is replaced
//! or between a removed key and its value.

use super::{Document, Entry, Kind, Literal, Node};
use crate::diagnostic::Span;

/// Collects changes; [`Editor::finish`] applies them.
#[derive(Debug)]
pub struct Editor<'a> {
    document: &'a Document,
    changes: Vec<(Span, String)>,
}

impl<'a> Editor<'a> {
    pub(super) fn new(document: &'a Document) -> Editor<'a> {
        Editor { document, changes: Vec::new() }
    }

    /// Puts a literal in the place of a node, and of redundant parentheses around it unless a
    /// comment stands between these.
    pub fn replace(&mut self, node: &Node, literal: &Literal) {
        let text = literal.to_text(self.document.style);
        let before = Span { start: node.outer.start, end: node.span.start };
        let after = Span { start: node.span.end, end: node.outer.end };
        let commented = [before, after].into_iter().any(|part| self.document.has_comment_in(part));
        self.changes.push((if commented { node.span } else { node.outer }, text));
    }

    /// Sets these keys of a mapping, in place where they exist and after its last entry where
    /// they do not. A key that has the value already is left as it is written. Nothing happens
    /// to what is not a mapping. At most one call for each mapping, with `remove` or without.
    pub fn set(&mut self, dict: &Node, values: &[(&str, Literal)], remove: &[&str]) {
        let Some(entries) = dict.entries() else { return };
        let is_removed = |entry: &Entry| remove.contains(&entry.key.as_str());
        let style = self.document.style;
        let mut new = Vec::new();
        for (key, literal) in values {
            match entries.iter().find(|entry| entry.key == *key && !is_removed(entry)) {
                Some(entry) if entry.value.literal() == *literal => {}
                Some(entry) => self.replace(&entry.value, literal),
                None => {
                    let key = super::escape::encode(key, style.quote, style.syntax);
                    new.push(format!("{key}: {}", literal.to_text(style)));
                }
            }
        }
        // New entries take the places of removed ones as far as these go.
        let mut gone: Vec<usize> =
            (0..entries.len()).filter(|&at| is_removed(&entries[at])).collect();
        let swapped = gone.len().min(new.len());
        for (at, text) in gone.drain(..swapped).zip(new.drain(..swapped)) {
            self.changes.push((place_of(&entries[at]), text));
        }
        self.remove(dict, entries, &gone);
        let places: Vec<Span> = entries.iter().map(place_of).collect();
        self.append(dict, &places, &new);
    }

    /// Adds an item after the last one of a list or tuple.
    pub fn push(&mut self, list: &Node, literal: &Literal) {
        let Some(items) = list.items() else { return };
        let places: Vec<Span> = items.iter().map(|item| item.outer).collect();
        let text = literal.to_text(self.document.style);
        self.append(list, &places, &[text]);
    }

    /// The text with all changes.
    pub fn finish(mut self) -> String {
        self.changes.sort_by_key(|(span, _)| *span);
        let text = &self.document.text;
        let mut out = String::with_capacity(text.len() + 64);
        let mut at = 0;
        for (span, new) in &self.changes {
            // A change inside one already applied is void: the outer one replaced its place.
            if span.start < at {
                continue;
            }
            out.push_str(&text[at..span.start]);
            out.push_str(new);
            at = span.end;
        }
        out.push_str(&text[at..]);
        out
    }

    /// Adds `new` after the last of the items at `places`, laid out as that one is.
    fn append(&mut self, node: &Node, places: &[Span], new: &[String]) {
        if new.is_empty() {
            return;
        }
        let Some(&last) = places.last() else {
            let after_open = node.span.start + 1;
            let mut added = new.join(", ");
            // In Python one literal in parentheses is no tuple.
            if matches!(node.kind, Kind::Tuple(_)) {
                added.push(',');
            }
            self.changes.push((Span { start: after_open, end: after_open }, added));
            return;
        };
        let text = &self.document.text;
        let line_start = text[..last.start].rfind('\n').map_or(0, |newline| newline + 1);
        let indent = &text[line_start..last.start];
        let own_line = line_start > node.span.start && indent.trim().is_empty();
        let newline = if text[..line_start].ends_with("\r\n") { "\r\n" } else { "\n" };
        let separator = if own_line { format!("{newline}{indent}") } else { " ".to_owned() };
        let comma = node.trailing_comma;
        let after = comma.map_or(last.end, |comma| comma + 1);
        if comma.is_none() {
            self.changes.push((Span { start: last.end, end: last.end }, ",".to_owned()));
        }
        let place = if own_line { self.end_of_line(after) } else { after };
        let mut added = String::new();
        for (position, item) in new.iter().enumerate() {
            added.push_str(&separator);
            added.push_str(item);
            if position + 1 < new.len() || comma.is_some() {
                added.push(',');
            }
        }
        self.changes.push((Span { start: place, end: place }, added));
    }

    /// Where the line that `at` stands on ends, if only blanks and a comment follow; else `at`.
    fn end_of_line(&self, at: usize) -> usize {
        let rest = &self.document.text[at..];
        let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
        let blanks = line.len() - line.trim_start_matches([' ', '\t']).len();
        let end = at + line.trim_end().len();
        match self.document.comment_at(at + blanks) {
            // A block comment may go on for lines, or have something after it.
            Some(comment) if comment.end == end => end,
            _ if line.trim().is_empty() => end,
            _ => at,
        }
    }

    /// Takes the entries at these positions, which ascend, out with their commas, and with their
    /// lines when nothing else is on them.
    fn remove(&mut self, dict: &Node, entries: &[Entry], gone: &[usize]) {
        let from_the_end = gone.iter().rev().zip((0..entries.len()).rev());
        let at_end = from_the_end.take_while(|(gone, at)| *gone == at).count();
        let (inside, tail) = gone.split_at(gone.len() - at_end);
        // At the end, the comma before goes as well: `{a, b}` becomes `{a}`.
        let span = match (entries[..entries.len() - at_end].last(), tail.last()) {
            (Some(kept), Some(&last)) => {
                let (start, end) = (kept.value.outer.end, entries[last].value.outer.end);
                Some(Span { start, end }).filter(|span| !self.document.has_comment_in(*span))
            }
            _ => None,
        };
        let one_by_one = match span {
            Some(span) => {
                self.changes.push((span, String::new()));
                inside
            }
            None => gone,
        };
        for &position in one_by_one {
            self.remove_entry(dict, entries, position);
        }
    }

    fn remove_entry(&mut self, dict: &Node, entries: &[Entry], position: usize) {
        let mut place = place_of(&entries[position]);
        let comma = match entries.get(position + 1) {
            Some(next) => self.document.comma_between(place.end, next.key_span.start),
            None => dict.trailing_comma,
        };
        if let Some(comma) = comma {
            // A comment before the comma stays, so the comma goes on its own.
            if self.document.has_comment_in(Span { start: place.end, end: comma }) {
                self.cut(Span { start: comma, end: comma + 1 });
            } else {
                place.end = comma + 1;
            }
        }
        self.cut(place);
    }

    /// Takes a place out with the blanks behind it, or with its lines when nothing else is on
    /// them.
    fn cut(&mut self, mut place: Span) {
        let text = &self.document.text;
        let before = text[..place.start].trim_end_matches([' ', '\t']);
        let after = text[place.end..].trim_start_matches([' ', '\t']);
        place.end = text.len() - after.len();
        let newline = ["\n", "\r\n"].into_iter().find(|newline| after.starts_with(newline));
        if let (true, Some(newline)) = (before.ends_with('\n'), newline) {
            place = Span { start: before.len(), end: place.end + newline.len() };
        }
        self.changes.push((place, String::new()));
    }
}

fn place_of(entry: &Entry) -> Span {
    entry.key_span.to(entry.value.outer)
}

impl Document {
    /// The comment that begins at this offset.
    fn comment_at(&self, at: usize) -> Option<Span> {
        let position = self.comments.binary_search_by_key(&at, |span| span.start).ok()?;
        Some(self.comments[position])
    }

    fn has_comment_in(&self, place: Span) -> bool {
        let first = self.comments.partition_point(|span| span.start < place.start);
        self.comments.get(first).is_some_and(|span| span.start < place.end)
    }

    /// The comma between two entries; one inside a comment is none.
    fn comma_between(&self, from: usize, to: usize) -> Option<usize> {
        let mut at = from;
        while at < to {
            match self.comment_at(at) {
                Some(comment) => at = comment.end,
                None if self.text.as_bytes()[at] == b',' => return Some(at),
                None => at += 1,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
