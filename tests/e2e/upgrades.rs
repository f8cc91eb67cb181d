//! The life of an installed host, as the README tells it: packages change while the service keeps
//! its data, then a new kernel comes and boots, and the way back leads offline to the version
//! before and its kernel.

use anyhow::{Context, Result, ensure};
use lab::artifacts::{NEXT_VERSIONS, VERSION};
use lab::installation::shut_down;
use lab::installed::Installed;
use lab::site::Overrides;

use crate::on_a_site;

#[test]
fn an_installed_host_is_upgraded_to_a_new_kernel_and_rolled_back() {
    on_a_site("upgrades", &Overrides::default(), |site| {
        site.artifacts.check_next_versions()?;
        let _server = site.start_server()?;
        let rsync_daemon = site.start_rsync_daemon()?;
        let host = Installed::new(site, "host")?;
        let [packages, kernel] = NEXT_VERSIONS;

        let vm = host.boot("first")?;
        knows_what_it_is(&host)?;
        let old_kernel = host.login.run("uname -r")?;
        packages_change_around_a_running_service(&host, packages)?;
        clean(&host, packages)?;
        package_managers_work_while_they_are_on(&host)?;
        is_clean(&host, "verify --fast", packages).context("package managers off again")?;

        host.edeploy(&format!("upgrade {kernel} --no-reboot"), 100)?;
        let _ = host.login.answer("systemctl reboot")?;
        let vm = host.boot_again(vm, "new-kernel")?;
        let new_kernel = host.login.run("uname -r")?;
        ensure!(new_kernel != old_kernel, "it boots {old_kernel} again");
        clean(&host, kernel)?;

        // Offline: nobody could send a byte. It reboots by itself.
        rsync_daemon.kill()?;
        host.login.run("redis-cli set told twice")?;
        host.edeploy("rollback", 0)?;
        let vm = host.boot_again(vm, "old-kernel")?;
        ensure!(host.login.run("uname -r")? == old_kernel, "it does not boot {old_kernel}");
        clean(&host, packages)?;
        ensure!(host.login.run("redis-cli get told")? == "twice", "the data went back as well");
        let history = host.edeploy("history", 0)?.said;
        let told: Vec<&str> =
            history.lines().filter_map(|line| line.split("GMT  ").nth(1)).collect();
        ensure!(
            told == [
                format!("upgraded {VERSION} -> {packages}"),
                format!("upgraded {packages} -> {kernel}"),
                format!("rolled back {kernel} -> {packages}"),
            ],
            "{history}"
        );
        shut_down(&vm, &host.login)
    });
}

fn knows_what_it_is(host: &Installed) -> Result<()> {
    let [packages, _] = NEXT_VERSIONS;
    ensure!(host.edeploy("version", 0)?.said == VERSION, "it is of another version");
    ensure!(host.edeploy("list", 0)?.said == packages, "it can go elsewhere");
    is_clean(host, "verify --fast", VERSION).context("freshly installed")
}

/// The disk is as the version has it, and every unit is well.
fn clean(host: &Installed, version: &str) -> Result<()> {
    is_clean(host, "verify", version)
}

fn is_clean(host: &Installed, verify: &str, version: &str) -> Result<()> {
    let said = host.edeploy(verify, 0)?.said;
    ensure!(said.starts_with("0 of ") && said.ends_with(version), "{said}");
    let failed = host.login.run("systemctl list-units --failed --plain --no-legend")?;
    ensure!(failed.is_empty(), "failed units:\n{failed}");
    Ok(())
}

fn packages_change_around_a_running_service(host: &Installed, version: &str) -> Result<()> {
    let installed = "dpkg-query --show --showformat '${Version}' redis-server";
    let (package, started) = (host.login.run(installed)?, started(host)?);
    host.login.run("redis-cli set told once")?;
    host.edeploy(&format!("upgrade {version}"), 0)?;
    let upgraded = host.login.run(installed)?;
    ensure!(upgraded != package, "redis-server is still {package}");
    ensure!(started < self::started(host)?, "redis-server was not restarted");
    ensure!(host.login.run("redis-cli get told")? == "once", "its data is lost");
    let limit = host.login.run("systemctl show --property MemoryMax --value redis-server")?;
    ensure!(limit != "infinity", "the new version's limit does not hold");
    host.login.run("sudo --version").map(drop)
}

/// When the service was started, in microseconds since the boot.
fn started(host: &Installed) -> Result<u64> {
    let property = "ExecMainStartTimestampMonotonic";
    let text =
        host.login.run(&format!("systemctl show --property {property} --value redis-server"))?;
    text.parse().with_context(|| format!("redis-server started at `{text}`"))
}

/// Roles come without; `verify` tells that they were switched on.
fn package_managers_work_while_they_are_on(host: &Installed) -> Result<()> {
    let off = host.login.answer("apt-get --version")?;
    ensure!(off.complained.contains("is deactivated"), "apt-get is not off: {off:?}");
    host.edeploy("activate-pkgmngr", 0)?;
    ensure!(host.login.run("apt-get --version")?.starts_with("apt "), "apt-get is not on");
    host.login
        .run("apt-get check && dpkg --audit && apt-mark showmanual | grep -q redis-server")?;
    let drift = host.edeploy("verify --fast", 1)?.said;
    ensure!(drift.contains("usr/bin/apt-get"), "{drift}");
    host.edeploy("deactivate-pkgmngr", 0).map(drop)
}
