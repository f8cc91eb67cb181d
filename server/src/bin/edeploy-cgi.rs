//! One request from the CGI environment: links named `upload`, `upload.py` and `events` in a web
//! server's `cgi-bin`. `EDEPLOY_CONF` names edeploy.conf. The log goes to standard error, which
//! web servers keep.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use server::cgi;
use server::handle::{Application, chain};
use server::request::{Request, Response};
use server::resident::{self, Resident};
use server::settings::DEFAULT_PATH;
use server::store::{Store, StoreError};
use tracing::error;

fn main() -> ExitCode {
    // A log on a disk that is full must cost no answer: the complaint about it would panic.
    let log = tracing_subscriber::fmt().log_internal_errors(false);
    log.with_writer(io::stderr).with_ansi(false).init();
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
    let max_body = application.settings().listener.max_body;
    let variable = |name: &str| std::env::var(name).ok();
    let request = match cgi::read_request(variable, io::stdin().lock(), max_body) {
        Ok(request) => request,
        Err(response) => {
            respond(&response);
            return ExitCode::SUCCESS;
        }
    };
    let application = Arc::new(application);
    let resident = match find_resident(&application, &request) {
        Found::Answer(response) => {
            respond(&response);
            return ExitCode::SUCCESS;
        }
        Found::Us(resident) => Some(resident),
        Found::Nobody => None,
    };
    outlive_the_request();
    respond(&application.handle(&request));
    release_client();
    // The answer has left. What this program knows by now is of use to those that come after it;
    // the readable files follow as well.
    if let Some(resident) = resident {
        resident.stay(IDLE, || each_store(&application, Store::sync_if_behind));
        resident.end();
    }
    each_store(&application, |store| store.sync_in_turn(SYNC_PAUSE));
    ExitCode::SUCCESS
}

/// Who answers.
enum Found {
    /// The resident did.
    Answer(Response),
    /// This program is the resident from now on; others wait for it while it reads the world.
    Us(Resident),
    /// This program, for this once.
    Nobody,
}

fn find_resident(application: &Arc<Application>, request: &Request) -> Found {
    // Of a crowd that finds nobody one begins; the others find it a moment later.
    for _ in 0..ATTEMPTS {
        if let Some(response) = resident::ask(&application.settings(), request) {
            return Found::Answer(response);
        }
        match Resident::begin(application) {
            Ok(Some(resident)) => return Found::Us(resident),
            Ok(None) => std::thread::sleep(ATTEMPT_PAUSE),
            Err(failure) => {
                error!(error = %failure, "every CGI program has to do its own work");
                return Found::Nobody;
            }
        }
    }
    Found::Nobody
}

/// Does something with every store; what fails is in the log.
fn each_store(application: &Application, work: impl Fn(&Store) -> Result<(), StoreError>) {
    for store in application.stores() {
        if let Err(failure) = work(&store) {
            error!(error = chain(&failure), "the readable files could not be written");
        }
    }
}

/// How often a resident is looked for.
const ATTEMPTS: u32 = 10;
/// How long a resident needs at most to open its socket.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(20);
/// How long nobody has to come for the resident program to end.
const IDLE: Duration = Duration::from_secs(2);

/// Web servers end a CGI program with SIGTERM once its answer is complete (lighttpd does). This
/// one has something left to do, and ends by itself soon after nobody needs it any more.
fn outlive_the_request() {
    let noted = Arc::new(AtomicBool::new(false));
    if let Err(failure) = signal_hook::flag::register(signal_hook::consts::SIGTERM, noted) {
        error!(error = %failure, "the web server may end this program before its work is done");
    }
}

/// Closes standard output: the web server takes it for the end of the answer and does not keep
/// the client waiting for what comes after.
fn release_client() {
    let released = File::options().write(true).open("/dev/null").and_then(|null| {
        nix::unistd::dup2_stdout(&null)?;
        Ok(())
    });
    if let Err(failure) = released {
        error!(error = %failure, "standard output stays open");
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
