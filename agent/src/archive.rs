//! Role trees over HTTP (`HSERV`): an archive is fetched, verified, decompressed and unpacked in
//! one pass, in bounded memory and with nothing but the tree on the disk.
//!
//! `<role>-<version>.edeploy` is a tar archive, compressed with zstd (`scripts/build-role`) or
//! gzip (the original). Its SHA-256 is in `SHA256SUMS` beside it; an archive without one is not
//! fetched, since a line that breaks and goes on is only as good as the sum in the end. The sum is
//! known when the last byte is unpacked: an archive that does not agree fails the installation,
//! which then clears the disks. Until then nothing in it is trusted ([`unpack`]).
//!
//! Why not `tar` and `zstd` as programs: the initrd has neither, busybox's `tar` knows no
//! attributes, and a broken connection could not be taken up in the middle of a pipe.

mod download;
mod members;
mod unpack;

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use reqwest::header::RANGE;
use sha2::{Digest, Sha256};

use download::{Download, Edition};
pub use unpack::UnpackError;

/// The list of checksums beside an archive.
const SUMS: &str = "SHA256SUMS";

/// No list of checksums is longer.
const LONGEST_LIST: u64 = 1 << 20;

/// As many bytes as a zstd frame may need to tell how large its content is.
const HEAD: u64 = 18;

const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What is fetched to where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// Where the archive may be; the first that is there counts.
    pub urls: Vec<String>,
    /// Where the tree goes.
    pub folder: PathBuf,
    /// It fails when it takes longer.
    pub deadline: Duration,
    /// The pause after a connection has broken; each further one in a row is twice as long.
    pub first_pause: Duration,
}

/// What is known of an archive before it is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub url: String,
    /// Its size.
    pub bytes: u64,
    /// The size of what is in it, where it says so: zstd does, gzip does not.
    pub unpacked: Option<u64>,
}

/// What there is to tell while an archive is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// So many bytes of the archive have come.
    Progress(u64),
    /// The connection broke and is taken up again.
    Broken(String),
}

/// Why an archive cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The HTTP client could not be set up.
    #[error("cannot set up the HTTP client")]
    Setup(#[source] reqwest::Error),
    /// No answer: name, route, connection or time.
    #[error("no answer from {url}")]
    Absent {
        /// The address.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The server has no such archive.
    #[error("there is no archive of the role at {}", .0.join(" nor at "))]
    NotThere(Vec<String>),
    /// The server does not give it.
    #[error("{url} was answered with {status}")]
    Refused {
        /// The address.
        url: String,
        /// What it said.
        status: StatusCode,
    },
    /// It does not say how long the archive is, so that its end could not be told from a break.
    #[error("the server does not say how large {url} is")]
    NoSize {
        /// The address.
        url: String,
    },
    /// Nothing to verify the archive with.
    #[error("{list} has no line for {name}: make one there with `sha256sum {name} >> {SUMS}`")]
    NoSum {
        /// The address of the list.
        list: String,
        /// The archive.
        name: String,
    },
    /// Something else lies under its name.
    #[error("{url} is no archive (neither zstd nor gzip): it begins with {start:02x?}")]
    Foreign {
        /// The address.
        url: String,
        /// Its first bytes.
        start: Vec<u8>,
    },
    /// An answer could not be read to its end.
    #[error("{url} cannot be read")]
    Read {
        /// The address.
        url: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It could not be unpacked.
    #[error("{url} cannot be unpacked")]
    Unpack {
        /// The address.
        url: String,
        /// Why.
        #[source]
        source: UnpackError,
    },
    /// It is not what the list says.
    #[error(
        "{url} is not the archive that {SUMS} lists: its SHA-256 is {found}, listed is {listed}"
    )]
    Sum {
        /// The address.
        url: String,
        /// Of what came.
        found: String,
        /// Of what should have come.
        listed: String,
    },
}

impl Fetch {
    /// Looks whether the archive is there and can be verified; fetches a few bytes of it.
    pub fn look(&self) -> Result<Found, ArchiveError> {
        let http = download::client()?;
        let (url, edition) = self.locate(&http)?;
        listed_sum(&http, &url)?;
        let head = head(&http, &url)?;
        let unpacked = if head.starts_with(&ZSTD) {
            zstd::zstd_safe::get_frame_content_size(&head).ok().flatten()
        } else if head.starts_with(&GZIP) {
            None
        } else {
            return Err(ArchiveError::Foreign { url, start: head });
        };
        Ok(Found { url, bytes: edition.bytes, unpacked })
    }

    /// Fetches and unpacks the archive; returns how many members it had.
    pub fn run(&self, tell: &mut dyn FnMut(Happening)) -> Result<u64, ArchiveError> {
        let http = download::client()?;
        let (url, edition) = self.locate(&http)?;
        let listed = listed_sum(&http, &url)?;
        let download = Download::new(&http, &url, edition, self.first_pause, self.deadline, tell);
        let mut whole = Summing { source: download, sum: Sha256::new() };
        let unpacked = unpack_stream(&mut whole, &self.folder, &url)?;
        // What stands behind the archive's end belongs to its sum.
        io::copy(&mut whole, &mut io::sink())
            .map_err(|source| ArchiveError::Read { url: url.clone(), source })?;
        let found = hexadecimal(&whole.sum.finalize());
        if found == listed { Ok(unpacked) } else { Err(ArchiveError::Sum { url, found, listed }) }
    }

    /// The first of the addresses at which there is something.
    fn locate(&self, http: &Client) -> Result<(String, Edition), ArchiveError> {
        for url in &self.urls {
            let answer = http.head(url).send().map_err(|error| absent(url, error))?;
            match answer.status() {
                StatusCode::NOT_FOUND => {}
                status if status.is_success() => {
                    let edition = Edition::of_whole(answer.headers());
                    let url = url.clone();
                    return match edition {
                        Some(edition) => Ok((url, edition)),
                        None => Err(ArchiveError::NoSize { url }),
                    };
                }
                status => return Err(ArchiveError::Refused { url: url.clone(), status }),
            }
        }
        Err(ArchiveError::NotThere(self.urls.clone()))
    }
}

/// Decompresses and unpacks what comes.
fn unpack_stream(whole: &mut impl Read, folder: &Path, url: &str) -> Result<u64, ArchiveError> {
    let read = |source| ArchiveError::Read { url: url.to_owned(), source };
    let mut start = [0; 4];
    whole.read_exact(&mut start).map_err(read)?;
    let compressed = BufReader::new(Cursor::new(start).chain(whole));
    let archive: Box<dyn Read + '_> = if start == ZSTD {
        Box::new(zstd::Decoder::with_buffer(compressed).map_err(read)?)
    } else if start.starts_with(&GZIP) {
        Box::new(flate2::bufread::MultiGzDecoder::new(compressed))
    } else {
        return Err(ArchiveError::Foreign { url: url.to_owned(), start: start.to_vec() });
    };
    unpack::unpack(BufReader::with_capacity(128 * 1024, archive), folder)
        .map_err(|source| ArchiveError::Unpack { url: url.to_owned(), source })
}

/// Sums up what is read.
struct Summing<R> {
    source: R,
    sum: Sha256,
}

impl<R: Read> Read for Summing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.sum.update(&buffer[..length]);
        Ok(length)
    }
}

/// The checksum of an archive, from the list beside it.
fn listed_sum(http: &Client, url: &str) -> Result<String, ArchiveError> {
    let (folder, name) = url.rsplit_once('/').unwrap_or(("", url));
    let list = format!("{folder}/{SUMS}");
    let answer = http.get(&list).send().map_err(|error| absent(&list, error))?;
    let missing = || ArchiveError::NoSum { list: list.clone(), name: name.to_owned() };
    if answer.status() == StatusCode::NOT_FOUND {
        return Err(missing());
    }
    let answer = good(&list, answer)?;
    for line in BufReader::new(answer.take(LONGEST_LIST)).lines() {
        let line = line.map_err(|source| ArchiveError::Read { url: list.clone(), source })?;
        if let Some(sum) = sum_of(&line, name) {
            return Ok(sum);
        }
    }
    Err(missing())
}

/// The sum in a line of `sha256sum`, when it is of this file: `<sum>  <name>` or `<sum> *<name>`.
fn sum_of(line: &str, name: &str) -> Option<String> {
    let (sum, listed) = line.split_once(' ')?;
    let listed = listed.strip_prefix([' ', '*'])?.trim_end();
    let is_sum = sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_sum && listed.trim_start_matches("./") == name).then(|| sum.to_ascii_lowercase())
}

/// The first bytes of a file. A server that knows no ranges is hung up on.
fn head(http: &Client, url: &str) -> Result<Vec<u8>, ArchiveError> {
    let range = format!("bytes=0-{}", HEAD - 1);
    let answer = http.get(url).header(RANGE, range).send().map_err(|error| absent(url, error))?;
    let mut bytes = Vec::new();
    good(url, answer)?
        .take(HEAD)
        .read_to_end(&mut bytes)
        .map_err(|source| ArchiveError::Read { url: url.to_owned(), source })?;
    Ok(bytes)
}

fn good(url: &str, answer: Response) -> Result<Response, ArchiveError> {
    match answer.status() {
        status if status.is_success() => Ok(answer),
        status => Err(ArchiveError::Refused { url: url.to_owned(), status }),
    }
}

fn absent(url: &str, source: reqwest::Error) -> ArchiveError {
    ArchiveError::Absent { url: url.to_owned(), source: source.without_url() }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_found_in_every_form_of_the_list() {
        let sum = "ab".repeat(32);
        for (line, expected) in [
            (format!("{sum}  x.edeploy"), true),
            (format!("{} *x.edeploy", sum.to_uppercase()), true),
            (format!("{sum}  ./x.edeploy\r"), true),
            (format!("{sum}  other-x.edeploy"), false),
            (format!("{sum} x.edeploy"), false),
            (format!("{}  x.edeploy", &sum[2..]), false),
            (format!("{}  x.edeploy", "g".repeat(64)), false),
            (String::new(), false),
        ] {
            let found = sum_of(&line, "x.edeploy");
            assert_eq!(found, expected.then(|| sum.clone()), "{line}");
        }
    }
}
