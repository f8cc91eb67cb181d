//! What people see of each kind of finding: `tests/findings/<code>.txt` holds bad files, good files
//! that are like them, and the text in full. The texts are written by hand, from what a finding
//! is documented to mean; a kind without them fails here.
//!
//! Files are held against a configuration that is good as a whole. A case is some `=== bad FILE`
//! and `=== good FILE` sections and then a `=== text`; behind the file's name may stand `absent`,
//! `latin-1` or `of N blanks`.
#![expect(clippy::disallowed_methods, reason = "tests read their fixtures")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use specs::check::{Files, check};
use specs::diagnostic::{Code, Diagnostic};
use specs::facts::Facts;
use specs::ids;

use crate::hall::{CMDB, CONFIGURE, Hall, mac, machine, name};

const SPECS: &str = "[('disk', '$disk', 'size', 'gt(4)')]\n";

/// Bytes of files by name; `None`: there is none.
type Changes = BTreeMap<String, Option<Vec<u8>>>;

#[derive(Default)]
struct Case {
    bad: Changes,
    good: Changes,
    text: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/findings")
}

/// The cases of a file.
fn cases(path: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let mut cases = vec![Case::default()];
    for section in text.split("=== ").skip(1) {
        let (header, body) = section.split_once('\n').unwrap();
        if cases.last().is_some_and(|case| !case.text.is_empty()) {
            cases.push(Case::default());
        }
        let case = cases.last_mut().unwrap();
        let words: Vec<&str> = header.split(' ').collect();
        let bytes = match words[..] {
            ["text"] => {
                case.text = body.trim_end().to_owned();
                continue;
            }
            [_, _] => Some(body.trim_end().as_bytes().to_vec()),
            [_, _, "absent"] => None,
            [_, _, "latin-1"] => {
                Some(body.trim_end().chars().map(|c| u8::try_from(c).unwrap()).collect())
            }
            [_, _, "of", count, "blanks"] => Some(vec![b' '; count.parse().unwrap()]),
            _ => panic!("{path:?}: {header}"),
        };
        let changes = match words[0] {
            "bad" => &mut case.bad,
            "good" => &mut case.good,
            _ => panic!("{path:?}: {header}"),
        };
        changes.insert(words[1].to_owned(), bytes);
    }
    cases
}

/// What is found in these files, by whoever reads such.
fn findings(code: Code, changes: &Changes) -> Vec<Diagnostic> {
    let single = changes.iter().next().filter(|_| changes.len() == 1);
    let single = single.and_then(|(name, bytes)| Some((name.as_str(), bytes.as_deref()?)));
    match single {
        Some((name, bytes)) if name.ends_with(".hw") => {
            Facts::parse(name, bytes).err().into_iter().collect()
        }
        Some((name, bytes)) if name == "ids.tables" => {
            ids::Table::parse(name, str::from_utf8(bytes).unwrap()).err().into_iter().collect()
        }
        Some((file, bytes)) if code == Code::CheckUsed => {
            let mut hall = Hall::of_vms("[('vm', 3)]");
            hall.edit("vm.specs", SPECS);
            hall.plan(&machine(&mac(1), "A1"));
            hall.world.read(&crate::hall::file(file), Some(bytes)).unwrap();
            hall.world.check_marks(&name("vm"))
        }
        _ => {
            let good = [
                ("state", "[('vm', 3)]"),
                ("vm.specs", SPECS),
                ("vm.cmdb", CMDB),
                ("vm.configure", CONFIGURE),
            ];
            let mut files: Files =
                good.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).into();
            for (name, bytes) in changes {
                match bytes {
                    Some(bytes) => files.insert(name.clone(), bytes.clone()),
                    None => files.remove(name),
                };
            }
            check(&files).findings
        }
    }
}

/// Every kind of finding has bad files whose finding is shown as expected, with its place, its
/// caret and advice, and good files in which nothing at all is found.
#[test]
fn every_kind_is_shown_as_it_is_documented() {
    for code in Code::ALL {
        let cases = cases(&folder().join(format!("{code}.txt")));
        for Case { bad, good, text } in cases {
            assert!(!bad.is_empty() && !good.is_empty(), "{code}: a case lacks bad or good files");
            let found = findings(*code, &bad);
            let shown = found.iter().find(|finding| finding.code == *code).map(ToString::to_string);
            assert_eq!(shown.as_deref(), Some(text.as_str()), "{code}: {found:#?}");
            assert!(text.contains(" = help: ") && text.contains("^\n"), "{text}");
            let found = findings(*code, &good);
            assert!(found.is_empty(), "{code}, good files: {found:#?}");
        }
    }
}

#[test]
fn no_text_belongs_to_a_kind_that_is_gone() {
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(Code::ALL.iter().any(|code| code.as_ref() == name), "{path:?}");
    }
}

/// Whatever is wrong, the finding says how to mend it: each file of the good configuration is
/// broken in many places.
#[test]
fn every_finding_has_advice() {
    let files = [
        ("vm.specs", "[('disk', '$disk', 'size', 'and(gt(4), not(in(\"6\", 7)))')]"),
        ("vm.cmdb", "generate({'ip': '10.0.0.1-3:7-9', \"k\": [1, 2.5, None], 'p': secret('x')})"),
        ("state", "// RON\n[(\"vm\", 3), (\"hp\", \"*\")]"),
        ("vm.configure", CONFIGURE),
    ];
    let mut seen = std::collections::BTreeSet::new();
    for (file, text) in files {
        for at in 0..text.len() {
            for put in ["", "\"", "(", ")", "]", "}", ",", "x", "-", "\\", "0"] {
                let broken = format!("{}{put}{}", &text[..at], &text[at + 1..]);
                let changes = [(file.to_owned(), Some(broken.clone().into_bytes()))].into();
                for finding in findings(Code::CheckCount, &changes) {
                    assert!(finding.help.is_some(), "{finding}\n{broken}");
                    seen.insert(finding.code);
                }
            }
        }
    }
    assert!(seen.len() > 15, "{seen:?}");
}
