//! Variables of specs and CMDB against those that the templates of configure use.

use std::collections::{BTreeMap, BTreeSet};

use super::Profile;
use crate::catalog::File;
use crate::cmdb::USED;
use crate::configure::{Configure, places, template};
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::lang::Spec;

/// What every machine's variables hold beside those of its match.
const ALWAYS_BOUND: &str = "edeploy_profile";

/// Variables that templates use and nobody binds, those that are bound for nobody, and those
/// that templates cannot tell apart.
pub(super) fn check(profile: &Profile<'_>, findings: &mut Vec<Diagnostic>) {
    let Some(spec) = &profile.spec else { return };
    let keys = keys(profile);
    clashes(profile, spec, &keys, findings);
    let Some(configure) = &profile.configure else { return };
    unbound(profile, spec, &keys, configure, findings);
    unused(profile, spec, configure, findings);
}

/// The keys of the CMDB entries, if there are entries.
fn keys(profile: &Profile<'_>) -> BTreeSet<String> {
    let entries = profile.cmdb.iter().flat_map(|cmdb| cmdb.entries());
    entries.flat_map(|entry| entry.fields).map(|field| field.key).collect()
}

fn unbound(
    profile: &Profile<'_>,
    spec: &Spec,
    keys: &BTreeSet<String>,
    configure: &Configure,
    findings: &mut Vec<Diagnostic>,
) {
    let mut bound: BTreeSet<String> =
        spec.variables().into_iter().map(|(name, _)| template::identifier(name)).collect();
    bound.insert(ALWAYS_BOUND.to_owned());
    if !keys.is_empty() {
        bound.insert(USED.to_owned());
    }
    bound.extend(keys.iter().map(|key| template::identifier(key)));
    let file = File::Configure(profile.name.clone()).to_string();
    let text = &profile.texts[&file];
    for (name, uses) in configure.variables().iter().filter(|(name, _)| !bound.contains(*name)) {
        for at in uses {
            let span = places::span(text, (at.line, at.column));
            let message = format!("nothing binds `{name}`: {} refuses machines", profile.name);
            let help = format!("bind `${name}` in the specs, or add `{name}` to the CMDB entries");
            let finding = Diagnostic::error(Code::CheckUnbound, &file, text, span, message);
            findings.push(finding.with_help(help));
        }
    }
}

fn unused(
    profile: &Profile<'_>,
    spec: &Spec,
    configure: &Configure,
    findings: &mut Vec<Diagnostic>,
) {
    let used = configure.variables();
    let disks = configure.machine.disks.iter().filter_map(|disk| disk.each.as_ref());
    let items: BTreeSet<&str> = disks.flatten().map(String::as_str).collect();
    for (name, cmdb) in spec.variables() {
        let mut places = places_of(spec, name);
        let (first, again) = (places.next(), places.next());
        let in_use = used.contains_key(&template::identifier(name)) || items.contains(name);
        if let (Some(span), None, false, false) = (first, again, in_use, cmdb) {
            let message = format!("`${name}` is bound, and nothing uses it");
            let text = &profile.texts[&spec.file];
            let finding = Diagnostic::warning(Code::CheckUnused, &spec.file, text, span, message);
            findings.push(finding.with_help("it is still stored in the CMDB entry of a machine"));
        }
    }
}

/// Two names that templates write alike: every machine of the profile would be refused.
fn clashes(
    profile: &Profile<'_>,
    spec: &Spec,
    keys: &BTreeSet<String>,
    findings: &mut Vec<Diagnostic>,
) {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for name in keys.iter().map(String::as_str) {
        seen.entry(template::identifier(name)).or_insert(name);
    }
    let text = &profile.texts[&spec.file];
    for (name, _) in spec.variables() {
        let written = template::identifier(name);
        let other = seen.entry(written.clone()).or_insert(name);
        if *other != name {
            let span = places_of(spec, name).next().unwrap_or_default();
            let message = format!(
                "`{other}` and `{name}` are both `{{{{ {written} }}}}` in templates: {} refuses \
                 machines",
                profile.name
            );
            let finding = Diagnostic::error(Code::CheckClash, &spec.file, text, span, message);
            findings.push(finding.with_help("rename one of them"));
        }
    }
}

/// Where a variable stands in a spec.
fn places_of<'a>(spec: &'a Spec, name: &'a str) -> impl Iterator<Item = Span> + 'a {
    let columns = spec.lines.iter().flat_map(|line| &line.columns);
    columns
        .filter(move |column| column.variable.as_ref().is_some_and(|it| it.name == name))
        .map(|column| column.span)
}
