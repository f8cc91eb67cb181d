//! Brings the network up: links, then addresses by DHCP or from the boot arguments.
//!
//! All interfaces at once: every one is set up, carriers are awaited, and each interface with a
//! carrier asks DHCP in a thread of its own. busybox's `udhcpc` speaks the protocol; it calls this
//! very program as its script ([`udhcpc::record_event`]), which only writes down what was offered,
//! and the agent applies it. A lease is renewed by a `udhcpc` of its own until the agent ends
//! ([`Keepers`]): an installation may take longer than it lasts.
//!
//! Several interfaces may get an address each. The card that the machine was started from
//! (`BOOTIF=`) comes first, then the others in the order of their numbers: the first one's gateway
//! is the machine's, and the first one's name servers. Who did not answer is asked again as long as
//! no address leads to the server.
//!
//! One card that cannot be used (its firmware is missing, it refuses its address) is told on the
//! console and left out; the others go on. A machine that has no address at the end is told,
//! interface by interface, why.

mod keeper;
mod lease;
pub mod udhcpc;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use specs::units::Mac;

use crate::detect::{driver, ethernet_names, has_carrier, interface_number, mac};
use crate::options::{AgentOptions, InterfaceSettings, Method};
use crate::report::Console;
use crate::world::{Cmd, CmdError, Root, Runner, Tool};

pub use keeper::Keepers;
pub use lease::{Lease, WrongVariable};

/// How often the machine is searched for interfaces, with [`SCAN_PAUSE`] between.
const SCANS: u32 = 3;
const SCAN_PAUSE: Duration = Duration::from_secs(3);

/// How often all interfaces ask DHCP, with [`DHCP_PAUSE`] between: a switch port may take half a
/// minute until it forwards.
const DHCP_ROUNDS: u32 = 6;
const DHCP_PAUSE: Duration = Duration::from_secs(10);

/// How long the kernel lets a name of an interface be: `IFNAMSIZ` without the final zero.
const MAX_NAME: usize = 15;

/// The metric of the first interface's gateway; each further one's is worse by one.
const FIRST_METRIC: u32 = 100;

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No interface at all.
    #[error(
        "no network interface found: the driver or its firmware is missing in the initrd, or the \
         card is switched off in the firmware's setup"
    )]
    NoInterface,
    /// Interfaces, but none has a cable in it.
    #[error("no interface has a link after {seconds} s: {states}")]
    NoCarrier {
        /// LINK_UP_TIMEOUT.
        seconds: u64,
        /// Each interface with its state.
        states: String,
    },
    /// Nobody answered.
    #[error("no DHCP answer in {rounds} rounds: {states}")]
    NoLease {
        /// How often it was tried.
        rounds: u32,
        /// Each interface with its state.
        states: String,
    },
    /// Every interface refused to be set up or to take its address.
    #[error("no network interface can be used: {reasons}")]
    Unusable {
        /// Each interface with what it refused.
        reasons: String,
    },
}

/// What bringing the network up needs of the world, all of it replaceable in tests.
pub struct Link<'a> {
    /// Paths of `/sys`, `/run` and `/etc`.
    pub root: &'a Root,
    /// Makes a runner for each thread.
    pub runner: &'a (dyn Fn() -> Box<dyn Runner> + Sync),
    /// Where attempts are shown.
    pub console: &'a Console,
    /// Waits.
    pub sleep: &'a dyn Fn(Duration),
}

impl fmt::Debug for Link<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("root", self.root).finish_non_exhaustive()
    }
}

/// An interface that wants an address.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Port {
    /// The interface that holds the address: the hardware, or the VLAN on it.
    name: String,
    hardware: String,
    settings: InterfaceSettings,
    /// Whether the machine was started from this card.
    booted: bool,
    /// Of its gateway.
    metric: u32,
}

impl Link<'_> {
    /// Brings the network up and says which addresses there are. Leases among them last as long
    /// as somebody keeps them: see [`Keepers`].
    pub fn up(&self, options: &AgentOptions) -> Result<Network, LinkError> {
        let names = self.interfaces()?;
        let ports = self.ports(&names, options);
        if ports.is_empty() {
            return Ok(Network::default());
        }
        let mut faults = Faults::default();
        let usable = self.set_up(&ports, &mut faults);
        if usable.is_empty() {
            return Err(LinkError::Unusable { reasons: faults.to_string() });
        }
        let linked = self.await_carriers(&usable, &faults, options.link_up_timeout)?;
        let mut network = Network::default();
        self.set_static(&linked, &mut network, &mut faults);
        self.ask_dhcp(&linked, &options.server.host, &mut network, &mut faults);
        if !network.addresses.is_empty() {
            return Ok(network);
        }
        if linked.iter().all(|port| faults.0.contains_key(&port.name)) {
            return Err(LinkError::Unusable { reasons: faults.to_string() });
        }
        Err(LinkError::NoLease { rounds: DHCP_ROUNDS, states: self.states(&usable, &faults) })
    }

    /// The ports that want an address, the preferred one first.
    fn ports(&self, names: &[String], options: &AgentOptions) -> Vec<Port> {
        let booted = |name: &str| {
            let card: Option<Mac> = mac(self.root, name);
            card.is_some() && card == options.boot_card
        };
        let mut ports: Vec<Port> = names
            .iter()
            .map(|name| (name, options.addressing.of(name)))
            .filter(|(_, settings)| settings.method != Method::None)
            .map(|(name, settings)| Port {
                name: settings.vlan.map_or(name.clone(), |vlan| self.vlan_name(name, vlan)),
                hardware: name.clone(),
                settings,
                booted: booted(name),
                metric: FIRST_METRIC,
            })
            .collect();
        ports.sort_by_key(|port| !port.booted);
        for (port, metric) in ports.iter_mut().zip(FIRST_METRIC..) {
            port.metric = metric;
        }
        ports
    }

    /// The name of a VLAN on this card: as usual, or by the card's number where that is longer
    /// than the kernel lets names be.
    fn vlan_name(&self, hardware: &str, vlan: u16) -> String {
        let name = format!("{hardware}.{vlan}");
        match interface_number(self.root, hardware) {
            Some(number) if name.len() > MAX_NAME => format!("if{number}.{vlan}"),
            _ => name,
        }
    }

    /// The interfaces, as soon as there is one.
    fn interfaces(&self) -> Result<Vec<String>, LinkError> {
        for scan in 1..=SCANS {
            let names = ethernet_names(self.root);
            if !names.is_empty() {
                return Ok(names);
            }
            if scan < SCANS {
                self.console.note(&format!("no network interface yet (scan {scan} of {SCANS})"));
                (self.sleep)(SCAN_PAUSE);
            }
        }
        Err(LinkError::NoInterface)
    }

    /// Sets every port up; returns those that let it be done.
    fn set_up(&self, ports: &[Port], faults: &mut Faults) -> Vec<Port> {
        let mut runner = (self.runner)();
        // Programs on this machine may talk to each other; the installation needs none that do.
        if let Err(error) = runner.run(&ip(&["link", "set", "lo", "up"])) {
            self.console.note(&format!("lo: {}", crate::chain(&error)));
        }
        let mut usable = Vec::new();
        for port in ports {
            match run_all(&mut *runner, &set_up_commands(self.root, port)) {
                Ok(()) => usable.push(port.clone()),
                Err(error) => self.leave_out(port, &error, faults),
            }
        }
        usable
    }

    /// Tells that the machine goes on without this port.
    fn leave_out(&self, port: &Port, error: &CmdError, faults: &mut Faults) {
        let reason = crate::chain(error);
        self.console.note(&format!("{} is left out: {reason}", port.name));
        faults.0.insert(port.name.clone(), reason);
    }

    /// Waits until every port has a carrier, or time is up and one has.
    fn await_carriers(
        &self,
        ports: &[Port],
        faults: &Faults,
        timeout: Duration,
    ) -> Result<Vec<Port>, LinkError> {
        const STEP: Duration = Duration::from_millis(100);
        let mut waited = Duration::ZERO;
        loop {
            let linked: Vec<Port> = ports
                .iter()
                .filter(|port| has_carrier(self.root, &port.hardware))
                .cloned()
                .collect();
            if linked.len() == ports.len() || (waited >= timeout && !linked.is_empty()) {
                return Ok(linked);
            }
            if waited >= timeout {
                let states = self.states(ports, faults);
                return Err(LinkError::NoCarrier { seconds: timeout.as_secs(), states });
            }
            (self.sleep)(STEP);
            waited += STEP;
        }
    }

    fn set_static(&self, ports: &[Port], network: &mut Network, faults: &mut Faults) {
        let mut runner = (self.runner)();
        for port in ports {
            if let Method::Static(address) = port.settings.method {
                let text = address.to_string();
                match runner.run(&ip(&["address", "replace", &text, "dev", &port.name])) {
                    Ok(_) => network.addresses.push((port.name.clone(), address)),
                    Err(error) => self.leave_out(port, &error, faults),
                }
            }
        }
    }

    /// Asks on all ports at once, and those that were silent again and again until the network
    /// leads to `server` and the card that the machine was started from has its address.
    fn ask_dhcp(&self, linked: &[Port], server: &str, network: &mut Network, faults: &mut Faults) {
        let mut silent: Vec<&Port> =
            linked.iter().filter(|port| port.settings.method == Method::Dhcp).collect();
        for round in 1..=DHCP_ROUNDS {
            let began = Instant::now();
            let leases = self.dhcp_round(&silent);
            let mut still_silent = Vec::new();
            for (port, lease) in silent.into_iter().zip(leases) {
                match lease {
                    Ok(lease) => {
                        if let Err(error) = self.apply(port, &lease, network) {
                            self.leave_out(port, &error, faults);
                        }
                    }
                    Err(error) => {
                        self.console.note(&format!(
                            "{}: no DHCP answer (round {round} of {DHCP_ROUNDS}, {:.0} s): {error}",
                            port.name,
                            began.elapsed().as_secs_f64()
                        ));
                        still_silent.push(port);
                    }
                }
            }
            silent = still_silent;
            let booted_is_silent = silent.iter().any(|port| port.booted);
            if silent.is_empty() || (network.leads_to(server) && !booted_is_silent) {
                return;
            }
            if round < DHCP_ROUNDS {
                (self.sleep)(DHCP_PAUSE);
            }
        }
    }

    fn dhcp_round(&self, ports: &[&Port]) -> Vec<Result<Lease, String>> {
        let (runners, root) = (self.runner, self.root);
        thread::scope(|scope| {
            let asking: Vec<_> = ports
                .iter()
                .map(|port| {
                    let name = port.name.as_str();
                    scope.spawn(move || udhcpc::ask(&mut *runners(), root, name))
                })
                .collect();
            asking
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err("the thread died".to_owned())))
                .collect()
        })
    }

    /// Sets what the lease says; the first that names name servers is asked for names.
    fn apply(&self, port: &Port, lease: &Lease, network: &mut Network) -> Result<(), CmdError> {
        run_all(&mut *(self.runner)(), &lease.commands(&port.name, port.metric))?;
        network.addresses.push((port.name.clone(), lease.address.into()));
        network.routers.extend(lease.routers.first());
        network.leases.push(Granted {
            interface: port.name.clone(),
            metric: port.metric,
            lease: lease.clone(),
        });
        let Some(text) = lease.resolv_conf().filter(|_| !network.resolves_names) else {
            return Ok(());
        };
        match self.root.write("/etc/resolv.conf", text.as_bytes(), 0o644, None) {
            Ok(()) => network.resolves_names = true,
            Err(error) => self
                .console
                .note(&format!("names cannot be resolved: no /etc/resolv.conf: {error}")),
        }
        Ok(())
    }

    /// `eth0 (virtio_net): link, eth1 (tg3): no link`, then what was left out and why.
    fn states(&self, ports: &[Port], faults: &Faults) -> String {
        let mut states: Vec<String> = ports
            .iter()
            .filter(|port| !faults.0.contains_key(&port.name))
            .map(|port| {
                let driver = driver(self.root, &port.hardware).unwrap_or_else(|| "?".to_owned());
                let state = if has_carrier(self.root, &port.hardware) { "link" } else { "no link" };
                format!("{} ({driver}): {state}", port.name)
            })
            .collect();
        if !faults.0.is_empty() {
            states.push(faults.to_string());
        }
        states.join(", ")
    }
}

/// A lease, and where it is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The interface that holds the address.
    pub interface: String,
    /// Of its gateway.
    pub metric: u32,
    /// What was given.
    pub lease: Lease,
}

/// What the machine has been given so far.
#[derive(Debug, Default)]
pub struct Network {
    /// What DHCP servers gave for a time.
    pub leases: Vec<Granted>,
    /// By interface.
    addresses: Vec<(String, IpNet)>,
    /// Gateways that are in use.
    routers: Vec<Ipv4Addr>,
    resolves_names: bool,
}

impl Network {
    /// Whether packets for this host have somewhere to go. A host that is known by its name may be
    /// anywhere; without a name server it is nowhere.
    fn leads_to(&self, host: &str) -> bool {
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => {
                !self.routers.is_empty()
                    || self.addresses.iter().any(|(_, network)| network.contains(&address))
            }
            Err(_) => self.resolves_names,
        }
    }
}

/// `eth0 10.0.2.15/24, eth1 192.168.7.9/24`.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.addresses.is_empty() {
            return f.write_str("none wanted");
        }
        let addresses: Vec<String> =
            self.addresses.iter().map(|(port, address)| format!("{port} {address}")).collect();
        f.write_str(&addresses.join(", "))
    }
}

/// The ports that were left out, with the reason of each.
#[derive(Debug, Default)]
struct Faults(BTreeMap<String, String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> =
            self.0.iter().map(|(port, reason)| format!("{port}: {reason}")).collect();
        f.write_str(&faults.join(", "))
    }
}

fn run_all(runner: &mut dyn Runner, commands: &[Cmd]) -> Result<(), CmdError> {
    commands.iter().try_for_each(|cmd| runner.run(cmd).map(drop))
}

fn ip(arguments: &[&str]) -> Cmd {
    Cmd::new(Tool::Ip, arguments)
}

fn set_up_commands(root: &Root, port: &Port) -> Vec<Cmd> {
    let mut commands = vec![ip(&["link", "set", &port.hardware, "up"])];
    if let Some(vlan) = port.settings.vlan {
        // It is there already when a person tries again from the console.
        if !root.exists(&format!("/sys/class/net/{}", port.name)) {
            let mut arguments = vec!["link", "add", "link", &port.hardware, "name", &port.name];
            let id = vlan.to_string();
            arguments.extend(["type", "vlan", "id", &id]);
            commands.push(ip(&arguments));
        }
        commands.push(ip(&["link", "set", &port.name, "up"]));
    }
    commands
}

#[cfg(test)]
mod tests;
