//! A web server of a few lines on loopback that hands out files from memory, breaks connections
//! where it is told to, and remembers what it was asked.

#![expect(clippy::unwrap_used, reason = "a part of tests, not of the program")]
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

/// What the server does wrong.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Answers with an archive's content, in this order, end after so many bytes.
    pub cut_after: Vec<usize>,
    /// Such answers end at once when the list is over.
    pub cut_ever_after: bool,
    /// It knows no ranges.
    pub whole_only: bool,
}

#[derive(Default)]
struct Shared {
    files: BTreeMap<String, Vec<u8>>,
    faults: Faults,
    /// `GET /path 5-` for each request.
    requests: Vec<String>,
}

/// See the module. It ends with the test program.
pub struct WebServer {
    pub port: u16,
    shared: Arc<Mutex<Shared>>,
}

impl WebServer {
    pub fn start() -> WebServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared: Arc<Mutex<Shared>> = Arc::default();
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever hangs up in the middle is a part of the tests.
                let _ = answer(&stream, &serving);
            }
        });
        WebServer { port, shared }
    }

    pub fn faults(&self, faults: Faults) {
        self.shared.lock().unwrap().faults = faults;
    }

    /// Puts a file in place.
    pub fn put(&self, path: &str, content: impl Into<Vec<u8>>) {
        self.shared.lock().unwrap().files.insert(path.to_owned(), content.into());
    }

    /// Puts an archive in place, with its line in `SHA256SUMS` beside it.
    pub fn put_archive(&self, path: &str, content: &[u8]) {
        let (folder, name) = path.rsplit_once('/').unwrap();
        let sum: String =
            Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        self.put(&format!("{folder}/SHA256SUMS"), format!("{sum}  {name}\n"));
        self.put(path, content);
    }

    pub fn remove(&self, path: &str) {
        self.shared.lock().unwrap().files.remove(path);
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn requests(&self) -> Vec<String> {
        self.shared.lock().unwrap().requests.clone()
    }
}

fn answer(stream: &TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut words = request.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut range = None;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        range = range.or_else(|| line.strip_prefix("range: bytes=").map(str::to_owned));
    }
    let mut state = shared.lock().unwrap();
    let shown = range.clone().unwrap_or_default();
    state.requests.push(format!("{method} {path} {shown}").trim_end().to_owned());
    let Some(content) = state.files.get(&path).cloned() else {
        drop(state);
        return (&*stream).write_all(b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n");
    };
    let range = range.filter(|_| !state.faults.whole_only);
    let is_start = shown.starts_with("0-");
    let cut = (method == "GET" && path.ends_with(".edeploy") && !is_start)
        .then(|| {
            let faults = &mut state.faults;
            match faults.cut_after.is_empty() {
                true => faults.cut_ever_after.then_some(0),
                false => Some(faults.cut_after.remove(0)),
            }
        })
        .flatten();
    drop(state);
    let size = content.len();
    let (status, part, more) = match range.as_deref().and_then(|range| range.split_once('-')) {
        Some((start, end)) => {
            let start: usize = start.parse().unwrap();
            let end = end.parse().map_or(size, |end: usize| (end + 1).min(size));
            let more = format!("Content-Range: bytes {start}-{}/{size}\r\n", end - 1);
            (206, &content[start..end], more)
        }
        None => (200, &content[..], String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nETag: \"{size}\"\r\n{more}\
         Connection: close\r\n\r\n",
        part.len()
    );
    let mut stream = stream;
    stream.write_all(head.as_bytes())?;
    if method == "GET" {
        stream.write_all(&part[..cut.unwrap_or(part.len()).min(part.len())])?;
    }
    Ok(())
}
