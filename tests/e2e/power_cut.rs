//! The power goes in the middle of an upgrade, and unflushed writes are lost: ten times, of a host
//! on an image. A hundred times, on xfs as well and of a real machine: `scripts/test --all upgrade`.

use lab::artifacts::Artifacts;
use lab::image_host::{FileSystem, survive};
use lab::needs::present;
use lab::power_cut::NEEDS;

#[test]
fn a_host_that_lost_its_power_is_of_one_version_or_becomes_so() {
    if !present(&NEEDS) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let verdicts = survive(folder.path(), &Artifacts::locate(), FileSystem::Ext4, 10).unwrap();
    assert_eq!(verdicts.values().sum::<usize>(), 10);
}
