//! An upload as a machine makes it, written by hand: an independent client, so that a mistake of
//! the agent's client cannot hide one of the server's. Also the facts of machines that never were.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;
use specs::wire::{Reply, ron_options};

use crate::services::local;

/// A server that has not answered by then will not.
const DEADLINE: Duration = Duration::from_secs(60);
const BOUNDARY: &str = "----lab-6fd1b2c7";

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The reply it holds.
    pub fn reply(&self) -> Result<Reply> {
        ron_options()
            .from_str(&self.body)
            .with_context(|| format!("reading the answer {}: {}", self.status, self.body))
    }
}

/// The facts of a machine of the samples with this number: a disk, a card in QEMU's network.
pub fn facts_of(number: u32) -> String {
    let [_, a, b, c] = number.to_be_bytes();
    let mac = format!("52:54:00:{a:02x}:{b:02x}:{c:02x}");
    let serial = format!("LAB-{number}");
    json!([
        ["disk", "vda", "size", 10],
        ["disk", "vda", "bytes", 10_737_418_240_u64],
        ["disk", "vda", "serial", format!("DISK-{number}")],
        ["network", "eth0", "ipv4", "10.0.2.15"],
        ["network", "eth0", "serial", mac],
        ["network", "eth0", "permanent", "yes"],
        ["system", "product", "serial", serial],
        ["system", "firmware", "type", "bios"],
        ["memory", "total", "size", 536_870_912],
    ])
    .to_string()
}

/// Uploads facts to the front on `port` and returns its answer.
pub fn upload(port: u16, facts: &str) -> Result<Answer> {
    let body = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"hw.json\"\r\n\
         Content-Type: application/json\r\n\r\n{facts}\r\n--{BOUNDARY}--\r\n"
    );
    let head = format!(
        "POST /cgi-bin/edeploy/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
         Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    post(port, &head, body.as_bytes())
}

/// Sends a request as it is and reads the answer until the server closes.
pub fn post(port: u16, head: &str, body: &[u8]) -> Result<Answer> {
    let mut stream = TcpStream::connect(local(port)).context("connecting to the server")?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(head.as_bytes())?;
    // A server may refuse by the head alone, and close: its answer is still there to be read.
    let _ = stream.write_all(body);
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).context("reading the answer")?;
    let text = String::from_utf8_lossy(&bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        bail!("no answer but `{text}`");
    };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunked(body)? } else { body.to_owned() };
    Ok(Answer { status: status.with_context(|| format!("no status in `{head}`"))?, body })
}

/// Joins the chunks of a body: lighttpd sends what a CGI program prints in such.
fn unchunked(mut text: &str) -> Result<String> {
    let mut body = String::new();
    while let Some((length, rest)) = text.split_once("\r\n") {
        let length =
            usize::from_str_radix(length.trim(), 16).context("reading a chunk's length")?;
        if length == 0 {
            return Ok(body);
        }
        body.push_str(rest.get(..length).context("a chunk is cut off")?);
        text = rest.get(length + 2..).context("a chunk is cut off")?;
    }
    bail!("the last chunk is missing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_a_cut_is_seen() {
        assert_eq!(unchunked("3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n").unwrap(), "abcd");
        for cut in ["3\r\nab", "3\r\nabc\r\n", ""] {
            assert!(unchunked(cut).is_err(), "{cut:?}");
        }
    }
}
