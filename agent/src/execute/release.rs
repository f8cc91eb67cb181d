//! Takes a disk out of use: the commands that stop what lies on it, from the top down.
//!
//! Reads `/sys` and `/proc/swaps` below a [`Root`] and returns commands; runs nothing. Only
//! devices built on this very disk are touched. An array or volume group that also has members
//! on other disks is stopped, and nothing on those is written.

use super::device::{kernel_name, partitions, stack};
use crate::world::{Cmd, Root, Tool};

/// The commands that stop what is on `disk` now, in order; none for an empty disk. They destroy
/// nothing.
pub(super) fn stopping(root: &Root, disk: &str) -> Vec<Cmd> {
    let name = kernel_name(disk);
    let devices = stack(root, name);
    let mut cmds = swap_areas(root, &devices);
    for device in devices.iter().rev() {
        cmds.extend(stop(root, device));
    }
    // Volumes of one group ask for it to be stopped once each; the first time stops them all.
    let mut once: Vec<Cmd> = Vec::new();
    for cmd in cmds {
        if !once.contains(&cmd) {
            once.push(cmd);
        }
    }
    once
}

/// The commands that erase the signatures of the partitions that `disk` has now, and make the
/// kernel forget them; none where there are none.
pub(super) fn forgetting(root: &Root, disk: &str) -> Vec<Cmd> {
    let name = kernel_name(disk);
    let mut cmds = Vec::new();
    let partitions = partitions(root, name);
    for partition in &partitions {
        let node = format!("/dev/{partition}");
        let cmd = Cmd::new(Tool::Wipefs, &["--all", "--force", &node])
            .why(format!("erase all signatures of {node}"));
        cmds.push(cmd);
    }
    if !partitions.is_empty() {
        let cmd = Cmd::new(Tool::Partx, &["--delete", disk])
            .why(format!("make the kernel forget the old partitions of {disk}"));
        cmds.push(cmd);
    }
    cmds
}

/// Takes the swap areas among the devices out of use.
fn swap_areas(root: &Root, devices: &[String]) -> Vec<Cmd> {
    let table = root.read_text("/proc/swaps").unwrap_or_default();
    let areas = table.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    areas
        .filter(|area| devices.iter().any(|device| is_node_of(root, area, device)))
        .map(|area| Cmd::new(Tool::Swapoff, &[area]).why(format!("take swap on {area} out of use")))
        .collect()
}

/// Whether a path of `/proc/swaps` (perhaps `/dev/mapper/…`) is this device.
fn is_node_of(root: &Root, path: &str, device: &str) -> bool {
    let resolved = root.resolve(path).ok();
    let by_link = resolved.as_deref().and_then(|path| path.file_name());
    path == format!("/dev/{device}") || by_link.is_some_and(|name| name == device)
}

/// What stops one device built on others; nothing for disks and partitions.
fn stop(root: &Root, device: &str) -> Vec<Cmd> {
    let folder = format!("/sys/class/block/{device}");
    if root.exists(&format!("{folder}/md")) {
        let node = format!("/dev/{device}");
        return vec![Cmd::new(Tool::Mdadm, &["--stop", &node]).why(format!("stop RAID {node}"))];
    }
    let Ok(mapper_name) = root.read_text(&format!("{folder}/dm/name")) else { return Vec::new() };
    let mapper_name = mapper_name.trim();
    let uuid = root.read_text(&format!("{folder}/dm/uuid")).unwrap_or_default();
    if uuid.starts_with("LVM-")
        && let Some(group) = volume_group(mapper_name)
    {
        let why = format!("deactivate volume group {group}");
        return vec![Cmd::new(Tool::Vgchange, &["--activate", "n", &group]).why(why)];
    }
    let why = format!("remove device-mapper device {mapper_name}");
    vec![Cmd::new(Tool::Dmsetup, &["remove", "--retry", mapper_name]).why(why)]
}

/// The volume group of a logical volume's device-mapper name: `group-volume`, in which dashes
/// of the names themselves are doubled.
fn volume_group(mapper_name: &str) -> Option<String> {
    let bytes = mapper_name.as_bytes();
    let mut position = 0;
    while position < bytes.len() {
        if bytes[position] == b'-' {
            if bytes.get(position + 1) != Some(&b'-') {
                return Some(mapper_name[..position].replace("--", "-"));
            }
            position += 1;
        }
        position += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn what_is_built_on_the_disk_goes_from_the_top_down() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        for (path, text) in [
            ("/sys/class/block/sda/size", "1"),
            ("/sys/class/block/sda/sda1/partition", "1"),
            ("/sys/class/block/sda/sda2/partition", "2"),
            ("/sys/class/block/sda1/holders/md0/x", ""),
            ("/sys/class/block/md0/md/level", "raid1"),
            ("/sys/class/block/md0/holders/dm-0/x", ""),
            ("/sys/class/block/dm-0/dm/name", "big--vg-root\n"),
            ("/sys/class/block/dm-0/dm/uuid", "LVM-abc\n"),
            ("/sys/class/block/sdb/sdb1/partition", "1"),
            (
                "/proc/swaps",
                "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n/dev/sdb1 partition 1 0 -3\n",
            ),
        ] {
            root.write(path, text.as_bytes(), 0o644, None).unwrap();
        }
        let cmds = [stopping(&root, "/dev/sda"), forgetting(&root, "/dev/sda")].concat();
        let lines: Vec<String> = cmds.iter().map(ToString::to_string).collect();
        expect![[r#"
            swapoff /dev/sda2
            vgchange --activate n big-vg
            mdadm --stop /dev/md0
            wipefs --all --force /dev/sda1
            wipefs --all --force /dev/sda2
            partx --delete /dev/sda"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn layers_decide_the_order_and_not_names() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        for (path, text) in [
            // A RAID of firmware: md127 is the container, md126 the volume in it.
            ("/sys/class/block/sda/holders/md126/x", ""),
            ("/sys/class/block/sda/holders/md127/x", ""),
            ("/sys/class/block/md126/md/metadata_version", "external:/md127/0\n"),
            ("/sys/class/block/md127/md/metadata_version", "external:imsm\n"),
            // An encrypted device on the volume; a RAID on that and on a partition of the volume.
            ("/sys/class/block/md126/md126p1/partition", "1"),
            ("/sys/class/block/md126p1/holders/md1/x", ""),
            ("/sys/class/block/md126/holders/dm-9/x", ""),
            ("/sys/class/block/dm-9/dm/name", "crypt\n"),
            ("/sys/class/block/dm-9/holders/md1/x", ""),
            ("/sys/class/block/md1/md/metadata_version", "1.2\n"),
        ] {
            root.write(path, text.as_bytes(), 0o644, None).unwrap();
        }
        let lines: Vec<String> =
            stopping(&root, "/dev/sda").iter().map(ToString::to_string).collect();
        expect![[r#"
            mdadm --stop /dev/md1
            dmsetup remove --retry crypt
            mdadm --stop /dev/md126
            mdadm --stop /dev/md127"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn an_empty_disk_needs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        assert_eq!(stopping(&root, "/dev/vda"), []);
        assert_eq!(forgetting(&root, "/dev/vda"), []);
    }
}
