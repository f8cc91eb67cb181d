//! What crosses the network between agent and server.

use std::fmt::Debug;
use std::path::PathBuf;

use agent::apply::show;
use agent::execute::{Installation, Origin};
use serde::Serialize;
use serde::de::DeserializeOwned;
use specs::plan::Plan;
use specs::plan::lint::{errors, lint};
use specs::wire::{EventBatch, EventReply, Reply, ron_options, to_ron};

/// The value is the same after it was written and read, in both notations.
pub(super) fn crosses_the_network<T>(value: &T)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let Ok(ron) = to_ron(value) else { panic!("no RON: {value:?}") };
    assert_eq!(ron_options().from_str::<T>(&ron).as_ref(), Ok(value), "{ron}");
    let Ok(json) = serde_json::to_string(value) else { panic!("no JSON: {value:?}") };
    assert_eq!(serde_json::from_str::<T>(&json).as_ref().ok(), Some(value), "{json}");
}

/// A plan that an agent is handed, however wrong, can be judged, described and shown command by
/// command, without a secret of it.
pub fn plan(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(plan) = ron_options().from_str::<Plan>(text) else { return };
    crosses_the_network(&plan);
    let notes = lint(&plan);
    let wrong = errors(&notes).count();
    let shown = notes.iter().filter(|note| note.to_string().starts_with("error: "));
    assert_eq!(shown.count(), wrong);
    let described = plan.to_string();
    assert!(described.contains(plan.profile.as_str()), "{described}");
    let origin = Origin {
        server: "10.0.2.2".to_owned(),
        rsync_host: "10.0.2.2".to_owned(),
        rsync_port: 873,
        rsync_path: "install".to_owned(),
        archives: None,
    };
    let installation = Installation {
        plan: &plan,
        facts: None,
        origin: &origin,
        log: None,
        target: PathBuf::from("/mnt/target"),
    };
    let shown = show(&installation);
    for secret in plan.secrets.iter().filter(|secret| secret.len() > 20) {
        assert!(!shown.contains(secret.as_str()), "{shown}");
    }
}

/// A reply of the server, in RON and in JSON.
pub fn reply(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(reply) = ron_options().from_str::<Reply>(text) {
        crosses_the_network(&reply);
    }
    if let Ok(reply) = serde_json::from_str::<Reply>(text) {
        crosses_the_network(&reply);
    }
}

/// A batch of events, and the server's reply to one.
pub fn events(bytes: &[u8]) {
    if let Ok(batch) = serde_json::from_slice::<EventBatch>(bytes) {
        crosses_the_network(&batch);
    }
    if let Ok(reply) = serde_json::from_slice::<EventReply>(bytes) {
        crosses_the_network(&reply);
    }
}
