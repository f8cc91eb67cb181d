//! `edeploy-server edit FILE`: an admin edits a file of the configuration, as `visudo` does it.
//!
//! The editor works on a copy in a folder of the admin's own, without any lock: machines go on
//! being answered. What it leaves is checked as `check` would check it, then put in place by the
//! store, together with what the server wrote meanwhile. The copy goes only when it is in force, says
//! nothing new, or the admin says so; every other way out names where it is.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, bail};
use signal_hook::consts::{SIGINT, SIGQUIT};
use specs::check::Report;
use specs::diagnostic::{Diagnostic, Severity};
use specs::fleet::File;
use specs::units::Name;

use super::commands;
use crate::handle::Application;
use crate::store::Store;

/// Editors to try when neither VISUAL nor EDITOR names one.
const EDITORS: [&str; 4] = ["sensible-editor", "editor", "vi", "nano"];

/// What to do with an edited copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Again,
    Install,
    Keep,
    Discard,
}

/// A file of a deployment.
#[derive(Debug)]
pub struct Target {
    store: Arc<Store>,
    file: File,
}

impl Target {
    /// The file that `name` means: a name in the section's folders, or the path of a file in those
    /// of any section.
    pub fn find(application: &Application, section: &str, name: &str) -> anyhow::Result<Target> {
        let path = Path::new(name);
        let file_name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let file = file(file_name).with_context(|| {
            format!("{name} cannot be a file of the configuration: state, vm.specs, a script")
        })?;
        if file_name == name {
            let store = application.store(section);
            let store = store.with_context(|| format!("there is no section `{section}`"))?;
            return Ok(Target { store, file });
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        let folder = std::fs::canonicalize(folder)
            .with_context(|| format!("cannot find {}", folder.display()))?;
        let is_there = |store: &&Arc<Store>| {
            let section = store.section();
            let folders = [section.config_dir.as_path(), section.written_dir()];
            folders.iter().any(|it| std::fs::canonicalize(it).is_ok_and(|it| it == folder))
        };
        let Some(store) = application.stores().iter().find(is_there).cloned() else {
            bail!("{} is no CONFIGDIR or STATEDIR of edeploy.conf", folder.display())
        };
        Ok(Target { store, file })
    }
}

/// The file of this name.
fn file(name: &str) -> Option<File> {
    let profile = |suffix: &str| name.strip_suffix(suffix)?.parse::<Name>().ok();
    let by_suffix = profile(".specs").map(File::Specs);
    let by_suffix = by_suffix.or_else(|| profile(".cmdb").map(File::Cmdb));
    let by_suffix = by_suffix.or_else(|| profile(".configure").map(File::Configure));
    match name {
        "state" => Some(File::State),
        _ => by_suffix.or_else(|| Some(File::Script(name.parse::<Name>().ok()?.to_string()))),
    }
}

/// Edits a file. Whether the file is as the admin left it.
///
/// # Errors
///
/// There is no editor, or it failed, or the store did: the copy, if there is one, is named.
pub fn edit(target: &Target, is_terminal: bool) -> anyhow::Result<bool> {
    let Target { store, file } = target;
    let Some(_turn) = store.edit_turn(file)? else { bail!("somebody else is editing {file}") };
    let there = store.stored(file)?;
    if there.is_none() {
        say(&format!("{file} is a new file"))?;
    }
    let base = there.unwrap_or_default();
    let copy = Copy::of(file, &base)?;
    // Ctrl-C is the editor's, and must not end this program under it.
    for signal in [SIGINT, SIGQUIT] {
        signal_hook::flag::register(signal, Arc::default())?;
    }
    edit_copy(target, &base, &copy, is_terminal).or_else(|error| {
        if std::fs::read(&copy.0).is_ok_and(|left| left == base) {
            copy.remove()?;
            return Err(error);
        }
        Err(error.context(format!("the edited copy is {}", copy.0.display())))
    })
}

fn edit_copy(target: &Target, base: &[u8], copy: &Copy, terminal: bool) -> anyhow::Result<bool> {
    let Target { store, file } = target;
    let before = commands::check_store(store, None)?;
    loop {
        run_editor(&copy.0, terminal)?;
        let edited = std::fs::read(&copy.0).context("cannot read what the editor left")?;
        if edited == base {
            copy.remove()?;
            say(&format!("{file} is unchanged"))?;
            return Ok(true);
        }
        let after = commands::check_store(store, Some((file, &edited)))?;
        let findings = concerning(file, &before, &after);
        for finding in &findings {
            say(&format!("{finding}\n"))?;
        }
        let is_error = |it: &&&Diagnostic| it.severity == Severity::Error;
        let errors: Vec<&str> =
            findings.iter().filter(is_error).map(|it| it.file.as_str()).collect();
        let choice = match errors[..] {
            [] => Choice::Install,
            [..] if !terminal => Choice::Keep,
            [..] => {
                let is_readable = !errors.contains(&file.to_string().as_str());
                choose(is_readable, &mut io::stdin().lock(), &mut io::stderr())?
            }
        };
        match choice {
            Choice::Again => {}
            Choice::Install => return install(target, base, &edited, copy),
            Choice::Keep => return keep(file, copy),
            Choice::Discard => {
                copy.remove()?;
                say(&format!("{file} is unchanged"))?;
                return Ok(false);
            }
        }
    }
}

fn install(target: &Target, base: &[u8], edited: &[u8], copy: &Copy) -> anyhow::Result<bool> {
    let Target { store, file } = target;
    match store.install(file, base, edited)? {
        Ok(installed) => {
            copy.remove()?;
            say(&format!("{} is in force", installed.path.display()))?;
            for difference in &installed.differences {
                say(&format!("  {difference}"))?;
            }
            if installed.merged {
                say("what the server wrote meanwhile is in it as well")?;
            }
            Ok(true)
        }
        // The copy was made of what is no longer there: nobody can go on with it.
        Err(conflict) => {
            say(&format!("{conflict}; edit {file} again, from what it says now"))?;
            keep(file, copy)
        }
    }
}

fn keep(file: &File, copy: &Copy) -> anyhow::Result<bool> {
    say(&format!("{file} is unchanged, the edited copy is {}", copy.0.display()))?;
    Ok(false)
}

/// What speaks about this edit: everything in the file itself, and what it does to others. What was
/// wrong with others before is no reason not to mend this one.
fn concerning<'a>(file: &File, before: &Report, after: &'a Report) -> Vec<&'a Diagnostic> {
    let file = file.to_string();
    let same = |one: &Diagnostic, other: &Diagnostic| {
        (one.code, &one.file, &one.message) == (other.code, &other.file, &other.message)
    };
    let was_there = |finding: &&Diagnostic| before.findings.iter().any(|it| same(it, finding));
    after.findings.iter().filter(|it| it.file == file || !was_there(it)).collect()
}

/// Asks what to do, until the answer is one. No answer keeps the copy. A file that can be read may
/// be put in place although others do not go with it: theirs may be the next edit.
fn choose(
    is_readable: bool,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> io::Result<Choice> {
    let install = if is_readable { "[i]nstall it all the same, " } else { "" };
    loop {
        write!(output, "[e]dit again, {install}[k]eep the copy and stop, [d]iscard it? ")?;
        output.flush()?;
        let mut answer = String::new();
        if input.read_line(&mut answer)? == 0 {
            writeln!(output)?;
            return Ok(Choice::Keep);
        }
        match answer.trim() {
            "e" => return Ok(Choice::Again),
            "i" if is_readable => return Ok(Choice::Install),
            "k" => return Ok(Choice::Keep),
            "d" => return Ok(Choice::Discard),
            _ => {}
        }
    }
}

/// What the editor works on. It stays when it is dropped.
struct Copy(PathBuf);

impl Copy {
    /// A copy that nobody but the caller can read or replace: it may hold secrets, and the folder of
    /// the file belongs to the server's user, who must not choose what the admin writes to.
    fn of(file: &File, content: &[u8]) -> anyhow::Result<Copy> {
        let above = std::env::var_os("TMPDIR").map_or_else(|| "/var/tmp".into(), PathBuf::from);
        let folder = tempfile::Builder::new().prefix("edeploy-edit-").tempdir_in(&above);
        let folder =
            folder.with_context(|| format!("cannot make a folder in {}", above.display()))?.keep();
        let path = folder.join(file.to_string());
        std::fs::write(&path, content)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Copy(path))
    }

    /// Removes it, with whatever the editor put beside it.
    fn remove(&self) -> anyhow::Result<()> {
        let folder = self.0.parent().unwrap_or(&self.0);
        std::fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove the copy in {}", folder.display()))
    }
}

/// Runs the admin's editor on a file, until it ends well.
fn run_editor(path: &Path, is_terminal: bool) -> anyhow::Result<()> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let named = set("VISUAL").or_else(|| set("EDITOR"));
    if named.is_none() && !is_terminal {
        bail!("there is no terminal: name a program in EDITOR");
    }
    let editors = named.map_or_else(|| EDITORS.map(str::to_owned).to_vec(), |named| vec![named]);
    let status = editors.iter().find_map(|editor| {
        let mut words = editor.split_whitespace();
        #[expect(clippy::disallowed_methods, reason = "the admin's own editor, seen by the admin")]
        let status = Command::new(words.next()?).args(words).arg(path).status();
        let is_absent = matches!(&status, Err(error) if error.kind() == io::ErrorKind::NotFound);
        (!is_absent).then_some((editor, status))
    });
    let Some((editor, status)) = status else {
        bail!("there is no editor {}: name one in EDITOR", editors.join(", "))
    };
    let status = status.with_context(|| format!("cannot start the editor {editor}"))?;
    if !status.success() {
        bail!("the editor {editor} failed ({status})");
    }
    Ok(())
}

fn say(line: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_files_of_the_configuration() {
        for (name, expected) in [
            ("state", Some("State")),
            ("vm.specs", Some("Specs")),
            ("vm.cmdb", Some("Cmdb")),
            ("vm.configure", Some("Configure")),
            ("first-boot.sh", Some("Script")),
            ("", None),
            (".edeploy", None),
            ("two words", None),
        ] {
            let found = file(name).map(|file| format!("{file:?}"));
            let found = found.as_deref().map(|it| it.split('(').next().unwrap());
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn an_answer_is_asked_for_until_there_is_one() {
        for (readable, typed, expected, questions) in [
            (false, "e\n", Choice::Again, 1),
            (true, "what?\n\n k \n", Choice::Keep, 3),
            (true, "d\n", Choice::Discard, 1),
            (true, "i\n", Choice::Install, 1),
            (false, "i\n", Choice::Keep, 2),
        ] {
            let mut asked = Vec::new();
            let choice = choose(readable, &mut typed.as_bytes(), &mut asked);
            assert_eq!(choice.unwrap(), expected, "{typed:?}");
            let asked = String::from_utf8(asked).unwrap();
            assert_eq!(asked.matches("[k]eep").count(), questions, "{typed:?}");
        }
    }
}
