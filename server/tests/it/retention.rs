//! What is old goes: from a running server, behind a web server, and from the command line.

use std::fs::File;
use std::time::{Duration, Instant, SystemTime};

use crate::deployment::{Deployment, machine};
use crate::processes::{command, serve, try_upload};

/// One machine that is leased, one that was released, two that nothing fits; three logs of one
/// name, of which two are old.
fn lived_in(settings: &str) -> Deployment {
    let mut deployment = Deployment::with_settings("[(\"vm\", 1)]", "[]", settings);
    let sed = |deployment: &Deployment, from: &str, to: &str| {
        let text = deployment.read("config/vm.configure").replace(from, to);
        deployment.write("config/vm.configure", &text);
    };
    sed(&deployment, "{{ hostname }}", "host-{{ disk }}");
    sed(&deployment, "static(\"{{ ip }}/{{ netmask }}\"), gateway: \"{{ gateway }}\"", "dhcp");
    deployment.restart();
    for n in 0..3 {
        let (status, expected) = (deployment.upload(&machine(n)).status, [200, 409, 409]);
        assert_eq!(status, expected[n as usize]);
    }
    deployment.sync();
    std::fs::create_dir(deployment.path("logs")).unwrap();
    for (name, days) in [("a", 0), ("a.20140513165320", 10), ("b", 10)] {
        let log = File::create(deployment.path(&format!("logs/{name}.log.gz"))).unwrap();
        log.set_modified(SystemTime::now() - Duration::from_secs(days * 86_400)).unwrap();
    }
    deployment
}

/// The records and logs that are on disk, by name.
fn left(deployment: &Deployment) -> Vec<String> {
    let mut names = Vec::new();
    for folder in ["config/.edeploy/machines", "logs"] {
        for entry in std::fs::read_dir(deployment.path(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name != ".lock" && name != ".lock.turn" {
                names.push(name);
            }
        }
    }
    names.sort_unstable();
    names
}

fn record(n: u32) -> String {
    format!("KVM-SN{n:06}-52-54-00-00-00-{n:02}.ron")
}

#[test]
fn sync_removes_what_is_not_kept_and_says_so() {
    for (settings, gone) in [
        ("", vec![]),
        ("LOGAGE=9d\n", vec!["a.20140513165320.log.gz".to_owned(), "b.log.gz".to_owned()]),
        ("LOGCOUNT=1\n", vec!["a.20140513165320.log.gz".to_owned()]),
        ("RECORDCOUNT=1\n", vec![record(1)]),
        ("RECORDAGE=90d\n", vec![]),
    ] {
        let deployment = lived_in(settings);
        let before = left(&deployment);
        let output = command(env!("CARGO_BIN_EXE_edeploy-server"))
            .arg("sync")
            .env("EDEPLOY_CONF", deployment.path("edeploy.conf"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{settings}: {output:?}");
        let after = left(&deployment);
        let expected: Vec<String> =
            before.into_iter().filter(|name| !gone.contains(name)).collect();
        assert_eq!(after, expected, "{settings}");
        for name in &gone {
            let name = name.strip_suffix(".ron").unwrap_or(name);
            assert!(said.contains(name), "{settings}: {said}");
        }
        assert_eq!(said.is_empty(), gone.is_empty(), "{settings}: {said}");
    }
}

#[test]
fn the_resident_of_cgi_programs_does_it_before_it_goes() {
    let deployment = lived_in("RECORDCOUNT=1\nLOGAGE=9d\n");
    let output = command(env!("CARGO_BIN_EXE_edeploy-cgi"))
        .env("EDEPLOY_RESIDENT", "1")
        .env("EDEPLOY_CONF", deployment.path("edeploy.conf"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("forgotten") && said.contains("b.log.gz"), "{said}");
    let mut expected = ["a.log.gz".to_owned(), record(0), record(2)].to_vec();
    expected.sort_unstable();
    assert_eq!(left(&deployment), expected);
}

#[test]
fn a_server_does_it_by_itself_and_leaves_who_holds_something() {
    let deployment = lived_in("RECORDCOUNT=1\nLOGCOUNT=1\n");
    let (_server, http) = serve(&deployment, "");
    let expected = ["a.log.gz".to_owned(), "b.log.gz".to_owned(), record(0), record(2)];
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    let deadline = Instant::now() + Duration::from_secs(60);
    while left(&deployment) != expected {
        assert!(Instant::now() < deadline, "{:?}", left(&deployment));
        std::thread::sleep(Duration::from_millis(50));
    }
    // Whoever was forgotten is a machine like any other.
    assert_eq!(try_upload(http, "/upload", &machine(1)).unwrap().0, 409);
    assert_eq!(try_upload(http, "/upload", &machine(0)).unwrap().0, 200);
}
