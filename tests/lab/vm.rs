//! QEMU machines: a [`Machine`] describes one, a [`Vm`] is one that runs.
//!
//! Nothing here knows what is installed on it. The kernel always comes from the network or from
//! a disk, as on a real machine: there is no way to say `-kernel` here.

mod accelerator;
mod console;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use specs::facts::Firmware;

pub use self::accelerator::Accelerator;
pub use self::console::Console;
use crate::power_cut::Recording;
use crate::process::{Lifetime, Service, shown};

/// The emulator.
pub const QEMU: &str = "qemu-system-x86_64";

/// The firmware code of UEFI machines, from package `ovmf`, and the template of its variables.
const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// Where a machine looks for something to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// The network first, then the disks, as racks are set up. The folder is served by TFTP.
    NetworkFirst {
        /// Folder of the boot files.
        tftp: PathBuf,
        /// The file that DHCP names.
        file: String,
    },
    /// The first disk; the card has no boot ROM and there is no boot server.
    Disk,
}

/// What a disk hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// `/dev/vda`.
    Virtio,
    /// `/dev/sda` on an AHCI controller.
    Sata,
    /// `/dev/nvme0n1`.
    Nvme,
}

/// What the image of a disk is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// The bytes of the disk.
    Raw,
    /// An overlay of another image, see [`overlay`](crate::power_cut::overlay).
    Overlay,
    /// Likewise, and every write and flush is noted in this log.
    Recorded(PathBuf),
}

/// One disk of a machine.
#[derive(Debug, Clone)]
pub struct Disk {
    /// The image.
    pub image: PathBuf,
    /// What the image is.
    pub format: Format,
    /// What it hangs on.
    pub bus: Bus,
    /// Its serial number.
    pub serial: String,
}

/// A port of the machine that can be reached from here, on 127.0.0.1.
#[derive(Debug, Clone)]
pub struct Forward {
    /// Port here.
    pub port: u16,
    /// `address:port` in the machine's network.
    pub to: String,
}

/// The description of a machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// What it is called here: names its files.
    pub name: String,
    /// Folder of its consoles and firmware variables.
    pub directory: PathBuf,
    /// What starts it.
    pub firmware: Firmware,
    /// Memory in MiB.
    pub memory: u32,
    /// The address of its network card.
    pub mac: String,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// Where it boots from.
    pub boot: Boot,
    /// Ports reachable from here.
    pub forwards: Vec<Forward>,
}

impl Machine {
    /// The arguments of QEMU. `run` tells the files of one start from those of the next.
    pub fn arguments(&self, accelerator: Accelerator, run: &str) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut add = |option: &str, value: String| {
            arguments.extend([OsString::from(option), value.into()]);
        };
        add("-name", self.name.clone());
        add("-machine", if self.firmware == Firmware::Uefi { "q35" } else { "pc" }.to_owned());
        add("-accel", accelerator.argument().to_owned());
        let processor = match accelerator {
            Accelerator::Kvm => "host",
            // Machines of the last ten years have a source of random numbers; without one the
            // kernel makes its first user wait for a second.
            Accelerator::Tcg => "qemu64,+rdrand",
        };
        add("-cpu", processor.to_owned());
        add("-m", self.memory.to_string());
        add("-display", "none".to_owned());
        add("-serial", format!("file:{}", self.console(run).display()));
        if self.firmware == Firmware::Uefi {
            let variables = self.variables();
            add("-drive", format!("if=pflash,unit=0,format=raw,readonly=on,file={OVMF_CODE}"));
            add("-drive", format!("if=pflash,unit=1,format=raw,file={}", variables.display()));
        }
        self.add_disks(&mut add);
        self.add_network(&mut add);
        arguments
    }

    fn add_disks(&self, add: &mut impl FnMut(&str, String)) {
        if self.firmware == Firmware::Bios && self.disks.iter().any(|d| d.bus == Bus::Sata) {
            add("-device", "ahci,id=ide".to_owned()); // q35 brings its own, called `ide` as well
        }
        for (index, disk) in self.disks.iter().enumerate() {
            match &disk.format {
                Format::Raw => add("-drive", drive(index, "raw", &disk.image)),
                Format::Overlay => add("-drive", drive(index, "qcow2", &disk.image)),
                Format::Recorded(log) => {
                    let mut node = Recording::node(&disk.image, log);
                    node["node-name"] = format!("disk{index}").into();
                    add("-blockdev", node.to_string());
                }
            }
            let device = match disk.bus {
                Bus::Virtio => "virtio-blk-pci".to_owned(),
                Bus::Sata => format!("ide-hd,bus=ide.{index}"),
                Bus::Nvme => "nvme".to_owned(),
            };
            let first = if self.boot == Boot::Disk { 1 } else { 2 };
            add(
                "-device",
                format!(
                    "{device},drive=disk{index},write-cache=on,serial={},bootindex={}",
                    disk.serial,
                    index + first
                ),
            );
        }
    }

    fn add_network(&self, add: &mut impl FnMut(&str, String)) {
        // The name server of QEMU's network sits on .3 otherwise, among the machines.
        let mut network = "user,id=net0,net=10.0.2.0/24,dns=10.0.2.253".to_owned();
        let mut card = format!("virtio-net-pci,netdev=net0,mac={}", self.mac);
        match &self.boot {
            Boot::NetworkFirst { tftp, file } => {
                network.push_str(&format!(",tftp={},bootfile={file}", tftp.display()));
                card.push_str(",bootindex=1");
            }
            Boot::Disk => {
                card.push_str(",romfile=");
                if self.firmware == Firmware::Uefi {
                    for version in ["IPv4", "IPv6"] {
                        let name = format!("opt/org.tianocore/{version}PXESupport");
                        add("-fw_cfg", format!("name={name},string=n"));
                    }
                }
            }
        }
        for forward in &self.forwards {
            let Forward { port, to } = forward;
            network.push_str(&format!(",hostfwd=tcp:127.0.0.1:{port}-{to}"));
        }
        add("-netdev", network);
        add("-device", card);
    }

    /// The whole command line, as a person would type it.
    pub fn command_line(&self, accelerator: Accelerator, run: &str) -> String {
        shown(QEMU, &self.arguments(accelerator, run))
    }

    /// Switches it on. It restarts by itself only when it is kept.
    pub fn start(&self, accelerator: Accelerator, run: &str, lifetime: Lifetime) -> Result<Vm> {
        std::fs::create_dir_all(&self.directory)
            .with_context(|| format!("making `{}`", self.directory.display()))?;
        if self.firmware == Firmware::Uefi && !self.variables().exists() {
            std::fs::copy(OVMF_VARIABLES, self.variables())
                .with_context(|| format!("copying `{OVMF_VARIABLES}` (package ovmf)"))?;
        }
        let mut arguments = self.arguments(accelerator, run);
        if lifetime == Lifetime::Scoped {
            // Whoever watches it decides what it boots next.
            arguments.push("-no-reboot".into());
        }
        let log = self.directory.join(format!("{run}.qemu"));
        let qemu = Service::start(&self.name, QEMU, &arguments, &log, lifetime)?;
        Ok(Vm { console: Console::new(&self.console(run)), qemu })
    }

    /// What it writes to its serial port in one run.
    pub fn console(&self, run: &str) -> PathBuf {
        self.directory.join(format!("{run}.console"))
    }

    /// The firmware's variables: boot entries and their order live here.
    pub fn variables(&self) -> PathBuf {
        self.directory.join("variables.fd")
    }
}

/// A power cut ends QEMU, never the host: what was written is in its page cache. Where the host
/// has no room left QEMU would stop the machine and say nothing: the machine shall see a disk with
/// errors instead.
fn drive(index: usize, format: &str, image: &Path) -> String {
    format!(
        "if=none,id=disk{index},format={format},cache=unsafe,discard=unmap,werror=report,\
         rerror=report,file={}",
        image.display()
    )
}

/// A machine that runs. Switched off on drop, unless it was started to be kept.
#[derive(Debug)]
pub struct Vm {
    console: Console,
    qemu: Service,
}

impl Vm {
    /// Waits for a line on the serial console; see [`Console::expect`].
    pub fn expect(&mut self, needle: &str, deadline: Duration) -> Result<String> {
        self.watch(needle, deadline, |_| {})
    }

    /// As [`Vm::expect`], telling `progress` every line on the way.
    pub fn watch(
        &mut self,
        needle: &str,
        deadline: Duration,
        progress: impl FnMut(&str),
    ) -> Result<String> {
        let qemu = &self.qemu;
        self.console.expect(needle, deadline, || qemu.running(), progress).map_err(|error| {
            let words = qemu.log_tail(5);
            if words.is_empty() { error } else { error.context(format!("QEMU said: {words}")) }
        })
    }

    /// Its serial console.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.qemu.id()
    }

    /// Waits until the machine has switched itself off, or restarted (`-no-reboot`).
    pub fn wait_for_end(&self, deadline: Duration) -> Result<()> {
        self.qemu.wait_for_end(deadline).with_context(|| {
            let path = self.console.path().display();
            format!("the end of the console {path}:\n{}", self.console.tail(40))
        })
    }

    /// Whether it is on.
    pub fn runs(&self) -> Result<bool> {
        self.qemu.running()
    }

    /// Cuts the power.
    pub fn cut_power(&self) -> Result<()> {
        self.qemu.kill()
    }

    /// The most memory the emulated machine has taken from the host so far, in MiB.
    pub fn resident_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? / 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(firmware: Firmware, boot: Boot) -> Machine {
        let image = PathBuf::from("/lab/disk0");
        Machine {
            name: "one".to_owned(),
            directory: "/lab/one".into(),
            firmware,
            memory: 384,
            mac: "52:54:00:00:00:01".to_owned(),
            disks: vec![Disk {
                image,
                format: Format::Raw,
                bus: Bus::Virtio,
                serial: "LAB0".to_owned(),
            }],
            boot,
            forwards: vec![Forward { port: 2222, to: "10.0.2.103:22".to_owned() }],
        }
    }

    fn line(firmware: Firmware, boot: Boot) -> String {
        machine(firmware, boot).command_line(Accelerator::Tcg, "run")
    }

    #[test]
    fn no_machine_is_handed_a_kernel() {
        let network = Boot::NetworkFirst { tftp: "/lab/tftp".into(), file: "pxelinux.0".into() };
        for firmware in [Firmware::Bios, Firmware::Uefi] {
            for boot in [network.clone(), Boot::Disk] {
                let line = line(firmware, boot);
                for shortcut in ["-kernel", "-initrd", "-append"] {
                    assert!(!line.contains(shortcut), "{line}");
                }
            }
        }
    }

    #[test]
    fn booting_from_disk_offers_no_network_boot() {
        for firmware in [Firmware::Bios, Firmware::Uefi] {
            let line = line(firmware, Boot::Disk);
            assert!(!line.contains("tftp=") && !line.contains("bootfile="), "{line}");
            assert!(
                format!("{line} ").contains("romfile= ") || line.contains("romfile='"),
                "{line}"
            );
            assert!(!line.contains("mac=52:54:00:00:00:01,bootindex"), "{line}");
        }
    }

    #[test]
    fn the_network_comes_first_otherwise() {
        let boot = Boot::NetworkFirst { tftp: "/lab/tftp".into(), file: "pxelinux.0".into() };
        let line = line(Firmware::Bios, boot);
        assert!(line.contains("mac=52:54:00:00:00:01,bootindex=1"), "{line}");
        assert!(line.contains("serial=LAB0,bootindex=2"), "{line}");
    }
}
