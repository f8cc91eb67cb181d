//! People edit `state` and CMDB files while machines hold counts and entries.

use specs::fleet::File;
use specs::machine::Phase;
use specs::value::{Value, Variables};

use crate::hall::{
    CMDB, CONFIGURE, CONFIGURE_BY_MAC, Hall, LEASE, SPECS, destructive, failed, file, installed,
    mac, machine, name,
};

/// A hall with host03 in this phase.
fn hall_with(phase: Phase) -> Hall {
    let mut hall = Hall::of_vms("[('vm', 4)]");
    let (_, ticket) = hall.plan(&machine(&mac(1), "A1"));
    let events = match phase {
        Phase::Failed => vec![destructive(), failed()],
        Phase::Installed => vec![destructive(), installed()],
        _ => vec![],
    };
    hall.report(&ticket, &events);
    assert_eq!(hall.phase("host03"), phase);
    hall
}

#[test]
fn removing_the_mark_frees_the_entry_of_a_failed_machine() {
    let mut hall = hall_with(Phase::Failed);
    assert_eq!(hall.edit("vm.cmdb", CMDB), Vec::<String>::new());
    assert_eq!(hall.plan(&machine(&mac(2), "A2")).0.hostname, "host03");
    assert_eq!(hall.plan(&machine(&mac(1), "A1")).0.hostname, "host04");
}

#[test]
fn removing_the_mark_of_any_other_machine_is_undone_and_said() {
    for phase in [Phase::Leased, Phase::Installed] {
        let mut hall = hall_with(phase);
        let bound = hall.text("vm.cmdb");
        let unmarked = bound.replace(",\n  'used': 1", "");
        assert_ne!(unmarked, bound);
        for edited in [CMDB, &unmarked] {
            let warnings = hall.edit("vm.cmdb", edited);
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(warnings[0].contains("edeploy-server release host03"), "{warnings:?}");
            assert_eq!(hall.text("vm.cmdb"), bound);
            assert_eq!(hall.plan(&machine(&mac(2), "A2")).0.hostname, "host04");
            let id = hall.id("host04");
            hall.operate(|world, now| world.release(&id, now));
        }
    }
}

#[test]
fn counts_that_the_file_does_not_hold_yet_are_true_after_a_restart() {
    let mut hall = Hall::of_vms("[('vm', 4)]");
    hall.world.set_pending_counts([(name("vm"), -1)].into());
    assert_eq!(hall.text("state"), "[('vm', 3)]");
    // Also while nobody can read the file.
    hall.edit("state", "[");
    hall.world.set_pending_counts([(name("vm"), -2)].into());
    hall.edit("state", "[('vm', 9)]");
    assert_eq!(hall.text("state"), "[('vm', 7)]");
}

/// The records of a large hall are read in parts, on all processors.
#[test]
fn a_cmdb_is_read_as_long_as_a_machine_of_any_part_holds_an_entry() {
    let [mut hall, mut part] = [1, 2].map(|number| {
        let mut hall = Hall::of_vms("[('vm', 4)]");
        hall.plan(&machine(&mac(number), "none"));
        hall
    });
    hall.world.census.absorb(std::mem::take(&mut part.world.census));
    hall.edit("state", "[]");
    for (number, held) in [(1, true), (2, false)] {
        let id = hall.id(&mac(number));
        hall.operate(|world, now| world.forget(&id, now));
        assert_eq!(hall.world.files().contains(&file("vm.cmdb")), held, "{number}");
    }
}

#[test]
fn check_says_whether_an_unmarked_entry_goes_free() {
    for (phase, expected) in [
        (Phase::Installed, "host03 keeps it and the mark comes back"),
        (Phase::Failed, "it goes free, and host03 may get another one"),
    ] {
        let mut hall = hall_with(phase);
        hall.world.read(&file("vm.cmdb"), Some(CMDB.as_bytes())).unwrap();
        let findings = hall.world.check_marks(&name("vm"));
        assert_eq!(findings.len(), 1, "{findings:?}");
        let text = findings[0].to_string();
        assert!(text.contains(&format!("host03 is {phase} with this entry")), "{text}");
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn an_entry_that_moved_is_followed() {
    let mut hall = hall_with(Phase::Installed);
    let moved = hall.text("vm.cmdb").replacen("[\n", "[\n {'hostname': 'new01'},\n", 1);
    assert_eq!(hall.edit("vm.cmdb", &moved), Vec::<String>::new());
    let profile = name("vm");
    let holder = hall.world.census.holder(&profile, 1).map(|it| it.display_name().to_owned());
    assert_eq!((holder.as_deref(), hall.text("vm.cmdb")), (Some("host03"), moved));
    assert!(hall.world.census.holder(&profile, 0).is_none());
    assert_eq!(hall.plan(&machine(&mac(2), "A2")).0.hostname, "new01");
    let id = hall.id("host03");
    hall.operate(|world, now| world.release(&id, now));
    assert!(hall.text("vm.cmdb").contains("{'ip': '192.168.122.3', 'hostname': 'host03'}"));
}

#[test]
fn an_edited_value_is_kept() {
    let mut hall = hall_with(Phase::Installed);
    let edited = hall.text("vm.cmdb").replace("192.168.122.3'", "192.168.122.99'");
    assert_eq!(hall.edit("vm.cmdb", &edited), Vec::<String>::new());
    assert_eq!(hall.text("vm.cmdb"), edited);
    assert!(hall.world.census.holder(&name("vm"), 0).is_some());
}

/// More than half of what was bound must still be there, or it is another entry.
#[test]
fn an_entry_edited_beyond_recognition_is_another_one() {
    let bound = "{'disk': 'vda', 'eth': 'eth0', 'hostname': 'host03', 'ip': '192.168.122.3',
      'mac': '52:54:00:00:00:01', 'used': 1}";
    for (changes, is_the_same) in [
        (&["vda", "eth0"][..], true),
        (&["vda", "eth0", "192.168.122.3"], false),
        (&["vda", "eth0", "192.168.122.3", "host03", "52:54:00:00:00:01"], false),
    ] {
        let mut hall = hall_with(Phase::Installed);
        let edited = changes.iter().fold(bound.to_owned(), |text, value| text.replace(value, "x"));
        let warnings = hall.edit("vm.cmdb", &format!("[{edited}]"));
        assert_eq!(warnings.is_empty(), is_the_same, "{changes:?} {warnings:?}");
        let holder = hall.world.census.holder(&name("vm"), 0);
        assert_eq!(holder.is_some(), is_the_same, "{changes:?}");
    }
}

/// An entry that went back to the list is the admin's again.
#[test]
fn an_entry_given_back_and_then_edited_is_taken_as_it_is_now() {
    let mut hall = Hall::of_vms("[('vm', 4)]");
    let facts = machine(&mac(1), "A1");
    let (_, ticket) = hall.plan(&facts);
    hall.report(&ticket, &[failed()]);
    hall.edit("vm.cmdb", &CMDB.replace("host03", "host33"));
    assert_eq!(hall.plan(&facts).0.hostname, "host33");
    assert!(hall.text("vm.cmdb").contains("'host33'"), "{}", hall.text("vm.cmdb"));
}

#[test]
fn an_entry_that_was_removed_is_said() {
    let mut hall = hall_with(Phase::Installed);
    let warnings = hall.edit("vm.cmdb", "[{'hostname': 'new01'}]");
    assert!(warnings[0].contains("entry of host03 is no longer in vm.cmdb"), "{warnings:?}");
    assert_eq!(hall.plan(&machine(&mac(2), "A2")).0.hostname, "new01");
}

#[test]
fn a_count_edited_by_hand_keeps_what_is_not_written_yet() {
    let mut hall = Hall::of_vms("[('vm', 4)]");
    hall.plan(&machine(&mac(1), "A1"));
    hall.edit("state", "[('vm', 10)]");
    assert_eq!(hall.counts(), "vm=9");
    let text = hall.text("state");
    hall.world.written(&File::State, &text);
    hall.edit("state", "[('vm', 10)]");
    assert_eq!(hall.counts(), "vm=10");
}

#[test]
fn used_entries_without_a_record_belong_to_the_machine_they_name() {
    let cmdb = "[
 {'ip': '1', 'hostname': 'old1', 'disk': 'vda', 'eth': 'eth0', 'mac': '52:54:00:00:00:01', 'used': 1},
 {'ip': '2', 'hostname': 'old2', 'used': 0},
 {'ip': '3', 'hostname': 'new3'}]";
    let mut hall = Hall::of_vms("[('vm', 4)]");
    hall.edit("vm.cmdb", cmdb);
    assert_eq!(hall.plan(&machine(&mac(2), "A2")).0.hostname, "new3");
    assert_eq!(hall.plan(&machine(&mac(1), "A1")).0.hostname, "old1");
    // An operator may name it: what was said by hand is one of the variables then.
    let mut hall = Hall::of_vms("[('vm', 4)]");
    hall.edit("vm.cmdb", cmdb);
    hall.edit("vm.specs", "[('disk', '$disk', 'size', 'gt(400)')]");
    hall.refusal(&machine(&mac(1), "A1"));
    hall.edit("vm.specs", SPECS);
    let id = hall.id(&mac(1));
    let values = Variables::from([("hostname".to_owned(), Value::from("old1"))]);
    hall.operate(|world, now| world.assign(&id, &name("vm"), values, now));
    assert_eq!(hall.plan(&machine(&mac(1), "A1")).0.hostname, "old1");
    // Without the address among the variables nothing says whose `old1` is.
    let mut hall = Hall::of_vms("[('vm', 4)]");
    hall.edit("vm.specs", "[('disk', '$disk', 'size', 'gt(4)')]");
    hall.edit("vm.cmdb", &cmdb.replace(", 'eth': 'eth0', 'mac': '52:54:00:00:00:01'", ""));
    assert_eq!(hall.plan(&machine(&mac(1), "A1")).0.hostname, "new3");
}

#[test]
fn a_count_that_goes_back_while_state_is_broken_is_not_lost() {
    for broken in [Some("[('vm', 4"), None] {
        let mut hall = hall_with(Phase::Leased);
        let text = hall.text("state");
        hall.world.written(&File::State, &text);
        match broken {
            Some(text) => drop(hall.edit("state", text)),
            None => hall.world.read(&File::State, None).unwrap(),
        }
        hall.now += LEASE + 1;
        hall.expire();
        assert!(!hall.record("host03").assignment.as_ref().unwrap().counted);
        hall.edit("state", "[('vm', 3)]");
        assert_eq!(hall.counts(), "vm=4", "{broken:?}");
        assert_eq!(hall.plan(&machine(&mac(1), "A1")).0.hostname, "host03");
        assert_eq!(hall.counts(), "vm=3", "{broken:?}");
    }
}

#[test]
fn a_count_that_has_nowhere_to_go_stays_with_the_machine() {
    let mut hall = hall_with(Phase::Leased);
    hall.edit("state", "[('hp', 4)]");
    let text = hall.text("state");
    hall.world.written(&File::State, &text);
    hall.now += LEASE + 1;
    hall.expire();
    assert!(hall.record("host03").assignment.as_ref().unwrap().counted);
    hall.edit("state", "[('vm', 3)]");
    assert_eq!(hall.plan(&machine(&mac(1), "A1")).0.hostname, "host03");
    assert_eq!(hall.counts(), "vm=3");
}

#[test]
fn a_count_that_was_kept_goes_back_when_the_machine_becomes_something_else() {
    let mut hall = Hall::of_vms("[('vm', 4), ('spare', '*')]");
    hall.edit("spare.specs", SPECS);
    hall.edit("spare.configure", CONFIGURE_BY_MAC);
    let facts = machine(&mac(1), "A1");
    let (_, ticket) = hall.plan(&facts);
    let state = hall.text("state");
    hall.world.written(&File::State, &state);
    // It fails while nothing says how many are wanted.
    hall.edit("state", "[('spare', '*')]");
    hall.report(&ticket, &[failed()]);
    assert!(hall.record("host03").assignment.unwrap().counted);
    hall.edit("state", &state);
    hall.edit("vm.specs", "[('disk', '$disk', 'size', 'gt(400)')]");
    assert_eq!(hall.plan(&facts).0.profile.as_str(), "spare");
    assert_eq!(hall.counts(), "vm=4 spare=*");
}

#[test]
fn a_machine_keeps_its_entry_while_its_cmdb_is_not_there() {
    let mut hall = hall_with(Phase::Leased);
    let text = hall.text("vm.cmdb");
    hall.world.read(&file("vm.cmdb"), None).unwrap();
    let refused = hall.refusal(&machine(&mac(1), "A1"));
    assert_eq!(refused.status, 503);
    assert!(refused.reason.contains("host03 holds entry 1 of vm.cmdb, which is not there"));
    hall.edit("vm.cmdb", &text);
    assert_eq!(hall.plan(&machine(&mac(1), "A1")).0.hostname, "host03");
    assert_eq!((hall.text("vm.cmdb"), hall.counts().as_str()), (text, "vm=3"));
}

/// What the server reads: the files of listed profiles, and the CMDBs that machines hold entries
/// of, listed or not.
#[test]
fn the_files_to_read_follow_from_the_state_and_from_what_machines_hold() {
    let names =
        |hall: &Hall| hall.world.files().iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut hall = Hall::of_vms("[('vm', 4)]");
    let of_vm = ["state", "vm.specs", "vm.cmdb", "vm.configure"];
    assert_eq!(names(&hall), of_vm);
    let run = "run: [(name: \"x\", at: after_tree, chroot: true, script: \"x.sh\")],\n)";
    let (start, _) = CONFIGURE.rsplit_once(')').unwrap();
    hall.edit("vm.configure", &format!("{start}{run}"));
    assert_eq!(names(&hall)[4..], ["x.sh"]);
    hall.edit("vm.configure", CONFIGURE);
    for number in [1, 2] {
        hall.plan(&machine(&mac(number), "A1"));
    }
    assert_eq!(names(&hall), of_vm);
    let ids = [hall.id("host03"), hall.id("host04")];
    hall.edit("state", "[('hp', 1)]");
    assert_eq!(names(&hall), ["state", "vm.cmdb", "hp.specs", "hp.cmdb", "hp.configure"]);
    let forget = |hall: &mut Hall, id| hall.operate(|world, now| world.forget(id, now));
    forget(&mut hall, &ids[0]);
    assert_eq!(names(&hall)[1], "vm.cmdb", "one is held still");
    hall.edit("state", "[");
    assert_eq!(names(&hall), ["state", "vm.cmdb"]);
    forget(&mut hall, &ids[1]);
    assert_eq!(names(&hall), ["state"]);
}
