//! What strangers send to the server: forms, requests, CGI variables; and what its owner writes
//! into edeploy.conf.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use server::cgi;
use server::form::{Field, Form, FormError, safe_file_name};
use server::handle::Application;
use server::http::incoming::{Incoming, Progress};
use server::request::{CONTENT_TYPES, Request, Response, reason_phrase, shown};
use server::settings::Settings;
use specs::cmdb::Cmdb;
use specs::plan::lint::{errors, lint};
use specs::state::{Count, State};
use specs::wire::{Reply, ron_options};

/// A content type, a line end and a body: names of files are safe, and a form that is written
/// again is read again.
pub fn form(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (content_type, body) = (&bytes[..end], bytes.get(end + 1..).unwrap_or_default());
    let content_type = std::str::from_utf8(content_type).ok();
    let form = match Form::parse(content_type, body) {
        Ok(form) => form,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let mut written = Vec::new();
    for field in form.fields() {
        if let Some(name) = &field.file_name {
            assert_eq!(safe_file_name(name).as_ref(), Some(name));
            assert!(!name.contains(['/', '\\', '\0']) && !name.starts_with('.'), "{name}");
        }
        let name = field.name.replace('\\', "\\\\").replace('"', "\\\"");
        let file = field.file_name.iter().map(|name| format!("; filename=\"{name}\""));
        let file: String = file.collect();
        let disposition = format!("Content-Disposition: form-data; name=\"{name}\"{file}");
        written.extend_from_slice(format!("--=X\r\n{disposition}\r\n\r\n").as_bytes());
        written.extend_from_slice(&field.content);
        written.extend_from_slice(b"\r\n");
        let text = form.text(&field.name);
        assert!(text.is_err() || text == Ok(str::from_utf8(&field.content).ok().map(str::trim)));
    }
    written.extend_from_slice(b"--=X--\r\n");
    let is_long = |field: &Field| field.name.len() > 1000;
    let holds = |field: &Field| field.content.windows(4).any(|bytes| bytes == b"--=X");
    if !form.fields().iter().any(holds) {
        match Form::parse(Some("multipart/form-data; boundary==X"), &written) {
            // A name is longer with each backslash written twice.
            Err(FormError::LongHeader(_)) => assert!(form.fields().iter().any(is_long)),
            again => assert_eq!(again, Ok(form)),
        }
    }
}

/// Bytes of a connection, the first saying where they are cut: what comes in pieces is the same
/// request, or the same refusal, as what comes at once.
pub fn http(bytes: &[u8]) {
    const LIMIT: usize = 2000;
    let Some((&cut, bytes)) = bytes.split_first() else { return };
    let at_once = Incoming::new(None, LIMIT).feed(bytes);
    let mut pieces = Incoming::new(None, LIMIT);
    let mut last = Progress::Incomplete;
    for piece in bytes.chunks(usize::from(cut) + 1) {
        last = pieces.feed(piece);
        assert!(pieces.held() <= (32 << 10) + 2 * LIMIT, "{} bytes", pieces.held());
        if matches!(last, Progress::Complete(_) | Progress::Refused(_)) {
            break;
        }
    }
    match (at_once, last) {
        (Progress::Complete(whole), Progress::Complete(pieced)) => {
            assert_eq!(whole, pieced);
            assert!(whole.body.len() <= LIMIT && whole.path.starts_with('/'), "{whole:?}");
        }
        (Progress::Refused(whole), Progress::Refused(pieced)) => {
            assert!((400..500).contains(&whole.status) && (400..500).contains(&pieced.status));
        }
        (Progress::Incomplete | Progress::Continue, Progress::Incomplete | Progress::Continue) => {}
        (whole, pieced) => panic!("{whole:?}, but in pieces {pieced:?}"),
    }
}

/// Variables of a web server, `NAME=value` a line, an empty line and the body: a request has
/// the body that was announced, and a response is one to whatever reads it.
pub fn cgi(bytes: &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..end]);
    let variables: BTreeMap<&str, &str> =
        head.lines().filter_map(|line| line.split_once('=')).collect();
    let find = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    let body = bytes.get(end + 2..).unwrap_or_default();
    let response = match cgi::read_request(find, body, 1000) {
        Ok(request) => {
            let announced = find("CONTENT_LENGTH").filter(|length| !length.is_empty());
            assert_eq!(announced.map_or(Ok(0), |it| it.parse()), Ok(request.body.len()));
            assert!(body.starts_with(&request.body));
            assert!(!request.wants_json() || find("HTTP_ACCEPT").is_some());
            let sentence = shown(&String::from_utf8_lossy(&request.body), 60);
            assert!(!sentence.contains(char::is_control), "{sentence:?}");
            // The last part of the path chooses what is answered here.
            Response::text(request.target().parse().unwrap_or(404), &sentence)
        }
        Err(response) => response,
    };
    let mut output = Vec::new();
    let written = cgi::write_response(&response, &mut output);
    assert!(written.is_ok());
    let Some(head) = output.windows(4).position(|it| it == b"\r\n\r\n") else { panic!("no end") };
    assert_eq!(output[head + 4..], response.body);
    let head = String::from_utf8_lossy(&output[..head]).into_owned();
    assert!(head.starts_with(&format!("Status: {} ", response.status)), "{head}");
    assert!(head.contains(&format!("Content-Length: {}", response.body.len())), "{head}");
}

/// edeploy.conf: what is understood is the same when read again, and every mistake has a line.
pub fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let path = Path::new("/etc/edeploy.conf");
    match Settings::parse(text, path) {
        Ok(settings) => {
            assert!(settings.sections().count() > 0);
            for section in settings.sections() {
                assert!(section.config_dir.is_absolute() && section.lock_file.is_absolute());
                assert_eq!(settings.section(&section.name), Some(section));
            }
            let again = Settings::parse(text, path).ok();
            assert_eq!(again.as_ref().map(Settings::digest), Some(settings.digest()));
            assert!(settings.needs_restart(&settings).is_empty());
        }
        Err(error) => assert!(error.to_string().starts_with("/etc/edeploy.conf:"), "{error}"),
    }
}

const CONFIGURATION: [(&str, &str); 4] = [
    ("state", "[('vm', 3)]\n"),
    ("vm.specs", "[('disk', '$disk', 'size', 'gt(4)'), ('network', '$eth', 'serial', '$mac')]\n"),
    ("vm.cmdb", "generate({'ip': '10.0.2.3-5', 'hostname': 'host03-05'})\n"),
    (
        "vm.configure",
        "(role: (name: \"mysql\", version: \"D12-F.1.0.0\"), hostname: \"{{ hostname }}\", \
          disks: [(device: \"/dev/{{ disk }}\", table: gpt, boot: auto, partitions: \
          [(label: \"root\", size: \"rest\", use: filesystem(type: ext4, mount: \"/\"))])])\n",
    ),
];

/// Requests to one server, with a zero between, the first byte of each saying what it is. Each is
/// answered with a status of the table, a plan has no error, and the books agree at the end.
/// This one works in a folder of its own.
pub fn handle(bytes: &[u8]) {
    let Ok(folder) = tempfile::tempdir() else { panic!("no folder for temporary files") };
    let site = folder.path();
    // A section that nobody asks for, and a limit that the last request of six exceeds.
    let conf = "[SERVER]\nCONFIGDIR = config\nMACHINERATE = 0\nMAXFACTS = 50\nRATELIMIT = 5\n\
                [LAB]\nCONFIGDIR = lab\nMACHINERATE = 0\nRATELIMIT = 5\n";
    let written = fs::create_dir(site.join("config"))
        .and_then(|()| fs::create_dir(site.join("lab")))
        .and_then(|()| fs::write(site.join("lab/state"), "[]\n"))
        .and_then(|()| fs::write(site.join("edeploy.conf"), conf))
        .and_then(|()| {
            CONFIGURATION
                .iter()
                .try_for_each(|(name, text)| fs::write(site.join("config").join(name), text))
        });
    assert!(written.is_ok(), "{written:?}");
    let application = match Application::open(&site.join("edeploy.conf")) {
        Ok(application) => application,
        Err(error) => panic!("{error}"),
    };
    let mut ticket = "0".repeat(32);
    for request in bytes.split(|byte| *byte == 0).take(6) {
        let Some(request) = request_of(request, &ticket) else { continue };
        let response = application.handle(&request);
        assert_ne!(reason_phrase(response.status), "Internal Server Error", "{}", response.status);
        assert_ne!(response.status, 503, "{}", String::from_utf8_lossy(&response.body));
        assert!(CONTENT_TYPES.contains(&response.content_type));
        let body = String::from_utf8_lossy(&response.body);
        if let Ok(Reply::Plan { ticket: given, plan, .. }) = ron_options().from_str(&body) {
            assert_eq!(response.status, 200);
            assert_eq!(errors(&lint(&plan)).next(), None, "{plan}");
            ticket = given.to_string();
        }
    }
    check_books(&application, &site.join("config"));
    // Read again, its own settings change nothing.
    let before = application.settings();
    assert_eq!(application.reload().ok(), Some(Vec::new()));
    assert_eq!(application.settings(), before);
    check_books(&application, &site.join("config"));
}

/// The request that these bytes describe.
fn request_of(bytes: &[u8], ticket: &str) -> Option<Request> {
    let (kind, rest) = bytes.split_first()?;
    let mut request = Request {
        method: "POST".to_owned(),
        path: "/cgi-bin/upload".to_owned(),
        content_type: Some("multipart/form-data; boundary=XX".to_owned()),
        accept: None,
        peer: Some(Ipv4Addr::LOCALHOST.into()),
        body: rest.to_vec(),
    };
    let part = |name: &str, content: &[u8]| {
        let head = format!("--XX\r\nContent-Disposition: form-data; name={name}\r\n\r\n");
        [head.as_bytes(), content, b"\r\n"].concat()
    };
    match kind {
        // A form as it comes.
        b'r' => {}
        // Facts.
        b'f' => request.body = [part("file; filename=a.hw", rest), b"--XX--".to_vec()].concat(),
        // A log, its name on the first line.
        b'l' => {
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            let name = String::from_utf8_lossy(&rest[..end]).replace('"', "");
            let file = part(&format!("file; filename=\"{name}\""), &rest[end + 1..]);
            request.body = [file, b"--XX--".to_vec()].concat();
        }
        // The report that this profile failed.
        b'F' => {
            let fields = [
                part("failure", rest),
                part("ticket", ticket.as_bytes()),
                part("nonce", "0".repeat(32).as_bytes()),
            ];
            let facts = part("file; filename=a.hw", b"[['disk', 'vda', 'size', '10']]");
            request.body = [&facts[..], &fields.concat(), b"--XX--"].concat();
        }
        // Events of whoever has the ticket: the number of the first, and the rest of the list.
        b'e' => {
            let (number, events) = rest.split_first()?;
            let sequence = number.wrapping_sub(b'0');
            let nonce = "0".repeat(32);
            let head = format!(
                "{{\"protocol\":1,\"agent\":\"a\",\"nonce\":\"{nonce}\",\"ticket\":\"{ticket}\",\
                 \"sequence\":{sequence},\"events\":["
            );
            request.path = "/events".to_owned();
            request.body = [head.as_bytes(), events, b"]}"].concat();
        }
        // Events as they come.
        b'E' => request.path = "/events".to_owned(),
        // Something else: method and path.
        b'p' => {
            let line = String::from_utf8_lossy(rest);
            let (method, path) = line.split_once(' ')?;
            request = Request { method: method.to_owned(), path: path.to_owned(), ..request };
        }
        _ => return None,
    }
    Some(request)
}

/// Brought up to date, the files can be read, and nothing was given twice or lost.
fn check_books(application: &Application, config: &Path) {
    for store in application.stores_to_sync() {
        if let Err(error) = store.sync() {
            panic!("{error}");
        }
    }
    let read = |name: &str| fs::read_to_string(config.join(name)).unwrap_or_default();
    let (state, cmdb) = (read("state"), read("vm.cmdb"));
    let entries = Cmdb::parse("vm.cmdb", &cmdb, &Default::default()).map(|cmdb| {
        let used = cmdb.entries().filter(|entry| entry.is_used()).count();
        (cmdb.len(), i64::try_from(used).unwrap_or(i64::MAX))
    });
    let Ok((3, used)) = entries else { panic!("{cmdb}") };
    let counts = State::parse("state", &state).map(|it| it.profiles().map(|(_, c)| c).collect());
    let counts: Vec<Count> = counts.unwrap_or_default();
    let [Count::Left(left)] = counts[..] else { panic!("{state}") };
    // A machine that failed keeps its entry and gives back its count.
    assert!((3 - used..=3).contains(&left), "{left} left, {used} used");
}
