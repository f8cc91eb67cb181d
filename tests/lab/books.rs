//! What a site's configuration says after machines were there: who holds which entry, and how
//! many of a profile are left. Read through the product's own readers.

use std::collections::BTreeSet;

use anyhow::{Context, Result, anyhow};
use specs::cmdb::{Cmdb, Entry};
use specs::state::{Count, State};
use specs::units::Name;

use crate::site::{PROFILE, Site};

/// The entries and the count of the site's profile at one moment.
#[derive(Debug)]
pub struct Books {
    /// All entries, in order.
    pub entries: Vec<Entry>,
    /// How many are left; `None` for `"*"`.
    pub left: Option<u64>,
}

impl Books {
    /// Brings the files up to date and reads them.
    pub fn read(site: &Site) -> Result<Books> {
        site.admin(&["sync"])?;
        let file = format!("{PROFILE}.cmdb");
        let entries = Cmdb::parse(&file, &site.config_text(&file)?, &BTreeSet::new())
            .map_err(|findings| anyhow!("{}", findings[0].one_line()))?
            .entries()
            .collect();
        let state = State::parse("state", &site.config_text("state")?)
            .map_err(|findings| anyhow!("{}", findings[0].one_line()))?;
        let profile: Name = PROFILE.parse()?;
        let left = match state.count(&profile).context("`state` does not name the profile")? {
            Count::Left(left) => Some(u64::try_from(left).context("the count is negative")?),
            _ => None,
        };
        Ok(Books { entries, left })
    }

    /// The values that no log may show: written `secret("…")`, or named like one.
    pub fn secrets(&self) -> Vec<String> {
        let named = |key: &str| ["pass", "secret", "token"].iter().any(|part| key.contains(part));
        let fields = self.entries.iter().flat_map(|entry| &entry.fields);
        let secret = fields.filter(|field| field.secret || named(&field.key.to_lowercase()));
        secret.map(|field| field.value.as_text()).collect()
    }

    /// The entries that somebody holds.
    pub fn used(&self) -> Vec<&Entry> {
        self.entries.iter().filter(|entry| entry.is_used()).collect()
    }

    /// The entry of the machine with this MAC address: the one that names it, else the only one
    /// that is used (a spec list need not bind the address).
    pub fn entry_of(&self, mac: &str) -> Result<&Entry> {
        let used = self.used();
        let names_it = |entry: &&&Entry| entry.fields.iter().any(|f| f.value.as_text() == mac);
        match (used.iter().find(names_it), used.as_slice()) {
            (Some(entry), _) => Ok(entry),
            (None, [only]) => Ok(only),
            (None, several) => {
                Err(anyhow!("none of the {} used entries names {mac}", several.len()))
            }
        }
    }
}

/// A field of an entry, as text.
pub fn field(entry: &Entry, key: &str) -> Result<String> {
    let value = entry.get(key).with_context(|| format!("the CMDB entry has no `{key}`"))?;
    Ok(value.as_text())
}
