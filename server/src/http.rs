//! The HTTP front: `guard` faces the network, `tiny_http` frames requests and responses behind
//! it, a fixed number of threads runs the application.
//!
//! ```text
//! clients ── TCP ── guard ── job ── relay ── private Unix socket ── tiny_http ── handler
//! ```
//!
//! The guard is here because of what was measured of `tiny_http` 0.12: its accept thread ends at
//! the first EMFILE, and it has no limit on threads, head lengths or stalled clients. Not here:
//! what any request means.

mod guard;
pub mod incoming;
mod relay;

use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tempfile::TempDir;
use tracing::{error, warn};

use self::guard::{Done, Guard, Job};
use crate::request::{Request, Response};
use crate::resident::LONGEST_SOCKET;
use crate::store::files::absent_as_none;
use crate::store::lock::Lock;

/// What answers requests.
pub type Application = Arc<dyn Fn(&Request) -> Response + Send + Sync>;

/// How large the front may grow.
#[derive(Debug, Clone, Copy)]
pub struct FrontLimits {
    /// Requests handled at once.
    pub workers: usize,
    /// Connections held at once.
    pub max_connections: usize,
    /// Bytes of a request's body.
    pub max_body: usize,
}

/// A running front.
#[derive(Debug)]
pub struct Front {
    guard: JoinHandle<io::Result<()>>,
    relays: Vec<JoinHandle<()>>,
    handlers: Vec<JoinHandle<()>>,
    stopper: Stopper,
    inner: InnerServer,
}

/// `tiny_http`, which cannot be printed.
struct InnerServer(Arc<tiny_http::Server>);

impl std::fmt::Debug for InnerServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("tiny_http::Server")
    }
}

/// Tells a [`Front`] to finish what is under way and end.
#[derive(Debug, Clone)]
pub struct Stopper {
    stop: Arc<AtomicBool>,
    waker: Waker,
}

/// Wakes the guard from its wait.
#[derive(Debug, Clone)]
struct Waker(Arc<UnixStream>);

impl Waker {
    fn wake(&self) {
        // A full pipe means that the guard is about to wake up anyway.
        let _ = (&*self.0).write(&[1]);
    }
}

impl Stopper {
    /// Tells it.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.waker.wake();
    }
}

impl Front {
    /// Starts answering what arrives at `listener`. For a moment there is a socket in `folder`, which
    /// nobody else can look into.
    pub fn start(
        listener: TcpListener,
        limits: FrontLimits,
        folder: Option<&Path>,
        application: Application,
    ) -> io::Result<Front> {
        let (waker, woken) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        let stopper =
            Stopper { stop: Arc::new(AtomicBool::new(false)), waker: Waker(Arc::new(waker)) };
        let (inner, streams) = private_server(folder, limits.workers)?;
        let handlers = (0..limits.workers)
            .map(|_| spawn_handler(Arc::clone(&inner), Arc::clone(&application)))
            .collect();
        let (jobs, queue) = mpsc::channel();
        let (done_sender, done) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        let relays = streams
            .into_iter()
            .map(|stream| {
                spawn_relay(stream, Arc::clone(&queue), done_sender.clone(), stopper.waker.clone())
            })
            .collect();
        let guard = Guard {
            listener,
            max_connections: limits.max_connections,
            max_body: limits.max_body,
            jobs,
            done,
            woken,
            stop: Arc::clone(&stopper.stop),
        };
        let guard = std::thread::Builder::new().name("guard".into()).spawn(|| guard.run())?;
        Ok(Front { guard, relays, handlers, stopper, inner: InnerServer(inner) })
    }

    /// What stops it.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits until it was stopped and has finished.
    pub fn wait(self) -> io::Result<()> {
        let ended = self.guard.join().map_err(|_| io::Error::other("the guard thread panicked"))?;
        // The guard took the queue's sender with it: the relays end, then the handlers.
        for relay in self.relays {
            drop(relay.join());
        }
        for _ in &self.handlers {
            self.inner.0.unblock();
        }
        for handler in self.handlers {
            drop(handler.join());
        }
        ended
    }
}

/// `tiny_http` on a Unix socket that only these connections ever reach: its name is gone before
/// the first client is served.
fn private_server(
    folder: Option<&Path>,
    workers: usize,
) -> io::Result<(Arc<tiny_http::Server>, Vec<UnixStream>)> {
    let meeting = Meeting::at(folder)?;
    let listener = UnixListener::bind(&meeting.socket)?;
    let server = tiny_http::Server::from_listener(listener, None).map_err(io::Error::other)?;
    let mut streams = Vec::with_capacity(workers);
    for _ in 0..workers {
        let mut stream = UnixStream::connect(&meeting.socket)?;
        // `tiny_http` may give two connections that come at once to one idle thread, and the
        // second would wait for the end of the first, which never comes: one at a time, each
        // answered once before the next.
        relay::send(&mut stream, &first_request())?;
        server.recv()?.respond(tiny_http::Response::empty(200))?;
        relay::receive(&mut stream)?;
        streams.push(stream);
    }
    if let Err(error) = std::fs::remove_file(&meeting.socket) {
        // Its folder is closed to others, and the next server removes it.
        warn!(%error, "the socket of the front stays in {}", meeting.socket.display());
    }
    Ok((Arc::new(server), streams))
}

/// Where the two sides of the front meet when it starts.
struct Meeting {
    socket: PathBuf,
    /// What makes it nobody else's meanwhile.
    _held: Held,
}

enum Held {
    /// One server at a time has the socket in the folder of all that serve the same deployment.
    Turn { _lock: Lock },
    /// A folder of its own.
    Folder { _folder: TempDir },
}

impl Meeting {
    /// In `folder`, where the next server removes what a killed one left; where that cannot be, in a
    /// temporary folder.
    fn at(folder: Option<&Path>) -> io::Result<Meeting> {
        let here = folder.map(|folder| folder.join("http"));
        let here = here.filter(|socket| socket.as_os_str().len() <= LONGEST_SOCKET);
        if let Some(socket) = here {
            match Meeting::in_turn(socket) {
                Ok(meeting) => return Ok(meeting),
                // A deployment that cannot be written to now may be later: it is served.
                Err(error) => warn!(%error, "the front starts in a temporary folder"),
            }
        }
        let folder = tempfile::Builder::new().prefix("edeploy-server-").tempdir()?;
        let socket = folder.path().join("http");
        Ok(Meeting { socket, _held: Held::Folder { _folder: folder } })
    }

    fn in_turn(socket: PathBuf) -> io::Result<Meeting> {
        let lock = Lock::open(&socket.with_extension("lock"))?.hold()?;
        absent_as_none(std::fs::remove_file(&socket))?;
        Ok(Meeting { socket, _held: Held::Turn { _lock: lock } })
    }
}

/// What is sent over a new connection to see that it is served.
fn first_request() -> Request {
    Request {
        method: "GET".to_owned(),
        path: "/".to_owned(),
        content_type: None,
        accept: None,
        peer: None,
        body: Vec::new(),
    }
}

fn spawn_relay(
    mut stream: UnixStream,
    queue: Arc<Mutex<Receiver<Job>>>,
    done: Sender<Done>,
    waker: Waker,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        loop {
            let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Job { connection, request }) = job else { return };
            let reply = relay::exchange(&mut stream, &request).unwrap_or_else(|error| {
                error!(%error, "the connection to the HTTP library broke");
                relay::reply_bytes(&Response::text(503, "the server could not take the request"))
            });
            if done.send(Done { connection, reply }).is_err() {
                return;
            }
            waker.wake();
        }
    })
}

fn spawn_handler(server: Arc<tiny_http::Server>, application: Application) -> JoinHandle<()> {
    std::thread::spawn(move || {
        while let Ok(mut request) = server.recv() {
            let answer = read_request(&mut request).map_or_else(
                |error| Response::text(400, &format!("the request could not be read: {error}")),
                |request| answer(&application, &request),
            );
            // The relay is gone only when the whole process is going.
            drop(request.respond(response(answer)));
        }
    })
}

/// The application's answer; a defect in it costs one request, not the server.
fn answer(application: &Application, request: &Request) -> Response {
    catch_unwind(AssertUnwindSafe(|| application(request))).unwrap_or_else(|_| {
        error!(path = request.path, "the handler panicked");
        Response::text(500, "the server hit a defect; its log says where")
    })
}

fn read_request(request: &mut tiny_http::Request) -> io::Result<Request> {
    let header = |name: &'static str| {
        let found = request.headers().iter().find(|header| header.field.equiv(name));
        found.map(|header| header.value.as_str().to_owned())
    };
    let content_type = header("Content-Type");
    let accept = header("Accept");
    let peer = header(relay::PEER_HEADER).and_then(|peer| peer.parse().ok());
    let mut body = Vec::with_capacity(request.body_length().unwrap_or(0));
    let method = request.method().to_string();
    let path = request.url().to_owned();
    request.as_reader().read_to_end(&mut body)?;
    Ok(Request { method, path, content_type, accept, peer, body })
}

fn response(answer: Response) -> tiny_http::Response<io::Cursor<Vec<u8>>> {
    let mut response = tiny_http::Response::from_data(answer.body)
        .with_status_code(answer.status)
        .with_chunked_threshold(usize::MAX);
    let retry_after = answer.retry_after.map(|seconds| seconds.to_string());
    for (name, value) in
        [("Content-Type", Some(answer.content_type)), ("Retry-After", retry_after.as_deref())]
    {
        let header =
            value.and_then(|value| tiny_http::Header::from_bytes(name, value.as_bytes()).ok());
        if let Some(header) = header {
            response.add_header(header);
        }
    }
    response
}
