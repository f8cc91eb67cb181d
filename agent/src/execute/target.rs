//! The inside of the tree that is being installed: where its paths are, and what it takes to run
//! its own programs. What is run there is not known here.

use std::path::{Path, PathBuf};

use super::Installation;
use super::op::Op;
use super::system::SystemCall;

/// What a chroot needs to see of the machine around it.
const BOUND: [&str; 4] = ["/dev", "/proc", "/sys", "/run"];

/// The real path of an absolute path inside the tree. Mount points lie on file systems that
/// were made a moment ago: there is no link that could lead out.
pub(super) fn inside(target: &Path, path: &str) -> PathBuf {
    match path.trim_matches('/') {
        "" => target.to_owned(),
        below => target.join(below),
    }
}

/// Puts what a chroot needs around operations that run in it.
pub(super) fn in_chroot(installation: &Installation<'_>, ops: Vec<Op>) -> Vec<Op> {
    let place = |folder: &str| inside(&installation.target, folder);
    let bind =
        |from: &str| Op::System(SystemCall::Bind { from: from.to_owned(), folder: place(from) });
    let unbind = |from: &str| Op::System(SystemCall::Unbind { folder: place(from) });
    let before = BOUND.into_iter().map(bind);
    let after = BOUND.into_iter().rev().map(unbind);
    before.chain(ops).chain(after).collect()
}
