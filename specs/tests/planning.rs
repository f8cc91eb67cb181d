//! Properties of planning, over random configure files and disks: a plan is lint-clean, the same
//! every time, never larger than its disks; a refusal has a place; nothing panics.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use specs::configure::Configure;
use specs::facts::Facts;
use specs::plan::build::{Inputs, PlanError, plan};
use specs::plan::lint::lint;
use specs::plan::{Action, Plan};
use specs::units::Token;
use specs::value::{Value, Variables};

/// A disk of the machine: exact size in bytes and logical sector size.
type Disk = (u64, u32);

fn facts(firmware: &str, disks: &[Disk]) -> Facts {
    let mut facts = Facts::default();
    facts.push("system", "firmware", "type", firmware);
    for (position, (bytes, sector)) in disks.iter().enumerate() {
        let name = format!("nvme{position}n1");
        facts.push("disk", &name, "bytes", bytes.to_string());
        facts.push("disk", &name, "logical_block_size", i64::from(*sector));
    }
    facts.push("network", "eth0", "serial", "52:54:00:00:00:01");
    facts
}

fn plan_of(text: &str, facts: &Facts, variables: &Variables) -> Result<Plan, PlanError> {
    let configure = Configure::parse("x.configure", text)
        .unwrap_or_else(|findings| panic!("{text}\n{findings:#?}"));
    let inputs = Inputs {
        facts,
        variables,
        profile: &"x".parse().unwrap(),
        nonce: &Token::from_bytes([3; 16]),
        secrets: &[],
        scripts: &BTreeMap::new(),
    };
    plan(&configure, &inputs)
}

fn size() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (1_u64..2_000).prop_map(|number| format!("{number}MiB")),
        1 => (1_u64..3_000).prop_map(|number| format!("{number}GB")),
        3 => (1_u64..40).prop_map(|number| format!("{number}%")),
        1 => Just("rest".to_owned()),
    ]
}

/// One partition; `mount` gets a number of its own later.
fn partition() -> impl Strategy<Value = (String, &'static str)> {
    // Repeated: a layout is rarely refused for a second ESP or a root file system of FAT.
    let kinds =
        ["ext4", "ext4", "ext4", "xfs", "xfs", "btrfs", "vfat", "swap", "swap", "bios_boot", "esp"];
    (size(), prop::sample::select(kinds.to_vec()))
}

fn disk_text(
    position: usize,
    table: &str,
    boot: u8,
    partitions: &[(String, &'static str)],
) -> String {
    // Nearly always on the first disk alone, where the root file system is.
    let likely = if position == 0 { 90 } else { 5 };
    let boot = if boot < likely { "boot: auto, " } else { "" };
    let partitions: String = partitions
        .iter()
        .enumerate()
        .map(|(number, (size, kind))| {
            let usage = match *kind {
                "swap" | "bios_boot" | "esp" if (position, number) == (0, 0) => {
                    "filesystem(type: ext4, mount: \"/\")".to_owned()
                }
                "swap" | "bios_boot" | "esp" => (*kind).to_owned(),
                kind if (position, number) == (0, 0) => {
                    format!("filesystem(type: {kind}, mount: \"/\")")
                }
                kind => format!("filesystem(type: {kind}, mount: \"/m{position}/p{number}\")"),
            };
            format!("(size: \"{size}\", use: {usage}), ")
        })
        .collect();
    format!(
        "(device: \"/dev/nvme{position}n1\", table: {table}, {boot}partitions: [{partitions}]), "
    )
}

/// The parts of a random configure file: per disk its table, how likely `boot: auto` is, and
/// partitions.
type Layout = Vec<(&'static str, u8, Vec<(String, &'static str)>)>;

fn layout() -> impl Strategy<Value = Layout> {
    let table = prop::sample::select(vec!["gpt", "gpt", "gpt", "msdos"]);
    prop::collection::vec((table, 0..100_u8, prop::collection::vec(partition(), 1..6)), 1..4)
}

fn machine() -> impl Strategy<Value = (&'static str, Vec<Disk>)> {
    let size = prop_oneof![
        1 => 0..64_u64 << 20,
        4 => 8_u64 << 30..64_u64 << 30,
        2 => 0..16_u64 << 40,
        1 => any::<u64>(),
    ];
    let disk = (size, prop::sample::select(vec![512_u32, 4096]));
    (prop::sample::select(vec!["bios", "uefi"]), prop::collection::vec(disk, 3))
}

/// The sectors that a table's partitions end at, per disk.
fn ends(plan: &Plan) -> impl Iterator<Item = (&str, u64)> {
    plan.steps.iter().filter_map(|step| match &step.action {
        Action::WriteTable { disk, partitions, .. } => {
            let end = partitions.iter().map(|partition| partition.start + partition.sectors).max();
            Some((disk.as_str(), end.unwrap_or(0)))
        }
        _ => None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_plan_is_clean_and_within_its_disks(
        layout in layout(),
        (firmware, disks) in machine(),
    ) {
        let text: String = layout
            .iter()
            .enumerate()
            .map(|(position, (table, boot, partitions))| {
                disk_text(position, table, *boot, partitions)
            })
            .collect();
        let text = format!(
            "(role: (name: \"r\", version: \"1\"), hostname: \"h\", disks: [{text}], \
             network: (interfaces: [(name: \"eth0\", address: dhcp)]))"
        );
        let facts = facts(firmware, &disks);
        let outcome = plan_of(&text, &facts, &Variables::new());
        prop_assert_eq!(&outcome, &plan_of(&text, &facts, &Variables::new()));
        match outcome {
            Err(error) => prop_assert!(error.at.line == 1 && !error.to_string().is_empty()),
            Ok(plan) => {
                prop_assert_eq!(lint(&plan), []);
                for (disk, end) in ends(&plan) {
                    let planned = plan.disks.iter().find(|planned| planned.path == disk).unwrap();
                    let bytes = u128::from(end) * u128::from(planned.sector_size.get());
                    prop_assert!(bytes <= u128::from(planned.size.bytes().0));
                }
            }
        }
    }

    #[test]
    fn no_value_of_a_machine_changes_what_is_done(value in any::<String>(), other in "\\PC{0,20}") {
        let text = "(role: (name: \"r\", version: \"1\"), hostname: \"h\", disks: [\
                    (device: \"/dev/nvme0n1\", table: gpt, boot: auto, partitions: [\
                    (size: \"rest\", use: filesystem(type: ext4, mount: \"/\"))])], \
                    files: [(path: \"/etc/serial\", content: \"{{ serial }}\\n\")])";
        let mut facts = facts("bios", &[(4 << 30, 512)]);
        facts.push("system", "product", "serial", value.as_str());
        facts.push("system", "product", "name", other);
        let variables = Variables::from([("serial".to_owned(), Value::from(value.as_str()))]);
        match plan_of(text, &facts, &variables) {
            Err(_) => prop_assert!(value.contains(char::is_control)),
            Ok(plan) => {
                prop_assert_eq!(plan.disks.len(), 1);
                let content = plan.steps.iter().find_map(|step| match &step.action {
                    Action::WriteFile { file } if file.path == "/etc/serial" => Some(&file.content),
                    _ => None,
                });
                prop_assert_eq!(content, Some(&format!("{value}\n")));
            }
        }
    }
}

/// Strings of the sample `vm.configure`, each replaced by anything below.
const STRINGS: &[&str] = &[
    "mysql",
    "D12-F.1.0.0",
    "{{ hostname }}",
    "/dev/{{ disk }}",
    "root",
    "rest",
    "/",
    "{{ eth }}",
    "{{ mac }}",
    "{{ ip }}/{{ netmask }}",
    "{{ gateway }}",
    "10.0.2.253",
    "/etc/motd.d/role",
    "0644",
    "console=tty0",
    "ssh server",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn any_string_anywhere_is_refused_or_harmless(
        string in prop::sample::select(STRINGS.to_vec()),
        text in prop_oneof![
            "[^\"\\\\{}\\p{Cc}]{0,70}",
            "[0-9]{1,20}(MiB|GB|%|)",
            "[0-9.:/a-f]{0,40}",
            "[a-z/.-]{0,20}",
        ],
    ) {
        let sample = include_str!("../profiles/vm.configure");
        let quoted = format!("\"{string}\"");
        prop_assert!(sample.contains(&quoted));
        let sample = sample.replacen(&quoted, &format!("\"{text}\""), 1);
        let names = ["disk", "eth", "mac", "ip", "netmask", "gateway", "hostname"];
        let values =
            ["nvme0n1", "eth0", "52:54:00:00:00:01", "10.0.2.103", "24", "10.0.2.2", "host03"];
        let variables: Variables =
            names.iter().zip(values).map(|(name, value)| ((*name).to_owned(), value.into())).collect();
        if let Ok(plan) = plan_of(&sample, &facts("bios", &[(16 << 30, 512)]), &variables) {
            prop_assert_eq!(lint(&plan), []);
            prop_assert_eq!(plan.disks.len(), 1);
            // One file each, whatever the text: fstab's lines are as many as there are mounts.
            for step in &plan.steps {
                if let Action::WriteFile { file } = &step.action
                    && file.path == "/etc/fstab"
                {
                    prop_assert_eq!(file.content.lines().count(), 3);
                }
            }
        }
    }
}

/// Random layouts must not all be refused, or the properties above would say nothing.
#[test]
fn enough_random_layouts_can_be_planned() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut planned = 0;
    for _ in 0..400 {
        let tree = (layout(), machine()).new_tree(&mut runner).unwrap();
        let (layout, (firmware, disks)) = tree.current();
        let text: String = layout
            .iter()
            .enumerate()
            .map(|(position, (table, boot, partitions))| {
                disk_text(position, table, *boot, partitions)
            })
            .collect();
        let text =
            format!("(role: (name: \"r\", version: \"1\"), hostname: \"h\", disks: [{text}])");
        planned += usize::from(plan_of(&text, &facts(firmware, &disks), &Variables::new()).is_ok());
    }
    assert!(planned > 40, "only {planned} of 400 random layouts could be planned");
}
