//! One request on its way in: fed with bytes as they come, pure, so that every cut and every
//! limit is tested without a socket.
//!
//! Stricter than HTTP has to be, because nobody honest needs more: HTTP/1.x, a head of at most
//! 16 KiB, a body with exactly one of Content-Length and chunked, and never more of it than the
//! limit.

use std::net::IpAddr;

use crate::request::{Request, Response};

/// Bytes of a request's head.
const MAX_HEAD: usize = 16 << 10;
/// Header lines of a request's head.
const MAX_HEADERS: usize = 64;
/// Bytes of a chunk's size line or of a trailer line.
const MAX_CHUNK_LINE: usize = 256;

/// A request of which some bytes have come.
#[derive(Debug)]
pub struct Incoming {
    peer: Option<IpAddr>,
    max_body: usize,
    /// What has come and is not yet part of `head` or its body.
    raw: Vec<u8>,
    head: Option<Head>,
}

/// A parsed head, and what has come of the body.
#[derive(Debug)]
struct Head {
    request: Request,
    framing: Framing,
}

/// How the end of the body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked(Chunked),
}

/// Where in a chunked body the next byte belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunked {
    Size,
    Data(usize),
    DataEnd,
    Trailer,
}

/// What the bytes so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// More is to come.
    Incomplete,
    /// As [`Progress::Incomplete`], and the client waits for `100 Continue`.
    Continue,
    /// All of it.
    Complete(Request),
    /// It will not be read to its end, and why.
    Refused(Response),
}

type Refusal = Response;

impl Incoming {
    /// Nothing has come yet from `peer`; a body may have so many bytes.
    pub fn new(peer: Option<IpAddr>, max_body: usize) -> Incoming {
        Incoming { peer, max_body, raw: Vec::new(), head: None }
    }

    /// Bytes of memory it holds.
    pub fn held(&self) -> usize {
        self.raw.capacity() + self.head.as_ref().map_or(0, |head| head.request.body.capacity())
    }

    /// Whether the head is complete.
    pub fn has_head(&self) -> bool {
        self.head.is_some()
    }

    /// Whether nothing at all has come yet.
    pub fn is_untouched(&self) -> bool {
        self.head.is_none() && self.raw.is_empty()
    }

    /// The body length that was announced, zero when it is not known.
    pub fn announced(&self) -> usize {
        match self.head.as_ref().map(|head| head.framing) {
            Some(Framing::Length(length)) => length,
            _ => 0,
        }
    }

    /// Takes the bytes that came.
    pub fn feed(&mut self, bytes: &[u8]) -> Progress {
        match self.advance(bytes) {
            Ok(progress) => progress,
            Err(response) => Progress::Refused(response),
        }
    }

    fn advance(&mut self, bytes: &[u8]) -> Result<Progress, Refusal> {
        self.raw.extend_from_slice(bytes);
        let mut continues = false;
        if self.head.is_none() {
            let Some((head, length, wants_continue)) = self.parse_head()? else {
                return Ok(Progress::Incomplete);
            };
            self.raw.drain(..length);
            self.head = Some(head);
            continues = wants_continue;
        }
        let Some(head) = &mut self.head else { return Ok(Progress::Incomplete) };
        let complete = match head.framing {
            Framing::Length(length) => {
                let body = &mut head.request.body;
                let wanted = (length - body.len()).min(self.raw.len());
                body.extend(self.raw.drain(..wanted));
                body.len() == length
            }
            Framing::Chunked(mut state) => {
                let body = &mut head.request.body;
                let complete = decode_chunks(&mut self.raw, &mut state, body, self.max_body)?;
                head.framing = Framing::Chunked(state);
                complete
            }
        };
        if !complete {
            return Ok(if continues { Progress::Continue } else { Progress::Incomplete });
        }
        // What follows would be a second request; the connection is closed after the first.
        self.raw = Vec::new();
        Ok(self.head.take().map_or(Progress::Incomplete, |head| Progress::Complete(head.request)))
    }

    /// The head, its length and whether the client waits for `100 Continue`, once it is complete.
    fn parse_head(&self) -> Result<Option<(Head, usize, bool)>, Refusal> {
        let too_long =
            || Response::text(431, "the head of the request is longer than 16 KiB or 64 lines");
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let window = &self.raw[..self.raw.len().min(MAX_HEAD)];
        let length = match parsed.parse(window) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if window.len() == MAX_HEAD => return Err(too_long()),
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(too_long()),
            Err(error) => {
                return Err(Response::text(400, &format!("this is not an HTTP request: {error}")));
            }
        };
        let header = |name: &str| single(parsed.headers, name);
        let method = parsed.method.unwrap_or_default().to_owned();
        if !matches!(method.as_str(), "GET" | "POST") {
            return Err(Response::text(405, "only GET and POST are answered"));
        }
        let target = parsed.path.unwrap_or_default();
        if !target.is_ascii() || !target.starts_with('/') {
            return Err(Response::text(
                400,
                "the path of the request must be ASCII and begin with /",
            ));
        }
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let framing =
            self.framing(&method, header("Content-Length")?, header("Transfer-Encoding")?)?;
        let wants_continue =
            header("Expect")?.is_some_and(|expected| expected.eq_ignore_ascii_case("100-continue"));
        let request = Request {
            method,
            path,
            content_type: header("Content-Type")?,
            accept: header("Accept")?,
            peer: self.peer,
            body: Vec::new(),
        };
        Ok(Some((Head { request, framing }, length, wants_continue)))
    }

    fn framing(
        &self,
        method: &str,
        length: Option<String>,
        encoding: Option<String>,
    ) -> Result<Framing, Refusal> {
        match (length, encoding) {
            (None, None) if method == "GET" => Ok(Framing::Length(0)),
            (None, None) => Err(Response::text(
                411,
                "the request says neither Content-Length nor Transfer-Encoding: chunked",
            )),
            (None, Some(encoding)) if encoding.eq_ignore_ascii_case("chunked") => {
                Ok(Framing::Chunked(Chunked::Size))
            }
            (None, Some(_)) => Err(Response::text(400, "no Transfer-Encoding but chunked is read")),
            (Some(_), Some(_)) => Err(Response::text(
                400,
                "the request says both Content-Length and Transfer-Encoding",
            )),
            (Some(length), None) => {
                if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(Response::text(400, "Content-Length is not a number"));
                }
                match length.parse::<usize>() {
                    Ok(length) if length <= self.max_body => Ok(Framing::Length(length)),
                    _ => Err(too_large(self.max_body)),
                }
            }
        }
    }
}

fn too_large(max_body: usize) -> Response {
    Response::text(
        413,
        &format!("the body is larger than {max_body} bytes, the limit MAXBODY of edeploy.conf"),
    )
}

/// The value of a header that may be there once.
fn single(headers: &[httparse::Header<'_>], name: &str) -> Result<Option<String>, Refusal> {
    let mut values = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    let Some(first) = values.next() else { return Ok(None) };
    let value = str::from_utf8(first.value).ok().filter(|value| value.is_ascii());
    match (value, values.next()) {
        (Some(value), None) => Ok(Some(value.trim().to_owned())),
        (None, _) => Err(Response::text(400, &format!("the header {name} is not ASCII"))),
        (_, Some(_)) => Err(Response::text(400, &format!("the header {name} is there twice"))),
    }
}

/// Moves decoded bytes from `raw` to `body`; whether the last chunk and its trailer were read.
fn decode_chunks(
    raw: &mut Vec<u8>,
    state: &mut Chunked,
    body: &mut Vec<u8>,
    max_body: usize,
) -> Result<bool, Refusal> {
    let malformed = || Response::text(400, "the chunks of the body are malformed");
    let mut position = 0;
    let complete = loop {
        let rest = &raw[position..];
        match *state {
            Chunked::Data(0) => *state = Chunked::DataEnd,
            Chunked::Data(left) => {
                if rest.is_empty() {
                    break false;
                }
                let taken = left.min(rest.len());
                body.extend_from_slice(&rest[..taken]);
                position += taken;
                *state = Chunked::Data(left - taken);
            }
            Chunked::DataEnd => match rest {
                [b'\r', b'\n', ..] => {
                    position += 2;
                    *state = Chunked::Size;
                }
                [] | [b'\r'] => break false,
                _ => return Err(malformed()),
            },
            Chunked::Size => {
                let Some(line) = line(rest).map_err(|()| malformed())? else { break false };
                position += line.len() + 2;
                let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
                let digits = str::from_utf8(digits).unwrap_or_default().trim();
                // `from_str_radix` would take a sign.
                if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(malformed());
                }
                let size = usize::from_str_radix(digits, 16).map_err(|_| too_large(max_body))?;
                if size > max_body - body.len() {
                    return Err(too_large(max_body));
                }
                *state = if size == 0 { Chunked::Trailer } else { Chunked::Data(size) };
            }
            Chunked::Trailer => {
                let Some(line) = line(rest).map_err(|()| malformed())? else { break false };
                position += line.len() + 2;
                if line.is_empty() {
                    break true;
                }
            }
        }
    };
    raw.drain(..position);
    Ok(complete)
}

/// The next line without its end, when all of it is there.
fn line(bytes: &[u8]) -> Result<Option<&[u8]>, ()> {
    let window = &bytes[..bytes.len().min(MAX_CHUNK_LINE)];
    match memchr::memmem::find(window, b"\r\n") {
        Some(end) => Ok(Some(&window[..end])),
        None if window.len() == MAX_CHUNK_LINE => Err(()),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1000;

    fn feed(text: &str) -> Progress {
        Incoming::new(None, LIMIT).feed(text.as_bytes())
    }

    #[track_caller]
    fn check_complete(text: &str, expected_body: &str) {
        // At once, and byte by byte.
        let Progress::Complete(at_once) = feed(text) else { panic!("{:?}", feed(text)) };
        assert_eq!(str::from_utf8(&at_once.body).unwrap(), expected_body);
        let mut incoming = Incoming::new(None, LIMIT);
        for (position, byte) in text.bytes().enumerate() {
            match incoming.feed(&[byte]) {
                Progress::Complete(request) => {
                    assert_eq!(position, text.len() - 1);
                    assert_eq!(request, at_once);
                }
                Progress::Refused(response) => panic!("{response:?}"),
                _ => assert!(position < text.len() - 1),
            }
        }
    }

    #[track_caller]
    fn check_refused(text: &str, status: u16) {
        match feed(text) {
            Progress::Refused(response) => assert_eq!(response.status, status, "{text:.80}"),
            other => panic!("{text:.80}: {other:?}"),
        }
    }

    #[test]
    fn bodies_of_both_framings() {
        check_complete("GET /healthz?x=1 HTTP/1.1\r\nHost: a\r\n\r\n", "");
        check_complete("POST /upload HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "hello");
        check_complete(
            "POST /u HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n\
             3\r\nhel\r\n2;ext=1\r\nlo\r\n0\r\nTrailer: x\r\n\r\n",
            "hello",
        );
    }

    #[test]
    fn a_client_that_expects_100_is_told_to_go_on() {
        let head = "POST /u HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
        assert_eq!(feed(head), Progress::Continue);
        assert!(matches!(feed(&format!("{head}hello")), Progress::Complete(_)));
    }

    #[test]
    fn what_is_refused_and_how() {
        let post = |headers: &str| format!("POST /u HTTP/1.1\r\n{headers}\r\n\r\n");
        check_refused("HEAD / HTTP/1.1\r\n\r\n", 405);
        check_refused(&post("Host: a"), 411);
        check_refused(&post("Content-Length: 1001"), 413);
        check_refused(&post("Content-Length: 99999999999999999999999"), 413);
        check_refused(&post("Content-Length: +5"), 400);
        check_refused(&post("Content-Length: 5\r\nContent-Length: 6"), 400);
        check_refused(&post("Content-Length: 5\r\nTransfer-Encoding: chunked"), 400);
        check_refused(&post("Transfer-Encoding: gzip"), 400);
        check_refused("\u{16}\u{3}\u{1}\u{2}TLS hello\r\n\r\n", 400);
        check_refused("POST http://a/ HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 400);
        check_refused(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(17_000)), 431);
        check_refused(&format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(65)), 431);
        let chunked = |body: &str| post("Transfer-Encoding: chunked") + body;
        check_refused(&chunked("3e9\r\n"), 413);
        check_refused(&chunked("ffffffffffffffffffff\r\n"), 413);
        check_refused(&chunked("-1\r\n"), 400);
        check_refused(&chunked("2\r\nabc\r\n"), 400);
        check_refused(&chunked(&"1".repeat(300)), 400);
    }
}
