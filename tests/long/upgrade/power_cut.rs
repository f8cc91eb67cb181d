//! A hundred power cuts in an upgrade, on each file system that hosts have.

use lab::artifacts::Artifacts;
use lab::image_host::{FileSystem, survive};
use lab::judge::Verdict;
use lab::needs::present;
use lab::power_cut::NEEDS;

fn a_hundred(system: FileSystem) {
    if !present(&NEEDS) {
        return;
    }
    let artifacts = Artifacts::build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let verdicts = survive(folder.path(), &artifacts, system, 100).unwrap();
    assert_eq!(verdicts.values().sum::<usize>(), 100);
    for verdict in [Verdict::Old, Verdict::New, Verdict::Finished] {
        assert!(verdicts.contains_key(&verdict), "the cuts missed a part of it: {verdicts:?}");
    }
}

#[test]
fn a_hundred_power_cuts_on_ext4() {
    a_hundred(FileSystem::Ext4);
}

#[test]
fn a_hundred_power_cuts_on_xfs() {
    a_hundred(FileSystem::Xfs);
}
