//! The client against a server of a few lines on a loopback socket: real HTTP, scripted answers.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use super::*;
use crate::report::testing::console;
use specs::event::Event;
use specs::wire::{EventBatch, EventReply};

/// One request as the server saw it.
struct Request {
    path: String,
    body: String,
}

impl Request {
    /// The value of a form field, or the nonce of a JSON body.
    fn field(&self, name: &str) -> String {
        let marker = format!("name=\"{name}\"");
        let (_, rest) = self.body.split_once(&marker).unwrap_or_else(|| panic!("no {name}"));
        let (_, value) = rest.split_once("\r\n\r\n").unwrap();
        value.split("\r\n").next().unwrap().to_owned()
    }
}

/// Answers each request with what `answer` makes of it; a `None` closes without an answer.
fn serve(
    answer: impl Fn(usize, &Request) -> Option<(u16, String)> + Send + 'static,
) -> (Server, mpsc::Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let request = read_request(&stream);
            if let Some((status, body)) = answer(number, &request) {
                let head = format!(
                    "HTTP/1.1 {status} x\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                     Content-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                stream.write_all((head + &body).as_bytes()).unwrap();
            }
            if sender.send(request).is_err() {
                return;
            }
        }
    });
    let server = Server {
        host: "127.0.0.1".to_owned(),
        port,
        path: "cgi-bin/edeploy".to_owned(),
        section: "LAB".to_owned(),
    };
    (server, requests)
}

fn read_request(stream: &TcpStream) -> Request {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let path = line.split(' ').nth(1).unwrap().to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        if header == "\r\n" {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Request { path, body: String::from_utf8_lossy(&body).into_owned() }
}

fn installed(nonce: &str) -> String {
    let nonce = nonce.parse().unwrap();
    wire::to_ron(&Reply::Installed {
        protocol: PROTOCOL,
        nonce: Some(nonce),
        hostname: "host03".to_owned(),
        profile: "vm".parse().unwrap(),
        disk: "/dev/vda".to_owned(),
        root: "0b1e2d3c-4f50-4a6b-8c7d-9e0f10213243".parse().unwrap(),
    })
    .unwrap()
}

fn facts() -> Facts {
    let mut facts = Facts::default();
    facts.push("disk", "vda", "size", 10);
    facts
}

const QUICK: Patience =
    Patience { total: Duration::from_secs(5), first_pause: Duration::from_millis(5) };

#[test]
fn an_absent_server_is_told_by_its_refusal() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let host = "127.0.0.1".to_owned();
    let server = Server { host, port, path: "x".to_owned(), section: "LAB".to_owned() };
    let (console, screen) = console();
    let client = Client::new(server, console).unwrap();
    let patience = Patience { total: Duration::from_millis(50), ..QUICK };
    client.upload(&facts(), patience).unwrap_err();
    for line in screen.text().lines() {
        assert!(line.contains("Connection refused"), "{line}");
    }
    assert!(screen.text().contains("attempt 1: no answer from http://127.0.0.1:"));
}

#[test]
fn a_server_that_stumbles_is_asked_again_and_its_time_is_taken() {
    let (server, requests) = serve(|number, request| match number {
        0 => None,
        1 => Some((503, "busy".to_owned())),
        _ => Some((200, installed(&request.field("nonce")))),
    });
    let (console, screen) = console();
    let answer = Client::new(server, console).unwrap().upload(&facts(), QUICK).unwrap();
    assert!(matches!(answer.reply, Reply::Installed { ref hostname, .. } if hostname == "host03"));
    let date = answer.date.unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(date.as_secs(), 784_111_777);
    let request = requests.iter().nth(2).unwrap();
    assert_eq!(request.path, "/cgi-bin/edeploy/upload");
    assert_eq!(request.field("protocol"), "1");
    assert_eq!(request.field("section"), "LAB");
    assert_eq!(request.field("file\"; filename=\"hw.json"), r#"[["disk","vda","size",10]]"#);
    let screen = screen.text();
    assert!(screen.contains("attempt 1: no answer from http://127.0.0.1:"), "{screen}");
    assert!(screen.contains("attempt 2: http://127.0.0.1:"), "{screen}");
    assert!(screen.contains("answered 503: busy; again in"), "{screen}");
}

#[test]
fn a_refusal_is_an_answer_and_is_not_asked_for_twice() {
    let refusal = Refusal {
        status: 422,
        nonce: None,
        reason: "no profile fits this machine".to_owned(),
        profiles: vec![],
    };
    let text = wire::to_ron(&Reply::Refused(refusal.clone())).unwrap();
    let (server, requests) = serve(move |_, _| Some((422, text.clone())));
    let (console, _) = console();
    let answer = Client::new(server, console).unwrap().upload(&facts(), QUICK).unwrap();
    assert_eq!(answer.reply, Reply::Refused(refusal));
    assert_eq!(requests.try_iter().count(), 1);
}

#[test]
fn an_answer_to_another_question_is_not_believed() {
    let (server, _requests) = serve(|_, _| Some((200, installed(&"0".repeat(32)))));
    let (console, _) = console();
    let error = Client::new(server, console).unwrap().upload(&facts(), QUICK).unwrap_err();
    assert!(matches!(error, ClientError::Nonce { .. }), "{error}");
}

#[test]
fn a_stranger_on_the_port_is_recognised() {
    let (server, _requests) = serve(|_, _| Some((200, "<html>It works!".to_owned())));
    let (console, _) = console();
    let error = Client::new(server, console).unwrap().upload(&facts(), QUICK).unwrap_err();
    assert!(matches!(error, ClientError::Foreign { .. }), "{error}");
    assert!(error.to_string().ends_with("<html>It works!"), "{error}");
}

fn event_answer(request: &Request) -> (u16, String) {
    let batch: EventBatch = serde_json::from_str(&request.body).unwrap();
    let next = batch.sequence + batch.events.len() as u64;
    (200, serde_json::to_string(&EventReply { nonce: batch.nonce, next }).unwrap())
}

#[test]
fn events_arrive_in_order_with_their_numbers() {
    let (server, requests) = serve(|_, request| Some(event_answer(request)));
    let (console, _) = console();
    let client = Client::new(server, console).unwrap();
    let events = EventSender::start(&client, Token::from_bytes([1; 16]));
    for number in 0..100 {
        events.send(Event::StepStarted { step: number.to_string(), destructive: false });
    }
    events.send(Event::Installed { seconds: 2.5 });
    events.deliver(Duration::from_secs(10)).unwrap();
    let mut all = Vec::new();
    for request in requests.try_iter() {
        assert_eq!(request.path, "/cgi-bin/edeploy/events");
        let batch: EventBatch = serde_json::from_str(&request.body).unwrap();
        assert_eq!(batch.sequence, all.len() as u64);
        all.extend(batch.events);
    }
    assert_eq!(all.len(), 101);
    assert_eq!(all[100], Event::Installed { seconds: 2.5 });
}

#[test]
fn a_refused_ticket_ends_the_sending_and_an_absent_server_the_waiting() {
    let (server, _requests) = serve(|_, _| Some((409, "this ticket has ended".to_owned())));
    let (console, _) = console();
    let client = Client::new(server.clone(), console.clone()).unwrap();
    let events = EventSender::start(&client, Token::from_bytes([1; 16]));
    events.send(Event::Installed { seconds: 1.0 });
    // Asked as often as one likes, the answer stays no.
    for error in [events.deliver(Duration::from_secs(10)), events.insist(), events.accepted()] {
        let text = error.unwrap_err().to_string();
        assert!(text.ends_with("refused the report: this ticket has ended"), "{text}");
    }

    // Port 9 of the loopback interface: nobody listens.
    let client = Client::new(Server { port: 9, ..server }, console).unwrap();
    let events = EventSender::start(&client, Token::from_bytes([1; 16]));
    events.send(Event::Installed { seconds: 1.0 });
    let error = events.deliver(Duration::from_millis(100)).unwrap_err();
    assert!(matches!(error, ClientError::Undelivered { left: 1 }), "{error}");
}

#[test]
fn a_report_is_repeated_until_our_server_has_it_whatever_stands_in_for_it() {
    let (server, requests) = serve(|number, request| match number {
        0 => None,
        1 => Some((404, "no such page".to_owned())),
        2 => Some((200, "<html>It works!".to_owned())),
        3 => Some((503, "busy".to_owned())),
        4 => Some((200, format!(r#"{{"nonce":"{}","next":1}}"#, "0".repeat(32)))),
        _ => Some(event_answer(request)),
    });
    let (console, screen) = console();
    let client = Client::new(server, console).unwrap();
    let events = EventSender::start_paced(&client, Token::from_bytes([1; 16]), QUICK);
    events.send(Event::Installed { seconds: 1.0 });
    events.insist().unwrap();
    assert_eq!(requests.try_iter().count(), 6);
    let screen = screen.text();
    assert_eq!(screen.matches("; again in ").count(), 5, "{screen}");
    for part in ["no answer from", "no such page", "It works!", "busy", "nonce"] {
        assert!(screen.contains(part), "`{part}` is not on: {screen}");
    }
}
