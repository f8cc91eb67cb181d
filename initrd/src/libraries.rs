//! Finds the shared libraries that a set of programs needs, by reading the programs.
//!
//! `ldd` would answer for the building machine, and by running the program. Here the files of the
//! unpacked packages are read: interpreter, needed libraries and run paths. Libraries that are
//! opened at run time by name are not seen; the manifest names them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use goblin::elf::Elf;

/// Where the loader of Debian looks without being told, after run paths.
pub(crate) const DEFAULT_FOLDERS: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "usr/lib"];

/// Why libraries could not be found.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// A program cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program begins like one and is not.
    #[error("{path} is damaged")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        #[source]
        source: goblin::error::Error,
    },
    /// No package has the library.
    #[error("`{program}` needs `{library}`, which no package of the manifest has")]
    Missing {
        /// The program or library that needs it.
        program: String,
        /// What it needs.
        library: String,
    },
}

/// The libraries and the loader that the file at `path` of `tree` names itself, as paths of the tree.
///
/// A file that is no program needs nothing.
pub(crate) fn needed_by(tree: &Path, path: &str) -> Result<BTreeSet<String>, LibraryError> {
    let file = tree.join(path);
    let bytes =
        fs::read(&file).map_err(|source| LibraryError::Read { path: file.clone(), source })?;
    if !bytes.starts_with(b"\x7fELF") {
        return Ok(BTreeSet::new());
    }
    let elf = Elf::parse(&bytes)
        .map_err(|source| LibraryError::Damaged { path: file.clone(), source })?;
    let origin = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let folders: Vec<String> = elf
        .runpaths
        .iter()
        .chain(&elf.rpaths)
        .flat_map(|list| list.split(':'))
        .map(|folder| below_usr(&folder.replace("$ORIGIN", origin)))
        .chain(DEFAULT_FOLDERS.map(str::to_owned))
        .collect();
    let mut found = BTreeSet::new();
    for library in &elf.libraries {
        let place = folders
            .iter()
            .map(|folder| format!("{folder}/{library}"))
            .find(|candidate| tree.join(candidate).exists());
        found.insert(place.ok_or_else(|| LibraryError::Missing {
            program: path.to_owned(),
            library: (*library).to_owned(),
        })?);
    }
    found.extend(elf.interpreter.map(below_usr));
    Ok(found)
}

/// The names of the libraries and of the loader that a program asks for; none of what is no program.
pub(crate) fn names_needed(path: &str, bytes: &[u8]) -> Result<Vec<String>, LibraryError> {
    if !bytes.starts_with(b"\x7fELF") {
        return Ok(Vec::new());
    }
    let elf = Elf::parse(bytes)
        .map_err(|source| LibraryError::Damaged { path: PathBuf::from(path), source })?;
    let loader = elf.interpreter.and_then(|path| path.rsplit('/').next());
    Ok(elf.libraries.iter().copied().chain(loader).map(str::to_owned).collect())
}

/// The path without its leading slash, `/lib` and the like as the parts of `/usr` that they are.
pub(crate) fn below_usr(path: &str) -> String {
    let path = path.trim_matches('/');
    let first = path.split('/').next().unwrap_or_default();
    if ["bin", "sbin", "lib", "lib64"].contains(&first) {
        format!("usr/{path}")
    } else {
        path.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test's own program is a dynamic one whose needs are known.
    fn fixture(with_libraries: &[&str]) -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        let folder = tree.path().join("usr/lib/x86_64-linux-gnu");
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(tree.path().join("usr/bin")).unwrap();
        for library in with_libraries {
            fs::write(folder.join(library), "").unwrap();
        }
        fs::copy("/proc/self/exe", tree.path().join("usr/bin/program")).unwrap();
        tree
    }

    #[test]
    fn libraries_and_loader_are_found_in_the_tree_and_not_on_this_machine() {
        let tree = fixture(&["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"]);
        let needed = needed_by(tree.path(), "usr/bin/program").unwrap();
        assert!(needed.contains("usr/lib/x86_64-linux-gnu/libc.so.6"), "{needed:?}");
        assert!(needed.contains("usr/lib64/ld-linux-x86-64.so.2"), "{needed:?}");
    }

    #[test]
    fn a_library_that_no_package_has_is_named_with_the_program() {
        let tree = fixture(&["libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"]);
        let error = needed_by(tree.path(), "usr/bin/program").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`usr/bin/program` needs `libc.so.6`, which no package of the manifest has"
        );
    }

    #[test]
    fn what_is_no_program_needs_nothing_and_a_damaged_one_is_an_error() {
        let tree = fixture(&[]);
        fs::write(tree.path().join("usr/bin/text"), "#!/bin/sh\n").unwrap();
        fs::write(tree.path().join("usr/bin/cut"), b"\x7fELF\x02\x01").unwrap();
        assert_eq!(needed_by(tree.path(), "usr/bin/text").unwrap(), BTreeSet::new());
        let error = needed_by(tree.path(), "usr/bin/cut").unwrap_err();
        assert!(matches!(error, LibraryError::Damaged { .. }), "{error:?}");
    }
}
