//! Storage that fails: a full file system, one that is read-only, a folder that is missing. The
//! answer is a 503 that says so, nothing is lost, and the service goes on when the fault is gone.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use nix::mount::{MsFlags, mount, umount};
use serde_json::json;
use server::handle::Application;

use crate::deployment::{Deployment, hostname, machine, reason};

/// A small file system of memory, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, said loudly, where mounting is not allowed.
    fn mount(path: &Path) -> Option<SmallDisk> {
        std::fs::create_dir_all(path).unwrap();
        let size = Some("size=64k");
        match mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), size) {
            Ok(()) => Some(SmallDisk(path.to_owned())),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "cannot mount: {error}");
                eprintln!("SKIPPED: cannot mount a tmpfs: {error}");
                None
            }
        }
    }

    fn remount(&self, flags: MsFlags) {
        let flags = MsFlags::MS_REMOUNT | flags;
        mount(Some("tmpfs"), &self.0, Some("tmpfs"), flags, Some("size=64k")).unwrap();
    }

    /// Leaves room for nothing.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut content = vec![0; 64 << 10];
        while std::fs::write(&path, &content).is_err() {
            content.truncate(content.len() - 512);
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The scratch folder is removed next and would say so.
        let _ = umount(&self.0);
    }
}

fn deployment_on_small_disk() -> Option<(Deployment, SmallDisk)> {
    let cmdb = crate::deployment::entries_cmdb(5);
    let deployment =
        Deployment::with_settings("[(\"vm\", 5)]\n", &cmdb, "STATEDIR=state\nLOCKFILE=lock\n");
    let disk = SmallDisk::mount(&deployment.path("state"))?;
    Some((deployment, disk))
}

#[test]
fn a_full_disk_is_a_503_and_nothing_is_lost() {
    let Some((mut deployment, disk)) = deployment_on_small_disk() else { return };
    assert_eq!(hostname(&deployment.upload(&machine(1))).as_deref(), Some("m0"));
    let filler = disk.fill();
    let response = deployment.upload(&machine(2));
    assert_eq!(response.status, 503, "{}", reason(&response));
    assert!(reason(&response).contains("No space left"), "{}", reason(&response));
    // Whoever needs nothing stored is still answered.
    let again = deployment.upload(&machine(1));
    assert_eq!((again.status, hostname(&again).as_deref()), (200, Some("m0")));
    deployment.restart();
    std::fs::remove_file(filler).unwrap();
    assert_eq!(hostname(&deployment.upload(&machine(1))).as_deref(), Some("m0"));
    assert_eq!(hostname(&deployment.upload(&machine(3))).as_deref(), Some("m1"));
    deployment.sync();
    assert!(deployment.read("state/state").contains("(\"vm\", 3)"));
    // CONFIGDIR was only read.
    assert_eq!(deployment.count(), "5");
}

#[test]
fn a_known_machine_is_answered_on_a_full_disk_and_a_changed_one_told_to_come_back() {
    let Some((deployment, disk)) = deployment_on_small_disk() else { return };
    let given: Vec<_> = (1..=3).map(|n| deployment.upload(&machine(n))).collect();
    let done = json!([{"event": "step_started", "step": "partition", "destructive": true},
                      {"event": "installed", "seconds": 60.0}]);
    assert_eq!(deployment.events(&crate::deployment::ticket(&given[2]), 0, &done).status, 200);
    let filler = disk.fill();
    let length = || std::fs::metadata(deployment.path("state/.edeploy/journal")).unwrap().len();
    // How far it has come: the last page of the journal has room for some of it, no more.
    let going_on = json!([{"event": "step_started", "step": "format", "destructive": false}]);
    for sequence in 0..8 {
        let ticket = crate::deployment::ticket(&given[1]);
        assert_eq!(deployment.events(&ticket, sequence, &going_on).status, 200, "{sequence}");
    }
    let full = length();
    // A second later there is something new to tell of the first: that it asked again.
    std::thread::sleep(Duration::from_millis(1100));
    let again = deployment.upload(&machine(1));
    assert_eq!((again.status, &again.body), (200, &given[0].body), "{}", reason(&again));
    assert!(String::from_utf8_lossy(&deployment.upload(&machine(3)).body).contains("installed"));
    assert_eq!(length(), full, "nothing of this can be stored");
    // What others depend on has to be.
    let mut changed = machine(1);
    changed.as_array_mut().unwrap().push(json!(["system", "memory", "size", "1"]));
    for facts in [&machine(4), &changed] {
        let response = deployment.upload(facts);
        assert_eq!((response.status, response.retry_after), (503, Some(5)), "{facts}");
        assert!(reason(&response).contains("No space left"), "{}", reason(&response));
    }
    std::fs::remove_file(filler).unwrap();
    assert_eq!(hostname(&deployment.upload(&changed)).as_deref(), Some("m0"));
    assert_eq!(hostname(&deployment.upload(&machine(4))).as_deref(), Some("m3"));
    deployment.sync();
    assert!(deployment.read("state/state").contains("(\"vm\", 1)"));
}

#[test]
fn a_read_only_disk_is_a_503_until_it_is_writable() {
    let Some((mut deployment, disk)) = deployment_on_small_disk() else { return };
    assert_eq!(deployment.upload(&machine(1)).status, 200);
    // A journal that is open for writing keeps the kernel from remounting.
    deployment.restart();
    disk.remount(MsFlags::MS_RDONLY);
    let response = deployment.upload(&machine(2));
    assert_eq!(response.status, 503, "{}", reason(&response));
    assert!(reason(&response).contains("Read-only file system"), "{}", reason(&response));
    disk.remount(MsFlags::empty());
    assert_eq!(hostname(&deployment.upload(&machine(2))).as_deref(), Some("m1"));
}

#[test]
fn a_lock_that_cannot_be_made_is_named() {
    let deployment =
        Deployment::with_settings("[(\"vm\", 5)]\n", "[]\n", "LOCKFILE=/proc/edeploy/lock\n");
    let response = deployment.upload(&machine(1));
    assert_eq!(response.status, 503);
    assert!(reason(&response).contains("cannot lock /proc/edeploy/lock"), "{}", reason(&response));
}

#[test]
fn an_edited_configdir_counts_over_the_copy_in_statedir() {
    let cmdb = crate::deployment::entries_cmdb(2);
    let deployment = Deployment::with_settings("[(\"vm\", 2)]\n", &cmdb, "STATEDIR=state\n");
    assert_eq!(deployment.upload(&machine(1)).status, 200);
    deployment.sync();
    assert!(deployment.read("state/state").contains("(\"vm\", 1)"));
    deployment.write("config/vm.cmdb", &crate::deployment::entries_cmdb(4));
    deployment.write("config/state", "[(\"vm\", 9)]\n");
    // The entry of the first machine stays its own in the new file.
    assert_eq!(hostname(&deployment.upload(&machine(1))).as_deref(), Some("m0"));
    assert_eq!(hostname(&deployment.upload(&machine(2))).as_deref(), Some("m1"));
    deployment.sync();
    let written = deployment.read("state/vm.cmdb");
    assert!(written.contains("m3") && written.matches("\"used\": 1").count() == 2, "{written}");
}

#[test]
fn a_cmdb_that_is_sorted_before_it_was_written_gives_nothing_twice() {
    let mut deployment = Deployment::sized(4);
    for n in 1..=2 {
        assert_eq!(deployment.upload(&machine(n)).status, 200);
    }
    // Stopped before the files were written; an admin turns the list round meanwhile.
    let text = deployment.read("config/vm.cmdb");
    let entries: Vec<&str> = text.lines().filter(|line| line.contains("hostname")).collect();
    let reversed: Vec<&str> = entries.iter().rev().map(|line| line.trim_end_matches(',')).collect();
    deployment.write("config/vm.cmdb", &format!("[\n{}\n]\n", reversed.join(",\n")));
    deployment.restart();
    for (n, name) in [(1, "m0"), (2, "m1"), (3, "m3"), (4, "m2")] {
        assert_eq!(hostname(&deployment.upload(&machine(n))).as_deref(), Some(name), "{n}");
    }
    deployment.sync();
    assert_eq!(deployment.used().len(), 4);
    assert_eq!(deployment.count(), "0");
}

#[test]
fn whoever_asks_too_often_is_told_to_wait() {
    let settings = "MACHINERATE=3\nRATELIMIT=10\n";
    let cmdb = crate::deployment::entries_cmdb(50);
    let deployment = Deployment::with_settings("[(\"vm\", 50)]\n", &cmdb, settings);
    for _ in 0..3 {
        assert_eq!(hostname(&deployment.upload(&machine(1))).as_deref(), Some("m0"));
    }
    let response = deployment.upload(&machine(1));
    assert_eq!((response.status, response.retry_after), (429, Some(5)));
    assert!(reason(&response).contains("MACHINERATE"), "{}", reason(&response));
    // Others are not held back by it, and what it holds stays its own.
    assert_eq!(hostname(&deployment.upload(&machine(2))).as_deref(), Some("m1"));
    let crowd = |n: u32| {
        let mut request = crate::deployment::form_request(&[(
            "file",
            Some("facts.json"),
            machine(n).to_string().as_bytes(),
        )]);
        request.peer = Some([10, 0, 0, 9].into());
        deployment.application.handle(&request)
    };
    let answered = (10..30).filter(|n| crowd(*n).status == 200).count();
    assert_eq!(answered, 10);
    assert!(reason(&crowd(40)).contains("RATELIMIT"), "{}", reason(&crowd(40)));
    deployment.sync();
    assert_eq!(deployment.used().len(), 12);
}

/// A machine was given `m0` and failed before anything was destroyed, while its files were in
/// disorder. Mended, they are as they were before, for whoever comes next.
fn check_given_back(restarts: bool, disorder: impl Fn(&Deployment), mend: impl Fn(&Deployment)) {
    let mut deployment = Deployment::sized(2);
    let given = deployment.upload(&machine(1));
    assert_eq!(hostname(&given).as_deref(), Some("m0"));
    deployment.sync();
    disorder(&deployment);
    if restarts {
        deployment.restart();
    }
    let failed = json!([{"event": "failed", "step": "x", "error": "y", "disks": "untouched"}]);
    let response = deployment.events(&crate::deployment::ticket(&given), 0, &failed);
    assert_eq!(response.status, 200, "{}", String::from_utf8_lossy(&response.body));
    deployment.sync();
    if restarts {
        deployment.restart();
    }
    mend(&deployment);
    let response = deployment.upload(&machine(2));
    assert_eq!(hostname(&response).as_deref(), Some("m0"), "{}", reason(&response));
    deployment.sync();
    assert_eq!(deployment.used(), BTreeSet::from(["m0".to_owned()]));
}

#[test]
fn what_goes_back_while_its_cmdb_is_broken_is_free_when_it_is_mended() {
    for restarts in [true, false] {
        let whole = std::cell::RefCell::new(String::new());
        check_given_back(
            restarts,
            |deployment| {
                *whole.borrow_mut() = deployment.read("config/vm.cmdb");
                deployment.write("config/vm.cmdb", "[{");
                let old = SystemTime::now() - Duration::from_secs(60);
                let file = File::options().write(true).open(deployment.path("config/vm.cmdb"));
                file.unwrap().set_modified(old).unwrap();
            },
            |deployment| deployment.write("config/vm.cmdb", &whole.borrow()),
        );
    }
}

#[test]
fn what_goes_back_while_its_profile_is_not_in_state_is_free_as_well() {
    for restarts in [true, false] {
        check_given_back(
            restarts,
            |deployment| deployment.write("config/state", "[]\n"),
            |deployment| deployment.write("config/state", "[(\"vm\", 1)]\n"),
        );
    }
}

#[test]
fn a_file_that_an_editor_moves_away_for_a_moment_stays_in_force() {
    let deployment = Deployment::sized(3);
    assert_eq!(hostname(&deployment.upload(&machine(1))).as_deref(), Some("m0"));
    deployment.sync();
    for file in ["state", "vm.cmdb", "vm.specs", "vm.configure"] {
        let (path, away) = (deployment.path("config").join(file), deployment.path("away"));
        std::fs::rename(&path, &away).unwrap();
        assert_eq!(hostname(&deployment.upload(&machine(1))).as_deref(), Some("m0"), "{file}");
        deployment.sync();
        assert!(!path.exists(), "{file}: nothing is written in the way of the editor");
        std::fs::rename(&away, &path).unwrap();
    }
    // What is given meanwhile is written once the file is back.
    std::fs::rename(deployment.path("config/vm.cmdb"), deployment.path("away")).unwrap();
    assert_eq!(hostname(&deployment.upload(&machine(2))).as_deref(), Some("m1"));
    deployment.sync();
    std::fs::rename(deployment.path("away"), deployment.path("config/vm.cmdb")).unwrap();
    deployment.sync();
    assert_eq!(deployment.used(), ["m0", "m1"].map(str::to_owned).into());
    assert_eq!(deployment.count(), "1");
}

#[test]
fn a_lock_file_that_is_deleted_over_and_over_leaves_one_holder() {
    let deployment = Deployment::with_settings(
        "[(\"vm\", 40)]\n",
        &crate::deployment::entries_cmdb(40),
        "LOCKFILE=run/lock\n",
    );
    let done = AtomicBool::new(false);
    let given: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                // Not there yet, or just made: both are part of it.
                let _ = std::fs::remove_file(deployment.path("run/lock"));
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        let workers: Vec<_> = (0..2)
            .map(|worker| {
                let (deployment, given) = (&deployment, &given);
                scope.spawn(move || {
                    // One of its own, as another process has.
                    let own = Application::open(&deployment.path("edeploy.conf")).unwrap();
                    for n in 0..20 {
                        let facts = machine(worker * 20 + n).to_string();
                        let field = ("file", Some("facts.json"), facts.as_bytes());
                        let response = own.handle(&crate::deployment::form_request(&[field]));
                        given.lock().unwrap().push(hostname(&response).expect("a plan"));
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Ordering::SeqCst);
    });
    let given = given.into_inner().unwrap();
    assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 40, "{given:?}");
    deployment.sync();
    assert_eq!((deployment.used().len(), deployment.count().as_str()), (40, "0"));
}

#[test]
fn the_journal_stays_bounded_while_requests_never_pause() {
    let deployment = Deployment::sized(4);
    let journal = deployment.path("config/.edeploy/journal");
    let length = || std::fs::metadata(&journal).map_or(0, |metadata| metadata.len());
    let longest = std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..3)
                .map(|n| {
                    let deployment = &deployment;
                    scope.spawn(move || {
                        // 60 times 600 kB of facts, other ones each time.
                        for round in 0..60 {
                            let mut facts = machine(n);
                            let noise = "x".repeat(1000);
                            let facts_list = facts.as_array_mut().unwrap();
                            facts_list.extend((0..600).map(|k| {
                                json!(["noise", format!("{round}"), format!("{k}"), noise])
                            }));
                            assert_eq!(deployment.upload(&facts).status, 200);
                        }
                    })
                })
                .collect();
        let mut longest = 0;
        while !clients.iter().all(|client| client.is_finished()) {
            deployment.sync();
            longest = longest.max(length());
        }
        longest
    });
    // 108 MB in all; something comes in while the files are written.
    assert!(longest < 20 << 20, "{longest}");
    deployment.sync();
    assert!(length() < 10 << 20, "{}", length());
}
