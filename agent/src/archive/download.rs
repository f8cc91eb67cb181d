//! One file of a web server as a stream of bytes that goes on when the connection breaks.
//!
//! A broken connection is taken up again where it ended (`Range`); of a server that cannot, the
//! beginning is read once more and passed over. The file must not change meanwhile. Reads stall
//! for so long at most, tries without a byte end after a few, and the whole has a deadline.

use std::io::{self, Read};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, LAST_MODIFIED, RANGE};

use super::{ArchiveError, Happening};

/// How long a server may take to accept a connection, and then to send the next bytes.
const CONNECT: Duration = Duration::from_secs(30);
const STALLED: Duration = Duration::from_secs(120);

/// How often in a row a connection may break without a byte.
const TRIES: u32 = 6;

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// How often progress is told.
const TELLING: Duration = Duration::from_secs(1);

/// The HTTP client for archives.
pub(super) fn client() -> Result<Client, ArchiveError> {
    Client::builder()
        .user_agent(concat!("edeploy-agent/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .connect_timeout(CONNECT)
        // Of this client it is the time that a single read may take.
        .timeout(STALLED)
        .build()
        .map_err(ArchiveError::Setup)
}

/// What tells one state of a file from the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edition {
    pub(super) bytes: u64,
    tag: Option<String>,
    modified: Option<String>,
}

impl Edition {
    /// Of the answer to a question for the whole file; nothing when its size is not told.
    pub(super) fn of_whole(headers: &HeaderMap) -> Option<Edition> {
        Some(Edition::with_size(text(headers, CONTENT_LENGTH)?.parse().ok()?, headers))
    }

    /// Of the answer to a question for a part: `bytes 5-9/10` tells where the part begins, too.
    fn of_part(headers: &HeaderMap) -> Option<(u64, Edition)> {
        let range = text(headers, CONTENT_RANGE)?;
        let (part, bytes) = range.strip_prefix("bytes ")?.split_once('/')?;
        let (start, _) = part.split_once('-')?;
        Some((start.parse().ok()?, Edition::with_size(bytes.parse().ok()?, headers)))
    }

    fn with_size(bytes: u64, headers: &HeaderMap) -> Edition {
        Edition { bytes, tag: text(headers, ETAG), modified: text(headers, LAST_MODIFIED) }
    }
}

fn text(headers: &HeaderMap, name: reqwest::header::HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// See the module.
pub(super) struct Download<'a> {
    http: &'a Client,
    url: &'a str,
    edition: Edition,
    /// The running answer, when there is one.
    answer: Option<Response>,
    done: u64,
    /// Connections in a row that brought nothing.
    fruitless: u32,
    first_pause: Duration,
    until: Instant,
    told: Option<Instant>,
    tell: &'a mut dyn FnMut(Happening),
}

impl<'a> Download<'a> {
    /// Nothing is asked for before the first read. `edition` is what an earlier answer said.
    pub(super) fn new(
        http: &'a Client,
        url: &'a str,
        edition: Edition,
        first_pause: Duration,
        deadline: Duration,
        tell: &'a mut dyn FnMut(Happening),
    ) -> Download<'a> {
        Download {
            http,
            url,
            edition,
            answer: None,
            done: 0,
            fruitless: 0,
            first_pause,
            until: Instant::now() + deadline,
            told: None,
            tell,
        }
    }

    /// Asks for what is left.
    fn connect(&self) -> Result<Response, Try> {
        let mut request = self.http.get(self.url);
        if self.done > 0 {
            request = request.header(RANGE, format!("bytes={}-", self.done));
        }
        let mut answer = request.send().map_err(|error| Try::Again(brief(error)))?;
        let (start, edition) = match answer.status() {
            StatusCode::OK => (0, Edition::of_whole(answer.headers())),
            StatusCode::PARTIAL_CONTENT => match Edition::of_part(answer.headers()) {
                Some((start, edition)) => (start, Some(edition)),
                None => return Err(Try::Never("the answer does not tell which part it is".into())),
            },
            status if is_passing(status) => return Err(Try::Again(status.to_string())),
            status => return Err(Try::Never(status.to_string())),
        };
        if edition.is_some_and(|edition| edition != self.edition) {
            return Err(Try::Never("the file has changed on the server meanwhile".to_owned()));
        }
        let Some(passed) = self.done.checked_sub(start) else {
            return Err(Try::Never(format!("asked from byte {}, got from {start}", self.done)));
        };
        let copied = io::copy(&mut answer.by_ref().take(passed), &mut io::sink());
        match copied {
            Ok(copied) if copied == passed => Ok(answer),
            Ok(_) => Err(Try::Again("it broke off".to_owned())),
            Err(error) => Err(Try::Again(error.to_string())),
        }
    }

    /// Waits before the next try, unless there is none.
    fn pause(&mut self, reason: &str) -> io::Result<()> {
        self.answer = None;
        self.fruitless += 1;
        let pause = self.first_pause * 2_u32.pow(self.fruitless.min(10) - 1);
        let pause = pause.min(LONGEST_PAUSE);
        let place = format!("at byte {} of {}", self.done, self.edition.bytes);
        if self.fruitless >= TRIES || Instant::now() + pause > self.until {
            return Err(io::Error::other(format!(
                "the connection broke {place} and {} tries to go on brought nothing: {reason}",
                self.fruitless
            )));
        }
        (self.tell)(Happening::Broken(format!(
            "{}: the connection broke {place} ({reason}); going on in {:.1} s",
            self.url,
            pause.as_secs_f64()
        )));
        thread::sleep(pause);
        Ok(())
    }

    fn tell_progress(&mut self) {
        let now = Instant::now();
        let is_due = self.told.is_none_or(|told| now.duration_since(told) >= TELLING);
        if is_due || self.done == self.edition.bytes {
            self.told = Some(now);
            (self.tell)(Happening::Progress(self.done));
        }
    }
}

/// How a try to connect failed.
enum Try {
    Again(String),
    Never(String),
}

impl Read for Download<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.done < self.edition.bytes && !buffer.is_empty() {
            if Instant::now() > self.until {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it takes too long"));
            }
            let answer = match &mut self.answer {
                Some(answer) => answer,
                None => match self.connect() {
                    Ok(answer) => self.answer.insert(answer),
                    Err(Try::Never(reason)) => return Err(io::Error::other(reason)),
                    Err(Try::Again(reason)) => {
                        self.pause(&reason)?;
                        continue;
                    }
                },
            };
            match answer.read(buffer) {
                Ok(0) => self.pause("it ended too early")?,
                Ok(length) => {
                    self.fruitless = 0;
                    self.done += length as u64;
                    self.tell_progress();
                    return Ok(length);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.pause(&error.to_string())?,
            }
        }
        Ok(0)
    }
}

/// Statuses that say "not now" rather than "no".
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
}

/// What is at the bottom of an error of the client.
fn brief(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut innermost: &dyn std::error::Error = &error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}
