//! What has to be true after a storm, read from the files as an admin finds them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use server::settings::Section;
use server::store::Store;
use specs::cmdb::Cmdb;
use specs::machine::{Phase, Record};
use specs::state::{Count, State};
use specs::units::Name;

use super::hall::{Hall, SPARE, profile_name};
use super::machine::Machine;

/// Checks all of it; one line with what was counted.
pub(super) fn check(hall: &Hall, machines: &[Machine]) -> Result<String> {
    let store = store(hall);
    // Behind CGI nobody may have written the files yet: whoever comes next does.
    store.sync()?;
    let config = hall.folder.join("config");
    let state = State::parse("state", &std::fs::read_to_string(config.join("state"))?)
        .map_err(|findings| anyhow::anyhow!("`state` does not parse: {findings:?}"))?;
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for profile in 0..hall.size.profiles {
        let name = profile_name(profile);
        let text = std::fs::read_to_string(config.join(format!("{name}.cmdb")))?;
        let cmdb = Cmdb::parse(&name, &text, &BTreeSet::new())
            .map_err(|findings| anyhow::anyhow!("{name}.cmdb does not parse: {findings:?}"))?;
        let entries = hall.size.entries_of(profile);
        ensure!(cmdb.len() == entries, "{name}.cmdb has {} of {entries} entries", cmdb.len());
        let names = cmdb.entries().filter(|entry| entry.is_used()).map(|entry| {
            let hostname = entry.get("hostname").context("an entry lost its host name")?;
            Ok(hostname.as_text())
        });
        let names: BTreeSet<String> = names.collect::<Result<_>>()?;
        let left = state.count(&name.parse::<Name>()?);
        let expected = Count::Left(i64::try_from(entries + SPARE - names.len())?);
        ensure!(left == Some(expected), "{name}: {left:?} in `state`, not {expected}");
        used.insert(name, names);
    }
    let told: Vec<&str> = machines.iter().filter_map(|it| it.hostname.as_deref()).collect();
    let different: BTreeSet<&str> = told.iter().copied().collect();
    ensure!(different.len() == told.len(), "an entry was given to two machines");
    let all_used: BTreeSet<&str> = used.values().flatten().map(String::as_str).collect();
    ensure!(all_used == different, "the entries marked used are not those that machines were told");
    let records = records(&store)?;
    ensure!(records.len() == machines.len(), "{} records", records.len());
    for machine in machines {
        let serial = format!("storm{:07}", machine.number);
        let record = records.get(&serial).with_context(|| format!("no record of {serial}"))?;
        let expected = if machine.installed { Phase::Installed } else { Phase::Failed };
        ensure!(record.phase == expected, "{serial} is {}, not {expected}", record.phase);
        let hostname = record.assignment.as_ref().map(|it| it.hostname.as_str());
        ensure!(hostname == machine.hostname.as_deref(), "{serial} is {hostname:?} on record");
    }
    let leftovers = leftovers(&hall.folder)?;
    ensure!(leftovers.is_empty(), "left behind: {leftovers:?}");
    Ok(format!("{} entries used, counts exact, {} records agree", all_used.len(), records.len()))
}

/// The store as the next server finds it.
fn store(hall: &Hall) -> Store {
    let mut section = Section::with_config_dir("SERVER", hall.folder.join("config"));
    section.hw_dir = hall.folder.join("hw");
    Store::new(section)
}

/// The records by serial number.
fn records(store: &Store) -> Result<BTreeMap<String, Record>> {
    let by_serial = |record: Record| (record.identity.serial.clone(), record);
    let records: Vec<_> =
        store.look(|world| world.census.records().map(by_serial).collect::<Vec<_>>())?;
    Ok(records.into_iter().filter_map(|(serial, record)| Some((serial?, record))).collect())
}

/// Temporary files that nobody will ever put in their places.
fn leftovers(folder: &std::path::Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(".edeploy-new") {
                found.push(path);
            }
        }
    }
    Ok(found)
}
