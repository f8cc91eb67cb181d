//! The literal files of both syntaxes, and the configure file.

use specs::check::{Files, check};
use specs::cmdb::Cmdb;
use specs::configure::Configure;
use specs::configure::template::{self, Scope, Shape};
use specs::facts::Facts;
use specs::ids::{Kind, Table, account_command, merge, renumber};
use specs::import::{self, Outcome};
use specs::lang::{Quantity, Spec};
use specs::literal::{Document, Style};
use specs::machine::{Identity, system_name};
use specs::plan::build::{Inputs, plan};
use specs::plan::lint::{errors, lint};
use specs::secret::redacted_facts;
use specs::state::State;
use specs::units::{FatId, Mac, Name, Token, Uuid};
use specs::value::{Value, Variables};

/// A document is edited back to its text, and printed and read again in every style.
pub fn literal(bytes: &[u8]) {
    let Ok(document) = Document::parse_bytes("f", bytes) else { return };
    assert_eq!(document.edit().finish(), document.text());
    let literal = document.root().literal();
    for style in [Style::RON, Style::PYTHON] {
        let printed = literal.to_file(style);
        let read = Document::parse("f", &printed).map(|read| read.root().literal());
        assert_eq!(read.as_ref(), Ok(&literal), "{printed}");
    }
    let (ron, _) = document.to_ron();
    let read = Document::parse("f", &ron).map(|read| read.root().literal());
    assert_eq!(read, Ok(literal), "{ron}");
}

/// The lines of a spec, printed, say the same.
pub fn spec(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Spec::parse("f", text) {
        Ok(spec) => {
            let lines: Vec<String> = spec.lines.iter().map(|line| line.to_text()).collect();
            let printed = format!("// RON\n[{}]", lines.join(",\n"));
            let again = Spec::parse("f", &printed)
                .map(|spec| spec.lines.iter().map(|line| line.to_text()).collect::<Vec<String>>());
            assert_eq!(again, Ok(lines), "{printed}");
        }
        Err(finding) => assert!(finding.line > 0 && !finding.to_string().is_empty()),
    }
}

/// Facts have a name that is safe as a file's, and redacting them twice is redacting them once.
pub fn facts(bytes: &[u8]) {
    let Ok(facts) = Facts::parse("f", bytes) else { return };
    let _ = Identity::of(&facts);
    assert!(!system_name(&facts).as_str().contains('/'));
    let redacted = redacted_facts(&facts);
    assert_eq!(redacted_facts(&redacted), redacted);
}

/// A count of which one is taken is read back, and the text does not change when none is.
pub fn state(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(mut state) = State::parse("state", text) else { return };
    assert_eq!(state.to_text(), text);
    let profiles: Vec<_> = state.profiles().map(|(name, count)| (name.clone(), count)).collect();
    let mut wanted = Vec::new();
    for (profile, count) in profiles {
        state.add(&profile, -1);
        wanted.push((profile, count.plus(-1)));
    }
    let written = state.to_text();
    let read = State::parse("state", &written).map(|state| {
        state.profiles().map(|(profile, count)| (profile.clone(), count)).collect::<Vec<_>>()
    });
    assert_eq!(read, Ok(wanted), "{written}");
}

/// An entry that is bound is the only difference to a CMDB read before.
pub fn cmdb(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let keys = ["hostname".to_owned()].into();
    let Ok(mut cmdb) = Cmdb::parse("f", text, &keys) else { return };
    assert_eq!(cmdb.to_text(), text);
    if cmdb.is_empty() || cmdb.len() > 1_000 {
        return;
    }
    let mut entries: Vec<_> = cmdb.entries().collect();
    assert_eq!(entries.len(), cmdb.len());
    let last = entries.len() - 1;
    let bound = entries[last].bound_to(&[("disk".to_owned(), "vda".into())].into());
    entries[last] = bound.clone();
    cmdb.set(last, bound, None);
    let written = cmdb.to_text();
    let read = Cmdb::parse("f", &written, &keys).map(|cmdb| cmdb.entries().collect::<Vec<_>>());
    assert_eq!(read, Ok(entries), "{written}");
}

/// Whatever can be read as a configure file can be asked what it needs.
pub fn configure(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Configure::parse("f", text) {
        Ok(configure) => {
            let _ = (configure.variables(), configure.scripts());
        }
        Err(findings) => assert!(!findings.is_empty()),
    }
}

/// What the small types accept they print, and what they print they accept.
pub fn units(bytes: &[u8]) {
    fn unchanged<T>(text: &str)
    where
        T: std::str::FromStr + ToString + PartialEq + std::fmt::Debug,
    {
        let Ok(value) = text.parse::<T>() else { return };
        let printed = value.to_string();
        assert_eq!(printed.parse::<T>().ok(), Some(value), "{text:?}");
        assert!(!printed.contains(char::is_control) && !printed.contains('/'), "{printed:?}");
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    unchanged::<Name>(text);
    unchanged::<Mac>(text);
    unchanged::<Token>(text);
    unchanged::<Uuid>(text);
    unchanged::<FatId>(text);
    let (left, right) = text.split_once('\n').unwrap_or((text, text));
    let (Some(wanted), Some(fact)) = (Quantity::parse(left), Quantity::parse(right)) else {
        return;
    };
    assert!(!wanted.number.is_nan() && !fact.number.is_nan(), "{text:?}");
    // What compares one way compares the other way round.
    let there = wanted.compare_fact(right, None);
    let back = fact.compare_fact(left, None);
    if wanted.unit.is_some() == fact.unit.is_some() {
        assert_eq!(there, back.map(std::cmp::Ordering::reverse), "{text:?}");
    }
}

/// A template: what can be rendered was accepted by the check, names only variables that
/// [`template::variables`] names, and holds no line break where one line is wanted. A text
/// without any mark stands for itself.
pub fn template(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let facts = Facts(Vec::new());
    let variables: Variables = [
        ("eth".to_owned(), Value::from("eth0")),
        ("ip-mgmt".to_owned(), Value::from("10.0.0.1")),
        ("n".to_owned(), Value::Integer(8)),
        ("item".to_owned(), Value::from("a\nb")),
    ]
    .into();
    let Ok(scope) = Scope::new(&variables, &facts) else { return };
    let checked = template::check(text);
    match scope.render(text, Shape::Line) {
        Ok(line) => {
            assert!(!line.contains(char::is_control), "{line:?}");
            assert_eq!(scope.render(text, Shape::Text).as_ref(), Ok(&line), "{text:?}");
            assert_eq!(checked, Ok(()), "{text:?}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if !text.contains(['{', '}', '\n', '\r']) {
        assert_eq!(scope.render(text, Shape::Text).as_deref().ok(), Some(text));
    }
}

/// Whatever the configure file says: a plan that is made has no error, and is the same after
/// it crossed the network.
pub fn planning(bytes: &[u8]) {
    const FACTS: &[u8] = br#"[["disk","vda","size","10"],["disk","vda","bytes","10737418240"],
        ["disk","vdb","size","20"],["disk","vdb","bytes","21474836480"],
        ["disk","vdb","serial","S1"],["network","eth0","serial","52:54:00:88:17:3c"],
        ["network","eth0","ipv4","10.0.2.15"],["firmware","boot","type","uefi"]]"#;
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(configure) = Configure::parse("f", text) else { return };
    let Ok(facts) = Facts::parse("facts", FACTS) else { panic!("the facts are wrong") };
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
    ];
    let variables: Variables =
        pairs.map(|(name, value)| (name.to_owned(), Value::from(value))).into();
    let scripts =
        configure.scripts().into_iter().map(|it| (it.to_owned(), "#!/bin/sh\n".to_owned()));
    let inputs = Inputs {
        facts: &facts,
        variables: &variables,
        profile: &profile,
        nonce: &Token::from_bytes([7; 16]),
        secrets: &[],
        scripts: &scripts.collect(),
    };
    match plan(&configure, &inputs) {
        Ok(plan) => {
            let notes = lint(&plan);
            assert_eq!(errors(&notes).next(), None, "{plan}");
            super::wire::crosses_the_network(&plan);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A folder of configuration, its files one after the other with a zero between: whatever they
/// hold, each finding names a file that is there and a line of it.
pub fn checking(bytes: &[u8]) {
    let names = ["state", "vm.specs", "vm.cmdb", "vm.configure", "hp.specs", "hp.configure"];
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let files: Files = names
        .into_iter()
        .zip(text.split('\0'))
        .map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
        .collect();
    for finding in check(&files).findings {
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
    if let Outcome::Script(statements) = import::import("vm.configure", bytes).outcome {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
        for statement in &statements {
            assert!((1..=lines).contains(&statement.line), "{statement:?}");
            assert!(!statement.text.trim().is_empty(), "{statement:?}");
        }
    }
}

/// A table of numbers, an `/etc/passwd` and an `/etc/group`, with a zero between: the table is
/// written back as it was read, and a tree that was renumbered needs no second time.
pub fn ids(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut parts = text.split('\0');
    let mut part = || parts.next().unwrap_or_default();
    let Ok(mut table) = Table::parse("f", part()) else { return };
    let written = table.to_file();
    assert_eq!(Table::parse("f", &written).as_ref(), Ok(&table), "{written}");
    let (passwd, group, command) = (part(), part(), part());
    let known = merge(Kind::Users, passwd, &mut table.users)
        .and_then(|()| merge(Kind::Groups, group, &mut table.groups));
    if known.is_ok()
        && let Ok(once) = renumber(passwd, group, &table)
    {
        let twice = renumber(&once.passwd, &once.group, &table);
        let changes = twice.map(|twice| (twice.passwd, twice.group, twice.changes));
        assert_eq!(changes, Ok((once.passwd, once.group, Vec::new())), "{text}");
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
