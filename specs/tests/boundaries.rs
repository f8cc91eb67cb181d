//! Limits, and turns that real data seldom takes: on the limit, and one beyond.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;

use specs::check::{Files, check};
use specs::cmdb::Cmdb;
use specs::configure::template::{Scope, Shape};
use specs::facts::{Fact, Facts};
use specs::lang::{MAX_LINES, Spec};
use specs::literal::Style;
use specs::matching::Matcher;
use specs::metadata::propose;
use specs::units::Bytes;
use specs::upgrade::{Inputs, Kernel, Manifest, Pattern, Refusal, Rules, plan, verify};
use specs::value::{Value, Variables};

fn variables(pairs: &[(&str, &str)]) -> Variables {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect()
}

/// The manifest of a version whose entries are written `path/` or `path=content`.
fn manifest(version: &str, words: &str) -> Manifest {
    let mut lines: Vec<(String, String)> = words
        .split_whitespace()
        .map(|word| match word.split_once('=') {
            None => (word.trim_end_matches('/').to_owned(), "d 755 0 0 - PATH".to_owned()),
            Some((path, content)) => {
                let digest = blake3::hash(content.as_bytes());
                (path.to_owned(), format!("f 644 0 0 - PATH {} 1 {digest}", content.len()))
            }
        })
        .collect();
    lines.sort();
    let mut text = format!("edeploy-manifest 1 web {version}\n");
    for (path, line) in &lines {
        text += &line.replace("PATH", path);
        text.push('\n');
    }
    let digest = blake3::hash(text.as_bytes());
    Manifest::parse(&format!("{text}end {} {digest}\n", lines.len())).unwrap()
}

#[test]
fn a_rendered_text_may_have_a_mebibyte() {
    let (variables, facts) = (Variables::new(), Facts::default());
    let scope = Scope::new(&variables, &facts).unwrap();
    let longest = "x".repeat(1 << 20);
    assert_eq!(scope.render(&longest, Shape::Text), Ok(longest.clone()));
    let error = scope.render(&(longest + "x"), Shape::Text).unwrap_err();
    assert!(error.to_string().contains("longer than 1 MiB"), "{error}");
}

#[test]
fn sizes_beyond_the_largest_unit_are_still_shown() {
    for (bytes, expected) in [
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1 << 40, "1 TiB"),
        (1 << 60, "1048576 TiB"),
    ] {
        assert_eq!(Bytes(bytes).to_string(), expected);
    }
}

#[test]
fn a_free_entry_is_found_by_what_it_is_called() {
    let text = "[{'hostname': 'a', 'used': 1}, {'hostname': 'b', 'rack': 2}, {'hostname': 'c'}]";
    let cmdb = Cmdb::parse("vm.cmdb", text, &BTreeSet::new()).unwrap();
    for (wanted, expected) in [
        (&[("hostname", "c")][..], Some(2)),
        (&[("hostname", "b"), ("rack", "2")], Some(1)),
        (&[("hostname", "b"), ("rack", "3")], None),
        // Keys that an entry has not say nothing about it.
        (&[("hostname", "c"), ("rack", "2")], Some(2)),
        (&[("hostname", "a")], None),
        (&[("color", "red")], None),
    ] {
        assert_eq!(cmdb.find_free(&variables(wanted)), expected, "{wanted:?}");
    }
}

/// A line has fewer than 80 columns, those before the entry among them.
#[test]
fn an_entry_stands_on_one_line_when_there_is_room() {
    for (indent, length, lines) in [(0, 79, 1), (0, 80, 2), (1, 78, 1), (1, 79, 2), (80, 20, 2)] {
        let text = format!("{{'a': '{}', 'b': 1}}", "x".repeat(length - 17));
        let cmdb = Cmdb::parse("f", &format!("[{text}]"), &BTreeSet::new()).unwrap();
        let written = cmdb.entry(0).unwrap().to_text(Style::PYTHON, indent);
        assert_eq!((text.len(), written.lines().count()), (length, lines), "{written}");
    }
}

fn texts(specs: &str, cmdb: &str) -> Files {
    let configure = "(role: (name: \"m\", version: \"1\"), hostname: \"h\", disks: [])";
    [
        ("state", "[('vm', '*')]"),
        ("vm.specs", specs),
        ("vm.cmdb", cmdb),
        ("vm.configure", configure),
    ]
    .map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
    .into()
}

fn codes(texts: &Files, code: &str) -> usize {
    let code = format!("[{code}]");
    check(texts).findings.iter().filter(|finding| finding.to_string().contains(&code)).count()
}

#[test]
fn limits_that_cross_are_found_however_they_are_written() {
    for (function, crosses) in [
        ("and(range(1, 5), gt(7))", true),
        ("and(range(1, 5), lt(1))", true),
        ("and(range(1, 5), ge(5))", false),
        ("and(range(1, 5), gt(5))", true),
        ("and(ge(5), le(5))", false),
        ("and(gt(5), le(5))", true),
        ("range(5, 1)", true),
        ("or(range(5, 1), gt(7))", false),
        ("or(range(5, 1), range(2, 1))", true),
    ] {
        let specs = format!("[('disk', '$disk', 'size', '{function}')]");
        let expected = usize::from(crosses);
        assert_eq!(codes(&texts(&specs, "[{'a': 1}]"), "check-never"), expected, "{function}");
    }
}

/// Ten of a kind are enough to see what is wrong.
#[test]
fn one_mistake_made_a_hundred_times_is_told_ten_times() {
    let specs = "[('disk', '$disk', 'size', 'gt(4)')]";
    let entries = |entry: &str| format!("[{}]", [entry; 12].join(","));
    let cmdb = entries("{'ip': '10.0.0.1', 'netmask': '255.255.255.0', 'gateway': '10.1.0.1'}");
    assert_eq!(codes(&texts(specs, &cmdb), "check-network"), 10);
    assert_eq!(codes(&texts(specs, &cmdb), "check-duplicate"), 10);
    let cmdb = entries("{'hostname': 'a', # one\n 'ip': '10.0.0.1'}");
    assert_eq!(codes(&texts(specs, &cmdb), "check-comment"), 10);
    let cmdb = entries("{'ip-a': 1, 'ip_a': 2}");
    assert_eq!(codes(&texts(specs, &cmdb), "check-clash"), 10);
    let keyed = "[('disk', '$$disk', 'size', 'gt(4)')]";
    let cmdb = entries("{'disk': 'vda', 'rack': 1}");
    assert_eq!(codes(&texts(keyed, &cmdb), "check-duplicate-key"), 10);
}

/// As rsync 3.2.7 has it.
#[test]
fn a_backslash_at_the_end_of_a_pattern_is_itself_where_there_is_no_wildcard() {
    assert!(Pattern::new("a\\").matches(b"a\\", false));
    assert!(!Pattern::new("*\\").matches(b"a\\", false));
    assert!(!Pattern::new("*\\").matches(b"a", false));
    assert!(Pattern::new("?\\*").matches(b"a*", false));
    assert!(!Pattern::new("?\\*").matches(b"ab", false));
}

const OLD_KERNEL: &str =
    "boot/ boot/vmlinuz-6.1=a usr/ usr/lib/ usr/lib/modules/ usr/lib/modules/6.1/";
const NEW_KERNEL: &str =
    "boot/ boot/vmlinuz-6.2=b usr/ usr/lib/ usr/lib/modules/ usr/lib/modules/6.2/";

#[test]
fn a_running_kernel_goes_only_when_another_one_comes() {
    let from = manifest("1", OLD_KERNEL);
    let answer = |to: &str, running: &[Kernel]| {
        let to = manifest("2", to);
        let rules = Rules::parse("", "");
        plan(&Inputs { from: Some(&from), to: &to, disk: &from.entries, rules: &rules, running })
    };
    let running = [Kernel("6.1".to_owned())];
    let upgrade = answer(NEW_KERNEL, &running).unwrap();
    let retained: Vec<String> = upgrade.retained.iter().map(ToString::to_string).collect();
    assert_eq!(retained, ["boot/vmlinuz-6.1", "usr/lib/modules/6.1"]);
    assert!(upgrade.changes.keys().all(|path| !path.to_string().contains("6.1")));
    // Nobody runs it: it goes.
    assert!(answer(NEW_KERNEL, &[]).unwrap().retained.is_empty());
    let refusals = answer("boot/ usr/ usr/lib/ usr/lib/modules/", &running).unwrap_err();
    assert!(
        matches!(&refusals[..], [Refusal::Kernel { release, paths }]
            if release == "6.1" && paths.len() == 2),
        "{refusals:?}"
    );
}

#[test]
fn scripts_of_an_edge_are_scripts() {
    let wants = "etc/ etc/systemd/ etc/systemd/system/ etc/systemd/system/multi-user.target.wants/ \
                 etc/systemd/system/multi-user.target.wants/redis-server.service=x ";
    let tree = |kernel: &str, program: &str| {
        format!("{wants} {kernel} usr/bin/ usr/bin/redis-server={program}")
    };
    let from = manifest("D12-F.1.0.1", &tree(OLD_KERNEL, "a"));
    let to = manifest("D12-F.1.0.2", &tree(NEW_KERNEL, "b"));
    let proposal = propose(&from, &to, None);
    let head = "#!/bin/sh\n# Upgrade of web from D12-F.1.0.1 to D12-F.1.0.2.\nset -e\n";
    assert_eq!(proposal.pre, format!("{head}systemctl stop redis-server.service\n"));
    assert_eq!(
        proposal.post,
        format!(
            "{head}systemctl daemon-reload\nsystemctl start redis-server.service\n\
             exit 100  # reboot: the kernel changed\n"
        )
    );
    assert!(proposal.reboot);
    // The same twice: nothing to do.
    let same = propose(&from, &from, None);
    assert_eq!((same.pre, same.post, same.reboot), (String::new(), String::new(), false));
}

#[test]
fn a_spec_has_a_thousand_lines() {
    let lines = |count| format!("[{}]", "(\"a\", \"b\", \"c\", \"d\"),".repeat(count));
    assert!(Spec::parse("f", &lines(MAX_LINES)).is_ok());
    for count in [MAX_LINES + 1, MAX_LINES + 2] {
        let error = Spec::parse("f", &lines(count)).unwrap_err();
        assert!(error.to_string().contains("lines are more than the 1000"), "{error}");
    }
}

/// What is written by people is never nested so deeply; what is sent by others may be.
#[test]
fn functions_nest_32_deep() {
    let nested = |depth: usize| {
        let text = format!("{}gt(1){}", "not(".repeat(depth), ")".repeat(depth));
        Spec::parse("f", &format!("[(\"disk\", \"vda\", \"size\", \"{text}\")]"))
    };
    assert!(nested(32).is_ok());
    assert!(nested(33).unwrap_err().to_string().contains("nested more than 32 deep"));
}

/// Facts of these kinds are in bytes unless they say otherwise.
#[test]
fn facts_have_the_unit_they_are_reported_in() {
    for (class, name, key, value, function, fits) in [
        ("disk", "vda", "size", "10", "gt(4GB)", true),
        ("disk", "vda", "size", "10", "gt(40GB)", false),
        ("disk", "vda", "bytes", "10737418240", "gt(4GB)", true),
        ("disk", "vda", "bytes", "10737418240", "gt(40GB)", false),
        ("memory", "total", "size", "8589934592", "ge(8GiB)", true),
        ("system", "memory", "size", "8589934592", "lt(8GiB)", false),
        ("network", "eth0", "size", "1000000000", "ge(1Gbit/s)", true),
        ("cpu", "physical", "frequency", "2000000000", "gt(1GHz)", true),
        ("cpu", "physical", "min_Mhz", "2000", "gt(1GHz)", true),
        ("cpu", "physical", "number", "2000", "gt(1MHz)", false),
        ("cpu", "physical", "min_Mhz", "2000", "gt(3GHz)", false),
    ] {
        let text = format!("[(\"{class}\", \"{name}\", \"{key}\", \"{function}\")]");
        let spec = Spec::parse("f", &text).unwrap();
        let fact = Fact(class.to_owned(), name.to_owned(), key.to_owned(), value.into());
        assert_eq!(Matcher::new(&Facts(vec![fact])).find(&spec).is_ok(), fits, "{text} on {value}");
    }
}

#[test]
fn warnings_are_no_errors() {
    let fine = texts("[('disk', '$disk', 'size', 'gt(4)')]", "[{'a': 1}]");
    let warned = check(&fine);
    assert!(!warned.findings.is_empty() && !warned.has_errors(), "{warned:?}");
    let never = texts("[('disk', '$disk', 'size', 'range(5, 1)')]", "[{'a': 1}]");
    assert!(check(&never).has_errors());
}

#[test]
fn facts_beyond_the_limit_are_not_read() {
    let facts = |length: usize| {
        let list = b"[[\"disk\",\"vda\",\"size\",\"10\"]]";
        [&list[..], &vec![b' '; length - list.len()]].concat()
    };
    assert!(Facts::parse("f", &facts(16 << 20)).is_ok());
    for length in [(16 << 20) + 1, 17 << 20] {
        let error = Facts::parse("f", &facts(length)).unwrap_err();
        assert!(error.to_string().contains("facts-too-large"), "{error}");
    }
}

#[test]
fn classes_of_patterns_have_names_ranges_and_themselves() {
    for (pattern, means, not) in [
        ("[x[:digit:]y]", "x5y", ":dz"),
        ("[[:alpha:][:space:]]", "a \t", "1["),
        ("[![:upper:]-]", "a1", "B-"),
        ("[[:alnum:]]", "aZ9", "-_"),
        ("[[:lower:]]", "az", "A1"),
        ("[[:punct:]]", "!-_", "a1 "),
        ("[[:xdigit:]]", "aF9", "gG"),
        ("[[:nonsense:]]", "", "an:"),
        ("[a-]", "a-", "b"),
        ("[\\]x]", "]x", "\\y"),
        ("[[a:]", "[a:", "x"),
    ] {
        let pattern = Pattern::new(pattern);
        for (texts, expected) in [(means, true), (not, false)] {
            for text in texts.chars() {
                let found = pattern.matches(text.to_string().as_bytes(), false);
                assert_eq!(found, expected, "{pattern:?} and `{text}`");
            }
        }
    }
}

#[test]
fn what_runs_already_needs_a_restart() {
    let tree = |content: &str| {
        format!(
            "usr/ usr/bin/ usr/bin/a={content} usr/lib/ usr/lib/libc.so.6={content} \
             usr/lib/ld-linux.so.2={content} usr/lib/systemd/ usr/lib/systemd/systemd={content}"
        )
    };
    let (from, to) = (manifest("1", &tree("a")), manifest("2", &tree("b")));
    let rules = Rules::parse("", "");
    let inputs =
        Inputs { from: Some(&from), to: &to, disk: &from.entries, rules: &rules, running: &[] };
    let upgrade = plan(&inputs).unwrap();
    let hints: Vec<String> = upgrade.reboot_hints().iter().map(ToString::to_string).collect();
    assert_eq!(hints, ["usr/lib/ld-linux.so.2", "usr/lib/libc.so.6", "usr/lib/systemd/systemd"]);
    let again = Inputs { from: Some(&to), disk: &to.entries, ..inputs };
    assert!(plan(&again).unwrap().reboot_hints().is_empty());
}

#[test]
fn drift_is_told_only_of_what_the_rules_synchronise() {
    let listed = manifest("1", "etc/ etc/a=1 etc/b=1 etc/mine=1 srv/");
    let disk = manifest("1", "etc/ etc/a=2 etc/mine=2 etc/own=1 srv/ srv/kept/ srv/kept/x=1");
    let rules = Rules::parse("/etc/mine\n", "");
    let retained = ["srv/kept".parse().unwrap()];
    let drifts: Vec<String> = verify(&listed, &disk.entries, &rules, &retained)
        .iter()
        .map(|drift| format!("{} {}", drift.path, drift.kind))
        .collect();
    assert_eq!(drifts, ["etc/a changed: content", "etc/b missing", "etc/own unlisted"]);
}

/// A unit says what is measured: bits a second are no bytes.
#[test]
fn quantities_of_different_kinds_are_not_compared() {
    for (function, value, fits) in [
        ("gt(1GB)", "1Gbit/s", false),
        ("lt(1GB)", "1Gbit/s", false),
        ("gt(1)", "2GB", true),
        ("gt(1)", "2MHz", true),
        ("gt(1MHz)", "2GHz", true),
    ] {
        let text = format!("[(\"disk\", \"vda\", \"size\", \"{function}\")]");
        let spec = Spec::parse("f", &text).unwrap();
        let fact = Fact("disk".into(), "vda".into(), "size".into(), value.into());
        assert_eq!(
            Matcher::new(&Facts(vec![fact])).find(&spec).is_ok(),
            fits,
            "{function} on {value}"
        );
    }
}
