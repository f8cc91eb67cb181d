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
use server::request::Response;
use server::resident::{self, Resident};
use server::settings::DEFAULT_PATH;
use tracing::error;

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).init();
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
    let response = match cgi::read_request(variable, io::stdin().lock(), max_body) {
        Ok(request) => {
            if let Some(response) = resident::ask(&application.settings(), &request) {
                respond(&response);
                return ExitCode::SUCCESS;
            }
            application.handle(&request)
        }
        Err(response) => {
            respond(&response);
            return ExitCode::SUCCESS;
        }
    };
    outlive_the_request();
    respond(&response);
    release_client();
    stay(&Arc::new(application));
    ExitCode::SUCCESS
}

/// The answer has left. What this program knows by now is of use to those that come after it;
/// the readable files follow as well.
fn stay(application: &Arc<Application>) {
    match Resident::begin(application) {
        Ok(Some(resident)) => {
            resident.stay(IDLE, || {
                for store in application.stores() {
                    if let Err(failure) = store.sync_if_behind() {
                        error!(error = chain(&failure), "the readable files could not be written");
                    }
                }
            });
            resident.end();
        }
        Ok(None) => {}
        Err(failure) => error!(error = %failure, "every CGI program has to do its own work"),
    }
    for store in application.stores() {
        if let Err(failure) = store.sync_in_turn(SYNC_PAUSE) {
            error!(error = chain(&failure), "the readable files could not be written");
        }
    }
}

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
