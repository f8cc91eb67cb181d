//! All behaviour: one function from a request to a response. No sockets, no environment.
//!
//! The last component of the path dispatches. An upload of facts, a log, a failure report and a
//! batch of events become decisions of `specs::fleet` in the [`Store`] of the section they name;
//! what cannot be understood is refused with a sentence before anything is locked.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use specs::facts::Facts;
use specs::fleet::{Answer, Complaint, Decision, Untold};
use specs::matching::Prepared;
use specs::units::{Mac, Token};
use specs::wire::{EventBatch, PROTOCOL, field};
use tracing::{error, info, warn};

use crate::form::{Form, FormError};
use crate::logs;
use crate::rate::Limiter;
use crate::reply;
use crate::request::{Request, Response, shown};
use crate::settings::{DEFAULT_SECTION, Settings, SettingsError};
use crate::store::{Store, StoreError};

/// Everything behind the fronts.
#[derive(Debug)]
pub struct Application {
    config: PathBuf,
    current: RwLock<Arc<Sections>>,
    /// Stores that a reload replaced, with requests under way or files to write.
    retired: Mutex<Vec<Arc<Store>>>,
    addresses: Mutex<Limiter<IpAddr>>,
    machines: Mutex<Limiter<Mac>>,
}

/// The settings in force and a store for each section.
#[derive(Debug)]
struct Sections {
    settings: Settings,
    stores: BTreeMap<String, Arc<Store>>,
}

/// Why an upload or events are refused before any decision.
struct Refused {
    status: u16,
    reason: String,
    nonce: Option<Token>,
}

impl Refused {
    fn new(status: u16, reason: impl Into<String>) -> Refused {
        Refused { status, reason: reason.into(), nonce: None }
    }
}

impl From<FormError> for Refused {
    fn from(error: FormError) -> Refused {
        Refused::new(400, error.to_string())
    }
}

impl Application {
    /// The application that edeploy.conf at `config` describes.
    pub fn open(config: &Path) -> Result<Application, SettingsError> {
        let sections = Sections::of(Settings::read(config)?, None);
        Ok(Application {
            config: config.to_owned(),
            current: RwLock::new(Arc::new(sections)),
            retired: Mutex::default(),
            addresses: Mutex::default(),
            machines: Mutex::default(),
        })
    }

    /// The settings in force.
    pub fn settings(&self) -> Settings {
        self.sections().settings.clone()
    }

    /// The store of a section.
    pub fn store(&self, section: &str) -> Option<Arc<Store>> {
        self.sections().stores.get(section).cloned()
    }

    /// The stores of all sections.
    pub fn stores(&self) -> Vec<Arc<Store>> {
        self.sections().stores.values().cloned().collect()
    }

    /// The stores that may have files to write: also those that a reload replaced, until nobody
    /// uses them and their files are written.
    pub fn stores_to_sync(&self) -> Vec<Arc<Store>> {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|store| Arc::strong_count(store) > 1 || store.is_behind());
        let retired = retired.iter().cloned();
        self.stores().into_iter().chain(retired).collect()
    }

    /// Reads edeploy.conf again. Requests under way finish with the settings they began with.
    /// Returns the keys that changed and cannot be taken up without a restart.
    pub fn reload(&self) -> Result<Vec<&'static str>, SettingsError> {
        let settings = Settings::read(&self.config)?;
        let old = self.sections();
        let needs_restart = old.settings.needs_restart(&settings);
        let sections = Arc::new(Sections::of(settings, Some(&old)));
        let is_kept = |store: &&Arc<Store>| {
            sections.stores.get(&store.section().name).is_some_and(|it| Arc::ptr_eq(it, store))
        };
        let replaced = old.stores.values().filter(|store| !is_kept(store)).cloned();
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).extend(replaced);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = sections;
        Ok(needs_restart)
    }

    fn sections(&self) -> Arc<Sections> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Answers a request, and leaves one line about it in the log.
    pub fn handle(&self, request: &Request) -> Response {
        let begun = Instant::now();
        let response = self.dispatch(request);
        let peer = request.peer.map(|peer| peer.to_string()).unwrap_or_default();
        let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        info!(
            peer,
            method = request.method,
            path = shown(&request.path, 100),
            status = response.status,
            bytes = request.body.len(),
            milliseconds,
            "request"
        );
        response
    }

    fn dispatch(&self, request: &Request) -> Response {
        if let Some(refused) = self.refuse_crowding(request) {
            return reply::refuse(request, refused.status, refused.reason, None);
        }
        let refused = match (request.method.as_str(), request.target()) {
            ("POST", "upload" | "upload.py") => match self.upload(request) {
                Ok(response) => return response,
                Err(refused) => refused,
            },
            ("POST", "events") => match self.events(request) {
                Ok(response) => return response,
                Err(refused) => refused,
            },
            ("GET", "healthz") => return Response::text(200, "ok"),
            ("GET", "readyz") => return self.readiness(),
            (_, "upload" | "upload.py" | "events") => {
                Refused::new(405, "send it with POST, for example: curl -F file=@FACTS URL")
            }
            _ => Refused::new(
                404,
                format!(
                    "nothing answers at {}: POST …/upload, POST …/events, GET …/readyz",
                    shown(&request.path, 100)
                ),
            ),
        };
        warn!(status = refused.status, reason = refused.reason, "refused");
        reply::refuse(request, refused.status, refused.reason, refused.nonce)
    }

    /// Refuses an address that asks too often, before anything of the request is looked at. The
    /// limit is the most generous one of all sections: which one is meant is not known yet.
    fn refuse_crowding(&self, request: &Request) -> Option<Refused> {
        let address = request.peer.filter(|_| request.method == "POST")?;
        let sections = self.sections();
        let limits = sections.settings.sections().map(|it| it.limits.requests_per_minute);
        let limits: Vec<u32> = limits.collect();
        let limit = if limits.contains(&0) { 0 } else { limits.into_iter().max()? };
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        (!addresses.allows(address, limit, Instant::now())).then(|| {
            let reason = format!(
                "{address} asks more than {limit} times a minute, the limit RATELIMIT of \
                 edeploy.conf: wait a moment"
            );
            Refused::new(429, reason)
        })
    }

    /// Refuses a machine that uploads too often: one in a boot loop.
    fn refuse_boot_loop(&self, store: &Store, facts: &Facts) -> Result<(), Refused> {
        let limit = store.section().limits.uploads_per_minute;
        let Some(mac) = facts.macs().into_iter().next() else { return Ok(()) };
        let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        if machines.allows(mac.clone(), limit, Instant::now()) {
            return Ok(());
        }
        let reason = format!(
            "{mac} uploads more than {limit} times a minute, the limit MACHINERATE of \
             edeploy.conf: does it boot over and over?"
        );
        Err(Refused::new(429, reason))
    }

    /// Facts, a log, or the report that an installation failed.
    fn upload(&self, request: &Request) -> Result<Response, Refused> {
        let form = Form::parse(request.content_type.as_deref(), &request.body)?;
        let nonce = form.text(field::NONCE)?.map(str::parse::<Token>).transpose();
        let nonce = nonce.map_err(|error| Refused::new(400, error.to_string()))?;
        self.upload_form(request, &form, nonce.as_ref())
            .map_err(|refused| Refused { nonce: nonce.clone(), ..refused })
    }

    fn upload_form(
        &self,
        request: &Request,
        form: &Form,
        nonce: Option<&Token>,
    ) -> Result<Response, Refused> {
        if let Some(protocol) = form.text(field::PROTOCOL)? {
            let agent = form.text(field::AGENT)?.unwrap_or("unknown");
            check_protocol(protocol, agent)?;
        }
        let section = form.text(field::SECTION)?.filter(|section| !section.is_empty());
        let store = self.named_store(section.unwrap_or(DEFAULT_SECTION))?;
        let file = form.field(field::FILE).ok_or_else(|| {
            Refused::new(400, "the form has no field `file`; with curl: curl -F file=@FACTS URL")
        })?;
        let Some(file_name) = &file.file_name else {
            let reason = "the field `file` carries no usable file name; with curl: -F file=@FACTS";
            return Err(Refused::new(400, reason));
        };
        if file_name.ends_with(logs::SUFFIX) {
            return store_log(&store, file_name, &file.content);
        }
        let facts = read_facts(&store, file_name, &file.content)?;
        let ticket = form.text(field::TICKET)?.map(str::parse::<Token>).transpose();
        let ticket = ticket.map_err(|error| Refused::new(400, error.to_string()))?;
        let decided = match form.text(field::FAILURE)? {
            Some(profile) => {
                let profile = profile.to_owned();
                match ticket {
                    Some(ticket) => {
                        store.transact(move |world, now, _| world.failure(&ticket, &profile, now))
                    }
                    None => {
                        self.refuse_boot_loop(&store, &facts)?;
                        let reason = form.text(field::REASON)?.map(str::to_owned);
                        store.transact(move |world, now, _| {
                            let reason = reason.as_deref();
                            let failure = Complaint { profile: &profile, reason };
                            world.complaint(&facts, &failure, now)
                        })
                    }
                }
            }
            None => {
                self.refuse_boot_loop(&store, &facts)?;
                decide_upload(&store, facts)
            }
        };
        let answer = answer_of(decided)?;
        Ok(reply::upload(request, answer, nonce.cloned()))
    }

    fn events(&self, request: &Request) -> Result<Response, Refused> {
        let batch: EventBatch = serde_json::from_slice(&request.body).map_err(|error| {
            // A newer protocol may well have another shape: its number decides first.
            let protocol = serde_json::from_slice::<ProtocolOnly>(&request.body);
            match protocol {
                Ok(ProtocolOnly { protocol }) if protocol != PROTOCOL => unknown_protocol(protocol),
                _ => Refused::new(400, format!("the events are not understood: {error}")),
            }
        })?;
        if batch.protocol != PROTOCOL {
            return Err(unknown_protocol(batch.protocol));
        }
        let nonce = batch.nonce.clone();
        let with_nonce = |refused| Refused { nonce: Some(nonce.clone()), ..refused };
        let store = self.store_of_ticket(&batch.ticket).map_err(with_nonce)?;
        let decided = store.transact(move |world, now, _| {
            world.events(&batch.ticket, batch.sequence, &batch.events, now)
        });
        let answer = answer_of(decided).map_err(with_nonce)?;
        Ok(reply::events(request, answer, nonce.clone()))
    }

    fn named_store(&self, section: &str) -> Result<Arc<Store>, Refused> {
        self.store(section).ok_or_else(|| {
            let sections = self.sections();
            let known: Vec<&str> = sections.stores.keys().map(String::as_str).collect();
            let (section, known) = (shown(section, 60), known.join("`, `"));
            let reason = format!("edeploy.conf has no section `{section}`; it has `{known}`");
            Refused::new(404, reason)
        })
    }

    /// The store that gave this ticket. Events name no section; with one section there is no
    /// question, else each is asked.
    fn store_of_ticket(&self, ticket: &Token) -> Result<Arc<Store>, Refused> {
        let stores = self.stores();
        if let [store] = &stores[..] {
            return Ok(Arc::clone(store));
        }
        for store in stores {
            match store.look(|world| world.census.by_ticket(ticket).is_some()) {
                Ok(true) => return Ok(store),
                Ok(false) => {}
                Err(error) => return Err(Refused::new(503, chain(&error))),
            }
        }
        Err(Refused::new(409, "no machine has this ticket: it asked again, or was released"))
    }

    /// Whether every section's lock can be taken and its files can be used.
    fn readiness(&self) -> Response {
        for store in self.stores() {
            if let Err(error) = store.look(|_| ()) {
                let name = &store.section().name;
                return Response::text(503, &format!("section {name}: {}", chain(&error)));
            }
        }
        Response::text(200, "ready")
    }
}

#[derive(serde::Deserialize)]
struct ProtocolOnly {
    protocol: u32,
}

impl Sections {
    /// A store that an earlier set has for the same section is kept, with what it has in memory.
    fn of(settings: Settings, old: Option<&Sections>) -> Sections {
        let stores = settings
            .sections()
            .map(|section| {
                let kept = old.and_then(|old| old.stores.get(&section.name));
                let store = match kept.filter(|store| store.section() == section) {
                    Some(store) => Arc::clone(store),
                    None => Arc::new(Store::new(section.clone())),
                };
                (section.name.clone(), store)
            })
            .collect();
        Sections { settings, stores }
    }
}

fn check_protocol(protocol: &str, agent: &str) -> Result<(), Refused> {
    match protocol.parse::<u32>() {
        Ok(PROTOCOL) => Ok(()),
        Ok(other) => {
            warn!(agent = shown(agent, 60), protocol = other, "an agent of another protocol");
            Err(unknown_protocol(other))
        }
        Err(_) => Err(Refused::new(400, "`protocol` is not a number")),
    }
}

fn unknown_protocol(protocol: u32) -> Refused {
    let reason = format!(
        "this server speaks protocol {PROTOCOL}, not {protocol}: boot the initrd that belongs to it"
    );
    Refused::new(426, reason)
}

fn read_facts(store: &Store, file_name: &str, content: &[u8]) -> Result<Facts, Refused> {
    if content.is_empty() {
        return Err(Refused::new(400, format!("{file_name} is empty: no facts")));
    }
    let facts = Facts::parse(file_name, content).map_err(|finding| {
        Refused::new(400, format!("these are no facts: {}", finding.one_line()))
    })?;
    let limit = store.section().limits.facts;
    if facts.0.len() > limit {
        let reason = format!(
            "{} facts are more than {limit}, the limit MAXFACTS of edeploy.conf",
            facts.0.len()
        );
        return Err(Refused::new(413, reason));
    }
    Ok(facts)
}

fn store_log(store: &Store, name: &str, content: &[u8]) -> Result<Response, Refused> {
    let section = store.section();
    match logs::store(&section.log_dir, name, content, section.limits.logs) {
        Ok(()) => Ok(Response::text(200, &format!("stored as {name}"))),
        Err(error) => {
            error!(error = chain(&error), "log not stored");
            Err(Refused::new(503, chain(&error)))
        }
    }
}

/// What the machine with these facts gets. They are prepared before anybody waits for the store,
/// and why profiles do not fit is put in words when nobody does any more.
fn decide_upload(store: &Store, facts: Facts) -> Result<Decision, Arc<StoreError>> {
    let facts = Arc::new(Prepared::new(facts));
    let untold: Arc<OnceLock<Untold>> = Arc::default();
    let (looked_at, left) = (Arc::clone(&facts), Arc::clone(&untold));
    let mut decided = store.transact(move |world, now, fresh| {
        let (decision, untold) = world.decide(&looked_at.matcher(), now, fresh);
        if let Some(untold) = untold {
            // Set once: a decision is made once.
            let _ = left.set(untold);
        }
        decision
    })?;
    if let (Answer::Refused(refused), Some(untold)) = (&mut decided.answer, untold.get()) {
        untold.tell(&facts.matcher(), refused);
    }
    Ok(decided)
}

/// The answer of a stored decision; what could not be stored is a 503, and the machine asks again.
fn answer_of(decided: Result<Decision, Arc<StoreError>>) -> Result<Answer, Refused> {
    match decided {
        Ok(decision) => {
            for warning in &decision.warnings {
                warn!("{warning}");
            }
            if let Answer::Refused(refused) = &decision.answer {
                warn!(status = refused.status, reason = refused.reason, "refused");
            }
            Ok(decision.answer)
        }
        Err(error) => {
            let reason = chain(error.as_ref());
            error!(reason, "nothing was given");
            Err(Refused::new(503, format!("nothing was given, ask again: {reason}")))
        }
    }
}

/// An error with all its causes, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
