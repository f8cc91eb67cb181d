//! Tells the server what happens, from a thread of its own: an installation waits for it only
//! where it asks to ([`EventSender::deliver`], [`EventSender::insist`]).
//!
//! Events keep their order and are sent until the server has them; only progress may be lost, and
//! of one step only the newest is kept while it waits. A batch is sent again unchanged, so the
//! server knows by its numbers what it has already. Only a server that refuses the ticket (409) or
//! the protocol (426) is not told anything more; what that means is for the caller. Every other
//! answer, however strange, may come from whatever stands in for the server while it is away.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use specs::event::Event;
use specs::units::Token;
use specs::wire::{EventBatch, EventReply, PROTOCOL};

use super::retry::brief;
use super::{AGENT_VERSION, Attempt, Client, ClientError, Patience, absent, foreign, judge, nonce};

/// Events in one batch, at most.
const LONGEST_BATCH: usize = 64;

/// How long progress waits for company.
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);

/// The pauses after batches that could not be sent.
const RETRIES: Patience = Patience { total: Duration::MAX, first_pause: Duration::from_secs(2) };

/// How long a thread sleeps that waits for nothing but the other.
const IDLE: Duration = Duration::from_secs(60);

/// Sends events in the background. Clones feed the same queue.
#[derive(Debug, Clone)]
pub struct EventSender {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    /// Number of the first event in the queue.
    sequence: u64,
    /// How many at its beginning are being sent and must stay as they are.
    in_flight: usize,
    /// Somebody waits for the server: no pauses for progress, and failed attempts are shown.
    awaited: bool,
    refused: Option<Refused>,
}

/// The server's no.
#[derive(Debug, Clone)]
struct Refused {
    url: String,
    reason: String,
}

impl From<Refused> for ClientError {
    fn from(Refused { url, reason }: Refused) -> ClientError {
        ClientError::Refused { url, reason }
    }
}

/// How a batch failed.
enum NotSent {
    Refused(Refused),
    Again(ClientError),
}

impl EventSender {
    /// Starts sending events under this ticket.
    pub fn start(client: &Client, ticket: Token) -> EventSender {
        EventSender::start_paced(client, ticket, RETRIES)
    }

    /// As [`EventSender::start`], with other pauses after failures.
    pub(super) fn start_paced(client: &Client, ticket: Token, retries: Patience) -> EventSender {
        let shared =
            Arc::new(Shared { queue: Mutex::new(Queue::default()), changed: Condvar::new() });
        let (client, worker) = (client.clone(), Arc::clone(&shared));
        thread::spawn(move || send_all(&client, &ticket, retries, &worker));
        EventSender { shared }
    }

    /// Puts an event into the queue.
    pub fn send(&self, event: Event) {
        let mut queue = self.shared.lock();
        queue.push(event);
        self.shared.changed.notify_all();
    }

    /// Waits until the server has everything, at most this long.
    pub fn deliver(&self, deadline: Duration) -> Result<(), ClientError> {
        self.wait_until(Some(Instant::now() + deadline))
    }

    /// Waits until the server has everything or refuses it, for as long as that takes.
    pub fn insist(&self) -> Result<(), ClientError> {
        self.wait_until(None)
    }

    /// An error when the server has refused something by now; does not wait.
    pub fn accepted(&self) -> Result<(), ClientError> {
        self.shared.lock().accepted()
    }

    fn wait_until(&self, until: Option<Instant>) -> Result<(), ClientError> {
        let mut queue = self.shared.lock();
        queue.awaited = true;
        self.shared.changed.notify_all();
        while !queue.events.is_empty() && queue.refused.is_none() {
            let left = until.map_or(IDLE, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                queue.awaited = false;
                return Err(ClientError::Undelivered { left: queue.events.len() });
            }
            queue = self.shared.wait(queue, left);
        }
        queue.awaited = false;
        queue.accepted()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>, time: Duration) -> MutexGuard<'a, Queue> {
        self.changed.wait_timeout(queue, time).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Queue {
    /// Appends; newer progress of a step replaces older that is still waiting at the end.
    fn push(&mut self, event: Event) {
        if let Event::Progress { step, .. } = &event
            && self.events.len() > self.in_flight
            && let Some(Event::Progress { step: waiting, .. }) = self.events.back()
            && waiting == step
        {
            self.events.pop_back();
        }
        self.events.push_back(event);
    }

    fn accepted(&self) -> Result<(), ClientError> {
        self.refused.clone().map_or(Ok(()), |refused| Err(refused.into()))
    }

    fn only_progress(&self) -> bool {
        self.events.iter().all(|event| matches!(event, Event::Progress { .. }))
    }
}

/// The life of the background thread: ends with the process, or when the server refuses.
fn send_all(client: &Client, ticket: &Token, retries: Patience, shared: &Shared) {
    let mut failures = 0;
    let mut queue = shared.lock();
    loop {
        while queue.events.is_empty() {
            queue = shared.wait(queue, IDLE);
        }
        if queue.only_progress() && !queue.awaited {
            queue = shared.wait(queue, PROGRESS_PAUSE);
        }
        let events: Vec<Event> = queue.events.iter().take(LONGEST_BATCH).cloned().collect();
        let (count, sequence) = (events.len(), queue.sequence);
        queue.in_flight = count;
        drop(queue);
        let sent = send_batch(client, ticket, sequence, events);
        queue = shared.lock();
        queue.in_flight = 0;
        match sent {
            Ok(()) => {
                failures = 0;
                queue.events.drain(..count);
                queue.sequence += count as u64;
                shared.changed.notify_all();
            }
            Err(NotSent::Refused(refused)) => {
                queue.refused = Some(refused);
                shared.changed.notify_all();
                return;
            }
            Err(NotSent::Again(error)) => {
                failures += 1;
                let pause = retries.next_pause(failures);
                if queue.awaited {
                    let (what, seconds) = (brief(&error), pause.as_secs_f64());
                    client.console.note(&format!("report: {what}; again in {seconds:.1} s"));
                }
                let until = Instant::now() + pause;
                while Instant::now() < until {
                    let left = until.saturating_duration_since(Instant::now());
                    queue = shared.wait(queue, left);
                }
            }
        }
    }
}

fn send_batch(
    client: &Client,
    ticket: &Token,
    sequence: u64,
    events: Vec<Event>,
) -> Result<(), NotSent> {
    let url = client.server.url("events");
    let nonce = nonce()?;
    let batch = EventBatch {
        protocol: PROTOCOL,
        agent: AGENT_VERSION.to_owned(),
        nonce: nonce.clone(),
        ticket: ticket.clone(),
        sequence,
        events,
    };
    let response =
        client.http.post(&url).json(&batch).send().map_err(|source| absent(&url, source))?;
    let status = response.status();
    let text = judge(&url, response).map_err(|attempt| match attempt {
        Attempt::Final(ClientError::Refused { url, reason }) if is_no(status) => {
            NotSent::Refused(Refused { url, reason })
        }
        Attempt::Final(error) | Attempt::Again(error) => NotSent::Again(error),
    })?;
    let reply: EventReply = serde_json::from_str(&text)
        .map_err(|error| foreign(&url, status, &error.to_string(), &text))?;
    if reply.nonce == nonce { Ok(()) } else { Err(ClientError::Nonce { url }.into()) }
}

/// The two answers that are our server's no to this agent for ever.
fn is_no(status: StatusCode) -> bool {
    status == StatusCode::CONFLICT || status == StatusCode::UPGRADE_REQUIRED
}

impl From<ClientError> for NotSent {
    fn from(error: ClientError) -> NotSent {
        NotSent::Again(error)
    }
}

impl From<Attempt> for NotSent {
    fn from(attempt: Attempt) -> NotSent {
        let (Attempt::Again(error) | Attempt::Final(error)) = attempt;
        NotSent::Again(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(step: &str, done: u64) -> Event {
        Event::Progress { step: step.to_owned(), done, total: None }
    }

    #[test]
    fn newer_progress_replaces_what_waits_but_not_what_is_being_sent() {
        let mut queue = Queue::default();
        queue.push(progress("tree", 1));
        queue.in_flight = 1;
        queue.push(progress("tree", 2));
        queue.push(progress("tree", 3));
        queue.push(progress("boot", 1));
        queue.push(Event::Installed { seconds: 1.0 });
        queue.push(progress("boot", 2));
        assert_eq!(
            Vec::from(queue.events),
            [
                progress("tree", 1),
                progress("tree", 3),
                progress("boot", 1),
                Event::Installed { seconds: 1.0 },
                progress("boot", 2),
            ]
        );
    }
}
