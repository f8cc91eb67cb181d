//! What `--keep` leaves running, remembered in a file so that `--stop` can end it.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lab::artifacts::cache;
use lab::process::Lifetime;
use lab::say;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One line per process: its id and the folder of its site.
fn file() -> PathBuf {
    cache().join("lab/kept")
}

/// Adds processes of a kept site.
pub(crate) fn remember(ids: &[u32], site: &Path, lifetime: Lifetime) -> Result<()> {
    if lifetime == Lifetime::Scoped {
        return Ok(());
    }
    let path = file();
    let mut kept = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("opening `{}`", path.display()))?;
    for id in ids {
        writeln!(kept, "{id} {}", site.display())?;
    }
    Ok(())
}

/// Ends every remembered process that is still the one that was remembered, and takes its
/// folder away.
pub(crate) fn stop() -> Result<()> {
    let path = file();
    let Ok(text) = std::fs::read_to_string(&path) else {
        say("nothing is kept");
        return Ok(());
    };
    for line in text.lines() {
        let Some((id, site)) = line.split_once(' ') else { continue };
        let id: i32 = id.parse().with_context(|| format!("reading `{line}`"))?;
        // Ids are used again: only a process that names the site is the one.
        let command = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&command).contains(site) {
            kill(Pid::from_raw(id), Signal::SIGTERM).with_context(|| format!("ending {id}"))?;
            say(&format!("ended process {id}"));
        }
        if Path::new(site).exists() {
            std::fs::remove_dir_all(site).with_context(|| format!("removing `{site}`"))?;
        }
    }
    std::fs::remove_file(&path).with_context(|| format!("removing `{}`", path.display()))
}
