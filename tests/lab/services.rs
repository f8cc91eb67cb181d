//! The servers a machine meets, each on loopback: the rsync daemon with the role trees,
//! `edeploy-server`, and a web server with `edeploy-cgi`. QEMU's user network shows all of them
//! to the machine as 10.0.2.2.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{Lifetime, Service};

/// A server that has not opened its port by then has failed.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// Ports that the kernel gives to no connection (`ip_local_port_range` begins at 32768): one of a
/// server that is stopped and started again is still free then.
const PORTS: Range<u16> = 20_000..32_000;

/// A port on 127.0.0.1 that nobody uses at this moment, and that nobody else is given as long as
/// this process lives: whoever asks whether a port is free takes it for a moment, and a server may
/// just then be about to start again on it.
pub fn free_port() -> Result<u16> {
    // Programs that run at the same time begin at different places.
    static GIVEN: LazyLock<AtomicU32> =
        LazyLock::new(|| AtomicU32::new(std::process::id().wrapping_mul(97)));
    let next = || {
        let place = GIVEN.fetch_add(1, Ordering::Relaxed) % u32::from(PORTS.end - PORTS.start);
        PORTS.start + u16::try_from(place).unwrap_or_default()
    };
    let is_free =
        |port: &u16| is_reserved(*port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    PORTS.map(|_| next()).find(is_free).context("every port that servers may take is taken")
}

/// Reserves a port among all processes that take ports here. The name of a socket is one that the
/// kernel forgets together with the process.
fn is_reserved(port: u16) -> bool {
    static RESERVED: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    let name = std::os::unix::net::SocketAddr::from_abstract_name(format!("edeploy-lab-{port}"));
    let Ok(socket) = name.and_then(|name| UnixListener::bind_addr(&name)) else { return false };
    RESERVED.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
    true
}

/// The address of a port here.
pub fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Starts a server and waits until it listens, refusing a port that is taken: the machine would
/// talk to somebody else.
fn listen(
    name: &str,
    program: &str,
    arguments: &[OsString],
    port: u16,
    log: &Path,
    lifetime: Lifetime,
) -> Result<Service> {
    TcpListener::bind(local(port)).with_context(|| {
        format!(
            "port {port} is wanted for {name}; an earlier lab that was kept: scripts/lab --stop"
        )
    })?;
    let service = Service::start(name, program, arguments, log, lifetime)?;
    service.wait_for_port(local(port), START_DEADLINE)?;
    Ok(service)
}

/// Starts an rsync daemon with the modules `[install]` and `[metadata]`, both read only.
/// `directory` gets its configuration and log.
pub fn rsync_daemon(
    directory: &Path,
    port: u16,
    install: &Path,
    metadata: &Path,
    lifetime: Lifetime,
) -> Result<Service> {
    let configuration = format!(
        "port = {port}\naddress = 127.0.0.1\nuse chroot = no\nuid = root\ngid = root\n\
         lock file = {lock}\n\n[install]\npath = {install}\nread only = yes\n\n\
         [metadata]\npath = {metadata}\nread only = yes\n",
        lock = directory.join("rsyncd.lock").display(),
        install = install.display(),
        metadata = metadata.display(),
    );
    let file = directory.join("rsyncd.conf");
    std::fs::write(&file, configuration)
        .with_context(|| format!("writing `{}`", file.display()))?;
    let arguments = [
        "--daemon".into(),
        "--no-detach".into(),
        format!("--config={}", file.display()).into(),
        "--log-file=/dev/stdout".into(),
    ];
    let log = directory.join("rsyncd.log");
    listen("the rsync daemon", "rsync", &arguments, port, &log, lifetime)
}

/// Starts `edeploy-server serve` with this configuration.
pub fn edeploy_server(
    program: &Path,
    configuration: &Path,
    port: u16,
    log: &Path,
    lifetime: Lifetime,
) -> Result<Service> {
    let arguments = serve(configuration, port);
    listen("edeploy-server", &program.to_string_lossy(), &arguments, port, log, lifetime)
}

/// The same under `strace` with these options. The tracer is the child (`-D`): the process that
/// is started is the server.
pub fn edeploy_server_under_strace(
    options: &[String],
    program: &Path,
    configuration: &Path,
    port: u16,
    log: &Path,
) -> Result<Service> {
    let mut arguments: Vec<OsString> = vec!["-D".into()];
    arguments.extend(options.iter().map(OsString::from));
    arguments.push(program.into());
    arguments.extend(serve(configuration, port));
    listen("edeploy-server", "strace", &arguments, port, log, Lifetime::Scoped)
}

fn serve(configuration: &Path, port: u16) -> [OsString; 5] {
    [
        "serve".into(),
        "--config".into(),
        configuration.into(),
        "--listen".into(),
        local(port).to_string().into(),
    ]
}

/// Starts lighttpd with `edeploy-cgi` under `/cgi-bin/edeploy/`, by the links that a CGI
/// installation has.
pub fn lighttpd(
    directory: &Path,
    program: &Path,
    configuration: &Path,
    port: u16,
    lifetime: Lifetime,
) -> Result<Service> {
    let scripts = directory.join("www/cgi-bin/edeploy");
    std::fs::create_dir_all(&scripts).with_context(|| format!("making `{}`", scripts.display()))?;
    for name in ["upload", "upload.py", "events"] {
        let link = scripts.join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(program, &link)
                .with_context(|| format!("linking `{}`", link.display()))?;
        }
    }
    let settings = format!(
        "server.modules = (\"mod_cgi\", \"mod_setenv\")\nserver.bind = \"127.0.0.1\"\n\
         server.port = {port}\nserver.document-root = \"{root}\"\n\
         server.upload-dirs = (\"{uploads}\")\n\
         $HTTP[\"url\"] =~ \"^/cgi-bin/\" {{\n  cgi.assign = (\"\" => \"\")\n  \
         setenv.set-environment = (\"EDEPLOY_CONF\" => \"{configuration}\")\n}}\n",
        root = directory.join("www").display(),
        uploads = directory.display(),
        configuration = configuration.display(),
    );
    let file = directory.join("lighttpd.conf");
    std::fs::write(&file, settings).with_context(|| format!("writing `{}`", file.display()))?;
    let arguments = ["-D".into(), "-f".into(), file.into()];
    let log = directory.join("lighttpd.log");
    listen("lighttpd", "lighttpd", &arguments, port, &log, lifetime)
}

/// Starts lighttpd as what `HSERV` names: it hands out the files of a folder.
pub fn web_server(
    directory: &Path,
    port: u16,
    files: &Path,
    lifetime: Lifetime,
) -> Result<Service> {
    let settings = format!(
        "server.bind = \"127.0.0.1\"\nserver.port = {port}\nserver.document-root = \"{}\"\n",
        files.display()
    );
    let file = directory.join("archives.conf");
    std::fs::write(&file, settings).with_context(|| format!("writing `{}`", file.display()))?;
    let arguments = ["-D".into(), "-f".into(), file.into()];
    let log = directory.join("archives.log");
    listen("the server of archives", "lighttpd", &arguments, port, &log, lifetime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::needs::{Need, present};
    use crate::process::run;

    #[test]
    fn a_port_is_given_once_and_no_connection_takes_it() {
        let (first, second) = (free_port().unwrap(), free_port().unwrap());
        assert!(first != second && PORTS.contains(&first) && PORTS.contains(&second));
        // Another process asks in the same way.
        assert!(!is_reserved(first));
    }

    #[test]
    fn the_rsync_daemon_lists_both_modules() {
        if !present(&[Need::Program("rsync")]) {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let [install, metadata] = ["install", "metadata"].map(|name| scratch.path().join(name));
        std::fs::create_dir_all(install.join("D12-F.1.0.0/mysql")).unwrap();
        std::fs::create_dir_all(&metadata).unwrap();
        let port = free_port().unwrap();
        let daemon = rsync_daemon(scratch.path(), port, &install, &metadata, Lifetime::Scoped);
        let _daemon = daemon.unwrap();
        let listing =
            run("rsync", [format!("rsync://127.0.0.1:{port}/install/D12-F.1.0.0/")]).unwrap();
        assert!(listing.contains("mysql"), "{listing}");
    }

    #[test]
    fn a_taken_port_is_an_error_that_names_it() {
        let taken = TcpListener::bind(local(0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path();
        let error = rsync_daemon(path, port, path, path, Lifetime::Scoped).unwrap_err();
        assert!(error.to_string().contains(&format!("port {port} is wanted")), "{error:#}");
    }
}
