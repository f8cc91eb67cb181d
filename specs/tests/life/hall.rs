//! A hall to test in: the files of a configuration, machines with facts, and a server that
//! decides, applies and keeps what it journaled.

use specs::event::{DiskState, Event};
use specs::facts::Facts;
use specs::fleet::{Answer, Change, Decision, File, Fresh, Refused, World};
use specs::machine::{Phase, Record, Seconds};
use specs::plan::Plan;
use specs::units::{Name, Token};

/// The lease of all tests, in seconds.
pub(crate) const LEASE: Seconds = 1800;

pub(crate) const SPECS: &str = "[
    ('disk', '$disk', 'size', 'gt(4)'),
    ('network', '$eth', 'serial', '$mac'),
]
";

pub(crate) const CMDB: &str = "[
 {'ip': '192.168.122.3', 'hostname': 'host03'},
 {'ip': '192.168.122.4', 'hostname': 'host04'},
 {'ip': '192.168.122.5', 'hostname': 'host05'}
]
";

pub(crate) const CONFIGURE: &str = r#"(
    role: (name: "mysql", version: "D7-F.1.0.0"),
    hostname: "{{ hostname }}",
    disks: [(device: "/dev/{{ disk }}", table: gpt, boot: auto, partitions: [
        (label: "root", size: "rest", use: filesystem(type: ext4, mount: "/")),
    ])],
)
"#;

/// Configures the same without a CMDB: named by the machine's own address.
pub(crate) const CONFIGURE_BY_MAC: &str = r#"(
    role: (name: "mysql", version: "D7-F.1.0.0"),
    hostname: "host-{{ mac | replace(':', '') }}",
    disks: [(device: "/dev/{{ disk }}", table: gpt, boot: auto, partitions: [
        (label: "root", size: "rest", use: filesystem(type: ext4, mount: "/")),
    ])],
)
"#;

pub(crate) struct Hall {
    pub(crate) world: World,
    pub(crate) now: Seconds,
    pub(crate) journal: Vec<Change>,
    fresh: u64,
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// The file that this name means.
pub(crate) fn file(text: &str) -> File {
    match text.rsplit_once('.') {
        Some((profile, "specs")) => File::Specs(name(profile)),
        Some((profile, "cmdb")) => File::Cmdb(name(profile)),
        Some((profile, "configure")) => File::Configure(name(profile)),
        _ => File::State,
    }
}

impl Hall {
    /// A hall with these files, by file name.
    pub(crate) fn new(files: &[(&str, &str)]) -> Hall {
        let mut hall = Hall { world: World::default(), now: 1_000_000, journal: vec![], fresh: 0 };
        for (name, text) in files {
            hall.edit(name, text);
        }
        hall
    }

    /// One profile `vm` with three entries and this state.
    pub(crate) fn of_vms(state: &str) -> Hall {
        Hall::new(&[
            ("state", state),
            ("vm.specs", SPECS),
            ("vm.cmdb", CMDB),
            ("vm.configure", CONFIGURE),
        ])
    }

    /// Someone saves a file, and the server reads it.
    pub(crate) fn edit(&mut self, name: &str, text: &str) -> Vec<String> {
        let file = file(name);
        if let Err(findings) = self.world.read(&file, Some(text.as_bytes())) {
            self.world.set_broken(&file, findings);
            return Vec::new();
        }
        match &file {
            File::Cmdb(profile) => {
                let decision = self.world.reconcile(profile, self.now);
                let warnings = decision.warnings.clone();
                self.commit(decision);
                warnings
            }
            _ => Vec::new(),
        }
    }

    pub(crate) fn fresh(&mut self) -> Fresh {
        self.fresh += 2;
        let token = |number: u64| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            Token::from_bytes(bytes)
        };
        Fresh { nonce: token(self.fresh), ticket: token(self.fresh + 1) }
    }

    /// Applies what was decided, through the form in which it is journaled.
    pub(crate) fn commit(&mut self, decision: Decision) -> Answer {
        for change in decision.changes {
            let line = serde_json::to_string(&change).unwrap();
            let read: Change = serde_json::from_str(&line).unwrap();
            assert_eq!(read, change, "a change survives the journal");
            self.world.apply(&read);
            self.journal.push(read);
        }
        decision.answer
    }

    pub(crate) fn upload(&mut self, facts: &Facts) -> Answer {
        let fresh = self.fresh();
        let decision = self.world.upload(facts, self.now, &fresh);
        self.commit(decision)
    }

    /// Uploads and expects a plan.
    #[track_caller]
    pub(crate) fn plan(&mut self, facts: &Facts) -> (Plan, Token) {
        match self.upload(facts) {
            Answer::Plan { plan, ticket, .. } => (*plan, ticket),
            other => panic!("expected a plan, not {other:?}"),
        }
    }

    /// Uploads and expects a refusal.
    #[track_caller]
    pub(crate) fn refusal(&mut self, facts: &Facts) -> Refused {
        match self.upload(facts) {
            Answer::Refused(refused) => refused,
            other => panic!("expected a refusal, not {other:?}"),
        }
    }

    pub(crate) fn report(&mut self, ticket: &Token, events: &[Event]) -> Answer {
        let record = self.world.census.by_ticket(ticket);
        let next = record.and_then(|record| record.assignment).map_or(0, |it| it.next_event);
        let decision = self.world.events(ticket, next, events, self.now);
        self.commit(decision)
    }

    pub(crate) fn expire(&mut self) {
        if let Some(decision) = self.world.expire(self.now, LEASE) {
            self.commit(decision);
        }
    }

    pub(crate) fn operate(&mut self, act: impl FnOnce(&World, Seconds) -> Decision) -> Answer {
        let decision = act(&self.world, self.now);
        self.commit(decision)
    }

    #[track_caller]
    pub(crate) fn record(&self, selector: &str) -> Record {
        match &self.world.census.find(selector)[..] {
            [record] => record.clone(),
            found => panic!("`{selector}` means {} machines", found.len()),
        }
    }

    #[track_caller]
    pub(crate) fn id(&self, selector: &str) -> Name {
        self.record(selector).id.clone()
    }

    #[track_caller]
    pub(crate) fn phase(&self, selector: &str) -> Phase {
        self.record(selector).phase
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.world.text(&file(name)).unwrap()
    }

    /// `state` without its layout: `vm=3`.
    pub(crate) fn counts(&self) -> String {
        let state = self.world.state.good().unwrap();
        let counts: Vec<String> =
            state.profiles().map(|(profile, count)| format!("{profile}={count}")).collect();
        counts.join(" ")
    }
}

/// A machine with one disk and one NIC.
pub(crate) fn machine(mac: &str, serial: &str) -> Facts {
    machine_with(&[mac], serial, "")
}

/// A machine with one disk, several NICs, a serial number and a UUID.
pub(crate) fn machine_with(macs: &[&str], serial: &str, uuid: &str) -> Facts {
    let mut facts = Facts::default();
    facts.push("disk", "vda", "size", 10);
    facts.push("disk", "vda", "bytes", 10_737_418_240);
    for (number, mac) in macs.iter().enumerate() {
        facts.push("network", &format!("eth{number}"), "serial", *mac);
    }
    facts.push("system", "product", "name", "Box");
    facts.push("system", "product", "serial", serial);
    facts.push("system", "product", "uuid", uuid);
    facts
}

/// The MAC address of machine number `number`.
pub(crate) fn mac(number: usize) -> String {
    format!("52:54:00:00:{:02x}:{:02x}", number / 256, number % 256)
}

pub(crate) fn destructive() -> Event {
    Event::StepStarted { step: "clear /dev/vda".to_owned(), destructive: true }
}

pub(crate) fn harmless() -> Event {
    Event::StepStarted { step: "detect".to_owned(), destructive: false }
}

pub(crate) fn installed() -> Event {
    Event::Installed { seconds: 61.5 }
}

pub(crate) fn failed() -> Event {
    Event::Failed {
        step: "tree".to_owned(),
        error: "connection refused".to_owned(),
        disks: DiskState::Cleared,
    }
}
