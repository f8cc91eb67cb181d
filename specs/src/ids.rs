//! Stable user and group numbers: an account has the same ones in every version and role.
//!
//! An upgrade copies numbers, not names, so a service whose number moved would find its data
//! owned by another. A [`Table`] says which numbers an account has; it is a file of the
//! original, `uids = {...}` and `gids = {...}`, so that tables of existing sites serve as they
//! are. [`renumber`] decides what a finished tree must change to agree with the table, and
//! [`account_command`] puts the numbers into the commands by which a recipe makes accounts.
//!
//! Deliberately not here: walking a tree and running those commands, which is `mkrole`'s work.

mod account;
mod renumber;

pub use account::{AccountCommand, account_command};
pub use renumber::{Change, Renumbering, renumber};

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Code, Diagnostic, Span};
use crate::literal::{Document, Node, Syntax, encode};

/// The numbers of one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// Of the user, or of the group.
    pub id: u32,
    /// Of a user: its primary group. `None` for a group.
    pub group: Option<u32>,
}

/// Accounts by name.
pub type Accounts = BTreeMap<String, Numbers>;

/// Which of the two account files a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `/etc/passwd`
    Users,
    /// `/etc/group`
    Groups,
}

impl Kind {
    /// What one account of it is called in messages.
    pub fn noun(self) -> &'static str {
        match self {
            Kind::Users => "user",
            Kind::Groups => "group",
        }
    }

    /// The name of its mapping in a table.
    fn key(self) -> &'static str {
        match self {
            Kind::Users => "uids",
            Kind::Groups => "gids",
        }
    }
}

/// Why numbers cannot be kept stable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdsError {
    /// A line is not one of an account file.
    #[error("line {line} of the {}s is not `name:password:number:…`: `{text}`", kind.noun())]
    Line {
        /// Users or groups.
        kind: Kind,
        /// Which line, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// One name has two numbers.
    #[error("{} `{name}` has the numbers {known} and {found}", kind.noun())]
    Conflict {
        /// Users or groups.
        kind: Kind,
        /// The account.
        name: String,
        /// The one known before.
        known: String,
        /// The one found now.
        found: String,
    },
    /// Accounts that the table does not know.
    #[error(
        "the table of numbers does not know {}; add these lines to it, or other free numbers:\n{lines}",
        names.join(", ")
    )]
    Unknown {
        /// What they are, with their kind.
        names: Vec<String>,
        /// Lines that the table would take.
        lines: String,
    },
    /// Two accounts of one tree would share a number.
    #[error(
        "{}s `{first}` and `{second}` would both be number {id}; give one of them another",
        kind.noun()
    )]
    Shared {
        /// Users or groups.
        kind: Kind,
        /// One of them.
        first: String,
        /// The other.
        second: String,
        /// Their number.
        id: u32,
    },
    /// Two accounts of the tree share a number and would have two: files would not tell whose
    /// they are.
    #[error(
        "{}s `{first}` and `{second}` are both number {id} in the tree, and the table gives them \
         different ones; give one of them another in the tree",
        kind.noun()
    )]
    Split {
        /// Users or groups.
        kind: Kind,
        /// One of them.
        first: String,
        /// The other.
        second: String,
        /// Their number in the tree.
        id: u32,
    },
    /// A user's primary group is another one in the table.
    #[error(
        "user `{user}` has {} in the tree and {table} in the table of numbers; make them agree",
        tree.map_or("no primary group".to_owned(), |group| format!("the primary group {group}"))
    )]
    PrimaryGroup {
        /// The user.
        user: String,
        /// After the tree's groups got their numbers; `None`: the tree names none.
        tree: Option<u32>,
        /// What the table says.
        table: u32,
    },
    /// An option of an account command has no value.
    #[error("`{option}` of `{program}` has no value")]
    MissingValue {
        /// `useradd` and its like.
        program: String,
        /// The option.
        option: String,
    },
    /// No command that makes accounts.
    #[error("`{0}` is not a command that makes accounts: useradd, adduser, groupadd, addgroup")]
    NotAnAccountCommand(String),
}

const SHAPE: &str = "`uids = {'name': ('uid', 'gid'), …}`, then `gids = {'name': ('gid', ''), …}`";

/// Which numbers accounts have: the content of an ids table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Users, each with its primary group.
    pub users: Accounts,
    /// Groups.
    pub groups: Accounts,
}

impl Table {
    /// Reads a table: `uids = {'name': ('uid', 'gid'), …}` and `gids = {'name': ('gid', ''), …}`.
    pub fn parse(file: &str, text: &str) -> Result<Table, Diagnostic> {
        let assignments = assignments(file, text)?;
        let mapping = |kind: Kind| match assignments.iter().find(|(key, _)| key == kind.key()) {
            // The document holds this mapping alone; people want to see the line of the file.
            Some((_, document)) => accounts(document, kind).map_err(|it| it.in_text(text)),
            None => {
                let message = format!("the table has no `{} = {{…}}`", kind.key());
                Err(Diagnostic::error(Code::IdsTable, file, text, Span::default(), message)
                    .with_help(SHAPE))
            }
        };
        Ok(Table { users: mapping(Kind::Users)?, groups: mapping(Kind::Groups)? })
    }

    /// Users or groups.
    pub fn accounts(&self, kind: Kind) -> &Accounts {
        match kind {
            Kind::Users => &self.users,
            Kind::Groups => &self.groups,
        }
    }

    /// Every number that the table gives to a user or to a group.
    fn taken(&self) -> BTreeSet<u32> {
        self.users.values().chain(self.groups.values()).map(|numbers| numbers.id).collect()
    }
}

/// One entry as a table is written.
fn line(name: &str, numbers: Numbers) -> String {
    let group = numbers.group.map_or_else(String::new, |group| group.to_string());
    let name = encode(name, '\'', Syntax::Python);
    format!("{name}: ('{}', '{group}'),", numbers.id)
}

/// Adds the accounts of an account file to those known: the same again is fine, another number
/// for a known name is not.
pub fn merge(kind: Kind, text: &str, known: &mut Accounts) -> Result<(), IdsError> {
    for (index, text) in text.lines().enumerate() {
        if !is_account(text) {
            continue;
        }
        let wrong = || IdsError::Line { kind, line: index + 1, text: text.to_owned() };
        let mut fields = text.split(':');
        let name = fields.next().filter(|name| !name.is_empty()).ok_or_else(wrong)?;
        let id = fields.nth(1).and_then(|id| id.parse().ok()).ok_or_else(wrong)?;
        let group = match (kind, fields.next()) {
            (Kind::Groups, _) | (Kind::Users, None | Some("")) => None,
            (Kind::Users, Some(group)) => Some(group.parse().map_err(|_| wrong())?),
        };
        let found = Numbers { id, group };
        match known.get(name) {
            Some(known) if *known != found => {
                return Err(IdsError::Conflict {
                    kind,
                    name: name.to_owned(),
                    known: show(*known),
                    found: show(found),
                });
            }
            _ => known.insert(name.to_owned(), found),
        };
    }
    Ok(())
}

/// Whether a line of an account file is no remark, and none of the lines of NIS (`+`, `-`), which
/// stand for accounts that are elsewhere.
fn is_account(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with(['#', '+', '-'])
}

fn show(numbers: Numbers) -> String {
    match numbers.group {
        Some(group) => format!("{}:{group}", numbers.id),
        None => numbers.id.to_string(),
    }
}

/// The assignments of a file, each read as a document whose places are those of the file.
fn assignments(file: &str, text: &str) -> Result<Vec<(String, Document)>, Diagnostic> {
    let mut starts: Vec<(String, usize, usize)> = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        // Only a mapping's own lines begin with a blank, a quote or a bracket.
        if line.starts_with(|first: char| first.is_ascii_alphabetic()) {
            let Some((name, _)) = line.split_once('=') else {
                let span = Span { start: offset, end: offset + line.trim_end().len() };
                let message = "an ids table holds `uids = {…}` and `gids = {…}` only";
                return Err(
                    Diagnostic::error(Code::IdsTable, file, text, span, message).with_help(SHAPE)
                );
            };
            starts.push((name.trim().to_owned(), offset, offset + name.len() + 1));
        }
        offset += line.len();
    }
    let ends = starts.iter().skip(1).map(|(_, start, _)| *start).chain([text.len()]);
    let parse = |((name, _, value), end): (&(String, usize, usize), usize)| {
        // What stands before keeps its place as blanks.
        let blanks = text[..*value].chars().flat_map(|c| match c {
            '\n' => vec!['\n'],
            c => vec![' '; c.len_utf8()],
        });
        let padded: String = blanks.chain(text[*value..end].chars()).collect();
        let document = Document::parse(file, &padded).map_err(|it| it.in_text(text))?;
        Ok((name.clone(), document))
    };
    starts.iter().zip(ends).map(parse).collect()
}

fn accounts(document: &Document, kind: Kind) -> Result<Accounts, Diagnostic> {
    let wrong = |node: &Node, message: String| {
        document.error(Code::IdsTable, node.span, message).with_help(SHAPE)
    };
    let root = document.root();
    let entries = root.entries().ok_or_else(|| {
        wrong(root, format!("`{}` must be a mapping, not {}", kind.key(), root.describe()))
    })?;
    let mut accounts = Accounts::new();
    for entry in entries {
        let shape = match kind {
            Kind::Users => "('uid', 'gid')",
            Kind::Groups => "('gid', '')",
        };
        let expected = || wrong(&entry.value, format!("`{}` must be {shape}", entry.key));
        let [id, group] = entry.value.items().ok_or_else(expected)? else { return Err(expected()) };
        let number = |node: &Node| match node.value() {
            Some(value) => value.to_string().parse::<u32>().ok(),
            None => None,
        };
        let group = match (kind, group.as_text()) {
            (Kind::Groups, _) => None,
            (Kind::Users, _) => Some(number(group).ok_or_else(expected)?),
        };
        let id = number(id).ok_or_else(expected)?;
        accounts.insert(entry.key.clone(), Numbers { id, group });
    }
    Ok(accounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read() {
        let text = "# site\nuids = {'root': ('0', '0'),\n 'redis': (127, '138')}\ngids = {'redis': ('138', '')}\n";
        let table = Table::parse("D.tables", text).unwrap();
        assert_eq!(table.users["redis"], Numbers { id: 127, group: Some(138) });
        assert_eq!(table.groups["redis"], Numbers { id: 138, group: None });
    }

    #[test]
    fn a_wrong_table_is_refused_at_its_place() {
        for (text, line, message) in [
            ("uids = {}\n", 1, "the table has no `gids = {…}`"),
            ("uids = {\n'a': ('1',)}\ngids = {}\n", 2, "`a` must be ('uid', 'gid')"),
            ("uids = {}\ngids = {\n\n'b': ('x', '')}\n", 4, "`b` must be ('gid', '')"),
            ("uids = []\ngids = {}\n", 1, "`uids` must be a mapping, not a list"),
            ("import os\n", 1, "an ids table holds `uids = {…}` and `gids = {…}` only"),
        ] {
            let error = Table::parse("x.tables", text).unwrap_err();
            assert_eq!((error.line, error.message.as_str()), (line, message), "{text}");
        }
        let text = "uids = {}\nimport os\n";
        let error = Table::parse("x.tables", text).unwrap_err();
        assert_eq!((error.line, &text[error.span.start..error.span.end]), (2, "import os"));
    }

    #[test]
    fn account_files_merge_unless_they_disagree() {
        let mut known = Accounts::new();
        merge(Kind::Users, "root:x:0:0:root:/root:/bin/bash\n+::::::\n", &mut known).unwrap();
        merge(Kind::Users, "root:x:0:0::/:/bin/sh\n", &mut known).unwrap();
        let conflict = merge(Kind::Users, "\nroot:x:7:0::/:/bin/sh\n", &mut known).unwrap_err();
        assert!(matches!(conflict, IdsError::Conflict { ref found, .. } if found == "7:0"));
        let line = merge(Kind::Groups, "root:x:0:\nadm\n", &mut Accounts::new()).unwrap_err();
        assert!(matches!(line, IdsError::Line { line: 2, .. }), "{line}");
    }
}
