//! Prints what decisions cost in large halls: `cargo run --release -p specs --example life_figures`.
//!
//! No disk and no network take part: these are the costs of the decisions alone.

#![expect(clippy::print_stdout, reason = "it prints figures")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::collections::BTreeSet;
use std::time::Instant;

use specs::cmdb::{Choice, Claimant, Cmdb};
use specs::facts::Facts;
use specs::fleet::{Answer, File, Fresh, World};
use specs::units::Token;
use specs::value::{Value, Variables};

const SPECS: &str = "[('disk', '$disk', 'size', 'gt(4)'), ('network', '$eth', 'serial', '$mac')]";
const CONFIGURE: &str = r#"(
    role: (name: "mysql", version: "D12-F.1.0.0"),
    hostname: "{{ hostname }}",
    disks: [(device: "/dev/{{ disk }}", table: gpt, boot: auto, partitions: [
        (label: "root", size: "rest", use: filesystem(type: ext4, mount: "/")),
    ])],
)"#;

fn token(number: u64) -> Token {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Token::from_bytes(bytes)
}

/// Facts of a machine of its own, with so many others that no spec looks at.
fn facts(number: usize, others: usize) -> Facts {
    let mut facts = Facts::default();
    facts.push("disk", "vda", "size", 10);
    facts.push("disk", "vda", "bytes", 10_737_418_240);
    let mac =
        format!("52:54:{:02x}:{:02x}:{:02x}:00", number >> 16, (number >> 8) & 255, number & 255);
    facts.push("network", "eth0", "serial", mac);
    facts.push("system", "product", "serial", format!("SERIAL-{number}"));
    for other in 0..others {
        facts.push("cpu", &format!("physical_{other}"), "flags", "fpu vme de pse tsc msr pae");
    }
    facts
}

fn world(entries: usize) -> World {
    let mut world = World::default();
    let cmdb = format!(
        "generate({{'ip': '10.0-255.0-255.0-255', 'hostname': 'host000001-{entries:06}', \
         'netmask': '255.0.0.0', 'gateway': '10.0.0.1'}})"
    );
    let profile = || "vm".parse().expect("a name");
    for (file, text) in [
        (File::State, "[('vm', '*')]"),
        (File::Specs(profile()), SPECS),
        (File::Configure(profile()), CONFIGURE),
        (File::Cmdb(profile()), &cmdb),
    ] {
        let read = world.read(&file, Some(text.as_bytes()));
        assert_eq!(read, Ok(()), "{file}");
    }
    world
}

fn main() {
    for entries in [1_000, 10_000, 100_000] {
        let mut world = world(entries);
        for (uploads, others) in [(1_000_u16, 30), (1_000, 500), (500, 3_000)] {
            let machines: Vec<Facts> = (0..uploads)
                .map(|number| facts(usize::from(number) + others * 1_000, others))
                .collect();
            if others > 30 && entries < 10_000 {
                continue;
            }
            let begin = Instant::now();
            for (number, facts) in (0_u64..).zip(&machines) {
                let fresh = Fresh { nonce: token(number * 2), ticket: token(number * 2 + 1) };
                let decision = world.upload(facts, 1_000_000 + number, &fresh);
                assert!(matches!(decision.answer, Answer::Plan { .. } | Answer::Refused(_)));
                for change in &decision.changes {
                    world.apply(change);
                }
            }
            let rate = f64::from(uploads) / begin.elapsed().as_secs_f64();
            println!("{entries} entries, {others} facts: {rate:.0} uploads per second");
        }
        let begin = Instant::now();
        let text = world.text(&File::Cmdb("vm".parse().expect("a name"))).unwrap_or_default();
        let written = begin.elapsed();
        let begin = Instant::now();
        let keys = BTreeSet::from(["hostname".to_owned()]);
        let cmdb = Cmdb::parse("vm.cmdb", &text, &keys).expect("what was written can be read");
        println!(
            "{entries} entries: written in {written:.1?}, {} bytes each, read in {:.1?}",
            text.len() / entries,
            begin.elapsed()
        );
        let wanted = Variables::from([("hostname".to_owned(), Value::from("host000900"))]);
        let begin = Instant::now();
        for _ in 0..1_000 {
            let who = Claimant {
                holder: Box::new(|_| None),
                machine: None,
                identifies: Box::new(|_| true),
            };
            assert_eq!(cmdb.choose(&wanted, &wanted, &who), Choice::Entry(899));
        }
        println!("{entries} entries: found by `$$` keys in {:.2?}", begin.elapsed() / 1_000);
    }
    let begin = Instant::now();
    let text = "generate({'ip': '10.7.0-255.0-255', 'hostname': 'n00000-65535', 'gw': '10.0.0.1'})";
    let cmdb = Cmdb::parse("x.cmdb", text, &BTreeSet::new()).expect("a template");
    let read = begin.elapsed();
    let begin = Instant::now();
    assert_eq!(cmdb.entries().count(), 65_536);
    println!("generate of 65536 entries: read in {read:.1?}, all made in {:.1?}", begin.elapsed());
}
