//! A walk at random over everything that can happen to machines, step by step against the table:
//! through the server, through the store beside it, with restarts and kills in between. The hall
//! has what makes halls hard: boards and NICs that are swapped, a fleet that shares one serial
//! number, two machines with one UUID, some with no number at all.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use server::store::Store;

use super::Dice;
use super::place::{Place, Standings, check_files, standings};
use super::table::{Answer, Command, Hardware, News, Nic, Request, Table, Ticket};
use crate::say;
use crate::storm::hall::Programs;

/// Machines that share one serial number, as in the corpus.
const FLEET: u16 = 40;
/// Further machines: two with one UUID, two without any number, the others with their own.
const OTHERS: u16 = 10;
/// Fewer entries than machines, and more machines wanted than entries, now and then fewer.
const ENTRIES: usize = 30;
const WANTED: i64 = 32;
/// The serial number of the fleet.
const SHARED: u16 = 9999;

/// What a walk came across.
#[derive(Debug, Default)]
pub struct Steps {
    /// All.
    pub steps: usize,
    /// Kills with a request under way.
    pub kills: usize,
    /// Orderly restarts of the server.
    pub restarts: usize,
    /// How often the store beside it was opened anew.
    pub reopened: usize,
    /// Plans given.
    pub plans: usize,
    /// Machines told that they are installed.
    pub installed: usize,
    /// Uploads refused.
    pub refused: usize,
    /// Reports that were taken.
    pub recorded: usize,
    /// Operators' commands carried out.
    pub done: usize,
}

struct Walk {
    place: Place,
    store: Store,
    table: Table,
    machines: Vec<Hardware>,
    /// Tickets that machines were given, with the number of their next event; old ones as well.
    tickets: Vec<(Ticket, u64)>,
    next_nic: Nic,
    dice: Dice,
    steps: Steps,
}

/// Goes so many steps; an error is a difference between table and server.
pub fn walk(
    folder: &std::path::Path,
    programs: Programs,
    steps: usize,
    seed: u64,
) -> Result<Steps> {
    let place = Place::new(folder, programs, ENTRIES, WANTED)?;
    place.hall.start()?;
    let store = place.store()?;
    let machines: Vec<Hardware> = (0..FLEET + OTHERS).map(machine).collect();
    let mut walk = Walk {
        table: Table::new(ENTRIES, WANTED),
        next_nic: 200,
        machines,
        tickets: Vec::new(),
        dice: Dice::new(seed),
        steps: Steps::default(),
        place,
        store,
    };
    for step in 0..steps {
        walk.step().with_context(|| format!("step {step} of the walk with seed {seed}"))?;
        if (step + 1).is_multiple_of(5000) {
            say(&format!("{:?}", walk.steps));
        }
    }
    walk.place.hall.stop()?;
    check_files(&walk.store)?;
    Ok(walk.steps)
}

/// Machine `number` as it is delivered.
fn machine(number: u16) -> Hardware {
    let (serial, uuid) = match number {
        0..FLEET => (Some(SHARED), Some(SHARED)),
        40 | 41 => (None, Some(41)),
        42 | 43 => (None, None),
        _ => (Some(number), Some(number)),
    };
    Hardware { nics: vec![2 * number, 2 * number + 1], serial, uuid }
}

impl Walk {
    fn step(&mut self) -> Result<()> {
        self.steps.steps += 1;
        match self.dice.below(100) {
            0..=1 => self.swap_parts(),
            2 => {
                let waits = 1 + self.dice.below(4) as u64;
                self.place.pass_time(&self.store, waits)?;
                self.table.wait(waits);
            }
            3 if self.dice.hits(4) => {
                self.steps.restarts += 1;
                self.place.hall.stop()?;
                self.place.hall.start()?;
            }
            4 => {
                self.steps.reopened += 1;
                self.store = self.place.store()?;
            }
            5..=11 => {
                let commands = [Command::Reinstall, Command::Release, Command::Forget];
                let (nic, command) = (self.some_nic(), self.dice.pick(&commands));
                self.carry_out(&Request::Operate(nic, command))?;
            }
            12..=50 => {
                let hardware = self.some_machine();
                self.carry_out(&Request::Upload(hardware))?;
            }
            51..=56 if !self.tickets.is_empty() => {
                let (ticket, _) = self.some_ticket();
                self.carry_out(&Request::Failure(ticket))?;
            }
            _ if !self.tickets.is_empty() => self.report()?,
            _ => {}
        }
        if self.steps.steps.is_multiple_of(500) {
            check_files(&self.store)?;
        }
        let (table, found) = (Standings::of(&self.table), standings(&self.store)?);
        ensure!(table == found, "the table says {table:?}\nthe server says {found:?}");
        Ok(())
    }

    fn report(&mut self) -> Result<()> {
        let news = [
            News::Harmless,
            News::Destructive,
            News::Destructive,
            News::Installed,
            News::Installed,
            News::Failed,
        ];
        let (ticket, next) = self.some_ticket();
        // Now and then a report comes again.
        let number = if next > 0 && self.dice.hits(8) { next - 1 } else { next };
        let request = Request::Report(ticket, number, self.dice.pick(&news));
        self.carry_out(&request)?;
        let noted = self.tickets.iter_mut().find(|(noted, _)| *noted == ticket);
        if let Some((_, next)) = noted {
            *next = (*next).max(number + 1);
        }
        Ok(())
    }

    /// Puts a request to the server or the store, and to the table.
    fn carry_out(&mut self, request: &Request) -> Result<()> {
        let is_operator = matches!(request, Request::Operate(..));
        let (answer, twice) = if is_operator || !self.dice.hits(6) {
            (self.place.decide(&self.store, request)?, false)
        } else if self.dice.hits(10) {
            self.steps.kills += 1;
            (self.ask_through_a_kill(request)?, true)
        } else {
            (self.place.ask(request)?.context("the server went away")?, false)
        };
        let fresh = match answer {
            Answer::Plan(_, ticket) => ticket,
            _ => Ticket::Unseen,
        };
        let once = self.table.take(request, fresh);
        let mut expected = vec![once];
        if twice {
            // It may have been taken, and its answer lost: then this is the second time.
            let after_one = self.table.clone();
            expected.push(self.table.take(request, fresh));
            ensure!(
                Standings::of(&self.table) == Standings::of(&after_one),
                "{request:?} is not the same twice"
            );
        }
        ensure!(expected.contains(&answer), "{request:?}: {answer:?}, not {expected:?}");
        self.note(request, answer);
        Ok(())
    }

    /// Sends a request and kills the server at a random instant of it, then asks again as a
    /// machine does.
    fn ask_through_a_kill(&mut self, request: &Request) -> Result<Answer> {
        let instant = Duration::from_micros(self.dice.below(6000) as u64);
        let place = &self.place;
        let answer = std::thread::scope(|scope| {
            let asking = scope.spawn(|| place.ask(request));
            std::thread::sleep(instant);
            place.hall.kill()?;
            asking.join().map_err(|_| anyhow::anyhow!("a client panicked"))?
        })?;
        self.place.hall.start()?;
        let again = self.place.ask(request)?.context("the server went away again")?;
        if let (Some(first), Answer::Plan(..) | Answer::Installed(_)) = (answer, again) {
            ensure!(first == again, "{first:?} before the kill, then {again:?}");
        }
        Ok(again)
    }

    fn note(&mut self, request: &Request, answer: Answer) {
        match answer {
            Answer::Plan(_, ticket) => {
                self.steps.plans += 1;
                match self.tickets.iter_mut().find(|(known, _)| *known == ticket) {
                    Some((_, next)) => *next = 0,
                    None => self.tickets.push((ticket, 0)),
                }
                if self.tickets.len() > 2 * ENTRIES {
                    self.tickets.remove(0);
                }
            }
            Answer::Installed(_) => self.steps.installed += 1,
            Answer::Recorded => self.steps.recorded += 1,
            Answer::Done => self.steps.done += 1,
            Answer::Refused(_) if matches!(request, Request::Upload(_)) => self.steps.refused += 1,
            Answer::Refused(_) => {}
        }
    }

    /// What technicians do between two boots.
    fn swap_parts(&mut self) {
        let one = self.dice.below(self.machines.len());
        let other = self.dice.below(self.machines.len());
        let machine = &mut self.machines[one];
        match self.dice.below(6) {
            // A NIC is swapped, for one from the store room.
            0 => machine.nics[0] = self.next_nic,
            // A NIC is added.
            1 if machine.nics.len() < 4 => machine.nics.push(self.next_nic),
            // The board, with its NIC, serial and UUID.
            2 => {
                machine.nics = vec![self.next_nic];
                (machine.serial, machine.uuid) = (Some(self.next_nic), Some(self.next_nic));
            }
            // A NIC is not found for a while, or found again in another order.
            3 => machine.nics.rotate_left(1),
            4 if machine.nics.len() > 1 => {
                machine.nics.pop();
            }
            // A NIC goes to another machine.
            5 if one != other && machine.nics.len() > 1 => {
                let moved = machine.nics.remove(0);
                self.machines[other].nics.push(moved);
            }
            _ => {}
        }
        // From the store room again: used NICs come back after a while.
        self.next_nic = 200 + (self.next_nic + 1) % 300;
        // One that is in a machine is not in the store room.
        while self.machines.iter().any(|it| it.nics.contains(&self.next_nic)) {
            self.next_nic = 200 + (self.next_nic + 1) % 300;
        }
    }

    fn some_machine(&mut self) -> Hardware {
        let number = self.dice.below(self.machines.len());
        let mut hardware = self.machines[number].clone();
        if self.dice.hits(30) {
            // The serial number could not be read this time.
            hardware.serial = None;
        }
        hardware
    }

    /// A NIC of a machine on record, whether or not that is still in the hall.
    fn some_nic(&mut self) -> Nic {
        let nics: Vec<Nic> =
            self.table.rows.iter().filter_map(|row| row.nics.first()).copied().collect();
        if nics.is_empty() { 0 } else { self.dice.pick(&nics) }
    }

    fn some_ticket(&mut self) -> (Ticket, u64) {
        let recent = self.tickets.len().min(ENTRIES);
        let from =
            self.tickets.len() - if self.dice.hits(10) { self.tickets.len() } else { recent };
        self.tickets[from + self.dice.below(self.tickets.len() - from)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trials::shortly;

    #[test]
    fn a_short_walk_agrees_with_the_table() {
        let steps = shortly(|folder, programs| walk(folder, programs, 1500, 1));
        assert!(steps.plans > 100 && steps.installed > 10 && steps.kills > 2, "{steps:?}");
    }
}
