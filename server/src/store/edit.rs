//! An admin's edit of a file, beside machines that go on being answered.
//!
//! The lock is held twice, for moments: to bring the file up to date before an editor opens a copy
//! of it, and to put the edited copy in its place. What the server wrote in between is kept
//! (`specs::fleet::edit`). Which editor it is, and what is asked on a terminal, is `admin::edit`'s.

use std::path::PathBuf;

use specs::fleet::edit::{Conflict, differences, merge};
use specs::fleet::{File, World};

use super::lock::Lock;
use super::{Store, StoreError, lock_failed, locked};

/// An edit that is in force.
#[derive(Debug)]
pub struct Installed {
    /// Where the file is.
    pub path: PathBuf,
    /// What the edit changed, a line each.
    pub differences: Vec<String>,
    /// Whether the server had changed the file since the editor was opened, and both were kept.
    pub merged: bool,
}

/// The right to edit one file, which one process has at a time; given up when dropped.
#[derive(Debug)]
pub(crate) struct EditTurn {
    _turn: Lock,
}

impl Store {
    /// The right to edit a file; `None` while somebody else has it.
    pub(crate) fn edit_turn(&self, file: &File) -> Result<Option<EditTurn>, StoreError> {
        let path = self.section().private_dir().join(format!("edit-{file}"));
        let turn = Lock::open(&path).and_then(Lock::try_hold);
        let turn = turn.map_err(|source| lock_failed(&path, source))?;
        Ok(turn.map(|turn| EditTurn { _turn: turn }))
    }

    /// What a file says, with everything that was decided until now; `None` when there is none.
    pub fn stored(&self, file: &File) -> Result<Option<Vec<u8>>, StoreError> {
        self.sync()?;
        self.with_engine(&mut locked(&self.inner), |engine| engine.stored(file))
    }

    /// Puts `edited`, which an admin made of `base`, in the place of a file. When this returns it
    /// is in force here, on disk, and seen by the next request of every other process.
    ///
    /// # Errors
    ///
    /// The outer ones: nothing is known to have been installed. A [`Conflict`]: nothing was.
    pub fn install(
        &self,
        file: &File,
        base: &[u8],
        edited: &[u8],
    ) -> Result<Result<Installed, Conflict>, StoreError> {
        // Whoever writes the readable files has their new versions beside them, without the lock.
        let turn = self.syncer()?.hold().map_err(|source| self.syncer_failed(source))?;
        self.write_behind()?;
        let installed = self.with_engine(&mut locked(&self.inner), |engine| {
            // What came since. From here on the file holds all that was decided.
            self.write_now(engine)?;
            let present = engine.stored(file)?.unwrap_or_default();
            let merged = match together(file, base, &present, edited) {
                Ok(merged) => merged,
                Err(conflict) => return Ok(Err(conflict)),
            };
            let path = engine.install(file, merged.as_bytes())?;
            let differences = differences(file, &String::from_utf8_lossy(&present), &merged);
            Ok(Ok(Installed { path, differences, merged: present != base }))
        });
        drop(turn);
        installed
    }
}

/// What the file has to say. A text that the server could not read is never put in place.
fn together(file: &File, base: &[u8], present: &[u8], edited: &[u8]) -> Result<String, Conflict> {
    let text = |bytes: &[u8]| {
        let text = str::from_utf8(bytes).map(str::to_owned);
        text.map_err(|_| Conflict::Unreadable(format!("{file} is no UTF-8 text")))
    };
    let merged = match present == base {
        true => text(edited)?,
        false => merge(file, &text(base)?, &text(present)?, &text(edited)?)?,
    };
    World::default().read(file, Some(merged.as_bytes()))?;
    Ok(merged)
}
