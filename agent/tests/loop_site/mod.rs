//! A place to install on: a loop device, a role tree behind an rsync daemon of its own, and the
//! means to look at the result. Everything goes when the site is dropped.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a part of tests, not of the program"
)]
#![expect(unreachable_pub, reason = "one test program uses it")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use agent::execute::{
    EventSink, Executor, Failure, Installation, LinuxSystem, Objection, Origin, Receipt, System,
    SystemCall,
};
use agent::options::TreeSource;
use agent::world::{Cmd, Program, RealRunner, Root, Runner};
use specs::configure::Configure;
use specs::event::Event;
use specs::facts::Facts;
use specs::plan::{Plan, build};
use specs::units::Token;
use specs::value::{Value, Variables};

/// Shows that this machine can run the tests.
pub struct Ready(());

/// Whether root, loop devices and a BIOS are here; says so loudly when they are not.
pub fn ready() -> Option<Ready> {
    let missing = [
        (!nix::unistd::Uid::effective().is_root(), "root"),
        (!Path::new("/dev/loop-control").exists(), "loop devices"),
        (Path::new("/sys/firmware/efi").exists(), "a machine started by BIOS"),
    ];
    let missing: Vec<&str> = missing.iter().filter(|(is, _)| *is).map(|(_, what)| *what).collect();
    if missing.is_empty() {
        return Some(Ready(()));
    }
    let text = format!("needs {}", missing.join(", "));
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{text}, and CI must not skip");
    println!("SKIPPED: {text}");
    None
}

pub struct Site {
    folder: tempfile::TempDir,
    disk: String,
    daemon: Daemon,
    facts: Facts,
    origin: Origin,
    mounted: RefCell<Vec<PathBuf>>,
}

struct Events<'a>(&'a mut Vec<Event>);

impl EventSink for Events<'_> {
    fn event(&mut self, event: Event) {
        self.0.push(event);
    }

    fn confirm(&mut self) -> Result<(), Objection> {
        Ok(())
    }

    fn proceed(&mut self) -> Result<(), Objection> {
        Ok(())
    }
}

impl Site {
    /// A site with a disk of `mib` MiB.
    pub fn new(ready: Ready, mib: u64) -> Site {
        Site::with_image(ready, mib, |_| {})
    }

    /// A site whose disk of `mib` MiB can keep only `room` MiB.
    pub fn on_thin_disk(ready: Ready, mib: u64, room: u64) -> Site {
        Site::with_image(ready, mib, |folder| {
            let size = format!("size={room}m");
            run("mount", &["-t", "tmpfs", "-o", &size, "room", &text(folder)]);
        })
    }

    /// `prepare` may do something to the folder in which the image will lie.
    fn with_image(_ready: Ready, mib: u64, prepare: impl FnOnce(&Path)) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image/disk");
        fs::create_dir(folder.path().join("image")).unwrap();
        prepare(&folder.path().join("image"));
        fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
        fs::write(folder.path().join("log"), "[ 1.0 ] token is s3cr3t-t0ken\n").unwrap();
        let disk = run("losetup", &["--show", "--find", &text(&image)]).trim().to_owned();
        make_role(&folder.path().join("trees/D12-F.1.0.0/mysql"));
        let daemon = Daemon::start(folder.path());
        let mut facts = Facts::default();
        let name = disk.trim_start_matches("/dev/").to_owned();
        facts.push("disk", &name, "size", i64::try_from((mib << 20) / 1_000_000_000).unwrap());
        facts.push("disk", &name, "bytes", i64::try_from(mib << 20).unwrap());
        facts.push("disk", &name, "logical_block_size", 512);
        facts.push("system", "product", "name", "s3cr3t-t0ken in a fact");
        let origin = Origin {
            server: "127.0.0.1".to_owned(),
            rsync_host: "127.0.0.1".to_owned(),
            rsync_port: daemon.port,
            rsync_path: "install".to_owned(),
            archives: None,
        };
        Site { folder, disk, daemon, facts, origin, mounted: RefCell::default() }
    }

    /// From now on trees come as archives from a web server on this port.
    pub fn use_archives(&mut self, port: u16) {
        let (host, path) = ("127.0.0.1".to_owned(), "install".to_owned());
        self.origin.archives = Some(TreeSource { host, port, path });
    }

    /// The role tree as an archive.
    pub fn packed_role(&self) -> Vec<u8> {
        let archive = self.folder.path().join("archive");
        let tree = self.folder.path().join("trees/D12-F.1.0.0/mysql");
        let (tree, file) = (text(&tree), text(&archive));
        run("tar", &["--create", "--numeric-owner", "--directory", &tree, "--file", &file, "."]);
        zstd::bulk::compress(&fs::read(archive).unwrap(), 3).unwrap()
    }

    pub fn disk(&self) -> &str {
        &self.disk
    }

    pub fn partition(&self, number: u32) -> String {
        specs::plan::partition_device(&self.disk, number)
    }

    pub fn rsync_port(&self) -> u16 {
        self.daemon.port
    }

    /// The plan of the configure text for this site.
    pub fn plan(&self, configure: &str) -> Plan {
        let configure = Configure::parse("vm.configure", configure).unwrap();
        let disk = self.disk.trim_start_matches("/dev/");
        let values = [("hostname", "host03"), ("disk", disk), ("token", "s3cr3t-t0ken")];
        let variables: Variables =
            values.map(|(name, value)| (name.to_owned(), Value::from(value))).into_iter().collect();
        build::plan(
            &configure,
            &build::Inputs {
                facts: &self.facts,
                variables: &variables,
                profile: &"vm".parse().unwrap(),
                nonce: &Token::from_bytes([3; 16]),
                secrets: &["s3cr3t-t0ken".to_owned()],
                scripts: &BTreeMap::new(),
            },
        )
        .unwrap()
    }

    /// Carries a plan out for real.
    pub fn execute(&self, plan: &Plan, events: &mut Vec<Event>) -> Result<Receipt, Failure> {
        let log = self.folder.path().join("log");
        let installation = Installation {
            plan,
            facts: Some(&self.facts),
            origin: &self.origin,
            log: Some(&log),
            target: self.target(),
        };
        let result = Executor {
            runner: &mut RealRunner,
            system: &mut LinuxSystem,
            root: Root::system(),
            events: &mut Events(events),
        }
        .execute(&installation);
        // Where no udev runs, the link for grub-mkconfig stays behind in this machine's /dev.
        let link = format!("/dev/disk/by-uuid/{}", plan.root);
        if fs::read_link(&link).is_ok_and(|target| {
            target.starts_with(&self.disk) || text(&target).starts_with(&self.disk)
        }) {
            fs::remove_file(link).unwrap();
        }
        result
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("target")
    }

    /// What is mounted at or below the target.
    pub fn mounts(&self) -> String {
        let target = text(&self.target());
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.lines().filter(|line| line.contains(&target)).collect()
    }

    /// Mounts a partition; it is unmounted with the site.
    pub fn mount_partition(&self, number: u32) -> PathBuf {
        self.mount(&self.partition(number))
    }

    pub fn mount(&self, device: &str) -> PathBuf {
        let at = self.folder.path().join(format!("look-{}", self.mounted.borrow().len()));
        fs::create_dir(&at).unwrap();
        self.mounted.borrow_mut().push(at.clone());
        run("mount", &[device, &text(&at)]);
        at
    }

    pub fn tool(&self, program: &str, args: &[&str]) -> String {
        run(program, args)
    }

    fn role(&self) -> PathBuf {
        self.folder.path().join("trees/D12-F.1.0.0/mysql")
    }

    /// Takes a file out of the role tree; what is returned puts it back.
    pub fn without(&self, path: &str) -> impl FnOnce() {
        let (file, aside) = (self.role().join(path), self.folder.path().join("aside"));
        fs::rename(&file, &aside).unwrap();
        move || fs::rename(&aside, &file).unwrap()
    }

    /// Makes the role tree larger.
    pub fn fill_role(&self, mib: usize) {
        fs::write(self.role().join("etc/large"), vec![b'x'; mib << 20]).unwrap();
    }

    /// The bytes of the disk.
    pub fn image(&self) -> Vec<u8> {
        run("sync", &[]);
        fs::read(self.folder.path().join("image/disk")).unwrap()
    }

    pub fn checksum(&self) -> String {
        blake3::hash(&self.image()).to_string()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let mut folders = self.mounted.borrow().clone();
        folders.push(self.target());
        for folder in folders {
            let _ = LinuxSystem.call(&SystemCall::UnmountBelow(folder));
        }
        for args in [["--delete", &self.disk], ["--detach", &self.disk]] {
            let program = if args[0] == "--delete" { "partx" } else { "losetup" };
            let _ = RealRunner.run(&Cmd::of(Program::Named(program.to_owned()), &args));
        }
        let _ = LinuxSystem.call(&SystemCall::UnmountBelow(self.folder.path().join("image")));
    }
}

/// An rsync daemon on loopback. Its process id is kept from the start: the folder with its pid
/// file may be gone before the daemon is.
struct Daemon {
    port: u16,
    pid: nix::unistd::Pid,
}

impl Daemon {
    fn start(folder: &Path) -> Daemon {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (pid_file, config) = (folder.join("rsyncd.pid"), folder.join("rsyncd.conf"));
        let (trees, pid) = (folder.join("trees").display().to_string(), text(&pid_file));
        fs::write(
            &config,
            format!(
                "pid file = {pid}\nuse chroot = no\nuid = 0\ngid = 0\n[install]\npath = {trees}\n"
            ),
        )
        .unwrap();
        let (config, port_option) =
            (format!("--config={}", text(&config)), format!("--port={port}"));
        run("rsync", &["--daemon", "--address=127.0.0.1", &port_option, &config]);
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                let pid = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
                return Daemon { port, pid: nix::unistd::Pid::from_raw(pid) };
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("the rsync daemon does not listen on port {port}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(self.pid, nix::sys::signal::Signal::SIGTERM);
    }
}

/// A role small enough to be fetched in a moment, with a shell, and a boot loader that records.
fn make_role(tree: &Path) {
    for folder in ["bin", "usr/sbin", "usr/bin", "boot/grub", "etc", "var/lib/edeploy", "tmp"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    fs::write(tree.join("var/lib/edeploy/conf"), "VERS=D12-F.1.0.0\nROLE=mysql\n").unwrap();
    fs::write(tree.join("etc/hard-1"), "x".repeat(100_000)).unwrap();
    fs::hard_link(tree.join("etc/hard-1"), tree.join("etc/hard-2")).unwrap();
    fs::write(tree.join("etc/owned"), "").unwrap();
    chown(tree.join("etc/owned"), Some(4242), Some(4243)).unwrap();
    symlink("/etc/hostname", tree.join("etc/link")).unwrap();
    copy_program("/bin/sh", tree);
    fs::create_dir_all(tree.join("usr/lib/grub/i386-pc")).unwrap();
    for path in ["boot/vmlinuz-6.1.0", "usr/lib/grub/i386-pc/modinfo.sh"] {
        fs::write(tree.join(path), "").unwrap();
    }
    for (path, script) in [
        ("usr/sbin/grub-install", "test -b \"$2\" && echo \"$@\" > /boot/grub/install"),
        (
            "usr/sbin/grub-mkconfig",
            "for link in /dev/disk/by-uuid/*; do echo \"root=UUID=${link##*/}\"; done > \"$2\"",
        ),
        ("usr/bin/systemctl", "echo \"$@\" >> /etc/systemctl-calls"),
    ] {
        let path = tree.join(path);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Copies a program of this machine with the libraries it needs.
fn copy_program(program: &str, tree: &Path) {
    let listing = run("ldd", &[program]);
    let libraries = listing.split_whitespace().filter(|word| word.starts_with('/'));
    for path in libraries.chain([program]) {
        let copy = tree.join(path.trim_start_matches('/'));
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(path, &copy).unwrap();
    }
}

fn run(program: &str, args: &[&str]) -> String {
    RealRunner.run(&Cmd::of(Program::Named(program.to_owned()), args)).unwrap().stdout
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
