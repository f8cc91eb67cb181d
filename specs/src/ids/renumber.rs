//! What a finished tree must change so that its accounts have the numbers of the table.
//!
//! All numbers move at once (100 to 127 while 127 moves to 100), so the answer is a map that is
//! looked up once for each file, and the new texts of the two account files.

use std::collections::BTreeMap;

use super::{Accounts, IdsError, Kind, Numbers, Table, is_account, line, merge};

/// The first number that is proposed for an account without one: where packages' accounts begin.
const FIRST: u32 = 100;

/// An account whose number moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// User or group.
    pub kind: Kind,
    /// The account.
    pub name: String,
    /// Its number in the tree.
    pub from: u32,
    /// Its number in the table.
    pub to: u32,
}

/// What is to be done to a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renumbering {
    /// Every user number of the tree, with the one it becomes.
    pub users: BTreeMap<u32, u32>,
    /// Every group number of the tree, with the one it becomes.
    pub groups: BTreeMap<u32, u32>,
    /// The new `/etc/passwd`.
    pub passwd: String,
    /// The new `/etc/group`.
    pub group: String,
    /// The accounts that move, users first, by name.
    pub changes: Vec<Change>,
}

/// Compares the account files of a tree with the table.
pub fn renumber(passwd: &str, group: &str, table: &Table) -> Result<Renumbering, IdsError> {
    let (mut users, mut groups) = (Accounts::new(), Accounts::new());
    merge(Kind::Users, passwd, &mut users)?;
    merge(Kind::Groups, group, &mut groups)?;
    refuse_unknown(&users, &groups, table)?;
    let (user_map, mut changes) = numbers(Kind::Users, &users, table)?;
    let (group_map, changed_groups) = numbers(Kind::Groups, &groups, table)?;
    changes.extend(changed_groups);
    for (name, numbers) in &users {
        let table = table.users[name].group.unwrap_or_default();
        let tree = numbers.group.map(|old| group_map.get(&old).copied().unwrap_or(old));
        if tree != Some(table) {
            return Err(IdsError::PrimaryGroup { user: name.clone(), tree, table });
        }
    }
    Ok(Renumbering {
        passwd: rewrite(passwd, &[(2, &user_map), (3, &group_map)]),
        group: rewrite(group, &[(2, &group_map)]),
        users: user_map,
        groups: group_map,
        changes,
    })
}

fn refuse_unknown(users: &Accounts, groups: &Accounts, table: &Table) -> Result<(), IdsError> {
    let (mut names, mut lines) = (Vec::new(), Vec::new());
    // Each proposal is taken as accepted, so that the next one does not repeat its number.
    let mut table = table.clone();
    for (kind, accounts) in [(Kind::Groups, groups), (Kind::Users, users)] {
        for (name, numbers) in accounts {
            if table.accounts(kind).contains_key(name) {
                continue;
            }
            let group = numbers.group.map(|id| group_of(id, groups, &table));
            let proposed = propose(&table, kind, name, Some(Numbers { id: numbers.id, group }));
            names.push(format!("{} `{name}`", kind.noun()));
            lines.push(format!("{}: {}", kind.key(), line(name, proposed)));
            match kind {
                Kind::Users => table.users.insert(name.clone(), proposed),
                Kind::Groups => table.groups.insert(name.clone(), proposed),
            };
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    Err(IdsError::Unknown { names, lines: lines.join("\n") })
}

/// What the table calls the group that has this number in the tree.
fn group_of(id: u32, groups: &Accounts, table: &Table) -> u32 {
    let name = groups.iter().find(|(_, numbers)| numbers.id == id).map(|(name, _)| name);
    name.and_then(|name| table.groups.get(name)).map_or(id, |group| group.id)
}

/// Free numbers for an account that the table does not know: that of its namesake, since a user
/// and a group with one number are easier to read, else those it has in the tree, else the first
/// that nobody has.
pub(super) fn propose(table: &Table, kind: Kind, name: &str, in_tree: Option<Numbers>) -> Numbers {
    let namesake = match kind {
        Kind::Users => table.groups.get(name),
        Kind::Groups => table.users.get(name),
    };
    let unused = |id: &u32| table.accounts(kind).values().all(|numbers| numbers.id != *id);
    let taken = table.taken();
    let id = namesake
        .map(|numbers| numbers.id)
        .filter(unused)
        .or_else(|| in_tree.map(|numbers| numbers.id).filter(|id| !taken.contains(id)))
        .or_else(|| (FIRST..).find(|id| !taken.contains(id)))
        .unwrap_or(FIRST);
    let group = match kind {
        Kind::Users => in_tree.and_then(|numbers| numbers.group).or(Some(id)),
        Kind::Groups => None,
    };
    Numbers { id, group }
}

/// Where each number of these accounts goes, and which accounts move.
fn numbers(
    kind: Kind,
    accounts: &Accounts,
    table: &Table,
) -> Result<(BTreeMap<u32, u32>, Vec<Change>), IdsError> {
    let (mut map, mut changes) = (BTreeMap::new(), Vec::new());
    let (mut owners, mut sources) = (BTreeMap::new(), BTreeMap::new());
    for (name, numbers) in accounts {
        let (from, to) = (numbers.id, table.accounts(kind)[name].id);
        if let Some(first) = owners.insert(to, name.clone()) {
            return Err(IdsError::Shared { kind, first, second: name.clone(), id: to });
        }
        if let Some(first) = sources.insert(from, name.clone()) {
            return Err(IdsError::Split { kind, first, second: name.clone(), id: from });
        }
        map.insert(from, to);
        if from != to {
            changes.push(Change { kind, name: name.clone(), from, to });
        }
    }
    Ok((map, changes))
}

/// The text with the numbers that move replaced in these fields of its accounts.
fn rewrite(text: &str, fields: &[(usize, &BTreeMap<u32, u32>)]) -> String {
    let new_line = |text: &str| {
        let mut words: Vec<String> = text.split(':').map(str::to_owned).collect();
        for (field, map) in fields.iter().filter(|_| is_account(text)) {
            let Some(word) = words.get_mut(*field) else { continue };
            let Ok(from) = word.parse::<u32>() else { continue };
            if let Some(to) = map.get(&from).filter(|to| **to != from) {
                *word = to.to_string();
            }
        }
        words.join(":") + "\n"
    };
    // A carriage return before the end of the text would be one of a line end from then on.
    text.lines().map(|line| new_line(line.trim_end_matches('\r'))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "uids = {'root': (0, 0), 'redis': (127, 138), 'sshd': (100, 65534)}\n\
                         gids = {'root': (0, ''), 'redis': (138, ''), 'nogroup': (65534, '')}\n";

    fn renumbered(passwd: &str, group: &str) -> Result<Renumbering, IdsError> {
        renumber(passwd, group, &Table::parse("t", TABLE).unwrap())
    }

    #[test]
    fn all_numbers_move_at_once() {
        let passwd = "root:x:0:0:r:/root:/bin/sh\nredis:x:100:102::/:/x\nsshd:x:127:65534::/:/x\n";
        let group = "root:x:0:\nredis:x:102:sshd\nnogroup:x:65534:\n";
        let answer = renumbered(passwd, group).unwrap();
        assert_eq!(answer.users, BTreeMap::from([(0, 0), (100, 127), (127, 100)]));
        assert_eq!(answer.groups, BTreeMap::from([(0, 0), (102, 138), (65534, 65534)]));
        assert_eq!(
            answer.passwd,
            "root:x:0:0:r:/root:/bin/sh\nredis:x:127:138::/:/x\nsshd:x:100:65534::/:/x\n"
        );
        assert_eq!(answer.group, "root:x:0:\nredis:x:138:sshd\nnogroup:x:65534:\n");
        let moved: Vec<&str> = answer.changes.iter().map(|change| change.name.as_str()).collect();
        assert_eq!(moved, ["redis", "sshd", "redis"]);
        let again = renumbered(&answer.passwd, &answer.group).unwrap();
        assert_eq!(again.changes, []);
        assert_eq!((again.passwd, again.group), (answer.passwd, answer.group));
    }

    /// Remarks were once renumbered, and numbers that stay were written as others would.
    #[test]
    fn what_does_not_move_stays_as_it_is_written() {
        let table = "uids = {'root': (5, 5), 'a': (7, 7)}\ngids = {'root': (5, ''), 'a': (7, '')}";
        let table = Table::parse("t", table).unwrap();
        let passwd =
            |id| format!("# a:x:0:0:\n#b:x:0:0:\n+c:x:0:0:\nroot:x:{id}:{id}:\na:x:07:+7:\n");
        let group = |id| format!("#b:x:0:\n-c:x:0:\nroot:x:{id}:\na:x:+07:\n");
        for id in [0, 5] {
            let answer = renumber(&passwd(id), &group(id), &table).unwrap();
            assert_eq!((answer.passwd, answer.group), (passwd(5), group(5)));
        }
    }

    #[test]
    fn what_the_table_cannot_settle_is_refused() {
        let root = "root:x:0:0:r:/root:/bin/sh\n";
        let groups = "root:x:0:\nnogroup:x:65534:\n";
        let check = |passwd: &str, group: &str, expected: &str| {
            let error = renumbered(&(root.to_owned() + passwd), group).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check(
            "web:x:138:138::/:/x\n",
            &(groups.to_owned() + "web:x:138:\n"),
            "the table of numbers does not know group `web`, user `web`; add these lines to it, \
             or other free numbers:\ngids: 'web': ('101', ''),\nuids: 'web': ('101', '101'),",
        );
        check(
            "sshd:x:5:0::/:/x\n",
            groups,
            "user `sshd` has the primary group 0 in the tree and 65534 in the table of numbers; \
             make them agree",
        );
        // It counted as one of root's group, whose number moves here.
        let table = "uids = {'a': (2, 2)}\ngids = {'root': (2, '')}\n";
        let table = Table::parse("t", table).unwrap();
        let error = renumber("a:x:9:\n", "root:x:0:\n", &table).unwrap_err();
        assert_eq!(
            error.to_string(),
            "user `a` has no primary group in the tree and 2 in the table of numbers; make them \
             agree"
        );
    }

    /// The numbers of files were once taken from whichever account came last.
    #[test]
    fn accounts_that_share_a_number_cannot_part() {
        let table = "uids = {'root': (0, 0), 'toor': (5, 0)}\ngids = {'root': (0, '')}\n";
        let table = Table::parse("t", table).unwrap();
        let passwd = "root:x:0:0::/root:/x\ntoor:x:0:0::/root:/x\n";
        let error = renumber(passwd, "root:x:0:\n", &table).unwrap_err();
        assert_eq!(
            error.to_string(),
            "users `root` and `toor` are both number 0 in the tree, and the table gives them \
             different ones; give one of them another in the tree"
        );
    }

    #[test]
    fn two_accounts_of_a_tree_never_share_a_number() {
        let table = "uids = {'a': (800, 0), 'b': (800, 0)}\ngids = {'root': (0, '')}\n";
        let table = Table::parse("t", table).unwrap();
        let answer = |passwd| renumber(passwd, "root:x:0:\n", &table);
        assert_eq!(answer("a:x:1:0::/:/x\n").map(|answer| answer.changes.len()), Ok(1));
        let error = answer("a:x:1:0::/:/x\nb:x:2:0::/:/x\n").unwrap_err();
        assert!(matches!(error, IdsError::Shared { id: 800, .. }), "{error}");
    }
}
