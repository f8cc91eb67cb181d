//! The boot loader: GRUB of the installed tree, run inside it.
//!
//! `grub-install` comes first and `grub-mkconfig` second: without `grub.cfg` GRUB stops at its
//! prompt, so that the very last file written is what makes the disk boot. Under UEFI the
//! network stays where it was in the boot order.

use specs::plan::{Action, BootTarget, PartitionKind, Plan, partition_device};

use super::Installation;
use super::op::Op;
use super::target::in_chroot;
use crate::world::Cmd;

/// Folder of the EFI system partition that GRUB is put into.
const BOOTLOADER_ID: &str = "edeploy";

/// Where `grub-mkconfig` and `grub2-mkconfig` write.
pub(crate) const GRUB_CONFIGS: [&str; 2] = ["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"];

pub(super) fn install(installation: &Installation<'_>, target: &BootTarget) -> Vec<Op> {
    let plan = installation.plan;
    let mut inner = Vec::new();
    if let Some(device) = root_device(plan) {
        let uuid = plan.root.to_string();
        inner.push(Op::LinkByUuid { uuid, device: device.to_owned() });
    }
    let mut after = Vec::new();
    match target {
        BootTarget::Bios { disk } => {
            inner.push(grub_install(installation, &["--target=i386-pc", disk]));
        }
        BootTarget::Uefi { esp, entry } => {
            let folder = format!("--efi-directory={esp}");
            let id = format!("--bootloader-id={BOOTLOADER_ID}");
            let common = ["--target=x86_64-efi", &folder, "--no-nvram"];
            inner.push(grub_install(installation, &[&common[..], &[&id]].concat()));
            // Firmware that forgot its entries looks for EFI/BOOT.
            inner.push(grub_install(installation, &[&common[..], &["--removable"]].concat()));
            if let Some((disk, partition)) = esp_partition(plan, esp) {
                after.push(Op::AddBootEntry {
                    disk: disk.to_owned(),
                    partition,
                    label: entry.clone(),
                    loader: format!(r"\EFI\{BOOTLOADER_ID}\grubx64.efi"),
                });
            }
        }
    }
    let configure = |prefix: &str, path: &str| {
        Cmd::inside(&installation.target, &format!("{prefix}-mkconfig"), &["-o", path])
            .why("write the configuration of the boot loader")
    };
    let [grub, grub2] = GRUB_CONFIGS;
    inner.push(Op::RunFirst(vec![configure("grub", grub), configure("grub2", grub2)]));
    inner.push(Op::Expect {
        paths: GRUB_CONFIGS.map(str::to_owned).to_vec(),
        text: format!("root=UUID={}", plan.root),
    });
    let mut ops = in_chroot(installation, inner);
    ops.extend(after);
    ops
}

/// `grub-install` under either of its names.
fn grub_install(installation: &Installation<'_>, args: &[&str]) -> Op {
    let command =
        |name: &str| Cmd::inside(&installation.target, name, args).why("install the boot loader");
    Op::RunFirst(vec![command("grub-install"), command("grub2-install")])
}

/// The device that holds the root file system.
fn root_device(plan: &Plan) -> Option<&str> {
    plan.steps.iter().find_map(|step| match &step.action {
        Action::MakeFilesystem { device, filesystem, .. }
            if filesystem.id() == plan.root.as_str() =>
        {
            Some(device.as_str())
        }
        _ => None,
    })
}

/// Disk and number of the EFI system partition that is mounted at `esp`.
pub(super) fn esp_partition<'a>(plan: &'a Plan, esp: &str) -> Option<(&'a str, u32)> {
    let device = plan.steps.iter().find_map(|step| match &step.action {
        Action::Mount { device, path, .. } if path == esp => Some(device.as_str()),
        _ => None,
    })?;
    plan.steps.iter().find_map(|step| {
        let Action::WriteTable { disk, partitions, .. } = &step.action else { return None };
        partitions
            .iter()
            .find(|p| p.kind == PartitionKind::Esp && partition_device(disk, p.number) == device)
            .map(|partition| (disk.as_str(), partition.number))
    })
}

/// What `efibootmgr` prints, as far as it is needed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct BootEntries {
    /// Numbers, as four hexadecimal digits, in the order in which they are tried.
    pub(super) order: Vec<String>,
    /// Number and label of every entry.
    pub(super) entries: Vec<(String, String)>,
}

impl BootEntries {
    /// Reads the output of `efibootmgr` without arguments.
    pub(super) fn parse(text: &str) -> BootEntries {
        let mut found = BootEntries::default();
        for line in text.lines() {
            if let Some(order) = line.strip_prefix("BootOrder:") {
                found.order = order.trim().split(',').map(str::to_owned).collect();
                found.order.retain(|number| !number.is_empty());
            } else if let Some((number, rest)) =
                line.strip_prefix("Boot").and_then(|rest| rest.split_at_checked(4))
                && number.chars().all(|digit| digit.is_ascii_hexdigit())
            {
                // `* label`, then, in newer versions, a tab and the device path.
                let label = rest.trim_start_matches('*').split('\t').next().unwrap_or_default();
                found.entries.push((number.to_owned(), label.trim().to_owned()));
            }
        }
        found
    }

    /// The numbers of the entries with this label.
    pub(super) fn labelled<'a>(&'a self, label: &str) -> Vec<&'a str> {
        let with_label = self.entries.iter().filter(|(_, name)| name == label);
        with_label.map(|(number, _)| number.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_entries_are_read_in_both_notations() {
        let text = "BootCurrent: 0001\nTimeout: 3 seconds\nBootOrder: 0001,0000,0A02\n\
                    Boot0000* UiApp\nBoot0001* UEFI PXEv4 (MAC:525400123456)\tPciRoot(0x0)\n\
                    Boot0A02  edeploy\tHD(1,GPT)\n";
        let found = BootEntries::parse(text);
        assert_eq!(found.order, ["0001", "0000", "0A02"]);
        assert_eq!(found.entries[1].1, "UEFI PXEv4 (MAC:525400123456)");
        assert_eq!(found.labelled("edeploy"), ["0A02"]);
        assert_eq!(BootEntries::parse("No BootOrder is set; firmware").order, Vec::<String>::new());
    }
}
