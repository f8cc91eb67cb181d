//! A DHCP lease: what a server answered, checked, and how it is set up.
//!
//! Every value of the answer becomes one of the types below or is left out: nothing of it ever
//! reaches a shell or an option of `ip` unchecked. How a machine asks is [`super::udhcpc`].

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::world::{Cmd, Tool};

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

/// The environment is not that of `udhcpc`, or the answer of the DHCP server is unusable.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("udhcpc's variable `{name}` is missing or wrong: `{value}`")]
pub struct WrongVariable {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: String,
}

impl Lease {
    /// Reads what `udhcpc` says in the environment of its script.
    pub fn from_environment(variables: &BTreeMap<String, String>) -> Result<Lease, WrongVariable> {
        let text = |name: &str| variables.get(name).map(|text| text.trim()).unwrap_or_default();
        let wrong = |name| WrongVariable { name, value: text(name).to_owned() };
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

/// The prefix length of a netmask; nothing when its ones are not together.
fn prefix_of(mask: &str) -> Option<u8> {
    ipnet::ipv4_mask_to_prefix(mask.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_answers_do_no_harm() {
        let read = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Lease::from_environment(&pairs.collect())
        };
        for (name, value, blamed) in
            [("ip", "10.0.0.1; reboot", "ip"), ("mask", "33", "mask"), ("ip", "", "ip")]
        {
            let error = read(&[("ip", "10.0.0.1"), ("mask", "24"), (name, value)]).unwrap_err();
            assert_eq!(error.name, blamed, "{error}");
        }
        let lease = read(&[
            ("ip", "10.0.0.1"),
            ("subnet", "255.255.0.0"),
            ("router", "--help 192.168.0.1"),
            ("dns", "$(id)"),
            ("domain", "a\nnameserver"),
        ])
        .unwrap();
        assert_eq!(lease.address.to_string(), "10.0.0.1/16");
        assert_eq!(
            lease.commands("eth0", 101)[1].to_string(),
            "ip route replace default via 192.168.0.1 dev eth0 metric 101 onlink"
        );
        assert_eq!(lease.resolv_conf(), None);
        assert_eq!(lease.domain.as_deref(), Some("a"));
    }
}
