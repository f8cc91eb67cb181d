//! Real processes: `edeploy-server serve` and `edeploy-cgi` behind lighttpd, at once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::deployment::{BOUNDARY, Deployment, form_body, machine, profiles};

/// A child that is killed when the test ends, however it ends.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn of(child: Child) -> Process {
        Process(child)
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let id = i32::try_from(self.0.id()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), signal).unwrap();
    }

    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[expect(clippy::disallowed_methods, reason = "tests start the programs they test")]
pub(crate) fn command(program: &str) -> Command {
    Command::new(program)
}

/// Starts `serve` for a deployment, and says where it listens. `shell` may limit it first.
pub(crate) fn serve(deployment: &Deployment, shell: &str) -> (Process, SocketAddr) {
    let line = format!("{shell} exec \"$0\" serve --config \"$1\" --listen 127.0.0.1:0");
    let mut child = command("sh")
        .args(["-c", &line, env!("CARGO_BIN_EXE_edeploy-server")])
        .arg(deployment.path("edeploy.conf"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut seen = String::new();
    let address = loop {
        let mut line = String::new();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "serve ended: {seen}");
        if let Some((_, rest)) = line.split_once("serving address=") {
            break rest.split_whitespace().next().unwrap().parse().unwrap();
        }
        seen.push_str(&line);
    };
    // Whoever does not read the log would block the server once the pipe is full.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    (Process(child), address)
}

/// Status and body of an upload; `None` when the server died before it answered.
pub(crate) fn try_upload(address: SocketAddr, path: &str, facts: &Value) -> Option<(u16, Value)> {
    let body = form_body(&[("file", Some("facts.json"), facts.to_string().as_bytes())]);
    let form = format!("multipart/form-data; boundary={BOUNDARY}");
    try_post(address, path, &form, &body)
}

/// As [`try_upload`], with any body.
pub(crate) fn try_post(
    address: SocketAddr,
    path: &str,
    content_type: &str,
    body: &[u8],
) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nAccept: application/json\r\n\
         Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    let status = reply.split(' ').nth(1)?.parse().ok()?;
    let (_, body) = reply.split_once("\r\n\r\n")?;
    Some((status, serde_json::from_str(body).unwrap_or(Value::String(reply.clone()))))
}

/// lighttpd with links to `edeploy-cgi` in its `cgi-bin`; `None`, said loudly, without lighttpd.
fn web_server(deployment: &Deployment) -> Option<(Process, SocketAddr)> {
    if command("lighttpd").arg("-v").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "lighttpd is not installed");
        eprintln!("SKIPPED: lighttpd is not installed (scripts/test installs it)");
        return None;
    }
    let root = deployment.path("www");
    std::fs::create_dir_all(root.join("cgi-bin/edeploy")).unwrap();
    for name in ["upload", "upload.py", "events"] {
        let link = root.join("cgi-bin/edeploy").join(name);
        symlink(env!("CARGO_BIN_EXE_edeploy-cgi"), link).unwrap();
    }
    // Asked for and given back: nobody else takes it in the moment between.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        "server.document-root = \"{root}\"\nserver.bind = \"127.0.0.1\"\nserver.port = {port}\n\
         server.modules = (\"mod_setenv\", \"mod_cgi\")\n\
         $HTTP[\"url\"] =~ \"^/cgi-bin/\" {{ cgi.assign = ( \"\" => \"\" ) }}\n\
         setenv.add-environment = ( \"EDEPLOY_CONF\" => \"{conf}\" )\n\
         server.upload-dirs = ( \"{root}\" )\nserver.follow-symlink = \"enable\"\n",
        root = root.display(),
        port = address.port(),
        conf = deployment.path("edeploy.conf").display(),
    );
    deployment.write("lighttpd.conf", &text);
    let child = command("lighttpd")
        .arg("-D")
        .arg("-f")
        .arg(deployment.path("lighttpd.conf"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = Process(child);
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "lighttpd does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    Some((process, address))
}

#[test]
fn both_fronts_at_once_give_every_entry_to_one_machine() {
    const CGI: &str = "/cgi-bin/edeploy/upload";
    let deployment = Deployment::sized(20);
    let Some((_web, cgi)) = web_server(&deployment) else { return };
    let (mut server, http) = serve(&deployment, "");
    let answers: Mutex<Vec<(u32, u16, Value)>> = Mutex::default();
    std::thread::scope(|scope| {
        for n in 0..50 {
            let (address, path) = if n % 2 == 0 { (http, "/upload") } else { (cgi, CGI) };
            let answers = &answers;
            scope.spawn(move || {
                let (status, body) = try_upload(address, path, &machine(n)).expect("an answer");
                answers.lock().unwrap().push((n, status, body));
            });
        }
    });
    let answers = answers.into_inner().unwrap();
    let given: Vec<&(u32, u16, Value)> = answers.iter().filter(|(_, s, _)| *s == 200).collect();
    let refused: Vec<&(u32, u16, Value)> = answers.iter().filter(|(_, s, _)| *s != 200).collect();
    let name = |body: &Value| body["plan"]["plan"]["hostname"].as_str().unwrap().to_owned();
    let names: std::collections::BTreeSet<String> =
        given.iter().map(|(_, _, body)| name(body)).collect();
    assert_eq!((given.len(), names.len(), refused.len()), (20, 20, 30));
    for (n, status, body) in refused {
        assert!(matches!(status, 409 | 422), "{n}: {status} {body}");
        assert!(body["refused"]["profiles"][0]["reason"].as_str().is_some(), "{n}: {body}");
    }
    // Each front knows what the other gave.
    for (n, _, body) in given {
        for (address, path) in [(cgi, CGI), (http, "/upload")] {
            let (status, again) = try_upload(address, path, &machine(*n)).unwrap();
            assert_eq!((status, &again["plan"]["plan"]), (200, &body["plan"]["plan"]), "{n}");
        }
    }
    server.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(server.wait(), Some(0));
    assert_eq!(deployment.count(), "0");
    assert_eq!(deployment.used(), names);
}

#[test]
fn a_resident_process_that_is_killed_costs_no_answer() {
    const CGI: &str = "/cgi-bin/edeploy/upload";
    let deployment = Deployment::sized(9);
    let Some((_web, cgi)) = web_server(&deployment) else { return };
    let socket = deployment.path("config/.edeploy/resident");
    for n in 0..3 {
        // The server answers for the CGI programs, is killed, and leaves its socket behind.
        let (server, _) = serve(&deployment, "");
        let deadline = Instant::now() + Duration::from_secs(20);
        let answers = || answers_at(&socket);
        while !answers() {
            assert!(Instant::now() < deadline, "serve does not take over");
            std::thread::sleep(Duration::from_millis(20));
        }
        for machine_number in [3 * n, 3 * n + 1] {
            let (status, body) = try_upload(cgi, CGI, &machine(machine_number)).unwrap();
            assert_eq!(status, 200, "{body}");
        }
        server.signal(nix::sys::signal::Signal::SIGKILL);
        drop(server);
        let (status, body) = try_upload(cgi, CGI, &machine(3 * n + 2)).unwrap();
        assert_eq!(status, 200, "{body}");
    }
    let (status, body) = try_upload(cgi, CGI, &machine(99)).unwrap();
    assert_eq!(status, 409, "{body}");
    // The CGI program that stayed writes the files and goes.
    let deadline = Instant::now() + Duration::from_secs(20);
    while deployment.used().len() < 9 || answers_at(&socket) {
        assert!(Instant::now() < deadline, "{} entries used", deployment.used().len());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(deployment.count(), "0");
}

#[test]
fn the_web_server_waits_for_nothing_that_stays() {
    let deployment = Deployment::sized(2);
    let body = form_body(&[("file", Some("facts.json"), machine(1).to_string().as_bytes())]);
    let mut program = command(env!("CARGO_BIN_EXE_edeploy-cgi"))
        .env("EDEPLOY_CONF", deployment.path("edeploy.conf"))
        .env("REQUEST_METHOD", "POST")
        .env("SCRIPT_NAME", "/upload")
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("CONTENT_TYPE", format!("multipart/form-data; boundary={BOUNDARY}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    program.stdin.take().unwrap().write_all(&body).unwrap();
    // As Apache does, until both pipes are closed by everyone and the program has ended.
    let output = program.wait_with_output().unwrap();
    let answer = String::from_utf8(output.stdout).unwrap();
    assert!(answer.starts_with("Status: 200"), "{answer}");
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("answered path=\"/upload\" status=200"), "{log}");
    assert!(answers_at(&deployment.path("config/.edeploy/resident")), "it stays for others");
    let deadline = Instant::now() + Duration::from_secs(20);
    while deployment.used().is_empty() {
        assert!(Instant::now() < deadline, "the files are not written");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_socket_that_is_handed_over_is_served() {
    let deployment = Deployment::sized(2);
    // As systemd does it: descriptor 3, and the id of the process that is to take it.
    let script = "import os, socket, sys\n\
                  listener = socket.create_server(('127.0.0.1', 0))\n\
                  print(listener.getsockname()[1], flush=True)\n\
                  listener.fileno() == 3 or os.dup2(listener.fileno(), 3)\n\
                  os.set_inheritable(3, True)\n\
                  os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n\
                  os.execv(sys.argv[1], [sys.argv[1], 'serve', '--config', sys.argv[2]])\n";
    let child = command("python3")
        .args(["-c", script, env!("CARGO_BIN_EXE_edeploy-server")])
        .arg(deployment.path("edeploy.conf"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        assert!(std::env::var_os("CI").is_none(), "python3 is not installed");
        eprintln!("SKIPPED: python3 is not installed");
        return;
    };
    let mut port = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let mut server = Process(child);
    let address = SocketAddr::from(([127, 0, 0, 1], port.trim().parse().unwrap()));
    let (status, body) = try_upload(address, "/upload", &machine(1)).unwrap();
    assert_eq!((status, body["plan"]["plan"]["hostname"].as_str()), (200, Some("m0")));
    server.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(server.wait(), Some(0));
}

fn answers_at(socket: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}

#[test]
fn the_readable_files_follow_within_a_second() {
    let deployment = Deployment::sized(3);
    let (_server, http) = serve(&deployment, "");
    assert_eq!(try_upload(http, "/upload", &machine(1)).unwrap().0, 200);
    std::thread::sleep(Duration::from_millis(1000));
    assert_eq!(deployment.count(), "2");
    assert_eq!(deployment.used().len(), 1);
}

#[test]
fn running_out_of_descriptors_ends_nothing() {
    let deployment = Deployment::sized(3);
    let shell = "ulimit -n 160;";
    deployment.write(
        "edeploy.conf",
        "[SERVER]\nCONFIGDIR=config\nHWDIR=hw\nLOGDIR=logs\nWORKERS=8\nMAXCONNECTIONS=512\n",
    );
    let (_server, http) = serve(&deployment, shell);
    let crowd: Vec<_> = (0..250).map(|_| TcpStream::connect(http).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(1500));
    drop(crowd);
    let begun = Instant::now();
    let answered = try_upload(http, "/upload", &machine(1)).expect("an answer");
    assert_eq!(answered.0, 200, "{}", answered.1);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn servers_that_are_killed_leave_nothing_that_is_not_used_again() {
    let deployment = Deployment::readme();
    let folder = deployment.path("config/.edeploy");
    std::fs::create_dir(&folder).unwrap();
    // As if killed while it started.
    drop(std::os::unix::net::UnixListener::bind(folder.join("http")).unwrap());
    // No temporary folder is needed; and several may start at once.
    let servers: Vec<_> = std::thread::scope(|scope| {
        let start = || serve(&deployment, "TMPDIR=/absent");
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (number, (_, address)) in (0..).zip(&servers) {
        assert_eq!(try_upload(*address, "/upload", &machine(number)).unwrap().0, 200);
    }
    assert!(!folder.join("http").exists(), "a socket by which others could get past the guard");
    // Where there is no place for a socket, one is found.
    let deep = format!("config/{}", "d".repeat(100));
    std::fs::create_dir(deployment.path(&deep)).unwrap();
    deployment.write("edeploy.conf", &format!("[SERVER]\nCONFIGDIR=config\nSTATEDIR={deep}\n"));
    let (_server, address) = serve(&deployment, "");
    assert_eq!(try_upload(address, "/upload", &machine(1)).unwrap().0, 200);
}

#[test]
fn the_journal_gets_a_priority_where_it_listens() {
    let deployment = Deployment::readme();
    let program = env!("CARGO_BIN_EXE_edeploy-server");
    let serve = "\"$0\" serve --config \"$1\" --listen 127.0.0.1:0";
    let stream = "JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2)";
    for (environment, expected) in [(stream, "<6>server::serve: serving"), ("", "Z  INFO ")] {
        let log = deployment.path("log");
        let line = format!("{environment} exec {serve}");
        let child = command("sh")
            .args(["-c", &line, program])
            .arg(deployment.path("edeploy.conf"))
            // That of another service, which started this one.
            .env("JOURNAL_STREAM", "1:1")
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn();
        let _server = Process(child.unwrap());
        let deadline = Instant::now() + Duration::from_secs(60);
        while !deployment.read("log").contains("serving") {
            assert!(Instant::now() < deadline, "{}", deployment.read("log"));
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(deployment.read("log").contains(expected), "{}", deployment.read("log"));
    }
}

#[test]
fn the_command_line_works_beside_a_running_server() {
    let deployment = Deployment::readme();
    let (_server, http) = serve(&deployment, "");
    assert_eq!(try_upload(http, "/upload", &machine(1)).unwrap().0, 200);
    let run = |arguments: &[&str]| {
        let output = command(env!("CARGO_BIN_EXE_edeploy-server"))
            .args(arguments)
            .env("EDEPLOY_CONF", deployment.path("edeploy.conf"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.code().unwrap(), text)
    };
    let check = |arguments: &[&str], code: i32, part: &str| {
        let (status, text) = run(arguments);
        assert_eq!(status, code, "{arguments:?}: {text}");
        assert!(text.contains(part), "{arguments:?}: {text}");
    };
    check(&["machines"], 0, "host03");
    check(&["machines", "phase=leased"], 0, "52:54:00:00:00:01");
    check(&["machines", "phase=failed"], 1, "");
    check(&["show", "SN000001"], 0, "phase     leased");
    check(&["show", "nobody"], 3, "no machine is known as `nobody`");
    check(&["log", "host03"], 3, "cannot look for logs");
    check(&["reinstall", "host03"], 0, "its next upload gets a plan anyway");
    check(&["release", "host03"], 0, "released");
    assert_eq!(deployment.count(), "4");
    check(&["forget", "SN000001"], 0, "");
    check(&["show", "SN000001"], 3, "no machine is known");
    // The server takes it all up.
    let (status, body) = try_upload(http, "/upload", &machine(2)).unwrap();
    assert_eq!((status, body["plan"]["plan"]["hostname"].as_str()), (200, Some("host03")));
    check(&["check"], 0, "nothing to mend in 1 profile with 5 CMDB entries");
    deployment.write("config/vm.specs", "[(\"disk\",\n");
    check(&["check"], 1, "vm.specs:");
    check(&["check", "--json", deployment.path("config").to_str().unwrap()], 1, "\"line\"");
    deployment
        .write("config/vm.specs", &std::fs::read_to_string(profiles().join("vm.specs")).unwrap());
    check(&["frobnicate"], 2, "Usage");
    let facts = deployment.path("facts.json");
    std::fs::write(&facts, machine(3).to_string()).unwrap();
    let facts = Path::new(&facts).to_str().unwrap();
    check(&["plan", facts], 0, "hostname: \"host04\"");
    check(&["plan", deployment.path("config").to_str().unwrap(), facts], 0, "hostname: \"host");
    check(&["plan", "--json", facts], 0, "\"hostname\": \"host04\"");
}
