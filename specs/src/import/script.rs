//! The statements of a configure script of the original, each with what it does and where that
//! goes in a configure file.
//!
//! The reader knows as much Python as it takes to tell statements apart (texts, brackets,
//! continued lines, comments) and the functions that scripts were given; it evaluates nothing.

use serde::Serialize;

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Statement {
    /// The line it begins on, from 1.
    pub line: usize,
    /// Its text, without the blanks before it and the comments in it.
    pub text: String,
    /// What it does, in a few words.
    pub does: String,
    /// Where that goes in a configure file; `None` when nothing there corresponds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configure: Option<&'static str>,
}

/// All statements, in order.
pub fn statements(text: &str) -> Vec<Statement> {
    logical_lines(text)
        .into_iter()
        .map(|(line, text)| {
            let (does, configure) = explain(&text);
            Statement { line, text, does, configure }
        })
        .collect()
}

/// Splits at the line ends and semicolons that are in no text and no bracket.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut current = String::new();
    let (mut line, mut start, mut depth) = (1, 1, 0_usize);
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let mut length = character.len_utf8();
        match character {
            '\'' | '"' => {
                length = text_length(rest);
                current.push_str(&rest[..length]);
            }
            '#' => length = rest.find('\n').unwrap_or(rest.len()),
            '\\' if rest[1..].starts_with('\n') => length = 2,
            '\n' | ';' if depth == 0 => {
                finish(&mut current, start, &mut lines);
            }
            '\n' => current.push(' '),
            _ => {
                match character {
                    '(' | '[' | '{' => depth += 1,
                    ')' | ']' | '}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                current.push(character);
            }
        }
        line += rest[..length].matches('\n').count();
        if current.trim().is_empty() {
            start = line;
        }
        rest = &rest[length..];
    }
    finish(&mut current, start, &mut lines);
    lines
}

fn finish(current: &mut String, start: usize, lines: &mut Vec<(usize, String)>) {
    let statement = std::mem::take(current);
    if !statement.trim().is_empty() {
        lines.push((start, statement.trim().to_owned()));
    }
}

/// How long the quoted text at the start of `rest` is; to its end when it is not closed.
fn text_length(rest: &str) -> usize {
    let quote = &rest[..1];
    let triple = quote.repeat(3);
    let end = if rest.starts_with(&triple) { triple.as_str() } else { quote };
    let mut at = end.len();
    while at < rest.len() {
        let here = &rest[at..];
        if here.starts_with(end) {
            return at + end.len();
        }
        let mut characters = here.chars();
        let escaped = characters.next() == Some('\\');
        at += here.chars().take(if escaped { 2 } else { 1 }).map(char::len_utf8).sum::<usize>();
    }
    rest.len()
}

/// The functions a script was given, with where their work goes now.
const FUNCTIONS: &[(&str, &str, Option<&str>)] = &[
    ("config", "writes a file", Some("files: or network:")),
    ("set_role", "names the role", Some("role:")),
    ("grub_options", "adds boot arguments", Some("kernel_args:")),
    ("inject_facts", "writes the variables as facter facts", Some("files:")),
    ("hpacucli.Cli", "speaks to an HP RAID controller", None),
    ("ipmi.setup_user", "sets the BMC's user", Some("run:")),
    ("ipmi.setup_network", "sets the BMC's address", Some("run:")),
    ("ipmi.restart_bmc", "restarts the BMC", Some("run:")),
];

/// What the programs that scripts run are for.
const PROGRAMS: &[(&[&str], &str, Option<&str>)] = &[
    (
        &["parted", "sgdisk", "sfdisk", "fdisk", "dd", "dmsetup", "blockdev", "hdparm", "wipefs"],
        "prepares a disk",
        Some("disks:"),
    ),
    (&["pvcreate", "vgcreate", "lvcreate", "pvremove", "vgchange"], "makes LVM volumes", None),
    (&["mdadm"], "makes a software RAID", None),
    (&["megacli", "hpacucli", "ssacli", "cli64"], "sets up a RAID controller", None),
    (&["mkfs", "mkswap", "tune2fs", "e2label"], "makes a file system", Some("disks: … use:")),
    (&["mount", "mkdir", "umount", "swapon"], "mounts a file system", Some("disks: … mount:")),
    (&["ipmitool"], "sets up the BMC", Some("run:")),
    (&["modprobe", "sleep", "sync"], "waits for the kernel", None),
];

fn explain(statement: &str) -> (String, Option<&'static str>) {
    let word: String =
        statement.chars().take_while(|&c| c.is_alphanumeric() || c == '_' || c == '.').collect();
    let rest = statement[word.len()..].trim_start();
    let argument = first_text(rest);
    if word == "run" && rest.starts_with('(') {
        return explain_run(argument.as_deref().unwrap_or(""));
    }
    for (function, does, configure) in FUNCTIONS {
        if word == *function && rest.starts_with('(') {
            let what = argument.map_or(String::new(), |text| format!(": {text}"));
            return (format!("{does}{what}"), *configure);
        }
    }
    match word.as_str() {
        "for" | "while" => ("repeats what follows".to_owned(), Some("each:")),
        "if" | "elif" | "else" => {
            ("decides; write a profile for each case".to_owned(), Some("another profile"))
        }
        "import" | "from" | "def" | "class" | "try" | "except" | "raise" | "return" | "print" => {
            (format!("`{word}`, a part of the program"), None)
        }
        _ if rest.starts_with('=') && !rest.starts_with("==") => {
            (format!("computes `{word}`"), Some("a template `{{ … }}`"))
        }
        _ => ("something only Python knows".to_owned(), None),
    }
}

fn explain_run(command: &str) -> (String, Option<&'static str>) {
    let program = command.split_whitespace().next().unwrap_or("");
    let name = program.rsplit('/').next().unwrap_or(program);
    for (programs, does, configure) in PROGRAMS {
        if programs.iter().any(|known| name == *known || name.starts_with(&format!("{known}."))) {
            return (format!("{does} with `{name}`"), *configure);
        }
    }
    match name {
        "" => ("runs a command that it computes".to_owned(), Some("run:")),
        _ => (format!("runs `{name}`"), Some("run:")),
    }
}

/// The text that the arguments begin with, without its quotes.
fn first_text(arguments: &str) -> Option<String> {
    let text = arguments.strip_prefix('(')?.trim_start();
    if !text.starts_with(['\'', '"']) {
        return None;
    }
    let quoted = &text[..text_length(text)];
    Some(quoted.trim_matches(['\'', '"']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(script: &str, expected: &[(usize, &str, Option<&str>)]) {
        let found = statements(script);
        let found: Vec<_> = found.iter().map(|s| (s.line, s.does.as_str(), s.configure)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_script_of_the_readme() {
        let script = r#"disk1 = '/dev/' + var['disk']

for disk, path in ((disk1, '/chroot'), ):
    run('parted -s %s mklabel msdos' % disk)
    run('mkfs.ext4 %s1' % disk)
    run('mkdir -p %s; mount %s1 %s' % (path, disk, path))

config('/etc/network/interfaces').write('''
auto lo
# not a comment
''' % var)

set_role('mysql', 'D7-F.1.0.0', disk1)
"#;
        check(
            script,
            &[
                (1, "computes `disk1`", Some("a template `{{ … }}`")),
                (3, "repeats what follows", Some("each:")),
                (4, "prepares a disk with `parted`", Some("disks:")),
                (5, "makes a file system with `mkfs.ext4`", Some("disks: … use:")),
                (6, "mounts a file system with `mkdir`", Some("disks: … mount:")),
                (8, "writes a file: /etc/network/interfaces", Some("files: or network:")),
                (13, "names the role: mysql", Some("role:")),
            ],
        );
    }

    #[test]
    fn statements_end_where_python_ends_them() {
        check(
            "run('a; b',\n    'c')  # why\nrun('d'); x = \\\n  1\n",
            &[
                (1, "runs `a;`", Some("run:")),
                (3, "runs `d`", Some("run:")),
                (3, "computes `x`", Some("a template `{{ … }}`")),
            ],
        );
        check("'never closed\n", &[(1, "something only Python knows", None)]);
        // Brackets within brackets, quotes within quotes, three quotes, comments with both.
        check(
            "run((1, (2,\n 3)),\n 4)\nx = 'it\\'s; ' # )'\ny = \"\"\"a\"\";\n\\\"\"\"\"\nz = 1)\nw = 1\n",
            &[
                (1, "runs a command that it computes", Some("run:")),
                (4, "computes `x`", Some("a template `{{ … }}`")),
                (5, "computes `y`", Some("a template `{{ … }}`")),
                (7, "computes `z`", Some("a template `{{ … }}`")),
                (8, "computes `w`", Some("a template `{{ … }}`")),
            ],
        );
    }

    #[test]
    fn statements_are_shown_on_one_line() {
        for (script, expected) in [
            ("run('a',\n    'b') # c\n", "run('a',     'b')"),
            ("x = 1 + \\\n 2\n", "x = 1 +  2"),
            ("x = a \\ b", "x = a \\ b"),
        ] {
            let found: Vec<String> = statements(script).into_iter().map(|it| it.text).collect();
            assert_eq!(found, [expected]);
        }
    }

    #[test]
    fn each_statement_is_told_by_what_it_begins_with() {
        for (statement, does) in [
            ("if x:", "decides; write a profile for each case"),
            ("else:", "decides; write a profile for each case"),
            ("while True:", "repeats what follows"),
            ("import os", "`import`, a part of the program"),
            ("return", "`return`, a part of the program"),
            ("x=1", "computes `x`"),
            ("x == 1", "something only Python knows"),
            ("foo(1)", "something only Python knows"),
            ("run", "something only Python knows"),
            ("config", "something only Python knows"),
            ("config(path)", "writes a file"),
            ("config ( \"/etc/x\" )", "writes a file: /etc/x"),
            ("ipmi.restart_bmc()", "restarts the BMC"),
            ("run(command)", "runs a command that it computes"),
            ("run('')", "runs a command that it computes"),
            ("run('/sbin/mdadm -C')", "makes a software RAID with `mdadm`"),
            ("run('mkfs -t ext4')", "makes a file system with `mkfs`"),
            ("run('mkfsx')", "runs `mkfsx`"),
            ("run('it\\'s')", "runs `it\\'s`"),
        ] {
            let found: Vec<String> = statements(statement).into_iter().map(|it| it.does).collect();
            assert_eq!(found, [does], "{statement}");
        }
    }
}
