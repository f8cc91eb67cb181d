//! `edeploy-server verify-cmdb KEY VALUE FILE…`: whether a machine was deployed, for scripts that
//! wait for one.
//!
//! As in the original: yes when one entry of the files has the value and carries `used: 1`. The
//! original took a file that is a call of `generate()` for an empty list; here it is the list it
//! stands for, in which nothing is used unless the template says so.

use std::path::{Path, PathBuf};

use anyhow::Context;
use specs::cmdb::{Cmdb, USED};
use specs::diagnostic::Diagnostic;
use specs::value::Value;

/// Whether an entry of these files with this value is in use.
pub fn is_deployed(key: &str, value: &str, files: &[PathBuf]) -> anyhow::Result<bool> {
    let wanted = Value::from(value);
    for file in files {
        let cmdb = read(file)?;
        let deployed = cmdb.entries().any(|entry| {
            let has = |key: &str, wanted: &Value| {
                entry.get(key).is_some_and(|value| value.same_as(wanted))
            };
            has(key, &wanted) && has(USED, &Value::Integer(1))
        });
        if deployed {
            return Ok(true);
        }
    }
    Ok(false)
}

fn read(file: &Path) -> anyhow::Result<Cmdb> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
    Cmdb::parse(&name, &text, &Default::default()).map_err(|findings| {
        let all: Vec<String> = findings.iter().map(Diagnostic::to_string).collect();
        anyhow::Error::msg(all.join("\n"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(files: &[&str], key: &str, value: &str, expected: bool) {
        let folder = tempfile::tempdir().unwrap();
        let paths = files.iter().enumerate().map(|(number, text)| {
            let path = folder.path().join(format!("{number}.cmdb"));
            std::fs::write(&path, text).unwrap();
            path
        });
        let paths: Vec<PathBuf> = paths.collect();
        assert_eq!(is_deployed(key, value, &paths).unwrap(), expected, "{files:?} {key} {value}");
    }

    #[test]
    fn deployed_is_used_with_the_value() {
        let two = "[{'hostname': 'h1', 'used': 1, 'rack': 4}, {'hostname': 'h2'}]";
        check(&[two], "hostname", "h1", true);
        check(&[two], "rack", "4", true);
        check(&[two], "hostname", "h2", false);
        check(&[two], "hostname", "h3", false);
        check(&[two], "ip", "h1", false);
        check(&["[{'hostname': 'h1', 'used': 0}]"], "hostname", "h1", false);
        check(&["[{'hostname': 'h1', 'used': '1'}]"], "hostname", "h1", true);
    }

    #[test]
    fn files_are_taken_together_and_generate_is_understood() {
        check(&["[]", "[{\"hostname\": \"h7\", \"used\": 1}]"], "hostname", "h7", true);
        check(&["generate({'hostname': 'h1-9'})"], "hostname", "h7", false);
        check(&["generate({'hostname': 'h1-9', 'used': '1-9'})"], "hostname", "h1", true);
        check(&["generate({'hostname': 'h1-9', 'used': '1-9'})"], "hostname", "h2", false);
        check(&[], "hostname", "h1", false);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_no_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.cmdb");
        let error = is_deployed("a", "b", std::slice::from_ref(&path)).unwrap_err();
        assert!(error.to_string().starts_with("cannot read "), "{error}");
        std::fs::write(&path, "[{'a': f()}]").unwrap();
        let error = is_deployed("a", "b", &[path]).unwrap_err();
        assert!(error.to_string().contains("`f(…)` is not a literal"), "{error}");
    }
}
