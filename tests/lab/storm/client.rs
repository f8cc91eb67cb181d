//! How a machine of the storm talks: one connection a request, with a deadline, and a reply that
//! may be lost on purpose.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

/// A server that has not answered by then is taken for dead, and asked again.
const PATIENCE: Duration = Duration::from_secs(30);
const BOUNDARY: &str = "----storm-6fd1b2c7";

/// Where the machines send to.
#[derive(Debug, Clone)]
pub struct Door {
    /// The address.
    pub address: SocketAddr,
    /// What comes before `/upload`.
    pub path: String,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

impl Door {
    /// A complete upload of facts, ready to be sent.
    pub fn upload_request(&self, facts: &str) -> Vec<u8> {
        self.form_request(&[("file", Some("hw.json"), facts)])
    }

    /// A complete form with these fields (name, file name, content), ready to be sent.
    pub fn form_request(&self, fields: &[(&str, Option<&str>, &str)]) -> Vec<u8> {
        let mut body = String::new();
        for (name, file_name, content) in [("protocol", None, "1")].iter().chain(fields) {
            let file_name = file_name.map(|it| format!("; filename=\"{it}\"")).unwrap_or_default();
            body.push_str(&format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{file_name}\r\n\r\n\
                 {content}\r\n"
            ));
        }
        body.push_str(&format!("--{BOUNDARY}--\r\n"));
        let form = format!("multipart/form-data; boundary={BOUNDARY}");
        self.request("upload", &form, &body)
    }

    /// A report of events, ready to be sent.
    pub fn events_request(
        &self,
        nonce: &str,
        ticket: &str,
        sequence: u64,
        events: &Value,
    ) -> Vec<u8> {
        let batch = json!({
            "protocol": 1, "agent": "storm", "nonce": nonce, "ticket": ticket,
            "sequence": sequence, "events": events,
        });
        self.request("events", "application/json", &batch.to_string())
    }

    fn request(&self, target: &str, content_type: &str, body: &str) -> Vec<u8> {
        format!(
            "POST {}/{target} HTTP/1.1\r\nHost: storm\r\nConnection: close\r\n\
             Accept: application/json\r\nContent-Type: {content_type}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.path,
            body.len()
        )
        .into_bytes()
    }

    /// Sends a request and waits for the answer; `None` when the server is gone or goes.
    pub fn send(&self, request: &[u8]) -> Option<Answer> {
        let mut stream = self.begin(request)?;
        let mut reply = Vec::with_capacity(8 << 10);
        stream.read_to_end(&mut reply).ok()?;
        answer(&reply)
    }

    /// Sends a request and does not wait for the answer: what a machine does whose cable is
    /// pulled.
    pub fn send_and_leave(&self, request: &[u8]) {
        drop(self.begin(request));
    }

    fn begin(&self, request: &[u8]) -> Option<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&self.address, PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.write_all(request).ok()?;
        Some(stream)
    }
}

/// A complete answer; one that was cut off is none.
fn answer(reply: &[u8]) -> Option<Answer> {
    let end = reply.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&reply[..end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let body = reply[end + 4..].to_vec();
    length.is_none_or(|length| length == body.len()).then_some(Answer { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_cut_off_is_none() {
        let reply = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(answer(reply.as_bytes()).map(|it| it.status), Some(200));
        for length in 0..reply.len() {
            assert!(answer(&reply.as_bytes()[..length]).is_none(), "{length}");
        }
    }
}
