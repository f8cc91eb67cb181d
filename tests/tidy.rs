//! Rules about the source tree itself that no compiler keeps: what may know what, what is where,
//! and how long it may be. Each finding names the file.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lab::artifacts::checkout;

/// No file is longer, tests included.
const LINES: usize = 700;

/// A script is an entry point; what needs more is Rust. The longest, `build-role`, is the reader of
/// recipes, which are shell themselves.
const SCRIPT_LINES: usize = 230;

/// The modules of `specs`, each with those it may use. What is not here must be added, with a
/// thought about which way it depends.
const SPECS: &[(&str, &str)] = &[
    ("value", ""),
    ("units", ""),
    ("diagnostic", ""),
    ("literal", "value diagnostic"),
    ("facts", "value units diagnostic literal"),
    ("lang", "value diagnostic literal"),
    ("matching", "value facts lang"),
    ("explain", "value facts lang matching secret"),
    ("cmdb", "value units diagnostic literal"),
    ("state", "value units diagnostic literal"),
    ("plan", "value units facts configure"),
    ("event", "plan"),
    ("upgrade", "units"),
    ("dialect", ""),
    ("wire", "units plan event dialect"),
    ("configure", "value diagnostic facts dialect"),
    ("catalog", "value units diagnostic literal lang configure"),
    ("machine", "value units facts cmdb event"),
    ("secret", "value facts cmdb plan machine"),
    ("check", "value units diagnostic literal lang cmdb state configure catalog"),
    ("import", "diagnostic literal configure"),
    ("ids", "diagnostic literal"),
    ("metadata", "units upgrade"),
    (
        "fleet",
        "value units diagnostic facts lang matching explain cmdb state configure plan event wire \
         secret catalog machine",
    ),
];

/// The doors to other programs, one a crate, and why there is one.
const DOORS: &[&str] = &[
    "agent/src/world/real.rs",       // the agent's
    "agent/src/init/supervisor.rs",  // PID 1 starts the agent proper, before there is a Runner
    "initrd/src/command.rs",         // the initrd builder's
    "server/src/admin/edit.rs",      // the admin's editor
    "server/src/bin/edeploy-cgi.rs", // starts nothing but itself, to stay
    "tests/lab/process.rs",          // the lab's
    "tests/lab/tiers.rs",            // cargo, whose output is counted as it comes
];

/// A source file: its path below the checkout and its text.
struct Source {
    path: String,
    text: String,
}

/// Every file below these folders whose name ends so, in order.
fn sources(folders: &[&str], ending: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| checkout().join(folder)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let name = path.file_name().unwrap_or_default();
            if name != "target" && name != "fixtures" {
                let entries = std::fs::read_dir(&path).unwrap();
                open.extend(entries.map(|entry| entry.unwrap().path()));
            }
        } else if path.to_string_lossy().ends_with(ending) {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let path = path.strip_prefix(checkout()).unwrap().display().to_string();
            found.push(Source { path, text });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn rust() -> Vec<Source> {
    let files = sources(&["specs", "agent", "server", "initrd", "tests"], ".rs");
    assert!(
        files.len() > 50,
        "only {} files: is {} a checkout?",
        files.len(),
        checkout().display()
    );
    files
}

#[track_caller]
fn none(rule: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{rule}:\n{}", findings.join("\n"));
}

/// The code of a file up to its tests, without comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .filter(|line| !line.trim_start().starts_with("//"))
}

#[test]
fn no_file_is_too_long() {
    let long = |source: &Source, limit: usize| {
        let lines = source.text.lines().count();
        (lines > limit).then(|| format!("{}: {lines} lines", source.path))
    };
    none("split these", rust().iter().filter_map(|source| long(source, LINES)).collect());
    let scripts = sources(&["scripts"], "");
    none("move logic out", scripts.iter().filter_map(|s| long(s, SCRIPT_LINES)).collect());
}

#[test]
fn every_module_says_what_it_is_for() {
    let silent = rust().into_iter().filter(|source| !source.text.starts_with("//!"));
    none("open these with `//!`", silent.map(|source| source.path).collect());
}

#[test]
fn modules_of_specs_depend_one_way() {
    let mut findings = Vec::new();
    for source in sources(&["specs/src"], ".rs") {
        let inner = source.path.trim_start_matches("specs/src/");
        let module = inner.split(['/', '.']).next().unwrap_or_default();
        // Tests of a module may look at it from anywhere.
        if module == "lib" || inner.ends_with("tests.rs") || inner.contains("/tests/") {
            continue;
        }
        let Some((_, allowed)) = SPECS.iter().find(|(name, _)| *name == module) else {
            findings.push(format!("{}: `{module}` is not in the table of tidy.rs", source.path));
            continue;
        };
        for line in code(&source.text) {
            for used in line.split("crate::").skip(1) {
                let end = used.find(|c: char| !(c.is_alphanumeric() || c == '_'));
                let used = &used[..end.unwrap_or(used.len())];
                let known = SPECS.iter().any(|(name, _)| *name == used);
                if known && used != module && !allowed.split_whitespace().any(|ok| ok == used) {
                    findings.push(format!("{}: `{module}` must not use `{used}`", source.path));
                }
            }
        }
    }
    none("wrong way", findings);
}

#[test]
fn agent_and_server_do_not_know_each_other() {
    let forbidden = [
        ("specs", &["agent", "server", "mkinitrd", "lab"][..]),
        ("agent", &["server", "mkinitrd", "lab"]),
        ("server", &["agent", "mkinitrd", "lab"]),
        ("initrd", &["server", "lab"]),
    ];
    let mut findings = Vec::new();
    for (package, others) in forbidden {
        let manifest = checkout().join(package).join("Cargo.toml");
        let text = std::fs::read_to_string(manifest).unwrap();
        let (_, dependencies) = text.split_once("[dependencies]").unwrap();
        for other in others {
            let names = |line: &str| {
                line.starts_with(&format!("{other}.")) || line.starts_with(&format!("{other} "))
            };
            if dependencies.lines().any(names) {
                findings.push(format!("{package} depends on {other}"));
            }
        }
    }
    none("wrong way", findings);
}

#[test]
fn other_programs_are_started_through_the_doors() {
    let mut findings = Vec::new();
    for source in rust() {
        let is_test = source.path.contains("/tests/") || source.path == "tests/tidy.rs";
        if is_test || DOORS.contains(&source.path.as_str()) {
            continue;
        }
        for start in ["duct::cmd", "Command::new("] {
            if code(&source.text).any(|line| line.contains(start)) {
                findings.push(format!("{}: `{start}`", source.path));
            }
        }
    }
    none("go through the crate's door", findings);
    let stale = DOORS.iter().filter(|door| !checkout().join(door).exists());
    none("these doors are gone", stale.map(|door| (*door).to_owned()).collect());
}

/// A file that no `mod` leads to is compiled by nobody: its tests never run.
#[test]
fn no_file_is_forgotten() {
    let files = rust();
    let all: BTreeSet<&str> = files.iter().map(|source| source.path.as_str()).collect();
    let mut reached: BTreeSet<String> = BTreeSet::new();
    let mut open: Vec<String> =
        files.iter().map(|f| f.path.clone()).filter(|p| is_root(p)).collect();
    while let Some(path) = open.pop() {
        if !reached.insert(path.clone()) {
            continue;
        }
        let text = &files.iter().find(|source| source.path == path).unwrap().text;
        for module in modules(text) {
            open.extend(candidates(&path, module).into_iter().filter(|p| all.contains(p.as_str())));
        }
    }
    let forgotten = all.iter().filter(|path| !reached.contains(**path));
    none("no `mod` leads here", forgotten.map(|path| (*path).to_owned()).collect());
}

/// The names of the modules a file declares in files of their own.
fn modules(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.trim().strip_suffix(';')?;
        let (before, name) = line.split_once("mod ")?;
        (before.is_empty() || before.starts_with("pub")).then_some(name)
    })
}

/// Where a module of this file may lie.
fn candidates(path: &str, module: &str) -> Vec<String> {
    let path = Path::new(path);
    let folder = path.parent().unwrap_or(path);
    let stem = path.file_stem().unwrap_or_default();
    let below = folder.join(stem);
    [folder, below.as_path()]
        .iter()
        .flat_map(|folder| {
            [folder.join(format!("{module}.rs")), folder.join(module).join("mod.rs")]
        })
        .map(|path| path.display().to_string())
        .collect()
}

/// Whether cargo starts here by itself, or by a `path` in the manifest of this package.
fn is_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["tests", "fuzz", "src", "bin", _] => true,
        ["tests", rest @ ..] => {
            let manifest = std::fs::read_to_string(checkout().join("tests/Cargo.toml")).unwrap();
            manifest.contains(&format!("path = \"{}\"", rest.join("/")))
        }
        [_, "src", "lib.rs" | "main.rs"] | [_, "src", "bin", _] => true,
        [_, "build.rs"] | [_, "tests" | "benches" | "examples", _] => true,
        [_, "tests" | "benches", _, "main.rs"] => true,
        _ => false,
    }
}

/// A crate's `clippy.toml` replaces the root's, it is not merged with it.
#[test]
fn bans_of_the_root_are_repeated() {
    let read = |path: &str| std::fs::read_to_string(checkout().join(path)).unwrap();
    let root = read("clippy.toml");
    let banned = root.lines().filter_map(|line| line.split("path = \"").nth(1)?.split('"').next());
    let mut findings = Vec::new();
    for path in banned {
        for package in ["specs", "agent", "server", "initrd", "tests"] {
            let own = format!("{package}/clippy.toml");
            let exists = checkout().join(&own).exists();
            if exists && !read(&own).contains(&format!("\"{path}\"")) {
                findings.push(format!("{own} does not ban `{path}`"));
            }
        }
    }
    none("repeat the bans", findings);
}

#[test]
fn nothing_is_left_to_be_done() {
    let marks = ["TO", "FIX"].map(|half| half.to_owned() + if half == "TO" { "DO" } else { "ME" });
    let left = rust().into_iter().filter(|s| marks.iter().any(|mark| s.text.contains(mark)));
    none("do it or file it", left.map(|source| source.path).collect());
}
