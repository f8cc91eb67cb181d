//! Records of machines that hold nothing go by age and count; those of all others stay.

use std::collections::BTreeSet;

use specs::fleet::{Answer, Keep};
use specs::machine::Phase;
use specs::units::Name;
use specs::value::Variables;

use crate::hall::{
    CONFIGURE_BY_MAC, Hall, SPECS, destructive, failed, installed, mac, machine, name,
};

/// A machine in every phase, each heard of a day after the one before; and two `unmatched`.
fn hall_of_all_phases() -> Hall {
    let mut hall = Hall::of_vms("[('vm', '*')]");
    let cmdb: Vec<String> = (0..9).map(|n| format!("{{'hostname': 'h{n}'}}")).collect();
    hall.edit("vm.cmdb", &format!("[{}]", cmdb.join(", ")));
    let events = [
        vec![destructive(), installed()],
        vec![destructive(), failed()],
        vec![failed()],
        vec![destructive(), installed()],
        vec![destructive(), installed()],
        vec![],
    ];
    for (number, events) in events.iter().enumerate() {
        let (_, ticket) = hall.plan(&machine(&mac(number), "none"));
        hall.report(&ticket, events);
        hall.now += 86_400;
    }
    let (again, back) = (hall.id(&mac(3)), hall.id(&mac(4)));
    hall.operate(|world, now| world.reinstall(&again, now));
    hall.operate(|world, now| world.release(&back, now));
    for number in [20, 21] {
        hall.edit("vm.specs", "[('disk', '$disk', 'size', 'gt(99)')]");
        hall.refusal(&machine(&mac(number), "none"));
        hall.now += 86_400;
    }
    hall
}

#[test]
fn only_what_holds_nothing_is_surplus() {
    let hall = hall_of_all_phases();
    let days = |days: u64| Some(days * 86_400);
    let all = hall.world.census.records().count();
    for (age, count, expected) in [
        (None, None, vec![]),
        (Some(0), None, vec![2, 4, 20, 21]),
        (None, Some(0), vec![2, 4, 20, 21]),
        (None, Some(1), vec![2, 4, 20]),
        (days(2), None, vec![2]),
        (days(2), Some(1), vec![2, 4, 20]),
        (days(100), Some(100), vec![]),
    ] {
        let surplus = hall.world.surplus(Keep { age, count }, hall.now);
        let surplus: BTreeSet<Name> = surplus.into_iter().collect();
        let expected: BTreeSet<Name> = expected.into_iter().map(|it| hall.id(&mac(it))).collect();
        assert_eq!(surplus, expected, "{age:?} {count:?}");
    }
    assert_eq!(hall.world.census.records().count(), all);
}

#[test]
fn whoever_is_waited_for_assigned_by_hand_or_half_installed_stays() {
    // Without a CMDB only the phase says that a machine that failed is bound.
    let files = [("state", "[('vm', 4)]"), ("vm.specs", SPECS), ("vm.configure", CONFIGURE_BY_MAC)];
    let mut hall = Hall::new(&files);
    let (_, ticket) = hall.plan(&machine(&mac(1), "none"));
    hall.report(&ticket, &[destructive(), failed()]);
    hall.edit("vm.specs", "[('disk', '$disk', 'size', 'gt(99)')]");
    for number in [2, 3, 4] {
        hall.refusal(&machine(&mac(number), "none"));
    }
    let [waiting, assigned, idle] = [2, 3, 4].map(|number| hall.id(&mac(number)));
    hall.operate(|world, now| world.rebind(&waiting, now));
    hall.operate(|world, now| world.assign(&assigned, &name("vm"), Variables::new(), now));
    assert_eq!(hall.world.surplus(Keep { age: None, count: Some(0) }, hall.now), [idle]);
}

#[test]
fn whoever_got_something_meanwhile_stays() {
    let mut hall = hall_of_all_phases();
    let surplus = hall.world.surplus(Keep { age: Some(0), count: None }, hall.now);
    hall.edit("vm.specs", SPECS);
    hall.plan(&machine(&mac(20), "none"));
    let answer = hall.operate(|world, now| world.retire(&surplus, now));
    let Answer::Done(sentence) = answer else { panic!("{answer:?}") };
    let told = [2, 4, 20, 21].map(|it| sentence.contains(&mac(it).replace(':', "-")));
    assert_eq!(told, [true, true, false, true], "{sentence}");
    let mut phases: Vec<Phase> = hall.world.census.records().map(|it| it.phase).collect();
    phases.sort_unstable();
    let leased = Phase::Leased;
    assert_eq!(phases, [leased, leased, Phase::Installed, Phase::Failed, Phase::Armed]);
}
