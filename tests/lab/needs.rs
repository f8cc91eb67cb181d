//! What a test needs of the machine it runs on. A missing need is a skip that is printed and
//! counted, and a failure under `CI=true`: a tier that is skipped in silence proves nothing.

use std::path::Path;

/// Something that not every machine has.
#[derive(Debug, Clone, Copy)]
pub enum Need {
    /// The rights of root.
    Root,
    /// Loop devices.
    LoopDevices,
    /// A program on the search path.
    Program(&'static str),
    /// A file of a package.
    File(&'static str),
}

impl Need {
    fn there(self) -> bool {
        match self {
            Need::Root => nix::unistd::geteuid().is_root(),
            Need::LoopDevices => Path::new("/dev/loop-control").exists(),
            Need::Program(name) => program(name),
            Need::File(path) => Path::new(path).exists(),
        }
    }
}

fn program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(name).is_file())
}

/// Whether everything is there. Otherwise prints the line that `scripts/test` counts as a skip;
/// under `CI=true` it panics instead.
#[expect(clippy::print_stdout, reason = "scripts/test counts this line in a test's output")]
#[track_caller]
pub fn present(needs: &[Need]) -> bool {
    let missing: Vec<&Need> = needs.iter().filter(|need| !need.there()).collect();
    if missing.is_empty() {
        return true;
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{test} needs {missing:?}, and under CI nothing is skipped"
    );
    println!("SKIPPED: {test} needs {missing:?}; scripts/test installs what can be installed");
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_look_at_the_machine() {
        assert!(Need::Program("ls").there() && Need::File("/etc/passwd").there());
        assert!(!Need::Program("no-such-program").there());
        assert!(!Need::File("/no/such/file").there());
    }
}
