//! Gives the accounts of a tree the numbers of the table: in the account files, and on every
//! file that they own.
//!
//! The finished tree is renumbered, rather than `useradd` and its like replaced while packages
//! are installed: one mechanism then serves `adduser`, `systemd-sysusers`, plain edits of
//! `/etc/passwd` and trees that other tools made, and no maintainer script meets an account that
//! is there before its time.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};
use rustix::io::Errno;
use specs::ids::{AccountCommand, Accounts, Change, Kind, Table, account_command, merge, renumber};

use super::{RoleError, failed, tree};
use crate::command::run;

/// What `chown` takes away from a file, and must be given back.
const CAPABILITY: &str = "security.capability";

/// Access lists, which hold numbers as well.
const ACCESS_LISTS: [&str; 2] = ["system.posix_acl_access", "system.posix_acl_default"];

/// Bytes of an access list before its entries, and of an entry: tag, permissions, number.
const LIST_HEAD: usize = 4;
const LIST_ENTRY: usize = 8;
const TAG_USER: u16 = 0x02;
const TAG_GROUP: u16 = 0x08;

/// How many paths without an owner are named.
const SHOWN: usize = 5;

/// Reads a table of numbers.
fn read_table(path: &Path) -> Result<Table, RoleError> {
    let text = fs::read_to_string(path).map_err(failed("read", path))?;
    Table::parse(&path.display().to_string(), &text).map_err(|e| RoleError::Table(Box::new(e)))
}

/// Renumbers a tree; returns the accounts that moved. Nothing is changed on an error that the
/// account files or the owners of files give reason for.
pub fn renumber_tree(tree: &Path, table: &Path) -> Result<Vec<Change>, RoleError> {
    let (passwd_path, group_path) = (tree.join("etc/passwd"), tree.join("etc/group"));
    let passwd = fs::read_to_string(&passwd_path).map_err(failed("read", &passwd_path))?;
    let group = fs::read_to_string(&group_path).map_err(failed("read", &group_path))?;
    let renumbering = renumber(&passwd, &group, &read_table(table)?)?;
    let (users, groups) = (&renumbering.users, &renumbering.groups);
    let all = tree::all(tree)?;
    refuse_orphans(tree, &all, "uid", users, Metadata::uid)?;
    refuse_orphans(tree, &all, "gid", groups, Metadata::gid)?;
    if renumbering.changes.is_empty() {
        return Ok(Vec::new());
    }
    for (path, metadata) in &all {
        let (uid, gid) = (users[&metadata.uid()], groups[&metadata.gid()]);
        if (uid, gid) != (metadata.uid(), metadata.gid()) {
            change_owner(path, metadata, uid, gid)?;
        }
        if !metadata.is_symlink() {
            renumber_access_lists(path, users, groups)?;
        }
    }
    fs::write(&passwd_path, &renumbering.passwd).map_err(failed("write", &passwd_path))?;
    fs::write(&group_path, &renumbering.group).map_err(failed("write", &group_path))?;
    Ok(renumbering.changes)
}

fn refuse_orphans(
    tree: &Path,
    all: &[(PathBuf, Metadata)],
    kind: &'static str,
    known: &BTreeMap<u32, u32>,
    owner: impl Fn(&Metadata) -> u32,
) -> Result<(), RoleError> {
    let mut orphans = all.iter().filter(|(_, metadata)| !known.contains_key(&owner(metadata)));
    let Some(first) = orphans.next() else { return Ok(()) };
    let id = owner(&first.1);
    let same = std::iter::once(first).chain(orphans).filter(|(_, found)| owner(found) == id);
    let name = |(path, _): &(PathBuf, Metadata)| {
        format!("`/{}`", path.strip_prefix(tree).unwrap_or(path).display())
    };
    Err(RoleError::Orphans { kind, id, paths: same.take(SHOWN).map(name).collect() })
}

/// Changes an owner and gives back what the kernel takes away with the old one: set-id bits and
/// capabilities.
fn change_owner(path: &Path, metadata: &Metadata, uid: u32, gid: u32) -> Result<(), RoleError> {
    let capability = if metadata.is_file() { xattr(path, CAPABILITY)? } else { None };
    std::os::unix::fs::lchown(path, Some(uid), Some(gid))
        .map_err(failed("change owner of", path))?;
    if metadata.is_file() {
        let mode = fs::Permissions::from_mode(metadata.mode() & 0o7777);
        fs::set_permissions(path, mode).map_err(failed("change mode of", path))?;
    }
    match capability {
        Some(value) => set_xattr(path, CAPABILITY, &value),
        None => Ok(()),
    }
}

fn renumber_access_lists(
    path: &Path,
    users: &BTreeMap<u32, u32>,
    groups: &BTreeMap<u32, u32>,
) -> Result<(), RoleError> {
    for name in ACCESS_LISTS {
        let Some(list) = xattr(path, name)? else { continue };
        let new = renumber_access_list(&list, users, groups)
            .ok_or_else(|| RoleError::AccessList(path.to_owned()))?;
        if new != list {
            set_xattr(path, name, &new)?;
        }
    }
    Ok(())
}

/// An access list with the numbers of its entries looked up; `None` when it is none, or when it
/// names a number that no account has.
fn renumber_access_list(
    list: &[u8],
    users: &BTreeMap<u32, u32>,
    groups: &BTreeMap<u32, u32>,
) -> Option<Vec<u8>> {
    let (head, entries) = list.split_at_checked(LIST_HEAD)?;
    let mut new = head.to_vec();
    for entry in entries.chunks(LIST_ENTRY) {
        let entry: [u8; LIST_ENTRY] = entry.try_into().ok()?;
        let [tag_low, tag_high, _, _, number @ ..] = entry;
        let known = match u16::from_le_bytes([tag_low, tag_high]) {
            TAG_USER => Some(users),
            TAG_GROUP => Some(groups),
            _ => None,
        };
        new.extend_from_slice(&entry[..4]);
        new.extend_from_slice(&match known {
            Some(known) => known.get(&u32::from_le_bytes(number))?.to_le_bytes(),
            None => number,
        });
    }
    Some(new)
}

fn xattr(path: &Path, name: &str) -> Result<Option<Vec<u8>>, RoleError> {
    // Attributes of this kind are a few dozen bytes; a file system allows no more than this.
    let mut value = vec![0; 1 << 16];
    match lgetxattr(path, name, &mut value) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(failed("read an attribute of", path)(error.into())),
    }
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) -> Result<(), RoleError> {
    lsetxattr(path, name, value, XattrFlags::empty())
        .map_err(|error| failed("write an attribute of", path)(error.into()))
}

/// Runs `useradd` or its like inside the tree, with the numbers of the table.
pub fn add_account(tree: &Path, table: &Path, command: &[String]) -> Result<(), RoleError> {
    let chroot = |arguments: &[&str]| {
        let place = tree.to_string_lossy();
        let arguments: Vec<&str> =
            [place.as_ref()].into_iter().chain(arguments.iter().copied()).collect();
        run(("chroot", "coreutils"), &arguments, "")
            .map(drop)
            .map_err(|source| RoleError::Program { attempt: "make the account", source })
    };
    let as_it_is: Vec<&str> = command.iter().map(String::as_str).collect();
    let Some(AccountCommand { arguments, primary_group }) =
        account_command(command, &read_table(table)?)?
    else {
        return chroot(&as_it_is);
    };
    let path = tree.join("etc/group");
    let mut groups = Accounts::new();
    merge(Kind::Groups, &fs::read_to_string(&path).map_err(failed("read", &path))?, &mut groups)?;
    let there = |id: u32| groups.values().any(|group| group.id == id);
    // The last word of the command is not always the name; a group that is missing has the
    // name that the table knows it by.
    if let Some(id) = primary_group.filter(|id| !there(*id)) {
        let table = read_table(table)?;
        let name = table.groups.iter().find(|(_, group)| group.id == id).map(|(name, _)| name);
        if let Some(name) = name {
            chroot(&["groupadd", "--gid", &id.to_string(), name])?;
        }
    }
    chroot(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "uids = {'root': (0, 0), 'redis': (127, 138), 'sshd': (100, 0)}\n\
                         gids = {'root': (0, ''), 'redis': (138, '')}\n";

    fn tree() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("tree/etc")).unwrap();
        let tree = folder.path().join("tree");
        let passwd = "root:x:0:0::/root:/bin/sh\nredis:x:100:102::/:/x\nsshd:x:127:0::/:/x\n";
        fs::write(tree.join("etc/passwd"), passwd).unwrap();
        fs::write(tree.join("etc/group"), "root:x:0:\nredis:x:102:\n").unwrap();
        fs::write(folder.path().join("table"), TABLE).unwrap();
        (folder, tree)
    }

    /// Owners can only be changed by root; the rules are tested in `specs::ids`.
    fn is_root() -> bool {
        let root = rustix::process::geteuid().is_root();
        if !root {
            println!("SKIPPED: changing owners needs [Root]");
            assert!(std::env::var_os("CI").is_none(), "CI runs as root");
        }
        root
    }

    #[test]
    fn owners_follow_their_accounts_and_keep_modes_and_capabilities() {
        if !is_root() {
            return;
        }
        let (folder, tree) = tree();
        let own = |name: &str, uid, gid, mode: u32| {
            let path = tree.join(name);
            fs::write(&path, name).unwrap();
            std::os::unix::fs::lchown(&path, Some(uid), Some(gid)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        own("data", 100, 102, 0o640);
        own("setuid", 127, 102, 0o4755);
        fs::hard_link(tree.join("data"), tree.join("data-twin")).unwrap();
        std::os::unix::fs::symlink("nowhere", tree.join("link")).unwrap();
        std::os::unix::fs::lchown(tree.join("link"), Some(100), Some(0)).unwrap();
        own("capable", 100, 0, 0o755);
        let ping = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        set_xattr(&tree.join("capable"), CAPABILITY, &ping).unwrap();

        let changes = renumber_tree(&tree, &folder.path().join("table")).unwrap();
        assert_eq!(changes.len(), 3);
        let owner = |name: &str| {
            let found = fs::symlink_metadata(tree.join(name)).unwrap();
            (found.uid(), found.gid(), found.mode() & 0o7777)
        };
        assert_eq!(owner("data"), (127, 138, 0o640));
        assert_eq!(owner("data-twin"), (127, 138, 0o640));
        assert_eq!(owner("setuid"), (100, 138, 0o4755));
        assert_eq!(owner("link"), (127, 0, 0o777));
        assert_eq!(owner("capable"), (127, 0, 0o755));
        assert_eq!(xattr(&tree.join("capable"), CAPABILITY).unwrap().as_deref(), Some(&ping[..]));
        let again = renumber_tree(&tree, &folder.path().join("table")).unwrap();
        assert_eq!(again, [], "a second time changes nothing");
    }

    #[test]
    fn a_file_of_nobody_stops_the_build_before_anything_changed() {
        if !is_root() {
            return;
        }
        let (folder, tree) = tree();
        fs::write(tree.join("stray"), "").unwrap();
        std::os::unix::fs::lchown(tree.join("stray"), Some(777), Some(0)).unwrap();
        let error = renumber_tree(&tree, &folder.path().join("table")).unwrap_err();
        assert!(
            matches!(&error, RoleError::Orphans { kind: "uid", id: 777, paths } if paths == &["`/stray`"]),
            "{error}"
        );
        assert!(fs::read_to_string(tree.join("etc/passwd")).unwrap().contains("redis:x:100"));
    }

    #[test]
    fn access_lists_hold_numbers_as_well() {
        let users = BTreeMap::from([(100, 127), (0, 0)]);
        let groups = BTreeMap::from([(102, 138)]);
        let list = |user: u8, group: u8| {
            let mut list = vec![2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255];
            list.extend([2, 0, 6, 0, user, 0, 0, 0, 8, 0, 4, 0, group, 0, 0, 0]);
            list
        };
        assert_eq!(renumber_access_list(&list(100, 102), &users, &groups), Some(list(127, 138)));
        assert_eq!(renumber_access_list(&list(55, 102), &users, &groups), None);
        assert_eq!(renumber_access_list(&list(100, 102)[..15], &users, &groups), None);
    }
}
