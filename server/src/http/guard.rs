//! Stands between the network and everything else: one thread that owns every client's socket.
//!
//! It reads requests until they are complete, hands them to the workers and writes the replies
//! back, all without blocking, so that a client that stalls costs a slot in a table and never a
//! worker. The table is bounded; when it is full, the client that has been dawdling longest makes
//! room. Running out of file descriptors pauses accepting for a moment and ends nothing.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{debug, warn};

use super::incoming::{Incoming, Progress};
use super::relay;
use crate::request::{Request, Response};

/// From the first byte of a head to its last; also for a connection on which nothing comes.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// From the end of the head to the end of the body, for the first bytes of it.
const BODY_DEADLINE: Duration = Duration::from_secs(20);
/// Slower than this many bytes a second is stalling.
const SLOWEST_BODY: usize = 16 << 10;
/// From the first byte of a reply to its last.
const REPLY_DEADLINE: Duration = Duration::from_secs(20);
/// How long a client may go on sending after its reply, so that the reply is not lost to a reset.
const LINGER_DEADLINE: Duration = Duration::from_secs(2);
/// A handed-over request is not abandoned by the guard: the handler has deadlines of its own.
const WORK_DEADLINE: Duration = Duration::from_secs(600);
/// A client that has had this long without completing its request makes room for others.
const PATIENCE_WHEN_FULL: Duration = Duration::from_secs(1);
/// How long accepting pauses after an error such as EMFILE.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long requests under way may take to finish once the server is told to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of requests and replies held at once, all clients together, in largest bodies.
const BUFFERED_BODIES: usize = 8;

/// A complete request on its way to a worker.
pub(super) struct Job {
    pub(super) connection: u64,
    pub(super) request: Request,
}

/// A complete reply on its way back, head included.
pub(super) struct Done {
    pub(super) connection: u64,
    pub(super) reply: Vec<u8>,
}

/// What the guard needs.
pub(super) struct Guard {
    pub(super) listener: TcpListener,
    pub(super) max_connections: usize,
    pub(super) max_body: usize,
    pub(super) jobs: Sender<Job>,
    pub(super) done: Receiver<Done>,
    /// Readable when `done` or `stop` has something new.
    pub(super) woken: UnixStream,
    pub(super) stop: Arc<AtomicBool>,
}

/// One client.
struct Connection {
    stream: TcpStream,
    phase: Phase,
    deadline: Instant,
    since: Instant,
}

enum Phase {
    Reading(Incoming),
    /// A worker has the request, of this many bytes.
    Working {
        held: usize,
    },
    Replying {
        reply: Vec<u8>,
        sent: usize,
    },
    Lingering,
}

/// What becomes of a connection after it was looked after.
#[derive(PartialEq, Eq)]
enum Fate {
    Keep,
    Close,
}

impl Guard {
    /// Runs until told to stop and everything under way is finished.
    pub(super) fn run(self) -> io::Result<()> {
        self.listener.set_nonblocking(true)?;
        self.woken.set_nonblocking(true)?;
        let mut connections: BTreeMap<u64, Connection> = BTreeMap::new();
        let mut next = 0;
        let mut accept_after = Instant::now();
        let mut stopping: Option<Instant> = None;
        loop {
            if self.stop.load(Ordering::SeqCst) && stopping.is_none() {
                stopping = Some(Instant::now());
                // Whoever has not begun to ask gets no answer; everyone else does.
                connections.retain(|_, connection| !connection.is_untouched());
            }
            if let Some(since) = stopping
                && (connections.is_empty() || since.elapsed() > STOP_DEADLINE)
            {
                return Ok(());
            }
            let now = Instant::now();
            let accepting = stopping.is_none() && now >= accept_after;
            let ready = self.wait(&connections, accepting)?;
            if ready.woken {
                let mut sink = [0; 256];
                while matches!((&self.woken).read(&mut sink), Ok(count) if count > 0) {}
            }
            for Done { connection, reply } in self.done.try_iter() {
                if let Some(found) = connections.get_mut(&connection) {
                    found.begin_reply(reply);
                    if found.write_reply() == Fate::Close {
                        connections.remove(&connection);
                    }
                }
            }
            self.look_after(&mut connections, &ready.clients);
            if ready.listener
                && let Err(error) = self.accept(&mut connections, &mut next)
            {
                warn!(%error, "cannot accept connections; trying again in {ACCEPT_PAUSE:?}");
                accept_after = Instant::now() + ACCEPT_PAUSE;
            }
        }
    }

    /// Waits until a socket is ready or a deadline is near.
    fn wait(&self, connections: &BTreeMap<u64, Connection>, accepting: bool) -> io::Result<Ready> {
        let mut ids = Vec::with_capacity(connections.len());
        let mut polled = Vec::with_capacity(connections.len() + 2);
        polled.push(PollFd::new(self.woken.as_fd(), PollFlags::POLLIN));
        let interest = if accepting { PollFlags::POLLIN } else { PollFlags::empty() };
        polled.push(PollFd::new(self.listener.as_fd(), interest));
        for (id, connection) in connections {
            let interest = match connection.phase {
                Phase::Reading(_) | Phase::Lingering => PollFlags::POLLIN,
                Phase::Replying { .. } => PollFlags::POLLOUT,
                Phase::Working { .. } => continue,
            };
            ids.push(*id);
            polled.push(PollFd::new(connection.stream.as_fd(), interest));
        }
        match poll(&mut polled, PollTimeout::from(100_u8)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let any = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        Ok(Ready {
            woken: any(&polled[0]),
            listener: any(&polled[1]),
            clients: ids
                .into_iter()
                .zip(&polled[2..])
                .filter(|(_, fd)| any(fd))
                .map(|(id, _)| id)
                .collect(),
        })
    }

    /// Reads from and writes to whoever is ready, and closes whoever is late.
    fn look_after(&self, connections: &mut BTreeMap<u64, Connection>, ready: &[u64]) {
        let mut held: usize = connections.values().map(Connection::held).sum();
        for id in ready {
            let Some(connection) = connections.get_mut(id) else { continue };
            let before = connection.held();
            let fate = match &connection.phase {
                Phase::Reading(_) => self.read_request(*id, connection, held - before),
                Phase::Replying { .. } => connection.write_reply(),
                Phase::Lingering => connection.discard(),
                Phase::Working { .. } => Fate::Keep,
            };
            held = (held + connection.held()).saturating_sub(before);
            if fate == Fate::Close {
                connections.remove(id);
            } else if held > BUFFERED_BODIES * self.max_body
                && let Some(connection) = connections.get_mut(id)
                && matches!(connection.phase, Phase::Reading(_))
            {
                held -= connection.held();
                connection.refuse(overloaded());
            }
        }
        let now = Instant::now();
        let late: Vec<u64> = connections
            .iter()
            .filter(|(_, connection)| connection.deadline <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            let Some(connection) = connections.get_mut(&id) else { continue };
            match &connection.phase {
                Phase::Reading(incoming) if !incoming.is_untouched() => {
                    let what = if incoming.has_head() { "body" } else { "head" };
                    let sentence = format!("the {what} of the request did not come in time");
                    connection.refuse(Response::text(408, &sentence));
                }
                _ => {
                    connections.remove(&id);
                }
            }
        }
    }

    /// Takes what a client sent; hands the request over once it is complete, unless what the
    /// other clients have sent takes all the memory.
    fn read_request(&self, id: u64, connection: &mut Connection, others: usize) -> Fate {
        let mut buffer = [0; 64 << 10];
        let count = match connection.stream.read(&mut buffer) {
            Ok(0) => return Fate::Close,
            Ok(count) => count,
            Err(error) => return fate_of(&error),
        };
        let Phase::Reading(incoming) = &mut connection.phase else { return Fate::Keep };
        let had_head = incoming.has_head();
        let progress = incoming.feed(&buffer[..count]);
        if !had_head && incoming.has_head() {
            let transfer = Duration::from_secs((incoming.announced() / SLOWEST_BODY) as u64);
            connection.deadline = Instant::now() + BODY_DEADLINE + transfer;
        }
        match progress {
            Progress::Incomplete => Fate::Keep,
            Progress::Continue => {
                // 25 bytes on an idle connection: the send buffer takes them.
                match connection.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n") {
                    Ok(()) => Fate::Keep,
                    Err(_) => Fate::Close,
                }
            }
            Progress::Refused(response) => {
                debug!(status = response.status, "request refused at the door");
                connection.refuse(response);
                connection.write_reply()
            }
            Progress::Complete(request) if request.target() == "healthz" => {
                // Answered here: a server whose workers all wait for the lock is alive.
                connection.refuse(Response::text(200, "ok"));
                connection.write_reply()
            }
            Progress::Complete(request)
                if others + request.body.capacity() > BUFFERED_BODIES * self.max_body =>
            {
                connection.refuse(overloaded());
                connection.write_reply()
            }
            Progress::Complete(request) => {
                connection.phase = Phase::Working { held: request.body.capacity() };
                connection.deadline = Instant::now() + WORK_DEADLINE;
                match self.jobs.send(Job { connection: id, request }) {
                    Ok(()) => Fate::Keep,
                    Err(_) => Fate::Close,
                }
            }
        }
    }

    /// Accepts whoever waits, as far as there is room.
    fn accept(
        &self,
        connections: &mut BTreeMap<u64, Connection>,
        next: &mut u64,
    ) -> io::Result<()> {
        loop {
            if connections.len() >= self.max_connections && !make_room(connections) {
                return Err(io::Error::other("as many connections as MAXCONNECTIONS allows"));
            }
            let (stream, peer) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    make_room(connections);
                    return Err(error);
                }
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let now = Instant::now();
            let incoming = Incoming::new(Some(peer.ip()), self.max_body);
            let connection = Connection {
                stream,
                phase: Phase::Reading(incoming),
                deadline: now + HEAD_DEADLINE,
                since: now,
            };
            connections.insert(*next, connection);
            *next += 1;
        }
    }
}

/// What became ready.
struct Ready {
    woken: bool,
    listener: bool,
    clients: Vec<u64>,
}

/// Closes the connection that has been dawdling longest; whether there was one.
fn make_room(connections: &mut BTreeMap<u64, Connection>) -> bool {
    let dawdler = connections
        .iter()
        .filter(|(_, connection)| !matches!(connection.phase, Phase::Working { .. }))
        .min_by_key(|(_, connection)| connection.since)
        .filter(|(_, connection)| connection.since.elapsed() > PATIENCE_WHEN_FULL)
        .map(|(id, _)| *id);
    dawdler.is_some_and(|id| connections.remove(&id).is_some())
}

fn overloaded() -> Response {
    Response::text(503, "too many large requests at once; try again")
}

fn fate_of(error: &io::Error) -> Fate {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Fate::Keep,
        _ => Fate::Close,
    }
}

impl Connection {
    fn is_untouched(&self) -> bool {
        matches!(&self.phase, Phase::Reading(incoming) if incoming.is_untouched())
    }

    fn held(&self) -> usize {
        match &self.phase {
            Phase::Reading(incoming) => incoming.held(),
            Phase::Working { held } => *held,
            Phase::Replying { reply, .. } => reply.capacity(),
            Phase::Lingering => 0,
        }
    }

    fn begin_reply(&mut self, reply: Vec<u8>) {
        self.phase = Phase::Replying { reply, sent: 0 };
        self.deadline = Instant::now() + REPLY_DEADLINE;
    }

    fn refuse(&mut self, response: Response) {
        self.begin_reply(relay::reply_bytes(&response));
    }

    fn write_reply(&mut self) -> Fate {
        let Phase::Replying { reply, sent } = &mut self.phase else { return Fate::Keep };
        while *sent < reply.len() {
            match self.stream.write(&reply[*sent..]) {
                Ok(count) => *sent += count,
                Err(error) => return fate_of(&error),
            }
        }
        // Closing with unread bytes in the receive buffer would reset the connection and with
        // it, perhaps, the reply: the client closes first.
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return Fate::Close;
        }
        self.phase = Phase::Lingering;
        self.deadline = Instant::now() + LINGER_DEADLINE;
        Fate::Keep
    }

    fn discard(&mut self) -> Fate {
        let mut sink = [0; 64 << 10];
        match self.stream.read(&mut sink) {
            Ok(0) => Fate::Close,
            Ok(_) => Fate::Keep,
            Err(error) => fate_of(&error),
        }
    }
}
