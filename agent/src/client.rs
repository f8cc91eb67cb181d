//! Talks to the matching server: uploads facts, logs and failures, and tells it events.
//!
//! A server that is away is waited for, each attempt visible on the console; a server that has
//! said no (4xx) is not asked again. Nothing an answer holds is trusted before it was parsed into
//! the types of `specs::wire` and repeats the nonce of its question. What an answer means is
//! decided in [`crate::run`].

mod events;
mod retry;

use std::io::Read;
use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::blocking::multipart::{Form, Part};
use reqwest::blocking::{Client as HttpClient, Response};
use specs::facts::Facts;
use specs::units::{Name, Token};
use specs::wire::{self, PROTOCOL, Refusal, Reply, field};

use crate::options::Server;
use crate::report::Console;

pub use events::EventSender;
pub use retry::{Attempt, Patience};

/// The version this agent calls itself.
pub const AGENT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Answers are plans of some kB; a longer one is no answer of our server.
const LONGEST_ANSWER: u64 = 16 << 20;

/// Why the server could not be asked, or what was wrong with its answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The HTTP client could not be set up.
    #[error("cannot set up the HTTP client")]
    Setup(#[source] reqwest::Error),
    /// The form could not be put together.
    #[error("cannot put the form for the server together")]
    Form(#[source] std::io::Error),
    /// No answer: name, route, connection or time.
    #[error("no answer from {url}")]
    Absent {
        /// The address.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The answer broke off.
    #[error("the answer from {url} cannot be read")]
    Broken {
        /// The address.
        url: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The server is there and cannot answer now.
    #[error("{url} answered {status}: {reason}")]
    Unable {
        /// The address.
        url: String,
        /// 429 or 5xx.
        status: u16,
        /// What it said.
        reason: String,
    },
    /// The answer is not one of our server's.
    #[error("{url} answered {status} with something that is no reply ({problem}): {start}")]
    Foreign {
        /// The address.
        url: String,
        /// The status.
        status: u16,
        /// What is wrong with it.
        problem: String,
        /// Its beginning.
        start: String,
    },
    /// It answers another question.
    #[error("the answer from {url} does not repeat the nonce of the question")]
    Nonce {
        /// The address.
        url: String,
    },
    /// The server does not want this report.
    #[error("{url} refused the report: {reason}")]
    Refused {
        /// The address.
        url: String,
        /// What it said.
        reason: String,
    },
    /// The time for telling it was over.
    #[error("{left} events could not be delivered in time")]
    Undelivered {
        /// How many are left.
        left: usize,
    },
    /// The system has no random numbers.
    #[error("cannot make a nonce: {0}")]
    Random(getrandom::Error),
}

/// A reply with the server's idea of the time.
#[derive(Debug)]
pub struct Answer {
    /// What it said.
    pub reply: Reply,
    /// Its `Date`.
    pub date: Option<SystemTime>,
}

/// Speaks to one server. Clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: HttpClient,
    server: Server,
    console: Console,
}

impl Client {
    /// A client of this server that reports its attempts on the console.
    pub fn new(server: Server, console: Console) -> Result<Client, ClientError> {
        let http = HttpClient::builder()
            .user_agent(concat!("edeploy-agent/", env!("CARGO_PKG_VERSION")))
            // The environment of an initrd is the kernel's command line: no proxy comes from it.
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(60))
            .build()
            .map_err(ClientError::Setup)?;
        Ok(Client { http, server, console })
    }

    /// Uploads the facts and returns what the server says, a refusal included. Waits for an
    /// absent server as long as `patience` lasts.
    pub fn upload(&self, facts: &Facts, patience: Patience) -> Result<Answer, ClientError> {
        let url = self.server.url("upload");
        let body = facts_json(facts);
        patience.attempt(&self.console, &mut |_| {
            let nonce = nonce()?;
            let form = self.form(&nonce, file("hw.json", body.clone()));
            let answer = self.ask(&url, form)?;
            check_nonce(&url, &nonce, &answer.reply)?;
            Ok(answer)
        })
    }

    /// Tells that the installation of `profile` failed, so that its slot is given back.
    pub fn report_failure(
        &self,
        facts: &Facts,
        profile: &Name,
        ticket: &Token,
        patience: Patience,
    ) -> Result<(), ClientError> {
        let url = self.server.url("upload");
        let body = facts_json(facts);
        patience.attempt(&self.console, &mut |_| {
            let form = self
                .form(&nonce()?, file("hw.json", body.clone()))
                .text(field::FAILURE, profile.to_string())
                .text(field::TICKET, ticket.to_string());
            self.tell(&url, form)
        })
    }

    /// Uploads a compressed log under this name, which ends in `.log.gz`.
    pub fn upload_log(
        &self,
        name: &str,
        log: &[u8],
        ticket: Option<&Token>,
        patience: Patience,
    ) -> Result<(), ClientError> {
        let url = self.server.url("upload");
        patience.attempt(&self.console, &mut |_| {
            let mut form = self.form(&nonce()?, file(name, log.to_vec()));
            if let Some(ticket) = ticket {
                form = form.text(field::TICKET, ticket.to_string());
            }
            self.tell(&url, form)
        })
    }

    fn form(&self, nonce: &Token, file: Part) -> Form {
        Form::new()
            .text(field::PROTOCOL, PROTOCOL.to_string())
            .text(field::AGENT, AGENT_VERSION)
            .text(field::NONCE, nonce.to_string())
            .text(field::SECTION, self.server.section.clone())
            .part(field::FILE, file)
    }

    /// Sends a form whose answer is a reply.
    fn ask(&self, url: &str, form: Form) -> Result<Answer, Attempt> {
        let response = self.send(url, form)?;
        let status = response.status();
        let date = response
            .headers()
            .get(reqwest::header::DATE)
            .and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        let text = read(url, response)?;
        let reply = match wire::ron_options().from_str::<Reply>(&text) {
            Ok(Reply::Refused(refusal)) => Reply::Refused(refusal),
            Ok(reply) if status.is_success() => reply,
            Ok(_) => return Err(foreign(url, status, "a good answer with a bad status", &text)),
            Err(error) if status.is_success() => {
                return Err(foreign(url, status, &error.to_string(), &text));
            }
            // The web server in front of ours, or one that is none of ours.
            Err(_) => Reply::Refused(Refusal {
                status: status.as_u16(),
                nonce: None,
                reason: start_of(&text),
                profiles: Vec::new(),
            }),
        };
        match reply {
            Reply::Refused(refusal) if is_passing(status) => {
                Err(Attempt::Again(ClientError::Unable {
                    url: url.to_owned(),
                    status: refusal.status,
                    reason: refusal.reason,
                }))
            }
            reply => Ok(Answer { reply, date }),
        }
    }

    /// Sends a form whose answer only has to be good.
    fn tell(&self, url: &str, form: Form) -> Result<(), Attempt> {
        let response = self.send(url, form)?;
        judge(url, response).map(drop)
    }

    /// Sends the form as one body: of a form that is sent piece by piece reqwest says, where
    /// nobody listens, only that a piece could not be handed on.
    fn send(&self, url: &str, form: Form) -> Result<Response, Attempt> {
        let content_type = format!("multipart/form-data; boundary={}", form.boundary());
        let mut body = Vec::new();
        form.into_reader()
            .read_to_end(&mut body)
            .map_err(|source| Attempt::Final(ClientError::Form(source)))?;
        self.http
            .post(url)
            .header(reqwest::header::ACCEPT, wire::CONTENT_TYPE)
            .header(reqwest::header::CONTENT_TYPE, content_type)
            .body(body)
            .send()
            .map_err(|source| absent(url, source))
    }
}

/// 16 random bytes.
pub fn nonce() -> Result<Token, ClientError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(ClientError::Random)?;
    Ok(Token::from_bytes(bytes))
}

fn facts_json(facts: &Facts) -> Vec<u8> {
    serde_json::to_vec(facts).expect("facts are lists of texts and finite numbers")
}

fn file(name: &str, content: Vec<u8>) -> Part {
    Part::bytes(content).file_name(name.to_owned())
}

/// The text of a good answer; otherwise whether to try again.
fn judge(url: &str, response: Response) -> Result<String, Attempt> {
    let status = response.status();
    let text = read(url, response)?;
    if status.is_success() {
        return Ok(text);
    }
    let reason = match wire::ron_options().from_str::<Reply>(&text) {
        Ok(Reply::Refused(refusal)) => refusal.reason,
        _ => start_of(&text),
    };
    let url = url.to_owned();
    Err(if is_passing(status) {
        Attempt::Again(ClientError::Unable { url, status: status.as_u16(), reason })
    } else {
        Attempt::Final(ClientError::Refused { url, reason })
    })
}

fn read(url: &str, response: Response) -> Result<String, Attempt> {
    let mut text = String::new();
    response
        .take(LONGEST_ANSWER)
        .read_to_string(&mut text)
        .map_err(|source| Attempt::Again(ClientError::Broken { url: url.to_owned(), source }))?;
    Ok(text)
}

/// Statuses that say "not now" rather than "no".
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
}

fn absent(url: &str, source: reqwest::Error) -> Attempt {
    Attempt::Again(ClientError::Absent { url: url.to_owned(), source: source.without_url() })
}

fn foreign(url: &str, status: StatusCode, problem: &str, text: &str) -> Attempt {
    Attempt::Final(ClientError::Foreign {
        url: url.to_owned(),
        status: status.as_u16(),
        problem: problem.to_owned(),
        start: start_of(text),
    })
}

/// The beginning of a text that may be anything.
fn start_of(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("(nothing)");
    line.trim().chars().take(200).collect()
}

fn check_nonce(url: &str, asked: &Token, reply: &Reply) -> Result<(), Attempt> {
    let answered = match reply {
        Reply::Plan { nonce, .. } | Reply::Installed { nonce, .. } => nonce,
        // A refusal writes to no disk; one that could not read the question knows no nonce.
        Reply::Refused(_) => return Ok(()),
    };
    if answered.as_ref() == Some(asked) {
        Ok(())
    } else {
        Err(Attempt::Final(ClientError::Nonce { url: url.to_owned() }))
    }
}

#[cfg(test)]
mod tests;
