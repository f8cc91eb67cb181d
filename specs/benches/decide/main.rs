//! What decisions cost in large halls: `cargo bench -p specs`.
//!
//! The limits that the project promises, in the order of the functions below: 1,000 profiles
//! against 500 facts in 5 ms, (refusals, which have none,) planted instances in 50 ms, a look-up in a CMDB of 100,000 entries in
//! 10 µs, `generate` of 65,536 entries in 50 ms. No disk and no network take part. The times are
//! those of the processor, so that whatever else a machine does makes little difference.

mod processor_time;

use std::collections::BTreeSet;
use std::hint::black_box;

use criterion::{criterion_group, criterion_main};
use processor_time::ProcessorTime;
use specs::cmdb::{Choice, Claimant, Cmdb};
use specs::facts::Facts;
use specs::fleet::{File, Fresh, World};
use specs::lang::Spec;
use specs::matching::Matcher;
use specs::units::Token;
use specs::value::{Value, Variables};

type Criterion = criterion::Criterion<ProcessorTime>;

/// 500 facts of one machine: 40 disks, 20 NICs, 300 other.
fn machine() -> Facts {
    let mut facts = Facts::default();
    for disk in 0..40 {
        for (key, value) in
            [("size", "1000"), ("slot", "1"), ("vendor", "ATA"), ("rotational", "1")]
        {
            facts.push("disk", &format!("sd{disk}"), key, value);
        }
    }
    for nic in 0..20 {
        facts.push("network", &format!("eth{nic}"), "serial", format!("52:54:00:00:00:{nic:02x}"));
        facts.push("network", &format!("eth{nic}"), "link", "yes");
    }
    for other in 0..300 {
        facts.push("cpu", &format!("logical_{other}"), "bogomips", "4787.64");
    }
    facts
}

/// A profile of 10 lines that fits when `vendor` is that of the machine's disks.
fn profile(number: usize, vendor: &str) -> Spec {
    let mut text = String::from("[");
    for disk in 0..4 {
        text.push_str(&format!("('disk', '$d{disk}', 'size', 'gt(4)'),"));
    }
    for nic in 0..2 {
        text.push_str(&format!("('network', '$e{nic}', 'link', 'yes'),"));
        text.push_str(&format!("('network', '$e{nic}', 'serial', '$m{nic}'),"));
    }
    text.push_str("('disk', '$d0', 'slot', '$slot'),");
    text.push_str(&format!("('disk', 'sd{}', 'vendor', '{vendor}')]", number % 40));
    Spec::parse("bench.specs", &text).expect("the text is made above")
}

fn profiles(c: &mut Criterion) {
    let facts = machine();
    let mut all: Vec<Spec> =
        (0..1000).map(|number| profile(number, &format!("v{number}"))).collect();
    let first = |all: &[Spec]| {
        let matcher = Matcher::new(&facts);
        all.iter().position(|profile| matcher.find(profile).is_ok())
    };
    c.bench_function("1000 profiles, none fits", |b| b.iter(|| first(black_box(&all))));
    // Every name is one of the machine's, and a line still finds no fact.
    let known: Vec<Spec> = (0..1000).map(|number| profile(number, "yes")).collect();
    assert_eq!(first(&known), None);
    c.bench_function("1000 profiles of known names, none fits", |b| {
        b.iter(|| first(black_box(&known)));
    });
    all[999] = profile(999, "ATA");
    assert_eq!(first(&all), Some(999));
    c.bench_function("1000 profiles, the last fits", |b| b.iter(|| first(black_box(&all))));
}

/// A world of five profiles for machines of other vendors.
fn world() -> World {
    let mut world = World::default();
    let counts: Vec<String> = (0..5).map(|number| format!("('p{number}', '*')")).collect();
    let mut read = |file: File, text: &str| {
        world.read(&file, Some(text.as_bytes())).expect("the text is made here");
    };
    read(File::State, &format!("[{}]", counts.join(", ")));
    for number in 0..5 {
        let name = format!("p{number}").parse().expect("a name");
        let lines = "[('disk', '$d', 'size', 'gt(4)'), ('disk', '$d', 'vendor', 'other'), \
                     ('network', '$e', 'serial', '$mac')]";
        read(File::Specs(name), lines);
    }
    world
}

/// What a machine costs that no profile fits: while others wait, and in all.
fn refusals(c: &mut Criterion) {
    let world = world();
    let token = Token::from_bytes([7; 16]);
    let fresh = Fresh { nonce: token.clone(), ticket: token };
    for cpus in [0, 2500] {
        let mut facts = machine();
        for cpu in 0..cpus {
            facts.push("cpu", &format!("logical_{cpu}"), "cache", "20480 KB");
        }
        let count = facts.0.len();
        c.bench_function(&format!("refusal of {count} facts, decided"), |b| {
            let matcher = Matcher::new(&facts);
            b.iter(|| world.decide(black_box(&matcher), 1, &fresh));
        });
        c.bench_function(&format!("refusal of {count} facts, in all"), |b| {
            b.iter(|| world.upload(black_box(&facts), 1, &fresh));
        });
    }
}

fn planted(c: &mut Criterion) {
    for (name, (spec, facts), fits) in [
        ("12 pairs in reverse order", reversed_pairs(12, true), true),
        ("12 pairs, one without its like", reversed_pairs(12, false), false),
        ("ring of 6 variables, 200 candidates", ring(true), true),
        ("ring that is open", ring(false), false),
    ] {
        let spec = Spec::parse("f", &spec).expect("the text is made here");
        let facts = Facts::parse("f", facts.as_bytes()).expect("the text is made here");
        assert_eq!(Matcher::new(&facts).find(&spec).is_ok(), fits);
        c.bench_function(name, |b| b.iter(|| Matcher::new(&facts).find(black_box(&spec))));
    }
}

/// Disks and NICs that pair off in reverse order only, told by lines at the end.
fn reversed_pairs(n: usize, whole: bool) -> (String, String) {
    let (mut spec, mut facts) = (String::from("["), String::from("["));
    for i in 0..n {
        spec.push_str(&format!(
            "('disk', '$d{i}', 'size', '1000'), ('network', '$e{i}', 'link', 'yes'),"
        ));
        facts.push_str(&format!(
            "('disk', 'sd{i}', 'size', '1000'), ('network', 'eth{i}', 'link', 'yes'),"
        ));
    }
    for i in 0..n {
        spec.push_str(&format!("('pair', '$d{i}', '$e{i}', 'p{i}'),"));
        if whole || i > 0 {
            facts.push_str(&format!("('pair', 'sd{}', 'eth{i}', 'p{i}'),", n - 1 - i));
        } else {
            facts.push_str("('pair', 'sd0', 'eth1', 'p0'),");
        }
    }
    (spec + "]", facts + "]")
}

/// Six variables in a ring of joins, 200 candidates each, one way around at the very end.
fn ring(closed: bool) -> (String, String) {
    let (mut spec, mut facts) = (String::from("["), String::from("["));
    for i in 0..6 {
        spec.push_str(&format!("('c{i}', '$v{i}', 'to', '$v{}'),", (i + 1) % 6));
        for k in 0..199 {
            let shift = usize::from(i == 5);
            facts.push_str(&format!(
                "('c{i}', 'n{}', 'to', 'n{}'),",
                k * 7 % 199,
                (k * 7 + shift) % 199
            ));
        }
        if closed || i != 3 {
            facts.push_str(&format!("('c{i}', 'last', 'to', 'last'),"));
        }
    }
    (spec + "]", facts + "]")
}

fn cmdb(c: &mut Criterion) {
    let keys = BTreeSet::from(["hostname".to_owned()]);
    let entries: Vec<String> = (0..100_000)
        .map(|number| {
            format!(
                " {{'ip': '10.{}.{}.{}', 'hostname': 'host{number:06}', 'netmask': '255.0.0.0', \
                 'gateway': '10.0.0.1'}},\n",
                number >> 16,
                (number >> 8) & 255,
                number & 255
            )
        })
        .collect();
    let text = format!("[\n{}]\n", entries.concat());
    c.bench_function("CMDB of 100,000 entries, read", |b| {
        b.iter(|| Cmdb::parse("vm.cmdb", black_box(&text), &keys));
    });
    let cmdb = Cmdb::parse("vm.cmdb", &text, &keys).expect("the text is made above");
    let wanted = Variables::from([("hostname".to_owned(), Value::from("host099900"))]);
    let choose = || {
        let holder = Box::new(|_| None);
        let who = Claimant { holder, machine: None, identifies: Box::new(|_| true) };
        cmdb.choose(black_box(&wanted), &wanted, &who)
    };
    assert_eq!(choose(), Choice::Entry(99_900));
    c.bench_function("CMDB of 100,000 entries, by `$$` key", |b| b.iter(choose));
    let template =
        "generate({'ip': '10.7.0-255.0-255', 'hostname': 'n00000-65535', 'gw': '10.0.0.1'})";
    c.bench_function("generate of 65,536 entries", |b| {
        b.iter(|| {
            let cmdb = Cmdb::parse("x.cmdb", black_box(template), &BTreeSet::new())?;
            let count = cmdb.entries().count();
            assert_eq!(count, 65_536);
            Ok::<_, Vec<specs::diagnostic::Diagnostic>>(count)
        });
    });
}

criterion_group! {
    name = benches;
    config = criterion::Criterion::default().sample_size(20).with_measurement(ProcessorTime);
    targets = profiles, refusals, planted, cmdb
}
criterion_main!(benches);
