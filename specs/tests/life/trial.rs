//! An upload played through for people: what becomes of each profile, and why this entry.

use specs::facts::Facts;
use specs::fleet::{Chosen, Outcome, Tried};
use specs::value::{Value, Variables};

use crate::hall::{
    CONFIGURE_BY_MAC, Hall, SPECS, destructive, failed, harmless, installed, mac, machine, name,
};

/// Every profile of the hall, tried with this machine, which must change nothing.
fn tried(hall: &mut Hall, facts: &Facts) -> Vec<Tried> {
    let fresh = hall.fresh();
    hall.world.try_out(facts, hall.now, &fresh).profiles
}

/// A hall where `vm`, with entries, and `spare`, without, fit every machine.
fn two_profiles() -> Hall {
    let mut hall = Hall::of_vms("[('vm', 4), ('spare', '*')]");
    hall.edit("spare.specs", SPECS);
    hall.edit("spare.configure", CONFIGURE_BY_MAC);
    hall
}

#[track_caller]
fn check(hall: &mut Hall, facts: &Facts, expected: [(Outcome, &str); 2]) {
    let told = tried(hall, facts);
    let told: Vec<(Outcome, &str)> =
        told.iter().map(|tried| (tried.outcome, tried.reason.as_str())).collect();
    assert_eq!(told, expected);
}

#[test]
fn what_becomes_of_each_profile_is_told() {
    use Outcome::{Fits, NothingLeft, Skipped, Stops, Taken, Unreadable};
    let mut hall = two_profiles();
    let facts = machine(&mac(1), "A1");
    check(&mut hall, &facts, [(Taken, "as host03"), (Fits, "it fits as well, and vm comes first")]);
    let (_, ticket) = hall.plan(&facts);
    let held = (Fits, "it fits, and the machine holds vm");
    check(&mut hall, &facts, [(Taken, "as host03"), held]);
    hall.report(&ticket, &[destructive(), installed()]);
    check(&mut hall, &facts, [(Taken, "installed as host03"), held]);
    // Another machine.
    let facts = machine(&mac(2), "A2");
    hall.edit("vm.cmdb", "[{'hostname': 'other', 'used': 1}]");
    check(
        &mut hall,
        &facts,
        [(NothingLeft, "all 1 entries of vm.cmdb are used"), (Taken, "as host-525400000002")],
    );
    // The one is that of the first machine, which the file does not say yet.
    hall.edit("state", "[('vm', 1), ('spare', '*')]");
    let skipped = (Skipped, "its count in `state` is 0\nits specs fit");
    check(&mut hall, &facts, [skipped, (Taken, "as host-525400000002")]);
    hall.edit("state", "[('vm', 4), ('spare', '*')]");
    hall.edit("vm.configure", "(");
    let told = tried(&mut hall, &facts);
    assert_eq!(told[0].outcome, Stops);
    assert!(told[0].reason.contains("vm.configure"), "{}", told[0].reason);
    assert_eq!((told[1].outcome, told[1].reason.as_str()), (Fits, "it fits, but nothing is given"));
    hall.edit("vm.specs", "[");
    assert_eq!(tried(&mut hall, &facts)[0].outcome, Unreadable);
}

#[test]
fn a_profile_that_is_skipped_says_whether_it_would_fit() {
    let mut hall = Hall::of_vms("[('vm', 0)]");
    for (specs, brief) in [
        (SPECS, "count 0; its specs fit"),
        ("[('disk', 'vda', 'size', 'gt(40)')]", "count 0; line 1: disk vda size 10 is not gt(40)"),
    ] {
        hall.edit("vm.specs", specs);
        let told = tried(&mut hall, &machine(&mac(1), "A1")).remove(0);
        assert_eq!((told.outcome, told.brief.as_str()), (Outcome::Skipped, brief));
        let text = serde_json::to_value(&told).unwrap();
        assert_eq!((&text["outcome"], &text["count"]), (&"skipped".into(), &0.into()));
    }
    hall.edit("state", "[('vm', '*')]");
    let told = tried(&mut hall, &machine(&mac(1), "A1")).remove(0);
    assert_eq!(serde_json::to_value(&told).unwrap()["count"], "*");
}

#[test]
fn the_entry_and_the_reason_for_it_are_told() {
    let mut hall = Hall::of_vms("[('vm', 4)]");
    let facts = machine(&mac(1), "A1");
    let chosen = |hall: &mut Hall, facts: &Facts| {
        let given = tried(hall, facts).remove(0).entry.unwrap();
        (given.position, given.why)
    };
    assert_eq!(chosen(&mut hall, &facts), (0, Chosen::FirstFree));
    let (_, ticket) = hall.plan(&facts);
    assert_eq!(chosen(&mut hall, &facts), (0, Chosen::Held));
    // Given back before anything was destroyed, and free still.
    hall.report(&ticket, &[harmless(), failed()]);
    assert_eq!(chosen(&mut hall, &facts), (0, Chosen::HeldBefore));
    // Meanwhile somebody else has it.
    hall.plan(&machine(&mac(2), "A2"));
    assert_eq!(chosen(&mut hall, &facts), (1, Chosen::FirstFree));
    let id = hall.id(&mac(1));
    let values = Variables::from([("hostname".to_owned(), Value::from("host05"))]);
    hall.operate(|world, now| world.assign(&id, &name("vm"), values, now));
    assert_eq!(chosen(&mut hall, &facts), (2, Chosen::Assigned));
}

#[test]
fn entries_are_chosen_by_key_and_by_equal_values() {
    let facts = machine(&mac(1), "A1");
    for (specs, cmdb, position, why) in [
        (
            "[('system', 'product', 'serial', '$$tag'), ('disk', '$disk', 'size', '$size')]",
            "[{'tag': 'A0', 'hostname': 'a'}, {'tag': 'A1', 'hostname': 'b'}]",
            1,
            "the first for tag=A1",
        ),
        (
            SPECS,
            "[{'hostname': 'a'}, {'disk': 'vda', 'eth': 'eth0', 'mac': '52:54:00:00:00:01', \
              'hostname': 'b'}]",
            1,
            "it has this machine's values",
        ),
        (SPECS, "[{'hostname': 'a'}]", 0, "the first that is free"),
        // Where the specs bind nothing, every entry has all of these values: that says nothing.
        (
            "[('disk', 'vda', 'size', 'gt(4)')]",
            "[{'hostname': 'a', 'disk': 'vda'}]",
            0,
            "the first that is free",
        ),
    ] {
        let mut hall = Hall::of_vms("[('vm', 4)]");
        hall.edit("vm.specs", specs);
        hall.edit("vm.cmdb", cmdb);
        if !specs.contains("$disk") {
            hall.edit("vm.configure", &crate::hall::CONFIGURE.replace("{{ disk }}", "vda"));
        }
        let told = tried(&mut hall, &facts).remove(0);
        let given = told.entry.unwrap_or_else(|| panic!("{}", told.reason));
        assert_eq!((given.position, given.why.to_string().as_str()), (position, why), "{cmdb}");
    }
}
