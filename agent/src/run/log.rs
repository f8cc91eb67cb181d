//! The log that is uploaded: what the console showed, the boot arguments, the kernel's messages.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use specs::facts::Facts;
use specs::machine::identity::meaningful;

use crate::drivers;
use crate::report::{Console, INSTALL_LOG};
use crate::world::Root;

/// `<vendor>-<product>-<serial>.log.gz`, as the original names it: what is no letter, digit, `_`
/// or `.` becomes `_`. A serial number that whole fleets share gives way to the UUID, and that
/// to the first MAC: two machines must not share a log.
pub(super) fn file_name(facts: &Facts) -> String {
    let product = |key| facts.text("system", "product", key).unwrap_or_default();
    let own =
        |key: &str| facts.text("system", "product", key).filter(|text| meaningful(text).is_some());
    let name = own("serial")
        .or_else(|| own("uuid"))
        .or_else(|| facts.macs().first().map(ToString::to_string))
        .unwrap_or_default();
    let parts = [product("vendor"), product("name"), name].map(|part| {
        let tame = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' };
        part.chars().map(tame).collect::<String>()
    });
    format!("{}.log.gz", parts.join("-"))
}

/// The whole log, without secrets, compressed.
pub(super) fn compressed(console: &Console, root: &Root) -> io::Result<Vec<u8>> {
    let mut archive = GzEncoder::new(Vec::new(), Compression::default());
    for (title, text) in [
        ("install log", root.read_text(INSTALL_LOG)?),
        ("boot arguments", root.read_text("/proc/cmdline").unwrap_or_default()),
        ("kernel messages", drivers::kernel_log().join("\n")),
    ] {
        writeln!(archive, "==== {title} ====\n{}", console.redacted(&text))?;
    }
    archive.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(product: &[(&str, &str)], expected: &str) {
        let mut facts = Facts::default();
        for (key, value) in product {
            facts.push("system", "product", key, *value);
        }
        assert_eq!(file_name(&facts), expected);
    }

    #[test]
    fn log_names_are_those_of_the_original_and_no_paths() {
        check(
            &[("vendor", "HP"), ("name", "ProLiant DL360p Gen8"), ("serial", "CZJ3")],
            "HP-ProLiant_DL360p_Gen8-CZJ3.log.gz",
        );
        check(
            &[("vendor", "QEMU"), ("name", "pc"), ("serial", "0123456789"), ("uuid", "5f1c-7a")],
            "QEMU-pc-5f1c_7a.log.gz",
        );
        check(&[("vendor", "../../etc")], ".._.._etc--.log.gz");
    }

    #[test]
    fn a_machine_without_serial_and_uuid_is_named_by_its_first_mac() {
        let mut facts = Facts::default();
        facts.push("system", "product", "vendor", "QEMU");
        facts.push("system", "product", "serial", "Not Specified");
        facts.push("network", "eth0", "serial", "52:54:00:12:34:56");
        assert_eq!(file_name(&facts), "QEMU--52_54_00_12_34_56.log.gz");
    }

    #[test]
    fn the_log_holds_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        root.write(INSTALL_LOG, b"password hunter2\n", 0o600, None).unwrap();
        let (console, _) = crate::report::testing::console();
        console.redact(&["hunter2".to_owned()]);
        let log = compressed(&console, &root).unwrap();
        let mut text = String::new();
        io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&log[..]), &mut text).unwrap();
        assert!(text.starts_with("==== install log ====\npassword ***\n"), "{text}");
    }
}
