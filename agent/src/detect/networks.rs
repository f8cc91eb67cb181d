//! Network interfaces with hardware behind them.

use specs::facts::Facts;
use specs::units::Mac;

use super::{Inventory, number, value};
use crate::world::Root;

/// `ARPHRD_ETHER`: Ethernet, as `/sys/class/net/*/type` names it.
const ETHERNET: i64 = 1;

/// The names of the Ethernet interfaces that are hardware, in the order of their numbers.
pub(crate) fn names(root: &Root) -> Vec<String> {
    let mut names = root.names("/sys/class/net").unwrap_or_default();
    names.retain(|name| {
        root.exists(&format!("/sys/class/net/{name}/device"))
            && number(root, &format!("/sys/class/net/{name}/type")) == Some(ETHERNET)
    });
    // eth10 comes after eth9.
    names.sort_by_key(|name| {
        (number(root, &format!("/sys/class/net/{name}/ifindex")), name.clone())
    });
    names
}

/// Whether there is somebody at the other end of the cable. Only an interface that is up knows.
pub(crate) fn has_carrier(root: &Root, name: &str) -> bool {
    number(root, &format!("/sys/class/net/{name}/carrier")) == Some(1)
}

/// The address that the interface has now.
pub(crate) fn mac(root: &Root, name: &str) -> Option<Mac> {
    value(root, &format!("/sys/class/net/{name}/address"))?.parse().ok()
}

/// The name of the driver.
pub(crate) fn driver(root: &Root, name: &str) -> Option<String> {
    last_part(root, &format!("/sys/class/net/{name}/device/driver"))
}

pub(super) fn push_facts(facts: &mut Facts, root: &Root, inventory: &Inventory) {
    for name in names(root) {
        let file = |key: &str| format!("/sys/class/net/{name}/{key}");
        if let Some(bus) = bus_address(root, &name) {
            facts.push("network", &name, "businfo", bus);
        }
        let addresses = inventory.addresses.get(&name).map(Vec::as_slice).unwrap_or_default();
        if let Some(ipnet::IpNet::V4(ipv4)) =
            addresses.iter().find(|address| matches!(address, ipnet::IpNet::V4(_)))
        {
            facts.push("network", &name, "ipv4", ipv4.addr().to_string());
            facts.push("network", &name, "ipv4-netmask", ipv4.netmask().to_string());
            facts.push("network", &name, "ipv4-cidr", i64::from(ipv4.prefix_len()));
            facts.push("network", &name, "ipv4-network", ipv4.network().to_string());
        }
        if let Some(ipnet::IpNet::V6(ipv6)) = addresses.iter().find(|address| {
            matches!(address, ipnet::IpNet::V6(net) if !net.addr().is_unicast_link_local())
        }) {
            facts.push("network", &name, "ipv6", ipv6.addr().to_string());
            facts.push("network", &name, "ipv6-cidr", i64::from(ipv6.prefix_len()));
        }
        let link = has_carrier(root, &name);
        facts.push("network", &name, "link", if link { "yes" } else { "no" });
        if let Some(driver) = driver(root, &name) {
            facts.push("network", &name, "driver", driver);
        }
        if link {
            if let Some(speed) = number(root, &file("speed")).and_then(speed_text) {
                facts.push("network", &name, "speed", speed);
            }
            if let Some(duplex) = value(root, &file("duplex")).filter(|text| text != "unknown") {
                facts.push("network", &name, "duplex", duplex);
            }
        }
        if let Some(mac) = value(root, &file("address")) {
            facts.push("network", &name, "serial", mac.to_ascii_lowercase());
            // 0: burnt in. A random or a set address is nobody's identity.
            let permanent = number(root, &file("addr_assign_type")) == Some(0);
            facts.push("network", &name, "permanent", if permanent { "yes" } else { "no" });
        }
    }
}

/// Mbit/s as the original words it: `100Mbit/s`, `1Gbit/s`; a port that does not know says -1.
fn speed_text(mbit: i64) -> Option<String> {
    match mbit {
        ..=0 => None,
        whole if whole % 1000 == 0 => Some(format!("{}Gbit/s", whole / 1000)),
        other => Some(format!("{other}Mbit/s")),
    }
}

/// `pci@0000:00:03.0`: the innermost PCI function on the way to the device.
fn bus_address(root: &Root, name: &str) -> Option<String> {
    let device = root.resolve(&format!("/sys/class/net/{name}/device")).ok()?;
    let function =
        device.components().rev().filter_map(|part| part.as_os_str().to_str()).find(|part| {
            part.len() == 12 && part.matches(':').count() == 2 && part.contains('.')
        })?;
    Some(format!("pci@{function}"))
}

fn last_part(root: &Root, link: &str) -> Option<String> {
    let target = root.resolve(link).ok()?;
    target.exists().then(|| target.file_name()?.to_str().map(str::to_owned)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_worded_as_in_the_original() {
        for (mbit, expected) in [
            (-1, None),
            (0, None),
            (100, Some("100Mbit/s")),
            (1000, Some("1Gbit/s")),
            (2500, Some("2500Mbit/s")),
            (25000, Some("25Gbit/s")),
        ] {
            assert_eq!(speed_text(mbit).as_deref(), expected, "{mbit}");
        }
    }
}
