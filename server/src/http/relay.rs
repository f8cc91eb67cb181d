//! Carries complete requests from the guard to `tiny_http` and its responses back, over one
//! private Unix connection per worker that is opened once and kept.
//!
//! Kept, because `tiny_http` gives up accepting for good at its first error (EMFILE is enough):
//! it accepts only while the server starts. What travels here was checked by the guard, so
//! `tiny_http` never sees an unbounded head, a missing length or a second request.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::SystemTime;

use crate::request::{Request, Response, reason_phrase};

/// Name of the header that carries the client's address to the handler.
pub(super) const PEER_HEADER: &str = "X-Edeploy-Peer";

/// Sends a request and reads the response, ready to be sent to the client.
pub(super) fn exchange(stream: &mut UnixStream, request: &Request) -> io::Result<Vec<u8>> {
    send(stream, request)?;
    receive(stream)
}

pub(super) fn send(stream: &mut UnixStream, request: &Request) -> io::Result<()> {
    let mut message = format!(
        "{} {} HTTP/1.1\r\nHost: edeploy\r\nContent-Length: {}\r\n",
        request.method,
        request.path,
        request.body.len()
    );
    let peer = request.peer.map(|peer| peer.to_string());
    for (name, value) in
        [("Content-Type", &request.content_type), ("Accept", &request.accept), (PEER_HEADER, &peer)]
    {
        if let Some(value) = value {
            message.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    message.push_str("\r\n");
    let mut bytes = message.into_bytes();
    bytes.extend_from_slice(&request.body);
    stream.write_all(&bytes)
}

/// Reads one response and marks it as the last one of the client's connection.
pub(super) fn receive(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut received = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        if let Some((head, length)) = complete_head(&received)? {
            while received.len() < head + length {
                read_more(stream, &mut buffer, &mut received)?;
            }
            // The blank line ends the head: our line goes before it.
            let mut reply = received[..head - 2].to_vec();
            reply.extend_from_slice(b"Connection: close\r\n\r\n");
            reply.extend_from_slice(&received[head..]);
            return Ok(reply);
        }
        read_more(stream, &mut buffer, &mut received)?;
    }
}

fn read_more(stream: &mut UnixStream, buffer: &mut [u8], received: &mut Vec<u8>) -> io::Result<()> {
    match stream.read(buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count => {
            received.extend_from_slice(&buffer[..count]);
            Ok(())
        }
    }
}

/// Length of head and body, once the head is complete.
fn complete_head(received: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut parsed = httparse::Response::new(&mut headers);
    match parsed.parse(received).map_err(io::Error::other)? {
        httparse::Status::Partial => Ok(None),
        httparse::Status::Complete(head) => {
            let length = parsed
                .headers
                .iter()
                .find(|header| header.name.eq_ignore_ascii_case("content-length"))
                .and_then(|header| str::from_utf8(header.value).ok())
                .and_then(|value| value.parse().ok())
                .ok_or_else(|| io::Error::other("a response without Content-Length"))?;
            Ok(Some((head, length)))
        }
    }
}

/// A reply that the guard gives by itself, as bytes.
pub(super) fn reply_bytes(response: &Response) -> Vec<u8> {
    let mut head = format!(
        "HTTP/1.1 {} {}\r\nDate: {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n",
        response.status,
        reason_phrase(response.status),
        httpdate::fmt_http_date(SystemTime::now()),
        response.content_type,
        response.body.len()
    );
    if let Some(seconds) = response.retry_after {
        head.push_str(&format!("Retry-After: {seconds}\r\n"));
    }
    head.push_str("Connection: close\r\n\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&response.body);
    bytes
}
