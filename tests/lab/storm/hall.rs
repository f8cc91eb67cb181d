//! Where a storm takes place: a deployment in a folder, and the server that is stormed and killed.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result};

use super::client::Door;
use super::fleet;
use crate::artifacts::checkout;
use crate::process::{Lifetime, Service, wait_until};
use crate::services;

/// Which front is stormed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Front {
    /// `edeploy-server serve`.
    Serve,
    /// `edeploy-cgi` behind lighttpd.
    Cgi,
}

/// The programs under test.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `edeploy-server`.
    pub server: PathBuf,
    /// `edeploy-cgi`.
    pub cgi: PathBuf,
}

impl Programs {
    /// Both, in this folder.
    pub fn in_folder(folder: &Path) -> Programs {
        Programs { server: folder.join("edeploy-server"), cgi: folder.join("edeploy-cgi") }
    }
}

/// How many more than there are entries `state` allows of each profile: a machine that finds no
/// entry is told so, and not that nobody wants it.
pub const SPARE: usize = 1;

/// How large the deployment is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Profiles, at most [`fleet::KINDS`].
    pub profiles: usize,
    /// CMDB entries, all profiles together.
    pub entries: usize,
}

impl Size {
    /// Entries of one profile.
    pub fn entries_of(&self, profile: usize) -> usize {
        self.entries / self.profiles + usize::from(profile < self.entries % self.profiles)
    }
}

/// The deployment and its server.
#[derive(Debug)]
pub struct Hall {
    /// The folder of everything.
    pub folder: PathBuf,
    /// How large it is.
    pub size: Size,
    front: Front,
    programs: Programs,
    port: u16,
    running: Mutex<Option<Service>>,
}

impl Hall {
    /// Writes the deployment below `folder`. Nothing runs yet.
    pub fn new(folder: &Path, size: Size, front: Front, programs: Programs) -> Result<Hall> {
        let config = folder.join("config");
        std::fs::create_dir_all(&config)?;
        let profiles = checkout().join("specs/profiles");
        let configure = std::fs::read_to_string(profiles.join("vm.configure"))?;
        let mut state = String::from("[\n");
        for profile in 0..size.profiles {
            let name = profile_name(profile);
            let entries = size.entries_of(profile);
            state.push_str(&format!(" (\"{name}\", {}),\n", entries + SPARE));
            std::fs::write(config.join(format!("{name}.specs")), fleet::specs(profile))?;
            std::fs::write(config.join(format!("{name}.configure")), &configure)?;
            std::fs::write(config.join(format!("{name}.cmdb")), cmdb(profile, entries))?;
        }
        state.push_str("]\n");
        std::fs::write(config.join("state"), state)?;
        let conf =
            "[SERVER]\nCONFIGDIR=config\nHWDIR=hw\nLOGDIR=logs\nRATELIMIT=0\nMACHINERATE=0\n";
        std::fs::write(folder.join("edeploy.conf"), conf)?;
        let port = services::free_port()?;
        let folder = folder.to_owned();
        Ok(Hall { folder, size, front, programs, port, running: Mutex::new(None) })
    }

    /// The file edeploy.conf.
    pub fn configuration(&self) -> PathBuf {
        self.folder.join("edeploy.conf")
    }

    /// Where machines send to.
    pub fn door(&self) -> Door {
        let path = match self.front {
            Front::Serve => String::new(),
            Front::Cgi => "/cgi-bin/edeploy".to_owned(),
        };
        Door { address: services::local(self.port), path }
    }

    /// Starts the front and waits until it listens.
    pub fn start(&self) -> Result<()> {
        let configuration = self.configuration();
        let service = match self.front {
            Front::Serve => services::edeploy_server(
                &self.programs.server,
                &configuration,
                self.port,
                &self.folder.join("server.log"),
                Lifetime::Scoped,
            )?,
            Front::Cgi => services::lighttpd(
                &self.folder,
                &self.programs.cgi,
                &configuration,
                self.port,
                Lifetime::Scoped,
            )?,
        };
        *self.running()? = Some(service);
        Ok(())
    }

    /// As [`Hall::start`], with the server under `strace` and these options of it.
    pub fn start_under_strace(&self, options: &[String]) -> Result<()> {
        let service = services::edeploy_server_under_strace(
            options,
            &self.programs.server,
            &self.configuration(),
            self.port,
            &self.folder.join("server.log"),
        )?;
        *self.running()? = Some(service);
        Ok(())
    }

    /// The programs it runs.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Id of the process that runs.
    pub fn id(&self) -> Result<u32> {
        Ok(self.running()?.as_ref().context("no server runs")?.id())
    }

    /// SIGKILL; waits for the end.
    pub fn kill(&self) -> Result<()> {
        if let Some(service) = self.running()?.take() {
            service.kill()?;
        }
        // A web server's child that is not a CGI program yet holds the port for a moment longer.
        wait_until("the port to be free", Duration::from_secs(10), || {
            Ok((!services::is_served(self.port)).then_some(()))
        })?;
        Ok(())
    }

    /// SIGKILL, and a new one.
    pub fn kill_and_restart(&self) -> Result<()> {
        self.kill()?;
        self.start()
    }

    /// SIGTERM; waits for the end.
    pub fn stop(&self) -> Result<()> {
        let Some(service) = self.running()?.take() else { return Ok(()) };
        let id = nix::unistd::Pid::from_raw(i32::try_from(service.id())?);
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM)?;
        service.wait_for_end(Duration::from_secs(30))
    }

    /// Resident memory in bytes and open descriptors of the server process.
    pub fn footprint(&self) -> Result<(u64, usize)> {
        let guard = self.running()?;
        let id = guard.as_ref().context("no server runs")?.id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
            .context("no VmRSS")?;
        let descriptors = std::fs::read_dir(format!("/proc/{id}/fd"))?.count();
        Ok((kib << 10, descriptors))
    }

    /// Waits until the server says that it can work.
    pub fn wait_until_ready(&self) -> Result<()> {
        let door = self.door();
        wait_until("the server to be ready", Duration::from_secs(60), || {
            let answer = door.send(b"GET /readyz HTTP/1.1\r\nHost: storm\r\n\r\n");
            Ok(answer.filter(|answer| answer.status == 200).map(|_| ()))
        })
    }

    fn running(&self) -> Result<std::sync::MutexGuard<'_, Option<Service>>> {
        self.running.lock().map_err(|_| anyhow::anyhow!("a thread of the storm panicked"))
    }
}

/// The name of a profile.
pub fn profile_name(profile: usize) -> String {
    format!("kind{profile}")
}

fn cmdb(profile: usize, entries: usize) -> String {
    let mut text = String::with_capacity(100 * entries);
    text.push_str("[\n");
    for entry in 0..entries {
        // The first address of the network is nobody's.
        let [.., c, a, b] = (entry + 1).to_be_bytes();
        text.push_str(&format!(
            " {{\"gateway\": \"10.255.255.254\", \"hostname\": \"k{profile}-{entry}\", \"ip\": \
             \"10.{c}.{a}.{b}\", \"netmask\": \"255.0.0.0\"}},\n"
        ));
    }
    text.push_str("]\n");
    text
}
