//! What runs around an upgrade: services whose files change are stopped and started, and a new
//! kernel asks for a reboot.
//!
//! A manifest does not say which program a service runs. Packages name both alike, so a service
//! is touched when its unit changes, or anything that is called like it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::parts;
use crate::upgrade::{Entry, Kernel, Manifest, TreePath, kernel_of};

/// Where units are.
const UNITS: [&str; 3] = ["usr/lib/systemd/system", "lib/systemd/system", "etc/systemd/system"];

/// Services that are never stopped for an upgrade: the way in, and what everything hangs on.
const NEVER: [&str; 6] = ["dbus", "getty", "serial", "ssh", "sshd", "user"];

/// Where something that changes may be a service's, beside its unit.
const WHERE: [&str; 8] =
    ["usr/bin/", "usr/sbin/", "usr/lib/", "usr/libexec/", "bin/", "sbin/", "etc/", "opt/"];

/// The services that are enabled in both versions and whose files change, by unit name.
pub(super) fn services(from: &Manifest, to: &Manifest) -> Vec<String> {
    let changed: Vec<&str> = changed(from, to).into_iter().filter_map(text).collect();
    let enabled = |manifest: &Manifest| -> BTreeSet<String> {
        manifest.entries.keys().filter_map(enabled_service).collect()
    };
    let (before, after) = (enabled(from), enabled(to));
    let touched = |unit: &&String| {
        is_stoppable(unit) && changed.iter().any(|path| belongs(path, unit, stem(unit)))
    };
    before.intersection(&after).filter(touched).cloned().collect()
}

/// Whether a service may be stopped while its files change.
pub fn is_stoppable(unit: &str) -> bool {
    let stem = stem(unit);
    !NEVER.contains(&stem) && !stem.starts_with("systemd") && !stem.starts_with("edeploy")
}

/// The service that a path enables: `…/multi-user.target.wants/NAME.service`.
fn enabled_service(path: &TreePath) -> Option<String> {
    let parts = parts(path)?;
    let [.., "system", wants, unit] = parts[..] else { return None };
    let plain = |c: char| c.is_ascii_alphanumeric() || "@._:-".contains(c);
    // The name goes into a script: whatever else systemd allows is left to the administrator.
    let named = unit.ends_with(".service") && unit.chars().all(plain) && !unit.starts_with('-');
    let is_template = unit.ends_with("@.service");
    (wants.ends_with(".wants") && named && !is_template).then(|| unit.to_owned())
}

/// What a service is called without what its parts are called: `redis` of `redis-server.service`.
fn stem(unit: &str) -> &str {
    unit.split(['-', '.', '@']).next().unwrap_or(unit)
}

/// Whether a path is a service's: its unit, a file beside it, or something called like it.
fn belongs(path: &str, unit: &str, stem: &str) -> bool {
    if let Some(rest) = UNITS.iter().find_map(|folder| path.strip_prefix(folder)) {
        let name = rest.trim_start_matches('/').split('/').next().unwrap_or_default();
        return name == unit || name.strip_suffix(".d") == Some(unit);
    }
    let Some(rest) = WHERE.iter().find_map(|folder| path.strip_prefix(folder)) else {
        return false;
    };
    let called_like = |part: &str| match part.strip_prefix(stem) {
        Some(rest) => rest.is_empty() || rest == "d" || rest.starts_with(['-', '.', '_']),
        None => false,
    };
    rest.split('/').any(called_like)
}

/// Every path that one version has otherwise than the other.
fn changed<'a>(from: &'a Manifest, to: &'a Manifest) -> BTreeSet<&'a TreePath> {
    let differs = |path: &&TreePath| match (from.entries.get(*path), to.entries.get(*path)) {
        (Some(before), Some(after)) => !before.same(after),
        _ => true,
    };
    from.entries.keys().chain(to.entries.keys()).filter(differs).collect()
}

fn text(path: &TreePath) -> Option<&str> {
    std::str::from_utf8(path.as_bytes()).ok()
}

/// Kernels of the new version that the old one has not, or has otherwise.
pub(super) fn new_kernels(from: &Manifest, to: &Manifest) -> BTreeSet<Kernel> {
    let is_image = |path: &&TreePath| {
        let starts = ["boot/vmlinuz-", "boot/vmlinux-", "boot/kernel-"];
        text(path).is_some_and(|path| starts.iter().any(|start| path.starts_with(start)))
    };
    changed(from, to)
        .into_iter()
        .filter(is_image)
        .filter(|path| to.entries.contains_key(*path))
        .filter_map(kernel_of)
        .collect()
}

/// What an administrator should know of the rest.
pub(super) fn notes(from: &Manifest, to: &Manifest, kernels: &BTreeSet<Kernel>) -> Vec<String> {
    let mut notes = Vec::new();
    for kernel in kernels {
        notes.push(format!("kernel {} is new: post asks for a reboot", kernel.0));
    }
    let everywhere = |path: &&TreePath| {
        path.name().starts_with(b"libc.so.")
            || path.name().starts_with(b"libssl.so.")
            || path.as_bytes() == b"usr/lib/systemd/systemd"
    };
    for path in changed(from, to).into_iter().filter(everywhere) {
        if kernels.is_empty()
            && to.entries.get(path).is_some_and(|entry: &Entry| !entry.is_folder())
        {
            notes.push(format!(
                "/{path} changed: what runs keeps the old one until it is restarted"
            ));
        }
    }
    notes
}

fn head(edge: &str) -> String {
    format!("#!/bin/sh\n# Upgrade of {edge}.\nset -e\n")
}

/// Stops what must not see its files change.
pub(super) fn pre(edge: &str, services: &[String]) -> String {
    if services.is_empty() {
        return String::new();
    }
    format!("{}systemctl stop {}\n", head(edge), services.join(" "))
}

/// Starts it again; makes a new kernel the one that boots and asks for a reboot.
pub(super) fn post(
    edge: &str,
    services: &[String],
    to: &Manifest,
    kernels: &BTreeSet<Kernel>,
) -> String {
    if services.is_empty() && kernels.is_empty() {
        return String::new();
    }
    let mut script = head(edge);
    if !services.is_empty() {
        let _ = writeln!(script, "systemctl daemon-reload\nsystemctl start {}", services.join(" "));
    }
    if !kernels.is_empty() {
        let has =
            |path: &str| path.parse().is_ok_and(|path: TreePath| to.entries.contains_key(&path));
        // exclude keeps the menu, which names kernels.
        if has("usr/sbin/update-grub") {
            script.push_str("update-grub\n");
        } else if has("usr/sbin/grub2-mkconfig") {
            script.push_str("grub2-mkconfig -o /boot/grub2/grub.cfg\n");
        }
        script.push_str("exit 100  # reboot: the kernel changed\n");
    }
    script
}
