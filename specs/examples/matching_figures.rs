//! Prints what matching costs: `cargo run --release -p specs --example matching_figures`.

#![expect(clippy::print_stdout, reason = "it prints figures")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::time::Instant;

use specs::explain::{explain, mend};
use specs::facts::Facts;
use specs::lang::Spec;
use specs::matching::Matcher;

fn main() {
    thousand_profiles();
    reversed_pairs(12, true);
    reversed_pairs(12, false);
    ring(true);
    ring(false);
}

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

/// 1,000 profiles of 10 lines, of which none but perhaps the last fits.
fn thousand_profiles() {
    let facts = machine();
    let spec = |number: usize, last: &str| {
        let mut text = String::from("[");
        for disk in 0..4 {
            text.push_str(&format!("('disk', '$d{disk}', 'size', 'gt(4)'),"));
        }
        for nic in 0..2 {
            text.push_str(&format!("('network', '$e{nic}', 'link', 'yes'),"));
            text.push_str(&format!("('network', '$e{nic}', 'serial', '$m{nic}'),"));
        }
        text.push_str("('disk', '$d0', 'slot', '$slot'),");
        text.push_str(&format!("('disk', 'sd{}', 'vendor', '{last}')]", number % 40));
        Spec::parse("bench.specs", &text).expect("the text is made above")
    };
    let mut profiles: Vec<Spec> =
        (0..1000).map(|number| spec(number, &format!("v{number}"))).collect();
    for fits in [false, true] {
        if fits {
            profiles[999] = spec(999, "ATA");
        }
        let start = Instant::now();
        let matcher = Matcher::new(&facts);
        let found = profiles.iter().position(|profile| matcher.find(profile).is_ok());
        println!("1000 profiles, 500 facts, first that fits {found:?}: {:?}", start.elapsed());
    }
}

fn measure(name: &str, spec: &str, facts: &str) {
    let spec = Spec::parse("f", spec).expect("the text is made here");
    let facts = Facts::parse("f", facts.as_bytes()).expect("the text is made here");
    let start = Instant::now();
    let matcher = Matcher::new(&facts);
    let found = matcher.find(&spec);
    let found_after = start.elapsed();
    println!("{name}: found {}, {found_after:?}", found.is_ok());
    if found.is_err() {
        let start = Instant::now();
        let line = explain(&matcher, &spec).map(|mismatch| mismatch.map(|it| it.line));
        println!("  explained ({line:?}) after {:?}", start.elapsed());
        let start = Instant::now();
        let mended = mend(&matcher, &spec).is_ok();
        println!("  mended ({mended}) after {:?}", start.elapsed());
    }
}

/// Disks and NICs that pair off in reverse order only, told by lines at the end.
fn reversed_pairs(n: usize, whole: bool) {
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
    measure(&format!("{n} pairs in reverse"), &(spec + "]"), &(facts + "]"));
}

/// Six variables in a ring of random joins, 200 candidates each, one way around at the very end.
fn ring(closed: bool) {
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
    measure("six variables, 200 candidates", &(spec + "]"), &(facts + "]"));
}
