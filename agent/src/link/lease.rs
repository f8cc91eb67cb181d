//! A DHCP lease: asked for with `udhcpc`, written down by its script, applied with `ip`.
//!
//! `udhcpc` runs its script with the answer in the environment. The script is this program under
//! the name [`EVENT_PROGRAM`]: [`record_event`] checks every value into the types below and writes
//! them as one JSON file; nothing of a DHCP answer ever reaches a shell or an option of `ip`
//! unchecked.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::init::AGENT;
use crate::world::{Cmd, Root, Runner, Tool};

/// The name under which `udhcpc` starts this program; see [`record_event`].
pub const EVENT_PROGRAM: &str = "dhcp-event";

/// Where leases are written, by interface.
pub(super) const LEASES: &str = "/run/edeploy/dhcp";

/// What this program says on its standard output, before the event, when it is called by `udhcpc`.
pub const EVENT_MARK: &str = "dhcp-event: ";

/// How long one interface asks in one round.
const ASKING: Duration = Duration::from_secs(10);

/// What a DHCP server gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address with its prefix length.
    pub address: Ipv4Net,
    /// Gateways, best first.
    pub routers: Vec<Ipv4Addr>,
    /// Name servers, best first.
    pub name_servers: Vec<Ipv4Addr>,
    /// Domain in which short names are looked up.
    pub domain: Option<String>,
}

/// Why an event of `udhcpc` was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The environment is not that of `udhcpc`, or the answer of the DHCP server is unusable.
    #[error("udhcpc's variable `{name}` is missing or wrong: `{value}`")]
    Variable {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// The file could not be written.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Lease {
    /// Reads what `udhcpc` says in the environment of its script.
    pub fn from_environment(variables: &BTreeMap<String, String>) -> Result<Lease, LeaseError> {
        let text = |name: &str| variables.get(name).map(|text| text.trim()).unwrap_or_default();
        let wrong = |name| LeaseError::Variable { name, value: text(name).to_owned() };
        let address: Ipv4Addr = text("ip").parse().map_err(|_| wrong("ip"))?;
        let prefix = match text("mask") {
            "" => prefix_of(text("subnet")).ok_or_else(|| wrong("subnet"))?,
            mask => mask.parse().map_err(|_| wrong("mask"))?,
        };
        let address = Ipv4Net::new(address, prefix).map_err(|_| wrong("mask"))?;
        let addresses = |name| -> Vec<Ipv4Addr> {
            text(name).split_whitespace().filter_map(|text| text.parse().ok()).collect()
        };
        let domain = text("domain").split_whitespace().next().filter(|domain| {
            domain.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        });
        Ok(Lease {
            address,
            routers: addresses("router"),
            name_servers: addresses("dns"),
            domain: domain.map(str::to_owned),
        })
    }

    /// The commands that give the interface this address and the machine this gateway. Several
    /// interfaces may each have one: the kernel takes the gateway with the lowest metric.
    pub fn commands(&self, interface: &str, metric: u32) -> Vec<Cmd> {
        let address = self.address.to_string();
        let mut commands =
            vec![Cmd::new(Tool::Ip, &["address", "replace", &address, "dev", interface])];
        if let Some(router) = self.routers.first() {
            let (via, metric) = (router.to_string(), metric.to_string());
            let mut arguments = vec!["route", "replace", "default", "via", &via];
            arguments.extend(["dev", interface, "metric", &metric]);
            // Some providers' gateways lie outside of the prefix they hand out.
            if !self.address.contains(router) {
                arguments.push("onlink");
            }
            commands.push(Cmd::new(Tool::Ip, &arguments));
        }
        commands
    }

    /// The text of `/etc/resolv.conf`; nothing when the server named no name server.
    pub fn resolv_conf(&self) -> Option<String> {
        if self.name_servers.is_empty() {
            return None;
        }
        let search = self.domain.iter().map(|domain| format!("search {domain}\n"));
        let servers = self.name_servers.iter().map(|server| format!("nameserver {server}\n"));
        Some(search.chain(servers).collect())
    }
}

/// Asks on one interface and returns what was recorded.
pub(super) fn ask(runner: &mut dyn Runner, root: &Root, interface: &str) -> Result<Lease, String> {
    let path = file_of(interface);
    let text = |error: &dyn std::error::Error| crate::chain(error);
    // An older answer must not be taken for this one.
    root.create_dirs(LEASES, 0o755).map_err(|error| text(&error))?;
    if root.exists(&path) {
        let stale = root.resolve(&path).map_err(|error| text(&error))?;
        std::fs::remove_file(stale).map_err(|error| text(&error))?;
    }
    let script = event_link(root).map_err(|error| text(&error))?;
    runner.run(&udhcpc(interface, &script)).map_err(|error| text(&error))?;
    recorded(root, interface)
}

/// The lease that was recorded last for an interface.
pub(super) fn recorded(root: &Root, interface: &str) -> Result<Lease, String> {
    let path = file_of(interface);
    let json = root.read_text(&path).map_err(|error| format!("{path}: {error}"))?;
    serde_json::from_str(&json).map_err(|error| format!("{path}: {error}"))
}

fn file_of(interface: &str) -> String {
    format!("{LEASES}/{interface}")
}

/// Leave with an answer or without one, in the foreground, four questions in ten seconds.
fn udhcpc(interface: &str, script: &str) -> Cmd {
    Cmd::new(
        Tool::Busybox,
        &[
            "udhcpc", "-f", "-q", "-n", "-t", "4", "-T", "2", "-A", "1", "-i", interface, "-s",
            script,
        ],
    )
    .why("asks for an address")
    .deadline(ASKING + Duration::from_secs(2))
}

/// The link to this program that `udhcpc` starts.
pub(super) fn event_link(root: &Root) -> io::Result<String> {
    let path = format!("/run/edeploy/{EVENT_PROGRAM}");
    match std::os::unix::fs::symlink(AGENT, root.resolve("/run/edeploy")?.join(EVENT_PROGRAM)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(path),
    }
}

/// What this program does as the script of `udhcpc`: writes an answer down; other events (the
/// interface is to be cleared, nobody answered) are none of its business.
pub fn record_event(
    root: &Root,
    event: &str,
    variables: &BTreeMap<String, String>,
) -> Result<(), LeaseError> {
    if !matches!(event, "bound" | "renew") {
        return Ok(());
    }
    let interface = variables.get("interface").map(String::as_str).unwrap_or_default();
    if interface.is_empty() || interface.contains('/') || interface.starts_with('.') {
        return Err(LeaseError::Variable { name: "interface", value: interface.to_owned() });
    }
    let lease = Lease::from_environment(variables)?;
    let path = file_of(interface);
    let json = serde_json::to_vec(&lease).map_err(io::Error::from);
    json.and_then(|json| root.write(&path, &json, 0o644, None))
        .map_err(|source| LeaseError::Write { path, source })
}

/// The prefix length of a netmask; nothing when its ones are not together.
fn prefix_of(mask: &str) -> Option<u8> {
    ipnet::ipv4_mask_to_prefix(mask.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_answer_is_recorded_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let environment = variables(&[
            ("interface", "eth0"),
            ("ip", "10.0.2.15"),
            ("mask", "24"),
            ("subnet", "255.255.255.0"),
            ("router", "10.0.2.2"),
            ("dns", "10.0.2.3 10.0.2.4"),
            ("domain", "lab.example"),
        ]);
        record_event(&root, "deconfig", &environment).unwrap();
        assert!(!root.exists("/run/edeploy/dhcp/eth0"));
        record_event(&root, "bound", &environment).unwrap();
        let lease: Lease =
            serde_json::from_str(&root.read_text("/run/edeploy/dhcp/eth0").unwrap()).unwrap();
        let commands: Vec<String> =
            lease.commands("eth0", 100).iter().map(ToString::to_string).collect();
        assert_eq!(
            commands,
            [
                "ip address replace 10.0.2.15/24 dev eth0",
                "ip route replace default via 10.0.2.2 dev eth0 metric 100",
            ]
        );
        assert_eq!(
            lease.resolv_conf().unwrap(),
            "search lab.example\nnameserver 10.0.2.3\nnameserver 10.0.2.4\n"
        );
    }

    #[test]
    fn hostile_answers_do_no_harm() {
        for (name, value) in [("ip", "10.0.0.1; reboot"), ("mask", "33"), ("ip", "")] {
            let mut environment = variables(&[("ip", "10.0.0.1"), ("mask", "24")]);
            environment.insert(name.to_owned(), value.to_owned());
            let error = Lease::from_environment(&environment).unwrap_err();
            assert!(matches!(error, LeaseError::Variable { .. }), "{error}");
        }
        let environment = variables(&[
            ("ip", "10.0.0.1"),
            ("subnet", "255.255.0.0"),
            ("router", "--help 192.168.0.1"),
            ("dns", "$(id)"),
            ("domain", "a\nnameserver"),
        ]);
        let lease = Lease::from_environment(&environment).unwrap();
        assert_eq!(lease.address.to_string(), "10.0.0.1/16");
        assert_eq!(
            lease.commands("eth0", 101)[1].to_string(),
            "ip route replace default via 192.168.0.1 dev eth0 metric 101 onlink"
        );
        assert_eq!(lease.resolv_conf(), None);
        assert_eq!(lease.domain.as_deref(), Some("a"));
        let folder = tempfile::tempdir().unwrap();
        let bad = variables(&[("interface", "../x"), ("ip", "10.0.0.1"), ("mask", "24")]);
        let error = record_event(&Root::new(folder.path()), "bound", &bad).unwrap_err();
        assert!(matches!(error, LeaseError::Variable { name: "interface", .. }), "{error}");
    }
}
