//! A lease that is shorter than an installation, with the real client and a real server: busybox's
//! `udhcpc` and `udhcpd`, in network namespaces of their own.
//!
//! The test's thread gets its own view of the machine, with its own network, `/sys` and `/run`;
//! what the agent does there is what it does in the initrd.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use agent::link::{Keepers, Link};
use agent::options::{AgentOptions, RawCmdline};
use agent::report::{Console, since_boot};
use agent::world::{Cmd, Program, RealRunner, Root, Runner};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn run(program: &str, args: &[&str]) -> String {
    RealRunner.run(&Cmd::of(Program::Named(program.to_owned()), args)).unwrap().stdout
}

/// The machine with the server: a thread in a network of its own, which does what it is sent.
struct Server {
    thread: i32,
    work: mpsc::Sender<Box<dyn FnOnce() + Send>>,
    folder: tempfile::TempDir,
}

impl Server {
    fn new() -> Server {
        let (work, todo) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (tell, ready) = mpsc::channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            todo.into_iter().for_each(|work| work());
        });
        Server { thread: ready.recv().unwrap(), work, folder: tempfile::tempdir().unwrap() }
    }

    /// Runs a command there, to its end.
    fn run(&self, command: &'static str) {
        let (done, ended) = mpsc::channel();
        let work = move || {
            let mut words = command.split(' ');
            run(words.next().unwrap(), &words.collect::<Vec<_>>());
            done.send(()).unwrap();
        };
        self.work.send(Box::new(work)).unwrap();
        ended.recv().unwrap();
    }

    /// Starts to give addresses of this range, for ten seconds each.
    fn serve(&self, first: &str, last: &str) {
        let leases = self.folder.path().join(format!("leases-{first}"));
        fs::write(&leases, "").unwrap();
        let (leases, pid_file) = (leases.display(), self.pid_file());
        let settings = format!(
            "interface dhcp0\nstart {first}\nend {last}\nmin_lease 10\noption lease 10\n\
             option subnet 255.255.255.0\noption router 10.9.0.1\nlease_file {leases}\n\
             pidfile {}\n",
            pid_file.display()
        );
        let file = self.folder.path().join("udhcpd.conf").display().to_string();
        fs::write(&file, settings).unwrap();
        let work = move || {
            // A thread of this one is in its network.
            thread::spawn(move || {
                let cmd = Cmd::of(Program::Named("busybox".to_owned()), &["udhcpd", "-f", &file]);
                let _ = RealRunner.run(&cmd.deadline(Duration::from_secs(600)));
            });
        };
        self.work.send(Box::new(work)).unwrap();
        soon("the server starts", || process(&pid_file).is_some());
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.path().join("udhcpd.pid")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = process(&self.pid_file()) {
            let _ = kill(pid, Signal::SIGTERM);
        }
    }
}

/// The process whose number is in the file, when there is one.
fn process(pid_file: &Path) -> Option<Pid> {
    let pid: i32 = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    Path::new("/proc").join(pid.to_string()).exists().then(|| Pid::from_raw(pid))
}

/// Gives this thread a network, `/sys` and `/run` of its own, and a cable to the server.
fn become_a_machine(server: &Server) {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    for folder in ["/sys", "/run"] {
        mount(Some("own"), folder, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
    // What the kernel shows of one end of a cable lacks the device of a card.
    fs::create_dir_all("/sys/class/net/eth0/device").unwrap();
    for (file, content) in [("type", "1"), ("ifindex", "2"), ("carrier", "1")] {
        fs::write(format!("/sys/class/net/eth0/{file}"), content).unwrap();
    }
    fs::create_dir_all("/run/edeploy").unwrap();
    let agent = env!("CARGO_BIN_EXE_edeploy-agent");
    std::os::unix::fs::symlink(agent, "/run/edeploy/dhcp-event").unwrap();
    let peer = ["type", "veth", "peer", "name", "dhcp0", "netns", &server.thread.to_string()];
    run("ip", &[&["link", "add", "eth0"][..], &peer].concat());
    server.run("ip address add 10.9.0.1/24 dev dhcp0");
    server.run("ip link set dhcp0 up");
}

/// Waits for something that happens by itself.
#[track_caller]
fn soon(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < until, "{what}: not within two minutes");
        thread::sleep(Duration::from_millis(50));
    }
}

#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_short_lease_is_renewed_until_the_agent_ends() {
    let is_there = |program: &str| Path::new("/usr/bin").join(program).exists();
    if !nix::unistd::Uid::effective().is_root() || !is_there("busybox") {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "needs root and busybox");
        println!("SKIPPED: needs root and busybox");
        return;
    }
    // A thread's view of the machine is its own: it must not be that of the next test.
    thread::spawn(renewals).join().unwrap();
}

fn renewals() {
    let server = Server::new();
    become_a_machine(&server);
    server.serve("10.9.0.20", "10.9.0.29");
    let (root, screen) = (Root::system(), Screen::default());
    let console = Console::new(vec![Box::new(screen.clone())], since_boot);
    let options = AgentOptions::parse(&RawCmdline::parse("SERV=10.9.0.1")).unwrap();
    let link = Link {
        root: &root,
        runner: &|| Box::new(RealRunner),
        console: &console,
        sleep: &thread::sleep,
    };
    let network = link.up(&options).unwrap();
    assert!(network.to_string().starts_with("eth0 10.9.0.2"), "{network}");
    let keepers = Keepers::start(RealRunner, &root, &console, &network.leases);

    // Written once when the keeper takes the lease over, and again with every renewal.
    let record = Path::new("/run/edeploy/dhcp/eth0");
    let written = || fs::metadata(record).unwrap().modified().unwrap();
    for renewal in 1..=3 {
        let before = written();
        soon(&format!("renewal {renewal}"), || written() > before);
    }
    let addresses = || run("ip", &["-4", "address", "show", "dev", "eth0"]);
    assert!(addresses().contains(&network.leases[0].lease.address.to_string()), "{}", addresses());

    let text = String::from_utf8(screen.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text, "", "nothing has changed, so there is nothing to tell");

    let pid = fs::read_to_string("/run/edeploy/dhcp/eth0.pid").unwrap();
    drop(keepers);
    assert!(!Path::new("/proc").join(pid.trim()).exists(), "udhcpc outlives its keeper");
}
