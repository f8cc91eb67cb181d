//! What happened to the host's version: `/var/lib/edeploy/history`, one JSON value a line.

use serde::{Deserialize, Serialize};
use specs::units::Name;
use specs::upgrade::TreePath;

use crate::world::Root;

/// Where it is.
const HISTORY: &str = "/var/lib/edeploy/history";

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// Seconds since 1970.
    pub time: u64,
    /// Number of the upgrade.
    pub number: u32,
    /// `upgraded`, `rolled back` or `failed`.
    pub what: String,
    /// The version before.
    pub from: Name,
    /// The version after.
    pub to: Name,
    /// Why, of what failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether it was interrupted, by a power cut say, and taken up again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resumed: bool,
    /// Local edits that were kept aside, below `/var/lib/edeploy/kept/`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept_aside: Vec<TreePath>,
}

/// All of it, oldest first; nothing when nothing happened yet. Lines of a newer program that
/// cannot be read are left out.
pub fn history(root: &Root) -> std::io::Result<Vec<Happening>> {
    match root.read_text(HISTORY) {
        Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Adds to it, once however often the settling is repeated.
pub(super) fn add(root: &Root, happening: &Happening) -> std::io::Result<()> {
    let mut all = history(root)?;
    let same =
        |other: &Happening| (other.number, &other.what) == (happening.number, &happening.what);
    if all.iter().any(same) {
        return Ok(());
    }
    all.push(happening.clone());
    let mut text = String::new();
    for happening in &all {
        text.push_str(&serde_json::to_string(happening).map_err(std::io::Error::other)?);
        text.push('\n');
    }
    root.write(HISTORY, text.as_bytes(), 0o644, None)
}
