//! What is old goes: uploaded logs, and the records of machines that hold nothing.
//!
//! How long they are kept is said by LOGAGE, LOGCOUNT, RECORDAGE and RECORDCOUNT. `serve` looks
//! every hour, the resident of CGI programs when none has come for a while, `edeploy-server sync`
//! whenever it is called. Which machines hold nothing is `specs`'s to say, and is asked again under
//! the lock.

use std::sync::Arc;

use specs::fleet::Answer;
use tracing::{error, info};

use crate::handle::{Application, chain};
use crate::logs::{self, LogError};
use crate::store::{Store, StoreError, now};

/// Machines forgotten at once, so that others need not wait.
const BATCH: usize = 200;

/// Why not everything that is old is gone.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// Logs could not be removed.
    #[error(transparent)]
    Logs(#[from] LogError),
    /// Records could not be read.
    #[error(transparent)]
    Read(#[from] StoreError),
    /// Machines could not be forgotten.
    #[error(transparent)]
    Forget(#[from] Arc<StoreError>),
}

/// Removes what is no longer kept, and says what that was, a sentence each.
pub fn sweep(store: &Store) -> Result<Vec<String>, SweepError> {
    let section = store.section();
    let retention = &section.retention;
    let mut removed = Vec::new();
    let keep = retention.records;
    let machines = store.look(|world| world.surplus(keep, now()))?;
    for machines in machines.chunks(BATCH) {
        let machines = machines.to_owned();
        let retired = store.transact(move |world, now, _| world.retire(&machines, now))?;
        if let Answer::Done(sentence) = retired.answer {
            removed.push(sentence);
        }
    }
    let logs = logs::retire(&section.log_dir, retention.log_age, retention.log_count)?;
    if !logs.is_empty() {
        let folder = section.log_dir.display();
        removed.push(format!("old logs removed from {folder}: {}", logs.join(", ")));
    }
    Ok(removed)
}

/// Does that for every section, and leaves a line about it in the log.
pub fn sweep_all(application: &Application) {
    for store in application.stores() {
        let section = &store.section().name;
        match sweep(&store) {
            Ok(removed) => removed.iter().for_each(|sentence| info!(section, "{sentence}")),
            Err(failure) => error!(section, error = chain(&failure), "old ones stay"),
        }
    }
}
