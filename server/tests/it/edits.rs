//! An admin edits `state` and CMDBs by hand while what was decided stands in the journal alone:
//! before a kill, after it, and beside another process. Counts stay exact, and every machine
//! keeps the entry it was given, wherever that stands by then.

use std::collections::BTreeSet;

use serde_json::json;
use server::handle::Application;

use crate::deployment::{Deployment, entries_cmdb, hostname, machine};

/// The line of an entry that nobody has.
const NEW: &str = " {\"hostname\": \"new\", \"ip\": \"10.1.200.1\", \"netmask\": \"255.255.0.0\", \
                   \"gateway\": \"10.1.255.254\"},\n";

/// Puts an entry before all others.
fn insert_at_top(deployment: &Deployment) {
    let text = deployment.read("config/vm.cmdb");
    deployment.write("config/vm.cmdb", &text.replacen("[\n", &format!("[\n{NEW}"), 1));
}

/// The journal without its last line: the process was killed before it wrote that.
fn cut_last_line(deployment: &Deployment, kind: &str) {
    let text = deployment.read("config/.edeploy/journal");
    let start = text.trim_end().rfind('\n').unwrap() + 1;
    assert!(text[start..].contains(kind), "{}", &text[start..]);
    deployment.write("config/.edeploy/journal", &text[..start]);
}

fn release(deployment: &Deployment, name: &str) {
    let store = deployment.application.store("SERVER").unwrap();
    let id = store.look(|world| world.census.find(name)[0].id.clone()).unwrap();
    store.transact(move |world, now, _| world.release(&id, now)).unwrap();
}

#[test]
fn a_count_edited_after_a_kill_stands_and_loses_what_was_taken() {
    let mut deployment = Deployment::sized(5);
    deployment.upload(&machine(1));
    deployment.write("config/state", "[(\"vm\", 10)]");
    deployment.restart();
    deployment.sync();
    assert_eq!(deployment.count(), "9");
    // What is written is not taken again.
    deployment.write("config/state", "[(\"vm\", 20)]");
    deployment.restart();
    deployment.upload(&machine(1));
    deployment.sync();
    assert_eq!(deployment.count(), "20");
}

#[test]
fn a_count_edited_after_a_kill_between_file_and_journal_is_exact() {
    for (renamed, leftover) in [(true, false), (true, true), (false, false)] {
        let mut deployment = Deployment::sized(5);
        let before = deployment.read("config/state");
        deployment.upload(&machine(1));
        deployment.sync();
        cut_last_line(&deployment, "\"written\"");
        if renamed {
            assert_eq!(deployment.count(), "4");
        } else {
            // The new file lay beside the old one, and an admin edited the old one.
            deployment.write("config/state.edeploy-new", &deployment.read("config/state"));
            deployment.write("config/state", &before);
        }
        if leftover {
            // Another attempt, which was killed before it said that it would rename this.
            deployment.write("config/state.edeploy-new", "[(\"vm\", 3)]");
        }
        deployment.write("config/state", "[(\"vm\", 10)]");
        deployment.restart();
        deployment.upload(&machine(2));
        deployment.sync();
        assert_eq!(deployment.count(), if renamed { "9" } else { "8" });
    }
}

#[test]
fn a_process_that_has_slept_takes_nothing_twice() {
    let deployment = Deployment::sized(5);
    let other = Application::open(&deployment.path("edeploy.conf")).unwrap();
    let other = other.store("SERVER").unwrap();
    other.look(|_| ()).unwrap();
    deployment.upload(&machine(1));
    deployment.sync();
    deployment.write("config/state", "[(\"vm\", 10)]");
    insert_at_top(&deployment);
    let seen = other.look(|world| {
        let cmdb = world.cmdb(&"vm".parse().unwrap()).unwrap();
        let used = cmdb.entries().position(|entry| entry.is_used());
        (world.state.good().unwrap().to_text(), used, cmdb.len())
    });
    assert_eq!(seen.unwrap(), ("[(\"vm\", 10)]".to_owned(), Some(1), 6));
    // And both agree on what comes next.
    assert_eq!(hostname(&deployment.upload(&machine(2))).as_deref(), Some("new"));
    other.sync().unwrap();
    assert_eq!(deployment.count(), "9");
    assert_eq!(deployment.used(), BTreeSet::from(["m0".to_owned(), "new".to_owned()]));
}

#[test]
fn an_entry_inserted_at_the_top_moves_no_machine() {
    for kill in [true, false] {
        let mut deployment = Deployment::sized(5);
        for n in 0..3 {
            let expected = format!("m{n}");
            assert_eq!(hostname(&deployment.upload(&machine(n))), Some(expected));
        }
        deployment.sync();
        // In the journal alone: one more entry bound, and one free again.
        assert_eq!(hostname(&deployment.upload(&machine(3))).as_deref(), Some("m3"));
        release(&deployment, "m1");
        insert_at_top(&deployment);
        if kill {
            deployment.restart();
        }
        deployment.sync();
        let expected = ["m0", "m2", "m3"].map(str::to_owned);
        assert_eq!(deployment.used(), BTreeSet::from(expected), "kill: {kill}");
        for n in [0, 2, 3] {
            let expected = format!("m{n}");
            assert_eq!(hostname(&deployment.upload(&machine(n))), Some(expected), "kill: {kill}");
        }
        assert_eq!(hostname(&deployment.upload(&machine(9))).as_deref(), Some("new"));
        assert_eq!(hostname(&deployment.upload(&machine(1))).as_deref(), Some("m1"));
        deployment.sync();
        assert_eq!((deployment.used().len(), deployment.count().as_str()), (5, "0"));
    }
}

#[test]
fn entries_that_say_the_same_are_not_given_twice() {
    let mut deployment = Deployment::new("[(\"vm\", \"*\")]", &{
        let one = entries_cmdb(1);
        let line = one.trim_start_matches("[\n").trim_end_matches("\n]\n");
        format!("[\n{line},\n{line},\n{line}\n]\n")
    });
    for n in 0..2 {
        assert_eq!(hostname(&deployment.upload(&machine(n))).as_deref(), Some("m0"));
    }
    insert_at_top(&deployment);
    deployment.restart();
    deployment.sync();
    let used = |deployment: &Deployment| {
        let text = deployment.read("config/vm.cmdb");
        ["52:54:00:00:00:00", "52:54:00:00:00:01"].map(|mac| text.matches(mac).count())
    };
    assert_eq!(used(&deployment), [1, 1]);
    release(&deployment, "52:54:00:00:00:00");
    deployment.sync();
    assert_eq!(used(&deployment), [0, 1]);
}

#[test]
fn a_reload_drops_nothing_that_is_not_written_yet() {
    let deployment = Deployment::sized(3);
    deployment.upload(&machine(1));
    let settings = deployment.read("edeploy.conf");
    deployment.write("edeploy.conf", &format!("{settings}MAXFACTS=500\n"));
    deployment.application.reload().unwrap();
    for store in deployment.application.stores_to_sync() {
        store.sync_if_behind().unwrap();
    }
    assert_eq!((deployment.count().as_str(), deployment.used().len()), ("2", 1));
    assert_eq!(deployment.application.stores_to_sync().len(), 1, "the old one has gone");
}

#[test]
fn a_machine_that_is_forgotten_leaves_no_facts_under_any_name() {
    let deployment = Deployment::sized(3);
    deployment.upload(&machine(1));
    deployment.upload(&machine(2));
    deployment.sync();
    // Another firmware calls the machine something else.
    let renamed = machine(1).to_string().replace("\"KVM\"", "\"KVM-2\"");
    deployment.upload(&serde_json::from_str(&renamed).unwrap());
    deployment.sync();
    let stored = || {
        let names = std::fs::read_dir(deployment.path("hw")).unwrap();
        let names = names.map(|it| it.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    let other = "KVM-SN000002-52-54-00-00-00-02.hw".to_owned();
    assert_eq!(stored().len(), 3);
    let store = deployment.application.store("SERVER").unwrap();
    let id = store.look(|world| world.census.find("SN000001")[0].id.clone()).unwrap();
    store.transact(move |world, now, _| world.forget(&id, now)).unwrap();
    deployment.sync();
    assert_eq!(stored(), [other]);
}

/// A machine that is known, with other facts each time.
fn changed_facts(n: u32, round: u32) -> serde_json::Value {
    let mut facts = machine(n);
    let noise =
        (0..20).map(|k| json!(["noise", format!("{round}"), format!("{k}"), "x".repeat(200)]));
    facts.as_array_mut().unwrap().extend(noise);
    facts
}

#[test]
fn what_a_broken_file_lacks_is_kept_while_the_journal_is_cut() {
    let mut deployment = Deployment::sized(5);
    deployment.upload(&machine(1));
    deployment.upload(&machine(2));
    deployment.sync();
    deployment.write("config/state", "[(");
    release(&deployment, "m1");
    for round in 0..60 {
        deployment.upload(&changed_facts(1, round));
        deployment.sync();
    }
    let store = deployment.application.store("SERVER").unwrap();
    assert!(!store.is_behind(), "nothing that can be written lags");
    // 300 kB came in.
    assert!(deployment.read("config/.edeploy/journal").len() < 150_000);
    assert_eq!(deployment.used(), BTreeSet::from(["m0".to_owned()]));

    // The admin mends what stood there: two were taken, and one came back since.
    deployment.restart();
    deployment.write("config/state", "[(\"vm\", 3)]");
    deployment.sync();
    assert_eq!(deployment.count(), "4");
    deployment.restart();
    deployment.upload(&changed_facts(1, 0));
    deployment.sync();
    assert_eq!(deployment.count(), "4");
}

#[test]
fn a_profile_that_is_gone_keeps_nothing_behind() {
    let mut deployment = Deployment::sized(5);
    deployment.upload(&machine(1));
    deployment.sync();
    deployment.write("config/state", "[]");
    std::fs::remove_file(deployment.path("config/vm.cmdb")).unwrap();
    // Gone for longer than an editor takes.
    deployment.restart();
    release(&deployment, "m0");
    deployment.sync();
    let store = deployment.application.store("SERVER").unwrap();
    assert!(!store.is_behind());
    let length = || deployment.read("config/.edeploy/journal").len();
    let before = length();
    deployment.sync();
    assert_eq!(length(), before, "nothing is written again and again");
}
