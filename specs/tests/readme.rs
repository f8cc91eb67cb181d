//! Every example of `specs/README.md`, and those of the original's README.
#![expect(clippy::disallowed_methods, reason = "tests read the page they test")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;

use specs::cmdb::Cmdb;
use specs::explain::{explain, mend};
use specs::facts::Facts;
use specs::fleet::{Answer, File, Fresh, World};
use specs::lang::Spec;
use specs::literal::{Literal, Style};
use specs::matching::Matcher;
use specs::state::{Count, State};
use specs::units::{Name, Token};
use specs::value::Variables;

fn page() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    std::fs::read_to_string(path).expect("the language reference is there")
}

fn shown(variables: &Variables) -> String {
    let all: Vec<String> =
        variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    all.join(" ")
}

fn answer(spec: &str, facts: &Facts) -> String {
    let spec = match Spec::parse("vm.specs", spec) {
        Ok(spec) => spec,
        Err(error) => return format!("{error}\n"),
    };
    let matcher = Matcher::new(facts);
    match matcher.find(&spec) {
        Ok(found) if found.cmdb_variables.is_empty() => {
            format!("matched: {}\n", shown(&found.variables))
        }
        Ok(found) => {
            format!(
                "matched: {}; keys: {}\n",
                shown(&found.variables),
                shown(&found.cmdb_variables)
            )
        }
        Err(_) => {
            let mismatch = explain(&matcher, &spec).unwrap().unwrap();
            let mend = mend(&matcher, &spec).unwrap().unwrap();
            format!("{}\n{}\n", mismatch.sentence(&matcher, &spec), mend.sentence(&spec))
        }
    }
}

/// The profiles of a state with their counts.
fn counts(state: &str) -> String {
    let state = State::parse("state", state).unwrap();
    let line = |(profile, count): (&Name, Count)| {
        let skipped = if count.is_available() { "" } else { ": skipped" };
        format!("{profile} {count}{skipped}\n")
    };
    state.profiles().map(line).collect()
}

/// The entries of a CMDB, or what is wrong with it.
fn entries(cmdb: &str) -> String {
    match Cmdb::parse("vm.cmdb", cmdb, &BTreeSet::new()) {
        Ok(cmdb) => cmdb
            .entries()
            .map(|entry| {
                let fields = entry.fields.iter();
                let fields = fields.map(|field| format!("{}={}", field.key, field.value));
                fields.collect::<Vec<_>>().join(" ") + "\n"
            })
            .collect(),
        Err(findings) => format!("{}\n", findings[0]),
    }
}

/// The plan that an upload is answered with, and `state` and `vm.cmdb` after it.
fn upload([state, specs, cmdb, configure]: [&str; 4], facts: &Facts) -> (String, String) {
    let vm: Name = "vm".parse().unwrap();
    let files = [
        (File::State, state),
        (File::Specs(vm.clone()), specs),
        (File::Cmdb(vm.clone()), cmdb),
        (File::Configure(vm.clone()), configure),
    ];
    let mut world = World::default();
    for (file, text) in &files {
        world.read(file, Some(text.as_bytes())).unwrap();
    }
    let token = Token::from_bytes([7; 16]);
    let decision = world.upload(facts, 0, &Fresh { nonce: token.clone(), ticket: token });
    for change in &decision.changes {
        world.apply(change);
    }
    let stored = [File::State, File::Cmdb(vm)].map(|file| world.text(&file).unwrap());
    match decision.answer {
        Answer::Plan { plan, .. } => (plan.to_string(), stored.concat()),
        other => panic!("no plan: {other:?}"),
    }
}

#[test]
fn every_block_has_the_answer_below_it() {
    let page = page();
    let (mut spec, mut facts, mut answers) = (String::new(), Facts::default(), 0);
    let (mut state, mut cmdb, mut configure) = (String::new(), String::new(), String::new());
    let mut blocks = page.split("```");
    blocks.next();
    while let (Some(block), _) = (blocks.next(), blocks.next()) {
        let (kind, text) = block.split_once('\n').unwrap();
        match kind {
            "specs" => spec = text.to_owned(),
            "facts" => facts = Facts::parse("vm.hw", text.as_bytes()).unwrap(),
            "answer" => {
                assert_eq!(text, answer(&spec, &facts));
                answers += 1;
            }
            "state" => state = text.to_owned(),
            "cmdb" => cmdb = text.to_owned(),
            "configure" => configure = text.to_owned(),
            "counts" => assert_eq!(text, counts(&state)),
            "entries" => assert_eq!(text, entries(&cmdb)),
            "planned" => {
                let (planned, _) = upload([&state, &spec, &cmdb, &configure], &facts);
                assert_eq!(text.trim_end(), planned.lines().next().unwrap());
            }
            "stored" => {
                assert_eq!(text, upload([&state, &spec, &cmdb, &configure], &facts).1);
            }
            // Run by the tests of the server, which reads it.
            "ini" => {}
            other => panic!("a block of an unknown kind `{other}`"),
        }
    }
    assert_eq!(answers, 5);
}

#[test]
fn every_row_of_the_table_of_functions_is_right() {
    let mut rows = 0;
    for line in page().lines().filter(|line| line.ends_with("| yes |") || line.ends_with("| no |"))
    {
        let mut cells = line.trim_matches(|c| c == '|' || c == ' ').split(" | ");
        let mut cell = || cells.next().unwrap().trim_matches('`');
        let (column, value, fits) = (cell(), cell(), cell());
        let column = Literal::from(column).to_text(Style::RON);
        let spec = Spec::parse("f", &format!("[(\"disk\", \"$d\", \"size\", {column})]")).unwrap();
        let mut facts = Facts::default();
        facts.push("disk", "sda", "size", value);
        assert_eq!(Matcher::new(&facts).find(&spec).is_ok(), fits == "yes", "{line}");
        rows += 1;
    }
    assert_eq!(rows, 20);
}

/// The functions that the original's README names, in its own syntax and with its results.
#[test]
fn the_examples_of_the_original_readme_hold() {
    let facts = "[('disk', 'vda', 'size', '20'), ('network', 'eth0', 'ipv4', '192.168.122.7'),
                  ('network', 'eth0', 'serial', '52:54:00:88:17:3c')]";
    let facts = Facts::parse("vm.hw", facts.as_bytes()).unwrap();
    for (column, expected) in [
        ("in(\"20\",\"30\")", "matched: d=vda\n"),
        ("gt(10)", "matched: d=vda\n"),
        ("ge(20)", "matched: d=vda\n"),
        ("lt(30)", "matched: d=vda\n"),
        ("le(20)", "matched: d=vda\n"),
        ("$size=gt(10)", "matched: d=vda size=20\n"),
    ] {
        assert_eq!(answer(&format!("[('disk', '$d', 'size', '{column}')]"), &facts), expected);
    }
}

#[test]
fn the_table_of_findings_lists_all_of_them() {
    let page = page();
    let section = page.split("\n## Findings\n").nth(1).and_then(|it| it.split("\n## ").next());
    let rows: Vec<&str> = section.unwrap().lines().filter(|it| it.starts_with("| `")).collect();
    let codes = specs::diagnostic::Code::ALL.iter();
    let expected: Vec<String> =
        codes.map(|code| format!("| `{code}` | {} |", code.meaning())).collect();
    assert_eq!(rows, expected);
}

const STATE: &str = "[('hp', 4), ('vm', '*')]\n";

const VM_SPECS: &str = "[
    ('disk', '$disk', 'size', 'gt(4)'),
    ('network', '$eth', 'ipv4', 'network(192.168.122.0/24)'),
    ('network', '$eth', 'serial', '$mac'),
]
";

const VM_CMDB: &str = "[
 {'ip': '192.168.122.3', 'hostname': 'host03'},
 {'ip': '192.168.122.4', 'hostname': 'host04'},
 {'ip': '192.168.122.5', 'hostname': 'host05'},
 {'ip': '192.168.122.6', 'hostname': 'host06'},
 {'ip': '192.168.122.7', 'hostname': 'host07'}
]
";

/// As the page shows it, but for its `host3`, which the entry above does not have.
const VM_CMDB_AFTERWARDS: &str = "[
 {'disk': 'vda',
  'eth': 'eth0',
  'hostname': 'host03',
  'ip': '192.168.122.3',
  'mac': '52:54:00:88:17:3c',
  'used': 1},
 {'ip': '192.168.122.4', 'hostname': 'host04'},
 {'ip': '192.168.122.5', 'hostname': 'host05'},
 {'ip': '192.168.122.6', 'hostname': 'host06'},
 {'ip': '192.168.122.7', 'hostname': 'host07'}
]
";

/// What the configure script of the page describes.
const VM_CONFIGURE: &str = r#"(
    role: (name: "mysql", version: "D7-F.1.0.0"),
    hostname: "{{ hostname }}",
    disks: [(device: "/dev/{{ disk }}", table: msdos, partitions: [
        (size: "100%", use: filesystem(type: ext4, mount: "/")),
    ])],
    network: (interfaces: [(name: "{{ eth }}", mac: "{{ mac }}", address: static("{{ ip }}/24"))]),
)"#;

fn readme_machine(serial: &str) -> Facts {
    let text = format!(
        "[('disk', 'vda', 'size', '10'), ('disk', 'vda', 'bytes', '10737418240'),
          ('system', 'product', 'serial', '{serial}'),
          ('network', 'eth0', 'ipv4', '192.168.122.218'),
          ('network', 'eth0', 'serial', '52:54:00:88:17:3c')]"
    );
    Facts::parse("vm.hw", text.as_bytes()).unwrap()
}

/// `state`, `vm.specs`, and `vm.cmdb` before and after a machine, in the original's own syntax.
#[test]
fn the_files_of_the_original_readme_do_what_it_says() {
    assert_eq!(counts(STATE), "hp 4\nvm *\n");
    let facts = readme_machine("A1");
    assert_eq!(answer(VM_SPECS, &facts), "matched: disk=vda eth=eth0 mac=52:54:00:88:17:3c\n");
    let (planned, stored) = upload([STATE, VM_SPECS, VM_CMDB, VM_CONFIGURE], &facts);
    assert!(planned.starts_with("host03 as vm: mysql D7-F.1.0.0"), "{planned}");
    assert_eq!(stored, [STATE, VM_CMDB_AFTERWARDS].concat());
    // The same list as an expression, which the first machine expands.
    let generated = "generate({'ip': '192.168.122.3-7', 'hostname': 'host03-07'})\n";
    assert_eq!(entries(generated), entries(VM_CMDB));
    let (_, stored) = upload([STATE, VM_SPECS, generated, VM_CONFIGURE], &facts);
    assert_eq!(entries(stored.strip_prefix(STATE).unwrap()), entries(VM_CMDB_AFTERWARDS));
}

/// With `$$tag` only that variable chooses the entry.
#[test]
fn the_tags_of_the_original_readme_choose_entries() {
    let specs = "[
 ('system', 'product', 'serial', '$$tag'),
 ('network', '$eth', 'serial', '$mac'),
 ('disk', '$disk', 'size', 'gt(4)'),
]
";
    let cmdb = "generate({'tag': ('TAG1', 'TAG2', 'TAG3'),
          'ip': '192.168.122.3-5',
          'hostname': 'host3-5'})
";
    let (planned, stored) = upload([STATE, specs, cmdb, VM_CONFIGURE], &readme_machine("TAG2"));
    assert!(planned.starts_with("host4 as vm"), "{planned}");
    let expected = "\
ip=192.168.122.3 hostname=host3 tag=TAG1
disk=vda eth=eth0 hostname=host4 ip=192.168.122.4 mac=52:54:00:88:17:3c tag=TAG2 used=1
ip=192.168.122.5 hostname=host5 tag=TAG3
";
    let sorted = |line: &str| {
        let mut fields: Vec<&str> = line.split(' ').collect();
        fields.sort_unstable();
        fields.join(" ")
    };
    let stored = entries(stored.strip_prefix(STATE).unwrap());
    assert!(stored.lines().map(sorted).eq(expected.lines().map(sorted)), "{stored}");
}
