//! Services of the running system: which an upgrade touches, and that none stays stopped when
//! the version before comes back.
//!
//! On the way forward the scripts of the edge stop and start what they know. On the way back there
//! are no scripts: what they had stopped is started again, and a rollback restarts what runs from
//! files that it changes.

use std::collections::BTreeSet;
use std::time::Duration;

use specs::metadata::is_stoppable;
use specs::upgrade::{Manifest, TreePath};

use super::commands::{Host, Progress};
use super::error::UpgradeError;
use super::layout::Area;
use crate::world::{Cmd, Program, Root, Runner};

/// Where unit files are, the stronger first.
const FOLDERS: [&str; 2] = ["etc/systemd/system", "usr/lib/systemd/system"];

/// Present while systemd runs this very system.
const SYSTEMD: &str = "/run/systemd/system";

/// A database may take its time to stop.
const LONGEST: Duration = Duration::from_secs(900);

impl<R: Runner, P: Progress> Host<'_, R, P> {
    /// The services that run. None where this host is not the running system: nothing of it runs.
    pub(super) fn running_services(&mut self) -> Result<BTreeSet<String>, UpgradeError> {
        if !self.is_running_system() || !self.root.is_dir(SYSTEMD) {
            return Ok(BTreeSet::new());
        }
        let list = ["list-units", "--type=service", "--state=active", "--plain", "--no-legend"];
        let said = self.systemctl(&list, "see which services run")?;
        Ok(said.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
    }

    /// Stops those of these services that run, and remembers which.
    pub(super) fn stop_running(
        &mut self,
        touched: &BTreeSet<String>,
        area: &Area,
    ) -> Result<(), UpgradeError> {
        let running = self.running_services()?;
        let stopped: Vec<&String> =
            touched.iter().filter(|name| running.contains(*name) && is_stoppable(name)).collect();
        area.write_stopped(stopped.iter().copied())?;
        if stopped.is_empty() {
            return Ok(());
        }
        self.progress.stage("stop services");
        let mut line = vec!["stop"];
        line.extend(stopped.into_iter().map(String::as_str));
        self.systemctl(&line, "stop services whose files change").map(drop)
    }

    /// Starts these services, from the unit files that are there now.
    pub(super) fn start(&mut self, names: &[String]) -> Result<(), UpgradeError> {
        if names.is_empty() || !self.is_running_system() {
            return Ok(());
        }
        self.systemctl(&["daemon-reload"], "read the unit files")?;
        let mut line = vec!["start"];
        line.extend(names.iter().map(String::as_str));
        self.systemctl(&line, "start services again").map(drop)
    }

    fn systemctl(&mut self, args: &[&str], why: &str) -> Result<String, UpgradeError> {
        let cmd = Cmd::of(Program::Named("systemctl".to_owned()), args).deadline(LONGEST).why(why);
        match self.runner.run(&cmd) {
            Ok(output) => Ok(output.stdout),
            Err(source) => Err(UpgradeError::Command { what: cmd.why, source }),
        }
    }
}

/// Every path that one version has otherwise than the other.
pub(super) fn between<'a>(from: &'a Manifest, to: &'a Manifest) -> BTreeSet<&'a TreePath> {
    let paths = from.entries.keys().chain(to.entries.keys());
    let differs = |path: &&TreePath| match (from.entries.get(*path), to.entries.get(*path)) {
        (Some(before), Some(after)) => !before.same(after),
        _ => true,
    };
    paths.filter(differs).collect()
}

/// The services of the host whose unit file, or an addition to it, or whose program is among the
/// paths.
pub(super) fn touched(root: &Root, changes: &BTreeSet<&TreePath>) -> BTreeSet<String> {
    let there = |name: &String| FOLDERS.iter().any(|at| root.exists(&format!("{at}/{name}")));
    let named = changes.iter().filter_map(|path| service_of(&path.to_string()));
    let mut touched: BTreeSet<String> = named.filter(there).collect();
    let changed = |path: &str| path.parse::<TreePath>().is_ok_and(|path| changes.contains(&path));
    for folder in FOLDERS {
        for name in root.names(folder).unwrap_or_default() {
            let text = root.read_text(&format!("{folder}/{name}")).unwrap_or_default();
            if name.ends_with(".service") && programs(&text).any(|program| changed(&program)) {
                touched.insert(name);
            }
        }
    }
    touched
}

/// The service whose unit this is: `…/NAME.service`, or `…/NAME.service.d/…`.
fn service_of(path: &str) -> Option<String> {
    let rest = FOLDERS.iter().find_map(|folder| path.strip_prefix(folder)?.strip_prefix('/'))?;
    let name = match rest.split_once('/') {
        None => rest,
        Some((folder, _)) => folder.strip_suffix(".d")?,
    };
    name.ends_with(".service").then(|| name.to_owned())
}

/// The programs of a unit file, as paths of a merged tree.
fn programs(unit: &str) -> impl Iterator<Item = String> {
    let lines = unit.lines().filter_map(|line| line.trim().strip_prefix("ExecStart="));
    lines.filter_map(|command| {
        let program =
            command.trim_start_matches(['-', '@', ':', '+', '!']).split_whitespace().next()?;
        let path = program.strip_prefix('/')?;
        let merged = ["bin/", "sbin/", "lib/"].iter().any(|folder| path.starts_with(folder));
        Some(if merged { format!("usr/{path}") } else { path.to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_read_from_units() {
        let unit = "[Service]\nExecStart=-/sbin/agetty -o x\nExecStart=@/usr/bin/dbus-daemon dbus\n\
                    ExecStart=relative\nExecStop=/bin/kill\n";
        let found: Vec<String> = programs(unit).collect();
        assert_eq!(found, ["usr/sbin/agetty", "usr/bin/dbus-daemon"]);
    }

    #[test]
    fn units_and_additions_to_them_are_a_services() {
        for (path, service) in [
            ("usr/lib/systemd/system/redis.service", Some("redis.service")),
            ("etc/systemd/system/redis.service.d/limits.conf", Some("redis.service")),
            ("etc/systemd/system/multi-user.target.wants/redis.service", None),
            ("etc/systemd/system/redis.socket", None),
            ("usr/bin/redis.service", None),
        ] {
            assert_eq!(service_of(path).as_deref(), service, "{path}");
        }
    }
}
