//! What machines tell while they install, and what follows when they fall silent.

use specs::event::Event;
use specs::fleet::{Answer, Complaint};
use specs::machine::Phase;

use crate::hall::{
    CMDB, CONFIGURE_BY_MAC, Hall, LEASE, SPECS, destructive, failed, harmless, installed, mac,
    machine,
};

#[test]
fn silence_is_a_failure_and_a_sign_of_life_undoes_it() {
    let mut hall = Hall::of_vms("[('vm', 1)]");
    let facts = machine(&mac(1), "A1");
    let (_, ticket) = hall.plan(&facts);
    hall.now += LEASE - 1;
    hall.report(&ticket, &[destructive()]);
    hall.now += LEASE;
    hall.expire();
    assert_eq!(hall.phase("host03"), Phase::Installing, "not before the lease is over");
    hall.now += 1;
    hall.expire();
    assert_eq!((hall.phase("host03"), hall.counts().as_str()), (Phase::Failed, "vm=1"));
    let told = hall.record("host03").history.pop().unwrap().text;
    assert_eq!(told, "failed: silent for 30 minutes");
    hall.report(&ticket, &[installed()]);
    assert_eq!((hall.phase("host03"), hall.counts().as_str()), (Phase::Installed, "vm=0"));
}

#[test]
fn a_machine_that_lost_its_entry_by_silence_is_told_to_stop() {
    let mut hall = Hall::of_vms("[('vm', 1)]");
    let (_, ticket) = hall.plan(&machine(&mac(1), "A1"));
    hall.now += LEASE + 1;
    hall.expire();
    assert_eq!(hall.text("vm.cmdb"), CMDB);
    match hall.report(&ticket, &[destructive()]) {
        Answer::Refused(refused) => {
            assert_eq!(refused.status, 409);
            assert!(refused.reason.contains("write nothing"), "{}", refused.reason);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_failure_report_needs_the_ticket_and_the_profile_and_never_matches() {
    for (state, after_failure) in [("[('vm', 4)]", "vm=4"), ("[('vm', '*')]", "vm=*")] {
        let mut hall = Hall::of_vms(state);
        let (_, ticket) = hall.plan(&machine(&mac(1), "A1"));
        let counts = hall.counts();
        let stranger = hall.fresh().ticket;
        for (ticket, profile) in [(&stranger, "vm"), (&ticket, "hp")] {
            match hall.operate(|world, now| world.failure(ticket, profile, now)) {
                Answer::Refused(refused) => assert_eq!(refused.status, 409),
                other => panic!("{other:?}"),
            }
            assert_eq!((hall.counts(), hall.phase(&mac(1))), (counts.clone(), Phase::Leased));
        }
        for _ in 0..2 {
            let answer = hall.operate(|world, now| world.failure(&ticket, "vm", now));
            assert!(matches!(answer, Answer::Recorded { .. }));
            assert_eq!(
                (hall.counts().as_str(), hall.phase(&mac(1))),
                (after_failure, Phase::Failed)
            );
        }
    }
}

/// The step at which a disk is touched first, in each installation, is known for certain.
#[test]
fn only_the_first_destructive_step_has_to_be_on_the_disk() {
    let mut hall = Hall::of_vms("[('vm', 4)]");
    let facts = machine(&mac(1), "A1");
    let begun = |hall: &Hall| {
        let history = hall.record("host03").history;
        history.iter().filter(|line| line.text == "installing: clear /dev/vda").count()
    };
    for installation in 1..=2 {
        let (_, ticket) = hall.plan(&facts);
        for (sequence, durable) in [(0, true), (1, false)] {
            let decision = hall.world.events(&ticket, sequence, &[destructive()], hall.now);
            assert_eq!(decision.durable, durable, "{installation} {sequence}");
            hall.commit(decision);
            assert_eq!(begun(&hall), installation);
        }
        hall.report(&ticket, &[installed()]);
        let id = hall.id("host03");
        hall.operate(|world, now| world.reinstall(&id, now));
    }
}

#[test]
fn a_machine_that_is_heard_of_again_without_a_count_goes_on_and_is_told_of() {
    for (left, warned) in [(1, true), (2, false)] {
        let mut hall = Hall::of_vms(&format!("[('vm', {left})]"));
        let (_, ticket) = hall.plan(&machine(&mac(1), "A1"));
        hall.report(&ticket, &[destructive()]);
        hall.now += LEASE + 1;
        hall.expire();
        hall.plan(&machine(&mac(2), "A2"));
        let decision = hall.world.events(&ticket, 1, &[harmless()], hall.now);
        let text = "host03 goes on although its count was given back and is used up by now";
        assert_eq!(decision.warnings, if warned { vec![text] } else { vec![] }, "{left}");
        assert!(decision.durable);
        hall.commit(decision);
        assert_eq!((hall.phase("host03"), hall.counts().as_str()), (Phase::Installing, "vm=0"));
    }
}

/// What a machine failed with it gets again, whatever is tried first by now.
#[test]
fn a_failed_machine_is_tried_on_its_last_profile_first() {
    let mut hall = Hall::of_vms("[('vm', 4), ('spare', '*')]");
    hall.edit("spare.specs", SPECS);
    hall.edit("spare.configure", CONFIGURE_BY_MAC);
    let (_, ticket) = hall.plan(&machine(&mac(1), "A1"));
    hall.report(&ticket, &[failed()]);
    hall.edit("state", "[('spare', '*'), ('vm', 4)]");
    assert_eq!(hall.plan(&machine(&mac(1), "A1")).0.hostname, "host03");
    assert_eq!(hall.plan(&machine(&mac(2), "A2")).0.profile.as_str(), "spare");
}

/// Whoever never got a plan complains without a ticket: each thing it says is told once.
#[test]
fn a_complaint_is_noted_when_it_is_new() {
    let mut hall = Hall::of_vms("[('vm', 4)]");
    let facts = machine(&mac(1), "A1");
    let lines = ["a", "a", "b", "b", "a"].map(|reason| {
        let complaint = Complaint { profile: "*", reason: Some(reason) };
        hall.now += 60;
        let answer = hall.operate(|world, now| world.complaint(&facts, &complaint, now));
        assert!(matches!(answer, Answer::Recorded { .. }), "{answer:?}");
        let record = hall.record(&mac(1));
        let last = record.complaint.unwrap();
        let text = format!("reported a failure without a plan: {reason}");
        assert_eq!((last.at, last.text), (hall.now, text));
        record.history.len()
    });
    assert_eq!(lines, [1, 1, 2, 2, 3]);
    assert_eq!((hall.phase(&mac(1)), hall.counts().as_str()), (Phase::Unmatched, "vm=4"));
}

#[test]
fn events_are_taken_once_whatever_is_sent_again() {
    let mut hall = Hall::of_vms("[('vm', 4)]");
    let (_, ticket) = hall.plan(&machine(&mac(1), "A1"));
    let events = [harmless(), destructive(), failed()];
    for _ in 0..3 {
        let decision = hall.world.events(&ticket, 0, &events, hall.now);
        assert!(matches!(hall.commit(decision), Answer::Recorded { next: 3, .. }));
        assert_eq!(hall.counts(), "vm=4");
    }
    let record = hall.record("host03");
    let lines = record.history.iter().filter(|it| it.text.contains("failed"));
    assert_eq!(lines.count(), 1);
}

/// How far a machine has come may be lost; what it holds and what becomes of it may not.
#[test]
fn only_some_events_have_to_be_on_the_disk_before_the_answer() {
    let progress = || Event::Progress { step: "tree".to_owned(), done: 1, total: None };
    for (events, durable) in [
        (vec![progress()], false),
        (vec![harmless()], false),
        (vec![destructive()], true),
        (vec![progress(), destructive()], true),
        (vec![destructive(), progress()], true),
        (vec![destructive(), installed()], true),
        (vec![], false),
    ] {
        let mut hall = Hall::of_vms("[('vm', 4)]");
        let (_, ticket) = hall.plan(&machine(&mac(1), "A1"));
        let decision = hall.world.events(&ticket, 0, &events, hall.now);
        assert_eq!(decision.durable, durable, "{events:?}");
        hall.commit(decision);
        // Sent again, they say nothing new.
        assert!(!hall.world.events(&ticket, 0, &events, hall.now).durable, "{events:?}");
    }
}

#[test]
fn how_far_a_step_has_come_is_told() {
    let mut hall = Hall::of_vms("[('vm', 4)]");
    let (_, ticket) = hall.plan(&machine(&mac(1), "A1"));
    for (done, total, expected) in [
        (5, Some(10), "tree 50%"),
        (1, Some(3), "tree 33%"),
        (u64::MAX, Some(u64::MAX), "tree 100%"),
        (30, Some(10), "tree 100%"),
        (30, None, "tree"),
        (0, Some(0), "tree"),
    ] {
        hall.report(&ticket, &[Event::Progress { step: "tree".to_owned(), done, total }]);
        let step = hall.record("host03").assignment.unwrap().step;
        assert_eq!(step.as_deref(), Some(expected));
    }
}
