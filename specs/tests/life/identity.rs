//! Which machine is it: swapped parts, cloned serials, twins.

use specs::fleet::Answer;
use specs::machine::{FORMER_MACS, Identity, Phase, system_name};

use crate::hall::{Hall, destructive, installed, mac, machine, machine_with};

/// Installs a machine and answers its host name.
fn install(hall: &mut Hall, facts: &specs::facts::Facts) -> String {
    let (plan, ticket) = hall.plan(facts);
    hall.report(&ticket, &[destructive(), installed()]);
    plan.hostname
}

#[track_caller]
fn check_installed(hall: &mut Hall, facts: &specs::facts::Facts, expected: &str) {
    match hall.upload(facts) {
        Answer::Installed { hostname, .. } => assert_eq!(hostname, expected),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn check_twin(hall: &mut Hall, facts: &specs::facts::Facts, expected: &str) {
    let before = (hall.counts(), hall.text("vm.cmdb"), hall.journal.len());
    let refused = hall.refusal(facts);
    assert_eq!(refused.status, 409);
    assert!(refused.reason.contains(expected), "{}", refused.reason);
    assert_eq!((hall.counts(), hall.text("vm.cmdb"), hall.journal.len()), before);
}

#[test]
fn parts_that_come_and_go_do_not_make_another_machine() {
    let mut hall = Hall::of_vms("[('vm', '*')]");
    let (a, b, c) = (mac(1), mac(2), mac(3));
    install(&mut hall, &machine_with(&[&a, &b], "SERIAL-1", ""));
    // A NIC was added, one was swapped, the order changed, the serial is not readable.
    check_installed(&mut hall, &machine_with(&[&c, &b, &a], "SERIAL-1", ""), "host03");
    check_installed(&mut hall, &machine_with(&[&c, &b], "SERIAL-1", ""), "host03");
    check_installed(&mut hall, &machine_with(&[&c], "0123456789", ""), "host03");
    check_twin(&mut hall, &machine_with(&[&c], "SERIAL-9", ""), "twin of host03");
    // The NIC that was taken out now is part of another machine.
    assert_eq!(install(&mut hall, &machine_with(&[&a], "SERIAL-2", "")), "host04");
    check_installed(&mut hall, &machine_with(&[&a], "SERIAL-2", ""), "host04");
    check_twin(&mut hall, &machine_with(&[&a], "SERIAL-1", ""), "twin of host04");
}

#[test]
fn a_nic_that_was_not_found_for_a_while_is_still_the_machines() {
    for serial in ["SERIAL-1", ""] {
        let mut hall = Hall::of_vms("[('vm', '*')]");
        let (a, b) = (mac(1), mac(2));
        install(&mut hall, &machine_with(&[&a, &b], serial, ""));
        check_installed(&mut hall, &machine_with(&[&b], serial, ""), "host03");
        check_installed(&mut hall, &machine_with(&[&a], serial, ""), "host03");
        check_installed(&mut hall, &machine_with(&[&b, &a], serial, ""), "host03");
        assert_eq!(hall.record(&a).identity.former_macs, []);
    }
}

#[test]
fn an_earlier_address_that_another_machine_shows_is_no_longer_remembered() {
    let mut hall = Hall::of_vms("[('vm', '*')]");
    let (a, b, c) = (mac(1), mac(2), mac(3));
    install(&mut hall, &machine_with(&[&a, &b, &c], "SERIAL-1", ""));
    check_installed(&mut hall, &machine_with(&[&a], "SERIAL-1", ""), "host03");
    install(&mut hall, &machine_with(&[&b], "SERIAL-2", ""));
    let former: Vec<String> =
        hall.record("host03").identity.former_macs.iter().map(ToString::to_string).collect();
    assert_eq!(former, [c]);
}

#[test]
fn a_number_that_could_not_be_read_this_time_is_still_the_machines() {
    let mut hall = Hall::of_vms("[('vm', '*')]");
    let uuid = "44454c4c-4b00-1039-8050-b9c04f573032";
    install(&mut hall, &machine_with(&[&mac(1)], "SERIAL-1", uuid));
    check_installed(&mut hall, &machine_with(&[&mac(1)], "", ""), "host03");
    let identity = hall.record("host03").identity;
    assert_eq!(identity.serial.as_deref(), Some("serial-1"));
    assert_eq!(identity.uuid.as_deref(), Some(uuid));
}

#[test]
fn addresses_of_earlier_are_remembered_up_to_a_limit() {
    let mut hall = Hall::of_vms("[('vm', '*')]");
    let stays = mac(0);
    for number in 1..=FORMER_MACS + 10 {
        hall.upload(&machine_with(&[&stays, &mac(number)], "SERIAL-1", ""));
    }
    let former = &hall.record("host03").identity.former_macs;
    assert_eq!(former.len(), FORMER_MACS);
    assert_eq!(former[0].as_str(), mac(FORMER_MACS + 9), "the last seen stay");
}

#[test]
fn a_disk_that_changed_its_name_keeps_the_entry() {
    let mut hall = Hall::of_vms("[('vm', 4)]");
    let mut facts = machine(&mac(1), "A1");
    hall.plan(&facts);
    for fact in facts.0.iter_mut().filter(|fact| fact.0 == "disk") {
        fact.1 = "sdb".to_owned();
    }
    let (plan, _) = hall.plan(&facts);
    assert_eq!((plan.hostname.as_str(), hall.counts().as_str()), ("host03", "vm=3"));
    assert_eq!(plan.disks[0].path, "/dev/sdb");
    assert!(hall.text("vm.cmdb").contains("'disk': 'sdb'"));
}

#[test]
fn a_shared_address_with_another_serial_is_a_twin_until_it_is_decided() {
    let mut hall = Hall::of_vms("[('vm', '*')]");
    install(&mut hall, &machine(&mac(1), "SERIAL-1"));
    let swapped = machine(&mac(1), "SERIAL-2");
    check_twin(&mut hall, &swapped, "twin of host03: MAC 52:54:00:00:00:01 is the same");
    let id = hall.id("host03");
    hall.operate(|world, now| world.rebind(&id, now));
    check_installed(&mut hall, &swapped, "host03");
    check_twin(&mut hall, &machine(&mac(1), "SERIAL-1"), "twin of host03");
    hall.operate(|world, now| world.forget(&id, now));
    assert_eq!(hall.plan(&machine(&mac(1), "SERIAL-1")).0.hostname, "host03");
}

#[test]
fn addresses_of_two_records_are_a_twin_of_both() {
    let mut hall = Hall::of_vms("[('vm', '*')]");
    install(&mut hall, &machine(&mac(1), "SERIAL-1"));
    install(&mut hall, &machine_with(&[&mac(2), &mac(3)], "SERIAL-2", ""));
    let both = machine_with(&[&mac(1), &mac(2)], "SERIAL-1", "");
    check_twin(&mut hall, &both, "twin of host03 and host04");
    let id = hall.id("host03");
    hall.operate(|world, now| world.rebind(&id, now));
    check_installed(&mut hall, &both, "host03");
    check_installed(&mut hall, &machine(&mac(3), "SERIAL-2"), "host04");
}

#[test]
fn a_swapped_board_is_a_new_machine_with_a_warning_and_rebind_joins_them() {
    let mut hall = Hall::of_vms("[('vm', 9)]");
    install(&mut hall, &machine(&mac(1), "SERIAL-1"));
    let board = machine(&mac(2), "SERIAL-1");
    let fresh = hall.fresh();
    let decision = hall.world.upload(&board, hall.now, &fresh);
    assert!(
        decision.warnings[0].contains("serial `serial-1` of host03"),
        "{:?}",
        decision.warnings
    );
    let warning = decision.warnings[0].clone();
    hall.commit(decision);
    assert_eq!((hall.phase("host04"), hall.counts().as_str()), (Phase::Leased, "vm=7"));
    let (old, new) = (hall.id("host03"), hall.id("host04"));
    let advice = "with another board: `edeploy-server rebind host03` before it is installed";
    assert!(warning.ends_with(advice), "{warning}");
    let rebound = hall.world.rebind(&old, hall.now);
    let told = matches!(&rebound.answer, Answer::Done(told) if told.contains("host04"));
    assert!(told, "{:?}", rebound.answer);
    hall.commit(rebound);
    check_installed(&mut hall, &board, "host03");
    assert!(hall.world.census.get(&new).is_none());
    assert_eq!((hall.world.census.records().count(), hall.counts().as_str()), (1, "vm=8"));
    assert!(!hall.text("vm.cmdb").contains(&mac(2)), "the entry it had taken is free again");
}

#[test]
fn a_new_machine_that_resembles_others_is_told_of() {
    let uuid = "44454c4c-4b00-1039-8050-b9c04f573032";
    let mut hall = Hall::of_vms("[('vm', '*')]");
    let warning = |hall: &mut Hall, facts: &specs::facts::Facts| {
        let fresh = hall.fresh();
        let decision = hall.world.upload(facts, hall.now, &fresh);
        let warning = decision.warnings.first().cloned().unwrap_or_default();
        hall.commit(decision);
        warning
    };
    assert_eq!(warning(&mut hall, &machine_with(&[&mac(1)], "SERIAL-1", uuid)), "");
    let told = warning(&mut hall, &machine_with(&[&mac(2)], "", uuid));
    assert!(told.contains("has the UUID of host03 and none of its MAC addresses"), "{told}");
    let told = warning(&mut hall, &machine_with(&[&mac(3)], "SERIAL-1", ""));
    assert!(told.contains("has the serial `serial-1` of host03 and none"), "{told}");
    let told = warning(&mut hall, &machine_with(&[&mac(4)], "SERIAL-1", ""));
    assert!(told.contains("has the serial `serial-1` of host03 and others and none"), "{told}");
    let id = hall.id(&mac(4));
    let advice = format!("`edeploy-server forget {id}`, then `edeploy-server rebind host03`");
    assert!(told.ends_with(&advice), "{told}");
    let told = warning(&mut hall, &machine_with(&[&mac(5)], "SERIAL-9", uuid));
    assert!(told.contains("has the UUID of host04 and others"), "{told}");
}

#[test]
fn a_swapped_board_that_was_installed_already_has_to_be_forgotten() {
    let mut hall = Hall::of_vms("[('vm', 9)]");
    install(&mut hall, &machine(&mac(1), "SERIAL-1"));
    let board = machine(&mac(2), "SERIAL-1");
    assert_eq!(install(&mut hall, &board), "host04");
    let (old, new) = (hall.id("host03"), hall.id("host04"));
    hall.operate(|world, now| world.rebind(&old, now));
    check_installed(&mut hall, &board, "host04");
    hall.operate(|world, now| world.forget(&new, now));
    check_installed(&mut hall, &board, "host03");
    assert_eq!((hall.world.census.records().count(), hall.counts().as_str()), (1, "vm=8"));
}

#[test]
fn a_swapped_board_without_a_serial_is_joined_by_its_uuid() {
    let uuid = "00112233-4455-6677-8899-aabbccddeeff";
    for shown in [uuid, "33221100-5544-7766-8899-aabbccddeeff"] {
        let mut hall = Hall::of_vms("[('vm', '*')]");
        install(&mut hall, &machine_with(&[&mac(1)], "", uuid));
        let id = hall.id("host03");
        hall.operate(|world, now| world.rebind(&id, now));
        check_installed(&mut hall, &machine_with(&[&mac(2)], "", shown), "host03");
    }
}

#[test]
fn a_fleet_that_shares_serial_and_uuid_is_many_machines() {
    let cmdb = "generate({'hostname': 'vm001-040'})";
    let mut hall = Hall::of_vms("[('vm', 40)]");
    hall.edit("vm.cmdb", cmdb);
    let uuid = "44454c4c-4b00-1039-8050-b9c04f573032";
    let facts = |number| machine_with(&[&mac(number)], "44454c4c4b0010398050b9c04f573032", uuid);
    for round in 0..2 {
        for number in 1..=40 {
            let expected = format!("vm{number:03}");
            assert_eq!(hall.plan(&facts(number)).0.hostname, expected, "round {round}");
        }
    }
    assert_eq!((hall.world.census.records().count(), hall.counts().as_str()), (40, "vm=0"));
}

#[test]
fn rebind_takes_no_machine_away_from_its_own_record() {
    let mut hall = Hall::of_vms("[('vm', '*')]");
    let uuid = "44454c4c-4b00-1039-8050-b9c04f573032";
    let facts = |number| machine_with(&[&mac(number)], "ONE-FOR-ALL", uuid);
    assert_eq!(install(&mut hall, &facts(1)), "host03");
    assert_eq!(install(&mut hall, &facts(2)), "host04");
    let id = hall.id("host03");
    hall.operate(|world, now| world.rebind(&id, now));
    check_installed(&mut hall, &facts(2), "host04");
    assert!(hall.record("host03").rebinding, "it waits still");
    check_installed(&mut hall, &facts(3), "host03");
    assert_eq!(hall.world.census.records().count(), 2);
}

/// A record that gives way at once is not kept for an address that it showed earlier.
#[test]
fn a_record_whose_addresses_all_went_to_another_is_forgotten() {
    let mut hall = Hall::of_vms("[('vm', '*')]");
    let (a, b, c) = (mac(1), mac(2), mac(3));
    install(&mut hall, &machine_with(&[&a], "", ""));
    install(&mut hall, &machine_with(&[&b, &c], "", ""));
    check_installed(&mut hall, &machine_with(&[&b], "", ""), "host04");
    let id = hall.id("host03");
    hall.operate(|world, now| world.rebind(&id, now));
    check_installed(&mut hall, &machine_with(&[&a, &b, &c], "", ""), "host03");
    let known: Vec<String> =
        hall.world.census.records().map(|record| record.display_name().to_owned()).collect();
    assert_eq!(known, ["host03"]);
}

#[test]
fn numbers_tell_machines_apart_when_they_could() {
    for (text, expected) in [
        ("ab1", Some("ab1")),
        (" AAB ", Some("aab")),
        ("ab", None),
        ("", None),
        ("aaa", None),
        ("0-0-0.0", None),
        ("To Be Filled By O.E.M.", None),
        ("0123456789", None),
        ("01234567890", Some("01234567890")),
    ] {
        let identity = Identity::of(&machine_with(&[], text, text));
        assert_eq!(identity.serial.as_deref(), expected, "{text}");
        assert_eq!(identity.uuid.as_deref(), expected, "{text}");
    }
}

#[test]
fn serials_that_say_nothing_neither_confirm_nor_contradict() {
    let mut hall = Hall::of_vms("[('vm', '*')]");
    let junk = ["", "0123456789", "To be filled by O.E.M.", "00000000", "0000-0000", "N/A", "."];
    for serial in junk {
        assert_eq!(Identity::of(&machine(&mac(1), serial)).serial, None, "{serial}");
        assert_eq!(hall.plan(&machine(&mac(1), serial)).0.hostname, "host03", "{serial}");
    }
    let other = hall.world.upload(&machine(&mac(2), junk[2]), hall.now, &hall_fresh());
    assert_eq!(other.warnings, Vec::<String>::new());
}

fn hall_fresh() -> specs::fleet::Fresh {
    Hall::new(&[]).fresh()
}

#[test]
fn a_machine_without_an_address_is_told_by_serial_or_not_at_all() {
    let mut hall = Hall::of_vms("[('vm', '*')]");
    hall.edit("vm.specs", "[('disk', '$disk', 'size', 'gt(4)')]");
    let named = machine_with(&[], "SERIAL-1", "");
    assert_eq!(hall.plan(&named).0.hostname, "host03");
    assert_eq!(hall.plan(&named).0.hostname, "host03");
    let refused = hall.refusal(&machine_with(&[], "none", ""));
    assert_eq!((refused.status, hall.world.census.records().count()), (422, 1));
    // Another serial is another machine, whatever the UUID; and so is one that has an address.
    let uuid = "44454c4c-4b00-1039-8050-b9c04f573032";
    assert_eq!(hall.plan(&machine_with(&[], "SERIAL-2", uuid)).0.hostname, "host04");
    assert_eq!(hall.plan(&machine_with(&[], "SERIAL-3", uuid)).0.hostname, "host05");
    hall.edit("vm.cmdb", "generate({'hostname': 'vm1-9'})");
    assert_eq!(hall.plan(&machine_with(&[&mac(1)], "SERIAL-4", "")).0.hostname, "vm1");
    assert_eq!(hall.plan(&machine_with(&[], "SERIAL-4", "")).0.hostname, "vm2");
}

#[test]
fn a_machine_is_found_by_whatever_an_operator_calls_it() {
    let mut hall = Hall::of_vms("[('vm', '*')]");
    let uuid = "44454C4C-4B00-1039-8050-B9C04F573032";
    install(&mut hall, &machine_with(&[&mac(1), &mac(7)], "SERIAL-1", uuid));
    check_installed(&mut hall, &machine_with(&[&mac(1)], "SERIAL-1", uuid), "host03");
    install(&mut hall, &machine_with(&[&mac(2)], "SERIAL-2", ""));
    let id = hall.id("host03");
    for text in [
        "host03",
        " host03\n",
        id.as_str(),
        "serial-1",
        "SERIAL-1",
        uuid,
        "52:54:00:00:00:01",
        "52-54-00-00-00-01",
        "52-54-00-00-00-07",
    ] {
        let found: Vec<String> =
            hall.world.census.find(text).iter().map(|record| record.id.to_string()).collect();
        assert_eq!(found, [id.as_str()], "{text}");
    }
    for text in ["", "host05", "HOST03", "SERIAL", "52:54:00:00:00:03"] {
        assert_eq!(hall.world.census.find(text).len(), 0, "{text}");
    }
}

#[test]
fn evidence_that_speaks_for_several_decides_for_none() {
    // Two records wait, and the machine has an address of both.
    let mut hall = Hall::of_vms("[('vm', '*')]");
    for number in [1, 2] {
        install(&mut hall, &machine(&mac(number), ""));
        let id = hall.id(&mac(number));
        hall.operate(|world, now| world.rebind(&id, now));
    }
    let both = machine_with(&[&mac(1), &mac(2)], "", "");
    check_twin(&mut hall, &both, "several machines wait for `rebind`, and it resembles all");
    // Two had the addresses earlier.
    let mut hall = Hall::of_vms("[('vm', '*')]");
    for number in [1, 2] {
        install(&mut hall, &machine_with(&[&mac(number), &mac(number + 10)], "", ""));
        hall.upload(&machine(&mac(number), ""));
    }
    let both = machine_with(&[&mac(11), &mac(12)], "", "");
    check_twin(&mut hall, &both, "its MAC addresses are those that several had earlier");
    check_installed(&mut hall, &machine(&mac(11), ""), "host03");
    // Without any address, serial and UUID of two.
    let mut hall = Hall::of_vms("[('vm', '*')]");
    hall.edit("vm.specs", "[('disk', '$disk', 'size', 'gt(4)')]");
    let uuid = "44454c4c-4b00-1039-8050-b9c04f573032";
    install(&mut hall, &machine_with(&[], "SERIAL-1", ""));
    install(&mut hall, &machine_with(&[], "", uuid));
    let both = machine_with(&[], "SERIAL-1", uuid);
    check_twin(&mut hall, &both, "serial or UUID are those of several");
}

/// Names of records come from names of facts, which machines can share.
#[test]
fn records_that_would_be_called_the_same_are_numbered() {
    let mut hall = Hall::of_vms("[('vm', '*')]");
    for (number, end) in [(1, "00-09"), (2, "00-09.2"), (3, "00-09.3")] {
        let mut facts = machine_with(&[&mac(9), &mac(number)], "", "");
        facts.push("network", "eth0", "permanent", "no");
        facts.push("network", "eth1", "permanent", "yes");
        hall.upload(&facts);
        let id = hall.id(&mac(number));
        assert!(id.as_str().ends_with(end), "{id}");
    }
}

#[test]
fn only_burnt_in_addresses_tell_machines_apart() {
    let mut hall = Hall::of_vms("[('vm', '*')]");
    let bonded = |own: &str| {
        let mut facts = machine_with(&[own, &mac(9)], "", "");
        facts.push("network", "eth0", "permanent", "yes");
        facts.push("network", "eth1", "permanent", "no");
        // Addresses of anything else are no addresses of NICs.
        facts.push("bluetooth", "hci0", "serial", "52:54:00:00:99:99");
        facts.push("network", "eth0", "gateway", "52:54:00:00:88:88");
        facts
    };
    assert_eq!(hall.plan(&bonded(&mac(1))).0.hostname, "host03");
    assert_eq!(hall.plan(&bonded(&mac(2))).0.hostname, "host04");
    assert_eq!(bonded(&mac(1)).macs().len(), 2);
}

#[test]
fn a_uuid_with_its_bytes_swapped_is_the_same() {
    let one = machine_with(&[&mac(1)], "", "00112233-4455-6677-8899-aabbccddeeff");
    let swapped = machine_with(&[&mac(1)], "", "33221100-5544-7766-8899-aabbccddeeff");
    assert_eq!(Identity::of(&one).contradiction(&Identity::of(&swapped)), None);
    let other = machine_with(&[&mac(1)], "", "33221100-5544-7766-8899-aabbccddee00");
    assert!(Identity::of(&one).contradiction(&Identity::of(&other)).is_some());
    // What firmware calls a UUID need not be one.
    for uuid in ["no-uuid", "a-b", "aéaéaa-4455-6677-8899-aabbccddeeff"] {
        let strange = Identity::of(&machine_with(&[&mac(1)], "", uuid));
        assert_eq!(strange.contradiction(&strange), None);
        let found = strange.contradiction(&Identity::of(&one)).unwrap();
        assert!(found.starts_with(&format!("UUID `{uuid}` here")), "{found}");
    }
}

#[test]
fn facts_are_stored_under_the_name_the_original_gives() {
    let mut facts = machine(&mac(1), "TO BE/FILLED");
    assert_eq!(system_name(&facts).as_str(), "Box-TOBEFILLED-52-54-00-00-00-01");
    facts.0.retain(|fact| !(fact.0 == "system" && fact.2 != "name"));
    assert_eq!(system_name(&facts).as_str(), "Box-52-54-00-00-00-01");
}
