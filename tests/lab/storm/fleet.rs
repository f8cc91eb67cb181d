//! The machines of a storm: captured ones of the corpus, each with serials, UUID and MAC
//! addresses of its own, so that facts have the sizes and oddities of real halls.

use std::path::Path;

use anyhow::{Context, Result};
use specs::facts::{Fact, Facts};
use specs::value::Value;

/// The captured machines, below the corpus; profile number k takes machines of kind k.
const CAPTURED: [&str; 5] = [
    "cardiff-vms/OpenStackCompute-RedHat-44454c4c4b0010398050b9c04f573032-fa-16-3e-00-b2-ff.hw",
    "edeploy/config/hw/ProLiantDL360pGen8654081B21-HP-CZ3323FDVK.hw",
    "hardware/tests/cardiff_samples/ProLiantBL460cGen8641016B21-HP-CZ3404YWP49c-b6-54-88-cc-50.hw_",
    "cardiff-vms-ahc/cpu-cpu/OpenStackCompute-RedHat-44454c4c4b0010398050b9c04f573032-fa-16-3e-69-2f-07.hw",
    "edeploy/tests/hw-match.hw",
];

/// How many kinds of machines there are, at most as many as profiles.
pub const KINDS: usize = CAPTURED.len();

/// The kinds, read once.
#[derive(Debug)]
pub struct Fleet {
    kinds: Vec<Facts>,
    /// Every machine has at least this many facts.
    least_facts: usize,
}

impl Fleet {
    /// Reads the captured machines below `corpus`.
    pub fn read(corpus: &Path, least_facts: usize) -> Result<Fleet> {
        let kinds = CAPTURED.iter().map(|name| {
            let path = corpus.join(name);
            let bytes = std::fs::read(&path)
                .with_context(|| format!("reading the captured machine `{}`", path.display()))?;
            let facts = Facts::parse(name, &bytes)?;
            Ok(stripped(facts))
        });
        Ok(Fleet { kinds: kinds.collect::<Result<_>>()?, least_facts })
    }

    /// The facts of machine `number`, which is of kind `number % kinds`, as JSON.
    pub fn facts(&self, number: usize, kinds: usize) -> Result<String> {
        let kind = number % kinds;
        // Its own come first: the first disk that is large enough is the one that is taken.
        let mut facts = Facts::default();
        let [.., a, b, c, d] = number.to_be_bytes();
        let mac = format!("52:54:{a:02x}:{b:02x}:{c:02x}:{d:02x}");
        facts.push("disk", "vda", "size", 128);
        facts.push("disk", "vda", "serial", format!("disk-{number}"));
        facts.push("network", "eth0", "serial", mac.as_str());
        facts.push("network", "eth0", "permanent", "yes");
        facts.push("system", "product", "serial", format!("STORM{number:07}"));
        facts.push("system", "product", "uuid", format!("6f1a2b3c-0000-4000-8000-{number:012}"));
        facts.push("system", "rack", "name", rack(kind));
        facts.0.extend(self.kinds[kind].0.iter().cloned());
        for extra in 0..self.least_facts.saturating_sub(facts.0.len()) {
            facts.push("cpu", &format!("logical_{}", extra / 10), &format!("flag{extra}"), "yes");
        }
        Ok(serde_json::to_string(&facts)?)
    }
}

/// What tells kind from kind.
pub fn rack(kind: usize) -> String {
    format!("rack-{kind}")
}

/// The spec list of the profile that takes machines of a kind.
pub fn specs(kind: usize) -> String {
    format!(
        "[\n    (\"disk\", \"$disk\", \"size\", \"gt(4)\"),\n    (\"network\", \"$eth\", \"serial\", \
         \"$mac\"),\n    (\"system\", \"rack\", \"name\", \"{}\"),\n]\n",
        rack(kind)
    )
}

/// A captured machine without what has to be each machine's own.
fn stripped(facts: Facts) -> Facts {
    let own = |Fact(class, name, key, value): &Fact| {
        let text = value.as_text();
        let mac = class == "network" && key == "serial";
        let number = class == "system" && matches!(key.as_str(), "serial" | "uuid");
        let disk = class == "disk" && (name == "vda" || key == "serial");
        mac || number || disk || text.is_empty() && *value != Value::Text(String::new())
    };
    Facts(facts.0.into_iter().filter(|fact| !own(fact)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::BTreeSet;

    #[test]
    fn no_two_machines_share_an_address_and_sizes_are_as_asked() {
        let corpus = crate::artifacts::checkout().join("tests/fixtures/corpus");
        let fleet = Fleet::read(&corpus, 300).unwrap();
        let mut addresses = BTreeSet::new();
        for number in 0..50 {
            let text = fleet.facts(number, KINDS).unwrap();
            let facts = Facts::parse("facts", text.as_bytes()).unwrap();
            assert!(facts.0.len() >= 300, "{}", facts.0.len());
            let macs = facts.macs();
            assert_eq!(macs.len(), 1, "{macs:?}");
            assert!(addresses.insert(macs[0].clone()), "{macs:?}");
        }
    }
}
