//! `edeploy-server import DIR OUT`: an original CONFIGDIR as a native one, in a folder of its own.
//!
//! What becomes of each file is [`specs::import`]'s; here folders are read and written, and the
//! report is laid out. A configure script is not converted: the report names each of its
//! statements, what it does and where that goes, so that nothing is dropped silently.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};
use specs::import::{Imported, Outcome, import};

use crate::request::shown;

/// Converts every file of `folder` and of the folders in it, and writes them below `out`, which
/// must be empty or absent. Folders are walked, links are not followed.
pub fn run(folder: &Path, out: &Path) -> anyhow::Result<Vec<Imported>> {
    let cannot_read = || format!("cannot read {}", folder.display());
    if !folder.metadata().with_context(cannot_read)?.is_dir() {
        bail!("{} is no folder", folder.display());
    }
    refuse_non_empty(out)?;
    let mut names = Vec::new();
    walk(folder, Path::new(""), &mut names)?;
    names.sort();
    let mut report = Vec::new();
    for name in &names {
        let path = folder.join(name);
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let plain = name.file_name().unwrap_or_default().to_string_lossy();
        let imported = Imported { file: name.display().to_string(), ..import(&plain, &bytes) };
        report.push(imported);
    }
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    for imported in &report {
        if let Some(text) = &imported.text {
            write(&out.join(&imported.file), text)?;
        }
    }
    Ok(report)
}

fn refuse_non_empty(out: &Path) -> anyhow::Result<()> {
    match std::fs::read_dir(out) {
        Ok(mut entries) => match entries.next() {
            Some(_) => bail!("{} is not empty: name a new folder", out.display()),
            None => Ok(()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", out.display())),
    }
}

/// The files below a folder, by their path in it; hidden ones are an editor's or the server's.
fn walk(folder: &Path, inner: &Path, names: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let here = folder.join(inner);
    let failed = || format!("cannot read {}", here.display());
    for entry in std::fs::read_dir(&here).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        let kind = entry.file_type().with_context(failed)?;
        if kind.is_dir() {
            walk(folder, &inner.join(name), names)?;
        } else if kind.is_file() {
            names.push(inner.join(name));
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(failed)?;
    }
    std::fs::write(path, text).with_context(failed)
}

/// Whether everything says the same in the new folder as in the old one.
pub fn is_complete(report: &[Imported]) -> bool {
    report.iter().all(|imported| {
        matches!(imported.outcome, Outcome::Converted | Outcome::Unchanged | Outcome::Foreign)
    })
}

/// The report for people: a line for each file, then what is left to do.
pub fn text(report: &[Imported]) -> String {
    let mut files = plain_table();
    files.set_header(["FILE", "OUTCOME"]);
    for imported in report {
        files.add_row([shown(&imported.file, 80), in_short(&imported.outcome)]);
    }
    let mut text = files.trim_fmt();
    for imported in report {
        let file = shown(&imported.file, 200);
        match &imported.outcome {
            Outcome::Converted | Outcome::Unchanged | Outcome::Foreign => {}
            Outcome::CommentsLost(comments) => {
                text.push_str(&format!("\n\n{file}: these comments have no place in RON\n"));
                let comments = comments.iter().map(|comment| format!("  {}", shown(comment, 300)));
                text.push_str(&comments.collect::<Vec<_>>().join("\n"));
            }
            Outcome::Broken(finding) => text.push_str(&format!("\n\n{finding}")),
            Outcome::Script(statements) => {
                text.push_str(&format!("\n\n{file}: to be written anew\n"));
                let mut table = plain_table();
                table.set_header(["LINE", "STATEMENT", "DOES", "NOW IN"]);
                for statement in statements {
                    table.add_row([
                        statement.line.to_string(),
                        shown(&statement.text, 60),
                        shown(&statement.does, 60),
                        statement.configure.unwrap_or("-").to_owned(),
                    ]);
                }
                text.push_str(&table.trim_fmt());
            }
        }
    }
    text
}

fn in_short(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Converted => "converted".to_owned(),
        Outcome::Unchanged => "copied".to_owned(),
        Outcome::CommentsLost(lost) => format!("converted, {} comments lost", lost.len()),
        Outcome::Script(statements) => {
            format!("left out: a Python script of {} statements", statements.len())
        }
        Outcome::Broken(finding) => format!("left out: broken at line {}", finding.line),
        Outcome::Foreign => "left out: not a file of a CONFIGDIR".to_owned(),
    }
}

/// The report for machines.
pub fn json(report: &[Imported]) -> Value {
    json!({"complete": is_complete(report), "files": report})
}

fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}
