//! The life of machines (the table of design 5a) as a model: one profile, entries known by their
//! number, machines known by their NICs. It is written from the table and shares no code with the
//! server, small enough to be read beside it, and can be cloned and compared, so that a search
//! may try one order of requests and then another.

use specs::machine::Phase;

/// A NIC: the number in its MAC address.
pub type Nic = u16;

/// A ticket: which of those that were seen; what a lost reply held is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ticket {
    /// It stood in a reply that nobody read.
    Unseen,
    /// By the order in which they were seen.
    Seen(u32),
}

/// What tells a machine from others, as it uploads it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hardware {
    /// Its NICs, in the order of the facts.
    pub nics: Vec<Nic>,
    /// Serial number, when it has a real one.
    pub serial: Option<u16>,
    /// System UUID, when it has one.
    pub uuid: Option<u16>,
}

/// What a machine tells of its installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum News {
    /// It works, and has destroyed nothing.
    Harmless,
    /// A destructive step begins.
    Destructive,
    /// The good final report.
    Installed,
    /// The bad final report.
    Failed,
}

/// What an operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Install it once more.
    Reinstall,
    /// Take back what it holds.
    Release,
    /// Take back what it holds and forget it.
    Forget,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Request {
    /// A machine asks.
    Upload(Hardware),
    /// A machine reports; the number is that of the event within its ticket.
    Report(Ticket, u64, News),
    /// `failure=<profile>`.
    Failure(Ticket),
    /// An operator's command for the machine that has this NIC.
    Operate(Nic, Command),
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// A plan for this entry.
    Plan(usize, Ticket),
    /// Boot your disk: installed from this entry.
    Installed(usize),
    /// The report was taken.
    Recorded,
    /// The command was carried out.
    Done,
    /// Refused with this status.
    Refused(u16),
}

/// One machine on record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row {
    /// The NICs it showed last.
    pub nics: Vec<Nic>,
    /// Those it showed earlier, the last first.
    pub former: Vec<Nic>,
    /// Its serial number.
    pub serial: Option<u16>,
    /// Its UUID.
    pub uuid: Option<u16>,
    /// Where it stands.
    pub phase: Phase,
    /// The entry that is its own.
    pub entry: Option<usize>,
    /// The entry that it gave back, wanted again.
    pub last: Option<usize>,
    /// Whether one is taken from the count for it.
    pub counted: bool,
    /// Whether something on it has been destroyed since it got its entry.
    pub destroying: bool,
    ticket: Option<Ticket>,
    next_event: u64,
    heard: u64,
}

/// How many waits a lease outlasts.
pub const LEASE: u64 = 6;

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Table {
    /// The machines, in order.
    pub rows: Vec<Row>,
    /// How many more are wanted.
    pub left: i64,
    entries: usize,
    clock: u64,
}

/// Whom the table takes an upload for.
enum Who {
    New,
    Known(usize),
    Twin,
}

impl Row {
    fn new(hardware: &Hardware) -> Row {
        Row {
            nics: hardware.nics.clone(),
            former: Vec::new(),
            serial: hardware.serial,
            uuid: hardware.uuid,
            phase: Phase::Unmatched,
            entry: None,
            last: None,
            counted: false,
            destroying: false,
            ticket: None,
            next_event: 0,
            heard: 0,
        }
    }

    /// Serials decide; without both, UUIDs.
    fn contradicts(&self, hardware: &Hardware) -> bool {
        match (self.serial.zip(hardware.serial), self.uuid.zip(hardware.uuid)) {
            (Some((one, other)), _) | (None, Some((one, other))) => one != other,
            (None, None) => false,
        }
    }

    fn shows_one_of(&self, nics: &[Nic]) -> bool {
        self.nics.iter().any(|nic| nics.contains(nic))
    }

    fn take_over(&mut self, hardware: &Hardware) {
        let mut former = Vec::new();
        for nic in self.nics.drain(..).chain(self.former.drain(..)) {
            if !hardware.nics.contains(&nic) && !former.contains(&nic) {
                former.push(nic);
            }
        }
        self.nics = hardware.nics.clone();
        self.former = former;
        self.serial = hardware.serial.or(self.serial);
        self.uuid = hardware.uuid.or(self.uuid);
    }

    fn holds_something(&self) -> bool {
        self.ticket.is_some()
    }

    fn gave_everything_back(&self) -> bool {
        self.phase == Phase::Failed && self.entry.is_none()
    }
}

impl Table {
    /// Nobody is known; there are so many entries, and so many machines are wanted.
    pub fn new(entries: usize, left: i64) -> Table {
        Table { rows: Vec::new(), left, entries, clock: 0 }
    }

    /// What has to be answered, and is true from now on. `fresh` is the ticket that a new plan
    /// gets.
    pub fn take(&mut self, request: &Request, fresh: Ticket) -> Answer {
        let answer = match request {
            Request::Upload(hardware) => self.upload(hardware, fresh),
            Request::Report(ticket, number, news) => self.report(*ticket, *number, *news),
            Request::Failure(ticket) => self.failure(*ticket),
            Request::Operate(nic, command) => self.operate(*nic, *command),
        };
        self.rows.sort();
        answer
    }

    /// Time goes by: whoever is silent for longer than the lease has failed.
    pub fn wait(&mut self, long: u64) {
        self.clock += long;
        for number in 0..self.rows.len() {
            let row = &self.rows[number];
            if row.phase.is_leased() && self.clock - row.heard > LEASE {
                self.fail(number);
            }
        }
        self.rows.sort();
    }

    /// The machine that shows this NIC.
    pub fn owner(&self, nic: Nic) -> Option<&Row> {
        self.rows.iter().find(|row| row.nics.contains(&nic))
    }

    fn upload(&mut self, hardware: &Hardware, fresh: Ticket) -> Answer {
        let number = match self.identify(hardware) {
            Who::Twin => return Answer::Refused(409),
            Who::Known(number) => {
                self.rows[number].take_over(hardware);
                number
            }
            Who::New => {
                self.rows.push(Row::new(hardware));
                self.rows.len() - 1
            }
        };
        for (other, row) in self.rows.iter_mut().enumerate() {
            if other != number {
                row.former.retain(|nic| !hardware.nics.contains(nic));
            }
        }
        match (self.rows[number].phase, self.rows[number].entry) {
            (Phase::Installed, Some(entry)) => Answer::Installed(entry),
            _ => self.give(number, fresh),
        }
    }

    fn identify(&self, hardware: &Hardware) -> Who {
        let all = || self.rows.iter().enumerate();
        let sharing: Vec<usize> =
            all().filter(|(_, row)| row.shows_one_of(&hardware.nics)).map(|(n, _)| n).collect();
        match sharing[..] {
            [one] if self.rows[one].contradicts(hardware) => Who::Twin,
            [one] => Who::Known(one),
            [_, _, ..] => Who::Twin,
            [] => {
                let formerly = |row: &Row| row.former.iter().any(|n| hardware.nics.contains(n));
                let earlier: Vec<usize> = all()
                    .filter(|(_, row)| formerly(row) && !row.contradicts(hardware))
                    .map(|(n, _)| n)
                    .collect();
                match earlier[..] {
                    [] => Who::New,
                    [one] => Who::Known(one),
                    _ => Who::Twin,
                }
            }
        }
    }

    fn give(&mut self, number: usize, fresh: Ticket) -> Answer {
        let is_free = |entry: usize| !self.rows.iter().any(|row| row.entry == Some(entry));
        let row = &self.rows[number];
        let wanted = row
            .entry
            .or_else(|| row.last.filter(|last| is_free(*last)))
            .or_else(|| (0..self.entries).find(|entry| is_free(*entry)));
        let Some(entry) = wanted.filter(|_| row.counted || self.left > 0) else {
            return Answer::Refused(409);
        };
        let row = &mut self.rows[number];
        let earlier = row.ticket;
        let nothing_done = row.phase == Phase::Leased && row.next_event == 0;
        let ticket = match earlier {
            Some(Ticket::Seen(seen)) if nothing_done => Ticket::Seen(seen),
            // What nobody read is read now.
            Some(Ticket::Unseen) | None => fresh,
            // One that was given out before is no new one: no answer agrees with this.
            Some(old) if old == fresh => Ticket::Unseen,
            Some(_) => fresh,
        };
        self.left -= i64::from(!row.counted);
        row.counted = true;
        row.entry = Some(entry);
        row.last = None;
        row.ticket = Some(ticket);
        row.next_event = 0;
        row.phase = Phase::Leased;
        row.heard = self.clock;
        Answer::Plan(entry, ticket)
    }

    fn by_ticket(&self, ticket: Ticket) -> Option<usize> {
        let known = ticket != Ticket::Unseen;
        self.rows.iter().position(|row| known && row.ticket == Some(ticket))
    }

    fn report(&mut self, ticket: Ticket, event: u64, news: News) -> Answer {
        let Some(number) = self.by_ticket(ticket) else { return Answer::Refused(409) };
        let row = &mut self.rows[number];
        if row.gave_everything_back() {
            return Answer::Refused(409);
        }
        let known_already = row.next_event > event;
        row.next_event = row.next_event.max(event + 1);
        row.heard = self.clock;
        if known_already || matches!(row.phase, Phase::Installed | Phase::Armed) {
            return Answer::Recorded;
        }
        if row.phase == Phase::Failed && news != News::Failed {
            // Taken for dead, and it is alive.
            row.phase = Phase::Installing;
            if !row.counted && self.left > 0 {
                row.counted = true;
                self.left -= 1;
            }
        }
        match news {
            News::Harmless => {}
            News::Destructive => {
                row.destroying = true;
                row.phase = Phase::Installing;
            }
            News::Installed => {
                row.destroying = true;
                row.phase = Phase::Installed;
            }
            News::Failed if row.phase == Phase::Failed => {}
            News::Failed => self.fail(number),
        }
        Answer::Recorded
    }

    fn failure(&mut self, ticket: Ticket) -> Answer {
        let Some(number) = self.by_ticket(ticket) else { return Answer::Refused(409) };
        if self.rows[number].phase.is_leased() {
            self.fail(number);
        }
        Answer::Recorded
    }

    fn fail(&mut self, number: usize) {
        let row = &mut self.rows[number];
        self.left += i64::from(std::mem::take(&mut row.counted));
        row.phase = Phase::Failed;
        if !row.destroying {
            row.last = row.entry.take();
        }
    }

    fn operate(&mut self, nic: Nic, command: Command) -> Answer {
        let Some(number) = self.rows.iter().position(|row| row.nics.contains(&nic)) else {
            return Answer::Refused(404);
        };
        let row = &mut self.rows[number];
        match command {
            Command::Reinstall => match row.phase {
                Phase::Installed => row.phase = Phase::Armed,
                Phase::Unmatched | Phase::Released => return Answer::Refused(409),
                Phase::Leased | Phase::Installing | Phase::Failed | Phase::Armed => {}
            },
            Command::Release if !row.holds_something() => return Answer::Refused(409),
            Command::Release | Command::Forget => {
                self.left += i64::from(row.counted);
                *row = Row {
                    phase: Phase::Released,
                    entry: None,
                    last: None,
                    counted: false,
                    destroying: false,
                    ticket: None,
                    ..row.clone()
                };
                if command == Command::Forget {
                    self.rows.remove(number);
                }
            }
        }
        Answer::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(nic: Nic) -> Request {
        Request::Upload(Hardware { nics: vec![nic], serial: None, uuid: None })
    }

    #[test]
    fn a_life_by_the_table() {
        let mut table = Table::new(1, 1);
        let [one, two] = [1, 2].map(Ticket::Seen);
        assert_eq!(table.take(&machine(1), one), Answer::Plan(0, one));
        assert_eq!(table.take(&machine(1), one), Answer::Plan(0, one), "the same answer");
        assert_eq!(table.take(&machine(2), two), Answer::Refused(409));
        assert_eq!(table.take(&Request::Report(one, 0, News::Destructive), two), Answer::Recorded);
        assert_eq!(table.take(&Request::Report(one, 1, News::Installed), two), Answer::Recorded);
        assert_eq!(table.take(&machine(1), two), Answer::Installed(0));
        assert_eq!(table.take(&Request::Operate(1, Command::Release), two), Answer::Done);
        assert_eq!(table.left, 1);
        assert_eq!(table.take(&machine(2), two), Answer::Plan(0, two));
        table.wait(LEASE);
        assert_eq!(table.left, 0);
        table.wait(1);
        assert_eq!((table.left, table.owner(2).unwrap().phase), (1, Phase::Failed));
    }

    #[test]
    fn a_ticket_that_comes_back_is_told_from_a_new_one() {
        let mut table = Table::new(1, 1);
        let ticket = Ticket::Seen(7);
        assert_eq!(table.take(&machine(1), Ticket::Unseen), Answer::Plan(0, Ticket::Unseen));
        assert_eq!(table.take(&machine(1), ticket), Answer::Plan(0, ticket), "seen at last");
        table.take(&Request::Report(ticket, 0, News::Harmless), ticket);
        assert_ne!(table.take(&machine(1), ticket), Answer::Plan(0, ticket), "it has to be new");
    }
}
