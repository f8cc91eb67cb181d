//! The CMDB of a profile: a list of entries, each handed out to one machine.
//!
//! Responsible for reading the file (literal entries or `generate({…})`), for finding the entry
//! a machine gets without walking the list, and for rewriting the file so that the entries that
//! changed are the only difference. Which machine holds which entry is known to
//! [`crate::fleet`], which also decides when an entry is bound and freed.
//!
//! A hall of 100,000 entries has to fit: the file is kept as its text, packed, of which an entry is
//! read when it is looked at. What is kept of each is its place, a hash of the values it can be
//! looked up by, and whether it is free.

mod choice;
mod entry;
mod free;
pub mod generate;
mod sheet;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use crate::diagnostic::{Code, Diagnostic, Span};
use crate::literal::{Document, Kind, Node, Style, each_item};
use crate::value::{Value, Variables};
use free::Free;
use generate::{GenerateError, Generator};
use sheet::Sheet;

pub use choice::{Choice, Claimant};
pub use entry::{Entry, Field, USED};

/// The CMDB of a profile.
#[derive(Debug, Clone)]
pub struct Cmdb {
    file: String,
    style: Style,
    source: Source,
    /// Entries that no longer read as in the source.
    changed: BTreeMap<usize, Changed>,
    /// Positions of entries without the mark `used`.
    free: Free,
    /// The variables that entries are looked up by, in alphabetical order.
    keys: Vec<String>,
    /// Hash of the values of all of `keys`, and the position; entries that lack one are absent.
    index: BTreeSet<(u64, usize)>,
    /// The text of the file when it was a call of `generate`, to be kept as `.orig`.
    generated: Option<String>,
}

/// Where entries are read from.
#[derive(Debug, Clone)]
enum Source {
    /// A list of literal entries.
    List(Sheet),
    /// A template, and where in the text it stands.
    Generated { text: String, call: Span, generator: Generator },
}

/// An entry that no longer reads as in the source.
#[derive(Debug, Clone)]
struct Changed {
    entry: Entry,
    text: String,
}

impl Cmdb {
    /// Reads a CMDB whose entries will be looked up by `keys`, the names of the variables that
    /// the profile's spec list binds for it ([`crate::catalog`] knows them).
    ///
    /// # Errors
    ///
    /// What is no literal, no list of mappings, or no list that `generate` can make.
    pub fn parse(file: &str, text: &str, keys: &BTreeSet<String>) -> Result<Cmdb, Vec<Diagnostic>> {
        let keys: Vec<String> = keys.iter().cloned().collect();
        let mut list =
            List { keys: &keys, places: Vec::new(), marks: Marks::default(), bad: false };
        let style = each_item(file, text, &mut |node| list.read(&node));
        let List { places, marks, bad, .. } = list;
        if let (Ok(Some(style)), false) = (&style, bad) {
            let source = Source::List(Sheet::new(text, places));
            return Ok(Cmdb::new(file, *style, source, keys, marks));
        }
        let document = Document::parse(file, text).map_err(|finding| vec![finding])?;
        let root = document.root();
        let mut list =
            List { keys: &keys, places: Vec::new(), marks: Marks::default(), bad: false };
        match &root.kind {
            Kind::Generate(template) => {
                let generator = generator(&document, template).map_err(|finding| vec![finding])?;
                let source =
                    Source::Generated { text: text.to_owned(), call: root.span, generator };
                let mut cmdb = Cmdb::new(file, document.style(), source, keys, Marks::default());
                cmdb.generated = Some(text.to_owned());
                cmdb.mark_all();
                Ok(cmdb)
            }
            // A tuple, a list in parentheses, or one that is not of entries alone.
            Kind::List(items) | Kind::Tuple(items) => {
                let findings = findings_of_entries(&document, items);
                if !findings.is_empty() {
                    return Err(findings);
                }
                items.iter().for_each(|item| list.read(item));
                let List { places, marks, .. } = list;
                let source = Source::List(Sheet::new(text, places));
                Ok(Cmdb::new(file, document.style(), source, keys, marks))
            }
            _ => {
                let message = format!("a CMDB is a list of entries, not {}", root.describe());
                let finding = document
                    .error(Code::CmdbShape, root.span, message)
                    .with_help("write `[{\"ip\": \"10.0.0.1\"}]` or `generate({…})`");
                Err(vec![finding])
            }
        }
    }

    fn new(file: &str, style: Style, source: Source, keys: Vec<String>, marks: Marks) -> Cmdb {
        let mut cmdb = Cmdb {
            file: file.to_owned(),
            style,
            source,
            changed: BTreeMap::new(),
            free: Free::default(),
            keys,
            index: BTreeSet::new(),
            generated: None,
        };
        cmdb.keep(marks);
        cmdb
    }

    /// Makes the entries be looked up by other variables: the spec list has changed.
    pub fn reindex(&mut self, keys: &BTreeSet<String>) {
        self.keys = keys.iter().cloned().collect();
        self.mark_all();
    }

    fn mark_all(&mut self) {
        let mut marks = Marks::default();
        match &self.source {
            // No entry is made: only the values that entries are looked up by.
            Source::Generated { generator, .. } => {
                let used = generator.has(USED);
                for position in 0..generator.len() {
                    let text = |key: &str| generator.value(position, key).map(|it| it.as_text());
                    marks.add(position, used, hash(&self.keys, text));
                }
            }
            Source::List(_) => {
                for (position, entry) in self.entries().enumerate() {
                    let hash = hash(&self.keys, |key| entry.get(key).map(Value::as_text));
                    marks.add(position, entry.is_used(), hash);
                }
            }
        }
        self.keep(marks);
    }

    fn keep(&mut self, mut marks: Marks) {
        // From sorted input the sets are built in one go.
        marks.index.sort_unstable();
        self.free = marks.free;
        self.index = marks.index.into_iter().collect();
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        match &self.source {
            Source::List(sheet) => sheet.len(),
            Source::Generated { generator, .. } => generator.len(),
        }
    }

    /// Whether there are none. As in the original, an empty list is no CMDB: machines of the
    /// profile get no entry and are not refused for it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many entries carry no mark `used`.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// The entry at a position, from 0.
    pub fn entry(&self, position: usize) -> Option<Entry> {
        if let Some(changed) = self.changed.get(&position) {
            return Some(changed.entry.clone());
        }
        match &self.source {
            Source::List(sheet) => {
                let text = sheet.entry(position)?;
                Entry::read(Document::parse(&self.file, &text).ok()?.root())
            }
            Source::Generated { generator, .. } => generator.entry(position),
        }
    }

    /// All entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        (0..self.len()).filter_map(|position| self.entry(position))
    }

    /// How the entry at a position is written; `None` where the file does not hold it literally.
    pub fn entry_text(&self, position: usize) -> Option<String> {
        match (&self.source, self.changed.get(&position)) {
            (_, Some(changed)) => Some(changed.text.clone()),
            (Source::List(sheet), None) => sheet.entry(position),
            (Source::Generated { .. }, None) => None,
        }
    }

    /// A finding about the entry at a position, at its place in the file as it was read.
    pub fn warning(&self, code: Code, position: usize, message: String) -> Diagnostic {
        let (text, span) = match &self.source {
            Source::List(sheet) => {
                let Range { start, end } = sheet.span(position).unwrap_or_default();
                (Cow::Owned(sheet.text(&BTreeMap::new())), Span { start, end })
            }
            Source::Generated { text, call, .. } => (Cow::Borrowed(text.as_str()), *call),
        };
        Diagnostic::warning(code, &self.file, &text, span, message)
    }

    /// Replaces the entry at a position. It is written as `text` when that is given and says
    /// the same (an entry that goes back to what it was), else as the original writes entries.
    /// A file that is a call of `generate` becomes the list it stands for. Positions beyond the
    /// end are ignored.
    pub fn set(&mut self, position: usize, entry: Entry, text: Option<&str>) {
        let Some(before) = self.entry(position) else { return };
        if before == entry && self.entry_text(position).as_deref() == text {
            return;
        }
        self.expand();
        if let Some(hash) = hash(&self.keys, |key| before.get(key).map(Value::as_text)) {
            self.index.remove(&(hash, position));
        }
        if let Some(hash) = hash(&self.keys, |key| entry.get(key).map(Value::as_text)) {
            self.index.insert((hash, position));
        }
        if entry.is_used() {
            self.free.remove(position);
        } else {
            self.free.insert(position);
        }
        let same = |text: &&str| {
            let document = Document::parse(&self.file, text);
            document.is_ok_and(|document| Entry::read(document.root()).as_ref() == Some(&entry))
        };
        let text = match text.filter(same) {
            Some(text) => text.to_owned(),
            None => entry.to_text(self.style, self.column(position)),
        };
        self.changed.insert(position, Changed { entry, text });
    }

    /// The text of the file as it has to be now.
    pub fn to_text(&self) -> String {
        match &self.source {
            Source::Generated { text, .. } => text.clone(),
            Source::List(sheet) => sheet.text(&self.changed),
        }
    }

    /// As [`Cmdb::to_text`], and entries are read from this text from now on: what is kept of
    /// those that changed is not more than of the others.
    pub fn fold(&mut self) -> String {
        match &mut self.source {
            Source::Generated { text, .. } => text.clone(),
            Source::List(sheet) => sheet.fold(&std::mem::take(&mut self.changed)),
        }
    }

    /// The text of the file as it was when it was read as a call of `generate`: to be kept as
    /// `<file>.orig` before the file is rewritten for the first time.
    pub fn generated_text(&self) -> Option<&str> {
        self.generated.as_deref()
    }

    /// Turns a template into the list it stands for, one entry a line, keeping what stands
    /// before and after it in the file.
    fn expand(&mut self) {
        let Source::Generated { text, call, generator } = &self.source else { return };
        let mut expanded = text[..call.start].to_owned();
        let mut places = Vec::with_capacity(generator.len());
        expanded.push_str("[\n");
        for entry in generator.entries() {
            expanded.push(' ');
            let start = expanded.len();
            expanded.push_str(&entry.to_text(self.style, 1));
            places.push(start..expanded.len());
            expanded.push_str(",\n");
        }
        expanded.push(']');
        expanded.push_str(&text[call.end..]);
        self.source = Source::List(Sheet::new(&expanded, places));
    }

    /// In which column, from 0, the entry at a position begins.
    fn column(&self, position: usize) -> usize {
        match &self.source {
            Source::List(sheet) => sheet.column(position),
            Source::Generated { .. } => 1,
        }
    }

    /// Positions of the entries that agree on all of these variables, in order; their names
    /// must be the keys that entries are looked up by, or this is slow.
    fn agreeing<'a>(&'a self, variables: &'a Variables) -> Box<dyn Iterator<Item = usize> + 'a> {
        let agrees =
            |position: &usize| self.entry(*position).is_some_and(|entry| entry.agrees(variables));
        if variables.is_empty() {
            return Box::new(std::iter::empty());
        }
        if !variables.keys().eq(&self.keys) {
            return Box::new((0..self.len()).filter(agrees));
        }
        match hash(&self.keys, |key| variables.get(key).map(Value::as_text)) {
            Some(hash) => {
                let same_hash = self.index.range((hash, 0)..=(hash, usize::MAX));
                Box::new(same_hash.map(|(_, position)| *position).filter(agrees))
            }
            None => Box::new(std::iter::empty()),
        }
    }
}

/// What is kept of each entry beside its place.
#[derive(Default)]
struct Marks {
    free: Free,
    index: Vec<(u64, usize)>,
}

impl Marks {
    fn add(&mut self, position: usize, used: bool, hash: Option<u64>) {
        if !used {
            self.free.insert(position);
        }
        self.index.extend(hash.map(|hash| (hash, position)));
    }
}

/// A list of literal entries, while it is read.
struct List<'a> {
    keys: &'a [String],
    places: Vec<Range<usize>>,
    marks: Marks,
    /// Whether an item was none that [`Entry::read`] can read.
    bad: bool,
}

impl List<'_> {
    /// Takes note of an item, from which nothing is copied.
    fn read(&mut self, item: &Node) {
        let entries = item.entries();
        if !entries.is_some_and(|entries| entries.iter().all(|entry| entry.value.is_value())) {
            self.bad = true;
            return;
        }
        let text = |key: &str| item.get(key)?.value().map(|value| value.as_text());
        let used = item.get(USED).is_some();
        self.marks.add(self.places.len(), used, hash(self.keys, text));
        self.places.push(item.span.start..item.span.end);
    }
}

/// Hash of the texts of all keys that entries are looked up by; `None` when there are no such
/// keys or one has no value. Values that compare as the same hash as the same.
fn hash(keys: &[String], text: impl Fn(&str) -> Option<String>) -> Option<u64> {
    if keys.is_empty() {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    for key in keys {
        text(key)?.hash(&mut hasher);
    }
    Some(hasher.finish())
}

/// Understands the argument of `generate`.
fn generator(document: &Document, template: &Node) -> Result<Generator, Diagnostic> {
    let Some(entry) = Entry::read(template) else {
        return Err(findings_of_entries(document, std::slice::from_ref(template)).remove(0));
    };
    Generator::new(&entry).map_err(|error: GenerateError| {
        let nodes = template.entries().unwrap_or_default();
        let blamed = error.index().and_then(|index| nodes.get(index));
        let span = blamed.map_or(template.span, |entry| entry.value.span);
        document.error(Code::CmdbGenerate, span, error.to_string()).with_help(error.help())
    })
}

/// What is wrong with entries that [`Entry::read`] cannot read.
fn findings_of_entries(document: &Document, items: &[Node]) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for item in items {
        let Some(fields) = item.entries() else {
            let message = format!("an entry is a mapping, not {}", item.describe());
            findings.push(
                document
                    .error(Code::CmdbShape, item.span, message)
                    .with_help("write `{\"ip\": \"10.0.0.1\", \"hostname\": \"host01\"}`"),
            );
            continue;
        };
        for field in fields.iter().filter(|field| Field::read(&field.key, &field.value).is_none()) {
            let strange = innermost_stranger(&field.value);
            let message = format!(
                "the value of `{}` holds {}; an entry holds texts, numbers and lists",
                field.key,
                strange.describe()
            );
            findings.push(
                document
                    .error(Code::CmdbNested, strange.span, message)
                    .with_help("give each of the inner keys a name of its own in the entry"),
            );
        }
    }
    findings
}

/// What it is within a value that no entry can hold.
fn innermost_stranger(value: &Node) -> &Node {
    let inner = value.items().and_then(|items| items.iter().find(|item| !item.is_value()));
    inner.map_or(value, innermost_stranger)
}
