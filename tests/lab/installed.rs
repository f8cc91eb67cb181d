//! An installed host and its further life: it boots from its disk, is logged in to, upgrades
//! from the site's rsync daemon, restarts, and loses its power.
//!
//! What is installed is version [`VERSION`](crate::artifacts::VERSION) of the samples; the edges
//! to the [`NEXT_VERSIONS`](crate::artifacts::NEXT_VERSIONS) are the site's.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use specs::facts::Firmware;

use crate::installation::{disk_only, install, memory_needed, promised, wait_for_login};
use crate::process::Lifetime;
use crate::site::Site;
use crate::ssh::{Answer, Login};
use crate::vm::{Accelerator, Machine, Vm};

/// How long a running system takes to stop its services and restart.
const RESTART_DEADLINE: Duration = Duration::from_secs(180);

/// What the samples install needs a disk of this many bytes.
const DISK: u64 = 10 << 30;

/// A machine with an installed system, booting from its disk alone.
#[derive(Debug)]
pub struct Installed {
    /// The machine, its network boot taken away.
    pub machine: Machine,
    /// How to log in.
    pub login: Login,
    accelerator: Accelerator,
}

impl Installed {
    /// Installs a new machine of the site, whose servers run. Its system is not started yet.
    pub fn new(site: &Site, name: &str) -> Result<Installed> {
        let memory = memory_needed(Firmware::Bios);
        let machine = site.machine(name, Firmware::Bios, memory, &[DISK])?;
        install(site, &machine, "install")?;
        let (_, address) = promised(site, &machine)?;
        let (machine, port) = disk_only(&machine, &address)?;
        Ok(Installed { machine, login: site.login(port), accelerator: site.accelerator })
    }

    /// Switches it on and waits until it lets us in. `run` names the files of this start.
    pub fn boot(&self, run: &str) -> Result<Vm> {
        let vm = self.start(run)?;
        wait_for_login(&vm, &self.login)?;
        Ok(vm)
    }

    /// Only switches it on.
    pub fn start(&self, run: &str) -> Result<Vm> {
        self.machine.start(self.accelerator, run, Lifetime::Scoped)
    }

    /// Waits until the running system has restarted the machine, and boots it again.
    pub fn boot_again(&self, vm: Vm, run: &str) -> Result<Vm> {
        vm.wait_for_end(RESTART_DEADLINE).context("waiting for its restart")?;
        self.boot(run)
    }

    /// Gives `edeploy` there these arguments and expects this exit code.
    pub fn edeploy(&self, arguments: &str, code: i32) -> Result<Answer> {
        let answer = self.login.answer(&format!("edeploy {arguments}"))?;
        let Answer { code: found, said, complained } = &answer;
        crate::say(&format!("# edeploy {arguments}\n{}", shortened(said)));
        ensure!(
            *found == Some(code),
            "`edeploy {arguments}` ends with {found:?} instead of {code}: {said}\n{complained}"
        );
        Ok(answer)
    }
}

/// The first and last lines of what may be long.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 8;
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() <= 2 * SHOWN {
        return text.to_owned();
    }
    let (first, last) = (&lines[..SHOWN], &lines[lines.len() - SHOWN..]);
    format!("{}\n… {} lines …\n{}", first.join("\n"), lines.len() - 2 * SHOWN, last.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_answers_are_told_by_their_ends() {
        let text: String = (0..100).map(|number| format!("{number}\n")).collect();
        let short = shortened(&text);
        assert_eq!(short.lines().count(), 17, "{short}");
        assert!(short.starts_with("0\n") && short.ends_with("\n99"), "{short}");
        assert_eq!(shortened("one\ntwo"), "one\ntwo");
    }
}
