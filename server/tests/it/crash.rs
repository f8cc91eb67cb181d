//! SIGKILL at random instants: whatever was answered stays true, and counts are exact.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::deployment::{Deployment, machine};
use crate::processes::{serve, try_upload};

/// How many times the server is killed. Each kill is another instant of some batch.
const KILLS: u32 = 25;
/// Machines that ask again and again.
const MACHINES: u32 = 24;
/// Entries: fewer than machines, so that refusals and allocations mix.
const ENTRIES: u32 = 18;

#[test]
fn kills_at_random_instants_lose_nothing_and_give_nothing_twice() {
    let deployment = Deployment::sized(ENTRIES);
    let answered: Mutex<BTreeMap<u32, String>> = Mutex::default();
    for kill in 0..KILLS {
        let (server, address) = serve(&deployment, "");
        std::thread::scope(|scope| {
            for client in 0..6 {
                let answered = &answered;
                scope.spawn(move || {
                    // New machines come in with every kill, known ones ask again.
                    for n in (client..MACHINES.min(6 + kill)).step_by(6) {
                        let Some((status, body)) = try_upload(address, "/upload", &machine(n))
                        else {
                            return;
                        };
                        if status == 200 {
                            let name = body["plan"]["plan"]["hostname"].as_str().unwrap();
                            let mut answered = answered.lock().unwrap();
                            let earlier = answered.insert(n, name.to_owned());
                            assert!(
                                earlier.is_none_or(|earlier| earlier == name),
                                "{n} was given another entry"
                            );
                        }
                    }
                });
            }
            // From the first request being read to the files being written.
            let instant = u64::from(kill * kill * 7919 % 1000) * 60;
            std::thread::sleep(Duration::from_micros(500 + instant));
            server.signal(Signal::SIGKILL);
        });
        drop(server);
    }
    let (mut server, address) = serve(&deployment, "");
    for n in 0..MACHINES {
        let (status, body) = try_upload(address, "/upload", &machine(n)).expect("an answer");
        if let Some(name) = answered.lock().unwrap().get(&n) {
            assert_eq!(body["plan"]["plan"]["hostname"], name.as_str(), "{n}: {status} {body}");
        }
        if status == 200 {
            let name = body["plan"]["plan"]["hostname"].as_str().unwrap();
            answered.lock().unwrap().insert(n, name.to_owned());
        }
    }
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(), Some(0));
    let answered = answered.into_inner().unwrap();
    let names: std::collections::BTreeSet<String> = answered.values().cloned().collect();
    assert_eq!(names.len(), answered.len(), "an entry was given twice: {answered:?}");
    assert_eq!(names.len(), ENTRIES as usize);
    assert_eq!(deployment.used(), names);
    assert_eq!(deployment.count(), "0");
}
