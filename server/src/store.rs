//! The one door to everything that is stored: state, CMDBs, machine records, journal.
//!
//! A transaction is a decision of `specs::fleet` made under the lock. Requests that come while
//! another batch is being written form the next one: its first leads, decides for all that wait,
//! appends their changes to the journal with one write and one sync, and only then does any
//! answer leave. The readable files follow within a second ([`Store::sync`]), and nobody waits
//! for them.
//!
//! Every process has its own copy of the world in memory and brings it up to date under the lock:
//! from the journal, and from files that an admin edited. Not here: any decision.

mod edit;
mod engine;
pub(crate) mod files;
mod journal;
pub(crate) mod lock;
mod records;
mod sources;
mod write_behind;

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use specs::fleet::{Decision, Fresh, World};
use specs::machine::Seconds;
use specs::units::Token;
use tracing::warn;

use self::engine::Engine;
use self::lock::{Lock, LockGuard};
use self::sources::Sources;
use self::write_behind::Placed;
use crate::settings::Section;

pub use edit::Installed;
pub use journal::JournalError;

/// Why something could not be read or stored. Nothing was changed, and no answer may claim it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The lock could not be taken.
    #[error("cannot lock {}", path.display())]
    Lock {
        /// LOCKFILE.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be read or written.
    #[error("cannot read or write {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A machine record cannot be understood.
    #[error("{}:{line}:{column}: the record of a machine is broken: {what}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong.
        what: String,
    },
    /// A file of the configuration is broken, and no earlier version of it is known.
    #[error("{0}")]
    Broken(String),
    /// The journal failed.
    #[error("what was decided cannot be stored")]
    Journal(#[from] JournalError),
    /// There is no randomness for tickets and nonces.
    #[error("the system's random source failed: {0}")]
    Random(String),
    /// A decision, or storing it, panicked.
    #[error("deciding hit a defect: {0}")]
    Defect(String),
}

/// The store of one section.
pub struct Store {
    section: Section,
    queue: Mutex<Queue>,
    inner: Mutex<Inner>,
    /// Whether the readable files lag behind the journal.
    behind: AtomicBool,
}

/// What the leader of a batch uses; opened at first use, so that a folder that is missing for a
/// while is an error for a while.
#[derive(Default)]
struct Inner {
    locks: Option<Locks>,
    engine: Option<Engine>,
}

/// The locks that are held together, in the order in which they are taken.
struct Locks {
    /// LOCKFILE, which others may know.
    known: Lock,
    /// One beside what it protects: LOCKFILE may lie where files are tidied away, even while
    /// someone holds it, or be another one in another's settings.
    own: Lock,
}

/// A decision on the world as it is when its turn comes.
type Decide = Box<dyn FnOnce(&World, Seconds, &Fresh) -> Decision + Send>;

/// Who waits, and whether someone leads.
#[derive(Default)]
struct Queue {
    jobs: Vec<Job>,
    is_led: bool,
}

struct Job {
    decide: Decide,
    slot: Arc<Slot>,
}

/// Where one request waits for its result, or for its turn to lead.
#[derive(Default)]
struct Slot {
    turn: Mutex<Turn>,
    changed: Condvar,
}

#[derive(Default)]
enum Turn {
    #[default]
    Waiting,
    Lead,
    Done(Result<Decision, Arc<StoreError>>),
}

impl Slot {
    fn put(&self, turn: Turn) {
        *locked(&self.turn) = turn;
        self.changed.notify_one();
    }

    /// Waits; `None`: it leads.
    fn wait(&self) -> Option<Result<Decision, Arc<StoreError>>> {
        let mut turn = locked(&self.turn);
        loop {
            match std::mem::take(&mut *turn) {
                Turn::Waiting => {
                    turn = self.changed.wait(turn).unwrap_or_else(PoisonError::into_inner);
                }
                Turn::Lead => return None,
                Turn::Done(result) => return Some(result),
            }
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("section", &self.section).finish_non_exhaustive()
    }
}

impl Store {
    /// The store of a section. Touches nothing yet.
    pub fn new(section: Section) -> Store {
        Store {
            section,
            queue: Mutex::default(),
            inner: Mutex::default(),
            behind: AtomicBool::new(false),
        }
    }

    /// The section it stores for.
    pub fn section(&self) -> &Section {
        &self.section
    }

    /// Makes a decision and stores what it changes. When this returns, that is on disk, and the
    /// decision holds the changes no longer.
    pub fn transact(
        &self,
        decide: impl FnOnce(&World, Seconds, &Fresh) -> Decision + Send + 'static,
    ) -> Result<Decision, Arc<StoreError>> {
        let slot = Arc::new(Slot::default());
        {
            let mut queue = locked(&self.queue);
            queue.jobs.push(Job { decide: Box::new(decide), slot: Arc::clone(&slot) });
            if !std::mem::replace(&mut queue.is_led, true) {
                slot.put(Turn::Lead);
            }
        }
        if let Some(result) = slot.wait() {
            return result;
        }
        let mut inner = locked(&self.inner);
        let jobs = std::mem::take(&mut locked(&self.queue).jobs);
        self.lead(&mut inner, jobs);
        drop(inner);
        // Whoever came meanwhile waits longest, and leads the next batch.
        let mut queue = locked(&self.queue);
        match queue.jobs.first() {
            Some(next) => next.slot.put(Turn::Lead),
            None => queue.is_led = false,
        }
        drop(queue);
        let result = slot.wait();
        result.expect("a leader answers every job it takes, and its own is among them")
    }

    /// Looks at the world as it is now.
    pub fn look<T>(&self, look: impl FnOnce(&World) -> T) -> Result<T, StoreError> {
        let mut inner = locked(&self.inner);
        self.with_engine(&mut inner, |engine| Ok(look(engine.world())))
    }

    /// Looks at the world with the files as they stand: what people edited by hand is not held
    /// against the machines yet, and nothing is changed.
    pub fn look_unsettled<T>(&self, look: impl FnOnce(&World) -> T) -> Result<T, StoreError> {
        let mut inner = locked(&self.inner);
        let held = self.hold(&mut inner.locks)?;
        let (engine, _) = Engine::read(&self.section)?;
        let seen = look(engine.world());
        drop(held);
        Ok(seen)
    }

    /// Brings the readable files up to date, now: when this returns, they hold everything that
    /// was decided before it was called.
    pub fn sync(&self) -> Result<(), StoreError> {
        let turn = self.syncer()?.hold().map_err(|source| self.syncer_failed(source))?;
        self.write_behind()?;
        drop(turn);
        Ok(())
    }

    /// Brings them up to date if this process knows them to lag.
    pub fn sync_if_behind(&self) -> Result<(), StoreError> {
        if self.is_behind() { self.sync() } else { Ok(()) }
    }

    /// Whether this process knows the readable files to lag.
    pub fn is_behind(&self) -> bool {
        self.behind.load(Ordering::SeqCst)
    }

    /// As [`Store::sync_if_behind`], for a process that serves one request: of all that are
    /// behind at a time one stays, waits for `pause`, writes for all and goes on until nothing
    /// is behind; the others may go.
    pub fn sync_in_turn(&self, pause: Duration) -> Result<(), StoreError> {
        if !self.is_behind() {
            return Ok(());
        }
        let turn = self.syncer()?.try_hold().map_err(|source| self.syncer_failed(source))?;
        let Some(mut turn) = turn else { return Ok(()) };
        loop {
            std::thread::sleep(pause);
            self.write_behind()?;
            // Given up under the lock: whoever commits after this finds it free.
            let kept = self.with_engine(&mut locked(&self.inner), |engine| {
                Ok(if engine.is_behind() { Some(turn) } else { None })
            })?;
            match kept {
                Some(kept) => turn = kept,
                None => return Ok(()),
            }
        }
    }

    /// The lock that one who writes the readable files holds.
    fn syncer(&self) -> Result<Lock, StoreError> {
        Lock::open(&self.syncer_path()).map_err(|source| self.syncer_failed(source))
    }

    fn syncer_path(&self) -> PathBuf {
        self.section.private_dir().join("syncer")
    }

    fn syncer_failed(&self, source: io::Error) -> StoreError {
        lock_failed(&self.syncer_path(), source)
    }

    /// Writes what lags. The lock is held only while it is copied, renamed and noted.
    fn write_behind(&self) -> Result<(), StoreError> {
        let locked_engine = || locked(&self.inner);
        let snapshot = self.with_engine(&mut locked_engine(), Engine::snapshot)?;
        let Some(snapshot) = snapshot else { return Ok(()) };
        let prepared = snapshot.write(&self.section)?;
        let placed = self.with_engine(&mut locked_engine(), |engine| engine.place(prepared))?;
        self.sync_folders(&placed)?;
        self.with_engine(&mut locked_engine(), |engine| engine.note_written(&placed))
    }

    /// Writes what lags while everyone waits: an admin's version of a file is about to be put in
    /// its place.
    fn write_now(&self, engine: &mut Engine) -> Result<(), StoreError> {
        let Some(snapshot) = engine.snapshot()? else { return Ok(()) };
        let placed = engine.place(snapshot.write(&self.section)?)?;
        self.sync_folders(&placed)?;
        engine.note_written(&placed)
    }

    fn sync_folders(&self, placed: &Placed) -> Result<(), StoreError> {
        files::sync_folders(&placed.folders)
            .map_err(|source| StoreError::Io { path: self.section.private_dir(), source })
    }

    /// Decides for everyone in the batch, stores all of it, and hands the results out.
    fn lead(&self, inner: &mut Inner, jobs: Vec<Job>) {
        // Kept apart: whatever becomes of the decisions, everyone gets an answer.
        let (decisions, slots): (Vec<Decide>, Vec<Arc<Slot>>) =
            jobs.into_iter().map(|job| (job.decide, job.slot)).unzip();
        let stored = caught(|| {
            self.with_engine(inner, |engine| {
                let now = now();
                Ok(decisions.into_iter().map(|it| decide_one(engine, it, now)).collect::<Vec<_>>())
            })
        });
        match stored {
            Ok(results) => {
                for (slot, result) in slots.into_iter().zip(results) {
                    slot.put(Turn::Done(result.map_err(Arc::new)));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for slot in slots {
                    slot.put(Turn::Done(Err(Arc::clone(&error))));
                }
            }
        }
    }

    /// Runs `work` under the lock, on a world that is up to date, and stores what it changed. What
    /// nobody was promised may be lost at that, as by a power cut. After an error the world is read
    /// again from the start: what failed half-way must not be believed.
    fn with_engine<T>(
        &self,
        inner: &mut Inner,
        work: impl FnOnce(&mut Engine) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Inner { locks, engine } = inner;
        let held = self.hold(locks)?;
        let mut current = match engine.take() {
            Some(mut current) => {
                current.refresh()?;
                current
            }
            None => Engine::open(&self.section)?,
        };
        current.expire(now());
        let result = work(&mut current)?;
        let is_promised = current.is_promised();
        match current.commit(now()) {
            Ok(()) => {
                self.behind.store(current.is_behind(), Ordering::SeqCst);
                *engine = Some(current);
            }
            Err(failure) if is_promised => return Err(failure),
            // A known machine asked again, say, on a disk that is full: its answer stands.
            Err(failure) => {
                let error: &dyn std::error::Error = &failure;
                warn!(error, "what nobody was promised could not be stored and is lost");
            }
        }
        drop(held);
        Ok(result)
    }

    /// Takes the locks, the own one last, to be given up first.
    fn hold<'a>(
        &self,
        locks: &'a mut Option<Locks>,
    ) -> Result<(LockGuard<'a>, LockGuard<'a>), StoreError> {
        let known_path = self.section.lock_file.clone();
        let own_path = self.section.private_dir().join("store.lock");
        let open = |path: &Path| Lock::open(path).map_err(|source| lock_failed(path, source));
        let locks = match locks {
            Some(locks) => locks,
            None => locks.insert(Locks { known: open(&known_path)?, own: open(&own_path)? }),
        };
        let known = locks.known.acquire().map_err(|source| lock_failed(&known_path, source))?;
        let own = locks.own.acquire().map_err(|source| lock_failed(&own_path, source))?;
        Ok((own, known))
    }
}

/// The world that the files of a CONFIGDIR alone describe: no machine is known, nothing is locked,
/// and nothing can be changed through it.
pub fn read_folder(folder: &Path) -> Result<World, StoreError> {
    let mut world = World::default();
    let section = Section::with_config_dir("", folder.to_owned());
    Sources::open(&section)?.refresh(&mut world)?;
    Ok(world)
}

/// One decision, applied to the world but not stored yet. A panic in it changes nothing.
fn decide_one(engine: &mut Engine, decide: Decide, now: Seconds) -> Result<Decision, StoreError> {
    let fresh = fresh()?;
    let world = engine.world();
    let mut decision = caught(|| Ok(decide(world, now, &fresh)))?;
    engine.apply(std::mem::take(&mut decision.changes), decision.durable);
    Ok(decision)
}

/// What `work` answers, or that it panicked: a leader must go on, for others wait for it. What
/// was half-changed is not believed: an engine that was being worked on is gone by then.
fn caught<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(StoreError::Defect(panic_text(panic.as_ref()))))
}

fn lock_failed(path: &Path, source: io::Error) -> StoreError {
    StoreError::Lock { path: path.to_owned(), source }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// The value behind a mutex. Nothing under these is left half-changed by a panic: decisions are
/// caught, and an engine that was being worked on was taken out.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds since 1970.
pub(crate) fn now() -> Seconds {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Random values for one decision.
pub(crate) fn fresh() -> Result<Fresh, StoreError> {
    Ok(Fresh { nonce: random_token()?, ticket: random_token()? })
}

pub(crate) fn random_token() -> Result<Token, StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Random(error.to_string()))?;
    Ok(Token::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    use specs::fleet::Answer;

    /// Panics where no decision is being made: when one is given up.
    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("outside of a decision");
        }
    }

    #[test]
    fn a_panic_of_the_leader_leaves_nobody_waiting() {
        let mut section = Section::with_config_dir("SERVER", PathBuf::from("/proc/edeploy"));
        // Without a lock no decision is made, and all are given up.
        section.lock_file = PathBuf::from("/proc/edeploy/lock");
        let store = Arc::new(Store::new(section));
        let (sender, receiver) = std::sync::mpsc::channel();
        let background = Arc::clone(&store);
        std::thread::spawn(move || {
            let bomb = PanicsWhenDropped;
            let first = background.transact(move |_, _, _| {
                drop(bomb);
                unreachable!("there is no lock")
            });
            sender.send(first.map(|it| it.answer)).unwrap();
            let second = background.transact(|_, _, _| unreachable!("there is no lock"));
            sender.send(second.map(|it| it.answer)).unwrap();
        });
        let next = || -> Result<Answer, Arc<StoreError>> {
            receiver.recv_timeout(Duration::from_secs(20)).expect("an answer")
        };
        let first = next().unwrap_err();
        assert!(matches!(&*first, StoreError::Defect(it) if it == "outside of a decision"));
        assert!(matches!(&*next().unwrap_err(), StoreError::Lock { .. }));
    }
}
