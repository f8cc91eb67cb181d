//! What an installed host says of itself: `/var/lib/edeploy/conf`, and the profile from
//! `/var/log/edeploy/vars`.

use std::path::PathBuf;

use specs::plan::Role;
use specs::units::{Name, UnitError};

use crate::assignments;
use crate::execute::{CONF, Origin, RECORDS};
use crate::world::Root;

/// Port of an rsync daemon when nobody said otherwise.
const RSYNC_PORT: u16 = 873;

/// Module that holds the trees when nobody said otherwise.
const RSYNC_PATH: &str = "install";

/// Why a host does not know what it is.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The file is not there or cannot be read.
    #[error("cannot read `{}`: is this host installed by eDeploy?", path.display())]
    Read {
        /// The file, as it is called from here.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A key is missing.
    #[error("`{}` has no {key}: add a line {key}=…", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
    },
    /// A value is not what it should be.
    #[error("{key} in `{}` is wrong", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Why.
        #[source]
        source: UnitError,
    },
    /// The port is no port.
    #[error("RSERV_PORT in `{}` is `{value}`, not a port number", path.display())]
    Port {
        /// The file.
        path: PathBuf,
        /// What stands there.
        value: String,
    },
}

/// What a host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `VERS`: the version of its role.
    pub version: Name,
    /// `ROLE`: the role.
    pub role: Name,
    /// `PROFILE`: the profile it was installed as; `None` when no record tells.
    pub profile: Option<Name>,
    /// Where its trees come from.
    conf: Conf,
}

/// The rest of the conf file, which only commands that reach for a server need.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Conf {
    path: PathBuf,
    text: String,
}

impl Identity {
    /// Reads it.
    pub fn read(root: &Root) -> Result<Identity, HostError> {
        let (path, text) = read(root, CONF)?;
        let name = |key| required_name(&path, &text, key);
        let (version, role) = (name("VERS")?, name("ROLE")?);
        let profile = match read(root, &format!("{RECORDS}/vars")) {
            Ok((path, text)) => match assignments::get(&text, "PROFILE") {
                Some(_) => Some(required_name(&path, &text, "PROFILE")?),
                None => None,
            },
            Err(HostError::Read { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Identity { version, role, profile, conf: Conf { path, text } })
    }

    /// The role and its version.
    pub fn role(&self) -> Role {
        Role { name: self.role.clone(), version: self.version.clone() }
    }

    /// Where the trees of this host come from.
    pub fn origin(&self) -> Result<Origin, HostError> {
        let Conf { path, text } = &self.conf;
        let value = |key| assignments::get(text, key).filter(|value| !value.is_empty());
        let rsync_host = value("RSERV")
            .ok_or_else(|| HostError::Missing { path: path.clone(), key: "RSERV" })?;
        let rsync_port = match value("RSERV_PORT") {
            None => RSYNC_PORT,
            Some(value) => match value.parse() {
                Ok(port) => port,
                Err(_) => return Err(HostError::Port { path: path.clone(), value }),
            },
        };
        Ok(Origin {
            server: value("SERV").unwrap_or_else(|| rsync_host.clone()),
            rsync_path: value("RPATH").unwrap_or_else(|| RSYNC_PATH.to_owned()),
            rsync_host,
            rsync_port,
            archives: None,
        })
    }
}

fn read(root: &Root, path: &str) -> Result<(PathBuf, String), HostError> {
    let outside = root.folder().join(path.trim_start_matches('/'));
    match root.read_text(path) {
        Ok(text) => Ok((outside, text)),
        Err(source) => Err(HostError::Read { path: outside, source }),
    }
}

fn required_name(path: &std::path::Path, text: &str, key: &'static str) -> Result<Name, HostError> {
    let value = assignments::get(text, key).filter(|value| !value.is_empty());
    let value = value.ok_or_else(|| HostError::Missing { path: path.to_owned(), key })?;
    value.parse().map_err(|source| HostError::Wrong { path: path.to_owned(), key, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(conf: &str, vars: Option<&str>) -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        root.write(CONF, conf.as_bytes(), 0o644, None).unwrap();
        if let Some(vars) = vars {
            root.write(&format!("{RECORDS}/vars"), vars.as_bytes(), 0o644, None).unwrap();
        }
        (folder, root)
    }

    #[test]
    fn a_host_knows_what_it_is_and_where_it_came_from() {
        let conf = "VERS=D12-F.1.0.0\nROLE=mysql\nSERV=10.0.2.2\nRSERV=10.0.2.3\nRSERV_PORT=1515\n";
        let (_keep, root) = host(conf, Some("PROFILE=vm\n"));
        let identity = Identity::read(&root).unwrap();
        assert_eq!(identity.version.as_str(), "D12-F.1.0.0");
        assert_eq!(identity.profile.as_ref().map(Name::as_str), Some("vm"));
        let origin = identity.origin().unwrap();
        assert_eq!(
            origin.tree_url(&identity.role()),
            "rsync://10.0.2.3:1515/install/D12-F.1.0.0/mysql/"
        );
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let read = |conf| {
            let (_keep, root) = host(conf, None);
            Identity::read(&root)
        };
        assert!(matches!(read("ROLE=a\n"), Err(HostError::Missing { key: "VERS", .. })));
        assert!(matches!(read("VERS=../x\nROLE=a\n"), Err(HostError::Wrong { key: "VERS", .. })));
        let ends = |conf| read(conf).unwrap().origin().unwrap_err();
        assert!(matches!(ends("VERS=1\nROLE=a\n"), HostError::Missing { key: "RSERV", .. }));
        assert!(matches!(
            ends("VERS=1\nROLE=a\nRSERV=b\nRSERV_PORT=x\n"),
            HostError::Port { value, .. } if value == "x"
        ));
        let nothing = tempfile::tempdir().unwrap();
        let error = Identity::read(&Root::new(nothing.path())).unwrap_err();
        assert!(matches!(error, HostError::Read { .. }), "{error}");
    }
}
