//! What the admin adds: files of the installed system, and commands and scripts.

use std::collections::{BTreeMap, BTreeSet};

use super::{PlanError, Planner, Problem, step, system};
use crate::configure::template::{self, TemplateError};
use crate::configure::{Moment, Run};
use crate::plan::{Action, Command, File, Role, Step};

/// The admin's files.
pub(super) fn files(planner: &Planner<'_>) -> Result<Vec<File>, PlanError> {
    let mut files: Vec<File> = Vec::new();
    for (position, text) in planner.configure.machine.files.iter().enumerate() {
        let at = format!("files[{position}]");
        let path_at = format!("{at}.path");
        let mode_at = format!("{at}.mode");
        let path = planner.line(&planner.scope, &path_at, &text.path)?;
        if !system::is_file_path(&path) {
            return Err(planner.error(&path_at, Problem::FilePath { path }));
        }
        if files.iter().any(|file| file.path == path) {
            return Err(planner.error(&path_at, Problem::FileTwice { path }));
        }
        let mode = planner.line(&planner.scope, &mode_at, &text.mode)?;
        let Some(mode) = parse_mode(&mode) else {
            return Err(planner.error(&mode_at, Problem::FileMode { text: mode }));
        };
        let content = planner.text(&format!("{at}.content"), &text.content)?;
        files.push(File { path, content, mode, uid: text.uid, gid: text.gid });
    }
    Ok(files)
}

/// Three or four octal digits.
fn parse_mode(text: &str) -> Option<u32> {
    let octal = (3..=4).contains(&text.len()) && text.chars().all(|c| c.is_digit(8));
    octal.then(|| u32::from_str_radix(text, 8).ok()).flatten()
}

/// A file of the admin takes the place of a generated one with the same path.
pub(super) fn replace_or_add(files: &mut Vec<File>, admins: Vec<File>) {
    for file in admins {
        match files.iter_mut().find(|generated| generated.path == file.path) {
            Some(generated) => *generated = file,
            None => files.push(file),
        }
    }
}

/// The steps of the admin at this moment, in the order of the file.
pub(super) fn runs(
    planner: &Planner<'_>,
    moment: Moment,
    role: &Role,
) -> Result<Vec<Step>, PlanError> {
    let mut names = BTreeSet::new();
    let mut steps = Vec::new();
    for (position, run) in planner.configure.machine.run.iter().enumerate() {
        let at = format!("run[{position}]");
        let name = planner.line(&planner.scope, &format!("{at}.name"), &run.name)?;
        if name.trim().is_empty() || !names.insert(name.clone()) {
            return Err(planner.error(&format!("{at}.name"), Problem::RunName { name }));
        }
        if run.at != moment {
            continue;
        }
        if run.chroot && run.at != Moment::AfterTree {
            return Err(planner.error(&format!("{at}.chroot"), Problem::RunTooEarly { name }));
        }
        let action = Action::Run {
            command: command(planner, &at, &name, run)?,
            chroot: run.chroot,
            environment: environment(planner, &at, role)?,
        };
        steps.push(step(format!("run {name}"), run.deadline_seconds.max(1), action));
    }
    Ok(steps)
}

fn command(planner: &Planner<'_>, at: &str, name: &str, run: &Run) -> Result<Command, PlanError> {
    match (&run.command, &run.script) {
        (Some(arguments), None) if !arguments.is_empty() => {
            let argument = |(position, text): (usize, &String)| {
                planner.text(&format!("{at}.command[{position}]"), text)
            };
            let arguments = arguments.iter().enumerate().map(argument).collect::<Result<_, _>>()?;
            Ok(Command::Arguments(arguments))
        }
        (None, Some(script)) => match planner.inputs.scripts.get(script) {
            Some(content) if content.starts_with("#!") => {
                Ok(Command::Script { name: script.clone(), content: content.clone() })
            }
            _ => {
                let problem = Problem::Script { script: script.clone() };
                Err(planner.error(&format!("{at}.script"), problem))
            }
        },
        _ => Err(planner.error(at, Problem::RunWhat { name: name.to_owned() })),
    }
}

/// `EDEPLOY_<variable>` for every variable, and what the machine will be.
fn environment(
    planner: &Planner<'_>,
    at: &str,
    role: &Role,
) -> Result<BTreeMap<String, String>, PlanError> {
    let mut environment = BTreeMap::from([
        ("EDEPLOY_PROFILE".to_owned(), planner.inputs.profile.to_string()),
        ("EDEPLOY_ROLE".to_owned(), role.name.to_string()),
        ("EDEPLOY_VERSION".to_owned(), role.version.to_string()),
    ]);
    for (name, value) in planner.inputs.variables {
        let value = value.as_text();
        if value.contains('\0') {
            let error = TemplateError::Control { name: name.clone(), value };
            return Err(planner.error(at, error.into()));
        }
        environment.insert(format!("EDEPLOY_{}", template::identifier(name)), value);
    }
    Ok(environment)
}
