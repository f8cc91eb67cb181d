//! The network of the installed system: addresses checked, one systemd-networkd file per
//! interface, matched by MAC because the kernel may name interfaces differently there.

use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{PlanError, Planner, Problem, step, system};
use crate::configure::{Address, Interface};
use crate::plan::{Action, Command, File, Step};
use crate::units::Mac;

/// An interface of the installed system.
#[derive(Debug)]
pub(super) struct ResolvedInterface {
    name: String,
    mac: Mac,
    /// `None`: DHCP.
    pub(super) address: Option<IpNet>,
    gateway: Option<IpAddr>,
}

/// All interfaces of the configure file.
pub(super) fn resolve(planner: &Planner<'_>) -> Result<Vec<ResolvedInterface>, PlanError> {
    let mut interfaces: Vec<ResolvedInterface> = Vec::new();
    for (position, interface) in planner.configure.machine.network.interfaces.iter().enumerate() {
        let at = format!("network.interfaces[{position}]");
        let resolved = resolve_interface(planner, &at, interface)?;
        for other in &interfaces {
            let twice = if other.name == resolved.name {
                resolved.name.clone()
            } else if other.mac == resolved.mac {
                resolved.mac.to_string()
            } else {
                continue;
            };
            return Err(planner.error(&at, Problem::InterfaceTwice { name: twice }));
        }
        interfaces.push(resolved);
    }
    Ok(interfaces)
}

fn resolve_interface(
    planner: &Planner<'_>,
    at: &str,
    interface: &Interface,
) -> Result<ResolvedInterface, PlanError> {
    let line =
        |field: &str, text: &str| planner.line(&planner.scope, &format!("{at}.{field}"), text);
    let error = |field: &str, problem| planner.error(&format!("{at}.{field}"), problem);
    let name = line("name", &interface.name)?;
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if !plain || name.is_empty() || name.len() > 15 || name.starts_with('.') {
        return Err(error("name", Problem::InterfaceName { name }));
    }
    let mac = match &interface.mac {
        Some(mac) => line("mac", mac)?,
        None => planner
            .inputs
            .facts
            .text("network", &name, "serial")
            .ok_or_else(|| error("name", Problem::NoMac { name: name.clone() }))?,
    };
    let known = planner.inputs.facts.macs();
    let Some(mac) = mac.parse::<Mac>().ok().filter(|mac| known.contains(mac)) else {
        let known = known.iter().map(ToString::to_string).collect();
        return Err(error("mac", Problem::UnknownMac { mac, known }));
    };
    let address = match &interface.address {
        Address::Dhcp => None,
        Address::Static(text) => {
            let text = line("address[0]", text)?;
            let address = parse_address(&text);
            Some(address.ok_or_else(|| error("address", Problem::Address { text }))?)
        }
    };
    let gateway = match &interface.gateway {
        None => None,
        Some(text) => {
            let text = line("gateway", text)?;
            let gateway = parse_gateway(&text, address);
            let network =
                address.map_or_else(|| "that DHCP will give".to_owned(), |a| a.trunc().to_string());
            Some(
                gateway
                    .ok_or_else(|| error("gateway", Problem::Gateway { gateway: text, network }))?,
            )
        }
    };
    Ok(ResolvedInterface { name, mac, address, gateway })
}

/// `address/prefix` or `address/netmask`, when the address can be a host's.
fn parse_address(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.trim().parse().ok()?;
    let prefix = match length.trim().parse::<u8>() {
        Ok(prefix) => prefix,
        Err(_) => ipnet::ip_mask_to_prefix(length.trim().parse().ok()?)
            .ok()
            .filter(|_| address.is_ipv4())?,
    };
    let network = IpNet::new(address, prefix).ok()?;
    let last = network.max_prefix_len();
    // Networks of one or two addresses have neither a name of their own nor a broadcast.
    let reserved = prefix + 1 < last
        && (address == network.network() || (address.is_ipv4() && address == network.broadcast()));
    let odd = address.is_unspecified() || address.is_multicast() || address.is_loopback();
    (prefix > 0 && !reserved && !odd).then_some(network)
}

/// A gateway that the address can reach directly.
fn parse_gateway(text: &str, address: Option<IpNet>) -> Option<IpAddr> {
    let gateway: IpAddr = text.parse().ok()?;
    let address = address?;
    let link_local = matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local() && address.addr().is_ipv6());
    let other = gateway != address.addr();
    (other && (link_local || address.contains(&gateway))).then_some(gateway)
}

/// The name servers of the configure file.
pub(super) fn name_servers(planner: &Planner<'_>) -> Result<Vec<IpAddr>, PlanError> {
    let servers = &planner.configure.machine.network.dns;
    servers
        .iter()
        .enumerate()
        .map(|(position, text)| {
            let at = format!("network.dns[{position}]");
            let text = planner.line(&planner.scope, &at, text)?;
            text.parse().map_err(|_| planner.error(&at, Problem::NameServer { text }))
        })
        .collect()
}

/// The files of systemd-networkd and the resolver.
pub(super) fn files(interfaces: &[ResolvedInterface], name_servers: &[IpAddr]) -> Vec<File> {
    let mut files: Vec<File> = interfaces
        .iter()
        .map(|interface| {
            let path = format!("/etc/systemd/network/10-edeploy-{}.network", interface.name);
            system::file(path, network_file(interface))
        })
        .collect();
    if !name_servers.is_empty() {
        let lines = name_servers.iter().map(|server| format!("nameserver {server}\n"));
        files.push(system::file("/etc/resolv.conf".to_owned(), lines.collect()));
    }
    files
}

fn network_file(interface: &ResolvedInterface) -> String {
    let mut text = format!(
        "# Written by edeploy at installation.\n[Match]\nMACAddress={}\nType=ether\n\n[Network]\n",
        interface.mac
    );
    match interface.address {
        None => text.push_str("DHCP=yes\n"),
        Some(address) => {
            let _ = writeln!(text, "Address={address}");
        }
    }
    if let Some(gateway) = interface.gateway {
        let _ = writeln!(text, "Gateway={gateway}");
    }
    text
}

/// Switches systemd-networkd on in the installed system.
pub(super) fn enable_step() -> Step {
    let command = ["systemctl", "enable", "systemd-networkd.service"];
    let action = Action::Run {
        command: Command::Arguments(command.map(str::to_owned).to_vec()),
        chroot: true,
        environment: std::collections::BTreeMap::new(),
    };
    step("enable systemd-networkd", 60, action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_take_a_prefix_or_a_netmask() {
        for (text, expected) in [
            ("10.0.2.103/24", Some("10.0.2.103/24")),
            ("10.0.2.103/255.255.255.0", Some("10.0.2.103/24")),
            ("10.0.2.0/31", Some("10.0.2.0/31")),
            ("10.0.2.1/32", Some("10.0.2.1/32")),
            ("2001:db8::3/64", Some("2001:db8::3/64")),
            ("10.0.2.103", None),
            ("10.0.2.103/", None),
            ("10.0.2.103/33", None),
            ("10.0.2.103/0", None),
            ("10.0.2.103/255.0.255.0", None),
            ("10.0.2.0/24", None),
            ("10.0.2.255/24", None),
            ("127.0.0.1/8", None),
            ("224.0.0.1/24", None),
            ("2001:db8::3/255.255.255.0", None),
            ("10.0.2.256/24", None),
        ] {
            let found = parse_address(text).map(|address| address.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_gateway_is_another_host_of_the_network() {
        for (text, address, expected) in [
            ("10.0.2.2", Some("10.0.2.103/24"), true),
            ("fe80::1", Some("2001:db8::3/64"), true),
            ("10.0.2.103", Some("10.0.2.103/24"), false),
            ("10.0.3.2", Some("10.0.2.103/24"), false),
            ("fe80::1", Some("10.0.2.103/24"), false),
            ("gateway", Some("10.0.2.103/24"), false),
            ("10.0.2.2", None, false),
        ] {
            let address = address.map(|address| address.parse().unwrap());
            assert_eq!(parse_gateway(text, address).is_some(), expected, "{text} {address:?}");
        }
    }
}
