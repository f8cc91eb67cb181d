//! What an operator is shown of the machines: the table, one machine in full, its last log. Texts
//! only; nothing here locks, prints or decides.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp;
use serde_json::json;
use specs::fleet::Census;
use specs::machine::{Record, Seconds};

use crate::logs::SUFFIX;
use crate::request::shown;

/// The records that a selector means: nothing for all, `phase=failed`, `profile=vm`, or whatever
/// names a machine (host name, record, serial, UUID, MAC).
pub fn select(census: &Census, selector: Option<&str>) -> Vec<Record> {
    match selector.map(|selector| (selector, selector.split_once('='))) {
        None => census.records().collect(),
        Some((_, Some(("phase", phase)))) => {
            census.records().filter(|record| record.phase.to_string() == phase).collect()
        }
        Some((_, Some(("profile", profile)))) => census
            .records()
            .filter(|record| {
                let assignment = record.assignment.as_ref();
                assignment.is_some_and(|assignment| assignment.profile.as_str() == profile)
            })
            .collect(),
        Some((name, _)) => census.find(name),
    }
}

/// A table of machines that fits into `width` columns.
pub fn table(records: &[Record], now: Seconds, width: Option<u16>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(["MACHINE", "PHASE", "FOR", "PROFILE", "STEP", "SERIAL", "MAC"]);
    if let Some(width) = width {
        table.set_width(width);
    }
    for record in records {
        let assignment = record.assignment.as_ref();
        let step = assignment.and_then(|assignment| assignment.step.as_deref());
        let text = |text: Option<&str>| shown(text.unwrap_or("-"), 40);
        table.add_row([
            shown(record.display_name(), 40),
            record.phase.to_string(),
            duration(now.saturating_sub(record.since)),
            text(assignment.map(|assignment| assignment.profile.as_str())),
            text(step.or(record.complaint.as_ref().map(|complaint| complaint.text.as_str()))),
            text(record.identity.serial.as_deref()),
            text(record.identity.macs.first().map(|mac| mac.as_str())),
        ]);
    }
    table.trim_fmt()
}

/// The same as stable JSON.
pub fn summary_json(record: &Record) -> serde_json::Value {
    let assignment = record.assignment.as_ref();
    json!({
        "id": record.id,
        "name": record.display_name(),
        "phase": record.phase,
        "since": record.since,
        "heard": record.heard,
        "profile": assignment.map(|assignment| &assignment.profile),
        "hostname": assignment.map(|assignment| &assignment.hostname),
        "step": assignment.and_then(|assignment| assignment.step.as_ref()),
        "complaint": record.complaint,
        "serial": record.identity.serial,
        "uuid": record.identity.uuid,
        "macs": record.identity.macs,
    })
}

/// One machine in full, as JSON. Its ticket is a password of the running installation and stays
/// out.
pub fn full_json(record: &Record) -> serde_json::Value {
    let mut value = summary_json(record);
    value["variables"] = json!(record.assignment.as_ref().map(|assignment| &assignment.variables));
    value["entry"] = json!(record.bound_entry().map(|(_, holding)| holding.position));
    value["history"] = json!(record.history);
    value
}

/// One machine in full, for people.
pub fn full_text(record: &Record, now: Seconds) -> String {
    let mut lines = vec![
        format!("machine   {}", record.display_name()),
        format!("record    {}", record.id),
        format!(
            "phase     {} since {} (for {})",
            record.phase,
            time(record.since),
            duration(now.saturating_sub(record.since))
        ),
        format!("heard     {}", time(record.heard)),
        format!("product   {}", shown(&record.identity.product, 80)),
    ];
    if let Some(serial) = &record.identity.serial {
        lines.push(format!("serial    {}", shown(serial, 80)));
    }
    if let Some(uuid) = &record.identity.uuid {
        lines.push(format!("uuid      {}", shown(uuid, 80)));
    }
    for mac in &record.identity.macs {
        lines.push(format!("mac       {mac}"));
    }
    if let Some(assignment) = &record.assignment {
        lines.push(format!("profile   {}", assignment.profile));
        if let Some((_, holding)) = record.bound_entry() {
            let number = holding.position + 1;
            lines.push(format!("entry     number {number} of {}.cmdb", assignment.profile));
        }
        if let Some(step) = &assignment.step {
            lines.push(format!("step      {}", shown(step, 100)));
        }
        for (name, value) in &assignment.variables {
            lines.push(format!("  {name} = {}", shown(&value.as_text(), 100)));
        }
    }
    if let Some(complaint) = &record.complaint {
        lines.push(format!("complaint {} {}", time(complaint.at), shown(&complaint.text, 300)));
    }
    lines.push("history".to_owned());
    for line in &record.history {
        lines.push(format!("  {}  {}", time(line.at), shown(&line.text, 300)));
    }
    lines.join("\n")
}

/// The newest uploaded log of a machine: its file name holds the serial, a MAC address, the host
/// name or the record's name.
pub fn newest_log(log_dir: &Path, record: &Record) -> io::Result<Option<PathBuf>> {
    let word = |text: &str| text.chars().filter(|c| c.is_ascii_alphanumeric()).collect::<String>();
    let mut marks = vec![word(record.id.as_str()), word(record.display_name())];
    marks.extend(record.identity.serial.as_deref().map(word));
    marks.extend(record.identity.macs.iter().map(|mac| word(mac.as_str())));
    let mut newest: Option<(SystemTime, PathBuf)> = None;
    for entry in std::fs::read_dir(log_dir)? {
        let entry = entry?;
        let file_name = entry.file_name().to_string_lossy().into_owned();
        let Some(stem) = file_name.strip_suffix(SUFFIX) else { continue };
        let stem = word(stem).to_ascii_lowercase();
        let named = marks.iter().any(|mark| stem.contains(&mark.to_ascii_lowercase()));
        let modified = entry.metadata()?.modified()?;
        if named && newest.as_ref().is_none_or(|(time, _)| *time < modified) {
            newest = Some((modified, entry.path()));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// The text of an uploaded log, of which at most `limit` bytes are unpacked. A stranger packed
/// it: control characters other than line ends are escaped.
pub fn read_log(path: &Path, limit: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    let unpacked = flate2::read::MultiGzDecoder::new(std::fs::File::open(path)?);
    unpacked.take(limit).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().map(|line| shown(line, usize::MAX)).collect::<Vec<_>>().join("\n"))
}

/// `2026-11-22T05:23:40Z`
fn time(seconds: Seconds) -> String {
    let timestamp = i64::try_from(seconds).ok().and_then(|s| Timestamp::from_second(s).ok());
    timestamp.map_or_else(|| seconds.to_string(), |timestamp| timestamp.to_string())
}

/// `45s`, `12m`, `3h 5m`, `9d`
fn duration(seconds: Seconds) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::Write;

    use specs::machine::Identity;

    fn record(id: &str) -> Record {
        let identity = Identity {
            macs: vec!["52:54:00:00:00:01".parse().unwrap()],
            serial: Some("cz332".into()),
            ..Identity::default()
        };
        Record::new(id.parse().unwrap(), identity, 1_000)
    }

    #[test]
    fn a_table_names_phase_and_age() {
        let record = record("vm-1");
        let text = table(std::slice::from_ref(&record), 1_000 + 3 * 3600 + 300, Some(100));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        for part in ["vm-1", "unmatched", "3h 5m", "cz332", "52:54:00:00:00:01"] {
            assert!(lines[1].contains(part), "{text}");
        }
        assert!(lines.iter().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn the_newest_log_is_found_by_serial_and_shown_safely() {
        let folder = tempfile::tempdir().unwrap();
        for (name, age) in [("HP-DL360-CZ332", 100), ("HP-DL360-CZ332.2014", 200), ("other", 0)] {
            let file = std::fs::File::create(folder.path().join(format!("{name}.log.gz"))).unwrap();
            let mut packed = flate2::write::GzEncoder::new(&file, flate2::Compression::fast());
            packed.write_all(format!("{name}\n\u{1b}[31m\n").as_bytes()).unwrap();
            packed.finish().unwrap();
            file.set_modified(SystemTime::now() - std::time::Duration::from_secs(age)).unwrap();
        }
        let path = newest_log(folder.path(), &record("vm-1")).unwrap().unwrap();
        assert_eq!(read_log(&path, 1000).unwrap(), "HP-DL360-CZ332\n\\u{1b}[31m");
        assert_eq!(
            newest_log(folder.path(), &{
                let mut none = record("x9");
                none.identity = Identity::default();
                none
            })
            .unwrap(),
            None
        );
    }
}
