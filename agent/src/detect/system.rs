//! The machine as its firmware describes it, its kernel, and its processors.

use std::collections::BTreeSet;

use specs::facts::Facts;

use super::{Inventory, number, value};
use crate::world::Root;

/// Facts by the file of `/sys/class/dmi/id` that holds them.
const DMI: [(&str, &str, &str, &str); 12] = [
    ("system", "product", "serial", "product_serial"),
    ("system", "product", "name", "product_name"),
    ("system", "product", "vendor", "sys_vendor"),
    ("system", "product", "version", "product_version"),
    ("system", "product", "uuid", "product_uuid"),
    ("system", "motherboard", "name", "board_name"),
    ("system", "motherboard", "vendor", "board_vendor"),
    ("system", "motherboard", "version", "board_version"),
    ("system", "motherboard", "serial", "board_serial"),
    ("firmware", "bios", "version", "bios_version"),
    ("firmware", "bios", "date", "bios_date"),
    ("firmware", "bios", "vendor", "bios_vendor"),
];

pub(super) fn push_facts(facts: &mut Facts, root: &Root) {
    for (class, name, key, file) in DMI {
        if let Some(text) = value(root, &format!("/sys/class/dmi/id/{file}")) {
            facts.push(class, name, key, text);
        }
    }
    let firmware = if root.exists("/sys/firmware/efi") { "uefi" } else { "bios" };
    facts.push("system", "firmware", "type", firmware);
    for (key, file) in [("version", "/proc/sys/kernel/osrelease"), ("cmdline", "/proc/cmdline")] {
        if let Some(text) = value(root, file) {
            facts.push("system", "kernel", key, text);
        }
    }
    facts.push("system", "kernel", "arch", std::env::consts::ARCH);
}

/// Sockets as `physical`, hardware threads as `logical`, as the original counts them.
pub(super) fn push_processors(facts: &mut Facts, root: &Root, inventory: &Inventory) {
    let mut sockets = BTreeSet::new();
    let mut cores = BTreeSet::new();
    let mut threads = Vec::new();
    for name in root.names("/sys/devices/system/cpu").unwrap_or_default() {
        let topology = format!("/sys/devices/system/cpu/{name}/topology");
        // Folders that are no processor have none, and one that is off has lost its own.
        let Some(socket) = number(root, &format!("{topology}/physical_package_id")) else {
            continue;
        };
        sockets.insert(socket);
        cores.insert((socket, number(root, &format!("{topology}/core_id"))));
        threads.push(socket);
    }
    facts.push("cpu", "physical", "number", count(sockets.len()));
    for (position, socket) in sockets.iter().enumerate() {
        let name = format!("physical_{position}");
        for (key, text) in [("product", &inventory.cpu_product), ("vendor", &inventory.cpu_vendor)]
        {
            if !text.is_empty() {
                facts.push("cpu", &name, key, text.clone());
            }
        }
        let cores = cores.iter().filter(|(of, _)| of == socket).count();
        facts.push("cpu", &name, "cores", count(cores));
        let threads = threads.iter().filter(|of| *of == socket).count();
        facts.push("cpu", &name, "threads", count(threads));
    }
    facts.push("cpu", "logical", "number", count(threads.len()));
}

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
