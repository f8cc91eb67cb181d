//! One process that knows the world already answers for CGI programs, which would each have to
//! read it first.
//!
//! It is `serve` where that runs; else the CGI program that came first starts one that stays for
//! as long as others keep coming. It listens on a Unix socket in the private folder of the
//! first section. A CGI program that finds nobody there, or loses the connection, does the work
//! itself: asking twice gets the same answer, and the journal's lock keeps all of them apart.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use crate::handle::Application;
use crate::request::{CONTENT_TYPES, Request, Response};
use crate::settings::Settings;
use crate::store::files::{absent_as_none, ensure_folder, ensure_private_folder};
use crate::store::lock::Lock;

/// Requests answered at once.
const WORKERS: usize = 16;
/// Neither side waits longer for the other: the lock's deadline and some.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest path of a socket: what `sockaddr_un` holds beside the zero at its end.
pub(crate) const LONGEST_SOCKET: usize = 107;
/// Longest head of either direction.
const MAX_HEAD: u64 = 64 << 10;

/// What goes before the body of a request.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    /// The settings that the asking program has read: others are not answered for.
    settings: String,
    method: String,
    path: String,
    content_type: Option<String>,
    accept: Option<String>,
    peer: Option<std::net::IpAddr>,
    length: usize,
}

/// What goes before the body of a response.
#[derive(Debug, Serialize, Deserialize)]
struct ReplyHead {
    status: u16,
    content_type: String,
    retry_after: Option<u32>,
    length: usize,
}

/// The answer of the resident process; `None` when nobody listens.
///
/// # Errors
///
/// It has other settings, or ended before it had answered.
pub fn ask(settings: &Settings, request: &Request) -> io::Result<Option<Response>> {
    let stream = socket(settings).and_then(|path| UnixStream::connect(path).ok());
    stream.map(|stream| exchange(stream, settings, request)).transpose()
}

fn exchange(
    mut stream: UnixStream,
    settings: &Settings,
    request: &Request,
) -> io::Result<Response> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = Head {
        settings: settings.digest(),
        method: request.method.clone(),
        path: request.path.clone(),
        content_type: request.content_type.clone(),
        accept: request.accept.clone(),
        peer: request.peer,
        length: request.body.len(),
    };
    send(&mut stream, &head, &request.body)?;
    let (head, body): (ReplyHead, _) = receive(stream, |head: &ReplyHead| head.length)?;
    let known = CONTENT_TYPES.iter().find(|known| **known == head.content_type);
    let content_type = *known.ok_or_else(|| io::Error::other("an unknown content type"))?;
    let ReplyHead { status, retry_after, .. } = head;
    Ok(Response { status, content_type, retry_after, body })
}

fn send(stream: &mut UnixStream, head: &impl Serialize, body: &[u8]) -> io::Result<()> {
    let mut message = serde_json::to_vec(head)?;
    message.push(b'\n');
    message.extend_from_slice(body);
    stream.write_all(&message)
}

fn receive<H: for<'de> Deserialize<'de>>(
    stream: UnixStream,
    length: impl Fn(&H) -> usize,
) -> io::Result<(H, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    reader.by_ref().take(MAX_HEAD).read_until(b'\n', &mut line)?;
    let head: H = serde_json::from_slice(&line)?;
    let length = length(&head);
    let mut body = Vec::new();
    reader.take(length as u64).read_to_end(&mut body)?;
    if body.len() == length { Ok((head, body)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Where the resident listens; `None` when the path is too long for a socket.
fn socket(settings: &Settings) -> Option<PathBuf> {
    let path = settings.sections().next()?.private_dir().join("resident");
    (path.as_os_str().len() <= LONGEST_SOCKET).then_some(path)
}

/// The right to start a resident, which one program has at a time; given up when dropped.
#[derive(Debug)]
pub struct Starter {
    log: PathBuf,
    _turn: Lock,
}

impl Starter {
    /// Takes it; `None` when another program has it, or when there can be no resident.
    pub fn begin(settings: &Settings) -> io::Result<Option<Starter>> {
        let Some(path) = socket(settings) else { return Ok(None) };
        if let Some(folder) = path.parent() {
            ensure_private_folder(folder)?;
        }
        let turn = Lock::open(&path.with_extension("start"))?.try_hold()?;
        Ok(turn.map(|turn| Starter { log: path.with_extension("log"), _turn: turn }))
    }

    /// Where the resident writes its log: begun anew by each, for it belongs to no request.
    pub fn log(&self) -> io::Result<File> {
        File::create(&self.log)
    }
}

/// A process that answers for others.
#[derive(Debug)]
pub struct Resident {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    busy: Arc<AtomicUsize>,
    /// Held as long as it is the resident.
    _turn: Lock,
}

impl Resident {
    /// Becomes the resident, unless another process is or there can be none.
    pub fn begin(application: &Arc<Application>) -> io::Result<Option<Resident>> {
        let settings = application.settings();
        let Some(path) = socket(&settings) else { return Ok(None) };
        if let Some(folder) = path.parent() {
            ensure_folder(folder)?;
        }
        let Some(turn) = Lock::open(&path.with_extension("lock"))?.try_hold()? else {
            return Ok(None);
        };
        // What a killed one left.
        absent_as_none(std::fs::remove_file(&path))?;
        let listener = Arc::new(UnixListener::bind(&path)?);
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let busy = Arc::new(AtomicUsize::new(0));
        let digest = Arc::new(settings.digest());
        let max_body = settings.listener.max_body;
        for _ in 0..WORKERS {
            let (listener, stop) = (Arc::clone(&listener), Arc::clone(&stop));
            let (answered, digest) = (Arc::clone(&answered), Arc::clone(&digest));
            let (application, busy) = (Arc::clone(application), Arc::clone(&busy));
            // It waits for good when nobody comes any more, and ends with the process.
            std::thread::Builder::new().name("resident".into()).spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let result = listener.accept().and_then(|(stream, _)| {
                        busy.fetch_add(1, Ordering::SeqCst);
                        let result = answer(stream, &application, &digest, max_body);
                        busy.fetch_sub(1, Ordering::SeqCst);
                        if result.is_ok() {
                            answered.fetch_add(1, Ordering::SeqCst);
                        }
                        result
                    });
                    if let Err(error) = result {
                        debug!(%error, "a CGI program was not answered");
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
            })?;
        }
        Ok(Some(Resident { path, stop, answered, busy, _turn: turn }))
    }

    /// Stays until nobody has come for `idle`.
    pub fn stay(&self, idle: Duration, mut meanwhile: impl FnMut()) {
        let mut seen = self.answered.load(Ordering::SeqCst);
        let mut since = Instant::now();
        while since.elapsed() < idle {
            std::thread::sleep(idle / 8);
            meanwhile();
            let now = self.answered.load(Ordering::SeqCst);
            if now != seen || self.busy.load(Ordering::SeqCst) > 0 {
                (seen, since) = (now, Instant::now());
            }
        }
    }

    /// Answers what is under way and ends.
    pub fn end(self) {
        // Whoever comes from now on does its own work.
        if let Err(error) = std::fs::remove_file(&self.path) {
            warn!(%error, path = %self.path.display(), "a socket cannot be removed");
        }
        self.stop.store(true, Ordering::SeqCst);
        let since = Instant::now();
        while self.busy.load(Ordering::SeqCst) > 0 && since.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn answer(
    mut stream: UnixStream,
    application: &Application,
    digest: &str,
    max_body: usize,
) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let limited = |head: &Head| head.length.min(max_body);
    let (head, body): (Head, _) = receive(stream.try_clone()?, limited)?;
    if head.settings != digest {
        // Closed without an answer: it does its own work, by the settings it has read.
        return Err(io::Error::other("it has other settings"));
    }
    let Head { method, path, content_type, accept, peer, .. } = head;
    let response = application.handle(&Request { method, path, content_type, accept, peer, body });
    let head = ReplyHead {
        status: response.status,
        content_type: response.content_type.to_owned(),
        retry_after: response.retry_after,
        length: response.body.len(),
    };
    send(&mut stream, &head, &response.body)
}
