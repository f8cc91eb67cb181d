//! The agent is one static program, and what a machine fetches stays small.

use lab::artifacts::{Artifacts, BOOT_LIMIT};
use lab::needs::{Need, present};
use lab::process::run;

#[test]
fn the_agent_runs_in_an_empty_chroot() {
    if !present(&[Need::Root]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    std::fs::copy(Artifacts::locate().agent, scratch.path().join("edeploy-agent")).unwrap();
    let root = scratch.path().display().to_string();
    let version = run("chroot", [root.as_str(), "/edeploy-agent", "--version"]).unwrap();
    assert!(version.starts_with("edeploy-agent "), "{version}");
    let files = std::fs::read_dir(scratch.path()).unwrap().count();
    assert_eq!(files, 1, "the chroot was empty but for the agent");
}

#[test]
fn kernel_and_initrd_stay_below_the_limit() {
    let sizes = Artifacts::locate().boot_sizes().unwrap();
    let together: u64 = sizes.iter().sum();
    assert!(together <= BOOT_LIMIT, "{sizes:?} are {together} bytes, at most {BOOT_LIMIT} may be");
    // A kernel or an initrd of nothing would pass the limit as well.
    assert!(sizes.iter().all(|size| *size > 4 << 20), "{sizes:?}");
}
