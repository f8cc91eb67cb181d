//! Lints a CONFIGDIR: what can be read but will not do what its author expects.
//!
//! Every file is read on its own first, and what its reader finds wrong is passed on. Then the
//! files are held against each other: missing ones, variables that nobody binds, counts that
//! the CMDB cannot serve, addresses given twice, profiles that are never reached. Whether the
//! marks `used` agree with the machines is [`crate::fleet::World::reconcile`], as it needs
//! their records.

mod entries;
mod order;

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::{File, lookup_keys};
use crate::cmdb::{Cmdb, USED};
use crate::configure::{Configure, places, template};
use crate::diagnostic::{Diagnostic, Severity, Span};
use crate::lang::Spec;
use crate::literal::{Document, Node};
use crate::state::{Count, State};
use crate::units::Name;

/// What every machine's variables hold beside those of its match.
const ALWAYS_BOUND: &str = "edeploy_profile";

/// The texts of a CONFIGDIR, by file name.
pub type Texts = BTreeMap<String, String>;

/// A profile whose files were read, as far as they can be.
struct Profile<'a> {
    name: Name,
    count: Count,
    /// Of its line in `state`.
    span: Span,
    spec: Option<Spec>,
    configure: Option<Configure>,
    cmdb: Option<Cmdb>,
    texts: &'a Texts,
}

/// Everything that is wrong with these files: by file, in the order of `state`, then by place.
pub fn check(texts: &Texts) -> Vec<Diagnostic> {
    let state_file = File::State.to_string();
    let Some(text) = texts.get(&state_file) else {
        let message = "there is no `state`: no profile is ever tried";
        let finding =
            Diagnostic::error("check-missing-file", &state_file, "", Span::default(), message);
        return vec![finding.with_help("write one, for example `[(\"vm\", 4)]`")];
    };
    let (state, document) =
        match (State::parse(&state_file, text), Document::parse(&state_file, text)) {
            (Ok(state), Ok(document)) => (state, document),
            (Err(findings), _) => return findings,
            (_, Err(finding)) => return vec![finding],
        };
    let mut findings = Vec::new();
    let lines = document.root().items().unwrap_or_default();
    let profiles: Vec<Profile<'_>> = state
        .profiles()
        .zip(lines)
        .map(|((name, count), line)| read(name, count, line, texts, &mut findings))
        .collect();
    for profile in &profiles {
        missing_files(profile, &document, &mut findings);
        variables(profile, &mut findings);
        if let (Some(cmdb), Count::Left(left)) = (&profile.cmdb, profile.count)
            && usize::try_from(left).is_ok_and(|left| left > cmdb.free() && !cmdb.is_empty())
        {
            let message = format!(
                "{left} machines of {} are wanted, and {} of the {} entries of its CMDB are free",
                profile.name,
                cmdb.free(),
                cmdb.len()
            );
            let finding = document.warning("check-count", profile.span, message);
            findings.push(finding.with_help("add entries, or lower the count"));
        }
    }
    unlisted_files(&profiles, texts, &mut findings);
    entries::check(&profiles, &mut findings);
    order::check(&profiles, &document, &mut findings);
    findings
}

/// Whether any of the findings stops a file from being used.
pub fn has_errors(findings: &[Diagnostic]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Error)
}

fn read<'a>(
    name: &Name,
    count: Count,
    line: &Node,
    texts: &'a Texts,
    findings: &mut Vec<Diagnostic>,
) -> Profile<'a> {
    let text = |file: File| {
        let file = file.to_string();
        texts.get(&file).map(|text| (file, text.as_str()))
    };
    let spec = text(File::Specs(name.clone())).and_then(|(file, text)| {
        Spec::parse(&file, text).map_err(|finding| findings.push(finding)).ok()
    });
    findings.extend(spec.iter().flat_map(|spec| spec.warnings.clone()));
    let configure = text(File::Configure(name.clone())).and_then(|(file, text)| {
        Configure::parse(&file, text).map_err(|more| findings.extend(more)).ok()
    });
    let keys = spec.as_ref().map(lookup_keys).unwrap_or_default();
    let cmdb = text(File::Cmdb(name.clone())).and_then(|(file, text)| {
        Cmdb::parse(&file, text, &keys).map_err(|more| findings.extend(more)).ok()
    });
    Profile { name: name.clone(), count, span: line.span, spec, configure, cmdb, texts }
}

fn missing_files(profile: &Profile<'_>, state: &Document, findings: &mut Vec<Diagnostic>) {
    let name = &profile.name;
    let consequences = [
        (File::Specs(name.clone()), "no machine ever fits"),
        (File::Configure(name.clone()), "machines that fit are refused"),
    ];
    for (file, consequence) in consequences {
        if !profile.texts.contains_key(&file.to_string()) {
            let message = format!("there is no {file}: {consequence}");
            findings.push(state.error("check-missing-file", profile.span, message));
        }
    }
    let scripts = profile.configure.iter().flat_map(Configure::scripts);
    for script in scripts.filter(|script| !profile.texts.contains_key(*script)) {
        let file = File::Configure(name.clone()).to_string();
        let text = &profile.texts[&file];
        let start = text.find(script).unwrap_or(0);
        let span = Span { start, end: start + script.len() };
        let message = format!("there is no script {script}: machines that fit are refused");
        findings.push(Diagnostic::error("check-missing-file", &file, text, span, message));
    }
}

fn unlisted_files(profiles: &[Profile<'_>], texts: &Texts, findings: &mut Vec<Diagnostic>) {
    for (file, text) in texts {
        let profile = [".specs", ".cmdb", ".configure"].iter().find_map(|it| file.strip_suffix(it));
        if let Some(profile) = profile
            && !profiles.iter().any(|known| known.name.as_str() == profile)
        {
            let message = format!("`state` does not name {profile}: this file is never used");
            let span = Span { start: 0, end: text.find('\n').unwrap_or(text.len()) };
            let finding = Diagnostic::warning("check-unlisted", file, text, span, message);
            findings.push(finding.with_help(format!("add `(\"{profile}\", 0)` to `state`")));
            findings.extend(mistakes(file, text));
        }
    }
}

/// What the reader of such a file says of it on its own.
fn mistakes(file: &str, text: &str) -> Vec<Diagnostic> {
    match file.rsplit_once('.') {
        Some((_, "specs")) => Spec::parse(file, text).err().into_iter().collect(),
        Some((_, "cmdb")) => Cmdb::parse(file, text, &BTreeSet::new()).err().unwrap_or_default(),
        Some((_, "configure")) => Configure::parse(file, text).err().unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// Variables that templates use and nobody binds, and those that are bound for nobody.
fn variables(profile: &Profile<'_>, findings: &mut Vec<Diagnostic>) {
    let (Some(spec), Some(configure)) = (&profile.spec, &profile.configure) else { return };
    let used = configure.variables();
    let mut bound: BTreeSet<String> =
        spec.variables().into_iter().map(|(name, _)| template::identifier(name)).collect();
    bound.insert(ALWAYS_BOUND.to_owned());
    if let Some(cmdb) = profile.cmdb.as_ref().filter(|cmdb| !cmdb.is_empty()) {
        bound.insert(USED.to_owned());
        for entry in cmdb.entries() {
            bound.extend(entry.fields.iter().map(|field| template::identifier(&field.key)));
        }
    }
    let file = File::Configure(profile.name.clone()).to_string();
    for (name, places_of_name) in used.iter().filter(|(name, _)| !bound.contains(*name)) {
        for at in places_of_name {
            let text = &profile.texts[&file];
            let span = places::span(text, (at.line, at.column));
            let message = format!("nothing binds `{name}`: {} refuses machines", profile.name);
            let help = format!("bind `${name}` in the specs, or add `{name}` to the CMDB entries");
            let finding = Diagnostic::error("check-unbound", &file, text, span, message);
            findings.push(finding.with_help(help));
        }
    }
    let text_of_spec = &profile.texts[&File::Specs(profile.name.clone()).to_string()];
    let items: BTreeSet<&str> = configure
        .machine
        .disks
        .iter()
        .filter_map(|disk| disk.each.as_ref())
        .flatten()
        .map(String::as_str)
        .collect();
    for (name, cmdb) in spec.variables() {
        let columns = spec.lines.iter().flat_map(|line| &line.columns);
        let mut places_of_name = columns
            .filter(|column| column.variable.as_ref().is_some_and(|it| it.name == name))
            .map(|column| column.span);
        let (first, again) = (places_of_name.next(), places_of_name.next());
        let in_use = used.contains_key(&template::identifier(name)) || items.contains(name);
        if let (Some(span), None, false, false) = (first, again, in_use, cmdb) {
            let message = format!("`${name}` is bound, and nothing uses it");
            let finding =
                Diagnostic::warning("check-unused", &spec.file, text_of_spec, span, message);
            findings.push(finding.with_help("it is still stored in the CMDB entry of a machine"));
        }
    }
}
