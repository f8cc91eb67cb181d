//! What the journal holds and an edited file lacks is made true where its entry stands now.

use specs::fleet::Change;

use crate::hall::{CMDB, CONFIGURE_BY_MAC, Hall, file, mac, machine, name};

/// A hall whose first machine was given host03, and the change of the entry.
fn leased() -> (Hall, Change) {
    let mut hall = Hall::of_vms("[('vm', 4)]");
    hall.plan(&machine(&mac(1), "A1"));
    let change = hall.journal.iter().find(|change| matches!(change, Change::Entry { .. }));
    let change = change.unwrap().clone();
    (hall, change)
}

/// The file as it is read after an edit, before it is made true; then what has become of it.
#[track_caller]
fn check(edited: &str, changes: &[Change], in_place: bool, expected: &str, warnings: &[&str]) {
    let (mut hall, _) = leased();
    hall.world.read(&file("vm.cmdb"), Some(edited.as_bytes())).unwrap();
    assert_eq!(hall.world.is_in_place(&changes[0]), in_place, "{edited}");
    assert_eq!(hall.world.reapply(&name("vm"), changes), warnings, "{edited}");
    let used: Vec<String> = hall
        .world
        .cmdb(&name("vm"))
        .unwrap()
        .entries()
        .map(|entry| {
            let hostname = entry.get("hostname").unwrap().as_text();
            if entry.is_used() { format!("{hostname}*") } else { hostname }
        })
        .collect();
    assert_eq!(used.join(" "), expected, "{edited}");
}

#[test]
fn a_change_finds_its_entry_wherever_it_stands() {
    let (_, change) = leased();
    let changes = [change];
    check(CMDB, &changes, true, "host03* host04 host05", &[]);
    let moved = CMDB.replacen("[\n", "[\n {'hostname': 'new'},\n", 1);
    check(&moved, &changes, false, "new host03* host04 host05", &[]);
    // Of two that say the same it is the nearer one.
    let entry = "{'ip': '192.168.122.3', 'hostname': 'host03'}";
    let far = format!("[{{'hostname': 'a'}}, {entry}, {entry}]");
    check(&far, &changes, false, "a host03* host03", &[]);
    let written = "[{'hostname': 'a'}, {'disk': 'vda', 'eth': 'eth0', 'hostname': 'host03', \
                   'ip': '192.168.122.3', 'mac': '52:54:00:00:00:01', 'used': 1}]";
    check(written, &changes, false, "a host03*", &[]);
    let lost = "entry 1 of vm.cmdb was changed by hand before the server had written what became \
                of it: that is not in the file";
    check(&CMDB.replace("host03", "host33"), &changes, false, "host33 host04 host05", &[lost]);
}

#[test]
fn one_entry_is_never_two_machines() {
    let (mut hall, first) = leased();
    hall.plan(&machine(&mac(2), "A2"));
    let entries = hall.journal.iter().filter(|change| matches!(change, Change::Entry { .. }));
    let mut changes: Vec<Change> = entries.cloned().collect();
    assert_eq!(changes[0], first);
    let moved = CMDB.replacen("[\n", "[\n {'hostname': 'new'},\n", 1);
    check(&moved, &changes, false, "new host03* host04* host05", &[]);
    // Taken and given back: as it was.
    let Change::Entry { profile, position, replaces, entry, .. } = changes[1].clone() else {
        panic!("a change of an entry");
    };
    let before = hall.record("host04").assignment.unwrap().entry.unwrap().before;
    let (now, back) = (entry.digest(), before.digest());
    assert_eq!(replaces, back);
    changes.push(Change::Entry { profile, position, replaces: now, entry: before, text: None });
    check(&moved, &changes, false, "new host03* host04 host05", &[]);
}

#[test]
fn entries_that_say_the_same_are_one_for_each() {
    let mut hall = Hall::of_vms("[('vm', 4)]");
    hall.edit("vm.configure", CONFIGURE_BY_MAC);
    hall.edit("vm.cmdb", "[{'rack': 1}, {'rack': 1}, {'rack': 1}]");
    for number in [1, 2] {
        hall.plan(&machine(&mac(number), "A1"));
    }
    let entries = hall.journal.iter().filter(|change| matches!(change, Change::Entry { .. }));
    let changes: Vec<Change> = entries.cloned().collect();
    let edited = "[{'rack': 2}, {'rack': 1}, {'rack': 1}, {'rack': 1}]";
    hall.world.read(&file("vm.cmdb"), Some(edited.as_bytes())).unwrap();
    assert_eq!(hall.world.reapply(&name("vm"), &changes), Vec::<String>::new());
    let macs: Vec<Option<String>> = hall
        .world
        .cmdb(&name("vm"))
        .unwrap()
        .entries()
        .map(|entry| entry.get("mac").map(|mac| mac.as_text()))
        .collect();
    assert_eq!(macs, [None, Some(mac(1)), Some(mac(2)), None]);
    // The records follow.
    let decision = hall.world.reconcile(&name("vm"), hall.now);
    hall.commit(decision);
    for (position, holder) in [(1, 1), (2, 2)] {
        let found = hall.world.census.holder(&name("vm"), position).unwrap();
        assert_eq!(found.id, hall.id(&mac(holder)), "entry {position}");
    }
}

#[test]
fn nothing_is_said_of_files_that_cannot_be_understood() {
    let (mut hall, change) = leased();
    assert!(!hall.world.is_in_place(&change), "it has been made");
    hall.edit("vm.cmdb", "[");
    assert!(hall.world.is_in_place(&change));
    assert_eq!(hall.world.reapply(&name("vm"), [&change]), Vec::<String>::new());
}
