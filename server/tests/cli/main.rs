//! The commands of `edeploy-server` that read folders, run as programs: what they print, and
//! their exit codes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "the program is what is tested")]

mod explain;
mod import;

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Runs the command; its exit code and what it printed.
pub(crate) fn run(arguments: &[&str]) -> (i32, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_edeploy-server")).args(arguments).output().unwrap();
    let mut text = String::from_utf8(output.stdout).unwrap();
    text.push_str(&String::from_utf8(output.stderr).unwrap());
    (output.status.code().unwrap(), text)
}

/// A scratch folder with these files.
pub(crate) fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

pub(crate) fn corpus(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/corpus").join(path)
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The example of edeploy.conf in the reference says what it seems to say.
#[test]
fn the_settings_of_the_reference_are_read() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../specs/README.md");
    let page = std::fs::read_to_string(page).unwrap();
    let example = page.split("```ini\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let path = Path::new("/etc/edeploy.conf");
    let settings = server::settings::Settings::parse(example, path).unwrap();
    assert_eq!(settings.warnings, Vec::<String>::new());
    let section = settings.section("SERVER").unwrap();
    assert_eq!(section.config_dir, Path::new("/etc/config"));
    assert_eq!(section.state_dir.as_deref(), Some(Path::new("/etc/state")));
    assert_eq!(section.lease.as_secs(), 45 * 60);
    assert_eq!(section.retention.log_count, Some(5));
    assert_eq!(section.retention.records.count, Some(1000));
}

#[test]
fn every_key_of_edeploy_conf_is_told() {
    let (_, help) = run(&["serve", "--help"]);
    for (key, meaning) in server::settings::KEYS {
        assert!(help.contains(&format!("  {key} ")) && help.contains(meaning), "{key}: {help}");
    }
}
