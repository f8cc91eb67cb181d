//! A plan for people: one screen with the disks, their partitions and the steps. What a dry run
//! shows is what is executed, because both read the same value.

use std::fmt;

use crate::facts::Firmware;
use crate::plan::{
    Action, BootTarget, Command, DiskSize, Filesystem, PartitionKind, Plan, PlannedDisk, Table,
    partition_device,
};
use crate::units::Bytes;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let firmware = match self.firmware {
            Firmware::Bios => "BIOS",
            Firmware::Uefi => "UEFI",
        };
        let (profile, role) = (&self.profile, &self.role);
        writeln!(f, "{} as {profile}: {} {}, {firmware}", self.hostname, role.name, role.version)?;
        for disk in &self.disks {
            writeln!(f)?;
            self.describe_disk(f, disk)?;
        }
        writeln!(f, "\nsteps")?;
        let width = self.steps.iter().map(|step| step.id.chars().count()).max().unwrap_or(0);
        for (number, step) in (1..).zip(&self.steps) {
            let what = self.hide_secrets(describe_action(&step.action));
            let id = self.hide_secrets(step.id.clone());
            writeln!(f, "{}", format!("  {number:>2}  {id:<width$}  {what}").trim_end())?;
        }
        Ok(())
    }
}

impl Plan {
    fn describe_disk(&self, f: &mut fmt::Formatter<'_>, disk: &PlannedDisk) -> fmt::Result {
        let size = match disk.size {
            DiskSize::Exact(bytes) => bytes.to_string(),
            DiskSize::AtLeast(bytes) => format!("at least {bytes}"),
        };
        write!(f, "{}  ERASED  {size}, sectors of {}", disk.path, disk.sector_size.get())?;
        if let Some(serial) = &disk.serial {
            write!(f, ", serial {}", serial.escape_debug())?;
        }
        if let Some(wwn) = &disk.wwn {
            write!(f, ", {}", wwn.escape_debug())?;
        }
        writeln!(f)?;
        let written = self.steps.iter().find_map(|step| match &step.action {
            Action::WriteTable { disk: path, table, partitions } if *path == disk.path => {
                Some((table, partitions))
            }
            _ => None,
        });
        let Some((table, partitions)) = written else { return Ok(()) };
        match table {
            Table::Gpt { id } => writeln!(f, "  gpt {id}")?,
            Table::Msdos { id } => writeln!(f, "  msdos 0x{id:08x}")?,
        }
        for partition in partitions {
            let bytes = |sectors: u64| {
                Bytes(sectors.saturating_mul(u64::from(disk.sector_size.get()))).to_string()
            };
            let device = partition_device(&disk.path, partition.number);
            let what = self.describe_use(&device, partition.kind);
            let label = partition.label.as_deref().unwrap_or_default();
            let row = format!(
                "  {device:<16} {:>10} {:>12} {:>12}  {label:<12} {what}",
                bytes(partition.sectors),
                partition.start,
                partition.sectors,
            );
            writeln!(f, "{}", row.trim_end())?;
        }
        Ok(())
    }

    /// What is made of a partition, in words.
    fn describe_use(&self, device: &str, kind: PartitionKind) -> String {
        let filesystem = self.steps.iter().find_map(|step| match &step.action {
            Action::MakeFilesystem { device: made, filesystem, .. } if made == device => {
                Some(filesystem)
            }
            _ => None,
        });
        let mount = self.steps.iter().find_map(|step| match &step.action {
            Action::Mount { device: mounted, path, .. } if mounted == device => Some(path.as_str()),
            _ => None,
        });
        match (filesystem, mount) {
            (Some(filesystem @ Filesystem::Swap(id)), _) => format!("{} {id}", filesystem.kind()),
            (Some(filesystem), Some(mount)) => {
                format!("{} {mount} {}", filesystem.kind(), filesystem.id())
            }
            (Some(filesystem), None) => format!("{} {}", filesystem.kind(), filesystem.id()),
            (None, _) => match kind {
                PartitionKind::BiosBoot => "BIOS boot".to_owned(),
                PartitionKind::Raid => "RAID".to_owned(),
                PartitionKind::Lvm => "LVM".to_owned(),
                PartitionKind::Linux | PartitionKind::Swap | PartitionKind::Esp => {
                    "not formatted".to_owned()
                }
            },
        }
    }

    fn hide_secrets(&self, mut text: String) -> String {
        for secret in self.secrets.iter().filter(|secret| !secret.is_empty()) {
            text = text.replace(secret.as_str(), "********");
        }
        text
    }
}

/// What a step does beyond what its name says, on one line.
fn describe_action(action: &Action) -> String {
    match action {
        Action::ClearDisk { .. } => "erases every signature on it".to_owned(),
        Action::WriteTable { partitions, .. } => {
            let plural = if partitions.len() == 1 { "" } else { "s" };
            format!("{} partition{plural}", partitions.len())
        }
        Action::MakeFilesystem { device, filesystem, options, .. } => {
            let options: String = options.iter().map(|option| format!(" {option}")).collect();
            format!("{} on {device}{options}", filesystem.kind())
        }
        Action::Mount { device, options, .. } if options.is_empty() => device.clone(),
        Action::Mount { device, options, .. } => format!("{device} with {options}"),
        Action::FetchTree { role } => format!("{}/{}", role.version, role.name),
        Action::WriteFile { file } => {
            format!(
                "{} bytes, mode {:04o}, owner {}:{}",
                file.content.len(),
                file.mode,
                file.uid,
                file.gid
            )
        }
        Action::RecordInstallation => "/var/lib/edeploy/conf and /var/log/edeploy".to_owned(),
        Action::Run { command, chroot, .. } => {
            let place = if *chroot { "in the tree" } else { "in the initrd" };
            match command {
                Command::Arguments(arguments) => format!("{place}: {}", shell_like(arguments)),
                Command::Script { name, .. } => format!("{place}: script {name}"),
            }
        }
        Action::InstallBootLoader { target: BootTarget::Bios { disk } } => {
            format!("GRUB in the first sectors of {disk}")
        }
        Action::InstallBootLoader { target: BootTarget::Uefi { esp, entry } } => {
            format!("GRUB in {esp}, boot entry `{entry}`")
        }
    }
}

/// Arguments as one would type them; only for reading, never for a shell.
fn shell_like(arguments: &[String]) -> String {
    let quoted = arguments.iter().map(|argument| {
        let plain = !argument.is_empty()
            && argument.chars().all(|c| c.is_ascii_alphanumeric() || "/._+=:,@%-".contains(c));
        if plain { argument.clone() } else { format!("{argument:?}") }
    });
    quoted.collect::<Vec<String>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_told_apart_by_quotes_where_they_need_them() {
        for (arguments, expected) in [
            (&["systemctl", "enable", "ssh.service"][..], "systemctl enable ssh.service"),
            (&["sh", "-c", "echo a", ""], "sh -c \"echo a\" \"\""),
            (&["a;b", "/x_y+z=1:2,3@4%5"], "\"a;b\" /x_y+z=1:2,3@4%5"),
        ] {
            let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
            assert_eq!(shell_like(&arguments), expected);
        }
    }
}
