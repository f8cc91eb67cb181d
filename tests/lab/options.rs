//! The command line of `scripts/lab`.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use specs::facts::Firmware;

/// Builds everything, PXE-boots a QEMU machine that installs itself, boots it from its disk and
/// asks it over ssh what it is.
///
/// Does all set-up on a bare Debian 12 (as root). Builds are cached in $EDEPLOY_CACHE, or
/// ~/.cache/edeploy. The servers listen on 127.0.0.1: edeploy-server on 9000, rsync on 1515; the
/// machine sees them as 10.0.2.2, and lives in 10.0.2.0/24. LAB_ACCEL=kvm or tcg spares the
/// probe of KVM.
#[derive(Debug, Parser)]
#[command(
    name = "scripts/lab",
    after_help = "Examples:\n  scripts/lab\n  scripts/lab --firmware uefi --keep\n  scripts/lab \
                  --cmdb my.cmdb --specs my.specs --configure my.configure --disks 10G,20G\n\n\
                  The last line is `lab: OK <host name> …`, with the name the machine itself \
                  answered. Exit codes: 0 done, 2 wrong usage, 3 failed."
)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) work: Option<Work>,
    /// Leave the machine and its servers running, and print how to log in
    #[arg(long)]
    pub(crate) keep: bool,
    /// End what an earlier --keep left running
    #[arg(long, exclusive = true)]
    pub(crate) stop: bool,
    /// What starts the machine
    #[arg(long, value_enum, default_value_t = FirmwareKind::Bios)]
    firmware: FirmwareKind,
    /// A CMDB in place of specs/profiles/vm.cmdb
    #[arg(long, value_name = "FILE")]
    pub(crate) cmdb: Option<PathBuf>,
    /// A spec list in place of specs/profiles/vm.specs
    #[arg(long, value_name = "FILE")]
    pub(crate) specs: Option<PathBuf>,
    /// A configure file in place of specs/profiles/vm.configure; its role must be mysql in
    /// version D12-F.1.0.0, the one that the lab builds
    #[arg(long, value_name = "FILE")]
    pub(crate) configure: Option<PathBuf>,
    /// Memory of the machine [default: 384, under UEFI 512]
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// Sizes of its disks, the first one being /dev/vda
    #[arg(long, value_name = "SIZE,…", value_delimiter = ',', value_parser = size,
          default_value = "10G,5G")]
    pub(crate) disks: Vec<u64>,
}

/// Work without a machine.
#[derive(Debug, Subcommand)]
pub(crate) enum Work {
    Storm(lab::storm::Options),
    BenchServer(lab::bench::Options),
    BenchHost(lab::bench_host::Options),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FirmwareKind {
    Bios,
    Uefi,
}

impl Options {
    pub(crate) fn firmware(&self) -> Firmware {
        match self.firmware {
            FirmwareKind::Bios => Firmware::Bios,
            FirmwareKind::Uefi => Firmware::Uefi,
        }
    }

    pub(crate) fn firmware_name(&self) -> &'static str {
        match self.firmware {
            FirmwareKind::Bios => "BIOS",
            FirmwareKind::Uefi => "UEFI",
        }
    }

    /// What was asked for, or what the installation is tested to need.
    pub(crate) fn memory(&self) -> u32 {
        self.memory.unwrap_or_else(|| lab::installation::memory_needed(self.firmware()))
    }
}

/// Reads `10G` or `512M` as bytes.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size such as 10G or 512M");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let shift = match unit {
        "G" => 30,
        "M" => 20,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!(size("10G"), Ok(10 << 30));
        assert_eq!(size("512M"), Ok(512 << 20));
        for bad in ["", "10", "G", "0G", "-1G", "é"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
