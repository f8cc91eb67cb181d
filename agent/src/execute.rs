//! Carries a plan out: translates each step into operations and performs them one after another.
//!
//! The translation ([`operations`]) is pure: what a dry run shows is what happens. Performing
//! makes no choices; it stops at the first surprise. Just before the first step that destroys
//! something, [`role`] asks for the tree and [`preflight`] looks at the machine once more, so that
//! a plan which cannot be carried out destroys nothing, and the listener confirms that it may
//! begin. The boot loader is the last thing written, and when anything fails after the first
//! destructive step, what could boot is cleared from the disks ([`DiskState`]): the machine
//! described, or no machine.
//!
//! Deliberately not here: what should be on the disks (`specs::plan`), talking to the server,
//! and what happens to the machine afterwards.

mod boot;
mod device;
mod disk;
#[cfg(test)]
mod fake;
mod op;
mod origin;
mod perform;
mod preflight;
mod redact;
mod release;
mod role;
mod rsync;
mod system;
mod target;
mod translate;
mod tree;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use specs::event::{DiskState, Event};
use specs::facts::Facts;
use specs::plan::{Action, Plan};

pub use device::DiskIdentity;
#[cfg(test)]
pub(crate) use fake::FakeSystem;
pub use op::Op;
pub use origin::Origin;
pub use preflight::PreflightError;
pub use redact::redact;
pub(crate) use redact::redact_as;
pub(crate) use rsync::bytes_done;
pub use system::{LinuxSystem, System, SystemCall, SystemError};
pub use translate::{finishing, operations};
pub(crate) use tree::{CONF, RECORDS};

use crate::archive::ArchiveError;
use crate::chain;
use crate::world::{CmdError, Root, Runner};

/// Where the tree being installed is mounted, unless somebody says otherwise.
pub const TARGET: &str = "/mnt/target";

/// Why an installation must not begin, or not go on, in the words of whoever hears its events.
pub type Objection = Box<dyn std::error::Error + Send + Sync>;

/// Hears what happens, as it happens, and may object. Texts are free of [`Plan::secrets`].
pub trait EventSink {
    /// One step started, progressed or ended.
    fn event(&mut self, event: Event);

    /// Waits until everything told so far was accepted. Called once, just before the first
    /// operation that destroys something: after an objection nothing is written.
    fn confirm(&mut self) -> Result<(), Objection>;

    /// Whether what was told before has met an objection by now, without waiting. Called at the
    /// start of each step: after an objection the disks are cleared.
    fn proceed(&mut self) -> Result<(), Objection>;
}

/// Everything the executor works on and with, beside the world.
#[derive(Debug, Clone)]
pub struct Installation<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// What the machine is, for its records; `None` when only the plan is known.
    pub facts: Option<&'a Facts>,
    /// Where the tree comes from.
    pub origin: &'a Origin,
    /// The log so far, to be kept on the installed system.
    pub log: Option<&'a Path>,
    /// Where the tree is mounted.
    pub target: PathBuf,
}

/// Carries plans out.
#[expect(missing_debug_implementations, reason = "the seams to the world have nothing to show")]
pub struct Executor<'a> {
    /// Starts the commands.
    pub runner: &'a mut dyn Runner,
    /// Asks the kernel.
    pub system: &'a mut dyn System,
    /// The machine: `/sys`, `/proc`, `/dev` and the tools.
    pub root: Root,
    /// Is told what happens.
    pub events: &'a mut dyn EventSink,
}

/// What was done, and how long each step took, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Receipt {
    /// Step and duration.
    pub steps: Vec<(String, Duration)>,
}

/// Why an installation failed, and what it left behind.
#[derive(Debug, thiserror::Error)]
#[error("step `{step}` failed; disks: {}{}", disk_state_text(*disks), clearing_text(clearing.as_deref()))]
pub struct Failure {
    /// [`specs::plan::Step::id`], [`ROLE`], [`PREFLIGHT`] or [`FINISH`].
    pub step: String,
    /// In which state the disks of the plan are now.
    pub disks: DiskState,
    /// Why the disks could not be cleared after the failure, when that failed as well.
    pub clearing: Option<Box<StepError>>,
    /// The first error: the reason for everything else.
    #[source]
    pub error: Box<StepError>,
}

/// The name of the question for the role tree, just before [`PREFLIGHT`].
pub const ROLE: &str = "role on the server";

/// The name of the look at the machine just before the first destructive step.
pub const PREFLIGHT: &str = "preflight";

/// The name of the last thing an installation does: unmount and flush.
pub const FINISH: &str = "finish";

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The machine is not as the plan wants it. Nothing was written.
    #[error("the plan cannot be carried out on this machine, nothing was written: {}", list(.0))]
    Preflight(Vec<PreflightError>),
    /// The first destructive step was not accepted.
    #[error("the server did not agree that the disks are overwritten; nothing was written")]
    Unconfirmed(#[source] Objection),
    /// Somebody has ended the installation from outside.
    #[error("the server has ended this installation")]
    CalledOff(#[source] Objection),
    /// A command failed.
    #[error("cannot {why}")]
    Command {
        /// What it was good for.
        why: String,
        /// What happened.
        #[source]
        source: CmdError,
    },
    /// The archive of the role tree could not be fetched, verified or unpacked.
    #[error("cannot fetch the role tree")]
    Archive(#[source] ArchiveError),
    /// The kernel refused something.
    #[error(transparent)]
    System(#[from] SystemError),
    /// A file could not be read or written.
    #[error("cannot {attempt} `{}`", path.display())]
    File {
        /// What was attempted: `write`, `read`.
        attempt: &'static str,
        /// The file, as it is called outside the tree being installed.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What a tool left is not what it should be.
    #[error("{0}")]
    Unexpected(String),
}

fn disk_state_text(state: DiskState) -> &'static str {
    match state {
        DiskState::Untouched => "nothing was written",
        DiskState::Cleared => "cleared, nothing on them boots",
        DiskState::Unknown => "UNKNOWN, look before booting from them",
    }
}

fn clearing_text(error: Option<&StepError>) -> String {
    error.map(|error| format!(" (clearing failed: {})", chain(error))).unwrap_or_default()
}

fn list(errors: &[PreflightError]) -> String {
    let lines: Vec<String> = errors.iter().map(|error| chain(error)).collect();
    lines.join("; ")
}

/// What the walk through the steps has to remember.
struct Progress {
    /// Whether the first operation that destroys something has begun.
    destroying: bool,
    /// Bytes of the role tree, once preflight has looked at everything.
    tree_bytes: Option<u64>,
}

impl Executor<'_> {
    /// Carries the plan out, to the flushed and unmounted disks. An error says what was left.
    pub fn execute(&mut self, installation: &Installation<'_>) -> Result<Receipt, Failure> {
        let plan = installation.plan;
        let mut receipt = Receipt::default();
        let mut progress = Progress { destroying: false, tree_bytes: None };
        for step in &plan.steps {
            if destroys(&step.action) && progress.tree_bytes.is_none() {
                progress.tree_bytes = Some(self.preflight(installation, &mut receipt)?);
            }
            let took = self
                .in_step(&step.id, destroys(&step.action), plan, |executor| {
                    operations(installation, step).iter().try_for_each(|op| {
                        if destroys(&step.action) && op.destroys() && !progress.destroying {
                            executor.events.confirm().map_err(StepError::Unconfirmed)?;
                            progress.destroying = true;
                        }
                        executor.perform(installation, &step.id, op, progress.tree_bytes)
                    })
                })
                .map_err(|error| self.fail(installation, &step.id, error, progress.destroying))?;
            receipt.steps.push((step.id.clone(), took));
        }
        let took = self
            .in_step(FINISH, false, plan, |executor| {
                let ops = finishing(installation);
                ops.iter().try_for_each(|op| executor.perform(installation, FINISH, op, None))
            })
            .map_err(|error| self.fail(installation, FINISH, error, progress.destroying))?;
        receipt.steps.push((FINISH.to_owned(), took));
        Ok(receipt)
    }

    /// Asks the server for the role, then looks at the machine: the bytes of the role tree.
    /// Whatever is wrong is found in the second step, all at once.
    fn preflight(
        &mut self,
        installation: &Installation<'_>,
        receipt: &mut Receipt,
    ) -> Result<u64, Failure> {
        let plan = installation.plan;
        let mut offer = Ok(None);
        let took = self
            .in_step(ROLE, false, plan, |executor| {
                offer = role::look(executor, installation);
                Ok(())
            })
            .map_err(|error| self.fail(installation, ROLE, error, false))?;
        receipt.steps.push((ROLE.to_owned(), took));
        let mut tree_bytes = 0;
        let took = self
            .in_step(PREFLIGHT, false, plan, |executor| {
                tree_bytes = preflight::check(executor, installation, offer)?;
                Ok(())
            })
            .map_err(|error| self.fail(installation, PREFLIGHT, error, false))?;
        receipt.steps.push((PREFLIGHT.to_owned(), took));
        Ok(tree_bytes)
    }

    /// Tells the events around a step, and does its work unless somebody objects.
    fn in_step(
        &mut self,
        id: &str,
        destructive: bool,
        plan: &Plan,
        work: impl FnOnce(&mut Self) -> Result<(), StepError>,
    ) -> Result<Duration, StepError> {
        self.events.event(Event::StepStarted { step: id.to_owned(), destructive });
        let began = Instant::now();
        let result = self.events.proceed().map_err(StepError::CalledOff).and_then(|()| work(self));
        let took = began.elapsed();
        let error = result.as_ref().err().map(|error| redact(&chain(error), &plan.secrets));
        let ended = Event::StepEnded { step: id.to_owned(), seconds: took.as_secs_f64(), error };
        self.events.event(ended);
        result.map(|()| took)
    }

    /// Clears what could boot, when something was begun, and puts both errors together.
    fn fail(
        &mut self,
        installation: &Installation<'_>,
        step: &str,
        error: StepError,
        destroying: bool,
    ) -> Failure {
        tracing::error!(step, "{}", redact(&chain(&error), &installation.plan.secrets));
        // Whatever was mounted before is in the way of clearing, and harmless otherwise.
        let unmounted = self.system.call(&SystemCall::UnmountBelow(installation.target.clone()));
        let (disks, clearing) = if destroying {
            let cleared = unmounted.map_err(StepError::from);
            let ops = disk::clearing(installation.plan);
            let cleared = ops.iter().fold(cleared, |so_far, op| {
                // Every disk is tried, whatever happened to the one before; the first error counts.
                so_far.and(self.perform(installation, step, op, None))
            });
            match cleared {
                Ok(()) => (DiskState::Cleared, None),
                Err(error) => (DiskState::Unknown, Some(Box::new(error))),
            }
        } else {
            (DiskState::Untouched, unmounted.err().map(|error| Box::new(error.into())))
        };
        Failure { step: step.to_owned(), disks, clearing, error: Box::new(error) }
    }
}

/// Whether a step begins to destroy. A file system made on a disk that the plan does not clear
/// would be such a step too.
fn destroys(action: &Action) -> bool {
    action.destroys().is_some() || matches!(action, Action::MakeFilesystem { .. })
}

#[cfg(test)]
mod tests;
