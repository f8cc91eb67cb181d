//! Network interfaces with hardware behind them.

use ipnet::IpNet;
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
    names.sort_by_key(|name| (interface_number(root, name), name.clone()));
    names
}

/// The number that the kernel gave the interface.
pub(crate) fn interface_number(root: &Root, name: &str) -> Option<i64> {
    number(root, &format!("/sys/class/net/{name}/ifindex"))
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
        let addresses = addresses(root, inventory, &name);
        if let Some(IpNet::V4(ipv4)) =
            addresses.iter().find(|address| matches!(address, IpNet::V4(_)))
        {
            facts.push("network", &name, "ipv4", ipv4.addr().to_string());
            facts.push("network", &name, "ipv4-netmask", ipv4.netmask().to_string());
            facts.push("network", &name, "ipv4-cidr", i64::from(ipv4.prefix_len()));
            facts.push("network", &name, "ipv4-network", ipv4.network().to_string());
        }
        if let Some(IpNet::V6(ipv6)) = addresses.iter().find(
            |address| matches!(address, IpNet::V6(net) if !net.addr().is_unicast_link_local()),
        ) {
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

/// The addresses of an interface, then those of the VLANs on it: the hardware is one fact, however
/// its frames are tagged.
fn addresses(root: &Root, inventory: &Inventory, name: &str) -> Vec<IpNet> {
    let uppers = root.names(&format!("/sys/class/net/{name}")).unwrap_or_default();
    let vlans = uppers.iter().filter_map(|file| file.strip_prefix("upper_")).filter(|upper| {
        value(root, &format!("/sys/class/net/{upper}/uevent"))
            .is_some_and(|text| text.lines().any(|line| line == "DEVTYPE=vlan"))
    });
    std::iter::once(name)
        .chain(vlans)
        .filter_map(|interface| inventory.addresses.get(interface))
        .flatten()
        .copied()
        .collect()
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

    #[test]
    fn addresses_on_vlans_are_those_of_the_hardware() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        for (path, content) in [
            ("eth0/type", "1"),
            ("eth0/device/vendor", "x"),
            // In the kernel these are links to the folder of the other interface.
            ("eth0/upper_eth0.12/type", "1"),
            ("eth0/upper_bond0/type", "1"),
            ("eth0.12/uevent", "DEVTYPE=vlan\nINTERFACE=eth0.12\nIFINDEX=7"),
            ("bond0/uevent", "DEVTYPE=bond\nINTERFACE=bond0\nIFINDEX=8"),
        ] {
            root.write(&format!("/sys/class/net/{path}"), content.as_bytes(), 0o644, None).unwrap();
        }
        for (own, expected) in [(None, "10.12.0.5"), (Some("10.0.0.5/8"), "10.0.0.5")] {
            let mut inventory = Inventory::default();
            let pairs =
                [("eth0", own), ("eth0.12", Some("10.12.0.5/16")), ("bond0", Some("10.1.1.1/8"))];
            for (name, address) in pairs {
                let addresses = address.map(|text| text.parse().unwrap()).into_iter().collect();
                inventory.addresses.insert(name.to_owned(), addresses);
            }
            let mut facts = Facts::default();
            push_facts(&mut facts, &root, &inventory);
            assert_eq!(facts.text("network", "eth0", "ipv4").as_deref(), Some(expected));
        }
    }
}
