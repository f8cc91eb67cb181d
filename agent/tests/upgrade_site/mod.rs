//! A host to upgrade: a tree on disk that plays an installed host, versions of its role behind an
//! rsync daemon of its own, and the means to compare. Everything goes when the site is dropped.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a part of tests, not of the program"
)]
#![expect(unreachable_pub, reason = "only test programs use it")]
#![allow(dead_code, reason = "of two test programs one uses all of it, the other a part")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use agent::host::{Failpoint, Host, Outcome, Progress, Resumed, UpgradeError, Verified};
use agent::tree::{self, Depth};
use agent::world::{Cmd, Program, RealRunner, Root, Runner};
use specs::units::Name;
use specs::upgrade::{Kernel, Manifest};

/// What every edge of these tests keeps.
pub const EXCLUDE: &str =
    "# what belongs to the host\n/etc/hostname\n/etc/machine-id\n/srv\n/var/log\n";

/// Whether root is here; says so loudly when it is not.
pub fn ready() -> bool {
    let ready = nix::unistd::Uid::effective().is_root() && Path::new("/usr/bin/rsync").exists();
    assert!(ready || std::env::var("CI").as_deref() != Ok("true"), "needs root and rsync");
    if !ready {
        println!("SKIPPED: needs root and rsync");
    }
    ready
}

/// Tells nobody.
#[derive(Debug)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&mut self, _: &str) {}
    fn bytes(&mut self, _: u64, _: u64) {}
}

pub struct Site {
    folder: tempfile::TempDir,
    root: PathBuf,
    port: u16,
    runner: RealRunner,
    progress: Silent,
    pub failpoint: Failpoint,
    pub running: Option<Kernel>,
}

impl Site {
    /// A host of version `from`, and version `to` to upgrade to.
    pub fn new(make_from: impl Fn(&Tree), make_to: impl Fn(&Tree)) -> Site {
        // In memory: every step of an upgrade is synced, and a disk is busy with other tests.
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = tempfile::tempdir_in(place).unwrap();
        let root = folder.path().join("host");
        Site::at(folder, root, make_from, make_to)
    }

    /// The same, with the host in this folder.
    pub fn at(
        folder: tempfile::TempDir,
        root: PathBuf,
        make_from: impl Fn(&Tree),
        make_to: impl Fn(&Tree),
    ) -> Site {
        let port = start_daemon(folder.path());
        let site = Site {
            folder,
            root,
            port,
            runner: RealRunner,
            progress: Silent,
            failpoint: Failpoint::Never,
            running: None,
        };
        for (version, make) in [("1.0", &make_from as &dyn Fn(&Tree)), ("2.0", &make_to)] {
            let tree = site.version(version);
            base(&tree);
            make(&tree);
            site.publish(version);
        }
        site.edge("exclude", EXCLUDE);
        site.edge("add_only", "- *\n");
        site.install();
        site
    }

    pub fn version(&self, version: &str) -> Tree {
        Tree(self.folder.path().join("install").join(version).join("web"))
    }

    /// Writes the manifest of a version beside its tree.
    pub fn publish(&self, version: &str) {
        let path = self.folder.path().join(format!("install/{version}/web.manifest"));
        fs::write(path, self.manifest(version).to_text()).unwrap();
    }

    pub fn manifest(&self, version: &str) -> Manifest {
        let (role, name) = ("web".parse().unwrap(), version.parse().unwrap());
        tree::manifest(&self.version(version).0, &role, &name, "").unwrap()
    }

    /// Writes a file of the edge from 1.0 to 2.0.
    pub fn edge(&self, name: &str, text: &str) {
        let folder = self.folder.path().join("metadata/1.0/web/2.0");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), text).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Puts version 1.0 on the host, as the installer does.
    fn install(&self) {
        fs::create_dir_all(&self.root).unwrap();
        let from = format!("{}/", self.version("1.0").0.display());
        run("rsync", &["-aHAX", "--numeric-ids", &from, &self.root.display().to_string()]);
        let host = self.host();
        host.write("etc/hostname", "web01\n");
        host.write(
            "var/lib/edeploy/conf",
            &format!("VERS=1.0\nROLE=web\nRSERV=127.0.0.1\nRSERV_PORT={}\n", self.port),
        );
        host.write("var/lib/edeploy/1.0/exclude", EXCLUDE);
    }

    /// The host's own tree.
    pub fn host(&self) -> Tree {
        Tree(self.root.clone())
    }

    pub fn api(&mut self) -> Host<'_, RealRunner, Silent> {
        Host {
            root: Root::new(&self.root),
            runner: &mut self.runner,
            progress: &mut self.progress,
            running: self.running.clone(),
            program: Some(PathBuf::from("/bin/true")),
            failpoint: self.failpoint,
        }
    }

    pub fn upgrade(&mut self) -> Result<Outcome, UpgradeError> {
        let mut host = self.api();
        let lock = host.lock()?;
        host.upgrade(&lock, &name("2.0"))
    }

    pub fn resume(&mut self) -> Result<Resumed, UpgradeError> {
        let mut host = self.api();
        let lock = host.lock()?;
        host.resume(&lock, false)
    }

    /// What the first unit of the boot does.
    pub fn resume_early(&mut self) -> Resumed {
        let mut host = self.api();
        let lock = host.lock().unwrap();
        host.resume(&lock, true).unwrap()
    }

    pub fn rollback(&mut self) -> Result<Vec<String>, UpgradeError> {
        let mut host = self.api();
        let lock = host.lock()?;
        let kept = host.rollback(&lock)?.kept_aside;
        Ok(kept.iter().map(ToString::to_string).collect())
    }

    pub fn verify(&mut self) -> Verified {
        self.api().verify(Depth::Full).unwrap()
    }

    /// The version that the host says it has.
    pub fn recorded(&self) -> String {
        let conf = self.host().read("var/lib/edeploy/conf");
        conf.lines().find_map(|line| line.strip_prefix("VERS=")).unwrap().to_owned()
    }

    /// The host is wholly what it says it is, in this version, and nothing is left over.
    #[track_caller]
    pub fn check_clean(&mut self, version: &str) {
        assert_eq!(self.recorded(), version);
        let drifts = self.verify().drifts;
        assert!(drifts.is_empty(), "{version}: {drifts:?}");
        assert!(!self.host().0.join(".edeploy/edeploy").exists(), "nothing is armed");
    }

    pub fn stop_daemon(&self) {
        stop_daemon(self.folder.path());
    }

    /// Another daemon in its place, with these options.
    pub fn restart_daemon(&self, options: &[&str]) {
        self.stop_daemon();
        listen(self.folder.path(), self.port, options);
    }

    /// Waits, beside an upgrade, for this file to have been fetched, and then ends the daemon in
    /// the middle of what it sends.
    pub fn daemon_killer(&self, path: &str) -> std::thread::JoinHandle<()> {
        let folder = self.folder.path().to_owned();
        let fetched = self.host().at(".edeploy/fetched").join(path);
        std::thread::spawn(move || {
            for _ in 0..3000 {
                if fetched.exists() {
                    return stop_daemon(&folder);
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            panic!("{} was never fetched", fetched.display());
        })
    }

    /// Bytes of content that the daemon has sent so far, by its log.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes_of(|line| !line.contains(".manifest"))
    }

    /// Bytes of lists of files.
    pub fn bytes_of_lists(&self) -> u64 {
        self.bytes_of(|line| line.contains(".manifest"))
    }

    fn bytes_of(&self, counts: impl Fn(&str) -> bool) -> u64 {
        let log = fs::read_to_string(self.daemon_log()).unwrap();
        let sent = log.lines().filter(|line| counts(line));
        sent.filter_map(|line| line.split(" send ").nth(1)?.split(' ').next()?.parse::<u64>().ok())
            .sum()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop_daemon();
    }
}

/// A tree that tests write to.
pub struct Tree(pub PathBuf);

impl Tree {
    pub fn at(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// Writes a file, which is replaced as a package manager does it: others that share its
    /// inode do not change.
    pub fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        let _ = fs::remove_file(self.at(path));
        fs::write(self.at(path), text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn link(&self, path: &str, target: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        symlink(target, self.at(path)).unwrap();
    }

    pub fn folder(&self, path: &str) {
        fs::create_dir_all(self.at(path)).unwrap();
    }

    pub fn remove(&self, path: &str) {
        if self.at(path).is_dir() && !self.at(path).is_symlink() {
            fs::remove_dir_all(self.at(path)).unwrap();
        } else {
            fs::remove_file(self.at(path)).unwrap();
        }
    }

    pub fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn exists(&self, path: &str) -> bool {
        fs::symlink_metadata(self.at(path)).is_ok()
    }
}

/// What every version has: a merged tree with a shell, so that scripts can run in it.
fn base(tree: &Tree) {
    for folder in [
        "usr/bin",
        "usr/lib",
        "usr/lib64",
        "etc/systemd/system/multi-user.target.wants",
        "var/lib/edeploy",
        "proc",
        "tmp",
        "srv",
        "boot",
    ] {
        tree.folder(folder);
    }
    for name in ["bin", "lib", "lib64"] {
        tree.link(name, &format!("usr/{name}"));
    }
    let listing = run("ldd", &["/bin/sh"]);
    for path in listing.split_whitespace().filter(|word| word.starts_with('/')).chain(["/bin/sh"]) {
        let path = path.strip_prefix("/usr").unwrap_or(path);
        let copy = tree.at(&format!("usr{path}"));
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(path, copy).unwrap();
    }
    tree.write("usr/bin/tool", "tool one\n");
    tree.write("etc/tool.conf", "setting = 1\n");
    tree.write("etc/other.conf", "other = 1\n");
    tree.write("srv/data", "of the role\n");
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Starts a daemon on loopback with the modules of the product; writes its port to a file.
fn start_daemon(folder: &Path) -> u16 {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for module in ["install", "metadata"] {
        fs::create_dir_all(folder.join(module)).unwrap();
    }
    let at = folder.display();
    let config = format!(
        "pid file = {at}/rsyncd.pid\nlog file = {at}/rsyncd.log\ntransfer logging = yes\n\
         log format = %o %b %f\nuse chroot = no\nuid = 0\ngid = 0\n\
         [install]\npath = {at}/install\n[metadata]\npath = {at}/metadata\n"
    );
    fs::write(folder.join("rsyncd.conf"), config).unwrap();
    listen(folder, port, &[]);
    port
}

/// Starts the daemon of a folder on this port.
fn listen(folder: &Path, port: u16, options: &[&str]) {
    let (port_option, config) =
        (format!("--port={port}"), format!("--config={}/rsyncd.conf", folder.display()));
    let line = ["--daemon", "--address=127.0.0.1", &port_option, &config];
    run("rsync", &[&line, options].concat());
    for _ in 0..200 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("the rsync daemon does not listen on port {port}");
}

/// Ends the daemon and everybody whom it serves, which are its process group.
fn stop_daemon(folder: &Path) {
    let pid = fs::read_to_string(folder.join("rsyncd.pid")).unwrap_or_default();
    if let Ok(pid) = pid.trim().parse() {
        let pid = nix::unistd::Pid::from_raw(pid);
        let _ = nix::sys::signal::killpg(pid, nix::sys::signal::Signal::SIGKILL);
        let _ = fs::remove_file(folder.join("rsyncd.pid"));
    }
}

pub fn run(program: &str, args: &[&str]) -> String {
    RealRunner.run(&Cmd::of(Program::Named(program.to_owned()), args)).unwrap().stdout
}

impl Site {
    /// As [`Site::check_clean`], but for what the test itself put there.
    #[track_caller]
    pub fn check_clean_but(&mut self, unlisted: &[&str]) {
        let expected: Vec<String> =
            unlisted.iter().map(|path| format!("{path} unlisted")).collect();
        self.check_drifts(&expected);
    }

    /// Exactly this has drifted.
    #[track_caller]
    pub fn check_drifts(&mut self, expected: &[String]) {
        let drifts: Vec<String> = self
            .verify()
            .drifts
            .into_iter()
            .map(|drift| format!("{} {}", drift.path, drift.kind))
            .collect();
        assert_eq!(drifts, expected);
    }

    pub fn daemon_log(&self) -> PathBuf {
        self.folder.path().join("rsyncd.log")
    }

    /// A copy of the host, to go back to.
    pub fn snapshot(&self) -> PathBuf {
        let copy = self.folder.path().join("snapshot");
        run("cp", &["-a", &self.root.display().to_string(), &copy.display().to_string()]);
        copy
    }

    /// Makes the host what it was.
    pub fn restore(&self, snapshot: &Path) {
        fs::remove_dir_all(&self.root).unwrap();
        run("cp", &["-a", &snapshot.display().to_string(), &self.root.display().to_string()]);
    }
}

/// Exit code and output of a program; no code when it was killed.
pub fn status(program: &str, args: &[&str], failpoint: Option<&str>) -> (Option<i32>, String) {
    let mut cmd = Cmd::of(Program::Named(program.to_owned()), args);
    if let Some(point) = failpoint {
        cmd = cmd.variable("EDEPLOY_FAILPOINT", point);
    }
    match RealRunner.run(&cmd) {
        Ok(output) => (Some(0), output.stdout),
        Err(agent::world::CmdError::Exit { code, stderr_tail, .. }) => {
            let mut said = String::new();
            // The error does not carry standard output: it is read in a second, equal run.
            if code == 1 {
                let shell = Cmd::of(
                    Program::Named("sh".to_owned()),
                    &[&["-c", "\"$0\" \"$@\" || true", program], args].concat(),
                );
                said = RealRunner.run(&shell).unwrap().stdout;
            }
            (Some(code), said + &stderr_tail)
        }
        Err(_) => (None, String::new()),
    }
}
