//! An original CONFIGDIR as a native one: specs, CMDB, state and facts become RON with their
//! comments, configure scripts are read statement by statement and reported.
//!
//! A script is a Python program and stays the admin's to rewrite as a declaration; the report
//! says for each of its statements what it does and where that goes in a configure file, so
//! that nothing is dropped silently. Not here: reading and writing folders (the server's
//! `import` command), and edeploy.conf, which is the same file in both.

pub mod script;

use serde::Serialize;

use crate::diagnostic::Diagnostic;
use crate::literal::{Document, Syntax};

pub use script::Statement;

/// What becomes of one file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Imported {
    /// The file's name, the same in both folders.
    pub file: String,
    /// The text to write, when there is one.
    #[serde(skip)]
    pub text: Option<String>,
    /// What happened.
    pub outcome: Outcome,
}

/// What happened to one file.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It says the same in RON now.
    Converted,
    /// It was RON already, or is the same in both (edeploy.conf).
    Unchanged,
    /// It says the same in RON, but for comments that have no place there.
    CommentsLost(Vec<String>),
    /// A configure script; these are its statements.
    Script(Vec<Statement>),
    /// It cannot be read.
    Broken(Diagnostic),
    /// It is none of the files of a CONFIGDIR.
    Foreign,
}

/// Converts one file, by its name.
pub fn import(file: &str, bytes: &[u8]) -> Imported {
    let (text, outcome) = match kind_of(file) {
        Kind::Literal => literal(file, bytes),
        Kind::Configure => configure(file, bytes),
        Kind::Settings => (String::from_utf8(bytes.to_vec()).ok(), Outcome::Unchanged),
        Kind::Foreign => (None, Outcome::Foreign),
    };
    Imported { file: file.to_owned(), text, outcome }
}

enum Kind {
    Literal,
    Configure,
    Settings,
    Foreign,
}

fn kind_of(file: &str) -> Kind {
    match file.rsplit_once('.') {
        _ if file == "state" || file.ends_with(".cmdb.orig") => Kind::Literal,
        Some((_, "specs" | "cmdb" | "hw")) => Kind::Literal,
        Some((_, "configure")) => Kind::Configure,
        _ if file == "edeploy.conf" => Kind::Settings,
        _ => Kind::Foreign,
    }
}

fn literal(file: &str, bytes: &[u8]) -> (Option<String>, Outcome) {
    let document = match Document::parse_bytes(file, bytes) {
        Ok(document) => document,
        Err(error) => return (None, Outcome::Broken(error)),
    };
    let unchanged = document.syntax() == Syntax::Ron;
    let (text, lost) = document.to_ron();
    let outcome = match (unchanged, lost.is_empty()) {
        (true, _) => Outcome::Unchanged,
        (false, true) => Outcome::Converted,
        (false, false) => Outcome::CommentsLost(lost),
    };
    (Some(text), outcome)
}

fn configure(file: &str, bytes: &[u8]) -> (Option<String>, Outcome) {
    match crate::literal::text_of(file, bytes) {
        Err(error) => (None, Outcome::Broken(error)),
        Ok(text) if crate::configure::is_python(text) => {
            (None, Outcome::Script(script::statements(text)))
        }
        Ok(text) => (Some(text.to_owned()), Outcome::Unchanged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_by_its_name() {
        let state = import("state", b"[('hp', 4), ('vm', '*')]\n");
        assert_eq!(state.outcome, Outcome::Converted);
        assert_eq!(state.text.as_deref(), Some("[(\"hp\", 4), (\"vm\", \"*\")]\n"));
        assert_eq!(
            import("vm.specs", b"[(\"a\", \"b\", \"c\", \"d\")]").outcome,
            Outcome::Unchanged
        );
        assert_eq!(import("README", b"hello").outcome, Outcome::Foreign);
        assert_eq!(import("edeploy.conf", b"[SERVER]\n").outcome, Outcome::Unchanged);
        let broken = import("hp.specs", b"[('a', 'b'\n 'c', f())]");
        assert!(matches!(broken.outcome, Outcome::Broken(ref at) if at.line == 2), "{broken:?}");
        assert_eq!(broken.text, None);
    }

    #[test]
    fn a_native_configure_file_is_kept_and_a_script_is_read() {
        assert_eq!(import("vm.configure", b"// vm\n(role: 1)").outcome, Outcome::Unchanged);
        let script = import("vm.configure", b"run('reboot')\n");
        assert!(matches!(script.outcome, Outcome::Script(ref all) if all.len() == 1));
        assert_eq!(script.text, None);
    }
}
