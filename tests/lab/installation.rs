//! One installation, watched from outside: the machine boots from the network, installs and
//! restarts; then it boots from its disk and is logged in to.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use specs::facts::Firmware;

use crate::books::{Books, field};
use crate::services::free_port;
use crate::site::Site;
use crate::ssh::Login;
use crate::vm::{Boot, Forward, Machine, Vm};

/// How long an installation may take under emulation on two busy cores.
pub const INSTALL_DEADLINE: Duration = Duration::from_secs(900);

/// How long an installed machine may take from its firmware to its ssh server.
pub const BOOT_DEADLINE: Duration = Duration::from_secs(300);

/// The memory in MiB that the samples install with: measured, and kept by the e2e tests.
pub fn memory_needed(firmware: Firmware) -> u32 {
    match firmware {
        Firmware::Bios => 384,
        Firmware::Uefi => 512, // OVMF itself and the files that it loads take the difference
    }
}

/// A finished installation.
#[derive(Debug)]
pub struct Installation {
    /// The serial console of it.
    pub console: PathBuf,
    /// What the agent printed as its table of durations.
    pub steps: Vec<(String, f64)>,
    /// From switching the machine on until it restarted.
    pub took: Duration,
    /// The lines of the agent.
    pub report: Vec<String>,
    /// The most memory that QEMU took for it, its own included, in MiB.
    pub host_memory: Option<u64>,
}

/// The steps, by the first words of their names, that run or wait for somebody else: udev, DHCP,
/// mkfs, rsync, grub-install, and the commands of the configure file. Everything else counts as
/// the agent's own.
const OTHERS: [&str; 8] = [
    "drivers",
    "network",
    "role on the server",
    "filesystem",
    "swap",
    "tree",
    "run",
    "boot loader",
];

impl Installation {
    /// The table of step durations, longest lines last as they came, and what the agent itself
    /// took.
    pub fn table(&self) -> String {
        let mut table = String::new();
        for (name, seconds) in &self.steps {
            let _ = writeln!(table, "  {seconds:8.2} s  {name}");
        }
        let _ = write!(table, "  {:8.2} s  of it the agent itself", self.agents_own());
        table
    }

    /// Seconds that are the agent's own: everything but the steps of [`OTHERS`].
    pub fn agents_own(&self) -> f64 {
        let is = |name: &str, other: &str| {
            name.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        let own = |name: &str| !OTHERS.iter().any(|other| is(name, other));
        self.steps.iter().filter(|(name, _)| own(name) && name != "in all").map(|(_, s)| s).sum()
    }
}

/// The boot program has told the agent, among its boot arguments, which card it came by.
pub fn knows_the_card_it_was_started_by(
    installation: &Installation,
    machine: &Machine,
) -> Result<()> {
    let line = installation.report.iter().find(|line| line.contains("[ done ] boot arguments"));
    let line = line.context("no line tells the boot arguments")?;
    ensure!(line.contains(&format!("started by {}", machine.mac)), "no card in `{line}`");
    Ok(())
}

/// Whether the agent printed this line of the console.
pub fn is_agents(line: &str) -> bool {
    let seconds = |rest: &str| {
        let (time, _) = rest.split_once("s]")?;
        time.trim().parse::<f64>().ok()
    };
    line.strip_prefix('[').and_then(seconds).is_some()
}

/// Tells what happens on the console of a machine, as it happens.
pub fn tell(line: &str) {
    if is_agents(line) {
        crate::say(line);
    }
}

/// Switches the machine on and waits until it has installed itself and restarted. An
/// installation that ends otherwise is an error with the end of its console.
pub fn install(site: &Site, machine: &Machine, run: &str) -> Result<Installation> {
    let start = Instant::now();
    let mut vm = machine.start(site.accelerator, run, crate::process::Lifetime::Scoped)?;
    // The table of durations is the last thing an agent prints before it ends, either way.
    vm.watch("in all", INSTALL_DEADLINE, tell)?;
    let host_memory = vm.resident_memory();
    vm.wait_for_end(Duration::from_secs(60))?;
    let took = start.elapsed();
    let text = vm.console().text();
    let report: Vec<String> = text.lines().filter(|l| is_agents(l)).map(str::to_owned).collect();
    if report.iter().any(|line| is_the_end_of_it(line)) {
        let path = vm.console().path().display();
        bail!("the installation failed; the end of {path}:\n{}", vm.console().tail(40));
    }
    let steps = durations(&report);
    Ok(Installation { console: vm.console().path().to_owned(), steps, took, report, host_memory })
}

/// Whether this line of the agent says that nothing will be installed: a step that failed, or an
/// upload that ended in a refusal. An attempt at an upload that found nobody is neither.
fn is_the_end_of_it(line: &str) -> bool {
    line.contains("[ FAIL ]") || line.contains("[ done ]") && line.contains(" refused (")
}

/// Reads the agent's table: lines of `[ time ]   1.23 s  name`.
pub fn durations(report: &[String]) -> Vec<(String, f64)> {
    let row = |line: &String| {
        let (_, row) = line.split_once("[ time ]")?;
        let (seconds, name) = row.trim().split_once(" s ")?;
        Some((name.trim().to_owned(), seconds.trim().parse().ok()?))
    };
    report.iter().filter_map(row).collect()
}

/// The same machine with its network boot taken away and its ssh port reachable.
pub fn disk_only(machine: &Machine, address: &str) -> Result<(Machine, u16)> {
    let port = free_port()?;
    let machine = Machine {
        boot: Boot::Disk,
        forwards: vec![Forward { port, to: format!("{address}:22") }],
        ..machine.clone()
    };
    Ok((machine, port))
}

/// Waits until a machine that boots its installed system lets us in.
pub fn wait_for_login(vm: &Vm, login: &Login) -> Result<()> {
    login.wait(BOOT_DEADLINE).with_context(|| {
        let path = vm.console().path().display();
        format!("the end of the console {path}:\n{}", vm.console().tail(40))
    })
}

/// What the CMDB says this machine is: its host name and address.
pub fn promised(site: &Site, machine: &Machine) -> Result<(String, String)> {
    let books = Books::read(site)?;
    let entry = books.entry_of(&machine.mac)?;
    let (hostname, address) = (field(entry, "hostname")?, field(entry, "ip")?);
    ensure!(
        address.starts_with("10.0.2."),
        "the lab's machines live in QEMU's user network 10.0.2.0/24; the CMDB gives {address}"
    );
    Ok((hostname, address))
}

/// Switches an installed machine off as its owner would, so that its file systems are clean.
pub fn shut_down(vm: &Vm, login: &Login) -> Result<()> {
    // The connection ends with the machine: the command has no result.
    let _ = login.run("systemctl poweroff");
    vm.wait_for_end(Duration::from_secs(120))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_lines_are_told_from_the_kernels() {
        assert!(is_agents("[ 12.3s] [ done ] network eth0 10.0.2.15/24 … 0.0s"));
        assert!(!is_agents("[    2.060264] clocksource: Switched to clocksource tsc"));
        assert!(!is_agents("[  OK  ] Reached target Multi-User System."));
        assert!(!is_agents("SeaBIOS"));
    }

    #[test]
    fn a_refusal_is_told_from_a_server_that_is_not_there() {
        assert!(is_the_end_of_it("[ 12.3s] [ FAIL ] tree … 3.0s"));
        assert!(is_the_end_of_it("[  6.3s] [ done ] upload to 10.0.2.2 refused (422) … 0.1s"));
        let attempt = "[  6.3s]          attempt 1: no answer from http://10.0.2.2:9000/upload: \
                       Connection refused (os error 111); again in 0.9 s";
        assert!(!is_the_end_of_it(attempt));
    }

    #[test]
    fn the_agents_own_time_leaves_out_what_others_do() {
        let report = [
            "[ 12.3s] [ time ]     5.60 s  drivers",
            "[ 12.3s] [ time ]     0.25 s  detect",
            "[ 12.3s] [ time ]     0.40 s  role on the server",
            "[ 12.3s] [ time ]     0.05 s  preflight",
            "[ 12.3s] [ time ]     0.20 s  run treefrog",
            "[ 12.3s] [ time ]    60.00 s  tree",
            "[ 12.3s] [ time ]     0.30 s  filesystem /",
            "[ 12.3s] [ time ]     0.50 s  table /dev/vda",
            "[ 12.3s] [ time ]    66.35 s  in all",
        ];
        let steps = durations(&report.map(str::to_owned));
        assert_eq!(steps[1], ("detect".to_owned(), 0.25));
        let installation = Installation {
            console: PathBuf::new(),
            steps,
            took: Duration::ZERO,
            report: Vec::new(),
            host_memory: None,
        };
        assert!((installation.agents_own() - 0.8).abs() < 1e-9);
    }
}
