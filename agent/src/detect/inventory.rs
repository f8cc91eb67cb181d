//! Processor, memory and addresses, as `sysinfo` finds them on the live machine.
//!
//! `sysinfo` reads the machine it runs on and no other, so a captured tree has a second way to
//! the same type: `/proc/meminfo`, `/proc/cpuinfo` and `ip-address.json` (the output of
//! `ip -json address` when the tree was captured).

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::Deserialize;
use sysinfo::{Networks, System};

use crate::world::Root;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inventory {
    /// Memory the kernel uses, in bytes: less than what is installed.
    pub memory: u64,
    /// Vendor of the processors, for example `GenuineIntel`.
    pub cpu_vendor: String,
    /// Name of the processors.
    pub cpu_product: String,
    /// Addresses per network interface, in the kernel's order.
    pub addresses: BTreeMap<String, Vec<IpNet>>,
}

impl Inventory {
    /// Asks `sysinfo`. What it does not find is empty.
    pub fn of_this_machine() -> Inventory {
        let mut inventory = Inventory::default();
        let kinds = sysinfo::RefreshKind::nothing()
            .with_cpu(sysinfo::CpuRefreshKind::nothing())
            .with_memory(sysinfo::MemoryRefreshKind::nothing().with_ram());
        if let Ok(system) = System::new_with_specifics(kinds) {
            inventory.memory = system.total_memory();
            if let Some(cpu) = system.cpus().first() {
                inventory.cpu_vendor = cpu.vendor_id().to_owned();
                inventory.cpu_product = cpu.brand().trim().to_owned();
            }
        }
        if let Ok(networks) = Networks::new_with_refreshed_list() {
            for (name, network) in networks.iter() {
                let addresses = network
                    .ip_networks()
                    .iter()
                    .filter_map(|network| IpNet::new(network.addr, network.prefix).ok());
                let name = name.to_string_lossy().into_owned();
                inventory.addresses.insert(name, addresses.collect());
            }
        }
        inventory
    }

    /// Reads the files of a captured tree.
    pub fn of_capture(root: &Root) -> Inventory {
        let text = |path: &str| root.read_text(path).unwrap_or_default();
        let (meminfo, cpuinfo) = (text("/proc/meminfo"), text("/proc/cpuinfo"));
        Inventory {
            memory: field(&meminfo, "MemTotal")
                .and_then(|value| value.strip_suffix(" kB")?.trim().parse::<u64>().ok())
                .map_or(0, |kib| kib * 1024),
            cpu_vendor: field(&cpuinfo, "vendor_id").unwrap_or_default(),
            cpu_product: field(&cpuinfo, "model name").unwrap_or_default(),
            addresses: addresses_of(&text("/ip-address.json")),
        }
    }
}

/// The value of the first `name : value` line.
fn field(text: &str, name: &str) -> Option<String> {
    let (_, value) =
        text.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == name)?;
    Some(value.trim().to_owned())
}

/// One interface in the output of `ip -json address`.
#[derive(Deserialize)]
struct Interface {
    ifname: String,
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    local: std::net::IpAddr,
    prefixlen: u8,
}

fn addresses_of(json: &str) -> BTreeMap<String, Vec<IpNet>> {
    let interfaces: Vec<Interface> = serde_json::from_str(json).unwrap_or_default();
    interfaces
        .into_iter()
        .map(|interface| {
            let addresses = interface.addr_info.iter();
            let addresses =
                addresses.filter_map(|address| IpNet::new(address.local, address.prefixlen).ok());
            (interface.ifname, addresses.collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_machine_has_memory_and_the_loopback_address() {
        let inventory = Inventory::of_this_machine();
        assert!(inventory.memory > 64 << 20, "{inventory:?}");
        let loopback: IpNet = "127.0.0.1/8".parse().unwrap();
        assert!(inventory.addresses["lo"].contains(&loopback), "{inventory:?}");
    }
}
