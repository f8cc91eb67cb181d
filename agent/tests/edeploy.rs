//! The command line of installed hosts, run as a person runs it, on a root folder and a real
//! rsync daemon.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use agent::world::{Cmd, CmdError, Output, Program, RealRunner, Runner};

/// Runs `edeploy` on a host: what it printed, and its exit code.
fn edeploy(root: &Path, args: &[&str]) -> (String, i32) {
    let root = format!("--root={}", root.display());
    let program = Program::Named(env!("CARGO_BIN_EXE_edeploy").to_owned());
    match RealRunner.run(&Cmd::of(program, &[&[root.as_str()], args].concat())) {
        Ok(Output { stdout, .. }) => (stdout, 0),
        Err(CmdError::Exit { code, stderr_tail, .. }) => (stderr_tail, code),
        Err(error) => panic!("{error}"),
    }
}

/// A host in `folder`, whose rsync daemon is at this port.
fn host(folder: &Path, version: &str, port: u16) {
    fs::create_dir_all(folder.join("var/lib/edeploy")).unwrap();
    fs::create_dir_all(folder.join("var/log/edeploy")).unwrap();
    let conf = format!("VERS={version}\nROLE=mysql\nRSERV=127.0.0.1\nRSERV_PORT={port}\n");
    fs::write(folder.join("var/lib/edeploy/conf"), conf).unwrap();
    fs::write(folder.join("var/log/edeploy/vars"), "PROFILE='vm'\n").unwrap();
}

#[test]
fn a_host_answers_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    host(folder.path(), "D12-F.1.0.0", 1);
    for (args, printed) in [
        (&["version"][..], "D12-F.1.0.0\n"),
        (&["role"], "mysql\n"),
        (&["profile"], "vm\n"),
        (&["--json", "version"], "{\"version\":\"D12-F.1.0.0\"}\n"),
        (&["profile", "--json"], "{\"profile\":\"vm\"}\n"),
    ] {
        assert_eq!(edeploy(folder.path(), args), (printed.to_owned(), 0), "{args:?}");
    }
}

#[test]
fn every_no_has_its_exit_code_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (text, code) = edeploy(folder.path(), &["version"]);
    assert_eq!(code, 3);
    assert!(text.contains("/var/lib/edeploy/conf`: is this host installed by eDeploy?"), "{text}");
    host(folder.path(), "D12-F.1.0.0", 1);
    fs::remove_file(folder.path().join("var/log/edeploy/vars")).unwrap();
    assert_eq!(edeploy(folder.path(), &["profile"]).1, 1);
    assert_eq!(edeploy(folder.path(), &["no-such-command"]).1, 2);
    let (text, code) = edeploy(folder.path(), &["list"]);
    assert_eq!(code, 3);
    let url = "rsync://127.0.0.1:1/metadata/D12-F.1.0.0/mysql/";
    assert!(text.contains(&format!("cannot ask `{url}` for upgrades")), "{text}");
}

#[test]
fn upgrades_are_the_folders_of_the_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let metadata = folder.path().join("metadata/D12-F.1.0.0/mysql");
    fs::create_dir_all(metadata.join("D12-F.1.0.2")).unwrap();
    fs::create_dir_all(metadata.join("D12-F.1.0.1")).unwrap();
    fs::write(metadata.join("README"), "").unwrap();
    let (config, pid_file) = (folder.path().join("rsyncd.conf"), folder.path().join("rsyncd.pid"));
    let modules = folder.path().join("metadata");
    let text = format!(
        "pid file = {}\nuse chroot = no\n[metadata]\npath = {}\n",
        pid_file.display(),
        modules.display()
    );
    fs::write(&config, text).unwrap();
    let args = [
        "--daemon".to_owned(),
        "--address=127.0.0.1".to_owned(),
        format!("--port={port}"),
        format!("--config={}", config.display()),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    RealRunner.run(&Cmd::of(Program::Named("rsync".to_owned()), &args)).unwrap();
    for _ in 0..250 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }

    let root = folder.path().join("host");
    host(&root, "D12-F.1.0.0", port);
    let listed = edeploy(&root, &["list"]);
    let json = edeploy(&root, &["list", "--json"]);
    host(&root, "D12-F.9.9.9", port);
    let (reason, code) = edeploy(&root, &["list"]);

    let pid = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    assert_eq!(listed, ("D12-F.1.0.1\nD12-F.1.0.2\n".to_owned(), 0));
    let expected = "{\"version\":\"D12-F.1.0.0\",\"role\":\"mysql\",\"upgrades\":[\"D12-F.1.0.1\",\"D12-F.1.0.2\"]}\n";
    assert_eq!(json, (expected.to_owned(), 0));
    assert_eq!((reason.trim(), code), ("there is no upgrade of mysql D12-F.9.9.9", 1));
}
