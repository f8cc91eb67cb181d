//! Concurrent requests have to look as if they had come one by one: for every history that is
//! recorded here there must be an order, true to what ended before what began, in which the table
//! gives the very answers that were given (linearizability, searched as Wing and Gong do).
//!
//! All machines share one count and one CMDB, so a history cannot be taken apart by machine. It
//! is taken apart by time: clients meet after a few requests each, and what is possible at one
//! meeting is where the search goes on to the next. A request that a kill left without an answer
//! may have been taken or not.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use server::store::Store;

use super::Dice;
use super::place::{Place, Standings, check_files, standings};
use super::table::{Answer, Command, Hardware, News, Nic, Request, Table, Ticket};
use crate::say;
use crate::storm::hall::Programs;

/// Fewer entries than machines, so that they are fought for.
const MACHINES: Nic = 5;
const ENTRIES: usize = 3;
const WANTED: i64 = 4;
const CLIENTS: usize = 5;
/// Requests of one client between two meetings.
const TOGETHER: usize = 3;

/// A request from when it was made to when its answer was there.
#[derive(Debug, Clone)]
pub struct Operation {
    /// What was asked.
    pub request: Request,
    /// When.
    pub begun: Instant,
    /// The answer and when it was there; `None`: nobody answered.
    pub answered: Option<(Answer, Instant)>,
}

/// What was recorded.
#[derive(Debug, Default)]
pub struct Recorded {
    /// Requests in all.
    pub requests: usize,
    /// Those that nobody answered.
    pub unanswered: usize,
    /// Pairs of requests that overlapped.
    pub overlaps: usize,
    /// The most worlds that were possible at a meeting before it was looked which it is.
    pub possible: usize,
}

/// The worlds that can be after these operations, when it may have been any of `starts` before.
/// None: no order explains the answers.
pub fn explain(starts: &HashSet<Table>, operations: &[Operation]) -> HashSet<Table> {
    assert!(operations.len() <= 64, "one bit an operation");
    let answered = (0..operations.len()).filter(|n| operations[*n].answered.is_some());
    let all_answered = answered.fold(0_u64, |mask, number| mask | 1 << number);
    let mut ends = HashSet::new();
    let mut seen: HashSet<(u64, Table)> = starts.iter().map(|it| (0, it.clone())).collect();
    let mut open: Vec<(u64, Table)> = seen.iter().cloned().collect();
    while let Some((taken, table)) = open.pop() {
        if taken & all_answered == all_answered {
            ends.insert(table.clone());
        }
        let left: Vec<usize> = (0..operations.len()).filter(|n| taken & 1 << n == 0).collect();
        let ends_of = left.iter().filter_map(|n| operations[*n].answered.map(|(_, end)| end));
        let first_end = ends_of.min();
        for number in left {
            let Operation { request, begun, answered } = &operations[number];
            if first_end.is_some_and(|end| *begun > end) {
                continue;
            }
            let mut after = table.clone();
            let fresh = match answered {
                Some((Answer::Plan(_, ticket), _)) => *ticket,
                _ => Ticket::Unseen,
            };
            let answer = after.take(request, fresh);
            if answered.is_none_or(|(given, _)| given == answer) {
                let next = (taken | 1 << number, after);
                if seen.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
    }
    ends
}

/// Records so many meetings of clients at the real server, with a kill in some, and explains them.
pub fn record(
    folder: &std::path::Path,
    programs: Programs,
    meetings: usize,
    seed: u64,
) -> Result<Recorded> {
    let place = Place::new(folder, programs, ENTRIES, WANTED)?;
    place.hall.start()?;
    let store = place.store()?;
    let mut dice = Dice::new(seed);
    let mut possible = HashSet::from([Table::new(ENTRIES, WANTED)]);
    let known: Mutex<Vec<(Ticket, u64)>> = Mutex::default();
    let mut recorded = Recorded::default();
    for meeting in 0..meetings {
        let kill = dice.hits(20).then(|| Duration::from_micros(dice.below(15_000) as u64));
        let operations = meet(&place, &store, &known, &mut dice, kill)?;
        let ends = explain(&possible, &operations);
        ensure!(
            !ends.is_empty(),
            "meeting {meeting} with seed {seed}: no order explains {operations:#?}\nfrom one of \
             {possible:#?}"
        );
        recorded.note(&operations, &ends);
        let there = standings(&store)?;
        possible = ends.into_iter().filter(|table| Standings::of(table) == there).collect();
        if (meeting + 1).is_multiple_of(500) {
            say(&format!("{meeting}: {recorded:?}"));
        }
        ensure!(!possible.is_empty(), "meeting {meeting}: {operations:#?}\nleft {there:?}");
    }
    place.hall.stop()?;
    check_files(&store)?;
    Ok(recorded)
}

impl Recorded {
    fn note(&mut self, operations: &[Operation], ends: &HashSet<Table>) {
        self.requests += operations.len();
        self.unanswered += operations.iter().filter(|it| it.answered.is_none()).count();
        self.possible = self.possible.max(ends.len());
        let end = |it: &Operation| it.answered.map(|(_, end)| end);
        let pairs = operations.iter().enumerate().flat_map(|(number, one)| {
            operations[number + 1..].iter().filter(move |other| {
                let before = end(one).is_some_and(|end| end < other.begun);
                let after = end(other).is_some_and(|end| end < one.begun);
                !before && !after
            })
        });
        self.overlaps += pairs.count();
    }
}

/// Every client makes its requests; they go on once all have their answers.
fn meet(
    place: &Place,
    store: &Store,
    known: &Mutex<Vec<(Ticket, u64)>>,
    dice: &mut Dice,
    kill: Option<Duration>,
) -> Result<Vec<Operation>> {
    let seeds: Vec<u64> = (0..CLIENTS).map(|_| dice.below(1 << 30) as u64).collect();
    let operations = std::thread::scope(|scope| -> Result<Vec<Operation>> {
        let clients: Vec<_> = seeds
            .into_iter()
            .map(|seed| scope.spawn(move || client(place, store, known, Dice::new(seed))))
            .collect();
        if let Some(instant) = kill {
            std::thread::sleep(instant);
            place.hall.kill()?;
        }
        let mut operations = Vec::new();
        for client in clients {
            operations.extend(client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
        }
        Ok(operations)
    })?;
    if kill.is_some() {
        place.hall.start()?;
    }
    Ok(operations)
}

fn client(
    place: &Place,
    store: &Store,
    known: &Mutex<Vec<(Ticket, u64)>>,
    mut dice: Dice,
) -> Result<Vec<Operation>> {
    let mut operations = Vec::new();
    for _ in 0..TOGETHER {
        let request = some_request(known, &mut dice);
        let begun = Instant::now();
        let beside = matches!(request, Request::Operate(..)) || dice.hits(5);
        let answer = match beside {
            true => Some(place.decide(store, &request)?),
            false => place.ask(&request)?,
        };
        let answered = answer.map(|answer| (answer, Instant::now()));
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        match (&request, answer) {
            (_, Some(Answer::Plan(_, ticket))) => {
                known.retain(|(it, _)| *it != ticket);
                known.push((ticket, 0));
                if known.len() > 2 * usize::from(MACHINES) {
                    known.remove(0);
                }
            }
            (Request::Report(ticket, number, _), Some(Answer::Recorded)) => {
                for (_, next) in known.iter_mut().filter(|(it, _)| it == ticket) {
                    *next = (*next).max(number + 1);
                }
            }
            _ => {}
        }
        drop(known);
        operations.push(Operation { request, begun, answered });
    }
    Ok(operations)
}

fn some_request(known: &Mutex<Vec<(Ticket, u64)>>, dice: &mut Dice) -> Request {
    let nic = Nic::try_from(dice.below(usize::from(MACHINES))).unwrap_or(0);
    let tickets = known.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let upload = Request::Upload(Hardware { nics: vec![nic], serial: Some(nic), uuid: None });
    match dice.below(10) {
        0 => Request::Operate(nic, Command::Reinstall),
        1 => Request::Operate(nic, dice.pick(&[Command::Release, Command::Forget])),
        2 if !tickets.is_empty() => Request::Failure(dice.pick(&tickets).0),
        3..=5 if !tickets.is_empty() => {
            let (ticket, next) = dice.pick(&tickets);
            let news = [News::Harmless, News::Destructive, News::Installed, News::Failed];
            Request::Report(ticket, next, dice.pick(&news))
        }
        _ => upload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trials::shortly;

    /// A history in milliseconds: who, from, to, answer.
    fn history(of: &[(Request, u64, u64, Option<Answer>)]) -> Vec<Operation> {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        of.iter()
            .map(|(request, begun, end, answer)| Operation {
                request: request.clone(),
                begun: at(*begun),
                answered: answer.map(|answer| (answer, at(*end))),
            })
            .collect()
    }

    fn upload(nic: Nic) -> Request {
        Request::Upload(Hardware { nics: vec![nic], serial: None, uuid: None })
    }

    #[track_caller]
    fn check(operations: &[(Request, u64, u64, Option<Answer>)], expected: bool) {
        let starts = HashSet::from([Table::new(2, 2)]);
        assert_eq!(!explain(&starts, &history(operations)).is_empty(), expected);
    }

    #[test]
    fn the_search_tells_what_can_be_from_what_cannot() {
        let plan = |entry, ticket| Some(Answer::Plan(entry, Ticket::Seen(ticket)));
        let refused = Some(Answer::Refused(409));
        // They overlap: the second was first.
        check(&[(upload(1), 0, 9, plan(1, 1)), (upload(2), 1, 9, plan(0, 2))], true);
        // They do not.
        check(&[(upload(1), 0, 3, plan(1, 1)), (upload(2), 4, 9, plan(0, 2))], false);
        // One entry for two.
        check(&[(upload(1), 0, 9, plan(0, 1)), (upload(2), 1, 9, plan(0, 2))], false);
        // Another ticket without a reason.
        check(&[(upload(1), 0, 1, plan(0, 1)), (upload(1), 2, 3, plan(0, 2))], false);
        // Refused although there was something left.
        check(&[(upload(1), 0, 1, plan(0, 1)), (upload(2), 2, 3, refused)], false);
        // Not when two took something, and one of them was never told.
        let silent = (upload(3), 0, 0, None);
        check(&[(upload(1), 0, 1, plan(0, 1)), silent.clone(), (upload(2), 2, 3, refused)], true);
        // What nobody was told may be told later, and as nothing else.
        check(
            &[silent.clone(), (upload(1), 2, 3, plan(1, 1)), (upload(3), 4, 5, plan(0, 2))],
            true,
        );
        check(&[silent, (upload(1), 2, 3, plan(1, 1)), (upload(3), 4, 5, plan(1, 2))], false);
    }

    #[test]
    fn concurrent_requests_look_as_if_they_had_come_one_by_one() {
        let recorded = shortly(|folder, programs| record(folder, programs, 60, 1));
        assert!(recorded.overlaps > recorded.requests, "{recorded:?}");
    }
}
