//! Performs operations: the half of the executor that changes the world.

use std::path::{Path, PathBuf};
use std::time::Duration;

use specs::event::Event;
use specs::plan::{Partition, partition_device};

use super::boot::BootEntries;
use super::op::Op;
use super::redact::redact;
use super::system::SystemCall;
use super::{Executor, Installation, StepError, device, release, rsync};
use crate::archive::{self, Happening};
use crate::assignments;
use crate::chain;
use crate::world::{Cmd, CmdError, Output, Root, SEARCH_PATH, Tool};

/// Where the firmware's variables are.
const EFIVARS: &str = "/sys/firmware/efi/efivars";

/// How often the kernel is asked to forget a disk's partitions while udev may hold one open.
const FORGET_TRIES: u32 = 10;

/// How long is waited between these tries.
const FORGET_PAUSE: Duration = Duration::from_millis(300);

impl Executor<'_> {
    /// Performs one operation of a step. `tree_bytes` is what a fetch has to bring.
    pub(super) fn perform(
        &mut self,
        installation: &Installation<'_>,
        step: &str,
        op: &Op,
        tree_bytes: Option<u64>,
    ) -> Result<(), StepError> {
        let tree = Root::new(&installation.target);
        let secrets = &installation.plan.secrets;
        match op {
            Op::Run(cmd) => self.run(cmd, secrets).map(drop),
            Op::RunFirst(cmds) => self.run(first_present(&tree, cmds)?, secrets).map(drop),
            Op::Fetch(cmd) => self.fetch(step, cmd, tree_bytes, secrets),
            Op::Unpack(fetch) => self.unpack(step, fetch, tree_bytes),
            Op::System(call) => Ok(self.system.call(call)?),
            Op::Release { disk } => self.run_all(&release::stopping(&self.root, disk)),
            Op::ForgetPartitions { disk } => self.forget_partitions(disk),
            Op::ShowPartitions { disk, partitions, deadline } => {
                self.show_partitions(disk, partitions, *deadline)
            }
            Op::SettleUdev => self.settle_udev(),
            Op::MakeFolder { path } => {
                file_result(&tree, "make", path, tree.create_dirs(path, 0o755))
            }
            Op::WriteFile { path, content, mode, owner } => {
                let written = tree.write_unflushed(path, content.as_bytes(), *mode, Some(*owner));
                file_result(&tree, "write", path, written)
            }
            Op::RemoveFile { path } => {
                let removed = tree.resolve(path).and_then(std::fs::remove_file);
                file_result(&tree, "remove", path, removed)
            }
            Op::SetKeys { path, keys } => set_keys(&tree, path, keys),
            Op::KeepText { from, path } => keep_text(&tree, from, path, secrets),
            Op::NoteOwn => {
                if let Err(error) = crate::host::note_own(&tree) {
                    let text = format!(
                        "`edeploy verify` will name what this plan wrote: {}",
                        chain(&error)
                    );
                    self.events.event(Event::Warning { step: step.to_owned(), text });
                }
                Ok(())
            }
            Op::LinkByUuid { uuid, device } => self.link_by_uuid(uuid, device),
            Op::Expect { paths, text } => expect(&tree, paths, text),
            Op::AddBootEntry { disk, partition, label, loader } => {
                if let Err(error) = self.add_boot_entry(disk, *partition, label, loader) {
                    // EFI/BOOT is in place, which firmware starts from a disk without an entry.
                    let text = format!(
                        "the firmware did not take the boot entry `{label}`, the disk boots \
                         without it: {}",
                        redact(&chain(&error), secrets)
                    );
                    self.events.event(Event::Warning { step: step.to_owned(), text });
                }
                Ok(())
            }
        }
    }

    /// Runs a command; what is said about its failure holds no secret.
    pub(super) fn run(&mut self, cmd: &Cmd, secrets: &[String]) -> Result<Output, StepError> {
        self.runner.run(cmd).map_err(|error| command_error(cmd, error, secrets))
    }

    pub(super) fn run_all(&mut self, cmds: &[Cmd]) -> Result<(), StepError> {
        cmds.iter().try_for_each(|cmd| self.run(cmd, &[]).map(drop))
    }

    fn fetch(
        &mut self,
        step: &str,
        cmd: &Cmd,
        total: Option<u64>,
        secrets: &[String],
    ) -> Result<(), StepError> {
        let events = &mut *self.events;
        let mut last = None;
        let fetched = self.runner.run_streaming(cmd, &mut |line| {
            let done = rsync::bytes_done(line);
            if let Some(done) = done.filter(|&done| last != Some(done)) {
                last = Some(done);
                events.event(Event::Progress { step: step.to_owned(), done, total });
            }
        });
        fetched.map(drop).map_err(|error| command_error(cmd, error, secrets))
    }

    fn unpack(
        &mut self,
        step: &str,
        fetch: &archive::Fetch,
        total: Option<u64>,
    ) -> Result<(), StepError> {
        let events = &mut *self.events;
        let step = step.to_owned();
        let unpacked = fetch.run(&mut |happening| {
            events.event(match happening {
                Happening::Progress(done) => Event::Progress { step: step.clone(), done, total },
                Happening::Broken(text) => Event::Warning { step: step.clone(), text },
            });
        });
        unpacked.map(drop).map_err(StepError::Archive)
    }

    fn settle_udev(&mut self) -> Result<(), StepError> {
        if !self.root.exists("/run/udev/control") {
            return Ok(());
        }
        let settle = Cmd::new(Tool::Udevadm, &["settle", "--timeout=30"]).why("wait for udev");
        self.run(&settle, &[]).map(drop)
    }

    /// Erases the partitions' signatures, then makes the kernel forget them. Where udev runs it
    /// looks at each partition that was just written to and holds it open meanwhile; what comes
    /// after that look may have to be tried again.
    fn forget_partitions(&mut self, disk: &str) -> Result<(), StepError> {
        let cmds = release::forgetting(&self.root, disk);
        let Some((forget, erase)) = cmds.split_last() else { return Ok(()) };
        self.run_all(erase)?;
        let mut tries_left = if self.root.exists("/run/udev/control") { FORGET_TRIES } else { 1 };
        loop {
            self.settle_udev()?;
            tries_left -= 1;
            match self.run(forget, &[]) {
                Err(_) if tries_left > 0 => std::thread::sleep(FORGET_PAUSE),
                result => return result.map(drop),
            }
        }
    }

    /// udev reads a table again when its writer closes the disk, and is waited for; where it does
    /// not run, or had no time to, the kernel is told by `partx`.
    fn show_partitions(
        &mut self,
        disk: &str,
        partitions: &[Partition],
        deadline: Duration,
    ) -> Result<(), StepError> {
        self.settle_udev()?;
        if !device::has_partitions(&self.root, device::kernel_name(disk), partitions) {
            let why = format!("tell the kernel about the partitions of {disk}");
            let mut tell = Cmd::new(Tool::Partx, &["--update", disk]).why(why);
            tell.deadline = deadline;
            self.run(&tell, &[])?;
            self.settle_udev()?;
        }
        let node = |partition: &Partition| partition_device(disk, partition.number);
        let nodes = partitions.iter().map(node).collect();
        Ok(self.system.call(&SystemCall::AwaitNodes { nodes, deadline })?)
    }

    fn link_by_uuid(&mut self, uuid: &str, device: &str) -> Result<(), StepError> {
        self.settle_udev()?;
        let link = format!("/dev/disk/by-uuid/{uuid}");
        if self.root.exists(&link) {
            return Ok(());
        }
        let made = self.root.create_dirs("/dev/disk/by-uuid", 0o755).and_then(|()| {
            let folder = self.root.resolve("/dev/disk/by-uuid")?;
            std::os::unix::fs::symlink(device, folder.join(uuid))
        });
        file_result(&self.root, "make the link", &link, made)
    }

    fn add_boot_entry(
        &mut self,
        disk: &str,
        partition: u32,
        label: &str,
        loader: &str,
    ) -> Result<(), StepError> {
        if self.root.names(EFIVARS).unwrap_or_default().is_empty() {
            self.system.call(&SystemCall::Mount {
                source: "efivarfs".to_owned(),
                folder: PathBuf::from(EFIVARS),
                filesystem: "efivarfs".to_owned(),
                options: String::new(),
            })?;
        }
        let read = Cmd::new(Tool::Efibootmgr, &[]).why("read the firmware's boot entries");
        let before = BootEntries::parse(&self.run(&read, &[])?.stdout);
        let old = before.labelled(label);
        let number = partition.to_string();
        let create = Cmd::new(
            Tool::Efibootmgr,
            &[
                "--quiet",
                "--create-only",
                "--disk",
                disk,
                "--part",
                &number,
                "--label",
                label,
                "--loader",
                loader,
            ],
        );
        self.run(&create.why("make a boot entry"), &[])?;
        let after = BootEntries::parse(&self.run(&read, &[])?.stdout);
        // Old entries go only when there is a new one.
        let Some(new) = after.labelled(label).into_iter().find(|number| !old.contains(number))
        else {
            let text = format!("the firmware did not keep the boot entry `{label}` just made");
            return Err(StepError::Unexpected(text));
        };
        for number in &old {
            let args = ["--quiet", "--delete-bootnum", "--bootnum", number];
            let why = format!("remove the old boot entry {number}");
            self.run(&Cmd::new(Tool::Efibootmgr, &args).why(why), &[])?;
        }
        let kept = before.order.iter().map(String::as_str).filter(|number| !old.contains(number));
        let order = kept.chain([new]).collect::<Vec<_>>().join(",");
        let why = "put the new boot entry behind the others";
        let cmd = Cmd::new(Tool::Efibootmgr, &["--quiet", "--bootorder", &order]).why(why);
        self.run(&cmd, &[]).map(drop)
    }
}

fn command_error(cmd: &Cmd, error: CmdError, secrets: &[String]) -> StepError {
    let why =
        if cmd.why.is_empty() { format!("run {}", cmd.program.name()) } else { cmd.why.clone() };
    StepError::Command { why, source: error.map_texts(|text| redact(text, secrets)) }
}

/// The first command whose program the tree has.
fn first_present<'a>(tree: &Root, cmds: &'a [Cmd]) -> Result<&'a Cmd, StepError> {
    let is_there = |cmd: &&Cmd| {
        let name = cmd.program.name();
        SEARCH_PATH.split(':').any(|folder| tree.is_file(&format!("{folder}/{name}")))
    };
    cmds.iter().find(is_there).ok_or_else(|| {
        let names: Vec<&str> = cmds.iter().map(|cmd| cmd.program.name()).collect();
        let names = names.join(" nor ");
        StepError::Unexpected(format!("the role has neither {names}: add GRUB to it"))
    })
}

fn file_result(
    root: &Root,
    attempt: &'static str,
    path: &str,
    result: std::io::Result<()>,
) -> Result<(), StepError> {
    let path = root.folder().join(path.trim_start_matches('/'));
    result.map_err(|source| StepError::File { attempt, path, source })
}

fn set_keys(tree: &Root, path: &str, keys: &[(String, String)]) -> Result<(), StepError> {
    let text = match tree.read_text(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return file_result(tree, "read", path, Err(error)),
        Ok(text) => text,
    };
    let text = assignments::set(&text, keys);
    file_result(
        tree,
        "write",
        path,
        tree.write_unflushed(path, text.as_bytes(), 0o644, Some((0, 0))),
    )
}

fn keep_text(tree: &Root, from: &Path, path: &str, secrets: &[String]) -> Result<(), StepError> {
    let bytes = std::fs::read(from).map_err(|source| StepError::File {
        attempt: "read",
        path: from.to_owned(),
        source,
    })?;
    let text = redact(&String::from_utf8_lossy(&bytes), secrets);
    file_result(
        tree,
        "write",
        path,
        tree.write_unflushed(path, text.as_bytes(), 0o600, Some((0, 0))),
    )
}

fn expect(tree: &Root, paths: &[String], text: &str) -> Result<(), StepError> {
    let found = paths.iter().find_map(|path| Some((path, tree.read_text(path).ok()?)));
    match found {
        Some((_, content)) if content.contains(text) => Ok(()),
        Some((path, _)) => Err(StepError::Unexpected(format!("`{path}` does not hold `{text}`"))),
        None => Err(StepError::Unexpected(format!("there is no {}", paths.join(" nor ")))),
    }
}
