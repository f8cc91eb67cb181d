//! A disk that forgets: it knows what was written, what of it was synced, and what may be there
//! after a power cut.
//!
//! Stricter than file systems are, within what POSIX lets them do. Of writes to a file that no
//! sync of that file followed, any may be lost, whole or by sectors, in any order. Of changes to
//! a folder that no sync of that folder followed, any number of the last ones may be lost, each
//! folder on its own; syncing a new file does not keep its name. A sync keeps what ended before it
//! began, once it has ended.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::Dice;
use super::trace::{Action, Event};

/// What a power cut keeps or loses as one.
const SECTOR: usize = 512;

/// See the module.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    files: Vec<File>,
    folders: Vec<Folder>,
    /// Syncs under way: what of, and since when.
    syncing: BTreeMap<usize, (Node, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File(usize),
    Folder(usize),
}

/// A change that was not synced yet.
#[derive(Debug)]
struct Pending<T> {
    ended: Option<u64>,
    change: T,
}

#[derive(Debug, Default)]
struct File {
    kept: Vec<u8>,
    pending: Vec<Pending<Change>>,
    length: usize,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
}

#[derive(Debug, Default)]
struct Folder {
    kept: BTreeMap<OsString, Node>,
    now: BTreeMap<OsString, Node>,
    pending: Vec<Pending<Names>>,
}

#[derive(Debug, Clone)]
enum Names {
    Add(OsString, Node),
    Remove(OsString),
    Rename(OsString, OsString),
}

impl Disk {
    /// A disk with what is in a folder now, all of it synced.
    pub fn of(root: &Path) -> Result<Disk> {
        let mut disk = Disk {
            root: root.to_owned(),
            files: Vec::new(),
            folders: Vec::new(),
            syncing: BTreeMap::new(),
        };
        disk.load(root)?;
        Ok(disk)
    }

    fn load(&mut self, path: &Path) -> Result<Node> {
        if path.is_dir() {
            let number = self.folders.len();
            self.folders.push(Folder::default());
            for entry in std::fs::read_dir(path)? {
                let entry = entry?;
                let node = self.load(&entry.path())?;
                self.folders[number].kept.insert(entry.file_name(), node);
            }
            self.folders[number].now = self.folders[number].kept.clone();
            return Ok(Node::Folder(number));
        }
        let kept = std::fs::read(path)?;
        self.files.push(File { length: kept.len(), kept, pending: Vec::new() });
        Ok(Node::File(self.files.len() - 1))
    }

    /// An event begins; `number` tells it from others.
    pub fn begin(&mut self, number: usize, event: &Event) -> Result<()> {
        let failed = || format!("the disk cannot follow {:?}", event.action);
        self.follow(number, event).with_context(failed)
    }

    fn follow(&mut self, number: usize, event: &Event) -> Result<()> {
        match &event.action {
            Action::Open { path, empties } => match self.find(path)? {
                Some(Node::File(file)) if *empties => {
                    self.change(file, event, Change::Cut(0));
                }
                Some(_) => {}
                None => {
                    self.files.push(File::default());
                    let node = Node::File(self.files.len() - 1);
                    self.add(event, path, node)?;
                }
            },
            Action::MakeFolder(path) => {
                self.folders.push(Folder::default());
                let node = Node::Folder(self.folders.len() - 1);
                self.add(event, path, node)?;
            }
            Action::Write { path, offset, bytes } => {
                let file = self.file(path)?;
                let offset = match offset {
                    Some(offset) => usize::try_from(*offset)?,
                    None => self.files[file].length,
                };
                self.change(file, event, Change::Write(offset, bytes.clone()));
            }
            Action::Cut(path, length) => {
                let file = self.file(path)?;
                self.change(file, event, Change::Cut(usize::try_from(*length)?));
            }
            Action::Sync(path) => {
                let node = self.find(path)?.context("it is not there")?;
                self.syncing.insert(number, (node, event.begun));
            }
            Action::Rename(from, to) => {
                let (folder, from) = self.place(from)?;
                let (other, to) = self.place(to)?;
                ensure!(folder == other, "from folder to folder");
                self.names(folder, event, Names::Rename(from, to));
            }
            Action::Remove(path) => {
                let (folder, name) = self.place(path)?;
                // A socket is made by a call that is not followed.
                if self.folders[folder].now.contains_key(&name) {
                    self.names(folder, event, Names::Remove(name));
                }
            }
            Action::Reply(_) => {}
        }
        Ok(())
    }

    /// An event has ended: what a sync was to keep is kept.
    pub fn end(&mut self, number: usize) {
        match self.syncing.remove(&number) {
            Some((Node::File(file), begun)) => self.files[file].sync(begun),
            Some((Node::Folder(folder), begun)) => self.folders[folder].sync(begun),
            None => {}
        }
    }

    /// Whether a power cut now could lose anything.
    pub fn has_unsynced(&self) -> bool {
        self.files.iter().any(|file| !file.pending.is_empty())
            || self.folders.iter().any(|folder| !folder.pending.is_empty())
    }

    /// What may be there when the power fails now, written below `path`.
    pub fn write_remains(&self, path: &Path, dice: &mut Dice) -> Result<()> {
        self.write_folder(0, path, dice)
    }

    fn write_folder(&self, number: usize, path: &Path, dice: &mut Dice) -> Result<()> {
        std::fs::create_dir_all(path)?;
        let folder = &self.folders[number];
        let mut names = folder.kept.clone();
        for pending in folder.pending.iter().take(dice.below(folder.pending.len() + 1)) {
            pending.change.apply(&mut names);
        }
        for (name, node) in names {
            let path = path.join(name);
            match node {
                Node::Folder(number) => self.write_folder(number, &path, dice)?,
                Node::File(number) => std::fs::write(path, self.files[number].remains(dice))?,
            }
        }
        Ok(())
    }

    fn change(&mut self, file: usize, event: &Event, change: Change) {
        let file = &mut self.files[file];
        file.length = match &change {
            Change::Write(offset, bytes) => file.length.max(offset + bytes.len()),
            Change::Cut(length) => *length,
        };
        file.pending.push(Pending { ended: event.ended, change });
    }

    fn add(&mut self, event: &Event, path: &Path, node: Node) -> Result<()> {
        let (folder, name) = self.place(path)?;
        self.names(folder, event, Names::Add(name, node));
        Ok(())
    }

    fn names(&mut self, folder: usize, event: &Event, change: Names) {
        let folder = &mut self.folders[folder];
        change.apply(&mut folder.now);
        folder.pending.push(Pending { ended: event.ended, change });
    }

    fn file(&self, path: &Path) -> Result<usize> {
        match self.find(path)? {
            Some(Node::File(file)) => Ok(file),
            other => bail!("{} is {other:?}", path.display()),
        }
    }

    /// The folder that a name is in, and the name.
    fn place(&self, path: &Path) -> Result<(usize, OsString)> {
        let name = path.file_name().context("no name")?.to_owned();
        match self.find(path.parent().context("no folder")?)? {
            Some(Node::Folder(folder)) => Ok((folder, name)),
            other => bail!("the folder of {} is {other:?}", path.display()),
        }
    }

    fn find(&self, path: &Path) -> Result<Option<Node>> {
        let mut node = Node::Folder(0);
        for component in path.strip_prefix(&self.root)?.components() {
            let Component::Normal(name) = component else { bail!("not a plain path") };
            let Node::Folder(folder) = node else { return Ok(None) };
            match self.folders[folder].now.get(name) {
                Some(found) => node = *found,
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }
}

impl File {
    fn sync(&mut self, begun: u64) {
        let (synced, pending) = ended_before(std::mem::take(&mut self.pending), begun);
        self.pending = pending;
        for pending in synced {
            pending.change.apply(&mut self.kept);
        }
    }

    /// What may be left of it.
    fn remains(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.kept.clone();
        let way = dice.below(4);
        for Pending { change, .. } in &self.pending {
            match (way, change) {
                (0, _) => {}
                (1, change) => change.apply(&mut bytes),
                (2, change) => {
                    if dice.hits(2) {
                        change.apply(&mut bytes);
                    }
                }
                (_, Change::Write(offset, written)) => {
                    for (number, piece) in sectors(*offset, written) {
                        if dice.hits(2) {
                            Change::Write(number, piece.to_vec()).apply(&mut bytes);
                        }
                    }
                }
                (_, change) => change.apply(&mut bytes),
            }
        }
        // The length may be there without what was written.
        if bytes.len() < self.length && dice.hits(4) {
            bytes.resize(self.length, 0);
        }
        bytes
    }
}

/// What is written, cut where the sectors of the file end.
fn sectors(offset: usize, written: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let first = (SECTOR - offset % SECTOR).min(written.len());
    let (head, rest) = written.split_at(first);
    let pieces = std::iter::once(head).chain(rest.chunks(SECTOR));
    pieces.scan(offset, |at, piece| {
        let begin = *at;
        *at += piece.len();
        Some((begin, piece))
    })
}

impl Folder {
    fn sync(&mut self, begun: u64) {
        let (synced, pending) = ended_before(std::mem::take(&mut self.pending), begun);
        self.pending = pending;
        for pending in synced {
            pending.change.apply(&mut self.kept);
        }
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write(offset, written) => {
                let end = offset + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(written);
            }
            Change::Cut(length) => bytes.resize(*length, 0),
        }
    }
}

impl Names {
    fn apply(&self, names: &mut BTreeMap<OsString, Node>) {
        match self {
            Names::Add(name, node) => {
                names.insert(name.clone(), *node);
            }
            Names::Remove(name) => {
                names.remove(name);
            }
            Names::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }
}

/// Those that had ended by this time, and the others, in order.
fn ended_before<T>(pending: Vec<Pending<T>>, begun: u64) -> (Vec<Pending<T>>, Vec<Pending<T>>) {
    pending.into_iter().partition(|it| it.ended.is_some_and(|ended| ended <= begun))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::BTreeSet;

    /// Everything that a power cut may leave of the names in a folder, with what they hold, when
    /// these things were done in it one after the other.
    fn remains(actions: impl Fn(&Path) -> Vec<Action>) -> BTreeSet<Vec<(String, String)>> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("old"), "old").unwrap();
        let mut disk = Disk::of(folder.path()).unwrap();
        for (number, action) in actions(folder.path()).into_iter().enumerate() {
            let begun = 10 * number as u64;
            disk.begin(number, &Event { begun, ended: Some(begun + 1), action }).unwrap();
            disk.end(number);
        }
        let mut dice = Dice::new(1);
        let mut after_a_cut = || {
            let left = tempfile::tempdir().unwrap();
            disk.write_remains(left.path(), &mut dice).unwrap();
            let entries = std::fs::read_dir(left.path()).unwrap().map(|entry| {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                (name, String::from_utf8(std::fs::read(entry.path()).unwrap()).unwrap())
            });
            let mut entries: Vec<_> = entries.collect();
            entries.sort();
            entries
        };
        (0..100).map(|_| after_a_cut()).collect()
    }

    fn written(path: &Path) -> [Action; 2] {
        let open = Action::Open { path: path.to_owned(), empties: false };
        let bytes = b"new".to_vec();
        [open, Action::Write { path: path.to_owned(), offset: None, bytes }]
    }

    #[track_caller]
    fn check(actions: impl Fn(&Path) -> Vec<Action>, expected: &[&[(&str, &str)]]) {
        let own = |pairs: &&[(&str, &str)]| {
            pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
        };
        assert_eq!(remains(actions), expected.iter().map(own).collect());
    }

    #[test]
    fn what_was_not_synced_may_be_lost() {
        let old = ("old", "old");
        check(
            |root| written(&root.join("a")).to_vec(),
            &[&[old], &[("a", ""), old], &[("a", "new"), old], &[("a", "\0\0\0"), old]],
        );
        // The file is synced, its name is not.
        check(
            |root| {
                let path = root.join("a");
                [&written(&path)[..], &[Action::Sync(path)]].concat()
            },
            &[&[old], &[("a", "new"), old]],
        );
    }

    #[test]
    fn a_replacement_that_is_done_right_is_old_or_new_and_then_new() {
        let replaced = |root: &Path| {
            let (new, old) = (root.join("new"), root.join("old"));
            let synced = [Action::Sync(new.clone()), Action::Sync(root.to_owned())];
            [&written(&new)[..], &synced, &[Action::Rename(new, old)]].concat()
        };
        check(replaced, &[&[("old", "new")], &[("new", "new"), ("old", "old")]]);
        let synced = |root: &Path| [&replaced(root)[..], &[Action::Sync(root.to_owned())]].concat();
        check(synced, &[&[("old", "new")]]);
    }

    #[test]
    fn a_sync_keeps_what_had_ended_before_it_began() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old");
        std::fs::write(&path, "old").unwrap();
        let mut disk = Disk::of(folder.path()).unwrap();
        let write = Action::Write { path: path.clone(), offset: Some(0), bytes: b"new".to_vec() };
        disk.begin(0, &Event { begun: 0, ended: Some(20), action: write }).unwrap();
        let sync = Event { begun: 10, ended: Some(30), action: Action::Sync(path) };
        disk.begin(1, &sync).unwrap();
        disk.end(1);
        assert_eq!((&disk.files[0].kept[..], disk.files[0].pending.len()), (&b"old"[..], 1));
    }

    #[test]
    fn writes_are_cut_at_the_sectors_of_the_file() {
        let bytes = [0; 1300];
        let pieces: Vec<(usize, usize)> =
            sectors(500, &bytes).map(|(at, piece)| (at, piece.len())).collect();
        assert_eq!(pieces, [(500, 12), (512, 512), (1024, 512), (1536, 264)]);
    }
}
