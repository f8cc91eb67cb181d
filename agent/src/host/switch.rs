//! Moves what was built to its place, and back: one rename a unit, and any of it again.
//!
//! Whether a unit has been switched is seen from the inode that is parked: before the switch it
//! is that of what was built. So both ways can be gone from any state that a power cut leaves,
//! however few of the renames before it have reached the disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use specs::upgrade::{TreePath, UnitKind};

use super::error::{Tried, UpgradeError};
use super::journal::{Failpoint, Journal, Record};
use super::layout::{Area, Prepared, PreparedUnit, inode};
use super::staging::set_attributes;
use crate::tree::join;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// To what was built.
    Forward,
    /// To what stood there.
    Back,
}

/// Switches all units and puts the result on the disk.
pub(super) fn switch_all(
    root: &Path,
    area: &Area,
    prepared: &Prepared,
    journal: &mut Journal,
    failpoint: &mut Failpoint,
    direction: Direction,
) -> Result<(), UpgradeError> {
    let mut order: Vec<usize> = (0..prepared.units.len()).collect();
    if direction == Direction::Back {
        order.reverse();
    }
    for position in order {
        let unit = &prepared.units[position];
        failpoint.pass()?;
        switch(root, &area.parked(position, &unit.top), unit, direction)?;
        if direction == Direction::Forward {
            journal.append(Record::Switched(position), failpoint)?;
        }
    }
    // All renames are on the disk before the journal may say so.
    area.sync(prepared)
}

/// Switches one unit, unless it has been.
fn switch(
    root: &Path,
    parked: &Path,
    unit: &PreparedUnit,
    direction: Direction,
) -> Result<(), UpgradeError> {
    let path = &unit.unit.path;
    let live = live(root, path)?;
    let there = inode(parked)?;
    let is_new = there.is_some() && there == unit.new;
    match (&unit.unit.kind, direction) {
        (UnitKind::Attributes { after, .. }, Direction::Forward) => set_attributes(&live, after),
        (UnitKind::Attributes { before, .. }, Direction::Back) => match inode(&live)? {
            Some(_) => set_attributes(&live, before),
            None => Ok(()),
        },
        (UnitKind::Add | UnitKind::Swap, Direction::Forward) if is_new => {
            change_places(parked, &live)
        }
        (UnitKind::Remove, Direction::Forward) if there.is_none() => move_away(&live, parked),
        (UnitKind::Swap, Direction::Back) if there.is_some() && !is_new => {
            change_places(parked, &live)
        }
        (UnitKind::Add, Direction::Back) if there.is_none() => move_away(&live, parked),
        // Something had got into its place meanwhile and was parked.
        (UnitKind::Add, Direction::Back) if !is_new => change_places(parked, &live),
        (UnitKind::Remove, Direction::Back) if there.is_some() && there == unit.old => {
            change_places(parked, &live)
        }
        // Done before.
        (UnitKind::Add | UnitKind::Swap | UnitKind::Remove, _) => Ok(()),
    }
}

/// The place of a unit, after a look at the folders above it: nothing is moved through a link.
fn live(root: &Path, path: &TreePath) -> Result<PathBuf, UpgradeError> {
    for folder in path.ancestors() {
        let place = join(root, &folder);
        let metadata = fs::symlink_metadata(&place).tried("look at", &place)?;
        if !metadata.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory)).tried("go into", &place);
        }
    }
    Ok(join(root, path))
}

/// Exchanges two places; when nothing is at `live`, moves.
fn change_places(parked: &Path, live: &Path) -> Result<(), UpgradeError> {
    match renameat_with(CWD, parked, CWD, live, RenameFlags::EXCHANGE) {
        Err(Errno::NOENT) => renameat_with(CWD, parked, CWD, live, RenameFlags::NOREPLACE),
        exchanged => exchanged,
    }
    .tried("switch", live)
}

/// Moves what is at `live`, if anything is.
fn move_away(live: &Path, parked: &Path) -> Result<(), UpgradeError> {
    match renameat_with(CWD, live, CWD, parked, RenameFlags::NOREPLACE) {
        Err(Errno::NOENT) => Ok(()),
        moved => moved.tried("move away", live),
    }
}
