//! Archives over HTTP: a real server on loopback, real archives of GNU tar, broken connections,
//! and archives of somebody who means harm.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod web_server;

use std::error::Error;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::Duration;

use agent::archive::{ArchiveError, Fetch, Happening, UnpackError};
use agent::world::{Cmd, Program, RealRunner, Runner};
use rustix::fs::{FileType, Mode, XattrFlags, makedev, mknodat, setxattr};

use web_server::{Faults, WebServer};

const ARCHIVE: &str = "/install/D12-F.1.0.0/mysql-D12-F.1.0.0.edeploy";
const OLD_PLACE: &str = "/install/mysql-D12-F.1.0.0.edeploy";

fn fetch(server: &WebServer, folder: &Path) -> Fetch {
    Fetch {
        urls: vec![server.url(ARCHIVE), server.url(OLD_PLACE)],
        folder: folder.to_owned(),
        deadline: Duration::from_secs(60),
        first_pause: Duration::from_millis(1),
    }
}

fn run(program: &str, args: &[&str]) -> String {
    RealRunner.run(&Cmd::of(Program::Named(program.to_owned()), args)).unwrap().stdout
}

fn chain(error: &dyn Error) -> String {
    agent::chain(error)
}

/// An archive as `mkrole publish` makes it, before it is compressed.
fn pack(tree: &Path) -> Vec<u8> {
    let archive = tempfile::NamedTempFile::new().unwrap();
    let (tree, file) = (tree.display().to_string(), archive.path().display().to_string());
    let format = ["--create", "--format=posix", "--numeric-owner", "--sort=name"];
    let more = ["--xattrs", "--xattrs-include=*", "--acls", "--directory", &tree, "--file", &file];
    run("tar", &[&format[..], &more, &["."]].concat());
    fs::read(archive.path()).unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 3).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

/// A tree without anything that only root may make. Large enough for many reads.
fn plain_tree(tree: &Path) {
    fs::create_dir_all(tree.join("usr/share/a folder")).unwrap();
    let noise = |seed: u32| -> Vec<u8> {
        (0..200_000_u32)
            .flat_map(|n| (n ^ seed).wrapping_mul(2_654_435_761).to_le_bytes())
            .collect()
    };
    fs::write(tree.join("usr/share/noise"), noise(1)).unwrap();
    fs::write(tree.join("usr/share/a folder/é"), "text").unwrap();
    fs::write(tree.join("usr/share").join("long-".repeat(40)), noise(2)).unwrap();
    fs::hard_link(tree.join("usr/share/noise"), tree.join("usr/twin")).unwrap();
    symlink("/etc/passwd", tree.join("usr/share/link")).unwrap();
    fs::write(tree.join("usr/empty"), "").unwrap();
    fs::set_permissions(tree.join("usr/empty"), fs::Permissions::from_mode(0o4750)).unwrap();
}

/// What only root may make.
fn tree_of_root(tree: &Path) {
    plain_tree(tree);
    chown(tree.join("usr/share/noise"), Some(4242), Some(4243)).unwrap();
    std::os::unix::fs::lchown(tree.join("usr/share/link"), Some(4242), Some(0)).unwrap();
    let node = |name: &str, kind, device| {
        mknodat(rustix::fs::CWD, tree.join(name), kind, Mode::RUSR, device).unwrap();
    };
    node("usr/null", FileType::CharacterDevice, makedev(1, 3));
    node("usr/fifo", FileType::Fifo, 0);
    // cap_setpcap and cap_fowner among others: the value holds the byte of a line end.
    let capability = [1, 0, 0, 2, 0x0a, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let set = |path: &str, name: &str, value: &[u8]| {
        setxattr(tree.join(path), name, value, XattrFlags::empty()).unwrap();
    };
    set("usr/twin", "security.capability", &capability);
    let entry = |kind: u16, bits: u16, who: u32| {
        [&kind.to_le_bytes()[..], &bits.to_le_bytes(), &who.to_le_bytes()].concat()
    };
    let nobody = u32::MAX;
    let list = [
        vec![2, 0, 0, 0],
        entry(1, 6, nobody),
        entry(2, 4, 1234),
        entry(4, 4, nobody),
        entry(0x10, 4, nobody),
        entry(0x20, 4, nobody),
    ];
    set("usr/empty", "system.posix_acl_access", &list.concat());
    set("usr/share", "system.posix_acl_default", &list.concat());
}

fn manifest(tree: &Path) -> String {
    let (role, version) = ("mysql".parse().unwrap(), "D12-F.1.0.0".parse().unwrap());
    agent::tree::manifest(tree, &role, &version, "").unwrap().to_text()
}

#[test]
fn a_tree_comes_back_as_it_was_packed() {
    let (tree, server) = (tempfile::tempdir().unwrap(), WebServer::start());
    if nix::unistd::Uid::effective().is_root() {
        tree_of_root(tree.path());
    } else {
        println!("SKIPPED: owners, devices, capabilities and access lists need root");
        plain_tree(tree.path());
    }
    run("touch", &["--date=@1600000000.25", &tree.path().join("usr").display().to_string()]);
    let packed = pack(tree.path());
    for archive in [zstd(&packed), gzip(&packed)] {
        server.put_archive(ARCHIVE, &archive);
        let target = tempfile::tempdir().unwrap();
        let mut told = Vec::new();
        fetch(&server, target.path()).run(&mut |happening| told.push(happening)).unwrap();
        assert_eq!(manifest(target.path()), manifest(tree.path()));
        let folder = fs::metadata(target.path().join("usr")).unwrap();
        let modified = folder.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(modified, Duration::from_millis(1_600_000_000_250), "folders are dated last");
        assert_eq!(told.last(), Some(&Happening::Progress(archive.len() as u64)));
    }
}

#[test]
fn a_broken_connection_is_taken_up_again() {
    let (tree, server) = (tempfile::tempdir().unwrap(), WebServer::start());
    plain_tree(tree.path());
    let archive = zstd(&pack(tree.path()));
    server.put_archive(ARCHIVE, &archive);
    for whole_only in [false, true] {
        let cuts = vec![0, 5, 100_000, archive.len() / 2, 0];
        server.faults(Faults { cut_after: cuts.clone(), whole_only, ..Faults::default() });
        let target = tempfile::tempdir().unwrap();
        let mut breaks = 0;
        let count = |happening| breaks += usize::from(matches!(happening, Happening::Broken(_)));
        fetch(&server, target.path()).run(&mut { count }).unwrap();
        assert_eq!(manifest(target.path()), manifest(tree.path()));
        assert_eq!(breaks, cuts.len());
    }
    let asked = server.requests();
    assert!(asked.contains(&format!("GET {ARCHIVE} 5-")), "{asked:#?}");
}

#[test]
fn a_server_that_never_sends_more_is_given_up() {
    let (tree, server) = (tempfile::tempdir().unwrap(), WebServer::start());
    plain_tree(tree.path());
    server.put_archive(ARCHIVE, &zstd(&pack(tree.path())));
    let faults = Faults { cut_after: vec![70_000], cut_ever_after: true, ..Faults::default() };
    server.faults(faults);
    let target = tempfile::tempdir().unwrap();
    let error = fetch(&server, target.path()).run(&mut |_| {}).unwrap_err();
    let text = chain(&error);
    assert!(text.contains("broke at byte 70000 of") && text.contains("6 tries"), "{text}");
}

#[test]
fn an_archive_that_changes_while_it_is_fetched_is_not_taken() {
    let (tree, server) = (tempfile::tempdir().unwrap(), WebServer::start());
    plain_tree(tree.path());
    let archive = zstd(&pack(tree.path()));
    server.put_archive(ARCHIVE, &archive);
    server.faults(Faults { cut_after: vec![70_000], ..Faults::default() });
    let target = tempfile::tempdir().unwrap();
    let error = fetch(&server, target.path())
        .run(&mut |happening| {
            if matches!(happening, Happening::Broken(_)) {
                server.put(ARCHIVE, [&archive[..], b"more"].concat());
            }
        })
        .unwrap_err();
    assert!(chain(&error).contains("has changed on the server"), "{}", chain(&error));
}

#[test]
fn an_archive_that_is_not_the_listed_one_is_an_error() {
    let (tree, server) = (tempfile::tempdir().unwrap(), WebServer::start());
    plain_tree(tree.path());
    let packed = pack(tree.path());
    server.put_archive(ARCHIVE, &zstd(&packed));
    // The same tree, compressed otherwise: everything unpacks, and only the sum tells.
    server.put(ARCHIVE, zstd::bulk::compress(&packed, 1).unwrap());
    let target = tempfile::tempdir().unwrap();
    let error = fetch(&server, target.path()).run(&mut |_| {}).unwrap_err();
    assert!(matches!(error, ArchiveError::Sum { .. }), "{error}");
    // Bytes behind the archive belong to the sum.
    server.put(ARCHIVE, [zstd(&packed), vec![0]].concat());
    let target = tempfile::tempdir().unwrap();
    let error = fetch(&server, target.path()).run(&mut |_| {}).unwrap_err();
    assert!(matches!(error, ArchiveError::Sum { .. } | ArchiveError::Unpack { .. }), "{error}");
}

#[test]
fn an_archive_that_was_cut_off_when_it_was_made_is_an_error() {
    let (tree, server) = (tempfile::tempdir().unwrap(), WebServer::start());
    plain_tree(tree.path());
    let packed = pack(tree.path());
    let whole = zstd(&packed);
    for archive in [whole[..whole.len() / 2].to_vec(), zstd(&packed[..packed.len() / 2])] {
        server.put_archive(ARCHIVE, &archive);
        let target = tempfile::tempdir().unwrap();
        let error = fetch(&server, target.path()).run(&mut |_| {}).unwrap_err();
        let ArchiveError::Unpack { source: UnpackError::Archive(source), .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(source.kind(), std::io::ErrorKind::UnexpectedEof, "{source}");
    }
}

/// One member of an archive of somebody who means harm: kind, path, target, content.
type Harm<'a> = (tar::EntryType, &'a str, &'a str, &'a str);

fn harmful(members: &[Harm<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, path, target, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        // As bytes: the crate itself makes no such names.
        let fields = header.as_gnu_mut().unwrap();
        fields.name[..path.len()].copy_from_slice(path.as_bytes());
        fields.linkname[..target.len()].copy_from_slice(target.as_bytes());
        // Whoever runs the test may make files of their own.
        header.set_uid(nix::unistd::Uid::effective().as_raw().into());
        header.set_gid(nix::unistd::Gid::effective().as_raw().into());
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn no_path_of_an_archive_leads_out_of_the_tree() {
    use tar::EntryType as T;
    let scratch = tempfile::tempdir().unwrap();
    let outside = scratch.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("victim"), "untouched").unwrap();
    let at = outside.display().to_string();
    let absolute = format!("{at}/new");
    let through = |link: &'static str, more: Harm<'static>| vec![(T::Symlink, link, "", ""), more];
    let mut cases: Vec<(Vec<Harm<'_>>, &str)> = vec![
        (vec![(T::Regular, "../outside/new", "", "x")], "leads out of the tree"),
        (vec![(T::Regular, &absolute, "", "x")], "leads out of the tree"),
        (vec![(T::Directory, "a/../../outside/new", "", "")], "leads out of the tree"),
        (vec![(T::Link, "twin", "../outside/victim", "")], "leads out of the tree"),
        (through("door", (T::Regular, "door/new", "", "x")), "cannot unpack `door/new`"),
        (through("door", (T::Directory, "door/new", "", "")), "cannot unpack `door/new`"),
        (through("door", (T::Directory, "door", "", "")), "cannot unpack `door`"),
        (through("door", (T::Link, "twin", "door/victim", "")), "cannot unpack `twin`"),
        (through("victim", (T::Regular, "victim", "", "x")), "cannot unpack `victim`"),
    ];
    let victim = format!("{at}/victim");
    for (members, _) in &mut cases {
        for (kind, path, target, _) in members {
            if *kind == T::Symlink {
                *target = if *path == "door" { &at } else { &victim };
            }
        }
    }
    let server = WebServer::start();
    for (members, expected) in cases {
        server.put_archive(ARCHIVE, &zstd(&harmful(&members)));
        let target = scratch.path().join("target");
        fs::create_dir(&target).unwrap();
        let error = fetch(&server, &target).run(&mut |_| {}).unwrap_err();
        let text = chain(&error);
        assert!(text.contains(expected), "{members:?}: {text}");
        let left: Vec<_> =
            fs::read_dir(&outside).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["victim"], "{members:?}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched", "{members:?}");
        assert_eq!(std::os::unix::fs::MetadataExt::nlink(&fs::metadata(&victim).unwrap()), 1);
        fs::remove_dir_all(target).unwrap();
    }
}

#[test]
fn what_cannot_be_had_is_known_before_anything_is_fetched() {
    let (tree, server) = (tempfile::tempdir().unwrap(), WebServer::start());
    plain_tree(tree.path());
    let packed = pack(tree.path());
    let archive = zstd(&packed);
    let look = || fetch(&server, Path::new("/nowhere")).look();

    let text = look().unwrap_err().to_string();
    assert!(text.contains(ARCHIVE) && text.contains(OLD_PLACE), "{text}");

    server.put(ARCHIVE, archive.clone());
    let text = look().unwrap_err().to_string();
    assert!(text.contains("sha256sum mysql-D12-F.1.0.0.edeploy >> SHA256SUMS"), "{text}");

    server.put_archive(ARCHIVE, b"<html>please log in</html>");
    let error = look().unwrap_err();
    assert!(matches!(error, ArchiveError::Foreign { .. }), "{error}");

    server.put_archive(ARCHIVE, &archive);
    let found = look().unwrap();
    assert_eq!((found.url, found.bytes), (server.url(ARCHIVE), archive.len() as u64));
    assert_eq!(found.unpacked, Some(packed.len() as u64));

    server.remove(ARCHIVE);
    server.put_archive(OLD_PLACE, &gzip(&packed));
    let found = look().unwrap();
    assert_eq!((found.url, found.unpacked), (server.url(OLD_PLACE), None));

    let absent =
        Fetch { urls: vec!["http://127.0.0.1:1/x".to_owned()], ..fetch(&server, Path::new("/")) };
    let error = absent.look().unwrap_err();
    assert!(matches!(error, ArchiveError::Absent { .. }), "{error}");
    let bodies = server.requests().into_iter().filter(|line| line.ends_with(".edeploy"));
    assert!(
        bodies.clone().all(|line| line.starts_with("HEAD ")),
        "{:?}",
        bodies.collect::<Vec<_>>()
    );
}
