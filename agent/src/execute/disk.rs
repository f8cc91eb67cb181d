//! Disks: clearing, partition tables and file systems, as commands of the system's own tools.

use std::fmt::Write;
use std::time::Duration;

use specs::plan::{Filesystem, Partition, PartitionKind, Plan, Table};

use super::op::Op;
use super::system::SystemCall;
use crate::world::{Cmd, Tool};

/// Takes a disk out of use and erases what is on it.
pub(super) fn clear(disk: &str) -> Vec<Op> {
    let wipe = Cmd::new(Tool::Wipefs, &["--all", "--force", disk])
        .why(format!("erase all signatures of {disk}"));
    vec![
        Op::Release { disk: disk.to_owned() },
        Op::System(SystemCall::Claim { disk: disk.to_owned() }),
        Op::ForgetPartitions { disk: disk.to_owned() },
        Op::Run(wipe),
        Op::System(SystemCall::ZeroEnds { disk: disk.to_owned() }),
        Op::SettleUdev,
    ]
}

/// What makes sure that nothing on the plan's disks boots after a failure: boot code and tables
/// go, and with them the kernel's idea of partitions.
pub(super) fn clearing(plan: &Plan) -> Vec<Op> {
    let mut disks: Vec<&str> = Vec::new();
    for disk in plan.steps.iter().filter_map(|step| step.action.destroys()) {
        if !disks.contains(&disk) {
            disks.push(disk);
        }
    }
    let zero = |disk: &str| Op::System(SystemCall::ZeroEnds { disk: disk.to_owned() });
    disks.into_iter().map(zero).chain([Op::System(SystemCall::Sync)]).collect()
}

/// Writes a partition table and waits for the nodes of its partitions.
pub(super) fn write_table(
    disk: &str,
    table: &Table,
    partitions: &[Partition],
    deadline: Duration,
) -> Vec<Op> {
    let sfdisk = Cmd::new(
        Tool::Sfdisk,
        &[
            "--quiet",
            "--wipe",
            "always",
            "--wipe-partitions",
            "always",
            // Telling is left to udev or partx, which also works where the kernel does not scan.
            "--no-reread",
            "--no-tell-kernel",
            disk,
        ],
    )
    .stdin(sfdisk_script(table, partitions))
    .why(format!("write the partition table of {disk}"));
    let mut ops = vec![Op::Run(sfdisk)];
    if !partitions.is_empty() {
        let (disk, partitions) = (disk.to_owned(), partitions.to_vec());
        ops.push(Op::ShowPartitions { disk, partitions, deadline });
    }
    ops
}

/// The table in the language of `sfdisk(8)`, section "input formats".
fn sfdisk_script(table: &Table, partitions: &[Partition]) -> String {
    let mut script = match table {
        Table::Gpt { id } => format!("label: gpt\nlabel-id: {id}\nunit: sectors\n"),
        Table::Msdos { id } => format!("label: dos\nlabel-id: {id:#010x}\nunit: sectors\n"),
    };
    for partition in partitions {
        let Partition { number, start, sectors, kind, label, id, active } = partition;
        let code = type_code(table, *kind);
        // Writing to a String cannot fail.
        let _ = write!(script, "{number}: start={start}, size={sectors}, type={code}");
        if let Some(id) = id {
            let _ = write!(script, ", uuid={id}");
        }
        if *active {
            script.push_str(", bootable");
        }
        if let Some(label) = label {
            let _ = write!(script, ", name=\"{}\"", escape_name(label));
        }
        script.push('\n');
    }
    script
}

/// Type of a partition, by what it is for.
fn type_code(table: &Table, kind: PartitionKind) -> &'static str {
    match table {
        Table::Gpt { .. } => match kind {
            PartitionKind::Linux => "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
            PartitionKind::Swap => "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F",
            PartitionKind::Esp => "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
            PartitionKind::BiosBoot => "21686148-6449-6E6F-744E-656564454649",
            PartitionKind::Raid => "A19D880F-05FC-4D3B-A006-743F0F84911E",
            PartitionKind::Lvm => "E6D6D379-F507-44C2-A23C-238F2A3DF928",
        },
        Table::Msdos { .. } => match kind {
            // MBR has no BIOS boot partition; a lint refuses it.
            PartitionKind::Linux | PartitionKind::BiosBoot => "83",
            PartitionKind::Swap => "82",
            PartitionKind::Esp => "ef",
            PartitionKind::Raid => "fd",
            PartitionKind::Lvm => "8e",
        },
    }
}

/// sfdisk reads `\xHH` inside quotes.
fn escape_name(name: &str) -> String {
    let mut escaped = String::new();
    for character in name.chars() {
        if matches!(character, '"' | '\\' | '`' | '$') || character.is_control() {
            let _ = write!(escaped, "\\x{:02x}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Makes a file system or swap area with its identifier and label.
pub(super) fn make_filesystem(
    device: &str,
    filesystem: &Filesystem,
    label: Option<&str>,
    options: &[String],
) -> Vec<Op> {
    let (tool, id, label_option): (Tool, Vec<String>, &str) = match filesystem {
        Filesystem::Ext4(id) => (Tool::MkfsExt4, words(&["-F", "-q", "-U", id.as_str()]), "-L"),
        Filesystem::Xfs(id) => {
            (Tool::MkfsXfs, words(&["-f", "-q", "-m", &format!("uuid={id}")]), "-L")
        }
        Filesystem::Btrfs(id) => (Tool::MkfsBtrfs, words(&["-f", "-q", "-U", id.as_str()]), "-L"),
        Filesystem::Vfat(id) => {
            (Tool::MkfsFat, words(&["-F", "32", "-i", &id.as_str().replace('-', "")]), "-n")
        }
        Filesystem::Swap(id) => (Tool::Mkswap, words(&["-f", "-U", id.as_str()]), "-L"),
    };
    let mut args = id;
    if let Some(label) = label {
        args.extend(words(&[label_option, label]));
    }
    args.extend(options.iter().cloned());
    args.push(device.to_owned());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let why = format!("make {} on {device}", filesystem.kind());
    // udev reads the new signature and makes the links below /dev/disk.
    vec![Op::Run(Cmd::new(tool, &args).why(why)), Op::SettleUdev]
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
