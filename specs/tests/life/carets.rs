//! What people see of each kind of finding: a bad file, the text in full, and that a good file
//! does not have it. The texts are written by hand.

use specs::check::{Texts, check};

use crate::hall::{CMDB, CONFIGURE, SPECS};

fn findings(changes: &[(&str, &str)]) -> Vec<specs::diagnostic::Diagnostic> {
    let files = [
        ("state", "[('vm', 3)]"),
        ("vm.specs", SPECS),
        ("vm.cmdb", CMDB),
        ("vm.configure", CONFIGURE),
    ];
    let mut texts: Texts = files.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    for (name, text) in changes {
        texts.remove(*name);
        if *text != "(absent)" {
            texts.insert((*name).to_owned(), (*text).to_owned());
        }
    }
    check(&texts)
}

/// The first finding of the kind that `expected` names is `expected`; `good` has none of it.
#[track_caller]
fn shows(bad: &[(&str, &str)], good: &[(&str, &str)], expected: &str) {
    let code = expected.split(['[', ']']).nth(1).unwrap();
    let found = findings(bad);
    let of_kind = found.iter().find(|finding| finding.code == code);
    let shown = of_kind.map(ToString::to_string);
    assert_eq!(shown.as_deref(), Some(expected), "{found:#?}");
    assert!(findings(good).iter().all(|finding| finding.code != code), "{code}");
}

#[test]
fn files() {
    shows(
        &[("vm.specs", "(absent)")],
        &[],
        "error[check-missing-file]: there is no vm.specs: no machine ever fits
 --> state:1:2
  |
1 | [('vm', 3)]
  |  ^^^^^^^^^",
    );
    shows(
        &[("hp.specs", "[]")],
        &[("hp.txt", "[]")],
        "warning[check-unlisted]: `state` does not name hp: this file is never used
 --> hp.specs:1:1
  |
1 | []
  | ^^
  = help: add `(\"hp\", 0)` to `state`",
    );
    shows(
        &[("state", "[('vm', 4)]")],
        &[("state", "[('vm', '*')]")],
        "warning[check-count]: 4 machines of vm are wanted, and 3 of the 3 entries of its CMDB are free
 --> state:1:2
  |
1 | [('vm', 4)]
  |  ^^^^^^^^^
  = help: add entries, or lower the count",
    );
}

#[test]
fn state() {
    shows(
        &[("state", "[('vm', 3), ('vm', 1)]")],
        &[],
        "error[state-twice]: profile `vm` stands here a second time
 --> state:1:13
  |
1 | [('vm', 3), ('vm', 1)]
  |             ^^^^^^^^^
  = help: leave one line, with the sum of the counts",
    );
    shows(
        &[("state", "[('../vm', 3)]")],
        &[("state", "[('vm+1', 3), ('vm', 3)]")],
        "error[state-name]: this is no name of a profile
 --> state:1:3
  |
1 | [('../vm', 3)]
  |   ^^^^^^^
  = help: letters, digits, `.`, `_`, `+`, `-`; first a letter or digit",
    );
    shows(
        &[("state", "[('vm', 'x')]")],
        &[("state", "[('vm', '3')]")],
        "error[state-count]: a count is a whole number or `\"*\"`
 --> state:1:9
  |
1 | [('vm', 'x')]
  |         ^^^
  = help: write how many machines may still be installed, or `\"*\"` for any number",
    );
    shows(
        &[("state", "[('vm',)]")],
        &[],
        "error[state-shape]: a line of a state is a pair, not a tuple
 --> state:1:2
  |
1 | [('vm',)]
  |  ^^^^^^^
  = help: write `(\"vm\", 4)` or `(\"vm\", \"*\")`",
    );
}

#[test]
fn entries() {
    shows(
        &[("vm.cmdb", "[1]")],
        &[("vm.cmdb", "[]")],
        "error[cmdb-shape]: an entry is a mapping, not a number
 --> vm.cmdb:1:2
  |
1 | [1]
  |  ^
  = help: write `{\"ip\": \"10.0.0.1\", \"hostname\": \"host01\"}`",
    );
    shows(
        &[("vm.cmdb", "[{'a': {'b': 1}}]")],
        &[("vm.cmdb", "[{'a': ['b', 1]}]")],
        "error[cmdb-nested]: the value of `a` holds a mapping; an entry holds texts, numbers and lists
 --> vm.cmdb:1:8
  |
1 | [{'a': {'b': 1}}]
  |        ^^^^^^^^
  = help: give each of the inner keys a name of its own in the entry",
    );
    shows(
        &[("vm.cmdb", "generate({'port': 80})")],
        &[("vm.cmdb", "generate({'port': 80, 'hostname': 'h1-3'})")],
        "error[cmdb-generate]: no range and no list says how many entries there are; give one value a \
         range such as `host01-20`
 --> vm.cmdb:1:10
  |
1 | generate({'port': 80})
  |          ^^^^^^^^^^^^",
    );
    shows(
        &[("vm.cmdb", "[{'hostname': 'a'}, {'hostname': 'a'}]")],
        &[("vm.cmdb", "[{'hostname': 'a'}, {'hostname': 'b'}]")],
        "error[check-duplicate]: hostname a is that of entry 1 of vm.cmdb as well
 --> vm.cmdb:1:34
  |
1 | [{'hostname': 'a'}, {'hostname': 'a'}]
  |                                  ^^^
  = help: two machines would have it",
    );
    let keyed =
        ("vm.specs", "[('system', 'product', 'serial', '$$tag'), ('disk', '$disk', 'size', '1')]");
    shows(
        &[keyed, ("vm.cmdb", "[{'tag': 'T', 'hostname': 'a'}, {'tag': 'T', 'hostname': 'b'}]")],
        &[keyed, ("vm.cmdb", "[{'tag': 'T', 'hostname': 'a'}, {'tag': 'U', 'hostname': 'b'}]")],
        "error[check-duplicate-key]: entry 1 has the same tag=T: this one is never chosen
 --> vm.cmdb:1:41
  |
1 | [{'tag': 'T', 'hostname': 'a'}, {'tag': 'T', 'hostname': 'b'}]
  |                                         ^^^",
    );
    shows(
        &[("vm.cmdb", "[{'ip': '10.0.1.3', 'netmask': '24', 'gateway': '10.0.2.2'}]")],
        &[("vm.cmdb", "[{'ip': '10.0.1.3', 'netmask': '16', 'gateway': '10.0.2.2'}]")],
        "error[check-network]: the gateway 10.0.2.2 is not in 10.0.1.0/24, the network of 10.0.1.3
 --> vm.cmdb:1:9
  |
1 | [{'ip': '10.0.1.3', 'netmask': '24', 'gateway': '10.0.2.2'}]
  |         ^^^^^^^^^^",
    );
}

#[test]
fn specs() {
    let line = |column: &str| format!("[('disk', '$disk', 'size', '{column}')]");
    let (never, some) = (line("range(9, 3)"), line("range(3, 9)"));
    shows(
        &[("vm.specs", &never)],
        &[("vm.specs", &some)],
        "error[check-never]: no value satisfies this: the line never matches
 --> vm.specs:1:28
  |
1 | [('disk', '$disk', 'size', 'range(9, 3)')]
  |                            ^^^^^^^^^^^^^
  = help: look at the limits: each must leave room for the other",
    );
    let (unused, used) = (line("$size"), line("gt(4)"));
    shows(
        &[("vm.specs", &unused)],
        &[("vm.specs", &used)],
        "warning[check-unused]: `$size` is bound, and nothing uses it
 --> vm.specs:1:28
  |
1 | [('disk', '$disk', 'size', '$size')]
  |                            ^^^^^^^
  = help: it is still stored in the CMDB entry of a machine",
    );
    let unbound = CONFIGURE.replace("{{ hostname }}", "{{ hostnam }}");
    shows(
        &[("vm.configure", &unbound)],
        &[],
        "error[check-unbound]: nothing binds `hostnam`: vm refuses machines
 --> vm.configure:3:15
  |
3 |     hostname: \"{{ hostnam }}\",
  |               ^^^^^^^^^^^^^^^
  = help: bind `$hostnam` in the specs, or add `hostnam` to the CMDB entries",
    );
    shows(
        &[("vm.specs", "[('disk', '$disk'\n 'x')]")],
        &[("vm.specs", "[('disk', '$disk', 'size', '1')]")],
        "error[spec-shape]: a line has four columns (class, name, key, value); this one has 2
 --> vm.specs:1:2
  |
1 | [('disk', '$disk'
  |  ^^^^^^^^^^^^^^^^",
    );
}
