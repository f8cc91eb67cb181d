//! What the literal files say, and the configure file. How they are written is in `literal`, what
//! is counted and handed out in `stock`.

use std::cmp::Ordering;
use std::fmt::Debug;
use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;
use specs::check::{Files, check};
use specs::configure::Configure;
use specs::configure::template::{self, Scope, Shape, TemplateError};
use specs::diagnostic::Severity;
use specs::facts::{Fact, Facts, Firmware};
use specs::ids::{Kind, Table, account_command, merge, renumber};
use specs::import::{self, Outcome};
use specs::lang::{Column, Quantity, Spec, Unit};
use specs::literal::{Document, Literal, Style};
use specs::machine::{Identity, system_name};
use specs::matching::Matcher;
use specs::plan::build::{Inputs, plan};
use specs::plan::lint::{errors, lint};
use specs::secret::redacted_facts;
use specs::units::{Bytes, FatId, Mac, Name, SectorSize, Token, Uuid};
use specs::value::{Value, Variables};

/// The lines of a spec, printed, say the same; a value is found by the column that stands for it.
pub fn spec(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let spec = match Spec::parse("f", text) {
        Ok(spec) => spec,
        Err(finding) => return assert!(finding.line > 0 && !finding.to_string().is_empty()),
    };
    let lines: Vec<String> = spec.lines.iter().map(|line| line.to_text()).collect();
    let printed = format!("// RON\n[{}]", lines.join(",\n"));
    let again = match Spec::parse("f", &printed) {
        Ok(again) => again,
        Err(finding) => panic!("{finding}"),
    };
    let printed_again: Vec<String> = again.lines.iter().map(|line| line.to_text()).collect();
    assert_eq!(printed_again, lines);
    assert_eq!(again.variables(), spec.variables());
    for column in spec.lines.iter().flat_map(|line| &line.columns) {
        // The column's text as if a machine had reported it.
        let fact = Fact("a".into(), "b".into(), "c".into(), column.source.clone());
        let Some(literally) = Column::literally(&column.source) else { continue };
        let columns = ["a".into(), "b".into(), "c".into(), literally].map(Literal::Value).to_vec();
        let text = Literal::List(vec![Literal::Tuple(columns)]).to_file(Style::RON);
        let found = Spec::parse("f", &text)
            .map(|spec| Matcher::new(&Facts(vec![fact])).find(&spec).is_ok());
        assert_eq!(found, Ok(true), "{text}");
    }
}

/// Facts are the same after they crossed the network and have a name that is safe as a file's;
/// redacting them twice is redacting them once; two halves of them see each other alike.
pub fn facts(bytes: &[u8]) {
    let facts = match Facts::parse("f", bytes) {
        Ok(facts) => facts,
        Err(finding) => return assert!(finding.line > 0 && !finding.to_string().is_empty()),
    };
    let Ok(json) = serde_json::to_vec(&facts) else { panic!("no JSON: {facts:?}") };
    assert_eq!(Facts::parse("f", &json).as_ref(), Ok(&facts));
    for fact in facts.0.iter().filter(|fact| fact.0 == "disk") {
        let disk = facts.disk(&fact.1).map(|disk| disk.name);
        assert_eq!(disk.as_ref(), Some(&fact.1));
    }
    let uefi = facts.text("system", "firmware", "type").is_some_and(|text| text == "uefi");
    assert_eq!(facts.firmware() == Firmware::Uefi, uefi);
    assert!(!system_name(&facts).as_str().contains('/'));
    let redacted = redacted_facts(&facts);
    assert_eq!(redacted_facts(&redacted), redacted);

    let (earlier, later) = facts.0.split_at(facts.0.len() / 2);
    let [earlier, later] = [earlier, later].map(|half| Identity::of(&Facts(half.to_vec())));
    assert_eq!(earlier.confirms(&later), later.confirms(&earlier));
    assert_eq!(earlier.shared_mac(&later).is_some(), later.shared_mac(&earlier).is_some());
    let contradicts = |one: &Identity, other: &Identity| one.contradiction(other).is_some();
    assert_eq!(contradicts(&earlier, &later), contradicts(&later, &earlier));
    assert!(!contradicts(&earlier, &earlier));
    assert_eq!(earlier.confirms(&earlier), earlier.serial.is_some() || earlier.uuid.is_some());
    let addressed = earlier.is_addressed() || later.is_addressed();
    let both = later.clone().or_earlier(earlier);
    assert_eq!((both.is_addressed(), &both.macs), (addressed, &later.macs));
    assert!(later.is_empty() || !both.is_empty());
}

/// Whatever can be read as a configure file can be asked what it needs.
pub fn configure(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Configure::parse("f", text) {
        Ok(configure) => {
            let _ = (configure.variables(), configure.scripts());
            for path in ["hostname", "disks[0].partitions[1].size", "run[9].name", "nothing"] {
                let at = configure.at(path);
                assert!((1..=text.split('\n').count()).contains(&at.line), "{path}: {at}");
            }
        }
        Err(findings) => assert!(findings.iter().all(|it| it.line > 0)),
    }
}

/// What the small types accept they print, and what they print they accept.
pub fn units(bytes: &[u8]) {
    fn unchanged<T>(text: &str)
    where
        T: FromStr + ToString + PartialEq + Debug + Serialize + DeserializeOwned,
    {
        let Ok(value) = text.parse::<T>() else { return };
        let printed = value.to_string();
        assert_eq!(printed.parse::<T>().ok().as_ref(), Some(&value), "{text:?}");
        assert!(!printed.contains(char::is_control) && !printed.contains('/'), "{printed:?}");
        super::wire::crosses_the_network(&value);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    unchanged::<Name>(text);
    unchanged::<Mac>(text);
    unchanged::<Token>(text);
    unchanged::<Uuid>(text);
    unchanged::<FatId>(text);
    sizes(bytes);
    let (left, right) = text.split_once('\n').unwrap_or((text, text));
    let (Some(wanted), Some(fact)) = (Quantity::parse(left), Quantity::parse(right)) else {
        return;
    };
    assert!(!wanted.number.is_nan() && !fact.number.is_nan(), "{text:?}");
    // What compares one way compares the other way round.
    let there = wanted.compare_fact(right, None);
    let back = fact.compare_fact(left, None);
    if wanted.unit.is_some() == fact.unit.is_some() {
        assert_eq!(there, back.map(Ordering::reverse), "{text:?}");
    }
    // A fact without a unit is in that of its kind.
    let kinds = [
        ("disk", "size"),
        ("disk", "bytes"),
        ("network", "size"),
        ("cpu", "clock"),
        ("cpu", "current_Mhz"),
        ("system", "serial"),
    ];
    for natural in kinds.map(|(class, key)| Unit::of_fact(class, "a", key)) {
        let Some(unit) = natural.filter(|_| fact.unit.is_none() && wanted.unit.is_some()) else {
            continue;
        };
        let spelled = Quantity { unit: natural, ..fact };
        let spelled = format!("{:e}{}", spelled.number, unit.name);
        if fact.number.is_finite() {
            let told = wanted.compare_fact(&spelled, None);
            assert_eq!(wanted.compare_fact(right, natural), told, "{text:?} {spelled}");
        }
    }
}

/// Sizes and identifiers made of sixteen bytes.
fn sizes(bytes: &[u8]) {
    let Some(first) = bytes.first_chunk::<16>() else { return };
    let nonce = Token::from_bytes(*first);
    assert_eq!(nonce.to_string().parse().as_ref(), Ok(&nonce));
    let purpose = String::from_utf8_lossy(&bytes[16..]).into_owned();
    let (uuid, id) = (Uuid::derived(&nonce, &purpose), FatId::derived(&nonce, &purpose));
    assert_eq!(uuid.as_str().parse().as_ref(), Ok(&uuid));
    assert_eq!(id.as_str().parse().as_ref(), Ok(&id));
    let half = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    // From bytes to exbibytes.
    let size = Bytes(half(&first[..8]) >> (half(&first[8..]) & 63));
    let shown = size.to_string();
    assert!(shown.len() <= 14 && shown.ends_with('B'), "{shown}");
    for sector in [512, 4096, u32::from(first[0])] {
        let Ok(sector) = SectorSize::try_from(sector) else { continue };
        super::wire::crosses_the_network(&sector);
        assert_eq!(size.sectors(sector), size.0 / u64::from(sector.get()));
    }
}

/// A template: what can be rendered was accepted by the check, names only variables that
/// [`template::variables`] names, and holds no line break where one line is wanted. A text
/// without any mark stands for itself.
pub fn template(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let facts = Facts(vec![Fact("system".into(), "product".into(), "name".into(), "a\rb".into())]);
    let mut variables: Variables = [
        ("eth".to_owned(), Value::from("eth0")),
        ("ip-mgmt".to_owned(), Value::from("10.0.0.1")),
        ("n".to_owned(), Value::Integer(8)),
        ("item".to_owned(), Value::from("a\nb")),
        ("product".to_owned(), Value::from("a\rb")),
        ("all".to_owned(), Value::List(vec![Value::None, Value::Bool(true), Value::Float(2.5)])),
    ]
    .into();
    rendered(text, &variables, &facts);
    // With every variable there is, none is unknown.
    for name in template::variables(text) {
        if template::clash(variables.keys().map(String::as_str).chain([&*name])).is_none() {
            variables.insert(name, Value::from("x"));
        }
    }
    rendered(text, &variables, &facts);
    variables.insert("ip.mgmt".to_owned(), Value::None);
    assert!(matches!(Scope::new(&variables, &facts), Err(TemplateError::Clash { .. })));
    if !text.contains(['{', '}', '\n', '\r']) {
        let none = Variables::new();
        let scope = Scope::new(&none, &facts);
        assert_eq!(scope.and_then(|it| it.render(text, Shape::Text)).as_deref(), Ok(text));
    }
}

fn rendered(text: &str, variables: &Variables, facts: &Facts) {
    let Ok(scope) = Scope::new(variables, facts) else { panic!("two names are one") };
    let checked = template::check(text);
    match scope.render(text, Shape::Line) {
        Ok(line) => {
            assert!(!line.contains(char::is_control), "{line:?}");
            assert_eq!(scope.render(text, Shape::Text).as_ref(), Ok(&line), "{text:?}");
            assert_eq!(checked, Ok(()), "{text:?}");
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(error.help().is_none_or(|help| !help.is_empty()));
            if let TemplateError::Unknown { name, .. } = error {
                assert!(scope.variable(&name).is_none(), "{name} in {text:?}");
            }
        }
    }
    let _ = scope.with_item("disk2".to_owned()).render(text, Shape::Text);
}

/// Whatever the configure file says: a plan that is made has no error, and is the same after
/// it crossed the network.
pub fn planning(bytes: &[u8]) {
    // Two disks as machines report them, a large one, one of which only GB are known, one of
    // unknown size, and two paths to one disk.
    const FACTS: &[u8] = br#"[["disk","vda","size","10"],["disk","vda","bytes","10737418240"],
        ["disk","vdb","size","20"],["disk","vdb","bytes","21474836480"],
        ["disk","vdb","serial","S1"],["disk","vdb","id","virtio-S1"],
        ["disk","sda","bytes","4000787030016"],["disk","sda","logical_block_size","512"],
        ["disk","sdb","size","500"],["disk","sdb","id","same"],
        ["disk","sdc","size","N/A"],["disk","sdc","id","same"],
        ["disk","sdd","size","9"],["disk","sdd","wwn-id","w"],
        ["disk","sde","size","9"],["disk","sde","wwn-id","w"],
        ["network","eth0","serial","52:54:00:88:17:3c"],["network","eth0","ipv4","10.0.2.15"],
        ["network","eth1","serial","52:54:00:88:17:3d"]]"#;
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(configure) = Configure::parse("f", text) else { return };
    let Ok(mut facts) = Facts::parse("facts", FACTS) else { panic!("the facts are wrong") };
    planned(&configure, &facts);
    facts.push("system", "firmware", "type", "uefi");
    planned(&configure, &facts);
}

fn planned(configure: &Configure, facts: &Facts) {
    let Ok(profile) = "vm".parse::<Name>() else { panic!("the profile is wrong") };
    let pairs = [
        ("disk", "vda"),
        ("disk2", "vdb"),
        ("eth", "eth0"),
        ("mac", "52:54:00:88:17:3c"),
        ("ip", "10.0.2.3"),
        ("netmask", "255.255.255.0"),
        ("gateway", "10.0.2.2"),
        ("hostname", "host03"),
        ("bell", "a\u{7}b"),
    ];
    let variables: Variables =
        pairs.map(|(name, value)| (name.to_owned(), Value::from(value))).into();
    let scripts =
        configure.scripts().into_iter().map(|it| (it.to_owned(), format!("#!/bin/{it}\n")));
    let inputs = Inputs {
        facts,
        variables: &variables,
        profile: &profile,
        nonce: &Token::from_bytes([7; 16]),
        secrets: &[],
        // One name is of a file that is not there.
        scripts: &scripts.filter(|(name, _)| name != "missing").collect(),
    };
    match plan(configure, &inputs) {
        Ok(plan) => {
            let notes = lint(&plan);
            assert_eq!(errors(&notes).next(), None, "{plan}");
            super::wire::crosses_the_network(&plan);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A folder of configuration, its files one after the other with a zero between, `-` for one that
/// is not there: whatever they hold, each finding names a file and a line of it.
pub fn checking(bytes: &[u8]) {
    let names = ["state", "vm.specs", "vm.cmdb", "vm.configure", "hp.specs", "hp.configure"];
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let files: Files = names
        .into_iter()
        .zip(text.split('\0'))
        .filter(|(_, text)| *text != "-")
        .map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
        .collect();
    let report = check(&files);
    let errors = report.findings.iter().filter(|it| it.severity == Severity::Error).count();
    assert_eq!(report.has_errors(), errors > 0);
    assert_eq!(report.summary().contains("nothing to mend"), report.findings.is_empty());
    for finding in report.findings {
        let lines =
            files.get(&finding.file).map_or(1, |text| text.split(|byte| *byte == b'\n').count());
        assert!((1..=lines.max(1)).contains(&finding.line), "{finding}");
        assert!(!finding.to_string().is_empty());
    }
}

/// A file of an original: what is written says what was read, and no line of a script is lost.
pub fn import(bytes: &[u8]) {
    let literal = import::import("vm.specs", bytes);
    if let (Outcome::Converted, Some(written)) = (&literal.outcome, &literal.text) {
        let root = |bytes: &[u8]| Document::parse_bytes("f", bytes).map(|it| it.root().literal());
        assert_eq!(root(written.as_bytes()), root(bytes), "{written}");
    }
    let settings = import::import("edeploy.conf", bytes);
    assert_eq!(settings.text.as_deref(), std::str::from_utf8(bytes).ok());
    assert_eq!(import::import("README", bytes).outcome, Outcome::Foreign);
    if let Outcome::Script(statements) = import::import("vm.configure", bytes).outcome {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
        for statement in &statements {
            assert!((1..=lines).contains(&statement.line), "{statement:?}");
            assert!(!statement.text.trim().is_empty(), "{statement:?}");
        }
    }
}

/// A table of numbers, an `/etc/passwd` and an `/etc/group`, with a zero between: a tree that
/// was renumbered needs no second time.
pub fn ids(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut parts = text.split('\0');
    let mut part = || parts.next().unwrap_or_default();
    let mut table = match Table::parse("f", part()) {
        Ok(table) => table,
        Err(finding) => return assert!(finding.line > 0 && !finding.to_string().is_empty()),
    };
    let (passwd, group, command) = (part(), part(), part());
    match renumber(passwd, group, &table) {
        Ok(once) => {
            let twice = renumber(&once.passwd, &once.group, &table);
            let changes = twice.map(|twice| (twice.passwd, twice.group, twice.changes));
            assert_eq!(changes, Ok((once.passwd, once.group, Vec::new())), "{text}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    // Numbers of a tree that agree with the table, or that it does not know yet, join it.
    let mut merged = table.clone();
    let known = merge(Kind::Users, passwd, &mut merged.users)
        .and_then(|()| merge(Kind::Groups, group, &mut merged.groups));
    if known.is_ok() {
        table = merged;
    }
    let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
    if let Ok(Some(numbered)) = account_command(&words, &table) {
        // A command may name another group than the table has for the user, and then gives its
        // number, which is a number like any other to whoever reads it again.
        let of_table = |user: &String| {
            table.users.get(user).is_none_or(|user| user.group == numbered.primary_group)
        };
        if numbered.arguments.iter().all(of_table) {
            let again = account_command(&numbered.arguments, &table);
            assert_eq!(again, Ok(Some(numbered)), "{command}");
        }
    }
}
