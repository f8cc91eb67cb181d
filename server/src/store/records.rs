//! Machine records and facts as files: `machines/<id>.ron` in the private folder, `<name>.hw` in
//! HWDIR. They are for people and for the next start; while the server runs, memory and journal
//! hold what counts.

use std::io;
use std::path::{Path, PathBuf};

use specs::facts::Facts;
use specs::literal::{Literal, Style};
use specs::machine::Record;
use specs::units::Name;
use specs::wire::{ron_options, to_ron};

use super::StoreError;
use super::files::absent_as_none;
use crate::settings::Section;

/// Extension of a record's file.
const EXTENSION: &str = "ron";

/// The folder of the records.
pub(super) fn folder(section: &Section) -> PathBuf {
    section.private_dir().join("machines")
}

/// Where the record of a machine is.
pub(super) fn path(folder: &Path, machine: &Name) -> PathBuf {
    folder.join(format!("{machine}.{EXTENSION}"))
}

/// Where the facts of this name are.
pub(super) fn facts_path(hw_dir: &Path, name: &Name) -> PathBuf {
    hw_dir.join(format!("{name}.hw"))
}

/// Where all records of a folder are, which need not be there, in order.
pub(super) fn paths(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let failed = |path: &Path, source| StoreError::Io { path: path.to_owned(), source };
    let entries =
        absent_as_none(std::fs::read_dir(folder)).map_err(|source| failed(folder, source))?;
    let mut paths = Vec::new();
    for entry in entries.into_iter().flatten() {
        let path = entry.map_err(|source| failed(folder, source))?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The records that are there; each is read when its turn comes.
pub(super) fn read_each(paths: &[PathBuf]) -> impl Iterator<Item = Result<Record, StoreError>> {
    // Files are removed without the lock. One that goes just now is of a machine that was
    // forgotten, and the journal says so still.
    paths.iter().filter_map(|path| read(path).transpose())
}

/// A record that cannot be read stops everything: going on without it would give what its
/// machine holds to another one. `None`: there is none by now.
fn read(path: &Path) -> Result<Option<Record>, StoreError> {
    let text = absent_as_none(std::fs::read_to_string(path))
        .map_err(|source| StoreError::Io { path: path.to_owned(), source })?;
    let record = text.map(|text| ron_options().from_str(&text)).transpose();
    record.map_err(|error| StoreError::Record {
        path: path.to_owned(),
        line: error.span.start.line,
        column: error.span.start.col,
        what: error.code.to_string(),
    })
}

/// The text of a record's file.
pub(super) fn text(record: &Record) -> io::Result<String> {
    to_ron(record).map_err(io::Error::other)
}

/// The text of a `.hw` file: a list of tuples as the original writes it, which its own tools and
/// this project read.
pub(super) fn facts_text(facts: &Facts) -> String {
    let tuple = |fact: &specs::facts::Fact| {
        Literal::Tuple(vec![
            Literal::from(fact.0.as_str()),
            Literal::from(fact.1.as_str()),
            Literal::from(fact.2.as_str()),
            Literal::Value(fact.3.clone()),
        ])
    };
    Literal::List(facts.0.iter().map(tuple).collect()).to_file(Style::PYTHON)
}

#[cfg(test)]
mod tests {
    use super::*;

    use specs::machine::Identity;

    #[test]
    fn records_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let mut record = Record::new("vm-1".parse().unwrap(), Identity::default(), 17);
        record.note(18, "said \"hello\"\n");
        std::fs::write(path(folder.path(), &record.id), text(&record).unwrap()).unwrap();
        std::fs::write(folder.path().join("x.ron.edeploy-new"), "(").unwrap();
        let all = |folder: &Path| {
            read_each(&paths(folder).unwrap()).collect::<Result<Vec<Record>, StoreError>>()
        };
        assert_eq!(all(folder.path()).unwrap(), [record]);
        assert_eq!(all(&folder.path().join("absent")).unwrap(), []);
    }

    #[test]
    fn a_record_that_goes_while_the_folder_is_read_is_none() {
        let folder = tempfile::tempdir().unwrap();
        // Listed, and not there when it is read.
        std::os::unix::fs::symlink("gone", folder.path().join("a.ron")).unwrap();
        let listed = paths(folder.path()).unwrap();
        assert_eq!((listed.len(), read_each(&listed).count()), (1, 0));
    }

    #[test]
    fn a_broken_record_is_named_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.ron"), "(\n  id: 5").unwrap();
        let listed = paths(folder.path()).unwrap();
        let error = read_each(&listed).next().unwrap().unwrap_err();
        assert!(matches!(error, StoreError::Record { line: 2, .. }), "{error:?}");
    }

    #[test]
    fn facts_are_written_as_the_original_does() {
        let mut facts = Facts::default();
        facts.push("disk", "sda", "size", "it's 8");
        facts.push("cpu", "logical", "number", 8);
        let text = facts_text(&facts);
        assert!(text.contains("('cpu', 'logical', 'number', 8)"), "{text}");
        assert_eq!(Facts::parse("a.hw", text.as_bytes()).unwrap(), facts);
    }
}
