//! How QEMU runs a machine's processor. `/dev/kvm` may be there and guests may still hang under
//! it, so KVM is used only after a kernel has been seen to come up under it.

use std::fmt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use crate::process::{Lifetime, Service};
use crate::vm::Console;

/// How long the probe may take. Under KVM a kernel comes to its root file system in 2 s.
const PROBE_DEADLINE: Duration = Duration::from_secs(10);

/// How QEMU runs the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The host's own processor.
    Kvm,
    /// Emulation: everything takes about ten times as long.
    Tcg,
}

impl Accelerator {
    /// The value of `-accel`.
    pub fn argument(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg,thread=multi",
        }
    }

    /// KVM when `kernel` boots under it within [`PROBE_DEADLINE`], else emulation. Probed once a
    /// process; `LAB_ACCEL=tcg` or `kvm` decides without probing.
    pub fn probe(kernel: &Path) -> Accelerator {
        static FOUND: OnceLock<Accelerator> = OnceLock::new();
        *FOUND.get_or_init(|| match std::env::var("LAB_ACCEL").as_deref() {
            Ok("tcg") => Accelerator::Tcg,
            Ok("kvm") => Accelerator::Kvm,
            _ if kvm_works(kernel).unwrap_or(false) => Accelerator::Kvm,
            _ => Accelerator::Tcg,
        })
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Accelerator::Kvm => "KVM",
            Accelerator::Tcg => "software emulation",
        })
    }
}

/// Boots the kernel with nothing else: it comes up, finds no root file system and says so.
fn kvm_works(kernel: &Path) -> anyhow::Result<bool> {
    if !Path::new("/dev/kvm").exists() {
        return Ok(false);
    }
    let scratch = tempfile::tempdir()?;
    let serial = scratch.path().join("console");
    let arguments = [
        "-machine",
        "pc",
        "-accel",
        "kvm",
        "-cpu",
        "host",
        "-m",
        "256",
        "-display",
        "none",
        "-no-reboot",
        "-nodefaults",
        "-append",
        "console=ttyS0 panic=-1",
    ];
    let mut arguments: Vec<std::ffi::OsString> = arguments.iter().map(Into::into).collect();
    arguments.extend(["-kernel".into(), kernel.into()]);
    arguments.extend(["-serial".into(), format!("file:{}", serial.display()).into()]);
    let log = scratch.path().join("qemu.log");
    let qemu = Service::start("the KVM probe", super::QEMU, &arguments, &log, Lifetime::Scoped)?;
    let seen = Console::new(&serial).expect(
        "Unable to mount root fs",
        PROBE_DEADLINE,
        || qemu.running(),
        |_| {},
    );
    Ok(seen.is_ok())
}
