//! The boot entries of a UEFI machine that is switched off, read from the file in which OVMF
//! keeps its variables: what the firmware itself has stored, before any boot changes it.
//!
//! The file is a firmware volume with one store of authenticated variables (UEFI PI 1.7, volume
//! 3; EDK II `MdeModulePkg/Include/Guid/VariableFormat.h`). Only what is needed is read.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Where a firmware volume says how long its header is.
const HEADER_LENGTH: usize = 48;

/// Bytes of the header of the store.
const STORE_HEADER: usize = 28;

/// What a variable begins with.
const START: u16 = 0x55aa;

/// Bytes before the name of a variable.
const VARIABLE_HEADER: usize = 60;

/// Bits that are cleared as a variable gets old: `0x3f` is valid, and `0x3e` until its successor
/// is.
const VALID: [u8; 2] = [0x3f, 0x3e];

/// The labels of the boot entries, in the order in which the firmware tries them.
pub fn boot_order(file: &Path) -> Result<Vec<String>> {
    let bytes = std::fs::read(file).with_context(|| format!("reading `{}`", file.display()))?;
    parse(&bytes).with_context(|| format!("reading the variables of `{}`", file.display()))
}

fn parse(bytes: &[u8]) -> Result<Vec<String>> {
    let variables = variables(bytes).context("the store is cut short")?;
    let order = variables.get("BootOrder").context("there is no BootOrder")?;
    let number = |pair: &[u8]| format!("Boot{:02X}{:02X}", pair[1], pair[0]);
    let label = |name: String| -> Result<String> {
        let option = variables.get(&name).with_context(|| format!("there is no {name}"))?;
        // Attributes and the length of the path come before the label.
        Ok(text(option.get(6..).unwrap_or_default()))
    };
    ensure!(!order.is_empty(), "BootOrder is empty");
    order.chunks_exact(2).map(number).map(label).collect()
}

/// The valid variables by name.
fn variables(bytes: &[u8]) -> Option<BTreeMap<String, &[u8]>> {
    let number = |at: usize, length: usize| -> Option<usize> {
        let digits = bytes.get(at..at + length)?;
        Some(digits.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    };
    let mut found = BTreeMap::new();
    let mut at = number(HEADER_LENGTH, 2)? + STORE_HEADER;
    while number(at, 2)? == usize::from(START) {
        let (name_size, data_size) = (number(at + 36, 4)?, number(at + 40, 4)?);
        let name = at + VARIABLE_HEADER;
        let data = name + name_size;
        let end = data + data_size;
        if VALID.contains(bytes.get(at + 2)?) {
            found.insert(text(bytes.get(name..data)?), bytes.get(data..end)?);
        }
        at = end.next_multiple_of(4);
    }
    Some(found)
}

/// UTF-16 up to its end mark.
fn text(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    String::from_utf16_lossy(&units.take_while(|unit| *unit != 0).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str) -> Vec<u8> {
        text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
    }

    fn variable(state: u8, name: &str, data: &[u8]) -> Vec<u8> {
        let name = utf16(name);
        let mut bytes = vec![0; VARIABLE_HEADER];
        bytes[..3].copy_from_slice(&[0xaa, 0x55, state]);
        bytes[36..40].copy_from_slice(&u32::try_from(name.len()).unwrap().to_le_bytes());
        bytes[40..44].copy_from_slice(&u32::try_from(data.len()).unwrap().to_le_bytes());
        bytes.extend(name);
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0xff);
        bytes
    }

    #[test]
    fn labels_come_in_the_order_that_is_valid() {
        let option = |label: &str| [&[1, 0, 0, 0, 9, 0][..], &utf16(label), b"path"].concat();
        let mut volume = vec![0; 72 + STORE_HEADER];
        volume[HEADER_LENGTH] = 72;
        for (state, name, data) in [
            (0x3c, "BootOrder", vec![0, 0]),
            (0x3f, "Boot0000", option("UiApp")),
            (0x3f, "Boot000A", option("UEFI PXEv4 (MAC:525400123456)")),
            (0x3f, "BootOrder", vec![0x0a, 0, 0, 0]),
        ] {
            volume.extend(variable(state, name, &data));
        }
        let cut = volume.clone();
        volume.extend([0xff; 64]);
        assert_eq!(parse(&volume).unwrap(), ["UEFI PXEv4 (MAC:525400123456)", "UiApp"]);
        let error = format!("{:#}", parse(&cut).unwrap_err());
        assert_eq!(error, "the store is cut short");
    }
}
