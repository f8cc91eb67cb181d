//! The table of design 5a, row by row, and what an upload must not do.

use specs::fleet::{Answer, Change};
use specs::machine::Phase;
use specs::units::Name;
use specs::value::{Value, Variables};

use crate::hall::{
    CMDB, CONFIGURE, CONFIGURE_BY_MAC, Hall, SPECS, destructive, failed, harmless, installed, mac,
    machine, machine_with, name,
};

#[test]
fn a_profile_that_fits_is_leased_and_stored_as_in_the_readme() {
    let mut hall = Hall::of_vms("[('vm', 4)]");
    let (plan, _) = hall.plan(&machine("52:54:00:88:17:3c", "A1"));
    assert_eq!(plan.hostname, "host03");
    assert_eq!(hall.phase("host03"), Phase::Leased);
    assert_eq!(hall.text("state"), "[('vm', 3)]");
    let expected = "[
 {'disk': 'vda',
  'eth': 'eth0',
  'hostname': 'host03',
  'ip': '192.168.122.3',
  'mac': '52:54:00:88:17:3c',
  'used': 1},
 {'ip': '192.168.122.4', 'hostname': 'host04'},
 {'ip': '192.168.122.5', 'hostname': 'host05'}
]
";
    assert_eq!(hall.text("vm.cmdb"), expected);
}

#[test]
fn an_entry_is_written_in_the_column_it_stood_in() {
    let mut hall = Hall::of_vms("[('vm', 4)]");
    for (before, after) in [
        ("[\n    {'hostname': 'a'},\n]", "[\n    {'disk': 'vda',\n     'eth': 'eth0',"),
        ("[{'hostname': 'b'}]", "[{'disk': 'vda',\n  'eth': 'eth0',"),
        ("# é\n[\n{'hostname': 'c'}]", "# é\n[\n{'disk': 'vda',\n 'eth': 'eth0',"),
        (
            "[{'hostname': 'é', 'used': 1}, {'hostname': 'd'}]",
            "[{'hostname': 'é', 'used': 1}, {'disk': 'vda',\n                                'eth': 'eth0',",
        ),
        ("generate({'hostname': 'h1-2'})", "[\n {'disk': 'vda',\n  'eth': 'eth0',"),
    ] {
        hall.edit("vm.cmdb", before);
        let (plan, _) = hall.plan(&machine(&mac(1), "A1"));
        let text = hall.text("vm.cmdb");
        assert!(text.starts_with(after), "{}:\n{text}", plan.hostname);
        let id = hall.id(&mac(1));
        hall.operate(|world, now| world.forget(&id, now));
    }
}

/// Marked by the original, or by hand: no record says whose it is.
#[test]
fn a_used_entry_of_nobody_is_the_machines_that_it_names() {
    let uuid = "44454c4c-4b00-1039-8050-b9c04f573032";
    for (key, value, expected) in
        [("serial", "SERIAL-1", "old"), ("uuid", uuid, "old"), ("name", "Box", "new")]
    {
        let specs = "[('disk', '$disk', 'size', 'gt(4)'), ('system', 'product', 'KEY', '$which')]";
        let used = format!("'disk': 'vda', 'which': '{value}', 'used': 1");
        let mut hall = Hall::new(&[
            ("state", "[('vm', 4)]"),
            ("vm.specs", &specs.replace("KEY", key)),
            ("vm.cmdb", &format!("[{{'hostname': 'old', {used}}}, {{'hostname': 'new'}}]")),
            ("vm.configure", CONFIGURE),
        ]);
        let (plan, _) = hall.plan(&machine_with(&[&mac(1)], "SERIAL-1", uuid));
        assert_eq!(plan.hostname, expected, "{key}");
    }
}

#[test]
fn an_upload_repeated_gives_the_same_plan_and_takes_nothing() {
    let mut hall = Hall::of_vms("[('vm', 4)]");
    let facts = machine(&mac(1), "A1");
    let first = hall.plan(&facts);
    let written = hall.journal.len();
    hall.now += 60;
    assert_eq!(hall.plan(&facts), first, "a lost reply: plan and ticket are the same");
    hall.report(&first.1, &[harmless(), destructive()]);
    let (plan, ticket) = hall.plan(&facts);
    assert_eq!(plan, first.0, "a reset in the middle: the plan is the same");
    assert_ne!(ticket, first.1, "and the events of the first run are over");
    hall.report(&ticket, &[harmless()]);
    let (plan, later) = hall.plan(&facts);
    assert_eq!(plan, first.0);
    assert_ne!(later, ticket, "a reset before anything was destroyed");
    assert_eq!(hall.counts(), "vm=3");
    assert!(hall.journal[written..].iter().all(|change| !format!("{change:?}").contains("Count")));
    assert!(matches!(hall.report(&first.1, &[installed()]), Answer::Refused(_)));
}

#[test]
fn a_repeated_upload_of_a_leased_machine_stays_within_its_second_free_of_writes() {
    let mut hall = Hall::of_vms("[('vm', 4)]");
    let facts = machine(&mac(1), "A1");
    hall.plan(&facts);
    let fresh = hall.fresh();
    let again = hall.world.upload(&facts, hall.now, &fresh);
    assert_eq!((again.changes, again.durable), (vec![], false));
    let later = hall.world.upload(&facts, hall.now + 60, &fresh);
    assert!(later.changes.len() == 1 && !later.durable, "that it asked again may be lost");
    let mut renewed = facts.clone();
    renewed.push("system", "memory", "size", 1);
    assert!(hall.world.upload(&renewed, hall.now + 60, &fresh).durable, "what it is may not");
    let first = hall.world.upload(&machine(&mac(2), "A2"), hall.now, &fresh);
    assert!(first.durable, "an entry is taken before the answer leaves");
}

#[test]
fn an_installed_machine_boots_its_disk_until_it_is_armed_once() {
    let mut hall = Hall::of_vms("[('vm', 4)]");
    let facts = machine(&mac(1), "A1");
    let (first, ticket) = hall.plan(&facts);
    hall.report(&ticket, &[destructive()]);
    assert_eq!(hall.phase("host03"), Phase::Installing);
    hall.report(&ticket, &[installed()]);
    assert_eq!(hall.phase("host03"), Phase::Installed);
    match hall.upload(&facts) {
        Answer::Installed { hostname, disk, root, .. } => {
            assert_eq!((hostname.as_str(), disk.as_str()), ("host03", "/dev/vda"));
            assert_eq!(root, first.root);
        }
        other => panic!("{other:?}"),
    }
    let id = hall.id("host03");
    hall.operate(|world, now| world.reinstall(&id, now));
    assert_eq!(hall.phase("host03"), Phase::Armed);
    let (again, ticket) = hall.plan(&facts);
    assert_eq!((again.hostname.as_str(), hall.counts().as_str()), ("host03", "vm=3"));
    assert_ne!(again.root, first.root, "a new installation has new identifiers");
    hall.report(&ticket, &[destructive(), installed()]);
    assert!(matches!(hall.upload(&facts), Answer::Installed { .. }), "once");
}

/// A machine boots from where its boot loader was put, whatever the order of the disks.
#[test]
fn an_installed_machine_is_told_the_disk_of_its_boot_loader() {
    let data = r#"(device: "/dev/vdb", table: gpt, partitions: [
        (label: "data", size: "rest", use: filesystem(type: ext4, mount: "/srv")),
    ]),"#;
    let mut hall = Hall::of_vms("[('vm', 4)]");
    hall.edit("vm.configure", &CONFIGURE.replace("disks: [", &format!("disks: [{data}")));
    let mut facts = machine(&mac(1), "A1");
    facts.push("disk", "vdb", "bytes", 10_737_418_240);
    let (plan, ticket) = hall.plan(&facts);
    assert_eq!(plan.disks[0].path, "/dev/vdb");
    hall.report(&ticket, &[destructive(), installed()]);
    match hall.upload(&facts) {
        Answer::Installed { disk, .. } => assert_eq!(disk, "/dev/vda"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_failure_gives_the_count_back_and_the_entry_while_nothing_was_destroyed() {
    for (events, entry_is_free) in
        [(vec![harmless(), failed()], true), (vec![destructive(), failed()], false)]
    {
        let mut hall = Hall::of_vms("[('vm', 4)]");
        let facts = machine(&mac(1), "A1");
        let (first, ticket) = hall.plan(&facts);
        hall.report(&ticket, &events);
        assert_eq!((hall.phase(&mac(1)), hall.counts().as_str()), (Phase::Failed, "vm=4"));
        assert_eq!(hall.text("vm.cmdb") == CMDB, entry_is_free);
        let (again, _) = hall.plan(&facts);
        assert_eq!((again, hall.counts().as_str()), (first, "vm=3"));
    }
}

#[test]
fn an_entry_given_back_goes_to_whoever_comes_first() {
    let mut hall = Hall::of_vms("[('vm', '*')]");
    let (facts, other) = (machine(&mac(1), "A1"), machine(&mac(2), "A2"));
    let (_, ticket) = hall.plan(&facts);
    hall.report(&ticket, &[failed()]);
    assert_eq!(hall.plan(&other).0.hostname, "host03");
    assert_eq!(hall.plan(&facts).0.hostname, "host04");
}

#[test]
fn release_leaves_the_files_as_they_were_before_the_match() {
    let commented = CMDB.replace("'ip': '192.168.122.3',", "'ip' : '192.168.122.3', # old rack\n ");
    for cmdb in [CMDB, &commented] {
        let mut hall = Hall::of_vms("[('vm', 4)]");
        hall.edit("vm.cmdb", cmdb);
        let facts = machine(&mac(1), "A1");
        let (_, ticket) = hall.plan(&facts);
        hall.report(&ticket, &[destructive(), installed()]);
        let id = hall.id("host03");
        hall.operate(|world, now| world.release(&id, now));
        assert_eq!(hall.phase(&mac(1)), Phase::Released);
        assert_eq!((hall.text("vm.cmdb").as_str(), hall.counts().as_str()), (cmdb, "vm=4"));
        let again = hall.operate(|world, now| world.release(&id, now));
        assert!(matches!(again, Answer::Refused(_)));
        assert_eq!(hall.counts(), "vm=4");
    }
}

#[test]
fn release_does_not_give_a_count_back_twice() {
    let mut hall = Hall::of_vms("[('vm', 4)]");
    let (_, ticket) = hall.plan(&machine(&mac(1), "A1"));
    hall.report(&ticket, &[destructive(), failed()]);
    let id = hall.id("host03");
    hall.operate(|world, now| world.release(&id, now));
    assert_eq!((hall.counts().as_str(), hall.text("vm.cmdb").as_str()), ("vm=4", CMDB));
}

#[test]
fn no_profile_fits_with_a_reason_for_each() {
    let mut hall = Hall::of_vms("[('vm', 4), ('hp', 1), ('old', 0)]");
    hall.edit("hp.specs", "[('system', 'product', 'vendor', 'HP')]");
    let mut facts = machine(&mac(1), "A1");
    facts.0.retain(|fact| fact.0 != "disk");
    let refused = hall.refusal(&facts);
    assert_eq!((refused.status, hall.phase(&mac(1))), (422, Phase::Unmatched));
    let profiles: Vec<&str> = refused.profiles.iter().map(|it| it.profile.as_str()).collect();
    assert_eq!(profiles, ["vm", "hp", "old"]);
    let reasons: Vec<&str> = refused.profiles.iter().map(|it| it.reason.as_str()).collect();
    assert!(reasons[0].contains("line 2"), "{reasons:?}");
    assert!(reasons[1].contains("HP"), "{reasons:?}");
    assert_eq!(reasons[2], "skipped: its count in `state` is 0");
    assert_eq!((hall.counts().as_str(), hall.text("vm.cmdb").as_str()), ("vm=4 hp=1 old=0", CMDB));
}

#[test]
fn an_exhausted_cmdb_passes_the_machine_on_and_takes_no_count() {
    let mut hall = Hall::of_vms("[('vm', 9), ('spare', '*')]");
    hall.edit("spare.specs", SPECS);
    hall.edit("spare.configure", CONFIGURE_BY_MAC);
    let names: Vec<String> =
        (0..5).map(|number| hall.plan(&machine(&mac(number), "")).0.hostname).collect();
    let expected = ["host03", "host04", "host05", "host-525400000003", "host-525400000004"];
    assert_eq!(
        (names, hall.counts().as_str()),
        (expected.map(str::to_owned).to_vec(), "vm=6 spare=*")
    );
    hall.edit("state", "[('vm', 6)]");
    let refused = hall.refusal(&machine(&mac(9), ""));
    assert_eq!(refused.status, 409);
    assert_eq!(refused.profiles[0].reason, "all 3 entries of vm.cmdb are used");
}

#[test]
fn a_broken_file_of_a_fitting_profile_takes_nothing_and_says_where() {
    let cases = [
        ("vm.configure", "(role: (name: )", "vm.configure:1:"),
        ("vm.cmdb", "[{'a': 1},\n {'a': ]", "vm.cmdb:2:"),
        ("state", "[('vm', 4),\n ('hp' 1)]", "state:2:"),
    ];
    for (broken, text, place) in cases {
        let mut hall = Hall::of_vms("[('vm', 4), ('spare', '*')]");
        hall.edit("spare.specs", SPECS);
        hall.edit("spare.configure", CONFIGURE_BY_MAC);
        hall.edit(broken, text);
        let refused = hall.refusal(&machine(&mac(1), "A1"));
        assert_eq!(refused.status, 503);
        assert!(refused.reason.contains(place), "{}", refused.reason);
        assert!(!hall.journal.iter().any(|it| format!("{it:?}").contains("Count")));
        assert!(hall.world.census.records().all(|record| record.assignment.is_none()));
    }
}

#[test]
fn broken_specs_stop_their_profile_alone() {
    let mut hall = Hall::of_vms("[('hp', '*'), ('vm', 4)]");
    hall.edit("hp.specs", "[('disk', '$d', 'size', 'gt(4'),]]");
    assert_eq!(hall.plan(&machine(&mac(1), "A1")).0.hostname, "host03");
    hall.edit("vm.specs", "[('disk', 'none', 'size', '1')]");
    let refused = hall.refusal(&machine(&mac(2), "A2"));
    assert!(refused.profiles[0].reason.starts_with("hp.specs:1:"), "{:?}", refused.profiles[0]);
}

#[test]
fn a_plan_that_cannot_be_made_takes_nothing() {
    let mut hall = Hall::of_vms("[('vm', 4)]");
    hall.edit("vm.configure", &CONFIGURE.replace("{{ hostname }}", "{{ hostnam }}"));
    let refused = hall.refusal(&machine(&mac(1), "A1"));
    assert_eq!(refused.status, 422);
    assert!(refused.reason.contains("hostnam"), "{}", refused.reason);
    assert_eq!((hall.counts().as_str(), hall.text("vm.cmdb").as_str()), ("vm=4", CMDB));
}

#[test]
fn a_bound_machine_never_gets_another_role_silently() {
    let mut hall = Hall::of_vms("[('vm', 4), ('spare', '*')]");
    hall.edit("spare.specs", "[('network', '$eth', 'serial', '$mac')]");
    hall.edit("spare.configure", CONFIGURE_BY_MAC);
    let mut facts = machine(&mac(1), "A1");
    let (_, ticket) = hall.plan(&facts);
    hall.report(&ticket, &[destructive()]);
    facts.0.retain(|fact| fact.0 != "disk");
    let refused = hall.refusal(&facts);
    assert_eq!(refused.status, 422);
    let why =
        "which no longer fits: line 2, (\"disk\", \"$disk\", \"size\", \"gt(4)\"): nearest is";
    assert!(refused.reason.contains(why), "{}", refused.reason);
    assert!(refused.reason.contains("edeploy-server release host03"), "{}", refused.reason);
    assert_eq!((hall.phase("host03"), hall.counts().as_str()), (Phase::Installing, "vm=3 spare=*"));
}

#[test]
fn cmdb_keys_choose_the_entry_and_its_holder_is_named() {
    let specs = "[('system', 'product', 'serial', '$$tag'), ('disk', '$disk', 'size', 'gt(4)')]";
    let cmdb = "generate({'tag': ('TAG1', 'TAG2', 'TAG3'), 'hostname': 'host3-5'})\n";
    let mut hall = Hall::of_vms("[('vm', '*')]");
    hall.edit("vm.specs", specs);
    hall.edit("vm.cmdb", cmdb);
    assert_eq!(hall.plan(&machine(&mac(2), "TAG2")).0.hostname, "host4");
    assert_eq!(hall.plan(&machine(&mac(1), "TAG1")).0.hostname, "host3");
    let refused = hall.refusal(&machine(&mac(8), "TAG2"));
    let reason = &refused.profiles[0].reason;
    assert_eq!(refused.status, 409);
    assert_eq!(reason, "entry 2 of vm.cmdb is for tag=TAG2 and belongs to host4");
    let refused = hall.refusal(&machine(&mac(9), "TAG9"));
    assert_eq!(refused.profiles[0].reason, "no entry of vm.cmdb is for tag=TAG9");
    let expected = "[
 {'disk': 'vda', 'hostname': 'host3', 'tag': 'TAG1', 'used': 1},
 {'disk': 'vda', 'hostname': 'host4', 'tag': 'TAG2', 'used': 1},
 {'tag': 'TAG3', 'hostname': 'host5'},
]
";
    assert_eq!(hall.text("vm.cmdb"), expected);
    let generated = hall.world.cmdb(&name("vm")).unwrap().generated_text();
    assert_eq!(generated, Some(cmdb));
}

#[test]
fn an_entry_that_is_held_must_be_for_the_keys_of_now() {
    let specs = "[('system', 'product', 'name', '$$tag'), ('disk', '$disk', 'size', 'gt(4)')]";
    let mut hall = Hall::of_vms("[('vm', 4)]");
    hall.edit("vm.specs", specs);
    hall.edit("vm.cmdb", "[{'tag': 'Box', 'hostname': 'a'}, {'tag': 'Other', 'hostname': 'b'}]");
    let mut facts = machine(&mac(1), "A1");
    hall.plan(&facts);
    for fact in facts.0.iter_mut().filter(|fact| fact.2 == "name") {
        fact.3 = Value::from("Other");
    }
    let refused = hall.refusal(&facts);
    let reason = "a holds entry 1 of vm.cmdb, which is not for tag=Other: `edeploy-server release a` \
                  lets it choose again";
    assert_eq!((refused.status, refused.reason.as_str()), (409, reason));
    // Unless somebody says that it is.
    let edited = hall.text("vm.cmdb").replace("'Box'", "'Other'");
    assert_eq!(hall.edit("vm.cmdb", &edited), Vec::<String>::new());
    assert_eq!(hall.plan(&facts).0.hostname, "a");
}

#[test]
fn an_assignment_by_hand_chooses_profile_and_entry() {
    let mut hall = Hall::of_vms("[('spare', '*'), ('vm', 4)]");
    hall.edit("spare.specs", SPECS);
    hall.edit("spare.configure", CONFIGURE_BY_MAC);
    let facts = machine(&mac(1), "A1");
    let mut none = facts.clone();
    none.0.retain(|fact| fact.0 != "disk");
    hall.refusal(&none);
    let id = hall.id(&mac(1));
    let values = Variables::from([("hostname".to_owned(), Value::from("host05"))]);
    hall.operate(|world, now| world.assign(&id, &name("vm"), values, now));
    assert_eq!(hall.plan(&facts).0.hostname, "host05");
    assert_eq!(hall.counts(), "spare=* vm=3");
    let id = hall.id("host05");
    let refused =
        hall.operate(|world, now| world.assign(&id, &name("spare"), Variables::new(), now));
    assert!(matches!(refused, Answer::Refused(refused) if refused.reason.contains("release")));
}

/// Facts lie in files that are called like the machine was at the time.
#[test]
fn forgetting_a_machine_removes_its_facts_and_nobody_elses() {
    let mut hall = Hall::of_vms("[('vm', '*')]");
    let forgotten = |hall: &Hall, id: &Name| -> Vec<String> {
        let decision = hall.world.forget(id, hall.now);
        let changes = decision.changes.into_iter().filter_map(|change| match change {
            Change::Forget { facts, .. } => Some(facts),
            _ => None,
        });
        changes.flatten().map(|name| name.to_string()).collect()
    };
    hall.plan(&machine(&mac(1), "SERIAL1"));
    let first = hall.id("host03");
    assert_eq!(forgotten(&hall, &first), ["Box-SERIAL1-52-54-00-00-00-01"]);
    // It gets another board; the old one turns up again in a machine that is called the same.
    hall.operate(|world, now| world.rebind(&first, now));
    hall.plan(&machine(&mac(2), "SERIAL1"));
    let both = ["Box-SERIAL1-52-54-00-00-00-01", "Box-SERIAL1-52-54-00-00-00-02"];
    assert_eq!(forgotten(&hall, &first), both);
    hall.plan(&machine(&mac(1), "SERIAL1"));
    let second = hall.id(&mac(1));
    assert_eq!(forgotten(&hall, &second), [second.as_str()]);
    assert_eq!(forgotten(&hall, &first), both[1..]);
}
