//! Commands that make accounts, with the numbers of the table in them.
//!
//! `useradd`, `adduser`, `groupadd` and `addgroup` in the forms that maintainers and recipes use:
//! a number that is already on the command line is replaced by the table's, a missing one is
//! added, and everything else is left as it is.

use super::renumber::propose;
use super::{IdsError, Kind, Table, line};

/// A command line with stable numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountCommand {
    /// The program, as it was called, and its arguments.
    pub arguments: Vec<String>,
    /// Of a new user: its primary group by number, which must be there before the user is made:
    /// that of the group which the command names, else the one of the table.
    pub primary_group: Option<u32>,
}

/// What an option of such a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The account's own number.
    Id,
    /// The primary group of a user.
    Group,
    /// Something else that takes a value.
    Value,
    /// Makes a group of the user's name, which the table decides instead.
    OwnGroup,
    /// Anything without a value.
    Flag,
}

/// Puts the table's numbers into a command that makes an account. `Ok(None)`: the command makes
/// none (`adduser alice audio` adds a member), and is to be run as it is.
pub fn account_command(
    command: &[String],
    table: &Table,
) -> Result<Option<AccountCommand>, IdsError> {
    let (program, rest) = command.split_first().map_or(("", &[][..]), |(p, r)| (p.as_str(), r));
    let kind = match program.rsplit('/').next() {
        Some("useradd" | "adduser") => Kind::Users,
        Some("groupadd" | "addgroup") => Kind::Groups,
        _ => return Err(IdsError::NotAnAccountCommand(program.to_owned())),
    };
    let words = words(program, kind, rest)?;
    let names: Vec<&str> = words.iter().filter_map(Word::name).collect();
    let [name] = names[..] else { return Ok(None) };
    let Some(numbers) = table.accounts(kind).get(name) else {
        return Err(IdsError::Unknown {
            names: vec![format!("{} `{name}`", kind.noun())],
            lines: format!("{}: {}", kind.key(), line(name, propose(table, kind, name, None))),
        });
    };

    let (mut arguments, mut primary) = (Vec::new(), numbers.group);
    let mut missing = vec![(Meaning::Id, Some(numbers.id)), (Meaning::Group, numbers.group)];
    for word in &words {
        match word {
            Word::Option { meaning: Meaning::OwnGroup, .. } => {}
            Word::Option { spelling, meaning, value: Some(value), joined } => {
                missing.retain(|(wanted, _)| wanted != meaning);
                let value = match (meaning, kind) {
                    (Meaning::Id, _) => numbers.id.to_string(),
                    (Meaning::Group, Kind::Users) => {
                        primary = table.groups.get(*value).map(|group| group.id).or(primary);
                        primary.map_or_else(|| (*value).to_owned(), |group| group.to_string())
                    }
                    _ => (*value).to_owned(),
                };
                match joined {
                    true => arguments.push(format!("{spelling}={value}")),
                    false => arguments.extend([(*spelling).to_owned(), value]),
                }
            }
            Word::Option { spelling, .. } | Word::Name(spelling) => {
                arguments.push((*spelling).to_owned());
            }
        }
    }
    let added = missing.into_iter().filter_map(|(meaning, number)| {
        let option = match (kind, meaning) {
            (Kind::Users, Meaning::Id) => "--uid",
            _ => "--gid",
        };
        number.map(|number| [option.to_owned(), number.to_string()])
    });
    let arguments = [program.to_owned()].into_iter().chain(added.flatten()).chain(arguments);
    Ok(Some(AccountCommand { arguments: arguments.collect(), primary_group: primary }))
}

/// A part of a command line.
#[derive(Debug)]
enum Word<'a> {
    Option { spelling: &'a str, meaning: Meaning, value: Option<&'a str>, joined: bool },
    Name(&'a str),
}

impl<'a> Word<'a> {
    fn name(&self) -> Option<&'a str> {
        match self {
            Word::Name(name) => Some(name),
            Word::Option { .. } => None,
        }
    }
}

fn words<'a>(program: &str, kind: Kind, rest: &'a [String]) -> Result<Vec<Word<'a>>, IdsError> {
    let mut words = Vec::new();
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        if !word.starts_with('-') || word == "-" {
            words.push(Word::Name(word));
            continue;
        }
        let (spelling, joined) = match word.split_once('=') {
            Some((option, value)) if word.starts_with("--") => (option, Some(value)),
            _ => (word.as_str(), None),
        };
        let meaning = meaning(kind, spelling);
        let takes_value = !matches!(meaning, Meaning::Flag | Meaning::OwnGroup);
        let value = match joined {
            None if takes_value => {
                let missing = || IdsError::MissingValue {
                    program: program.to_owned(),
                    option: spelling.to_owned(),
                };
                Some(rest.next().ok_or_else(missing)?.as_str())
            }
            joined => joined,
        };
        words.push(Word::Option { spelling, meaning, value, joined: joined.is_some() });
    }
    Ok(words)
}

/// What an option means; one that is not known here takes no value.
fn meaning(kind: Kind, option: &str) -> Meaning {
    match (kind, option) {
        (Kind::Users, "-u" | "--uid") | (Kind::Groups, "-g" | "--gid") => Meaning::Id,
        (Kind::Users, "-g" | "--gid" | "--ingroup") => Meaning::Group,
        (Kind::Users, "-U" | "--user-group" | "--group") => Meaning::OwnGroup,
        (_, "-K" | "--key" | "-p" | "--password" | "-R" | "--root" | "-P" | "--prefix") => {
            Meaning::Value
        }
        (_, "--firstuid" | "--lastuid" | "--firstgid" | "--lastgid" | "--conf") => Meaning::Value,
        (
            Kind::Users,
            "-b" | "--base-dir" | "-c" | "--comment" | "-d" | "--home" | "--home-dir" | "-e"
            | "--expiredate" | "-f" | "--inactive" | "-G" | "--groups" | "-k" | "--skel" | "-s"
            | "--shell" | "-Z" | "--selinux-user" | "--gecos",
        ) => Meaning::Value,
        _ => Meaning::Flag,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command: &str, expected: &str) {
        let text = "uids = {'redis': (127, 138)}\ngids = {'redis': (138, ''), 'ssl': (119, '')}\n";
        let table = Table::parse("t", text).unwrap();
        let command: Vec<String> = command.split(' ').map(str::to_owned).collect();
        let answer = match account_command(&command, &table) {
            Ok(Some(command)) => command.arguments.join(" "),
            Ok(None) => "as it is".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(answer, expected, "{command:?}");
    }

    #[test]
    fn numbers_are_put_in_and_all_else_is_kept() {
        for (command, expected) in [
            ("useradd -U -r redis", "useradd --uid 127 --gid 138 -r redis"),
            ("/usr/sbin/useradd --uid=5 redis", "/usr/sbin/useradd --gid 138 --uid=127 redis"),
            ("adduser --system --group redis", "adduser --uid 127 --gid 138 --system redis"),
            ("useradd -g 77 redis", "useradd --uid 127 -g 138 redis"),
            ("useradd -g ssl redis", "useradd --uid 127 -g 119 redis"),
            // Only long options have their value behind `=`.
            ("useradd -K UID_MIN=5 redis", "useradd --uid 127 --gid 138 -K UID_MIN=5 redis"),
            ("useradd -u=5 redis", "useradd --uid 127 --gid 138 -u=5 redis"),
            ("groupadd -r -f ssl", "groupadd --gid 119 -r -f ssl"),
            ("adduser --firstuid 500 redis", "adduser --uid 127 --gid 138 --firstuid 500 redis"),
            ("adduser redis ssl", "as it is"),
            ("useradd redis -u", "`-u` of `useradd` has no value"),
            (
                "usermod redis",
                "`usermod` is not a command that makes accounts: useradd, adduser, groupadd, addgroup",
            ),
        ] {
            check(command, expected);
        }
    }

    #[test]
    fn the_group_that_must_be_there_first_is_the_one_that_the_command_gets() {
        let text = "uids = {'redis': (127, 138)}\ngids = {'ssl': (119, '')}\n";
        let table = Table::parse("t", text).unwrap();
        for (command, group) in [("useradd redis", 138), ("useradd -g ssl redis", 119)] {
            let command: Vec<String> = command.split(' ').map(str::to_owned).collect();
            let numbered = account_command(&command, &table).unwrap().unwrap();
            assert_eq!(numbered.primary_group, Some(group), "{command:?}");
        }
    }

    #[test]
    fn an_unknown_account_is_refused_with_a_free_number() {
        check(
            "useradd jenkins",
            "the table of numbers does not know user `jenkins`; add these lines to it, or other \
             free numbers:\nuids: 'jenkins': ('100', '100'),",
        );
    }
}
