//! What an operator decides for a machine whose facts say something else.

use specs::fleet::{Answer, Outcome};
use specs::state::Count;
use specs::value::{Value, Variables};

use crate::hall::{Hall, machine, name};

const MAC: &str = "52:54:00:00:00:01";

fn values(pairs: &[(&str, &str)]) -> Variables {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect()
}

#[test]
fn a_machine_that_fits_nothing_gets_what_was_decided_by_hand() {
    let mut hall = Hall::of_vms("[('vm', 3)]");
    hall.edit("vm.specs", "[('disk', '$disk', 'size', 'gt(400)')]");
    let facts = machine(MAC, "A1");
    hall.refusal(&facts);
    let id = hall.id(MAC);
    // The profile alone leaves it to the facts.
    hall.operate(|world, now| world.assign(&id, &name("vm"), Variables::new(), now));
    let refused = hall.refusal(&facts);
    assert_eq!((refused.status, refused.reason.as_str()), (422, "no profile fits this machine"));
    let wanted = values(&[("disk", "vda"), ("hostname", "host05")]);
    hall.operate(|world, now| world.assign(&id, &name("vm"), wanted, now));
    assert_eq!(hall.plan(&facts).0.hostname, "host05");
    assert_eq!(hall.counts(), "vm=2");
}

/// Explaining says of a profile whose count is used up that it is skipped, but not to the
/// machine that was counted.
#[test]
fn a_count_of_zero_skips_all_but_the_machine_that_was_counted() {
    let mut hall = Hall::of_vms("[('vm', 1)]");
    let facts = machine(MAC, "A1");
    hall.plan(&facts);
    let outcome = |hall: &mut Hall, facts| {
        let fresh = hall.fresh();
        let trial = hall.world.try_out(facts, hall.now, &fresh);
        assert_eq!(trial.profiles[0].count, Count::Left(0));
        trial.profiles[0].outcome
    };
    assert_ne!(outcome(&mut hall, &facts), Outcome::Skipped);
    let other = machine("52:54:00:00:00:02", "A2");
    assert_eq!(outcome(&mut hall, &other), Outcome::Skipped);
    assert!(matches!(hall.upload(&other), Answer::Refused(_)));
}
