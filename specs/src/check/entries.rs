//! CMDB entries against each other: what is handed out twice, and what lies in no network.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Profile;
use crate::catalog::File;
use crate::cmdb::Entry;
use crate::diagnostic::Diagnostic;
use crate::literal::{Document, Node};
use crate::value::Variables;

/// More findings of one kind in one file say nothing more.
const MOST: usize = 10;

pub(super) fn check(profiles: &[Profile<'_>], findings: &mut Vec<Diagnostic>) {
    let mut given: BTreeMap<(String, String), String> = BTreeMap::new();
    for profile in profiles {
        let Some(cmdb) = &profile.cmdb else { continue };
        let file = File::Cmdb(profile.name.clone()).to_string();
        let Ok(document) = Document::parse(&file, &profile.texts[&file]) else { continue };
        let mut keys: BTreeMap<String, usize> = BTreeMap::new();
        let mut twice = 0;
        let mut outside = 0;
        for (position, entry) in cmdb.entries().enumerate() {
            let at = |key: &str| place(&document, position, key).span;
            let described = format!("entry {} of {file}", position + 1);
            if let Some((key, shown)) = cmdb_key(profile, &entry) {
                if let Some(first) = keys.get(&shown).filter(|_| twice < MOST) {
                    twice += 1;
                    let message = format!(
                        "entry {} has the same {shown}: this one is never chosen",
                        first + 1
                    );
                    findings.push(document.error("check-duplicate-key", at(&key), message));
                }
                keys.entry(shown).or_insert(position);
            }
            for (key, value) in unique_values(&entry) {
                let earlier =
                    given.insert((kind(&key).to_owned(), value.clone()), described.clone());
                if let Some(earlier) = earlier.filter(|_| twice < MOST) {
                    twice += 1;
                    let message = format!("{key} {value} is that of {earlier} as well");
                    let finding = document.error("check-duplicate", at(&key), message);
                    findings.push(finding.with_help("two machines would have it"));
                }
            }
            for (key, message) in outside_network(&entry) {
                if outside < MOST {
                    outside += 1;
                    findings.push(document.error("check-network", at(&key), message));
                }
            }
        }
    }
}

/// The node of a key of an entry, or of the template or entry when it is not spelled out.
fn place<'a>(document: &'a Document, position: usize, key: &str) -> &'a Node {
    use crate::literal::Kind;
    let root = document.root();
    let entry = match &root.kind {
        Kind::Generate(template) => template,
        _ => root.items().and_then(|items| items.get(position)).unwrap_or(root),
    };
    entry.get(key).unwrap_or(entry)
}

/// The values by which entries are chosen, as `tag=T1`, with the first of the keys.
fn cmdb_key(profile: &Profile<'_>, entry: &Entry) -> Option<(String, String)> {
    let spec = profile.spec.as_ref()?;
    let keys: Variables = spec
        .variables()
        .into_iter()
        .filter(|(_, cmdb)| *cmdb)
        .map(|(name, _)| Some((name.to_owned(), entry.get(name)?.clone())))
        .collect::<Option<_>>()?;
    let first = keys.keys().next()?.clone();
    let shown: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Some((first, shown.join(", ")))
}

/// Values that no two machines may share: host names and addresses.
fn unique_values(entry: &Entry) -> Vec<(String, String)> {
    let fields = entry.fields.iter();
    let unique = fields.filter(|field| {
        let text = field.value.as_text();
        field.key == "hostname" || (is_address(&field.key) && text.parse::<IpAddr>().is_ok())
    });
    unique.map(|field| (field.key.clone(), field.value.as_text())).collect()
}

fn is_address(key: &str) -> bool {
    key == "ip" || key.starts_with("ip-") || key.starts_with("ip_")
}

/// Host names are compared with host names, addresses with addresses of any interface.
fn kind(key: &str) -> &str {
    if is_address(key) { "ip" } else { key }
}

/// Gateways that their address cannot reach: `ip`, `netmask` and `gateway`, each with the same
/// ending (`-ipmi`).
fn outside_network(entry: &Entry) -> Vec<(String, String)> {
    let text = |key: String| entry.get(&key).map(|value| value.as_text());
    let mut found = Vec::new();
    for field in entry.fields.iter().filter(|field| is_address(&field.key)) {
        let ending = &field.key[2..];
        let mask = text(format!("netmask{ending}"));
        let gateway = text(format!("gateway{ending}")).and_then(|text| text.parse::<IpAddr>().ok());
        let (Some(mask), Some(gateway)) = (mask, gateway) else { continue };
        let Ok(address) = field.value.as_text().parse::<IpAddr>() else { continue };
        let network = match mask.parse::<IpAddr>() {
            Ok(mask) => IpNet::with_netmask(address, mask).ok(),
            Err(_) => mask.parse().ok().and_then(|prefix| IpNet::new(address, prefix).ok()),
        };
        if let Some(network) = network.filter(|network| !network.contains(&gateway)) {
            let network = network.trunc();
            let message =
                format!("the gateway {gateway} is not in {network}, the network of {address}");
            found.push((field.key.clone(), message));
        }
    }
    found
}
