//! What holds for any input of the readers, the matcher and the request handler, however broken:
//! the bodies of the fuzz targets, and of the test that replays their corpora.
//!
//! A property panics when it does not hold. None of them does I/O but `handle`, which needs a
//! server with its folder.

pub mod agent;
pub mod language;
pub mod literal;
pub mod matcher;
pub mod server;
pub mod stock;
pub mod upgrade;
pub mod wire;

/// A property by its name, which is that of its fuzz target and of its folder of inputs.
pub type Property = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: [Property; 29] = [
    ("literal", literal::literal),
    ("spec", language::spec),
    ("facts", language::facts),
    ("state", stock::state),
    ("cmdb", stock::cmdb),
    ("configure", language::configure),
    ("template", language::template),
    ("units", language::units),
    ("planning", language::planning),
    ("checking", language::checking),
    ("import", language::import),
    ("ids", language::ids),
    ("matcher", matcher::matcher),
    ("plan", wire::plan),
    ("reply", wire::reply),
    ("events", wire::events),
    ("manifest", upgrade::manifest),
    ("rules", upgrade::rules),
    ("upgrade", upgrade::upgrade),
    ("proposal", upgrade::proposal),
    ("listing", upgrade::listing),
    ("cmdline", agent::cmdline),
    ("lease", agent::lease),
    ("assignments", agent::assignments),
    ("settings", server::settings),
    ("form", server::form),
    ("http", server::http),
    ("cgi", server::cgi),
    ("handle", server::handle),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Every input that a fuzzer found worth keeping.
    #[test]
    fn the_corpora_of_the_fuzzers_hold() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (name, property) in ALL {
            let mut inputs = 0;
            for entry in std::fs::read_dir(root.join(name)).unwrap() {
                property(&std::fs::read(entry.unwrap().path()).unwrap());
                inputs += 1;
            }
            assert!(inputs > 0, "{name}");
        }
    }

    #[test]
    fn every_property_is_fuzzed() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        for (name, _) in ALL {
            let target = std::fs::read_to_string(root.join(format!("fuzz/src/bin/{name}.rs")));
            let target = target.unwrap_or_default();
            assert!(target.contains(&format!("::{name}(bytes)")), "{name}");
            let readers = target.lines().find_map(|line| line.strip_prefix("//! Readers: "));
            for reader in readers.unwrap_or_default().split(' ') {
                assert!(root.join("..").join(reader).exists(), "{name} reads with {reader}");
            }
        }
    }
}
