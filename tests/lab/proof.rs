//! What is asked of an installed machine, over ssh: is it what its CMDB entry and its plan say?
//! Every answer comes from the machine itself.

use anyhow::{Context, Result, bail, ensure};
use specs::facts::Firmware;

use crate::artifacts::{NEXT_VERSIONS, ROLE, VERSION};
use crate::site::PROFILE;
use crate::ssh::Login;

/// What the machine shall be.
#[derive(Debug, Clone)]
pub struct Promise {
    /// Host name, from the CMDB.
    pub hostname: String,
    /// Address, from the CMDB.
    pub address: String,
    /// The firmware it boots by.
    pub firmware: Firmware,
    /// The rsync port in `/var/lib/edeploy/conf`.
    pub rsync_port: u16,
    /// Texts that must be in no file of `/var/log/edeploy`.
    pub secrets: Vec<String>,
}

/// One question, and what answers it or says why the answer is wrong.
type Question = (&'static str, fn(&Login, &Promise) -> Result<String>);

const QUESTIONS: [Question; 8] = [
    ("host name", host_name),
    ("static address", static_address),
    ("root file system by UUID", root_by_uuid),
    ("/var/lib/edeploy/conf", conf),
    ("/var/log/edeploy", logs),
    ("boot loader", boot_loader),
    ("edeploy command", edeploy),
    ("units", units),
];

/// Asks everything; each answer is a line for a person. The first wrong answer is an error.
pub fn prove(login: &Login, promise: &Promise) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for (name, question) in QUESTIONS {
        let answer = question(login, promise).with_context(|| format!("proving the {name}"))?;
        lines.push(format!("{name}: {answer}"));
    }
    Ok(lines)
}

fn host_name(login: &Login, promise: &Promise) -> Result<String> {
    let name = login.run("hostname")?;
    ensure!(name == promise.hostname, "it calls itself `{name}`, not `{}`", promise.hostname);
    ensure!(login.run("cat /etc/hostname")? == name, "/etc/hostname says something else");
    Ok(name)
}

fn static_address(login: &Login, promise: &Promise) -> Result<String> {
    let lines = login.run("ip -4 -oneline address show scope global")?;
    let wanted = format!(" inet {}/", promise.address);
    let Some(line) = lines.lines().find(|line| line.contains(&wanted)) else {
        bail!("{} is not among its addresses:\n{lines}", promise.address);
    };
    ensure!(!line.contains("dynamic"), "the address is leased, not static: {line}");
    ensure!(lines.lines().count() == 1, "it has more addresses:\n{lines}");
    Ok(promise.address.clone())
}

fn root_by_uuid(login: &Login, _: &Promise) -> Result<String> {
    let uuid = login.run("findmnt --noheadings --output UUID /")?;
    let fstab = login.run("cat /etc/fstab")?;
    let of_root = fstab.lines().find(|line| line.split_whitespace().nth(1) == Some("/"));
    let source = of_root.and_then(|line| line.split_whitespace().next()).unwrap_or_default();
    ensure!(source == format!("UUID={uuid}"), "/ is {uuid}, and fstab says:\n{fstab}");
    let arguments = login.run("cat /proc/cmdline")?;
    ensure!(
        arguments.contains(&format!("root=UUID={uuid}")),
        "/ is {uuid}, and the kernel was started with `{arguments}`"
    );
    Ok(uuid)
}

fn conf(login: &Login, promise: &Promise) -> Result<String> {
    let conf = login.run("cat /var/lib/edeploy/conf")?;
    let port = format!("RSERV_PORT={}", promise.rsync_port);
    let (version, role) = (format!("VERS={VERSION}"), format!("ROLE={ROLE}"));
    let wanted = [&version, &role, "SERV=10.0.2.2", "RSERV=10.0.2.2", "RPATH=install", &port];
    for line in wanted {
        ensure!(conf.lines().any(|found| found == line), "no line `{line}` in it:\n{conf}");
    }
    Ok(conf.lines().collect::<Vec<_>>().join(" "))
}

fn logs(login: &Login, promise: &Promise) -> Result<String> {
    let names = login.run("ls /var/log/edeploy")?;
    for wanted in ["log", "plan", "facts"] {
        let found = names.lines().any(|name| name.contains(wanted));
        ensure!(found, "no {wanted} among `{}`", names.replace('\n', " "));
    }
    let empty = login.run("find /var/log/edeploy -type f -empty")?;
    ensure!(empty.is_empty(), "empty: {empty}");
    for secret in &promise.secrets {
        ensure!(!secret.contains('\''), "a secret of the lab cannot hold a quote");
        let found = login.run(&format!("grep -rlF -- '{secret}' /var/log/edeploy || true"))?;
        ensure!(found.is_empty(), "a secret of the CMDB stands in {found}");
    }
    Ok(names.replace('\n', " "))
}

fn boot_loader(login: &Login, promise: &Promise) -> Result<String> {
    let firmware = login.run("test -d /sys/firmware/efi && echo uefi || echo bios")?;
    match promise.firmware {
        Firmware::Bios => {
            ensure!(firmware == "bios", "the machine was started by {firmware}");
            Ok("GRUB, started by the BIOS".to_owned())
        }
        Firmware::Uefi => {
            ensure!(firmware == "uefi", "the machine was started by {firmware}");
            let esp = login.run("findmnt --noheadings --output FSTYPE --mountpoint /boot/efi")?;
            ensure!(esp == "vfat", "/boot/efi is `{esp}`");
            // FAT keeps no case that firmware would look at.
            let files = login.run("find /boot/efi/EFI -type f")?.to_lowercase();
            ensure!(files.contains("/efi/boot/bootx64.efi"), "no fallback path in:\n{files}");
            let entries = login.run("efibootmgr -v")?;
            ensure!(
                entries
                    .lines()
                    .any(|l| l.starts_with("Boot0") && l.to_lowercase().contains("grub")),
                "no boot entry leads to GRUB:\n{entries}"
            );
            Ok("GRUB for EFI, with a boot entry and the fallback path".to_owned())
        }
    }
}

fn edeploy(login: &Login, _: &Promise) -> Result<String> {
    let answers = [("version", VERSION), ("role", ROLE), ("profile", PROFILE)];
    for (command, wanted) in answers {
        let answer = login.run(&format!("edeploy {command}"))?;
        ensure!(answer == wanted, "`edeploy {command}` says `{answer}`, not `{wanted}`");
    }
    let list = login.run("edeploy list")?;
    let [next, _] = NEXT_VERSIONS;
    ensure!(list == next, "`edeploy list` does not know {next}: {list}");
    Ok(format!("{VERSION} {ROLE} {PROFILE}; list: {}", list.replace('\n', " ")))
}

fn units(login: &Login, _: &Promise) -> Result<String> {
    // Waits until the machine has come up; `degraded` has a failed unit.
    let state = login.run("systemctl is-system-running --wait || true")?;
    let failed = login.run("systemctl list-units --failed --plain --no-legend")?;
    ensure!(failed.is_empty(), "failed units:\n{failed}");
    ensure!(state == "running", "the system is `{state}`");
    Ok(format!("{state}, none failed"))
}
