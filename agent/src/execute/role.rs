//! What the role tree on the server is: how large, and whether a disk with it would boot.
//!
//! Asked before the machine itself is looked at, as a step of its own: how long it takes is the
//! server's affair. One run of rsync transfers nothing and tells the size; another one names the
//! few files that decide whether a machine starts, since to read the names of all files costs
//! more than a second connection; a third one fetches the tables of its kernels' drivers (see
//! [`drivers`]). An archive tells its size alone: what is in it is only known to
//! whoever reads all of it. What to make of the answers, [`super::preflight`] decides.

mod drivers;

use std::fs;

use specs::plan::{Action, BootTarget, Plan};

use super::op::Op;
use super::preflight::{Offer, PreflightError};
use super::{Executor, Installation, rsync, tree};
use crate::archive;
use crate::world::{Cmd, SEARCH_PATH};

/// Where the tables of drivers lie while they are read.
const TABLES: &str = "/run/edeploy-role-tables";

/// What a tree holds of what a machine starts by.
#[derive(Debug, Default, PartialEq, Eq)]
struct Boots {
    kernel: bool,
    installer: bool,
    configurer: bool,
    modules: bool,
}

/// What is to be fetched, if it is there and boots; nothing for a plan that fetches nothing.
pub(super) fn look(
    executor: &mut Executor<'_>,
    installation: &Installation<'_>,
) -> Result<Option<Offer>, PreflightError> {
    let plan = installation.plan;
    let fetches = |step: &specs::plan::Step| matches!(step.action, Action::FetchTree { .. });
    if !plan.steps.iter().any(fetches) {
        return Ok(None);
    }
    if let Some(Op::Unpack(fetch)) = tree::fetch(installation, &plan.role).first() {
        let archive::Found { url, bytes, unpacked } =
            fetch.look().map_err(PreflightError::Archive)?;
        return Ok(Some(Offer { url, fetched: bytes, content: unpacked.unwrap_or(bytes) }));
    }
    let url = installation.origin.tree_url(&plan.role);
    let folder = format!("{}/", installation.target.display());
    let mut ask = |cmd: Cmd| {
        let answer = executor.runner.run(&cmd);
        answer.map_err(|source| PreflightError::Source { url: url.clone(), source })
    };
    let stats = ask(rsync::measure(&url, &folder))?.stdout;
    let names = ask(rsync::list(&url, &wanted()))?.stdout;
    ask(rsync::fetch_some(&url, &drivers::tables(), TABLES))?;
    let mut missing = drivers::missing(&executor.root, &plan.disks, TABLES);
    // They take room in memory, which the installation needs; a folder that stays harms nothing.
    let _ = executor.root.resolve(TABLES).and_then(fs::remove_dir_all);
    let Some(size) = rsync::total_size(&stats) else {
        let printed = stats.trim().chars().take(200).collect();
        return Err(PreflightError::Unmeasured { url, printed });
    };
    let platform = platform(plan);
    let mut boots = Boots::default();
    names.lines().filter_map(rsync::listed).for_each(|path| boots.see(path, platform));
    missing.splice(0..0, boots.missing(platform));
    if missing.is_empty() {
        Ok(Some(Offer { url, fetched: size, content: size }))
    } else {
        Err(PreflightError::Unbootable { url, missing })
    }
}

/// Patterns of the paths that [`Boots::see`] wants to see.
fn wanted() -> Vec<String> {
    let programs = SEARCH_PATH.split(':').flat_map(|folder| {
        ["install", "mkconfig"].map(|action| format!("{folder}/grub*-{action}"))
    });
    let files = [
        "/boot/vmlinuz*",
        "/boot/kernel-*",
        "/vmlinuz*",
        "/usr/lib/grub/*/modinfo.sh",
        "/usr/share/grub2/*/modinfo.sh",
    ];
    programs.chain(files.map(str::to_owned)).collect()
}

/// What GRUB calls the way in which the planned machine starts.
fn platform(plan: &Plan) -> &'static str {
    let uefi = plan.steps.iter().any(|step| {
        matches!(step.action, Action::InstallBootLoader { target: BootTarget::Uefi { .. } })
    });
    if uefi { "x86_64-efi" } else { "i386-pc" }
}

impl Boots {
    /// Takes in the path of a file, relative to the tree.
    fn see(&mut self, path: &str, platform: &str) {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        // Where `grub-mkconfig` looks for kernels; a link is as good as a file.
        self.kernel |= ["", "boot"].contains(&folder)
            && (name.starts_with("vmlinuz") || name.starts_with("kernel-"));
        let is_program = SEARCH_PATH.split(':').any(|known| known.trim_matches('/') == folder);
        let is = |names: [&str; 2]| is_program && names.contains(&name);
        self.installer |= is(["grub-install", "grub2-install"]);
        self.configurer |= is(["grub-mkconfig", "grub2-mkconfig"]);
        self.modules |= name == "modinfo.sh" && folder.rsplit('/').next() == Some(platform);
    }

    /// What is not there, with the package of Debian that has it.
    fn missing(&self, platform: &str) -> Vec<String> {
        let modules = match platform {
            "i386-pc" => "GRUB for BIOS (/usr/lib/grub/i386-pc, package grub-pc-bin)",
            _ => "GRUB for UEFI (/usr/lib/grub/x86_64-efi, package grub-efi-amd64-bin)",
        };
        let wanted = [
            (self.kernel, "kernel (/boot/vmlinuz-*, package linux-image-amd64)"),
            (self.installer, "grub-install (package grub2-common)"),
            (self.configurer, "grub-mkconfig (package grub-common)"),
            (self.modules, modules),
        ];
        wanted.into_iter().filter(|(is, _)| !is).map(|(_, what)| what.to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(paths: &[&str], platform: &str, missing: &[&str]) {
        let mut boots = Boots::default();
        paths.iter().for_each(|path| boots.see(path, platform));
        let found = boots.missing(platform);
        let starts = |(found, wanted): (&String, &&str)| found.starts_with(*wanted);
        assert_eq!(found.len(), missing.len(), "{found:?}");
        assert!(found.iter().zip(missing).all(starts), "{found:?} is not {missing:?}");
    }

    const DEBIAN: [&str; 6] = [
        "boot/",
        "boot/vmlinuz-6.1.0-56-amd64",
        "usr/sbin/grub-install",
        "usr/sbin/grub-mkconfig",
        "usr/lib/grub/i386-pc/modinfo.sh",
        "var/lib/vmlinuz",
    ];

    #[test]
    fn a_tree_boots_by_its_kernel_and_the_grub_of_the_firmware() {
        let fedora = [
            "vmlinuz",
            "sbin/grub2-install",
            "usr/sbin/grub2-mkconfig",
            "usr/lib/grub/x86_64-efi/modinfo.sh",
        ];
        check(&DEBIAN, "i386-pc", &[]);
        check(&DEBIAN, "x86_64-efi", &["GRUB for UEFI"]);
        check(&fedora, "x86_64-efi", &[]);
        check(&fedora, "i386-pc", &["GRUB for BIOS"]);
        check(&DEBIAN[4..], "i386-pc", &["kernel", "grub-install", "grub-mkconfig"]);
        check(&["usr/share/doc/grub-install"], "i386-pc", &["kernel", "grub-i", "grub-m", "GRUB"]);
    }
}
