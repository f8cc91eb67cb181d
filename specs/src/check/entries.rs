//! CMDB entries against each other: what is handed out twice, and what lies in no network.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Profile;
use crate::catalog::File;
use crate::cmdb::{Cmdb, Entry};
use crate::configure::template;
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::literal::{Document, Kind, Node};
use crate::value::Variables;

/// More findings of one kind in one file say nothing more.
const MOST: usize = 10;

pub(super) fn check(profiles: &[Profile<'_>], findings: &mut Vec<Diagnostic>) {
    let mut given: BTreeMap<(String, String), String> = BTreeMap::new();
    for profile in profiles {
        let Some(cmdb) = &profile.cmdb else { continue };
        let file = File::Cmdb(profile.name.clone()).to_string();
        let Ok(document) = Document::parse(&file, &profile.texts[&file]) else { continue };
        comments(&document, cmdb, findings);
        let mut keys: BTreeMap<String, usize> = BTreeMap::new();
        let (mut twice, mut outside, mut clashes) = (0, 0, 0);
        for (position, entry) in cmdb.entries().enumerate() {
            let at = |key: &str| place(&document, position, key).span;
            let described = format!("entry {} of {file}", position + 1);
            if let Some((key, shown)) = cmdb_key(profile, &entry) {
                if let Some(first) = keys.get(&shown).filter(|_| twice < MOST) {
                    twice += 1;
                    let message =
                        format!("entry {} has the same {shown} and is chosen first", first + 1);
                    let finding = document.error(Code::CheckDuplicateKey, at(&key), message);
                    findings.push(finding.with_help("entries are told apart by their `$$` keys"));
                }
                keys.entry(shown).or_insert(position);
            }
            for (key, value) in unique_values(&entry) {
                let earlier =
                    given.insert((kind(&key).to_owned(), value.clone()), described.clone());
                if let Some(earlier) = earlier.filter(|_| twice < MOST) {
                    twice += 1;
                    let message = format!("{key} {value} is that of {earlier} as well");
                    let finding = document.error(Code::CheckDuplicate, at(&key), message);
                    findings.push(finding.with_help("two machines would have it"));
                }
            }
            for (key, message) in outside_network(&entry) {
                if outside < MOST {
                    outside += 1;
                    let finding = document.error(Code::CheckNetwork, at(&key), message);
                    findings.push(finding.with_help("correct the address, netmask or gateway"));
                }
            }
            let names = entry.fields.iter().map(|field| field.key.as_str());
            if let Some(clash) = template::clash(names).filter(|_| clashes < MOST) {
                clashes += 1;
                let finding = document.error(Code::CheckClash, at(""), clash.to_string());
                findings.push(finding.with_help("rename one of them"));
            }
        }
    }
}

/// Comments within what is written anew when a machine is given the entry.
fn comments(document: &Document, cmdb: &Cmdb, findings: &mut Vec<Diagnostic>) {
    let inside = |outer: Span, span: &Span| outer.start < span.start && span.end <= outer.end;
    let root = document.root();
    let mut items = root.items().unwrap_or_default().iter().enumerate().peekable();
    let mut found = 0;
    for comment in document.comments() {
        while items.next_if(|(_, item)| item.span.end <= comment.start).is_some() {}
        let message = match (&root.kind, items.peek()) {
            (Kind::Generate(_), _) if inside(root.span, comment) => {
                "this comment is lost when the first machine is given an entry and the list is \
                 written out; the original stays in the `.orig` file"
                    .to_owned()
            }
            (_, Some((position, item)))
                if inside(item.span, comment)
                    && cmdb.entry(*position).is_some_and(|entry| !entry.is_used()) =>
            {
                format!(
                    "this comment stands inside entry {}, and is gone while a machine holds it",
                    position + 1
                )
            }
            _ => continue,
        };
        found += 1;
        if found <= MOST {
            let finding = document.warning(Code::CheckComment, *comment, message);
            findings.push(finding.with_help("put it before or behind the entry"));
        }
    }
}

/// The node of a key of an entry, or of the template or entry when it is not spelled out.
fn place<'a>(document: &'a Document, position: usize, key: &str) -> &'a Node {
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
