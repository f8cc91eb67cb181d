//! Proposals for small trees, and side by side with edges that the original's users wrote.
#![expect(clippy::disallowed_methods, reason = "tests read their fixtures")]

use std::path::Path;

use super::*;
use crate::upgrade::{Class, Digest, FileEntry, Kind, Rules};

/// A manifest of `PATH` (a file), `PATH/` (a folder), `PATH=N` (a file with other content) and
/// `PATH:UID`; folders above come along.
fn manifest(version: &str, paths: &[&str]) -> Manifest {
    let mut entries = BTreeMap::new();
    for text in paths {
        let (text, uid) = text.split_once(':').map_or((*text, 0), |(t, u)| (t, u.parse().unwrap()));
        let (text, content) = text.split_once('=').unwrap_or((text, "0"));
        let path: TreePath = text.trim_end_matches('/').parse().unwrap();
        let folder = |uid| Entry { kind: Kind::Folder, mode: 0o755, uid, gid: 0, xattrs: None };
        for above in path.ancestors() {
            entries.entry(above).or_insert_with(|| folder(0));
        }
        let digest = Digest::Blake3([content.as_bytes()[0]; 32]);
        let file = FileEntry { size: 1, mtime: 0, digest, shared: None };
        let entry = match text.ends_with('/') {
            true => folder(uid),
            false => Entry { kind: Kind::File(file), mode: 0o644, uid, gid: 0, xattrs: None },
        };
        entries.insert(path, entry);
    }
    Manifest { role: "mysql".parse().unwrap(), version: version.parse().unwrap(), entries }
}

const WANTS: &str = "etc/systemd/system/multi-user.target.wants/redis-server.service";

fn proposed(from: &[&str], to: &[&str]) -> Proposal {
    propose(&manifest("1.0.0", from), &manifest("1.0.1", to), None)
}

fn has(text: &str, line: &str) -> bool {
    text.lines().any(|found| found == line)
}

#[test]
fn what_the_role_writes_is_kept_and_what_follows_its_files_is_not() {
    let tree = [
        "var/lib/redis/:127",
        "var/lib/dpkg/status",
        "var/lib/apt/extended_states",
        "var/cache/redis/",
        "srv/data/:33",
        "srv/web/",
        "etc/redis/redis.conf",
        "etc/ld.so.cache",
        "etc/a*b",
    ];
    let Proposal { exclude, add_only, pre, post, reboot, .. } = proposed(&tree, &tree);
    for line in ["/var/lib/redis/", "/var/cache/redis/", "/srv/data/", "/etc/redis/", r"/etc/a\*b"]
    {
        assert!(has(&exclude, line), "{line} is missing of\n{exclude}");
    }
    for line in ["/var/lib/dpkg/", "/var/lib/apt/", "/srv/web/", "/etc/ld.so.cache"] {
        assert!(!has(&exclude, line), "{line} is in\n{exclude}");
    }
    assert!(add_only.ends_with("- *\n"), "the original refuses one without it");
    assert_eq!((pre.as_str(), post.as_str(), reboot), ("", "", false));
}

#[test]
fn changed_configuration_is_a_remark_and_the_rest_of_its_folder_stays_kept() {
    let from = ["etc/redis/redis.conf=1", "etc/redis/users.acl", "etc/gone.conf", "etc/passwd=1"];
    let to = ["etc/redis/redis.conf=2", "etc/redis/users.acl", "etc/new.conf", "etc/passwd=2"];
    let Proposal { exclude, notes, .. } = proposed(&from, &to);
    for line in ["#/etc/redis/redis.conf", "/etc/redis/users.acl", "#/etc/gone.conf", "/etc/shadow"]
    {
        assert!(has(&exclude, line), "{line} is missing of\n{exclude}");
    }
    for line in ["/etc/redis/", "/etc/new.conf", "/etc/passwd"] {
        assert!(!has(&exclude, line), "{line} is in\n{exclude}");
    }
    assert_eq!(notes.len(), 2, "{notes:?}");
}

#[test]
fn a_folder_that_grows_is_not_kept_as_a_whole() {
    let from = ["etc/redis/redis.conf", "etc/web/web.conf"];
    let to = ["etc/redis/redis.conf", "etc/redis/new.conf", "etc/web/web.conf"];
    let Proposal { exclude, .. } = proposed(&from, &to);
    assert!(has(&exclude, "/etc/redis/redis.conf") && has(&exclude, "/etc/web/"), "{exclude}");
    assert!(!has(&exclude, "/etc/redis/"), "{exclude}");
}

#[test]
fn services_are_stopped_and_started_when_their_files_change() {
    let unit = "usr/lib/systemd/system/redis-server.service";
    let drop_in = "etc/systemd/system/redis-server.service.d/limits.conf";
    let sshd = "etc/systemd/system/multi-user.target.wants/ssh.service";
    let evil = "etc/systemd/system/multi-user.target.wants/redis;reboot.service";
    for (from, to, services) in [
        (
            &[WANTS, unit, "usr/bin/redis-server"][..],
            &[WANTS, unit, "usr/bin/redis-server=2"][..],
            1,
        ),
        (&[WANTS, unit], &[WANTS, "usr/lib/systemd/system/redis-server.service=2"], 1),
        (&[WANTS, unit], &[WANTS, unit, drop_in], 1),
        (&[WANTS, unit, "usr/bin/redis"], &[WANTS, unit, "usr/bin/redis=2"], 1),
        (&[WANTS, unit], &[WANTS, unit, "usr/sbin/redisd"], 1),
        (&[WANTS, unit], &[WANTS, unit, "usr/bin/redisx"], 0),
        (&[WANTS, unit], &[WANTS, unit, "usr/bin/redistribute"], 0),
        (&[WANTS, unit], &[WANTS, unit, "usr/bin/sudo"], 0),
        (&[unit, "usr/bin/redis-server"], &[unit, "usr/bin/redis-server=2"], 0),
        (&[unit], &[unit, WANTS, "usr/bin/redis-server"], 0),
        (&[sshd, "usr/sbin/sshd"], &[sshd, "usr/sbin/sshd=2"], 0),
        (&[evil, "usr/bin/redis"], &[evil, "usr/bin/redis=2"], 0),
        (&[unit, "etc/systemd/system/multi-user.target.d/redis-server.service"], &[unit], 0),
    ] {
        let proposal = proposed(from, to);
        assert_eq!(proposal.services.len(), services, "{from:?} {to:?}");
        let stop = proposal.pre.ends_with("systemctl stop redis-server.service\n");
        let start = proposal.post.contains("systemctl start redis-server.service\n");
        assert_eq!((stop, start), (services == 1, services == 1), "{from:?} {to:?}");
        assert!(!proposal.reboot);
    }
}

/// A service's own unit changes, and it is stopped for that when its name is one for a script.
#[test]
fn only_services_with_plain_names_are_named_in_scripts() {
    for (unit, plain) in [
        ("redis.service", true),
        ("redis@6379.service", true),
        ("redis@.service", false),
        ("redis.timer", false),
        ("redis;reboot.service", false),
        ("re dis.service", false),
        ("-redis.service", false),
    ] {
        let wants = format!("etc/systemd/system/multi-user.target.wants/{unit}");
        let file = format!("usr/lib/systemd/system/{unit}");
        let changed = format!("{file}=2");
        let proposal = proposed(&[&wants, &file], &[&wants, &changed]);
        assert_eq!(proposal.services, if plain { vec![unit] } else { vec![] }, "{unit}");
    }
}

#[test]
fn a_new_kernel_is_put_into_the_menu_and_booted() {
    let grub = "usr/sbin/update-grub";
    let proposal = proposed(&[grub, "boot/vmlinuz-6.1"], &[grub, "boot/vmlinuz-6.12"]);
    assert!(proposal.reboot);
    assert!(proposal.post.contains("update-grub\nexit 100"), "{}", proposal.post);
    let rebuilt = proposed(&["boot/vmlinuz-6.1"], &["boot/vmlinuz-6.1=2"]);
    assert!(rebuilt.post.contains("exit 100") && !rebuilt.post.contains("update-grub"));
    assert!(!proposed(&["boot/vmlinuz-6.1", "boot/vmlinuz-6.0"], &["boot/vmlinuz-6.1"]).reboot);
}

/// A file of accounts that only one version has is a change like any other.
#[test]
fn accounts_that_a_version_changes_are_not_kept() {
    let (one, both) = (["etc/passwd"], ["etc/passwd", "etc/group"]);
    for (from, to) in [(&one[..], &both[..]), (&both, &one)] {
        let Proposal { exclude, notes, .. } = proposed(from, to);
        assert!(has(&exclude, "/etc/passwd") && has(&exclude, "/etc/shadow"), "{exclude}");
        assert!(!has(&exclude, "/etc/group"), "{exclude}");
        assert!(notes[0].starts_with("etc/group changed: accounts"), "{notes:?}");
    }
}

#[test]
fn an_edge_has_a_folder_of_its_own() {
    let name = |text: &str| text.parse().unwrap();
    let folder = edge_folder(&name("D7-F.1.0.0"), &name("mysql"), &name("D7-F.1.0.1"));
    assert_eq!(folder, EDGES[0]);
}

/// What every program has loaded keeps running as it was, unless the host boots anyway.
#[test]
fn what_runs_on_with_the_old_files_is_told() {
    let libraries = [
        "usr/lib/libc.so.6",
        "usr/lib/libssl.so.3",
        "usr/lib/systemd/systemd",
        "usr/lib/libz.so.1",
    ];
    let changed = libraries.map(|path| format!("{path}=2"));
    let changed: Vec<&str> = changed.iter().map(String::as_str).collect();
    let expected = ["libc.so.6", "libssl.so.3", "systemd/systemd"].map(|name| {
        format!("/usr/lib/{name} changed: what runs keeps the old one until it is restarted")
    });
    assert_eq!(proposed(&libraries, &changed).notes, expected);
    // Gone, or a folder now: nobody is to restart anything for that.
    assert_eq!(proposed(&libraries, &["usr/lib/"]).notes, Vec::<String>::new());
    assert_eq!(proposed(&[], &["usr/lib/libc.so.6/"]).notes, Vec::<String>::new());
    let kernel = [&changed[..], &["boot/vmlinuz-6.12"]].concat();
    let notes = proposed(&libraries, &kernel).notes;
    assert_eq!(notes, ["kernel 6.12 is new: post asks for a reboot"]);
}

#[test]
fn what_was_written_for_the_edge_before_comes_along_once() {
    let (from, to) = (manifest("1.0.1", &["etc/a"]), manifest("1.0.2", &["etc/a"]));
    let proposal = propose(&from, &to, Some("# site\n/opt/ours/\n/etc/a\n/dev/\n"));
    let count = |line: &str| proposal.exclude.lines().filter(|found| *found == line).count();
    assert_eq!(
        (count("/opt/ours/"), count("/etc/a"), count("/dev/"), count("# site")),
        (1, 1, 1, 0)
    );
}

/// Edges that users of the original wrote.
const EDGES: [&str; 3] = [
    "D7-F.1.0.0/mysql/D7-F.1.0.1",
    "D7-I.1.3.0/install-server/D7-J.1.0.0",
    "RH7.0-J.1.3.0/install-server/RH7.0-J.1.4.0",
];

/// Below these the original's lines keep scripts that a tool put onto hosts. No tree has them, and
/// what neither tree has is the host's: no line is needed.
const OF_HOSTS: [&str; 3] = ["/usr/bin/", "/usr/share/", "/opt/"];

/// Folders that the original's lines name without a slash.
const FOLDERS: [&str; 16] = [
    "/boot/grub",
    "/dev",
    "/etc/network/run",
    "/lib/init/rw",
    "/proc",
    "/run",
    "/sys",
    "/tmp",
    "/var/lib/dhcp",
    "/var/lib/edeploy",
    "/var/lib/mysql",
    "/var/lib/urandom",
    "/var/log",
    "/var/mail",
    "/var/tmp",
    "/etc/sysconfig",
];

#[test]
fn edges_that_people_wrote_are_covered() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/corpus");
    for edge in EDGES {
        let file = corpus.join("edeploy/metadata").join(edge).join("exclude");
        let theirs = std::fs::read_to_string(&file).unwrap();
        // Trees of then are gone. The worst case is one that holds every path which was kept.
        let lines: Vec<&str> = theirs.lines().filter(|line| line.starts_with('/')).collect();
        let needed: Vec<&str> = lines
            .iter()
            .copied()
            .filter(|line| !OF_HOSTS.iter().any(|folder| line.starts_with(folder)))
            .collect();
        let sample = |line: &str| {
            let path = line.trim_start_matches('/').replace(".*", ".boot");
            match path.strip_suffix('/') {
                Some(folder) => format!("{folder}/x"),
                None if FOLDERS.contains(&line) => format!("{path}/x"),
                None => path,
            }
        };
        // A path can only be one thing: where other lines lie below, it is a folder.
        let samples: BTreeSet<String> = needed.iter().map(|line| sample(line)).collect();
        let leaves = samples.iter().filter(|path| {
            let below = format!("{path}/");
            !samples.iter().any(|other| other.starts_with(&below))
        });
        let paths: Vec<&str> = leaves.map(String::as_str).collect();
        let tree = manifest("1.0.0", &paths);
        let proposal = propose(&tree, &tree, None);
        let rules = Rules::parse(&proposal.exclude, &proposal.add_only);
        let mut classifier = rules.classifier();
        println!("{edge}: {} lines of theirs, {} needed", lines.len(), needed.len());
        println!("{:50} ours", "theirs");
        for line in needed {
            let path: TreePath = sample(line).parse().unwrap();
            let class =
                classifier.class(&path, tree.entries.get(&path).is_some_and(Entry::is_folder));
            let ours = proposal.exclude.lines().find(|ours| {
                ours.starts_with('/')
                    && line.trim_end_matches('/').starts_with(ours.trim_end_matches(['/', '*']))
            });
            println!("{line:50} {} ({class:?})", ours.unwrap_or("built in"));
            assert_ne!(class, Class::Sync, "{edge}: nothing keeps {line}");
        }
    }
}
