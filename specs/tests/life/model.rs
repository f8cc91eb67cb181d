//! Random walks over the table of design 5a, against a model that is nothing but the table.

use proptest::prelude::*;
use proptest::test_runner::Config;
use specs::fleet::{Answer, World};
use specs::machine::{Phase, Seconds};
use specs::units::Token;

use crate::hall::{
    CMDB, Hall, LEASE, SPECS, destructive, failed, file, harmless, installed, mac, machine,
};

const MACHINES: usize = 5;
const ENTRIES: usize = 3;

#[derive(Debug, Clone, Copy)]
enum Step {
    Upload(usize),
    Harmless(usize),
    Destructive(usize),
    Installed(usize),
    Failed(usize),
    Failure(usize),
    Reinstall(usize),
    Release(usize),
    Forget(usize),
    Wait(Seconds),
    Save,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let machine = 0..MACHINES;
    prop_oneof![
        6 => machine.clone().prop_map(Step::Upload),
        1 => machine.clone().prop_map(Step::Harmless),
        3 => machine.clone().prop_map(Step::Destructive),
        3 => machine.clone().prop_map(Step::Installed),
        2 => machine.clone().prop_map(Step::Failed),
        1 => machine.clone().prop_map(Step::Failure),
        1 => machine.clone().prop_map(Step::Reinstall),
        1 => machine.clone().prop_map(Step::Release),
        1 => machine.prop_map(Step::Forget),
        2 => (1..=LEASE).prop_map(Step::Wait),
        1 => Just(Step::Save),
        1 => Just(Step::Restart),
    ]
}

/// What the table says of one machine.
#[derive(Debug, Clone, Default)]
struct Row {
    phase: Option<Phase>,
    /// The entry that is its own.
    entry: Option<usize>,
    /// The entry it gave back, wanted again.
    last: Option<usize>,
    counted: bool,
    destroying: bool,
    heard: Seconds,
    ticket: Option<Token>,
}

impl Row {
    fn has_assignment(&self) -> bool {
        self.entry.is_some() || self.last.is_some()
    }

    fn is_leased(&self) -> bool {
        matches!(self.phase, Some(Phase::Leased | Phase::Installing))
    }
}

struct Model {
    rows: Vec<Row>,
    left: i64,
}

#[derive(Debug, PartialEq)]
enum Expected {
    Plan(usize),
    Installed(usize),
    Refused,
}

impl Model {
    fn free(&self) -> Option<usize> {
        (0..ENTRIES).find(|entry| !self.rows.iter().any(|row| row.entry == Some(*entry)))
    }

    fn upload(&mut self, machine: usize, now: Seconds) -> Expected {
        let row = self.rows[machine].clone();
        if row.phase == Some(Phase::Installed) {
            return Expected::Installed(row.entry.unwrap());
        }
        let wanted = match (row.entry, row.last) {
            (Some(own), _) => Some(own),
            (None, Some(last)) if !self.rows.iter().any(|it| it.entry == Some(last)) => Some(last),
            _ => self.free(),
        };
        let available = row.counted || self.left > 0;
        let (Some(entry), true) = (wanted, available) else {
            let row = &mut self.rows[machine];
            row.phase = Some(row.phase.unwrap_or(Phase::Unmatched));
            return Expected::Refused;
        };
        self.left -= i64::from(!row.counted);
        let row = &mut self.rows[machine];
        row.phase = Some(Phase::Leased);
        row.counted = true;
        row.entry = Some(entry);
        row.last = None;
        row.heard = now;
        Expected::Plan(entry)
    }

    fn fail(&mut self, machine: usize) {
        let row = &mut self.rows[machine];
        self.left += i64::from(std::mem::take(&mut row.counted));
        row.phase = Some(Phase::Failed);
        if !row.destroying {
            row.last = row.entry.take();
        }
    }

    /// An event that shows the machine alive. Answers whether it counts.
    fn alive(&mut self, machine: usize, now: Seconds) -> bool {
        let row = &mut self.rows[machine];
        let known = row.ticket.is_some() && row.entry.is_some();
        if !known || matches!(row.phase, Some(Phase::Armed | Phase::Installed)) {
            return false;
        }
        row.heard = now;
        if row.phase == Some(Phase::Failed) {
            row.phase = Some(Phase::Installing);
            if self.left > 0 {
                row.counted = true;
                self.left -= 1;
            }
        }
        true
    }

    fn give_back(&mut self, machine: usize) {
        let row = &mut self.rows[machine];
        self.left += i64::from(row.counted);
        *row = Row { phase: row.phase, heard: row.heard, ..Row::default() };
    }
}

struct Walk {
    hall: Hall,
    model: Model,
}

impl Walk {
    fn new(left: i64) -> Walk {
        let hall = Hall::of_vms(&format!("[('vm', {left})]"));
        Walk { hall, model: Model { rows: vec![Row::default(); MACHINES], left } }
    }

    fn step(&mut self, step: Step) {
        let now = self.hall.now;
        match step {
            Step::Upload(number) => self.upload(number),
            Step::Harmless(number) => {
                self.model.alive(number, now);
                self.report(number, harmless());
            }
            Step::Destructive(number) => {
                if self.model.alive(number, now) {
                    let row = &mut self.model.rows[number];
                    row.phase = Some(Phase::Installing);
                    row.destroying = true;
                }
                self.report(number, destructive());
            }
            Step::Installed(number) => {
                if self.model.alive(number, now) {
                    let row = &mut self.model.rows[number];
                    row.phase = Some(Phase::Installed);
                    row.destroying = true;
                }
                self.report(number, installed());
            }
            Step::Failed(number) => {
                if self.model.rows[number].is_leased() {
                    self.model.rows[number].heard = now;
                    self.model.fail(number);
                }
                self.report(number, failed());
            }
            Step::Failure(number) => {
                if let Some(ticket) = self.model.rows[number].ticket.clone() {
                    if self.model.rows[number].is_leased() {
                        self.model.fail(number);
                    }
                    self.hall.operate(|world, now| world.failure(&ticket, "vm", now));
                }
            }
            Step::Reinstall(number) => {
                if self.model.rows[number].phase == Some(Phase::Installed) {
                    self.model.rows[number].phase = Some(Phase::Armed);
                }
                self.operate(number, |world, id, now| world.reinstall(id, now));
            }
            Step::Release(number) => {
                if self.model.rows[number].has_assignment() {
                    self.model.give_back(number);
                    self.model.rows[number].phase = Some(Phase::Released);
                }
                self.operate(number, |world, id, now| world.release(id, now));
            }
            Step::Forget(number) => {
                self.model.give_back(number);
                self.model.rows[number] = Row::default();
                self.operate(number, |world, id, now| world.forget(id, now));
            }
            Step::Wait(seconds) => {
                self.hall.now += seconds;
                let limit = self.hall.now - LEASE;
                for number in 0..MACHINES {
                    if self.model.rows[number].is_leased() && self.model.rows[number].heard < limit
                    {
                        self.model.fail(number);
                    }
                }
                self.hall.expire();
            }
            Step::Save => self.save(),
            Step::Restart => self.restart(),
        }
    }

    fn upload(&mut self, number: usize) {
        let expected = self.model.upload(number, self.hall.now);
        let entry_of = |hostname: &str| hostname[4..].parse::<usize>().unwrap() - 3;
        let answer = match self.hall.upload(&machine(&mac(number), "")) {
            Answer::Plan { plan, ticket, .. } => {
                self.model.rows[number].ticket = Some(ticket);
                Expected::Plan(entry_of(&plan.hostname))
            }
            Answer::Installed { hostname, .. } => Expected::Installed(entry_of(&hostname)),
            Answer::Refused(_) => Expected::Refused,
            other => panic!("{other:?}"),
        };
        assert_eq!(answer, expected);
    }

    fn report(&mut self, number: usize, event: specs::event::Event) {
        if let Some(ticket) = self.model.rows[number].ticket.clone() {
            self.hall.report(&ticket, &[event]);
        }
    }

    fn operate(
        &mut self,
        number: usize,
        act: impl FnOnce(&World, &specs::units::Name, Seconds) -> specs::fleet::Decision,
    ) {
        let found = self.hall.world.census.find(&mac(number));
        if let Some(id) = found.first().map(|record| record.id.clone()) {
            self.hall.operate(|world, now| act(world, &id, now));
        }
    }

    /// The server brings its files up to date, which says the same in another way.
    fn save(&mut self) {
        for name in ["state", "vm.cmdb"] {
            let text = self.hall.text(name);
            assert_eq!(*self.hall.world.fold(&file(name)).unwrap(), text);
            self.hall.world.written(&file(name), &text);
            assert_eq!(self.hall.text(name), text);
        }
    }

    /// The server starts again from the files and the records.
    fn restart(&mut self) {
        let old = &self.hall.world;
        let mut world = World::default();
        old.census.records().for_each(|record| world.census.insert(&record));
        for name in ["state", "vm.specs", "vm.cmdb", "vm.configure"] {
            let text = match name {
                "vm.specs" => SPECS.to_owned(),
                "vm.configure" => crate::hall::CONFIGURE.to_owned(),
                name => self.hall.text(name),
            };
            world.read(&file(name), Some(text.as_bytes())).unwrap();
        }
        let decision = world.reconcile(&"vm".parse().unwrap(), self.hall.now);
        assert_eq!(decision.changes, [], "files and records agree");
        self.hall.world = world;
    }

    fn check(&self) {
        assert_eq!(self.hall.counts(), format!("vm={}", self.model.left));
        let cmdb = self.hall.world.cmdb(&"vm".parse().unwrap()).unwrap();
        for (position, entry) in cmdb.entries().enumerate() {
            let holder = self.model.rows.iter().position(|row| row.entry == Some(position));
            assert_eq!(entry.is_used(), holder.is_some(), "entry {position}");
            let address = entry.get("mac").map(|mac| mac.as_text());
            assert_eq!(address, holder.map(mac), "entry {position}");
        }
        for (number, row) in self.model.rows.iter().enumerate() {
            let found = self.hall.world.census.find(&mac(number));
            assert_eq!(found.first().map(|record| record.phase), row.phase, "machine {number}");
        }
    }

    /// Whoever starts from the files of the beginning and the journal comes to the same end.
    fn check_replay(&self, left: i64) {
        let mut replayed = Hall::of_vms(&format!("[('vm', {left})]"));
        assert_eq!(replayed.text("vm.cmdb"), CMDB);
        for change in &self.hall.journal {
            replayed.world.apply(change);
        }
        for name in ["state", "vm.cmdb"] {
            assert_eq!(replayed.text(name), self.hall.text(name));
        }
        assert!(replayed.world.census.records().eq(self.hall.world.census.records()));
    }
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn every_walk_is_as_the_table_says(
        left in 1_i64..6,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut walk = Walk::new(left);
        for step in steps {
            walk.step(step);
            walk.check();
        }
        walk.check_replay(left);
    }
}
