//! One machine of the storm, from its first upload to an installed system, with everything that
//! goes wrong on the way. It notes what it was told: a later answer must not differ.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::client::{Answer, Door};
use crate::dice::Dice;

/// Longer than any restart of the server.
const PATIENCE: Duration = Duration::from_secs(120);

/// A machine and what it was told.
#[derive(Debug)]
pub(super) struct Machine {
    /// Its number.
    pub(super) number: usize,
    /// The host name it was given last; `None` while it holds nothing.
    pub(super) hostname: Option<String>,
    /// Whether the server knows it as installed.
    pub(super) installed: bool,
    /// How many requests it made.
    pub(super) requests: usize,
    /// Whether it left an upload whose answer may still be made.
    left: bool,
    upload: Vec<u8>,
    dice: Dice,
}

impl Machine {
    /// A machine that has not been switched on yet.
    pub(super) fn new(number: usize, door: &Door, facts: &str, seed: u64) -> Machine {
        Machine {
            number,
            hostname: None,
            installed: false,
            left: false,
            requests: 0,
            upload: door.upload_request(facts),
            dice: Dice::new(seed ^ ((number as u64) << 32)),
        }
    }

    /// From power on to installed.
    pub(super) fn live(&mut self, door: &Door) -> Result<()> {
        self.install(door).with_context(|| format!("machine {}", self.number))
    }

    fn install(&mut self, door: &Door) -> Result<()> {
        for _ in 0..20 {
            if self.dice.hits(8) {
                // Its reply is lost: whatever was given has to be given again.
                self.requests += 1;
                door.send_and_leave(&self.upload);
                self.left = true;
            }
            let ticket = self.be_given(door)?;
            if self.dice.hits(8) {
                // Switched off and on again.
                ensure!(self.be_given(door)? == ticket, "another ticket, nothing done in between");
            }
            if self.dice.hits(10) {
                // Gave up before it touched anything: the entry is anybody's again.
                self.report(door, &ticket, 0, &failed("untouched"))?;
                self.hostname = None;
                continue;
            }
            let begun = json!([
                {"event": "step_started", "step": "partition /dev/vda", "destructive": true}
            ]);
            if !self.report(door, &ticket, 0, &begun)? {
                continue;
            }
            if self.dice.hits(10) {
                self.report(door, &ticket, 1, &failed("cleared"))?;
                continue;
            }
            let installed = json!([{"event": "installed", "seconds": 61.5}]);
            if !self.report(door, &ticket, 1, &installed)? {
                continue;
            }
            self.installed = true;
            let answer = self.ask(door, &self.upload.clone())?;
            let reply = answer.json();
            ensure!(
                answer.status == 200 && reply["installed"]["hostname"].as_str() == self.hostname(),
                "installed as {:?}, and told {}: {reply}",
                self.hostname,
                answer.status
            );
            return Ok(());
        }
        bail!("unlucky beyond belief: failed 20 times")
    }

    fn hostname(&self) -> Option<&str> {
        self.hostname.as_deref()
    }

    /// Uploads until there is an answer; the ticket of the plan.
    fn be_given(&mut self, door: &Door) -> Result<String> {
        let answer = self.ask(door, &self.upload.clone())?;
        let reply = answer.json();
        let plan = &reply["plan"];
        let (Some(hostname), Some(ticket)) =
            (plan["plan"]["hostname"].as_str(), plan["ticket"].as_str())
        else {
            bail!("no plan, but {}: {reply}", answer.status);
        };
        if let Some(earlier) = &self.hostname {
            ensure!(earlier == hostname, "was {earlier}, is to be {hostname}");
        }
        self.hostname = Some(hostname.to_owned());
        Ok(ticket.to_owned())
    }

    /// Whether it was taken. An upload that was left may be answered late, and the plan that
    /// nobody waited for ends this ticket: then the machine starts over.
    fn report(&mut self, door: &Door, ticket: &str, sequence: u64, events: &Value) -> Result<bool> {
        let request = door.events_request(&"0".repeat(32), ticket, sequence, events);
        let answer = self.ask(door, &request)?;
        // The report may have been taken although its reply was lost: then it is known already.
        let known = answer.status == 409 && sequence == 0 && *events == failed("untouched");
        let text = String::from_utf8_lossy(&answer.body);
        let overtaken = answer.status == 409 && std::mem::take(&mut self.left);
        let is_right = answer.status == 200 || known || overtaken;
        ensure!(is_right, "{events} was answered {}: {text}", answer.status);
        Ok(!overtaken)
    }

    /// Asks until someone answers.
    fn ask(&mut self, door: &Door, request: &[u8]) -> Result<Answer> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            self.requests += 1;
            match door.send(request) {
                Some(answer) if !matches!(answer.status, 429 | 503) => return Ok(answer),
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        bail!("nobody answers")
    }
}

fn failed(disks: &str) -> Value {
    json!([{
        "event": "failed", "step": "fetch tree", "error": "no route to host", "disks": disks
    }])
}
