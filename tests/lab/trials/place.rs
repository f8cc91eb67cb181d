//! Where a trial takes place: a small deployment, the real server before it, the real store beside
//! it as the command line has it; and how requests of the model are put to either.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use server::admin::commands::{Change, carry_out};
use server::settings::Settings;
use server::store::Store;
use specs::cmdb::Cmdb;
use specs::event::{DiskState, Event};
use specs::facts::Facts;
use specs::fleet::{self, World};
use specs::machine::{Phase, Record};
use specs::state::{Count, State};
use specs::units::{Name, Token};

use super::table::{Answer, Command, Hardware, News, Nic, Request, Row, Table, Ticket};
use crate::storm::client::{self, Door};
use crate::storm::fleet::{rack, specs};
use crate::storm::hall::{Front, Hall, Programs, Size, profile_name};

/// Longer than any trial takes: leases run out when [`Place::pass_time`] says so.
const LEASE_SECONDS: u64 = 1_000_000;
/// One wait of the model: six are within a lease, seven are not.
const WAIT_SECONDS: u64 = 150_000;

/// A deployment with one profile, and who talks to it.
#[derive(Debug)]
pub struct Place {
    /// The deployment.
    pub hall: Hall,
    door: Door,
    tickets: Mutex<Tickets>,
}

/// Tickets in the order in which they were seen.
#[derive(Debug, Default)]
struct Tickets {
    numbers: BTreeMap<String, u32>,
    texts: Vec<String>,
}

/// What is on record of one machine, as model and store both tell it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Standing {
    nics: Vec<Nic>,
    former: Vec<Nic>,
    numbers: (Option<u16>, Option<u16>),
    phase: Phase,
    entry: Option<usize>,
    counted: bool,
}

/// What is on record in all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Standings {
    /// How many more are wanted.
    pub left: i64,
    /// The machines, in order.
    pub machines: Vec<Standing>,
}

impl Place {
    /// A deployment below `folder`; nothing runs yet.
    pub fn new(folder: &Path, programs: Programs, entries: usize, left: i64) -> Result<Place> {
        let size = Size { profiles: 1, entries };
        let hall = Hall::new(folder, size, Front::Serve, programs)?;
        std::fs::write(folder.join("config/state"), format!("[(\"{}\", {left})]\n", profile()))?;
        std::fs::write(folder.join("config/kind0.specs"), specs(0))?;
        let settings = std::fs::read_to_string(hall.configuration())?;
        let settings = format!("{settings}LEASE={LEASE_SECONDS}s\n");
        std::fs::write(hall.configuration(), settings)?;
        let door = hall.door();
        Ok(Place { hall, door, tickets: Mutex::default() })
    }

    /// The store, as another process opens it.
    pub fn store(&self) -> Result<Store> {
        store(&self.hall.configuration())
    }

    /// Where machines send to.
    pub fn door(&self) -> &Door {
        &self.door
    }

    /// Puts a request of a machine to the server; `None` when it went away meanwhile.
    pub fn ask(&self, request: &Request) -> Result<Option<Answer>> {
        let bytes = match request {
            Request::Upload(hardware) => self.door.upload_request(&facts_json(hardware)?),
            Request::Report(ticket, number, news) => {
                let events = json!([event(*news)]);
                self.door.events_request(&"0".repeat(32), &self.token(*ticket), *number, &events)
            }
            Request::Failure(ticket) => self.door.form_request(&[
                ("file", Some("hw.json"), "[]"),
                ("failure", None, profile().as_str()),
                ("ticket", None, &self.token(*ticket)),
            ]),
            Request::Operate(..) => bail!("operators do not ask over the network"),
        };
        self.door.send(&bytes).map(|answer| self.heard(&answer)).transpose()
    }

    fn heard(&self, answer: &client::Answer) -> Result<Answer> {
        let body = answer.json();
        let hostname = |value: &Value| value["hostname"].as_str().map(entry_of);
        let plan = &body["plan"];
        if answer.status != 200 {
            return Ok(Answer::Refused(answer.status));
        }
        if let (Some(entry), Some(ticket)) = (hostname(&plan["plan"]), plan["ticket"].as_str()) {
            return Ok(Answer::Plan(entry?, self.ticket(ticket)));
        }
        match hostname(&body["installed"]) {
            Some(entry) => Ok(Answer::Installed(entry?)),
            None => Ok(Answer::Recorded),
        }
    }

    /// Puts a request to the store itself, as another process than the server does.
    pub fn decide(&self, store: &Store, request: &Request) -> Result<Answer> {
        let decided = match request {
            Request::Upload(hardware) => {
                let facts = facts(hardware);
                store.transact(move |world, now, fresh| world.upload(&facts, now, fresh))
            }
            Request::Report(ticket, number, news) => {
                let (ticket, number, news) = (self.token(*ticket).parse()?, *number, event(*news));
                store.transact(move |world, now, _| world.events(&ticket, number, &[news], now))
            }
            Request::Failure(ticket) => {
                let ticket: Token = self.token(*ticket).parse()?;
                store.transact(move |world, now, _| world.failure(&ticket, profile().as_str(), now))
            }
            Request::Operate(nic, command) => return operate(store, *nic, *command),
        };
        Ok(match decided?.answer {
            fleet::Answer::Plan { plan, ticket, .. } => {
                Answer::Plan(entry_of(&plan.hostname)?, self.ticket(ticket.as_str()))
            }
            fleet::Answer::Installed { hostname, .. } => Answer::Installed(entry_of(&hostname)?),
            fleet::Answer::Recorded { .. } => Answer::Recorded,
            fleet::Answer::Done(_) => Answer::Done,
            fleet::Answer::Refused(refused) => Answer::Refused(refused.status),
        })
    }

    /// Lets a time pass for everyone: as if each had last been heard of so much earlier. Whoever
    /// takes the lock next finds the leases that have run out.
    pub fn pass_time(&self, store: &Store, waits: u64) -> Result<()> {
        store.transact(move |world, _, _| {
            let earlier = |record: Record| {
                let heard = record.heard.saturating_sub(waits * WAIT_SECONDS);
                let record = Box::new(Record { heard, ..record });
                fleet::Change::Record { record }
            };
            let leased = world.census.records().filter(|record| record.phase.is_leased());
            fleet::Decision {
                answer: fleet::Answer::Done(String::new()),
                changes: leased.map(earlier).collect(),
                warnings: Vec::new(),
                durable: true,
            }
        })?;
        Ok(())
    }

    /// The number of a ticket, a new one when it was never seen.
    pub fn ticket(&self, text: &str) -> Ticket {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let Tickets { numbers, texts } = &mut *tickets;
        let number = *numbers.entry(text.to_owned()).or_insert_with(|| {
            texts.push(text.to_owned());
            u32::try_from(texts.len() - 1).unwrap_or(u32::MAX)
        });
        Ticket::Seen(number)
    }

    /// What a ticket says; for those that were never seen, one that nobody has.
    fn token(&self, ticket: Ticket) -> String {
        let tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = match ticket {
            Ticket::Seen(number) => tickets.texts.get(number as usize).cloned(),
            Ticket::Unseen => None,
        };
        seen.unwrap_or_else(|| "0".repeat(32))
    }
}

impl Standings {
    /// What the model says.
    pub fn of(table: &Table) -> Standings {
        let machine = |row: &Row| Standing {
            nics: row.nics.clone(),
            former: row.former.clone(),
            numbers: (row.serial, row.uuid),
            phase: row.phase,
            entry: row.entry,
            counted: row.counted,
        };
        let machines: BTreeSet<Standing> = table.rows.iter().map(machine).collect();
        Standings { left: table.left, machines: machines.into_iter().collect() }
    }

    /// Phase and entry of the machine that shows a NIC.
    pub fn of_nic(&self, nic: Nic) -> Option<(Phase, Option<usize>)> {
        let machine = self.machines.iter().find(|it| it.nics.contains(&nic))?;
        Some((machine.phase, machine.entry))
    }

    /// How many machines are counted.
    pub fn counted(&self) -> usize {
        self.machines.iter().filter(|machine| machine.counted).count()
    }
}

/// The store of the deployment with this edeploy.conf.
pub fn store(configuration: &Path) -> Result<Store> {
    let settings = Settings::read(configuration)?;
    Ok(Store::new(settings.section("SERVER").context("no section")?.clone()))
}

/// What is on record, entries and count compared with it.
pub fn standings(store: &Store) -> Result<Standings> {
    store.look(|world| {
        let machines: Result<BTreeSet<Standing>> =
            world.census.records().map(|record| standing_of(&record)).collect();
        let standings = Standings {
            left: count(world.state.good())?,
            machines: machines?.into_iter().collect(),
        };
        ensure!(
            standings.machines.len() == world.census.records().count(),
            "two records are the same"
        );
        let cmdb = world.cmdb(&profile()).context("no CMDB")?;
        check_used(&standings, cmdb)?;
        check_holders(world)?;
        Ok(standings)
    })?
}

/// Brings the readable files up to date and compares them with what is on record.
pub fn check_files(store: &Store) -> Result<Standings> {
    store.sync()?;
    let standings = standings(store)?;
    let folder = &store.section().config_dir;
    let read = |name: &str| std::fs::read_to_string(folder.join(name));
    let findings = |found: Vec<specs::diagnostic::Diagnostic>| {
        anyhow::anyhow!("{}", found.first().map(|it| it.one_line()).unwrap_or_default())
    };
    let state = State::parse("state", &read("state")?).map_err(findings)?;
    ensure!(count(Some(&state))? == standings.left, "`state` says something else");
    let name = format!("{}.cmdb", profile());
    let cmdb = Cmdb::parse(&name, &read(&name)?, &BTreeSet::new()).map_err(findings)?;
    check_used(&standings, &cmdb)?;
    Ok(standings)
}

/// The name of the one profile.
pub fn profile() -> Name {
    profile_name(0).parse().unwrap_or_else(|_| unreachable!("`kind0` is a name"))
}

/// The address of a NIC.
pub fn mac(nic: Nic) -> String {
    let [high, low] = nic.to_be_bytes();
    format!("52:54:00:00:{high:02x}:{low:02x}")
}

/// The facts of a machine with this hardware.
pub fn facts(hardware: &Hardware) -> Facts {
    let mut facts = Facts::default();
    facts.push("disk", "vda", "size", 128);
    for (number, nic) in hardware.nics.iter().enumerate() {
        facts.push("network", &format!("eth{number}"), "serial", mac(*nic));
    }
    facts.push("system", "product", "name", "Trial");
    if let Some(serial) = hardware.serial {
        facts.push("system", "product", "serial", format!("serial-{serial}"));
    }
    if let Some(uuid) = hardware.uuid {
        facts.push("system", "product", "uuid", format!("6f1a2b3c-0000-4000-8000-{uuid:012}"));
    }
    facts.push("system", "rack", "name", rack(0));
    facts
}

/// The same as it is uploaded.
pub fn facts_json(hardware: &Hardware) -> Result<String> {
    Ok(serde_json::to_string(&facts(hardware))?)
}

/// The event that tells this.
pub fn event(news: News) -> Event {
    let step = |destructive| Event::StepStarted { step: "a step".to_owned(), destructive };
    match news {
        News::Harmless => step(false),
        News::Destructive => step(true),
        News::Installed => Event::Installed { seconds: 61.5 },
        News::Failed => Event::Failed {
            step: "tree".to_owned(),
            error: "connection refused".to_owned(),
            disks: DiskState::Unknown,
        },
    }
}

fn operate(store: &Store, nic: Nic, command: Command) -> Result<Answer> {
    let address = mac(nic);
    let shows_it = |record: &Record| record.identity.macs.iter().any(|it| it.as_str() == address);
    let found = store
        .look(|world| world.census.records().find(shows_it).map(|record| record.id.clone()))?;
    let Some(id) = found else { return Ok(Answer::Refused(404)) };
    let change = match command {
        Command::Reinstall => Change::Reinstall,
        Command::Release => Change::Release,
        Command::Forget => Change::Forget,
    };
    Ok(match carry_out(store, &id, change)? {
        Ok(_) => Answer::Done,
        Err(refused) => Answer::Refused(refused.status),
    })
}

fn entry_of(hostname: &str) -> Result<usize> {
    let number = hostname.rsplit('-').next().unwrap_or_default();
    number.parse().with_context(|| format!("`{hostname}` is the name of no entry"))
}

fn standing_of(record: &Record) -> Result<Standing> {
    let nic = |mac: &specs::units::Mac| -> Result<Nic> {
        let digits: String = mac.as_str().chars().filter(|c| *c != ':').collect();
        Ok(Nic::from_str_radix(&digits[8..], 16)?)
    };
    let number = |text: &Option<String>| -> Result<Option<u16>> {
        let last = text.as_ref().and_then(|text| text.rsplit('-').next());
        Ok(last.map(str::parse).transpose()?)
    };
    let identity = &record.identity;
    Ok(Standing {
        nics: identity.macs.iter().map(nic).collect::<Result<_>>()?,
        former: identity.former_macs.iter().map(nic).collect::<Result<_>>()?,
        numbers: (number(&identity.serial)?, number(&identity.uuid)?),
        phase: record.phase,
        entry: record.bound_entry().map(|(_, holding)| holding.position),
        counted: record.assignment.as_ref().is_some_and(|assignment| assignment.counted),
    })
}

fn count(state: Option<&State>) -> Result<i64> {
    match state.context("no `state`")?.count(&profile()) {
        Some(Count::Left(left)) => Ok(left),
        other => bail!("the count is {other:?}"),
    }
}

/// The entries that are marked used are those that machines hold.
fn check_used(standings: &Standings, cmdb: &Cmdb) -> Result<()> {
    let held: Vec<usize> = standings.machines.iter().filter_map(|it| it.entry).collect();
    let different: BTreeSet<usize> = held.iter().copied().collect();
    ensure!(different.len() == held.len(), "an entry belongs to two machines: {standings:?}");
    let used = cmdb.entries().enumerate().filter(|(_, entry)| entry.is_used());
    let used: BTreeSet<usize> = used.map(|(position, _)| position).collect();
    ensure!(used == different, "{used:?} are marked used, {different:?} are held");
    Ok(())
}

/// Every entry that is held reads as its holder's record says.
fn check_holders(world: &World) -> Result<()> {
    for record in world.census.records() {
        let Some((profile, holding)) = record.bound_entry() else { continue };
        let entry = world.cmdb(profile).and_then(|cmdb| cmdb.entry(holding.position));
        let id = &record.id;
        ensure!(
            entry.as_ref() == Some(&holding.after),
            "{id} holds {holding:?}, there is {entry:?}"
        );
    }
    Ok(())
}
