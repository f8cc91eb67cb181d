//! How a machine asks for an address: `udhcpc`, and what its script writes down.
//!
//! `udhcpc` runs its script with the answer in the environment. The script is this program under
//! the name [`EVENT_PROGRAM`]: [`record_event`] checks every value into a [`Lease`] and writes it
//! as one JSON file, from which the agent that asked reads it.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use super::lease::{Lease, WrongVariable};
use crate::init::AGENT;
use crate::world::{Cmd, Root, Runner, Tool};

/// The name under which `udhcpc` starts this program; see [`record_event`].
pub const EVENT_PROGRAM: &str = "dhcp-event";

/// Where leases are written, by interface.
pub(super) const LEASES: &str = "/run/edeploy/dhcp";

/// What this program says on its standard output, before the event, when it is called by `udhcpc`.
pub const EVENT_MARK: &str = "dhcp-event: ";

/// How long one interface asks in one round.
const ASKING: Duration = Duration::from_secs(10);

/// Why an event of `udhcpc` was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// What `udhcpc` said cannot be used.
    #[error(transparent)]
    Variable(#[from] WrongVariable),
    /// The file could not be written.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Asks on one interface and returns what was recorded.
pub(super) fn ask(runner: &mut dyn Runner, root: &Root, interface: &str) -> Result<Lease, String> {
    let path = file_of(interface);
    let text = |error: &dyn std::error::Error| crate::chain(error);
    // An older answer must not be taken for this one.
    root.create_dirs(LEASES, 0o755).map_err(|error| text(&error))?;
    if root.exists(&path) {
        let stale = root.resolve(&path).map_err(|error| text(&error))?;
        std::fs::remove_file(stale).map_err(|error| text(&error))?;
    }
    let script = event_link(root).map_err(|error| text(&error))?;
    runner.run(&udhcpc(interface, &script)).map_err(|error| text(&error))?;
    recorded(root, interface)
}

/// The lease that was recorded last for an interface.
pub(super) fn recorded(root: &Root, interface: &str) -> Result<Lease, String> {
    let path = file_of(interface);
    let json = root.read_text(&path).map_err(|error| format!("{path}: {error}"))?;
    serde_json::from_str(&json).map_err(|error| format!("{path}: {error}"))
}

fn file_of(interface: &str) -> String {
    format!("{LEASES}/{interface}")
}

/// Leave with an answer or without one, in the foreground, four questions in ten seconds.
fn udhcpc(interface: &str, script: &str) -> Cmd {
    Cmd::new(
        Tool::Busybox,
        &[
            "udhcpc", "-f", "-q", "-n", "-t", "4", "-T", "2", "-A", "1", "-i", interface, "-s",
            script,
        ],
    )
    .why("asks for an address")
    .deadline(ASKING + Duration::from_secs(2))
}

/// The link to this program that `udhcpc` starts.
pub(super) fn event_link(root: &Root) -> io::Result<String> {
    let path = format!("/run/edeploy/{EVENT_PROGRAM}");
    match std::os::unix::fs::symlink(AGENT, root.resolve("/run/edeploy")?.join(EVENT_PROGRAM)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(path),
    }
}

/// What this program does as the script of `udhcpc`: writes an answer down; other events (the
/// interface is to be cleared, nobody answered) are none of its business.
pub fn record_event(
    root: &Root,
    event: &str,
    variables: &BTreeMap<String, String>,
) -> Result<(), EventError> {
    if !matches!(event, "bound" | "renew") {
        return Ok(());
    }
    let interface = variables.get("interface").map(String::as_str).unwrap_or_default();
    if interface.is_empty() || interface.contains('/') || interface.starts_with('.') {
        return Err(WrongVariable { name: "interface", value: interface.to_owned() }.into());
    }
    let lease = Lease::from_environment(variables)?;
    let path = file_of(interface);
    let json = serde_json::to_vec(&lease).map_err(io::Error::from);
    json.and_then(|json| root.write(&path, &json, 0o644, None))
        .map_err(|source| EventError::Write { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_answer_is_recorded_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let environment = variables(&[
            ("interface", "eth0"),
            ("ip", "10.0.2.15"),
            ("mask", "24"),
            ("subnet", "255.255.255.0"),
            ("router", "10.0.2.2"),
            ("dns", "10.0.2.3 10.0.2.4"),
            ("domain", "lab.example"),
        ]);
        record_event(&root, "deconfig", &environment).unwrap();
        assert!(!root.exists("/run/edeploy/dhcp/eth0"));
        record_event(&root, "bound", &environment).unwrap();
        let lease: Lease =
            serde_json::from_str(&root.read_text("/run/edeploy/dhcp/eth0").unwrap()).unwrap();
        let commands: Vec<String> =
            lease.commands("eth0", 100).iter().map(ToString::to_string).collect();
        assert_eq!(
            commands,
            [
                "ip address replace 10.0.2.15/24 dev eth0",
                "ip route replace default via 10.0.2.2 dev eth0 metric 100",
            ]
        );
        assert_eq!(
            lease.resolv_conf().unwrap(),
            "search lab.example\nnameserver 10.0.2.3\nnameserver 10.0.2.4\n"
        );
    }

    #[test]
    fn no_interface_is_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let bad = variables(&[("interface", "../x"), ("ip", "10.0.0.1"), ("mask", "24")]);
        let error = record_event(&Root::new(folder.path()), "bound", &bad).unwrap_err();
        assert!(
            matches!(error, EventError::Variable(WrongVariable { name: "interface", .. })),
            "{error}"
        );
    }
}
