//! What every installed system needs to start: fstab, host name, hosts, kernel arguments.

use std::fmt::Write as _;

use super::disks::Volume;
use super::network::ResolvedInterface;
use super::{PlanError, Planner, Problem};
use crate::plan::{File, Filesystem};

/// The first line of every file written here.
const HEADER: &str = "# Written by edeploy at installation.\n";

/// A file of root's that everyone may read.
pub(super) fn file(path: String, content: String) -> File {
    File { path, content, mode: 0o644, uid: 0, gid: 0 }
}

/// The files of a system with these file systems and interfaces.
pub(super) fn files(
    hostname: &str,
    volumes: &[&Volume],
    mounts: &[&Volume],
    interfaces: &[ResolvedInterface],
    kernel_args: &[String],
) -> Vec<File> {
    let mut files = vec![
        file("/etc/fstab".to_owned(), fstab(volumes, mounts)),
        file("/etc/hostname".to_owned(), format!("{hostname}\n")),
        file("/etc/hosts".to_owned(), hosts(hostname, interfaces)),
    ];
    if !kernel_args.is_empty() {
        let path = "/etc/default/grub.d/50-edeploy.cfg";
        files.push(file(path.to_owned(), grub_defaults(kernel_args)));
    }
    files
}

/// Mounts, parents first, then swap; everything by UUID.
fn fstab(volumes: &[&Volume], mounts: &[&Volume]) -> String {
    let mut text = format!("{HEADER}# file system, mount point, type, options, dump, pass\n");
    for volume in mounts {
        let path = volume.mount.as_deref().unwrap_or_default();
        let mut options = volume.mount_options.clone();
        let ext4 = matches!(volume.filesystem, Filesystem::Ext4(_));
        if path == "/" && ext4 && !options.iter().any(|option| option.starts_with("errors=")) {
            options.push("errors=remount-ro".to_owned());
        }
        if options.is_empty() {
            options.push("defaults".to_owned());
        }
        // XFS and Btrfs check themselves when they are mounted.
        let pass = match (&volume.filesystem, path) {
            (Filesystem::Xfs(_) | Filesystem::Btrfs(_), _) => 0,
            (_, "/") => 1,
            _ => 2,
        };
        let (id, kind) = (volume.filesystem.id(), volume.filesystem.kind());
        let _ = writeln!(text, "UUID={id} {path} {kind} {} 0 {pass}", options.join(","));
    }
    for volume in volumes {
        if let Filesystem::Swap(id) = &volume.filesystem {
            let _ = writeln!(text, "UUID={id} none swap sw 0 0");
        }
    }
    text
}

/// The machine knows its own name without a name server.
fn hosts(hostname: &str, interfaces: &[ResolvedInterface]) -> String {
    let address = interfaces.iter().find_map(|interface| interface.address);
    let address = address.map_or_else(|| "127.0.1.1".to_owned(), |a| a.addr().to_string());
    let names = match hostname.split_once('.') {
        Some((short, _)) => format!("{hostname} {short}"),
        None => hostname.to_owned(),
    };
    format!(
        "127.0.0.1 localhost\n{address} {names}\n\n\
         ::1 localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n"
    )
}

/// Added to the role's own arguments. With a serial console GRUB itself shows there as well.
fn grub_defaults(kernel_args: &[String]) -> String {
    let arguments = kernel_args.join(" ");
    let mut text = format!(
        "{HEADER}GRUB_CMDLINE_LINUX=\"${{GRUB_CMDLINE_LINUX:+$GRUB_CMDLINE_LINUX }}{arguments}\"\n"
    );
    if let Some((unit, speed)) = kernel_args.iter().find_map(|arg| serial_console(arg)) {
        let _ = writeln!(text, "GRUB_TERMINAL=\"console serial\"");
        let _ = writeln!(text, "GRUB_SERIAL_COMMAND=\"serial --unit={unit} --speed={speed}\"");
    }
    text
}

/// Unit and speed of `console=ttyS0,115200n8`.
fn serial_console(argument: &str) -> Option<(u8, u32)> {
    let (unit, options) = argument.strip_prefix("console=ttyS")?.split_once(',')?;
    let digits = options.find(|c: char| !c.is_ascii_digit()).unwrap_or(options.len());
    Some((unit.parse().ok()?, options[..digits].parse().ok()?))
}

/// The kernel's arguments, each one word. They end up in a file that a shell reads.
pub(super) fn kernel_args(planner: &Planner<'_>) -> Result<Vec<String>, PlanError> {
    let arguments = planner.configure.machine.kernel_args.iter().enumerate();
    arguments
        .map(|(position, text)| {
            let at = format!("kernel_args[{position}]");
            let text = planner.line(&planner.scope, &at, text)?;
            let plain = text.chars().all(|c| c.is_ascii_graphic() && !"\"'`$\\".contains(c));
            if plain && !text.is_empty() {
                return Ok(text);
            }
            Err(planner.error(&at, Problem::KernelArgument { text }))
        })
        .collect()
}

/// RFC 1123, and not longer than Linux keeps.
pub(super) fn is_hostname(name: &str) -> bool {
    name.len() <= 64
        && name.split('.').all(|part| {
            (1..=63).contains(&part.len())
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                && !part.starts_with('-')
                && !part.ends_with('-')
        })
}

/// Whether a file system can be mounted here, and fstab can say so.
pub(super) fn is_mount_point(path: &str) -> bool {
    path == "/"
        || (is_file_path(path)
            && path.chars().all(|c| c.is_ascii_alphanumeric() || "/._+@:-".contains(c)))
}

/// Whether a file can be written here: absolute, plain, and on a disk.
pub(super) fn is_file_path(path: &str) -> bool {
    let Some(relative) = path.strip_prefix('/') else { return false };
    let mut parts = relative.split('/');
    let volatile =
        ["proc", "sys", "dev", "run"].contains(&parts.clone().next().unwrap_or_default());
    !volatile && parts.all(|part| !["", ".", ".."].contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_rfc_1123() {
        let long = "a".repeat(64);
        for good in ["host03", "3com", "host03.example.org", "a-b"] {
            assert!(is_hostname(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a..b", "a.", "a_b", "a b", "é", "a\n", long.as_str()] {
            assert!(!is_hostname(bad), "{bad}");
        }
    }

    #[test]
    fn paths_are_absolute_and_plain() {
        for good in ["/", "/boot", "/boot/efi", "/srv/vdb-1"] {
            assert!(is_mount_point(good), "{good}");
        }
        for bad in ["", "srv", "//", "/srv/", "/a/../b", "/a b", "/proc", "/run/x", "/a\nb", "/é"]
        {
            assert!(!is_mount_point(bad), "{bad}");
        }
        assert!(is_file_path("/etc/a file é"));
        assert!(is_file_path("/running"));
        assert!(!is_file_path("/"));
    }

    #[test]
    fn grub_follows_the_serial_console() {
        assert_eq!(serial_console("console=ttyS1,9600"), Some((1, 9600)));
        assert_eq!(serial_console("console=ttyS0,115200n8"), Some((0, 115_200)));
        assert_eq!(serial_console("console=tty0"), None);
        assert_eq!(serial_console("console=ttyS0"), None);
    }
}
