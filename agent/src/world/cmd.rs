//! A command as a value, and the line that a person can paste into a shell to run the same.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::Tool;

/// What is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A tool of the initrd.
    Tool(Tool),
    /// A program of the tree in [`Cmd::chroot`], or one that an admin named in a `run` step.
    Named(String),
}

impl Program {
    /// The name or path that is looked up.
    pub fn name(&self) -> &str {
        match self {
            Program::Tool(tool) => tool.program(),
            Program::Named(name) => name,
        }
    }
}

impl From<Tool> for Program {
    fn from(tool: Tool) -> Program {
        Program::Tool(tool)
    }
}

/// A command: everything that decides what it does. Its `Display` is the line to paste.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cmd {
    /// What is started.
    pub program: Program,
    /// Its arguments. Everything this project passes to programs is text.
    pub args: Vec<String>,
    /// What it reads; nothing at all when `None`.
    pub stdin: Option<String>,
    /// Its environment, beside `PATH` and `LC_ALL=C`. Nothing is inherited.
    pub environment: BTreeMap<String, String>,
    /// The folder that is `/` for it.
    pub chroot: Option<PathBuf>,
    /// It is killed, with everything it started, when it takes longer.
    pub deadline: Duration,
    /// What it is good for, for the person who reads the list of commands.
    pub why: String,
}

impl Cmd {
    /// How long a command may take when nobody said otherwise.
    pub const DEADLINE: Duration = Duration::from_secs(60);

    /// A command of a tool. The rest is set with the methods below.
    pub fn new(tool: Tool, args: &[&str]) -> Cmd {
        Cmd::of(tool.into(), args)
    }

    /// As [`Cmd::new`], for any program.
    pub fn of(program: Program, args: &[&str]) -> Cmd {
        Cmd {
            program,
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            stdin: None,
            environment: BTreeMap::new(),
            chroot: None,
            deadline: Cmd::DEADLINE,
            why: String::new(),
        }
    }

    /// A program of the tree at `chroot`, started inside it.
    pub fn inside(chroot: impl Into<PathBuf>, program: &str, args: &[&str]) -> Cmd {
        Cmd { chroot: Some(chroot.into()), ..Cmd::of(Program::Named(program.to_owned()), args) }
    }

    /// Says what it is good for.
    pub fn why(mut self, why: impl Into<String>) -> Cmd {
        self.why = why.into();
        self
    }

    /// Gives it something to read.
    pub fn stdin(mut self, text: impl Into<String>) -> Cmd {
        self.stdin = Some(text.into());
        self
    }

    /// Sets its deadline.
    pub fn deadline(mut self, deadline: Duration) -> Cmd {
        self.deadline = deadline;
        self
    }

    /// Adds one variable to its environment.
    pub fn variable(mut self, name: &str, value: &str) -> Cmd {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Program and arguments as they are started, `chroot` included.
    pub fn argument_vector(&self) -> Vec<String> {
        let mut vector = Vec::with_capacity(self.args.len() + 3);
        if let Some(root) = &self.chroot {
            vector.push(Tool::Chroot.program().to_owned());
            vector.push(root.display().to_string());
        }
        vector.push(self.program.name().to_owned());
        vector.extend(self.args.iter().cloned());
        vector
    }
}

impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.environment {
            write!(f, "{name}={} ", quote(value))?;
        }
        let words: Vec<String> = self.argument_vector().iter().map(|word| quote(word)).collect();
        f.write_str(&words.join(" "))?;
        if let Some(text) = &self.stdin {
            write!(f, " <<'END'\n{text}")?;
            f.write_str(if text.ends_with('\n') { "END" } else { "\nEND" })?;
        }
        Ok(())
    }
}

/// The text as one word of a POSIX shell.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-+=./:,@%^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cmd: &Cmd, line: &str) {
        assert_eq!(cmd.to_string(), line);
    }

    #[test]
    fn the_line_can_be_pasted() {
        check(&Cmd::new(Tool::Wipefs, &["--all", "/dev/vda"]), "wipefs --all /dev/vda");
        check(&Cmd::new(Tool::Rsync, &["", "it's", "$HOME"]), r"rsync '' 'it'\''s' '$HOME'");
        check(
            &Cmd::inside("/mnt/target", "grub-install", &["/dev/vda"]).variable("A", "b c"),
            "A='b c' chroot /mnt/target grub-install /dev/vda",
        );
        check(
            &Cmd::new(Tool::Sfdisk, &["/dev/vda"]).stdin("label: gpt\n"),
            "sfdisk /dev/vda <<'END'\nlabel: gpt\nEND",
        );
    }
}
