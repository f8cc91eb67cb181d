//! One request from the CGI environment: links named `upload`, `upload.py` and `events` in a web
//! server's `cgi-bin`. `EDEPLOY_CONF` names edeploy.conf. The log goes to standard error, which
//! web servers keep.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use server::cgi;
use server::handle::{Application, chain};
use server::request::{Request, Response, shown};
use server::resident::{self, Resident, Starter};
use server::retention;
use server::settings::{DEFAULT_PATH, Settings};
use server::store::{Store, StoreError};
use tracing::{error, info};

fn main() -> ExitCode {
    server::memory::settle();
    server::logging::start(false);
    let config =
        std::env::var_os("EDEPLOY_CONF").map_or_else(|| DEFAULT_PATH.into(), PathBuf::from);
    let application = match Application::open(&config) {
        Ok(application) => application,
        Err(failure) => {
            // Clients get no paths of the server; its log does.
            error!(error = chain(&failure), "no settings");
            respond(&Response::text(
                503,
                "the server's edeploy.conf is broken; its log says where",
            ));
            return ExitCode::from(2);
        }
    };
    let application = Arc::new(application);
    if std::env::var_os(RESIDENT).is_some() {
        stay(&application);
        return ExitCode::SUCCESS;
    }
    let max_body = application.settings().listener.max_body;
    let variable = |name: &str| std::env::var(name).ok();
    let request = match cgi::read_request(variable, io::stdin().lock(), max_body) {
        Ok(request) => request,
        Err(response) => {
            respond(&response);
            return ExitCode::SUCCESS;
        }
    };
    if let Some(response) = ask_resident(&application.settings(), &request) {
        info!(path = shown(&request.path, 100), status = response.status, "answered");
        respond(&response);
        return ExitCode::SUCCESS;
    }
    // Nobody can be asked: this program does the work itself, for this once.
    outlive_the_request();
    respond(&application.handle(&request));
    release_web_server();
    each_store(&application, |store| store.sync_in_turn(SYNC_PAUSE));
    ExitCode::SUCCESS
}

/// Set for the program that stays: it has no request of its own.
const RESIDENT: &str = "EDEPLOY_RESIDENT";
/// How often the resident is looked for before a program does its own work.
const ATTEMPTS: u32 = 100;
/// A resident needs some of these to open its socket.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(20);
/// How long nobody has to come for the resident program to end.
const IDLE: Duration = Duration::from_secs(2);

/// The answer of the resident, which is started when there is none.
fn ask_resident(settings: &Settings, request: &Request) -> Option<Response> {
    let mut turn = None;
    for _ in 0..ATTEMPTS {
        match resident::ask(settings, request) {
            Ok(Some(response)) => return Some(response),
            Ok(None) => {}
            Err(failure) => {
                info!(error = %failure, "the resident program did not answer");
                return None;
            }
        }
        if turn.is_none() {
            // Of a crowd that finds nobody one starts it, and the others wait.
            match Starter::begin(settings) {
                Ok(Some(starter)) => turn = Some(start_resident(starter)?),
                Ok(None) => {}
                Err(failure) => {
                    error!(error = %failure, "every CGI program has to do its own work");
                    return None;
                }
            }
        }
        std::thread::sleep(ATTEMPT_PAUSE);
    }
    None
}

/// Starts this program once more, to stay. A program of its own, with no descriptor of the web
/// server: that may wait until a CGI program has closed them all, and ends it when its answer is
/// complete.
fn start_resident(starter: Starter) -> Option<Starter> {
    #[expect(clippy::disallowed_methods, reason = "it starts nothing but itself")]
    let started = std::env::current_exe().and_then(|program| {
        Command::new(program)
            .env(RESIDENT, "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(starter.log()?)
            .process_group(0)
            .spawn()
    });
    match started {
        Ok(_) => Some(starter),
        Err(failure) => {
            error!(error = %failure, "the resident program cannot be started");
            None
        }
    }
}

/// Answers for CGI programs as long as they keep coming; then the readable files are brought up
/// to date for good.
fn stay(application: &Arc<Application>) {
    match Resident::begin(application) {
        Ok(Some(resident)) => {
            resident.stay(IDLE, || each_store(application, Store::sync_if_behind));
            resident.end();
            retention::sweep_all(application);
            each_store(application, |store| store.sync_in_turn(SYNC_PAUSE));
        }
        // Another one was faster.
        Ok(None) => {}
        Err(failure) => error!(error = %failure, "this program cannot stay"),
    }
}

/// Does something with every store; what fails is in the log.
fn each_store(application: &Application, work: impl Fn(&Store) -> Result<(), StoreError>) {
    for store in application.stores() {
        if let Err(failure) = work(&store) {
            error!(error = chain(&failure), "the readable files could not be written");
        }
    }
}

/// Web servers end a CGI program with SIGTERM once its answer is complete (lighttpd does). This
/// one has something left to do, and ends by itself.
fn outlive_the_request() {
    let noted = Arc::new(AtomicBool::new(false));
    if let Err(failure) = signal_hook::flag::register(signal_hook::consts::SIGTERM, noted) {
        error!(error = %failure, "the web server may end this program before its work is done");
    }
}

/// Closes what leads to the web server: it takes that for the end of the answer and does not
/// keep the client waiting for what comes after.
fn release_web_server() {
    let released = File::options().read(true).write(true).open("/dev/null").and_then(|null| {
        nix::unistd::dup2_stdin(&null)?;
        nix::unistd::dup2_stdout(&null)?;
        nix::unistd::dup2_stderr(&null)?;
        Ok(())
    });
    if let Err(failure) = released {
        error!(error = %failure, "the web server's descriptors stay open");
    }
}

/// How long the readable files may lag, so that one process of a crowd writes them for all.
const SYNC_PAUSE: Duration = Duration::from_millis(300);

/// A client that is gone needs no answer: what was decided is stored, and it will ask again.
fn respond(response: &Response) {
    if let Err(failure) = cgi::write_response(response, io::stdout().lock()) {
        error!(error = %failure, "the response could not be written");
    }
}
