//! Lints a CONFIGDIR: what can be read but will not do what its author expects.
//!
//! Every file is read on its own first, and what its reader finds wrong is passed on. Then the
//! files are held against each other: missing ones, variables that nobody binds, counts that
//! the CMDB cannot serve, addresses given twice, profiles that are never reached. Whether the
//! marks `used` agree with the machines is [`crate::fleet::World::check_marks`], as it needs
//! their records.

mod entries;
mod order;
mod variables;

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::{File, lookup_keys};
use crate::cmdb::Cmdb;
use crate::configure::Configure;
use crate::diagnostic::{Code, Diagnostic, Severity, Span};
use crate::lang::Spec;
use crate::literal::{Document, Node, text_of};
use crate::state::{Count, State};
use crate::units::Name;

/// The files of a CONFIGDIR, by file name. Those that are none of its files are no matter.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Their texts.
type Texts = BTreeMap<String, String>;

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// By file, in the order of `state`, then by place.
    pub findings: Vec<Diagnostic>,
    /// How many profiles `state` names.
    pub profiles: usize,
    /// How many CMDB entries they have.
    pub entries: usize,
}

impl Report {
    /// Whether any of the findings stops a file from being used.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// One line: `2 errors, 1 warning in 3 profiles with 12 CMDB entries`.
    pub fn summary(&self) -> String {
        let errors = self.findings.iter().filter(|it| it.severity == Severity::Error).count();
        let counted = |count: usize, one: &str, several: &str| {
            format!("{count} {}", if count == 1 { one } else { several })
        };
        let warnings = self.findings.len() - errors;
        let found = match (errors, warnings) {
            (0, 0) => "nothing to mend".to_owned(),
            (0, _) => counted(warnings, "warning", "warnings"),
            (_, 0) => counted(errors, "error", "errors"),
            _ => format!(
                "{}, {}",
                counted(errors, "error", "errors"),
                counted(warnings, "warning", "warnings")
            ),
        };
        let profiles = counted(self.profiles, "profile", "profiles");
        let entries = counted(self.entries, "CMDB entry", "CMDB entries");
        format!("{found} in {profiles} with {entries}")
    }
}

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

/// Everything that is wrong with these files.
pub fn check(files: &Files) -> Report {
    let mut report = Report::default();
    let findings = &mut report.findings;
    // What is read as text below may lack a character; that is told once.
    let texts: Texts = files
        .iter()
        .map(|(name, bytes)| (name.clone(), String::from_utf8_lossy(bytes).into_owned()))
        .collect();
    let listed = state(&texts, findings);
    let (profiles, document) = match &listed {
        Some((state, document)) => {
            let lines = document.root().items().unwrap_or_default();
            let profiles: Vec<Profile<'_>> = state
                .profiles()
                .zip(lines)
                .map(|((name, count), line)| read(name, count, line, &texts, findings))
                .collect();
            (profiles, document)
        }
        // Nobody knows the profiles; the files can be read all the same.
        None => {
            findings.extend(files.keys().flat_map(|file| mistakes(file, &texts[file])));
            encodings(files, &[], findings);
            return report;
        }
    };
    for profile in &profiles {
        missing_files(profile, document, findings);
        variables::check(profile, findings);
        counts(profile, document, findings);
    }
    unlisted_files(&profiles, &texts, findings);
    entries::check(&profiles, findings);
    order::check(&profiles, document, findings);
    encodings(files, &profiles, findings);
    report.profiles = profiles.len();
    report.entries = profiles.iter().filter_map(|it| it.cmdb.as_ref()).map(Cmdb::len).sum();
    report
}

/// Reads `state`; `None` when there is none that can be understood.
fn state(texts: &Texts, findings: &mut Vec<Diagnostic>) -> Option<(State, Document)> {
    let file = File::State.to_string();
    let Some(text) = texts.get(&file) else {
        let message = "there is no `state`: no profile is ever tried";
        let span = Span::default();
        let finding = Diagnostic::error(Code::CheckMissingFile, &file, "", span, message);
        findings.push(finding.with_help("write one, for example `[(\"vm\", 4)]`"));
        return None;
    };
    match (State::parse(&file, text), Document::parse(&file, text)) {
        (Ok(state), Ok(document)) => return Some((state, document)),
        (Err(more), _) => findings.extend(more),
        (_, Err(finding)) => findings.push(finding),
    }
    None
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
            let finding = state.error(Code::CheckMissingFile, profile.span, message);
            findings.push(finding.with_help(format!("write it, or take {name} out of `state`")));
        }
    }
    let scripts = profile.configure.iter().flat_map(Configure::scripts);
    for script in scripts.filter(|script| !profile.texts.contains_key(*script)) {
        let file = File::Configure(name.clone()).to_string();
        let text = &profile.texts[&file];
        let start = text.find(script).unwrap_or(0);
        let span = Span { start, end: start + script.len() };
        let message = format!("there is no script {script}: machines that fit are refused");
        let finding = Diagnostic::error(Code::CheckMissingFile, &file, text, span, message);
        findings.push(finding.with_help(format!("put it beside {file}")));
    }
}

/// More machines are wanted than the CMDB can serve.
fn counts(profile: &Profile<'_>, state: &Document, findings: &mut Vec<Diagnostic>) {
    let (Some(cmdb), Count::Left(left)) = (&profile.cmdb, profile.count) else { return };
    if cmdb.is_empty() || usize::try_from(left).is_ok_and(|left| left <= cmdb.free()) || left < 0 {
        return;
    }
    let message = format!(
        "{left} machines of {} are wanted, and {} of the {} entries of its CMDB are free",
        profile.name,
        cmdb.free(),
        cmdb.len()
    );
    let finding = state.warning(Code::CheckCount, profile.span, message);
    findings.push(finding.with_help("add entries, or lower the count"));
}

fn unlisted_files(profiles: &[Profile<'_>], texts: &Texts, findings: &mut Vec<Diagnostic>) {
    for (file, text) in texts {
        if let Some(profile) = profile_of(file)
            && !profiles.iter().any(|known| known.name.as_str() == profile)
        {
            let message = format!("`state` does not name {profile}: this file is never used");
            let span = Span { start: 0, end: text.find('\n').unwrap_or(text.len()) };
            let finding = Diagnostic::warning(Code::CheckUnlisted, file, text, span, message);
            findings.push(finding.with_help(format!("add `(\"{profile}\", 0)` to `state`")));
            findings.extend(mistakes(file, text));
        }
    }
}

/// The profile that a file belongs to, by its name.
fn profile_of(file: &str) -> Option<&str> {
    [".specs", ".cmdb", ".configure"].iter().find_map(|ending| file.strip_suffix(ending))
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

/// Files that are no text: the server refuses them.
fn encodings(files: &Files, profiles: &[Profile<'_>], findings: &mut Vec<Diagnostic>) {
    let scripts: BTreeSet<&str> = profiles
        .iter()
        .filter_map(|profile| profile.configure.as_ref())
        .flat_map(Configure::scripts)
        .collect();
    let state = File::State.to_string();
    for (file, bytes) in files {
        let is_read =
            *file == state || profile_of(file).is_some() || scripts.contains(file.as_str());
        if is_read {
            findings.extend(text_of(file, bytes).err());
        }
    }
}
