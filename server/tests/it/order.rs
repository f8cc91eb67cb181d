//! The order that the promise rests on, as the kernel saw it: the journal is on disk before the
//! answer leaves. A kill cannot show this, for it loses nothing that was written.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::deployment::{BOUNDARY, Deployment, form_body, machine};
use crate::processes::{Process, command, try_post, try_upload};

#[test]
fn no_answer_leaves_before_the_journal_is_on_disk() {
    if command("strace").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "strace is not installed");
        eprintln!("SKIPPED: strace is not installed (scripts/test installs it)");
        return;
    }
    let deployment = Deployment::sized(5);
    // The journal is there already: who put it there may not have synced its name.
    deployment.upload(&machine(9));
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let child = command("strace")
        .args(["-D", "-f", "-s", "40", "-e", "trace=pwrite64,fdatasync,fsync,sendto,write,writev"])
        .args(["--seccomp-bpf", "-y", "-o"])
        .arg(deployment.path("trace"))
        .args([env!("CARGO_BIN_EXE_edeploy-server"), "serve", "--config"])
        .arg(deployment.path("edeploy.conf"))
        .args(["--listen", &address.to_string()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut process = Process::of(child);
    let begun = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "serve does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Every kind of allocation and of giving back, one after the other.
    let ticket = |n: u32| {
        let (status, body) = try_upload(address, "/upload", &machine(n)).unwrap();
        assert_eq!(status, 200, "{body}");
        body["plan"]["ticket"].as_str().unwrap().to_owned()
    };
    let report = |ticket: &str, event: serde_json::Value| {
        let batch = json!({
            "protocol": 1, "agent": "test", "nonce": "0".repeat(32), "ticket": ticket,
            "sequence": 0, "events": [event],
        });
        let body = batch.to_string();
        let (status, reply) =
            try_post(address, "/events", "application/json", body.as_bytes()).unwrap();
        assert_eq!(status, 200, "{reply}");
    };
    let (one, two, three) = (ticket(1), ticket(2), ticket(3));
    report(&one, json!({"event": "step_started", "step": "partition", "destructive": true}));
    report(&two, json!({"event": "failed", "step": "x", "error": "y", "disks": "untouched"}));
    ticket(2);
    let fields: &[(&str, Option<&str>, &[u8])] = &[
        ("file", Some("facts.json"), &machine(3).to_string().into_bytes()),
        ("failure", None, b"vm"),
        ("ticket", None, three.as_bytes()),
    ];
    let form = format!("multipart/form-data; boundary={BOUNDARY}");
    let (status, reply) = try_post(address, "/upload", &form, &form_body(fields)).unwrap();
    assert_eq!(status, 200, "{reply}");
    ticket(4);
    // The tracer is a child of the server (-D), and ends after it.
    process.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(process.wait(), Some(0));
    std::thread::sleep(Duration::from_millis(300));
    let trace = deployment.read("trace");
    let answers = check_order(&trace);
    assert_eq!(answers, 8, "{trace}");
}

/// Walks through the trace: a batch that was written has to be synced before an answer is begun,
/// and the folder in which the journal is as well. How many batches were.
fn check_order(trace: &str) -> usize {
    let mut unsynced = false;
    let mut is_name_synced = false;
    let mut syncing_name = None;
    let mut batches = 0;
    for line in trace.lines() {
        let thread = line.split(' ').next();
        if line.contains("fsync(") && line.contains("/.edeploy>") {
            syncing_name = thread;
        }
        if syncing_name.is_some() && syncing_name == thread && line.trim_end().ends_with("= 0") {
            is_name_synced = true;
        }
        if line.contains("pwrite64(") && line.contains("{\\\"batch\\\"") {
            unsynced = true;
            batches += 1;
        }
        let synced = line.contains("fdatasync(") || line.contains("fdatasync resumed");
        if synced && line.trim_end().ends_with("= 0") {
            unsynced = false;
        }
        let is_unsynced = unsynced || batches > 0 && !is_name_synced;
        assert!(
            !(is_unsynced && line.contains("\"HTTP/1.1 200")),
            "an answer before the sync: {line}"
        );
    }
    batches
}

#[test]
fn the_check_would_notice() {
    let name = "1 fsync(8</x/.edeploy> <unfinished ...>\n1 <... fsync resumed>) = 0\n";
    let batch = "1 pwrite64(7, \"0123456789abcdef {\\\"batch\\\":\", 9, 0) = 9\n";
    let sync = "1 fdatasync(7 <unfinished ...>\n1 <... fdatasync resumed>) = 0\n";
    let answer = "2 sendto(9, \"HTTP/1.1 200 OK\", 15, 0) = 15\n";
    assert_eq!(check_order(&format!("{name}{batch}{sync}{answer}")), 1);
    for wrong in [
        format!("{name}{batch}{answer}{sync}"),
        format!("{name}{batch}1 fdatasync(7 <unfin\n{answer}"),
        format!("{batch}{sync}{answer}{name}"),
    ] {
        assert!(std::panic::catch_unwind(|| check_order(&wrong)).is_err(), "{wrong}");
    }
}
