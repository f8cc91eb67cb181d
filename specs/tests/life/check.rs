//! For each kind of finding a configuration that has it and one that does not.
#![expect(clippy::disallowed_methods, reason = "tests read their fixtures")]

use std::path::Path;

use expect_test::expect;
use specs::check::{Files, Report, check};
use specs::diagnostic::Code;

use crate::hall::{CMDB, CONFIGURE, SPECS};

fn files(changes: &[(&str, &str)]) -> Files {
    let mut files: Files = [
        ("state", "[('vm', 3)]"),
        ("vm.specs", SPECS),
        ("vm.cmdb", CMDB),
        ("vm.configure", CONFIGURE),
    ]
    .map(|(name, text)| (name.to_owned(), text.into()))
    .into();
    for (name, text) in changes {
        match *text {
            "" => files.remove(*name),
            text => files.insert((*name).to_owned(), text.into()),
        };
    }
    files
}

fn checked(changes: &[(&str, &str)]) -> Report {
    check(&files(changes))
}

/// Findings as `code file:line:column message`, those about what is bound for nobody left out.
fn found(changes: &[(&str, &str)]) -> Vec<String> {
    checked(changes)
        .findings
        .into_iter()
        .filter(|finding| finding.code != Code::CheckUnused)
        .map(|finding| format!("{} {}", finding.code, finding.one_line()))
        .collect()
}

#[track_caller]
fn find(changes: &[(&str, &str)], expected: &[&str]) {
    assert_eq!(found(changes), expected);
}

#[test]
fn a_good_configuration_has_none() {
    find(&[], &[]);
    let used = [("vm.specs", "[('disk', '$disk', 'size', 'gt(4)')]")];
    assert_eq!(checked(&used).summary(), "nothing to mend in 1 profile with 3 CMDB entries");
    assert_eq!(checked(&[]).summary(), "2 warnings in 1 profile with 3 CMDB entries");
    let broken = checked(&[("vm.configure", "")]);
    assert_eq!(broken.summary(), "1 error in 1 profile with 3 CMDB entries");
    assert!(broken.has_errors() && !checked(&[]).has_errors());
}

#[test]
fn files_that_are_missing_or_never_used() {
    find(
        &[("state", "")],
        &["check-missing-file state:1:1: there is no `state`: no profile is ever tried"],
    );
    find(
        &[("vm.specs", ""), ("vm.configure", "")],
        &[
            "check-missing-file state:1:2: there is no vm.specs: no machine ever fits",
            "check-missing-file state:1:2: there is no vm.configure: machines that fit are refused",
        ],
    );
    find(
        &[("hp.specs", "[]\n# all")],
        &["check-unlisted hp.specs:1:1: `state` does not name hp: this file is never used"],
    );
    // What is wrong with it is told all the same: it may be listed tomorrow.
    for (file, text, code) in [
        ("hp.specs", "[", "literal-syntax"),
        ("hp.cmdb", "[1]", "cmdb-shape"),
        ("hp.configure", "(", "configure-syntax"),
    ] {
        let codes: Vec<String> = checked(&[(file, text)])
            .findings
            .into_iter()
            .map(|finding| finding.code.to_string())
            .filter(|code| code != "check-unused")
            .collect();
        assert_eq!(codes, ["check-unlisted", code], "{file}");
    }
    find(&[("vm.cmdb", ""), ("vm.configure", &CONFIGURE.replace("{{ hostname }}", "one"))], &[]);
}

#[test]
fn files_that_are_read_are_text() {
    for (name, read) in [("state", true), ("vm.specs", true), ("hp.cmdb", true), ("README", false)]
    {
        let mut files = files(&[]);
        files.insert(name.to_owned(), b"# caf\xe9\n[]".to_vec());
        let findings = check(&files).findings;
        let found = findings.iter().filter(|it| it.code == Code::FileEncoding);
        let places: Vec<(&str, usize)> = found.map(|it| (&*it.file, it.column)).collect();
        assert_eq!(places, if read { vec![(name, 6)] } else { vec![] });
    }
}

#[test]
fn more_machines_than_entries() {
    find(
        &[("state", "[('vm', 4)]")],
        &[
            "check-count state:1:2: 4 machines of vm are wanted, and 3 of the 3 entries of its CMDB \
           are free",
        ],
    );
    for enough in ["'*'", "3", "0", "-1"] {
        find(&[("state", &format!("[('vm', {enough})]"))], &[]);
    }
}

#[test]
fn variables_that_nobody_binds_or_uses() {
    find(
        &[("vm.configure", &CONFIGURE.replace("{{ hostname }}", "{{ hostnam }}"))],
        &["check-unbound vm.configure:3:15: nothing binds `hostnam`: vm refuses machines"],
    );
    let unused: Vec<String> = checked(&[]).findings.iter().map(ToString::to_string).collect();
    let expected = "\
warning[check-unused]: `$eth` is bound, and nothing uses it
 --> vm.specs:3:17
  |
3 |     ('network', '$eth', 'serial', '$mac'),
  |                 ^^^^^^
  = help: it is still stored in the CMDB entry of a machine";
    assert_eq!(unused[0], expected);
    assert_eq!(unused.len(), 2);
}

/// The mark is a variable like those of the entry, where there are entries.
#[test]
fn the_mark_of_an_entry_is_bound_where_there_are_entries() {
    let configure = CONFIGURE.replace("{{ hostname }}", "h{{ used }}");
    find(&[("vm.configure", &configure)], &[]);
    let unbound = found(&[("vm.configure", &configure), ("vm.cmdb", "")]);
    assert!(unbound[0].contains("nothing binds `used`"), "{unbound:?}");
}

#[test]
fn values_that_two_machines_would_share() {
    let cmdb = "[{'ip': '10.0.0.1', 'hostname': 'a'},\n {'ip': '10.0.0.2', 'hostname': 'a'},\n \
                {'ip': '10.0.0.3', 'hostname': 'c', 'ip-ipmi': '10.0.0.1'}]";
    find(
        &[("vm.cmdb", cmdb)],
        &[
            "check-duplicate vm.cmdb:2:33: hostname a is that of entry 1 of vm.cmdb as well",
            "check-duplicate vm.cmdb:3:49: ip-ipmi 10.0.0.1 is that of entry 1 of vm.cmdb as well",
        ],
    );
    // Two names, not two of the same kind.
    let cmdb = "[{'ip': '10.0.0.1', 'hostname': 'a'}, {'hostname': '10.0.0.1'}, {'hostname': 'c'}]";
    find(&[("vm.cmdb", cmdb)], &[]);
    find(
        &[
            (
                "vm.specs",
                "[('system', 'product', 'serial', '$$tag'), ('disk', '$disk', 'size', '$s')]",
            ),
            (
                "vm.cmdb",
                "[{'tag': 'T1', 'hostname': 'a'}, {'tag': 'T2', 'hostname': 'b'},\n {'tag': 'T1', 'hostname': 'c'}]",
            ),
        ],
        &["check-duplicate-key vm.cmdb:2:10: entry 1 has the same tag=T1 and is chosen first"],
    );
}

#[test]
fn gateways_out_of_reach() {
    let cmdb = |mask: &str| {
        format!(
            "generate({{'ip': '10.0.1.3-5', 'netmask': '{mask}', 'gateway': '10.0.2.2', \
             'hostname': 'h1-3'}})"
        )
    };
    let message = "check-network vm.cmdb:1:17: the gateway 10.0.2.2 is not in 10.0.1.0/24, the \
                   network of 10.0.1.";
    for mask in ["255.255.255.0", "24"] {
        let found = found(&[("vm.cmdb", &cmdb(mask))]);
        assert_eq!(found, [3, 4, 5].map(|last| format!("{message}{last}")));
    }
    find(&[("vm.cmdb", &cmdb("255.255.0.0"))], &[]);
}

#[test]
fn lines_that_never_match() {
    for never in
        ["and(gt(8), lt(4))", "range(9, 3)", "and(ge(5), lt(5))", "or(range(2, 1), range(4, 3))"]
    {
        let specs = SPECS.replace("gt(4)", never);
        find(
            &[("vm.specs", &specs)],
            &["check-never vm.specs:2:31: no value satisfies this: the line never matches"],
        );
    }
    for some in ["and(gt(4), lt(8))", "range(3, 3)", "and(ge(5), le(5))", "or(range(2, 1), gt(3))"]
    {
        find(&[("vm.specs", &SPECS.replace("gt(4)", some))], &[]);
    }
}

#[test]
fn profiles_in_the_shade_of_others() {
    let special = SPECS.replace("'$disk'", "'$d'").replace(
        "[\n",
        "[\n ('system', 'product', 'vendor', 'HP'),\n ('network', '$e', 'link', 'yes'),\n",
    );
    let special = special.as_str();
    let configure = CONFIGURE.replace("{{ disk }}", "{{ d }}");
    let configure = configure.as_str();
    let files = |state: &'static str| {
        [
            ("state", state),
            ("hp.specs", special),
            ("hp.configure", configure),
            ("hp.cmdb", "[{'hostname': 'hp1'}]"),
        ]
    };
    find(
        &files("[('vm', 3), ('hp', 1)]"),
        &[
            "check-order state:1:13: machines that fit hp fit vm as well, which comes first: hp gets \
           them when vm has none left",
        ],
    );
    find(&files("[('hp', 1), ('vm', 3)]"), &[]);
    // Not plainly: one variable of vm would have to be two of hp, or no key of its CMDB.
    for vm in [
        "[('disk', '$x', 'size', 'gt(4)'), ('network', '$x', 'serial', '$mac')]",
        "[('disk', '$disk', 'size', 'gt(4)'), ('network', '$eth', 'serial', '$$mac')]",
        "[('disk', '$disk', 'size', 'gt(5)'), ('network', '$eth', 'serial', '$mac')]",
        "[('disk', '$disk', 'size', 'gt(4)'), ('network', '$eth', 'serial', '$mac=in(a)')]",
    ] {
        let mut changes = files("[('vm', 3), ('hp', 1)]").to_vec();
        changes.push(("vm.specs", vm));
        changes.push((
            "vm.configure",
            "(role: (name: \"a\", version: \"b\"), hostname: \"{{ hostname }}\", disks: [])",
        ));
        changes.push(("vm.cmdb", "[{'hostname': 'a'}, {'hostname': 'b'}, {'hostname': 'c'}]"));
        find(&changes, &[]);
    }
    // As many as there are entries, or as the count says: some are left over.
    let order = "machines that fit hp fit vm as well, which comes first: hp gets them when vm has \
                 none left";
    find(&files("[('vm', '*'), ('hp', 1)]"), &[&format!("check-order state:1:15: {order}")]);
    let mut unlimited = files("[('vm', 3), ('hp', 1)]").to_vec();
    unlimited.push(("vm.cmdb", ""));
    unlimited.push((
        "vm.configure",
        "(role: (name: \"a\", version: \"b\"), hostname: \"one\", disks: [])",
    ));
    find(&unlimited, &[&format!("check-order state:1:13: {order}")]);
    let mut unlimited = files("[('vm', '*'), ('hp', 1)]").to_vec();
    unlimited.push(("vm.cmdb", "[]"));
    unlimited.push((
        "vm.configure",
        "(role: (name: \"a\", version: \"b\"), hostname: \"one\", disks: [])",
    ));
    find(
        &unlimited,
        &["check-unreachable state:1:15: no machine ever gets hp: vm takes all that would fit"],
    );
}

#[test]
fn what_the_readers_find_is_passed_on() {
    let found = found(&[("vm.specs", "[('disk', 'gt(', 'size')]"), ("vm.cmdb", "[1]")]);
    let codes: Vec<&str> = found.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(codes, ["spec-shape", "cmdb-shape"]);
    assert_eq!(self::found(&[("state", "[('vm', 'x')]")]).len(), 1);
}

/// Everything that is found in a folder of the corpus, and nothing else.
#[track_caller]
fn corpus(folder: &str, expected: expect_test::Expect) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/corpus");
    let files: Files = std::fs::read_dir(root.join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    let report = check(&files);
    let found = report.findings.iter().map(|it| format!("{} {}", it.code, it.one_line()));
    let lines: Vec<String> = found.chain([report.summary()]).collect();
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn the_configurations_of_the_corpus() {
    corpus(
        "edeploy/config",
        expect![[r#"
        check-missing-file state:1:2: there is no hp.configure: machines that fit are refused
        check-missing-file state:1:13: there is no vm.configure: machines that fit are refused
        check-missing-file state:1:24: there is no vm-centos.specs: no machine ever fits
        check-missing-file state:1:24: there is no vm-centos.configure: machines that fit are refused
        check-missing-file state:1:42: there is no kvm-test.configure: machines that fit are refused
        check-unlisted backup.cmdb:1:1: `state` does not name backup: this file is never used
        check-unlisted hp-mlx.cmdb:1:1: `state` does not name hp-mlx: this file is never used
        check-unlisted hp-mlx.specs:1:1: `state` does not name hp-mlx: this file is never used
        literal-syntax hp-mlx.specs:21:53: a comma is missing here, before the next item
        6 errors, 3 warnings in 4 profiles with 13 CMDB entries"#]],
    );
    corpus(
        "edeploy-history/config",
        expect![[r#"
        check-missing-file state:1:1: there is no `state`: no profile is ever tried
        literal-syntax hp-mlx@2013-10-15-59ce6037d7.specs:20:47: a comma is missing here, before the next item
        2 errors in 0 profiles with 0 CMDB entries"#]],
    );
    corpus(
        "config-tools/virtualization/tests/data/edeploy",
        expect![[r#"
        check-missing-file state:1:1: there is no `state`: no profile is ever tried
        1 error in 0 profiles with 0 CMDB entries"#]],
    );
    corpus(
        "config-tools/virtualization/tests/datas/etc/edeploy",
        expect![[r#"
        check-missing-file state:1:1: there is no `state`: no profile is ever tried
        1 error in 0 profiles with 0 CMDB entries"#]],
    );
}
