//! Where role trees come from.

use specs::plan::Role;

use crate::options::{TreeSource, authority};

/// The servers of an installation, as the agent's boot arguments or the conf file of an
/// installed host name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The matching server (`SERV`).
    pub server: String,
    /// Host of the rsync daemon (`RSERV`).
    pub rsync_host: String,
    /// Its port (`RSERV_PORT`).
    pub rsync_port: u16,
    /// Its module, and perhaps a path in it, that holds `<version>/<role>/` (`RPATH`).
    pub rsync_path: String,
    /// The web server with archives of role trees (`HSERV`): where there is one, the tree comes
    /// from it and the rsync daemon is for upgrades.
    pub archives: Option<TreeSource>,
}

impl Origin {
    /// The URL of something below a module of the daemon, as rsync wants it. An IPv6 address
    /// gets its brackets.
    pub fn url(&self, path: &str) -> String {
        let host = &self.rsync_host;
        let path = path.trim_matches('/');
        if host.contains(':') && !host.starts_with('[') {
            format!("rsync://[{host}]:{}/{path}/", self.rsync_port)
        } else {
            format!("rsync://{host}:{}/{path}/", self.rsync_port)
        }
    }

    /// The URL of a role tree.
    pub fn tree_url(&self, role: &Role) -> String {
        self.url(&format!("{}/{}/{}", self.rsync_path.trim_matches('/'), role.version, role.name))
    }

    /// Where the archive of a role may be, when there is a web server for it: in the folder of
    /// the version, as it is made, or above it, as the README of the original has it.
    pub fn archive_urls(&self, role: &Role) -> Option<Vec<String>> {
        let TreeSource { host, port, path } = self.archives.as_ref()?;
        let top = format!("http://{}/{path}", authority(host, *port));
        let top = top.trim_end_matches('/');
        let name = format!("{}-{}.edeploy", role.name, role.version);
        Some(vec![format!("{top}/{}/{name}", role.version), format!("{top}/{name}")])
    }
}
