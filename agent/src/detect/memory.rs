//! How much memory is installed: the sum of the modules that the firmware's tables describe.
//!
//! Specs are written against what was bought (a multiple of a GiB), not against what the kernel
//! has left, so the tables of the SMBIOS come first and the kernel's figure only where there are
//! none.

use specs::facts::Facts;

use super::Inventory;
use crate::world::Root;

const MEMORY_DEVICE: u8 = 17;

pub(super) fn push_facts(facts: &mut Facts, root: &Root, inventory: &Inventory) {
    let installed = root.read_bytes("/sys/firmware/dmi/tables/DMI").ok().and_then(|tables| {
        let total = module_sizes(&tables).into_iter().sum::<u64>();
        (total > 0).then_some(total)
    });
    if let Ok(bytes) = i64::try_from(installed.unwrap_or(inventory.memory))
        && bytes > 0
    {
        facts.push("memory", "total", "size", bytes);
    }
}

/// The sizes in bytes of the memory modules; empty slots and tables cut short are left out.
fn module_sizes(tables: &[u8]) -> Vec<u64> {
    let mut sizes = Vec::new();
    let mut rest = tables;
    while let [kind, length, ..] = *rest {
        let Some(fields) = rest.get(..usize::from(length).max(4)) else { break };
        if kind == MEMORY_DEVICE
            && let Some(size) = module_size(fields)
        {
            sizes.push(size);
        }
        // The texts of a structure follow its fields and end with two zero bytes.
        let texts = &rest[fields.len()..];
        let Some(end) = texts.windows(2).position(|pair| pair == [0, 0]) else { break };
        rest = &texts[end + 2..];
    }
    sizes
}

/// The size of one module: SMBIOS 7.18, fields at 0x0C and 0x1C.
fn module_size(fields: &[u8]) -> Option<u64> {
    let size = u16::from_le_bytes([*fields.get(0x0c)?, *fields.get(0x0d)?]);
    match size {
        // No module, or of unknown size.
        0 | 0xffff => None,
        // Too large for this field: MiB in another.
        0x7fff => {
            let extended: [u8; 4] = fields.get(0x1c..0x20)?.try_into().ok()?;
            Some(u64::from(u32::from_le_bytes(extended) & 0x7fff_ffff) << 20)
        }
        // The highest bit says KiB.
        kib if kib & 0x8000 != 0 => Some(u64::from(kib & 0x7fff) << 10),
        mib => Some(u64::from(mib) << 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(size: u16, extended: u32) -> Vec<u8> {
        let mut fields = vec![0; 0x22];
        fields[0] = MEMORY_DEVICE;
        fields[1] = 0x22;
        fields[0x0c..0x0e].copy_from_slice(&size.to_le_bytes());
        fields[0x1c..0x20].copy_from_slice(&extended.to_le_bytes());
        fields.extend_from_slice(b"DIMM 0\0QEMU\0\0");
        fields
    }

    #[test]
    fn modules_are_summed_and_empty_slots_are_not() {
        let mut tables = vec![1, 4, 0, 0, b'x', 0, 0];
        tables.extend(module(4096, 0));
        tables.extend(module(0, 0));
        tables.extend(module(0xffff, 0));
        tables.extend(module(0x7fff, 65_536));
        tables.extend(module(0x8000 | 512, 0));
        tables.extend([127, 4, 0, 0, 0, 0]);
        assert_eq!(module_sizes(&tables), [4 << 30, 64 << 30, 512 << 10]);
    }

    #[test]
    fn a_table_cut_anywhere_is_read_as_far_as_it_goes() {
        let mut tables = module(1024, 0);
        tables.extend(module(2048, 0));
        for length in 0..tables.len() {
            let sizes = module_sizes(&tables[..length]);
            assert!([1 << 30, 2 << 30].starts_with(&sizes), "{length}: {sizes:?}");
        }
    }
}
