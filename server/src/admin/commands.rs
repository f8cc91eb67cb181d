//! The operators' commands: each finds its machine and carries out one transition of
//! `specs::fleet` through the same store that uploads use.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use specs::check::{Files, Report};
use specs::diagnostic::Diagnostic;
use specs::facts::Facts;
use specs::fleet::{Answer, File, Refused, World};
use specs::machine::{Record, Seconds};
use specs::plan::Plan;
use specs::units::Name;
use specs::value::{Value, Variables};

use crate::settings::{DEFAULT_SECTION, Section, Settings};
use crate::store::{self, Store};

/// What an operator does to a machine.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Take back what it holds.
    Release,
    /// Install it once more.
    Reinstall,
    /// Give back and forget.
    Forget,
    /// The next machine that resembles it is it.
    Rebind,
    /// This profile, with these values, at its next upload.
    Assign(Name, Variables),
}

/// Seconds since 1970.
pub fn now() -> Seconds {
    store::now()
}

/// The one machine that `text` names.
pub fn find(store: &Store, text: &str) -> anyhow::Result<Record> {
    let found = store.look(|world| world.census.find(text))?;
    match &found[..] {
        [record] => Ok(record.clone()),
        [] => bail!("no machine is known as `{text}`; `edeploy-server machines` lists them"),
        several => {
            let names: Vec<&str> = several.iter().map(|record| record.id.as_str()).collect();
            bail!("`{text}` names {} machines: {}", several.len(), names.join(", "))
        }
    }
}

/// The assignment that `PROFILE KEY=VALUE…` means.
pub fn assignment(profile: &str, values: &[String]) -> anyhow::Result<Change> {
    let mut variables = Variables::new();
    for value in values {
        let Some((key, value)) = value.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            bail!("`{value}` is not KEY=VALUE");
        };
        variables.insert(key.to_owned(), Value::from(value));
    }
    Ok(Change::Assign(profile.parse()?, variables))
}

/// Carries a change out; the sentence that says what became of what, or why it was refused.
pub fn carry_out(
    store: &Store,
    machine: &Name,
    change: Change,
) -> anyhow::Result<Result<String, Refused>> {
    let machine = machine.clone();
    let decided = store.transact(move |world, now, _| match change {
        Change::Release => world.release(&machine, now),
        Change::Reinstall => world.reinstall(&machine, now),
        Change::Forget => world.forget(&machine, now),
        Change::Rebind => world.rebind(&machine, now),
        Change::Assign(profile, variables) => world.assign(&machine, &profile, variables, now),
    });
    let decision =
        decided.map_err(|error| anyhow::anyhow!(crate::handle::chain(error.as_ref())))?;
    match decision.answer {
        Answer::Done(sentence) => Ok(Ok(sentence)),
        Answer::Refused(refused) => Ok(Err(refused)),
        Answer::Plan { .. } | Answer::Installed { .. } | Answer::Recorded { .. } => {
            bail!("the command was answered as if a machine had asked")
        }
    }
}

/// A refusal for a terminal: the sentence, then a line for each profile.
pub fn refusal_text(refused: &Refused) -> String {
    let mut lines = vec![refused.reason.clone()];
    for profile in &refused.profiles {
        lines.push(format!("  {}: {}", profile.profile, profile.reason));
    }
    lines.join("\n")
}

/// The plan that an upload of these facts would be answered with: by the deployment that
/// edeploy.conf describes, machines it knows included, or by the files of `folder` alone.
pub fn plan(
    config: &Path,
    folder: Option<&Path>,
    facts: &Path,
) -> anyhow::Result<Result<Plan, Refused>> {
    let facts = read_facts(facts)?;
    let fresh = store::fresh()?;
    let decide = |world: &World| world.upload(&facts, now(), &fresh);
    let decision = match folder {
        Some(folder) => decide(&store::read_folder(folder)?),
        None => Arc::new(Store::new(default_section(config)?)).look(decide)?,
    };
    match decision.answer {
        Answer::Plan { plan, .. } => Ok(Ok(*plan)),
        Answer::Refused(refused) => Ok(Err(refused)),
        Answer::Installed { hostname, .. } => Ok(Err(Refused {
            status: 200,
            reason: format!(
                "{hostname} is installed: it boots its disk (to install again: \
                 edeploy-server reinstall {hostname})"
            ),
            profiles: Vec::new(),
        })),
        Answer::Recorded { .. } | Answer::Done(_) => bail!("an upload was answered as a report"),
    }
}

/// Everything that is wrong with the files of a CONFIGDIR: of `folder` alone, or of the deployment
/// that edeploy.conf describes, the marks `used` held against its machines.
pub fn check(config: &Path, folder: Option<&Path>) -> anyhow::Result<Report> {
    if let Some(folder) = folder {
        return Ok(specs::check::check(&files_of(folder)?));
    }
    check_store(&Store::new(default_section(config)?), None)
}

/// Everything that is wrong with the files of a deployment; with an edited version of one, what
/// would be.
pub(super) fn check_store(store: &Store, edited: Option<(&File, &[u8])>) -> anyhow::Result<Report> {
    let mut files = files_of(&store.section().config_dir)?;
    let mut marks = store.look_unsettled(|world| {
        // Of `state` and CMDBs the copy in STATEDIR counts, if there is one.
        for file in world.files() {
            if let Some(text) = world.text(&file) {
                files.insert(file.to_string(), text.into_bytes());
            }
        }
        let marks = |world: &World| -> Vec<Diagnostic> {
            world.cmdbs.keys().flat_map(|profile| world.check_marks(profile)).collect()
        };
        let Some((file, bytes)) = edited else { return marks(world) };
        files.insert(file.to_string(), bytes.to_owned());
        let mut world = world.clone();
        // What cannot be read is told with its place below.
        let _ = world.read(file, Some(bytes));
        marks(&world)
    })?;
    let mut report = specs::check::check(&files);
    report.findings.append(&mut marks);
    Ok(report)
}

/// The files of a folder. The server's own folder and editors' leftovers are hidden or no files.
fn files_of(folder: &Path) -> anyhow::Result<Files> {
    let failed = || format!("cannot read {}", folder.display());
    let mut files = Files::new();
    for entry in std::fs::read_dir(folder).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() && !name.starts_with('.') {
            let bytes =
                std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            files.insert(name, bytes);
        }
    }
    Ok(files)
}

/// The CONFIGDIR that edeploy.conf names.
pub fn config_dir(config: &Path) -> anyhow::Result<PathBuf> {
    Ok(default_section(config)?.config_dir)
}

fn default_section(config: &Path) -> anyhow::Result<Section> {
    let settings = Settings::read(config)?;
    let section = settings.section(DEFAULT_SECTION);
    section
        .cloned()
        .with_context(|| format!("{} has no section {DEFAULT_SECTION}", config.display()))
}

/// Facts from a file, or from standard input for `-`.
pub fn read_facts(path: &Path) -> anyhow::Result<Facts> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    if name == "-" {
        std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read standard input")?;
    } else {
        bytes = std::fs::read(path).with_context(|| format!("cannot read {name}"))?;
    }
    Ok(Facts::parse(&name, &bytes)?)
}
