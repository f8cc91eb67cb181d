//! The scripts of an edge. They run inside the host's root, as root, with nothing to read, and
//! are told between which versions they stand. `post` may run again after a power cut.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::commands::{Host, Progress};
use super::journal::REBOOT;
use super::layout::{Area, Prepared};
use crate::execute::{LinuxSystem, System, SystemCall};
use crate::world::{Cmd, CmdError, Program, Runner};

/// A script that stops databases may take its time.
const LONGEST: Duration = Duration::from_secs(3600);

/// What a chroot needs to see of the machine around it.
const BOUND: [&str; 3] = ["/dev", "/proc", "/sys"];

impl<R: Runner, P: Progress> Host<'_, R, P> {
    /// Runs a script of the edge and tells its status, 0 or 100. One that is not there, or not
    /// executable, has nothing to say.
    pub(super) fn run_script(
        &mut self,
        name: &str,
        area: &Area,
        prepared: &Prepared,
    ) -> Result<i32, CmdError> {
        let place = area.file("edge").join(name);
        let executable = |path: &Path| {
            path.metadata()
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        };
        if !executable(&place) {
            return Ok(0);
        }
        self.progress.stage(&format!("run `{name}`"));
        let root = self.root.folder().to_owned();
        let inside = place.strip_prefix(&root).unwrap_or(&place);
        let mut cmd =
            Cmd::of(Program::Named(Path::new("/").join(inside).display().to_string()), &[])
                .variable("VERS", prepared.from.as_str())
                .variable("TO", prepared.to.as_str())
                .variable("ROLE", prepared.role.as_str())
                .deadline(LONGEST)
                .why(format!("run the script `{name}` of the upgrade"));
        let own = self.is_running_system();
        if !own {
            cmd.chroot = Some(root.clone());
        }
        let bound: Vec<&str> =
            BOUND.into_iter().filter(|folder| !own && self.root.is_dir(folder)).collect();
        let place = |folder: &str| root.join(folder.trim_start_matches('/'));
        for folder in &bound {
            // Scripts that can do without are not stopped by this.
            let call = SystemCall::Bind { from: (*folder).to_owned(), folder: place(folder) };
            if let Err(error) = LinuxSystem.call(&call) {
                tracing::warn!(folder, %error, "not visible to the script");
            }
        }
        let ran = self.runner.run(&cmd);
        for folder in bound.iter().rev() {
            let _ = LinuxSystem.call(&SystemCall::Unbind { folder: place(folder) });
        }
        match ran {
            Ok(_) => Ok(0),
            Err(CmdError::Exit { code: REBOOT, .. }) if name == "post" => Ok(REBOOT),
            Err(error) => Err(error),
        }
    }
}
