//! Boots the system that is already on the disk: finds its root file system, reads which kernel
//! its boot loader would start, and loads that kernel with kexec.
//!
//! Nothing is written: the file systems are mounted read-only and their journals are not
//! replayed. The caller executes the loaded kernel (`reboot(LINUX_REBOOT_CMD_KEXEC)`), which
//! does not return.

mod grub;

use std::path::{Path, PathBuf};

use specs::units::Uuid;

pub use grub::{BootEntry, GrubError};

use crate::execute::{System, SystemCall, SystemError};
use crate::world::{Cmd, CmdError, Root, Runner, Tool};

/// Where the installed root file system is mounted while its kernel is read.
const FOLDER: &str = "/mnt/installed";

/// Where the configuration may be, in either distribution's way.
const CONFIGS: [&str; 2] = ["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"];

/// Why the installed system cannot be booted this way.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// No file system has the UUID.
    #[error("no disk of this machine holds the installed file system {uuid}")]
    NotFound {
        /// What was looked for.
        uuid: Uuid,
        /// What blkid said.
        #[source]
        source: CmdError,
    },
    /// It cannot be mounted.
    #[error("cannot mount the installed file system on {device}")]
    Mount {
        /// Device node.
        device: String,
        /// Why.
        #[source]
        source: SystemError,
    },
    /// A command failed.
    #[error("cannot {attempt}")]
    Command {
        /// What it was good for.
        attempt: String,
        /// Why.
        #[source]
        source: CmdError,
    },
    /// There is no configuration of a boot loader.
    #[error("the installed system on {device} has no grub.cfg: was its installation completed?")]
    NoConfiguration {
        /// Device node.
        device: String,
    },
    /// The configuration does not tell what to boot.
    #[error("cannot tell from `{}` what to boot", path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: GrubError,
    },
    /// Kernel or initrd are missing.
    #[error("`{}` named in grub.cfg is not there", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
}

/// Loads the kernel of the installed system whose root file system has this UUID: that of the
/// default entry, or of the first one whose kernel has the text of `kernel` in its name. `root`
/// is the machine. Returns what will be booted; nothing is left mounted.
pub fn load(
    runner: &mut dyn Runner,
    system: &mut dyn System,
    root: &Root,
    uuid: &Uuid,
    kernel: Option<&str>,
) -> Result<BootEntry, BootError> {
    let device = find(runner, uuid)?;
    let folder = root.folder().join(FOLDER.trim_start_matches('/'));
    let loaded = mount_and_load(runner, system, &folder, &device, kernel);
    let unmounted = system.call(&SystemCall::UnmountBelow(folder));
    let entry = loaded?;
    unmounted.map_err(|source| BootError::Mount { device, source })?;
    Ok(entry)
}

/// The device with this file system. The low-level probe: blkid's cache knows nothing here.
fn find(runner: &mut dyn Runner, uuid: &Uuid) -> Result<String, BootError> {
    let cmd = Cmd::new(Tool::Blkid, &["--cache-file", "/dev/null", "--uuid", uuid.as_str()]);
    let output =
        runner.run(&cmd).map_err(|source| BootError::NotFound { uuid: uuid.clone(), source })?;
    Ok(output.stdout.trim().to_owned())
}

fn mount_and_load(
    runner: &mut dyn Runner,
    system: &mut dyn System,
    folder: &Path,
    device: &str,
    kernel: Option<&str>,
) -> Result<BootEntry, BootError> {
    mount(runner, system, folder, device)?;
    let installed = Root::new(folder);
    if let Some(uuid) = boot_filesystem(&installed) {
        let device = find(runner, &uuid)?;
        mount(runner, system, &folder.join("boot"), &device)?;
    }
    let (path, text) = CONFIGS
        .iter()
        .find_map(|path| Some((*path, installed.read_text(path).ok()?)))
        .ok_or_else(|| BootError::NoConfiguration { device: device.to_owned() })?;
    let entry = grub::entry(&text, kernel)
        .map_err(|source| BootError::Configuration { path: PathBuf::from(path), source })?;
    let kernel = existing(&installed, &entry.kernel)?;
    let mut args = vec![
        "--load".to_owned(),
        // A kernel under lockdown takes signed files only, an old one knows no files.
        "--kexec-syscall-auto".to_owned(),
        kernel.display().to_string(),
        format!("--command-line={}", entry.arguments),
    ];
    for initrd in &entry.initrds {
        args.push(format!("--initrd={}", existing(&installed, initrd)?.display()));
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let attempt = "load the installed kernel with kexec";
    run(runner, &Cmd::new(Tool::Kexec, &args).why(attempt), attempt)?;
    Ok(entry)
}

/// The UUID of the file system that the installed system mounts at `/boot`, when that is one of
/// its own.
fn boot_filesystem(installed: &Root) -> Option<Uuid> {
    let fstab = installed.read_text("/etc/fstab").ok()?;
    fstab.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let (source, at) = (fields.next()?, fields.next()?);
        (at == "/boot").then(|| source.strip_prefix("UUID=")?.parse().ok()).flatten()
    })
}

/// Mounts read-only, with the option that keeps the file system from replaying its journal.
fn mount(
    runner: &mut dyn Runner,
    system: &mut dyn System,
    folder: &Path,
    device: &str,
) -> Result<(), BootError> {
    let args = ["--probe", "--match-tag", "TYPE", "--output", "value", device];
    let probed = run(runner, &Cmd::new(Tool::Blkid, &args), "probe the installed file system")?;
    let filesystem = probed.trim().to_owned();
    let options = match filesystem.as_str() {
        "ext4" | "ext3" => "ro,noload",
        "xfs" => "ro,norecovery,nouuid",
        "btrfs" => "ro,rescue=nologreplay",
        _ => "ro",
    };
    let call = SystemCall::Mount {
        source: device.to_owned(),
        folder: folder.to_owned(),
        filesystem,
        options: options.to_owned(),
    };
    system.call(&call).map_err(|source| BootError::Mount { device: device.to_owned(), source })
}

fn run(runner: &mut dyn Runner, cmd: &Cmd, attempt: &str) -> Result<String, BootError> {
    let output = runner.run(cmd);
    output
        .map(|output| output.stdout)
        .map_err(|source| BootError::Command { attempt: attempt.to_owned(), source })
}

/// The real path of a file that `grub.cfg` names. GRUB's paths begin at the file system that
/// holds `/boot`; when that is the root itself, both are the same.
fn existing(installed: &Root, path: &str) -> Result<PathBuf, BootError> {
    for candidate in [path.to_owned(), format!("/boot{path}")] {
        if installed.is_file(&candidate)
            && let Ok(path) = installed.resolve(&candidate)
        {
            return Ok(path);
        }
    }
    Err(BootError::Missing { path: PathBuf::from(path) })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::execute::FakeSystem;
    use crate::world::FakeRunner;

    const ROOT: &str = "11111111-2222-4333-8444-555555555555";
    const BOOT: &str = "99999999-2222-4333-8444-555555555555";

    /// A machine whose installed root file system holds these files.
    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        for (path, text) in files {
            root.write(&format!("{FOLDER}{path}"), text.as_bytes(), 0o644, None).unwrap();
        }
        (folder, root)
    }

    fn runner() -> FakeRunner {
        FakeRunner::default()
            .answer(&format!("blkid --cache-file /dev/null --uuid {ROOT}"), "/dev/vda2\n")
            .answer(&format!("blkid --cache-file /dev/null --uuid {BOOT}"), "/dev/vda1\n")
            .answer("blkid --probe", "ext4\n")
    }

    const CONFIG: &str =
        "menuentry 'D' {\n linux /vmlinuz root=UUID=x ro\n initrd /initrd.img\n}\n";

    #[test]
    fn a_boot_file_system_of_its_own_is_mounted_too() {
        let fstab = format!(
            "# made\nUUID={ROOT} / ext4 defaults 0 1\nUUID={BOOT} /boot ext4 defaults 0 2\n"
        );
        let (folder, root) = machine(&[
            ("/etc/fstab", &fstab),
            ("/boot/grub/grub.cfg", CONFIG),
            ("/boot/vmlinuz", ""),
            ("/boot/initrd.img", ""),
        ]);
        let (mut runner, mut system) = (runner(), FakeSystem::default());
        let entry = load(&mut runner, &mut system, &root, &ROOT.parse().unwrap(), None).unwrap();
        assert_eq!(entry.arguments, "root=UUID=x ro");
        let here = folder.path().display().to_string();
        let kexec = runner.transcript.last().unwrap().replace(&here, "");
        expect!["kexec --load --kexec-syscall-auto /mnt/installed/boot/vmlinuz '--command-line=root=UUID=x ro' --initrd=/mnt/installed/boot/initrd.img"].assert_eq(&kexec);
        expect![[r#"
            mkdir -p /mnt/installed && mount -t ext4 -o ro,noload /dev/vda2 /mnt/installed
            mkdir -p /mnt/installed/boot && mount -t ext4 -o ro,noload /dev/vda1 /mnt/installed/boot
            umount --recursive /mnt/installed"#]]
        .assert_eq(&system.transcript.join("\n").replace(&here, ""));
    }

    #[test]
    fn whatever_fails_nothing_stays_mounted_and_the_reason_is_told() {
        let (_keep, empty) = machine(&[]);
        let (_keep_too, without_kernel) = machine(&[("/boot/grub/grub.cfg", CONFIG)]);
        for (root, failing, wanted, reason) in [
            (&empty, "", None, "the installed system on /dev/vda2 has no grub.cfg"),
            (&without_kernel, "", None, "`/vmlinuz` named in grub.cfg is not there"),
            (&without_kernel, "", Some("6.1"), "cannot tell from `/boot/grub/grub.cfg`"),
            (&empty, "blkid --cache", None, "no disk of this machine holds"),
        ] {
            let mut runner = runner();
            runner.failing.extend((!failing.is_empty()).then(|| failing.to_owned()));
            let mut system = FakeSystem::default();
            let uuid = ROOT.parse().unwrap();
            let error = load(&mut runner, &mut system, root, &uuid, wanted).unwrap_err();
            assert!(error.to_string().starts_with(reason), "{error}");
            let last = system.transcript.last();
            assert!(last.is_none_or(|line| line.starts_with("umount")), "{last:?}");
        }
    }
}
