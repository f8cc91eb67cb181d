//! To which versions this host can be upgraded: the folders `metadata/<version>/<role>/<to>/`
//! of its rsync daemon.

use crate::host::{HostError, Identity};
use crate::world::{Cmd, CmdError, Runner, Tool};

/// The rsync module of the metadata.
const MODULE: &str = "metadata";

/// rsync's status for "partial transfer": here, that the folder does not exist.
const NO_SUCH_FOLDER: i32 = 23;

/// Why the versions could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum EdgesError {
    /// The host does not know where to ask.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The daemon did not answer.
    #[error("cannot ask `{url}` for upgrades")]
    Ask {
        /// What was asked.
        url: String,
        /// Why.
        #[source]
        source: CmdError,
    },
}

/// The versions that this host's version can be upgraded to, sorted. None is no error.
pub fn list(runner: &mut dyn Runner, identity: &Identity) -> Result<Vec<String>, EdgesError> {
    let Identity { version, role, .. } = identity;
    let url = identity.origin()?.url(&format!("{MODULE}/{version}/{role}"));
    let args = ["--list-only", "--contimeout=30", "--timeout=60", &url];
    let cmd = Cmd::new(Tool::Rsync, &args).why("list the upgrades of this host");
    match runner.run(&cmd) {
        Ok(output) => Ok(folders(&output.stdout)),
        Err(CmdError::Exit { code: NO_SUCH_FOLDER, stderr_tail, .. })
            if stderr_tail.contains("No such file or directory") =>
        {
            Ok(Vec::new())
        }
        Err(source) => Err(EdgesError::Ask { url, source }),
    }
}

/// The names of folders in a listing: `drwxr-xr-x  4,096 2026/11/22 05:34:52 name`.
fn folders(listing: &str) -> Vec<String> {
    let mut names: Vec<String> = listing
        .lines()
        .filter(|line| line.starts_with('d'))
        .filter_map(|line| {
            let mut rest = line;
            for _ in 0..4 {
                rest = rest.trim_start().split_once(' ')?.1;
            }
            Some(rest.to_owned())
        })
        .filter(|name| name != ".")
        .collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_are_versions() {
        let listing = "drwxr-xr-x          4,096 2026/11/22 05:34:52 .\n\
                       drwxr-xr-x          4,096 2026/11/22 05:34:52 D12-F.1.0.2\n\
                       -rw-r--r--              3 2026/11/22 05:34:52 README\n\
                       drwxr-xr-x          4,096 2026/11/22 05:34:52 D12-F.1.0.1\n";
        assert_eq!(folders(listing), ["D12-F.1.0.1", "D12-F.1.0.2"]);
        assert_eq!(folders(""), Vec::<String>::new());
    }
}
