//! edeploy.conf: from text to validated settings, one [`Section`] per deployment.
//!
//! Text becomes raw sections (`ini`), those become typed values here, each mistake named with its
//! line. Relative paths are relative to the folder of edeploy.conf. Nothing here looks into the
//! directories named: whether they exist is the business of whoever uses them.

mod ini;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use specs::fleet::Keep;

use self::ini::{Entry, RawSection};

/// The section that an upload without the form field `section` means.
pub const DEFAULT_SECTION: &str = "SERVER";

/// Where the file is when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/edeploy.conf";

/// Every key, with what it is for: the one table that `serve --help` and the message about an
/// unknown key share.
pub const KEYS: &[(&str, &str)] = &[
    ("CONFIGDIR", "folder of state, *.specs, *.cmdb and *.configure"),
    ("STATEDIR", "folder of what the server writes; empty: CONFIGDIR itself is rewritten"),
    ("HWDIR", "folder of the uploaded facts (*.hw), default CONFIGDIR"),
    ("LOGDIR", "folder of uploaded logs, default CONFIGDIR"),
    ("HEALTHDIR", "folder of health-check results"),
    ("LOCKFILE", "the file lock, default `.edeploy/lock` in STATEDIR or CONFIGDIR"),
    ("USEPXEMNGR", "`True`: tell pxemngr to boot installed machines from their disk"),
    ("PXEMNGRURL", "base URL of pxemngr"),
    ("METADATAURL", "seed URL for cloud-init"),
    ("LEASE", "how long a machine may be silent before its installation has failed: `30m`"),
    ("MAXBODY", "largest body of a request in bytes, default 16777216"),
    ("MAXFACTS", "most facts of one machine, default 20000"),
    ("MAXLOGS", "most bytes of uploaded logs in LOGDIR, default 1073741824"),
    ("LOGAGE", "uploaded logs older than this are removed: `90d`; empty: none is"),
    ("LOGCOUNT", "most logs of one name that are kept, default 0: all"),
    ("RECORDAGE", "machines that hold nothing are forgotten after this: `90d`; empty: none is"),
    ("RECORDCOUNT", "most machines that hold nothing and are remembered, default 0: all"),
    ("RATELIMIT", "most requests of one address a minute, default 6000; 0: no limit"),
    ("MACHINERATE", "most uploads of one machine a minute, default 60; 0: no limit"),
    ("LISTEN", "address of `serve`, default 0.0.0.0:80 (section SERVER only)"),
    ("WORKERS", "requests handled at once by `serve`, default 32 (section SERVER only)"),
    ("MAXCONNECTIONS", "connections held at once by `serve`, default 512 (section SERVER only)"),
];

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    sections: BTreeMap<String, Section>,
    /// What `serve` needs beside the sections.
    pub listener: ListenerSettings,
    /// Mistakes that do not stop the server: unknown keys.
    pub warnings: Vec<String>,
}

/// Settings of the HTTP front; taken from section `SERVER`. They cannot change while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Where it listens.
    pub address: SocketAddr,
    /// How many requests are handled at once.
    pub workers: usize,
    /// How many connections are held at once.
    pub max_connections: usize,
    /// The largest body any section takes.
    pub max_body: usize,
}

/// One deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name, `SERVER` for the usual one.
    pub name: String,
    /// Folder of state, specs, CMDBs and configure files.
    pub config_dir: PathBuf,
    /// Folder of what the server writes; `None`: [`Section::config_dir`] is rewritten.
    pub state_dir: Option<PathBuf>,
    /// Folder of uploaded facts.
    pub hw_dir: PathBuf,
    /// Folder of uploaded logs.
    pub log_dir: PathBuf,
    /// Folder of health-check results.
    pub health_dir: Option<PathBuf>,
    /// The file lock.
    pub lock_file: PathBuf,
    /// Base URL of pxemngr, when it is used.
    pub pxemngr_url: Option<String>,
    /// Seed URL for cloud-init.
    pub metadata_url: Option<String>,
    /// How long a machine may be silent before its installation counts as failed.
    pub lease: Duration,
    /// Limits on what it accepts.
    pub limits: Limits,
    /// What is kept of logs and of machines that hold nothing.
    pub retention: Retention,
}

/// What one section keeps for how long; everything unless its settings say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retention {
    /// How old uploaded logs may become.
    pub log_age: Option<Duration>,
    /// How many logs of one name are kept, the newest included.
    pub log_count: Option<usize>,
    /// Which records of machines that hold nothing are kept.
    pub records: Keep,
}

/// Limits on what one section accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body: usize,
    /// Facts of one machine.
    pub facts: usize,
    /// Bytes of all logs in LOGDIR together.
    pub logs: u64,
    /// Requests of one address a minute; 0 is without limit.
    pub requests_per_minute: u32,
    /// Uploads of one machine a minute; 0 is without limit.
    pub uploads_per_minute: u32,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file could not be read.
    #[error("cannot read {}; name the file with --config or EDEPLOY_CONF", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file says something that cannot be.
    #[error("{}:{line}: {what}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong and what to write instead.
        what: String,
    },
}

impl Settings {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Settings, SettingsError> {
        let path = std::path::absolute(path)
            .map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
        let text = std::fs::read_to_string(&path)
            .map_err(|source| SettingsError::Read { path: path.clone(), source })?;
        Settings::parse(&text, &path)
    }

    /// The settings that `text`, the file at `path`, holds.
    pub fn parse(text: &str, path: &Path) -> Result<Settings, SettingsError> {
        let invalid = |line, what| SettingsError::Invalid { path: path.to_owned(), line, what };
        let raw_sections = ini::parse(text).map_err(|error| invalid(error.line, error.what))?;
        let base = path.parent().unwrap_or(Path::new("/"));
        let mut warnings = Vec::new();
        let mut sections = BTreeMap::new();
        let mut listener = ListenerSettings {
            address: SocketAddr::from(([0, 0, 0, 0], 80)),
            workers: 32,
            max_connections: 512,
            max_body: 0,
        };
        for raw in &raw_sections {
            for entry in &raw.entries {
                if !KEYS.iter().any(|(key, _)| *key == entry.key) {
                    let known: Vec<&str> = KEYS.iter().map(|(key, _)| *key).collect();
                    warnings.push(format!(
                        "{}:{}: unknown key `{}` ignored; known: {}",
                        path.display(),
                        entry.line,
                        entry.key,
                        known.join(" ")
                    ));
                }
            }
            let section = section(raw, base).map_err(|(line, what)| invalid(line, what))?;
            if raw.name == DEFAULT_SECTION {
                read_listener(raw, &mut listener).map_err(|(line, what)| invalid(line, what))?;
            }
            listener.max_body = listener.max_body.max(section.limits.body);
            sections.insert(raw.name.clone(), section);
        }
        if sections.is_empty() {
            return Err(invalid(1, format!("no section: begin with `[{DEFAULT_SECTION}]`")));
        }
        Ok(Settings { sections, listener, warnings })
    }

    /// The section of this name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.get(name)
    }

    /// All sections, by name.
    pub fn sections(&self) -> impl Iterator<Item = &Section> {
        self.sections.values()
    }

    /// Tells these settings from others.
    pub fn digest(&self) -> String {
        blake3::hash(format!("{self:?}").as_bytes()).to_hex().to_string()
    }

    /// What changed from `self` to `new` that a running server cannot take up.
    pub fn needs_restart(&self, new: &Settings) -> Vec<&'static str> {
        let (old, new) = (&self.listener, &new.listener);
        let mut keys = Vec::new();
        let mut compare = |changed: bool, key| {
            if changed {
                keys.push(key);
            }
        };
        compare(old.address != new.address, "LISTEN");
        compare(old.workers != new.workers, "WORKERS");
        compare(old.max_connections != new.max_connections, "MAXCONNECTIONS");
        compare(old.max_body != new.max_body, "MAXBODY");
        keys
    }
}

impl Section {
    /// The settings of a section that names only its CONFIGDIR.
    pub fn with_config_dir(name: &str, config_dir: PathBuf) -> Section {
        Section {
            name: name.to_owned(),
            state_dir: None,
            hw_dir: config_dir.clone(),
            log_dir: config_dir.clone(),
            health_dir: None,
            lock_file: config_dir.join(PRIVATE_DIR).join("lock"),
            pxemngr_url: None,
            metadata_url: None,
            lease: Duration::from_secs(30 * 60),
            limits: Limits {
                body: 16 << 20,
                facts: 20_000,
                logs: 1 << 30,
                requests_per_minute: 6000,
                uploads_per_minute: 60,
            },
            retention: Retention::default(),
            config_dir,
        }
    }

    /// Where rewritten `state` and `*.cmdb` files are.
    pub fn written_dir(&self) -> &Path {
        self.state_dir.as_deref().unwrap_or(&self.config_dir)
    }

    /// Where journal and machine records are.
    pub fn private_dir(&self) -> PathBuf {
        self.written_dir().join(PRIVATE_DIR)
    }
}

/// Folder of journal and machine records below STATEDIR or CONFIGDIR: hidden, because the
/// folder around it belongs to the admin.
const PRIVATE_DIR: &str = ".edeploy";

type Mistake = (usize, String);

fn section(raw: &RawSection, base: &Path) -> Result<Section, Mistake> {
    let value =
        |key: &str| raw.entries.iter().find(|entry| entry.key == key && !entry.value.is_empty());
    let path = |key: &str| value(key).map(|entry| base.join(&entry.value));
    let Some(config_dir) = path("CONFIGDIR") else {
        let line = raw.entries.first().map_or(1, |entry| entry.line);
        return Err((line, format!("section `{}` needs CONFIGDIR = /some/folder", raw.name)));
    };
    let mut section = Section::with_config_dir(&raw.name, config_dir);
    section.state_dir = path("STATEDIR");
    section.hw_dir = path("HWDIR").unwrap_or_else(|| section.written_dir().to_owned());
    section.log_dir = path("LOGDIR").unwrap_or_else(|| section.written_dir().to_owned());
    section.health_dir = path("HEALTHDIR");
    section.lock_file = path("LOCKFILE").unwrap_or_else(|| section.private_dir().join("lock"));
    section.metadata_url = value("METADATAURL").map(|entry| entry.value.clone());
    section.pxemngr_url = match value("USEPXEMNGR") {
        Some(entry) if entry.value == "True" => match value("PXEMNGRURL") {
            Some(url) => Some(url.value.clone()),
            None => return Err((entry.line, "USEPXEMNGR = True needs PXEMNGRURL".to_owned())),
        },
        _ => None,
    };
    if let Some(entry) = value("LEASE") {
        section.lease = duration(entry)?;
    }
    if let Some(entry) = value("MAXBODY") {
        section.limits.body = number(entry)?;
    }
    if let Some(entry) = value("MAXFACTS") {
        section.limits.facts = number(entry)?;
    }
    if let Some(entry) = value("MAXLOGS") {
        section.limits.logs = number(entry)?;
    }
    if let Some(entry) = value("RATELIMIT") {
        section.limits.requests_per_minute = number_or_zero(entry)?;
    }
    if let Some(entry) = value("MACHINERATE") {
        section.limits.uploads_per_minute = number_or_zero(entry)?;
    }
    section.retention = Retention {
        log_age: value("LOGAGE").map(duration).transpose()?,
        log_count: value("LOGCOUNT").map(limit).transpose()?.flatten(),
        records: Keep {
            age: value("RECORDAGE").map(duration).transpose()?.map(|age| age.as_secs()),
            count: value("RECORDCOUNT").map(limit).transpose()?.flatten(),
        },
    };
    Ok(section)
}

fn read_listener(raw: &RawSection, listener: &mut ListenerSettings) -> Result<(), Mistake> {
    for entry in raw.entries.iter().filter(|entry| !entry.value.is_empty()) {
        match entry.key.as_str() {
            "LISTEN" => {
                listener.address = entry.value.parse().map_err(|_| {
                    let what = format!("LISTEN = {}: expected ADDRESS:PORT", entry.value);
                    (entry.line, what)
                })?;
            }
            "WORKERS" => listener.workers = number(entry)?,
            "MAXCONNECTIONS" => listener.max_connections = number(entry)?,
            _ => {}
        }
    }
    Ok(())
}

fn number<T: TryFrom<u64>>(entry: &Entry) -> Result<T, Mistake> {
    let number = entry.value.parse::<u64>().ok().filter(|number| *number > 0);
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
        let what = format!("{} = {}: expected a whole number above 0", entry.key, entry.value);
        (entry.line, what)
    })
}

/// A number, of which 0 is no limit.
fn limit(entry: &Entry) -> Result<Option<usize>, Mistake> {
    if entry.value == "0" { Ok(None) } else { number(entry).map(Some) }
}

fn number_or_zero(entry: &Entry) -> Result<u32, Mistake> {
    if entry.value == "0" { Ok(0) } else { number(entry) }
}

fn duration(entry: &Entry) -> Result<Duration, Mistake> {
    let (digits, unit) = match entry.value.char_indices().last() {
        Some((position, 's')) => (&entry.value[..position], 1),
        Some((position, 'm')) => (&entry.value[..position], 60),
        Some((position, 'h')) => (&entry.value[..position], 3600),
        Some((position, 'd')) => (&entry.value[..position], 86_400),
        _ => (entry.value.as_str(), 1),
    };
    let seconds = digits.trim().parse::<u64>().ok().filter(|seconds| *seconds > 0);
    seconds.and_then(|seconds| seconds.checked_mul(unit)).map(Duration::from_secs).ok_or_else(
        || {
            (
                entry.line,
                format!("{} = {}: expected `45s`, `30m`, `2h` or `90d`", entry.key, entry.value),
            )
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const README: &str = "\
[SERVER]

HEALTHDIR   = /var/lib/edeploy/health/
CONFIGDIR   = /var/lib/edeploy/config/
LOGDIR      = ../config/logs
HWDIR       = /var/lib/edeploy/hw/
LOCKFILE    = /var/lock/apache2/edeploy.lock
USEPXEMNGR  = True
PXEMNGRURL  = http://192.168.122.1:8000/
METADATAURL = http://192.168.122.1/
";

    fn parse(text: &str) -> Result<Settings, SettingsError> {
        Settings::parse(text, Path::new("/etc/edeploy.conf"))
    }

    #[test]
    fn the_readme_file_is_understood() {
        let settings = parse(README).unwrap();
        let section = settings.section("SERVER").unwrap();
        assert_eq!(section.config_dir, Path::new("/var/lib/edeploy/config/"));
        assert_eq!(section.log_dir, Path::new("/etc/../config/logs"));
        assert_eq!(section.pxemngr_url.as_deref(), Some("http://192.168.122.1:8000/"));
        assert_eq!(section.lease, Duration::from_secs(1800));
        assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
    }

    #[test]
    fn unknown_keys_are_reported_with_their_line() {
        let settings = parse("[SERVER]\nCONFIGDIR=/c\nLOKFILE=/l\n").unwrap();
        assert!(settings.warnings[0].starts_with("/etc/edeploy.conf:3: unknown key `LOKFILE`"));
    }

    #[test]
    fn a_state_dir_takes_everything_that_is_written() {
        let settings =
            parse("[SERVER]\nCONFIGDIR=/c\nSTATEDIR=/s\n[LAB]\nCONFIGDIR=lab\n").unwrap();
        let section = settings.section("SERVER").unwrap();
        assert_eq!(section.hw_dir, Path::new("/s"));
        assert_eq!(section.private_dir(), Path::new("/s/.edeploy"));
        assert_eq!(settings.section("LAB").unwrap().config_dir, Path::new("/etc/lab"));
    }

    #[test]
    fn everything_is_kept_unless_it_is_said_for_how_long() {
        let retention = |more: &str| {
            let settings = parse(&format!("[SERVER]\nCONFIGDIR=/c\n{more}")).unwrap();
            settings.section("SERVER").unwrap().retention.clone()
        };
        assert_eq!(retention("LOGAGE=\nLOGCOUNT=0\nRECORDCOUNT=0\n"), Retention::default());
        let expected = Retention {
            log_age: Some(Duration::from_secs(90 * 86_400)),
            log_count: Some(5),
            records: Keep { age: Some(7200), count: Some(1000) },
        };
        let said = "LOGAGE=90d\nLOGCOUNT=5\nRECORDAGE=2h\nRECORDCOUNT=1000\n";
        assert_eq!(retention(said), expected);
    }

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn mistakes_say_what_to_write() {
        check_error("", "no section");
        check_error("[SERVER]\nLEASE=5m\n", "edeploy.conf:2: section `SERVER` needs CONFIGDIR");
        check_error("[S]\nCONFIGDIR=/c\nLEASE=soon\n", ":3: LEASE = soon: expected `45s`");
        check_error("[S]\nCONFIGDIR=/c\nMAXBODY=-1\n", "expected a whole number above 0");
        check_error("[S]\nCONFIGDIR=/c\nRECORDAGE=9y\n", "`2h` or `90d`");
        check_error("[S]\nCONFIGDIR=/c\nLOGCOUNT=some\n", "expected a whole number above 0");
        check_error("[SERVER]\nCONFIGDIR=/c\nLISTEN=here\n", "expected ADDRESS:PORT");
        check_error("[S]\nCONFIGDIR=/c\nUSEPXEMNGR=True\n", "needs PXEMNGRURL");
    }
}
