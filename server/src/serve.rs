//! `edeploy-server serve`: the HTTP front around the application, from start to SIGTERM.
//!
//! SIGTERM and SIGINT finish what is under way and bring the readable files up to date. SIGHUP
//! reads edeploy.conf again; settings that need a restart are named in the log.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use crate::handle::{Application, chain};
use crate::http::{Front, FrontLimits, Stopper};
use crate::memory;
use crate::request::Request;
use crate::resident::Resident;
use crate::retention;
use crate::settings::Section;

/// How often the readable files are looked after: they lag by a second at most.
const SYNC_PERIOD: Duration = Duration::from_millis(500);
/// How often it is looked for what is too old to be kept.
const SWEEP_PERIOD: Duration = Duration::from_secs(3600);

/// Serves until a signal ends it. `listen` overrides LISTEN of edeploy.conf.
pub fn serve(application: Application, listen: Option<SocketAddr>) -> anyhow::Result<()> {
    let settings = application.settings();
    for warning in &settings.warnings {
        warn!("{warning}");
    }
    for section in settings.sections() {
        if !section.config_dir.is_dir() {
            let (name, folder) = (&section.name, section.config_dir.display());
            bail!("CONFIGDIR of section {name} is no folder: {folder}");
        }
    }
    let application = Arc::new(application);
    report_start(&application);
    let address = listen.unwrap_or(settings.listener.address);
    let listener = listener(address, listen.is_some())?;
    let limits = FrontLimits {
        workers: settings.listener.workers,
        max_connections: settings.listener.max_connections,
        max_body: settings.listener.max_body,
    };
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("cannot catch signals")?;
    let address = listener.local_addr().unwrap_or(address);
    let handler = Arc::clone(&application);
    // The store has made it by now, if it can be made.
    let folder = settings.sections().next().map(Section::private_dir);
    let answer = Arc::new(move |request: &Request| handler.handle(request));
    let front = Front::start(listener, limits, folder.as_deref(), answer)
        .context("cannot start the HTTP front")?;
    info!(%address, workers = limits.workers, "serving");
    spawn_signals(signals, Arc::clone(&application), front.stopper())?;
    let (ended, end) = mpsc::channel::<()>();
    let syncing = Arc::clone(&application);
    let syncer = std::thread::Builder::new().name("sync".into()).spawn(move || {
        let mut resident = None;
        // What starting took is given back as well.
        let mut was_busy = true;
        let mut swept: Option<Instant> = None;
        while end.recv_timeout(SYNC_PERIOD) == Err(RecvTimeoutError::Timeout) {
            let is_busy = syncing.stores_to_sync().iter().any(|store| store.is_behind());
            sync(&syncing);
            if was_busy && !is_busy {
                memory::give_back();
            }
            if !is_busy && swept.is_none_or(|at| at.elapsed() >= SWEEP_PERIOD) {
                retention::sweep_all(&syncing);
                swept = Some(Instant::now());
            }
            was_busy = is_busy;
            // A CGI program may be it already, for as long as others keep coming.
            if resident.is_none() {
                resident = begin_residence(&syncing);
            }
        }
        if let Some(resident) = resident {
            resident.end();
        }
    })?;
    let result = front.wait();
    drop(ended);
    drop(syncer.join());
    sync(&application);
    info!("stopped");
    result.context("the HTTP front failed")
}

/// The socket that systemd hands over (LISTEN_FDS), or one of our own. An address on the command
/// line is somebody's word against both.
fn listener(address: SocketAddr, is_asked_for: bool) -> anyhow::Result<TcpListener> {
    if !is_asked_for {
        let handed_over = listenfd::ListenFd::from_env().take_tcp_listener(0);
        let handed_over = handed_over.context("the first socket of LISTEN_FDS is no TCP socket")?;
        if let Some(listener) = handed_over {
            info!("listening on the socket that was handed over; LISTEN is not looked at");
            return Ok(listener);
        }
    }
    TcpListener::bind(address)
        .with_context(|| format!("cannot listen on {address}; choose another with --listen"))
}

/// Answers for CGI programs from now on, if nobody does.
fn begin_residence(application: &Arc<Application>) -> Option<Resident> {
    match Resident::begin(application) {
        Ok(resident) => resident,
        Err(failure) => {
            warn!(error = %failure, "CGI programs have to do their own work");
            None
        }
    }
}

/// Brings the readable files of all sections up to date; what fails is tried again.
fn sync(application: &Application) {
    for store in application.stores_to_sync() {
        if let Err(failure) = store.sync_if_behind() {
            error!(error = chain(&failure), "the readable files could not be written");
        }
    }
}

/// Takes over what a killed server left, and says at once what is broken: machines will be told
/// the same, later. What it left unwritten is written once machines are answered: after a storm
/// that takes many syncs.
fn report_start(application: &Application) {
    for store in application.stores() {
        let name = &store.section().name;
        match store.look(|_| ()) {
            Ok(()) => info!(section = name, "ready"),
            Err(failure) => error!(section = name, error = chain(&failure), "not ready"),
        }
    }
}

fn spawn_signals(
    mut signals: Signals,
    application: Arc<Application>,
    stopper: Stopper,
) -> io::Result<()> {
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if signal != SIGHUP {
                info!(signal, "finishing what is under way");
                stopper.stop();
                continue;
            }
            match application.reload() {
                Ok(keys) if keys.is_empty() => info!("edeploy.conf read again"),
                Ok(keys) => {
                    warn!(keys = keys.join(" "), "edeploy.conf read again; these need a restart");
                }
                Err(failure) => {
                    error!(error = chain(&failure), "edeploy.conf is broken; the old one stays");
                }
            }
        }
    })?;
    Ok(())
}
