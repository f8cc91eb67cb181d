//! Tells the server what happens, from a thread of its own: an installation never waits for it.
//!
//! Events keep their order and are sent until the server has them; only progress may be lost, and
//! of one step only the newest is kept while it waits. A batch is sent again unchanged, so the
//! server knows by its numbers what it has already. A server that refuses the ticket is not told
//! anything more; what that means is for the caller of [`EventSender::finish`].

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use specs::event::Event;
use specs::units::Token;
use specs::wire::{EventBatch, EventReply, PROTOCOL};

use super::{AGENT_VERSION, Attempt, Client, ClientError, absent, judge, nonce};

/// Events in one batch, at most.
const LONGEST_BATCH: usize = 64;

/// How long progress waits for company.
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);

/// The pause after a batch that could not be sent.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

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
    /// Somebody waits for the end: no pauses for progress.
    finishing: bool,
    refused: Option<ClientError>,
}

impl EventSender {
    /// Starts sending events under this ticket.
    pub fn start(client: &Client, ticket: Token) -> EventSender {
        let shared =
            Arc::new(Shared { queue: Mutex::new(Queue::default()), changed: Condvar::new() });
        let (client, worker) = (client.clone(), Arc::clone(&shared));
        thread::spawn(move || send_all(&client, &ticket, &worker));
        EventSender { shared }
    }

    /// Puts an event into the queue.
    pub fn send(&self, event: Event) {
        let mut queue = self.shared.lock();
        queue.push(event);
        self.shared.changed.notify_all();
    }

    /// Waits until the server has everything, at most this long.
    pub fn finish(&self, deadline: Duration) -> Result<(), ClientError> {
        let until = Instant::now() + deadline;
        let mut queue = self.shared.lock();
        queue.finishing = true;
        self.shared.changed.notify_all();
        while !queue.events.is_empty() && queue.refused.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ClientError::Undelivered { left: queue.events.len() });
            }
            queue = self.shared.wait(queue, left);
        }
        queue.refused.take().map_or(Ok(()), Err)
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

    fn only_progress(&self) -> bool {
        self.events.iter().all(|event| matches!(event, Event::Progress { .. }))
    }
}

/// The life of the background thread: ends with the process, or when the server refuses.
fn send_all(client: &Client, ticket: &Token, shared: &Shared) {
    let mut queue = shared.lock();
    loop {
        while queue.events.is_empty() {
            queue = shared.wait(queue, Duration::from_secs(60));
        }
        if queue.only_progress() && !queue.finishing {
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
                queue.events.drain(..count);
                queue.sequence += count as u64;
                shared.changed.notify_all();
            }
            Err(Attempt::Final(error)) => {
                queue.refused = Some(error);
                shared.changed.notify_all();
                return;
            }
            Err(Attempt::Again(_)) => {
                let until = Instant::now() + RETRY_PAUSE;
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
) -> Result<(), Attempt> {
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
    let text = judge(&url, response)?;
    let reply: EventReply = serde_json::from_str(&text).map_err(|error| {
        Attempt::Final(ClientError::Foreign {
            url: url.clone(),
            status: 200,
            problem: error.to_string(),
            start: super::start_of(&text),
        })
    })?;
    if reply.nonce == nonce { Ok(()) } else { Err(Attempt::Final(ClientError::Nonce { url })) }
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
