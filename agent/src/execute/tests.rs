//! Plans of samples for the tests of what they are translated to, and of what fails.

mod faults;
mod translation;

use std::collections::BTreeMap;
use std::path::PathBuf;

use expect_test::expect;
use specs::configure::Configure;
use specs::facts::Facts;
use specs::plan::{Plan, build};
use specs::units::Token;
use specs::value::{Value, Variables};

use super::*;
use crate::options::TreeSource;

const VM: &str = include_str!("../../../specs/profiles/vm.configure");
const STORAGE: &str = include_str!("../../../specs/profiles/examples/storage.configure");

const TWO_DISKS: &str = r#"(
    role: (name: "mysql", version: "D12-F.1.0.0"),
    hostname: "{{ hostname }}",
    disks: [
        (device: "/dev/vda", table: gpt, boot: auto, partitions: [
            (label: "root", size: "rest", use: filesystem(type: ext4, mount: "/")),
        ]),
        (device: "/dev/vdb", table: gpt, partitions: [
            (label: "srv", size: "rest", use: filesystem(type: ext4, mount: "/srv")),
        ]),
    ],
)"#;

fn facts(disks: &[&str], firmware: &str) -> Facts {
    let mut facts = Facts::default();
    for disk in disks {
        facts.push("disk", disk, "bytes", 10_i64 << 30);
        facts.push("disk", disk, "logical_block_size", 512);
        facts.push("disk", disk, "serial", format!("serial-{disk}"));
    }
    facts.push("network", "eth0", "serial", "52:54:00:88:17:3c");
    facts.push("system", "firmware", "type", firmware);
    facts
}

fn plan(configure: &str, facts: &Facts, variables: &[(&str, &str)]) -> Plan {
    let configure = Configure::parse("test.configure", configure).unwrap();
    let common = [
        ("hostname", "host03"),
        ("eth", "eth0"),
        ("mac", "52:54:00:88:17:3c"),
        ("ip", "192.0.2.103"),
        ("netmask", "255.255.255.0"),
        ("gateway", "192.0.2.2"),
    ];
    let variables: Variables = common
        .iter()
        .chain(variables)
        .map(|(name, value)| ((*name).to_owned(), Value::from(*value)))
        .collect();
    let inputs = build::Inputs {
        facts,
        variables: &variables,
        profile: &"vm".parse().unwrap(),
        nonce: &Token::from_bytes([3; 16]),
        secrets: &["s3cr3t".to_owned()],
        scripts: &BTreeMap::new(),
    };
    build::plan(&configure, &inputs).unwrap()
}

fn vm(firmware: &str) -> Plan {
    plan(VM, &facts(&["vda"], firmware), &[("disk", "vda")])
}

fn origin() -> Origin {
    Origin {
        server: "10.0.2.2".to_owned(),
        rsync_host: "10.0.2.2".to_owned(),
        rsync_port: 1515,
        rsync_path: "install".to_owned(),
        archives: None,
    }
}
