//! Every sample profile on every kind of machine it is meant for: its spec list matched, its
//! CMDB asked, and the plan compared with the one it gave last: what a person would read, and every file that would be written.
//!
//! `UPDATE_EXPECT=1 cargo test -p specs --test golden` accepts new plans; the diff is the review.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "the ban on I/O is for the crate, not its tests")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use expect_test::expect_file;
use specs::catalog::lookup_keys;
use specs::cmdb::{Choice, Claimant, Cmdb};
use specs::configure::Configure;
use specs::facts::Facts;
use specs::lang::Spec;
use specs::matching::Matcher;
use specs::plan::build::{Inputs, plan};
use specs::plan::lint::lint;
use specs::plan::{Action, Plan};
use specs::state::State;
use specs::units::Token;
use specs::value::Variables;
use specs::wire::{ron_options, to_ron};

/// One sample profile on one machine.
struct Case {
    /// The CONFIGDIR below `specs/`.
    directory: &'static str,
    profile: &'static str,
    firmware: &'static str,
    /// Name, size in GiB, logical sector size.
    disks: &'static [(&'static str, i64, i64)],
}

const CASES: &[Case] = &[
    Case { directory: "profiles", profile: "vm", firmware: "bios", disks: &[("vda", 10, 512)] },
    Case {
        directory: "profiles",
        profile: "vm",
        firmware: "uefi",
        disks: &[("vda", 10, 512), ("vdb", 20, 512)],
    },
    Case { directory: "profiles", profile: "vm", firmware: "uefi", disks: &[("vda", 10, 4096)] },
    Case {
        directory: "profiles/examples",
        profile: "storage",
        firmware: "bios",
        disks: &[("sda", 16, 512), ("sdb", 100, 512), ("sdc", 100, 512)],
    },
    Case {
        directory: "profiles/examples",
        profile: "storage",
        firmware: "uefi",
        disks: &[("sda", 16, 512), ("sdb", 8000, 4096), ("sdc", 8000, 4096)],
    },
    Case {
        directory: "profiles/examples",
        profile: "web",
        firmware: "bios",
        disks: &[("nvme0n1", 64, 512)],
    },
    Case {
        directory: "profiles/examples",
        profile: "web",
        firmware: "uefi",
        disks: &[("nvme0n1", 64, 4096)],
    },
    Case {
        directory: "profiles/examples",
        profile: "legacy",
        firmware: "bios",
        disks: &[("sda", 4, 512)],
    },
    Case {
        directory: "profiles/examples",
        profile: "legacy",
        firmware: "bios",
        disks: &[("mmcblk0", 4, 512)],
    },
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

impl Case {
    /// `vm-uefi-vda-4096`: the profile, the firmware and the first disk.
    fn name(&self) -> String {
        let disks: Vec<String> =
            self.disks.iter().map(|(name, _, sector)| format!("{name}-{sector}")).collect();
        format!("{}-{}-{}", self.profile, self.firmware, disks.join("-"))
    }

    fn facts(&self) -> Facts {
        let mut facts = Facts::default();
        facts.push("system", "firmware", "type", self.firmware);
        for (name, gib, sector) in self.disks {
            facts.push("disk", name, "size", (gib << 30) / 1_000_000_000);
            facts.push("disk", name, "bytes", gib << 30);
            facts.push("disk", name, "logical_block_size", *sector);
            facts.push("disk", name, "serial", format!("S-{name}"));
        }
        facts.push("network", "eth0", "ipv4", "10.0.2.15");
        facts.push("network", "eth0", "serial", "52:54:00:00:00:01");
        facts.push("system", "product", "serial", "LEGACY1");
        facts
    }

    fn read(&self, file: &str) -> String {
        let path = root().join(self.directory).join(file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// What the profile's spec list binds on this machine, with the entry its CMDB gives.
    fn variables(&self) -> Variables {
        let (specs, cmdb) = (format!("{}.specs", self.profile), format!("{}.cmdb", self.profile));
        let spec = Spec::parse(&specs, &self.read(&specs)).unwrap();
        let found = Matcher::new(&self.facts())
            .find(&spec)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name()));
        let cmdb = Cmdb::parse(&cmdb, &self.read(&cmdb), &lookup_keys(&spec)).unwrap();
        let nobody =
            Claimant { holder: Box::new(|_| None), machine: None, identifies: Box::new(|_| false) };
        let Choice::Entry(position) = cmdb.choose(&found.cmdb_variables, &found.variables, &nobody)
        else {
            panic!("{} gives no entry", self.profile);
        };
        cmdb.entry(position).unwrap().bound_to(&found.variables).variables()
    }

    fn configure(&self) -> Configure {
        let file = format!("{}.configure", self.profile);
        Configure::parse(&file, &self.read(&file))
            .unwrap_or_else(|findings| panic!("{findings:#?}"))
    }

    fn plan(&self) -> Plan {
        let configure = self.configure();
        let scripts: BTreeMap<String, String> = configure
            .scripts()
            .into_iter()
            .map(|name| (name.to_owned(), self.read(name)))
            .collect();
        let inputs = Inputs {
            facts: &self.facts(),
            variables: &self.variables(),
            profile: &self.profile.parse().unwrap(),
            nonce: &Token::from_bytes([7; 16]),
            secrets: &[],
            scripts: &scripts,
        };
        plan(&configure, &inputs).unwrap_or_else(|error| panic!("{}: {error}", self.name()))
    }
}

/// The description and every file, as a person would review them.
fn review(plan: &Plan) -> String {
    let mut text = plan.to_string();
    for step in &plan.steps {
        if let Action::WriteFile { file } = &step.action {
            let _ = write!(text, "\n== {} {:04o}\n{}", file.path, file.mode, file.content);
        }
    }
    text
}

#[test]
fn every_sample_gives_the_plan_it_gave() {
    for case in CASES {
        let golden = root().join(format!("tests/golden/{}.txt", case.name()));
        expect_file![golden].assert_eq(&review(&case.plan()));
    }
}

#[test]
fn the_whole_plan_of_the_lab_is_what_it_was() {
    expect_file![root().join("tests/golden/vm-bios.ron")]
        .assert_eq(&to_ron(&CASES[0].plan()).unwrap());
}

#[test]
fn every_plan_is_lint_clean_and_survives_the_wire() {
    for case in CASES {
        let plan = case.plan();
        assert_eq!(lint(&plan), [], "{}", case.name());
        let text = to_ron(&plan).unwrap();
        assert_eq!(ron_options().from_str::<Plan>(&text).unwrap(), plan, "{}", case.name());
        assert_eq!(plan, case.plan(), "planned twice");
    }
}

#[test]
fn every_sample_profile_is_planned_here() {
    let mut profiles = Vec::new();
    for directory in ["profiles", "profiles/examples"] {
        for entry in fs::read_dir(root().join(directory)).unwrap() {
            let path = entry.unwrap().path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if extension == Some("configure") {
                profiles.push((directory, stem(&path)));
            }
            if extension == Some("specs") {
                assert!(path.with_extension("configure").exists(), "{}", path.display());
            }
        }
    }
    for directory in ["profiles", "profiles/examples"] {
        let text = fs::read_to_string(root().join(directory).join("state")).unwrap();
        let state = State::parse("state", &text).unwrap();
        let counted: Vec<(&str, String)> =
            state.profiles().map(|(name, _)| (directory, name.to_string())).collect();
        assert!(counted.iter().all(|profile| profiles.contains(profile)), "{counted:?}");
    }
    assert_eq!(profiles.len(), 4);
    for (directory, profile) in profiles {
        let planned =
            CASES.iter().any(|case| case.directory == directory && case.profile == profile);
        assert!(planned, "{directory}/{profile}.configure has no golden plan");
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_str().unwrap().to_owned()
}
