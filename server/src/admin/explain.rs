//! `edeploy-server explain`: what an upload would be answered, and why; for one machine, for every
//! machine whose facts are stored, and as the difference between two configurations.
//!
//! The first screen is a table with a line for each profile. What each line means in full (the
//! line of the specs, the facts that came nearest, the smallest change that would do) follows
//! below. Nothing is decided here: [`specs::fleet::Trial`] is.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};
use specs::facts::Facts;
use specs::fleet::{Answer, Given, Outcome, Trial, Tried, World};

use crate::request::shown;
use crate::settings::{DEFAULT_SECTION, Settings};
use crate::store::{self, Store};

use super::commands;

/// The widest line when nobody knows how wide the terminal is.
const WIDTH: u16 = 100;

/// Columns of the names in the table.
const NAME: usize = 30;

/// What an upload of these facts would be answered, and what each profile says: by the
/// deployment that edeploy.conf describes, machines it knows included, or by the files of
/// `folder` alone. `facts` is a file, `-`, or whatever names a machine whose facts are stored.
pub fn explain(config: &Path, folder: Option<&Path>, facts: &Path) -> anyhow::Result<Trial> {
    match folder {
        Some(folder) => {
            let world = store::read_folder(folder)?;
            try_out(&world, &facts_of(config, facts)?)
        }
        None => {
            let settings = Settings::read(config)?;
            let section = settings.section(DEFAULT_SECTION).with_context(|| {
                format!("{} has no section {DEFAULT_SECTION}", config.display())
            })?;
            let facts = facts_of(config, facts)?;
            Store::new(section.clone()).look(|world| try_out(world, &facts))?
        }
    }
}

fn try_out(world: &World, facts: &Facts) -> anyhow::Result<Trial> {
    Ok(world.try_out(facts, store::now(), &store::fresh()?))
}

/// Facts from a file or standard input, else those of a machine that is known.
fn facts_of(config: &Path, named: &Path) -> anyhow::Result<Facts> {
    if named == Path::new("-") || named.exists() {
        return commands::read_facts(named);
    }
    let name = named.display();
    let no_file = || format!("there is no file {name}, and {} cannot be asked", config.display());
    let settings = Settings::read(config).with_context(no_file)?;
    let section = settings.section(DEFAULT_SECTION).with_context(no_file)?;
    let direct = section.hw_dir.join(format!("{name}.hw"));
    if direct.exists() {
        return commands::read_facts(&direct);
    }
    let store = Store::new(section.clone());
    let record = commands::find(&store, &name.to_string())
        .with_context(|| format!("{name} is neither a file nor a machine"))?;
    let name = record.facts_names.last().unwrap_or(&record.id);
    commands::read_facts(&section.hw_dir.join(format!("{name}.hw")))
}

/// Whether the machine would be given something, or has it.
pub fn is_served(trial: &Trial) -> bool {
    matches!(trial.answer, Answer::Plan { .. } | Answer::Installed { .. })
}

/// One machine for people: the answer, a line for each profile, then each in full. `profile`
/// leaves the others out.
pub fn text(trial: &Trial, profile: Option<&str>, width: Option<u16>) -> String {
    let wanted: Vec<&Tried> = trial
        .profiles
        .iter()
        .filter(|tried| profile.is_none_or(|profile| tried.profile.as_str() == profile))
        .collect();
    let mut text = headline(trial);
    for warning in &trial.warnings {
        text.push_str(&format!("\nwarning: {}", one_line(warning)));
    }
    if wanted.is_empty() {
        return text;
    }
    text.push_str("\n\n");
    text.push_str(&table(&wanted, width.unwrap_or(WIDTH)));
    for tried in wanted.iter().filter(|tried| !tried.reason.is_empty()) {
        text.push_str(&format!("\n\n{} ({})", tried.profile, word(tried.outcome)));
        let entry = tried.entry.as_ref().map(|given| entry_in_full(tried, given));
        for part in [Some(&tried.reason), tried.advice.as_ref(), entry.as_ref()] {
            for line in part.into_iter().flat_map(|part| part.lines()) {
                text.push_str(&format!("\n  {}", shown(line, usize::MAX)));
            }
        }
    }
    text
}

fn headline(trial: &Trial) -> String {
    match &trial.answer {
        Answer::Plan { plan, .. } => format!("gets {} as {}", plan.profile, plan.hostname),
        Answer::Installed { profile, hostname, .. } => {
            format!("is installed: {profile} as {hostname}; it boots its disk")
        }
        Answer::Refused(refused) => {
            format!("gets nothing ({}): {}", refused.status, one_line(&refused.reason))
        }
        // An upload is never answered so.
        Answer::Recorded { .. } | Answer::Done(_) => "is recorded".to_owned(),
    }
}

fn table(wanted: &[&Tried], width: u16) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(["PROFILE", "COUNT", "ANSWER", "WHY"]);
    let names = wanted.iter().map(|tried| tried.profile.as_str().len().min(NAME)).max();
    // Two blanks around each cell, and the two columns in the middle.
    let before = names.unwrap_or(0).max("PROFILE".len()) + "COUNT".len() + WORD + 8;
    let room = usize::from(width).saturating_sub(before).max(20);
    for tried in wanted {
        table.add_row([
            shown(tried.profile.as_str(), NAME),
            shown(&tried.count.to_string(), "COUNT".len()),
            word(tried.outcome).to_owned(),
            cut(&in_short(tried), room),
        ]);
    }
    table.trim_fmt()
}

/// The longest of [`word`].
const WORD: usize = "no entry".len();

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Taken => "yes",
        Outcome::Fits => "fits",
        Outcome::Skipped => "skipped",
        Outcome::Mismatch => "no",
        Outcome::Undecided => "unknown",
        Outcome::Unreadable => "broken",
        Outcome::NothingLeft => "no entry",
        Outcome::Stops => "stops",
    }
}

/// Why, on one line: `line 2: disk sda size 80 is not gt(100)`.
fn in_short(tried: &Tried) -> String {
    let entry = tried.entry.as_ref().map(|given| {
        format!(", entry {} of {}.cmdb: {}", given.position + 1, tried.profile, given.why)
    });
    shown(&format!("{}{}", tried.brief, entry.unwrap_or_default()), usize::MAX)
}

fn entry_in_full(tried: &Tried, given: &Given) -> String {
    let values: Vec<String> =
        given.values.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let number = given.position + 1;
    format!("entry {number} of {}.cmdb ({}): {}", tried.profile, given.why, values.join(" "))
}

fn one_line(text: &str) -> String {
    shown(&text.replace('\n', " "), usize::MAX)
}

/// At most `columns` characters, the last of which says so when there were more.
fn cut(text: &str, columns: usize) -> String {
    match text.char_indices().nth(columns) {
        Some(_) => {
            let kept: String = text.chars().take(columns.saturating_sub(1)).collect();
            format!("{kept}…")
        }
        None => text.to_owned(),
    }
}

/// One machine for machines.
pub fn json(trial: &Trial) -> Value {
    let mut json = match &trial.answer {
        Answer::Plan { plan, .. } => json!({
            "answer": "plan", "profile": plan.profile, "hostname": plan.hostname,
        }),
        Answer::Installed { profile, hostname, .. } => json!({
            "answer": "installed", "profile": profile, "hostname": hostname,
        }),
        Answer::Refused(refused) => json!({
            "answer": "refused", "profile": null, "status": refused.status,
            "reason": refused.reason,
        }),
        Answer::Recorded { .. } | Answer::Done(_) => json!({"answer": "recorded"}),
    };
    json["warnings"] = json!(trial.warnings);
    json["profiles"] = json!(trial.profiles);
    json
}

/// A machine whose facts are stored, and what it would be answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Name of the file of its facts, without `.hw`.
    pub machine: String,
    /// What it would be answered; facts that cannot be read are told as such.
    pub trial: Result<Trial, String>,
}

/// Every machine of a HWDIR, each as if it came alone to a server that knows no machine and has
/// the files of `folder`: in the order of their names.
pub fn all(folder: &Path, hw_dir: &Path) -> anyhow::Result<Vec<Stored>> {
    let world = store::read_folder(folder)?;
    let mut stored = Vec::new();
    for path in fact_files(hw_dir)? {
        let machine = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let trial = match commands::read_facts(&path) {
            Ok(facts) => Ok(try_out(&world, &facts)?),
            Err(error) => Err(format!("{error:#}")),
        };
        stored.push(Stored { machine, trial });
    }
    Ok(stored)
}

fn fact_files(hw_dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let failed = || format!("cannot read {}", hw_dir.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(hw_dir).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "hw") {
            files.push(path);
        }
    }
    if files.is_empty() {
        bail!("{} holds no facts (*.hw)", hw_dir.display());
    }
    files.sort();
    Ok(files)
}

/// A machine that two configurations answer differently.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Which.
    pub machine: String,
    /// What it would be answered before.
    pub before: Said,
    /// What it would be answered now.
    pub after: Said,
    /// Why, when it gets nothing now: what its former profile, or the first, says.
    pub why: Option<String>,
}

/// What matters of an answer: profile, entry and kind of refusal.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    profile: Option<String>,
    status: u16,
    entry: Option<Given>,
}

impl Said {
    fn of(stored: &Stored) -> Said {
        let Ok(trial) = &stored.trial else {
            return Said { profile: None, status: 400, entry: None };
        };
        let taken = trial.profiles.iter().find(|tried| tried.outcome == Outcome::Taken);
        let stops = trial.profiles.iter().find(|tried| tried.outcome == Outcome::Stops);
        Said {
            profile: taken.or(stops).map(|tried| tried.profile.to_string()),
            status: match &trial.answer {
                Answer::Refused(refused) => refused.status,
                _ => 200,
            },
            entry: taken.and_then(|tried| tried.entry.clone()),
        }
    }

    /// `vm, entry 3`, `vm stops (503)`, `nothing (422)`.
    fn told(&self) -> String {
        match (&self.profile, &self.entry) {
            (Some(profile), Some(given)) => format!("{profile}, entry {}", given.position + 1),
            (Some(profile), None) if self.status == 200 => profile.clone(),
            (Some(profile), None) => format!("{profile} stops ({})", self.status),
            (None, _) => format!("nothing ({})", self.status),
        }
    }

    fn json(&self) -> Value {
        json!({"profile": self.profile, "status": self.status, "entry": self.entry})
    }
}

/// The machines that get another profile or another entry than before.
pub fn differences(before: &[Stored], after: &[Stored]) -> Vec<Difference> {
    let pairs = before.iter().zip(after);
    let differing = pairs.filter_map(|(old, new)| {
        let (before, after) = (Said::of(old), Said::of(new));
        let why = || {
            let trial = new.trial.as_ref().ok()?;
            let former = |tried: &&Tried| Some(tried.profile.as_str()) == before.profile.as_deref();
            trial.profiles.iter().find(former).map(in_short)
        };
        (before != after).then(|| Difference {
            machine: new.machine.clone(),
            why: if before.profile == after.profile { None } else { why() },
            before: before.clone(),
            after,
        })
    });
    differing.collect()
}

/// All machines for people: what each gets.
pub fn all_text(machines: &[Stored]) -> String {
    let mut table = plain_table();
    table.set_header(["MACHINE", "GETS", "WHY"]);
    for stored in machines {
        let why = match &stored.trial {
            Ok(trial) => match &trial.answer {
                Answer::Refused(refused) => one_line(&refused.reason),
                _ => {
                    let mut entries = trial.profiles.iter().filter_map(|it| it.entry.as_ref());
                    entries.next().map(|given| given.why.to_string()).unwrap_or_default()
                }
            },
            Err(error) => one_line(error),
        };
        table.add_row([shown(&stored.machine, 80), Said::of(stored).told(), why]);
    }
    let served = machines.iter().filter(|it| it.trial.as_ref().is_ok_and(is_served)).count();
    format!("{}\n{served} of {} machines get something", table.trim_fmt(), machines.len())
}

/// The same for machines.
pub fn all_json(machines: &[Stored]) -> Value {
    let list = machines.iter().map(|stored| match &stored.trial {
        Ok(trial) => {
            let mut value = json(trial);
            value["machine"] = json!(stored.machine);
            value
        }
        Err(error) => json!({"machine": stored.machine, "answer": "unreadable", "reason": error}),
    });
    Value::Array(list.collect())
}

/// The differences for people.
pub fn differences_text(differences: &[Difference], machines: usize) -> String {
    if differences.is_empty() {
        return format!("none of {machines} machines would get another profile or entry");
    }
    let mut table = plain_table();
    table.set_header(["MACHINE", "BEFORE", "NOW", "WHY"]);
    for difference in differences {
        table.add_row([
            shown(&difference.machine, 80),
            difference.before.told(),
            difference.after.told(),
            difference.why.clone().unwrap_or_default(),
        ]);
    }
    format!("{}\n{} of {machines} machines differ", table.trim_fmt(), differences.len())
}

/// The same for machines.
pub fn differences_json(differences: &[Difference]) -> Value {
    let list = differences.iter().map(|difference| {
        json!({
            "machine": difference.machine,
            "before": difference.before.json(),
            "after": difference.after.json(),
            "why": difference.why,
        })
    });
    Value::Array(list.collect())
}

fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}
