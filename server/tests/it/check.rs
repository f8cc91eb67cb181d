//! `edeploy-server check` of a deployment: its files, and the marks `used` against its machines.

use server::admin::commands::check;

use crate::deployment::{Deployment, machine};

/// What a check of the deployment says: each finding on one line, then the summary.
fn checked(deployment: &Deployment) -> Vec<String> {
    let report = check(&deployment.path("edeploy.conf"), None).unwrap();
    let lines = report.findings.iter().map(|it| format!("{} {}", it.code, it.one_line()));
    lines.chain([report.summary()]).collect()
}

const CLEAN: &str = "nothing to mend in 1 profile with 5 CMDB entries";

#[test]
fn marks_that_were_edited_by_hand_are_told_before_the_server_settles_them() {
    let deployment = Deployment::readme();
    assert_eq!(checked(&deployment), [CLEAN]);
    assert_eq!(deployment.upload(&machine(1)).status, 200);
    // The journal is ahead of the file, which is no edit; then both say the same.
    assert_eq!(checked(&deployment), [CLEAN]);
    deployment.sync();
    assert_eq!(checked(&deployment), [CLEAN]);
    let bound = deployment.read("config/vm.cmdb");
    let unmarked = bound.replacen(",\n  \"used\": 1", "", 1);
    assert_ne!(unmarked, bound);
    deployment.write("config/vm.cmdb", &unmarked);
    let told = [
        "check-used vm.cmdb:2:2: the mark `used` was removed by hand, and host03 is leased with \
         this entry",
        "1 warning in 1 profile with 5 CMDB entries",
    ];
    for _ in 0..2 {
        assert_eq!(checked(&deployment), told);
        assert_eq!(deployment.read("config/vm.cmdb"), unmarked, "a check changes nothing");
    }
    // The server settles it: the record rules.
    assert_eq!(deployment.upload(&machine(2)).status, 200);
    deployment.sync();
    assert_eq!(checked(&deployment), [CLEAN]);
    assert_eq!(deployment.used().len(), 2);
}

#[test]
fn a_file_that_is_no_text_is_told_with_its_place() {
    let deployment = Deployment::readme();
    std::fs::write(deployment.path("config/vm.specs"), b"[('disk', '$disk', 'model', '\xe9')]")
        .unwrap();
    let told = checked(&deployment);
    assert!(told.contains(&"file-encoding vm.specs:1:30: this byte is not UTF-8".to_owned()));
}
