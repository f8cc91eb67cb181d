//! The power goes while a real host is upgraded to another kernel, after the journal said *ready*:
//! the next boots finish it by themselves, and `edeploy history` tells.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::artifacts::{Artifacts, NEXT_VERSIONS};
use lab::installation::shut_down;
use lab::installed::Installed;
use lab::process::{Lifetime, wait_until};
use lab::scratch::Scratch;
use lab::site::{Overrides, Ports, Site};

/// From a restart of the emulated machine to the end of what its boot begins.
const BOOT: Duration = Duration::from_secs(600);

/// Passes what is fetched and built, *ready*, and the files of the new kernel in /boot: the next
/// rename would be that of /usr.
const AMID_THE_SWITCH: &str = "EDEPLOY_FAILPOINT=16";

/// Stays for ever, but for the second time.
const POST_THAT_HANGS_ONCE: &str = "#!/bin/sh\nset -e\n\
    if [ ! -e /var/log/post-began ]; then touch /var/log/post-began; sync; sleep 3600; fi\n\
    update-grub\nexit 100\n";

#[test]
fn the_next_boots_finish_what_a_power_cut_interrupted() {
    let run = || -> Result<()> {
        let artifacts = Artifacts::locate();
        artifacts.check_next_versions()?;
        let scratch = Scratch::new(&artifacts.cache.join("lab"), "interrupted")?;
        let (ports, overrides) = (Ports::free()?, Overrides::default());
        let site = Site::new(scratch.path(), &artifacts, ports, &overrides, Lifetime::Scoped)?;
        let _server = site.start_server()?;
        let _rsync_daemon = site.start_rsync_daemon()?;
        let host = Installed::new(&site, "host")?;
        let [packages, kernel] = NEXT_VERSIONS;
        let vm = host.boot("first")?;
        host.edeploy(&format!("upgrade {packages}"), 0)?;

        // Some of its files are switched. The boot switches the rest and boots again; that boot
        // runs `post`, which wants another kernel booted.
        let died = host.login.answer(&format!("{AMID_THE_SWITCH} edeploy upgrade {kernel}"))?;
        vm.cut_power()?;
        ensure!(died.code != Some(0), "it was not interrupted: {died:?}");
        restarts(&host, "resumes").context("the boot that switches the files")?;
        restarts(&host, "finishes").context("the boot that runs post")?;
        let vm = host.boot("finished")?;
        is_finished(&host, kernel)?;

        // And back, which reboots as well, to be cut while `post` runs.
        host.edeploy("rollback", 0)?;
        let vm = host.boot_again(vm, "back")?;
        let edge = site.metadata().join(packages).join("mysql").join(kernel);
        std::fs::write(edge.join("post"), POST_THAT_HANGS_ONCE)?;
        std::thread::scope(|scope| -> Result<()> {
            let upgrade = scope.spawn(|| host.login.answer(&format!("edeploy upgrade {kernel}")));
            wait_until("post to begin", BOOT, || {
                Ok((host.login.answer("test -e /var/log/post-began")?.code == Some(0))
                    .then_some(()))
            })?;
            vm.cut_power()?;
            drop(upgrade.join());
            Ok(())
        })?;
        restarts(&host, "finishes-again").context("the boot that runs post again")?;
        let vm = host.boot("finished-again")?;
        is_finished(&host, kernel)?;
        shut_down(&vm, &host.login)
    };
    run().unwrap();
}

/// Switches it on and waits until it restarts by itself.
fn restarts(host: &Installed, run: &str) -> Result<()> {
    host.start(run)?.wait_for_end(BOOT)
}

/// It runs the new version's kernel, and nothing of the upgrade is left but its history.
fn is_finished(host: &Installed, version: &str) -> Result<()> {
    ensure!(host.edeploy("version", 0)?.said == version, "it is of another version");
    ensure!(host.login.run("uname -r")?.starts_with("6.12."), "it runs another kernel");
    host.edeploy("verify", 0)?;
    let history = host.edeploy("history", 0)?.said;
    let last = history.lines().last().unwrap_or_default();
    ensure!(last.ends_with(&format!("{version}, finished after an interruption")), "{history}");
    let left = "find /.edeploy/edeploy /etc/systemd/system -name 'edeploy-[rf]*' -o -path /.edeploy/edeploy";
    let left = host.login.run(&format!("{left} 2>/dev/null || true"))?;
    ensure!(left.is_empty(), "left over: {left}");
    let failed = host.login.run("systemctl list-units --failed --plain --no-legend")?;
    ensure!(failed.is_empty(), "failed units:\n{failed}");
    Ok(())
}
