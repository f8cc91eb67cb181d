//! What a machine that boots from the network fetches: the boot program, its configuration, the
//! kernel and the initrd, in one folder that QEMU's own TFTP server hands out.
//!
//! BIOS machines get pxelinux with the configuration of the README. Its `INITRD` line there has
//! arguments behind the file name, which syslinux would take for more files; they stand in
//! `APPEND` here. UEFI machines get the same as an iPXE script, run by the card's own iPXE.
//! Both tell the agent by which card the machine was started (`BOOTIF=`).

use std::path::Path;

use anyhow::{Context, Result};
use specs::facts::Firmware;

/// From packages `pxelinux` and `syslinux-common`.
const PXELINUX: [&str; 2] =
    ["/usr/lib/PXELINUX/pxelinux.0", "/usr/lib/syslinux/modules/bios/ldlinux.c32"];

/// The kernel's arguments beside the agent's own: where the console is.
const KERNEL_ARGUMENTS: &str = "console=ttyS0,115200";

/// What `IPAPPEND 2` of pxelinux adds, said to iPXE: the card that was opened last, which the
/// script came by, with dashes between the digits.
const BOOT_CARD: &str = "BOOTIF=01-${netX/mac:hexhyp}";

/// What boots: kernel, initrds, and the agent's arguments.
#[derive(Debug)]
pub struct BootFiles<'a> {
    /// The kernel.
    pub kernel: &'a Path,
    /// The base initrd, then the optional groups.
    pub initrds: &'a [&'a Path],
    /// The agent's arguments, for example `SERV=10.0.2.2 ONSUCCESS=reboot`.
    pub arguments: &'a str,
}

impl BootFiles<'_> {
    /// Fills `directory` for machines of both kinds of firmware.
    pub fn write(&self, directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory.join("pxelinux.cfg"))
            .with_context(|| format!("making `{}`", directory.display()))?;
        for source in PXELINUX {
            link(Path::new(source), directory)
                .context("the boot program comes with the packages pxelinux and syslinux-common")?;
        }
        link(self.kernel, directory)?;
        for initrd in self.initrds {
            link(initrd, directory)?;
        }
        std::fs::write(directory.join("pxelinux.cfg/default"), self.pxelinux())?;
        std::fs::write(directory.join("boot.ipxe"), self.ipxe())?;
        Ok(())
    }

    fn initrd_names(&self) -> Vec<String> {
        self.initrds.iter().map(|path| name(path)).collect()
    }

    /// `pxelinux.cfg/default`: the README's, with the arguments where syslinux reads them.
    fn pxelinux(&self) -> String {
        format!(
            "default eDeploy\nserial 0\n\nLABEL eDeploy\n       KERNEL {}\n       INITRD {}\n       \
             APPEND {} {KERNEL_ARGUMENTS}\n       IPAPPEND 2\n\nLABEL local\n       LOCALBOOT 0\n",
            name(self.kernel),
            self.initrd_names().join(","),
            self.arguments
        )
    }

    /// The iPXE script. Under UEFI the kernel has to be told its initrds by name.
    fn ipxe(&self) -> String {
        let initrds = self.initrd_names();
        let named: Vec<String> = initrds.iter().map(|name| format!("initrd={name}")).collect();
        let mut script = format!(
            "#!ipxe\nkernel {} {} {} {KERNEL_ARGUMENTS} {BOOT_CARD}\n",
            name(self.kernel),
            named.join(" "),
            self.arguments
        );
        for initrd in initrds {
            script.push_str(&format!("initrd {initrd}\n"));
        }
        script + "boot\n"
    }
}

/// The file that DHCP names to machines of this firmware.
pub fn boot_file(firmware: Firmware) -> &'static str {
    match firmware {
        Firmware::Bios => "pxelinux.0",
        Firmware::Uefi => "boot.ipxe",
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Puts a link to `source` into the folder, under its own name.
fn link(source: &Path, directory: &Path) -> Result<()> {
    let source = source
        .canonicalize()
        .with_context(|| format!("looking for the boot file `{}`", source.display()))?;
    let target = directory.join(source.file_name().unwrap_or_default());
    let _ = std::fs::remove_file(&target); // of an earlier run
    std::os::unix::fs::symlink(&source, &target)
        .with_context(|| format!("linking `{}`", target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_stand_where_each_boot_program_reads_them() {
        let [kernel, base, firmware] =
            ["/b/vmlinuz", "/b/initrd.pxe", "/b/firmware.cpio"].map(Path::new);
        let files = BootFiles {
            kernel,
            initrds: &[base, firmware],
            arguments: "SERV=10.0.2.2 ONSUCCESS=reboot",
        };
        let pxelinux = files.pxelinux();
        for line in [
            "KERNEL vmlinuz",
            "INITRD initrd.pxe,firmware.cpio",
            "APPEND SERV=10.0.2.2 ONSUCCESS=reboot console=ttyS0,115200",
            "IPAPPEND 2",
        ] {
            assert!(pxelinux.lines().any(|found| found.trim() == line), "{pxelinux}");
        }
        assert_eq!(
            files.ipxe(),
            "#!ipxe\nkernel vmlinuz initrd=initrd.pxe initrd=firmware.cpio SERV=10.0.2.2 \
             ONSUCCESS=reboot console=ttyS0,115200 BOOTIF=01-${netX/mac:hexhyp}\ninitrd initrd.pxe\ninitrd firmware.cpio\nboot\n"
        );
    }
}
