//! One site: a configuration, the servers around it, and the machines that boot there.
//!
//! A site is a folder. Everything it changes lies below it, so two sites never meet; what a
//! failed test leaves is that folder. The samples are those of `specs/profiles/`, unless a file
//! of the caller's stands in for one of them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use specs::facts::Firmware;

use crate::artifacts::{Artifacts, ROLE, VERSION, checkout};
use crate::boot_files::{BootFiles, boot_file};
use crate::process::{Lifetime, Service, run};
use crate::scratch::ensure_room;
use crate::services::{edeploy_server, free_port, rsync_daemon};
use crate::ssh::{Login, key};
use crate::vm::{Accelerator, Boot, Bus, Disk, Machine};

/// The profile of the samples.
pub const PROFILE: &str = "vm";

/// The version that the rsync daemon offers an upgrade to.
pub const UPGRADE: &str = "D12-F.1.0.1";

/// What differs from the samples.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// In place of `vm.specs`.
    pub specs: Option<PathBuf>,
    /// In place of `vm.cmdb`.
    pub cmdb: Option<PathBuf>,
    /// In place of `vm.configure`.
    pub configure: Option<PathBuf>,
}

/// The ports of the servers on 127.0.0.1.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// edeploy-server.
    pub http: u16,
    /// The rsync daemon.
    pub rsync: u16,
}

impl Ports {
    /// Those of the README's boot configuration.
    pub const README: Ports = Ports { http: 9000, rsync: 1515 };

    /// Ports that nobody uses, so that sites can stand side by side.
    pub fn free() -> Result<Ports> {
        Ok(Ports { http: free_port()?, rsync: free_port()? })
    }
}

/// A configuration with the folders its servers and machines need.
#[derive(Debug)]
pub struct Site {
    /// Where everything of it lies.
    pub directory: PathBuf,
    /// What it was built from.
    pub artifacts: Artifacts,
    /// Where its servers listen.
    pub ports: Ports,
    /// What runs its machines.
    pub accelerator: Accelerator,
    /// Whether what it starts outlives the lab.
    pub lifetime: Lifetime,
    key: PathBuf,
}

impl Site {
    /// Lays out a site in `directory`; nothing runs yet.
    pub fn new(
        directory: &Path,
        artifacts: &Artifacts,
        ports: Ports,
        overrides: &Overrides,
        lifetime: Lifetime,
    ) -> Result<Site> {
        ensure_room(directory)?;
        for name in ["config", "logs", "hw", "metadata", "install", "tftp"] {
            let made = directory.join(name);
            std::fs::create_dir_all(&made)
                .with_context(|| format!("making `{}`", made.display()))?;
        }
        let site = Site {
            directory: directory.to_owned(),
            artifacts: artifacts.clone(),
            ports,
            accelerator: Accelerator::probe(&artifacts.kernel),
            lifetime,
            key: key(directory)?,
        };
        site.write_configuration(overrides)?;
        site.share_role_trees()?;
        site.offer_upgrade()?;
        site.set_arguments("")?;
        Ok(site)
    }

    /// CONFIGDIR, from the samples, and the `edeploy.conf` that names it.
    fn write_configuration(&self, overrides: &Overrides) -> Result<()> {
        let samples = checkout().join("specs/profiles");
        let own = |kind: &str, file: &Option<PathBuf>| {
            let sample = || samples.join(format!("{PROFILE}.{kind}"));
            (format!("{PROFILE}.{kind}"), file.clone().unwrap_or_else(sample))
        };
        let files = [
            ("state".to_owned(), samples.join("state")),
            own("specs", &overrides.specs),
            own("cmdb", &overrides.cmdb),
            own("configure", &overrides.configure),
        ];
        for (name, source) in files {
            // Read and written, not copied: the copy must be writable whatever the source is.
            let text = std::fs::read(&source)
                .with_context(|| format!("reading `{}`", source.display()))?;
            std::fs::write(self.config(&name), text)?;
        }
        let directory = self.directory.display();
        let text = format!(
            "[SERVER]\n\nCONFIGDIR = {directory}/config\nLOGDIR = {directory}/logs\n\
             HWDIR = {directory}/hw\nLOCKFILE = {directory}/edeploy.lock\n"
        );
        std::fs::write(self.configuration(), text).context("writing edeploy.conf")
    }

    /// The cached role trees by hard links, with the lab's key for root in each: how the lab
    /// logs in whatever the configure file says. The cache itself stays as it is.
    fn share_role_trees(&self) -> Result<()> {
        let mut source = self.artifacts.install.clone().into_os_string();
        source.push("/.");
        let target = self.directory.join("install");
        run("cp", ["-al".into(), source, target.clone().into_os_string()])?;
        let public = std::fs::read_to_string(self.key.with_extension("pub"))?;
        for version in std::fs::read_dir(&target)? {
            for tree in std::fs::read_dir(version?.path())? {
                let tree = tree?.path();
                if !tree.join("etc").is_dir() {
                    continue;
                }
                let ssh = tree.join("root/.ssh");
                std::fs::create_dir_all(&ssh)?;
                std::fs::write(ssh.join("authorized_keys"), &public)?;
            }
        }
        Ok(())
    }

    /// Metadata of one upgrade from the installed version, for `edeploy list` to find.
    fn offer_upgrade(&self) -> Result<()> {
        let edge = self.directory.join("metadata").join(VERSION).join(ROLE).join(UPGRADE);
        std::fs::create_dir_all(&edge).with_context(|| format!("making `{}`", edge.display()))?;
        std::fs::write(edge.join("exclude"), "/etc\n/home\n/root\n/var\n")?;
        std::fs::write(edge.join("add_only"), "- *\n")?;
        Ok(())
    }

    /// Writes the boot files, with these arguments for the agent beside the lab's own, which are
    /// the README's. The last one of a name counts.
    pub fn set_arguments(&self, more: &str) -> Result<()> {
        let Ports { http, rsync } = self.ports;
        let arguments = format!(
            "SERV=10.0.2.2 RSERV_PORT={rsync} HTTP_PORT={http} HTTP_PATH=/cgi-bin/edeploy/ \
             ONSUCCESS=reboot ONFAILURE=halt UPLOAD_LOG=1 {more}"
        );
        BootFiles {
            kernel: &self.artifacts.kernel,
            initrds: &[&self.artifacts.initrd],
            arguments: arguments.trim_end(),
        }
        .write(&self.tftp())
    }

    /// The folder of the boot files.
    pub fn tftp(&self) -> PathBuf {
        self.directory.join("tftp")
    }

    /// A file of CONFIGDIR.
    pub fn config(&self, name: &str) -> PathBuf {
        self.directory.join("config").join(name)
    }

    /// The text of a file of CONFIGDIR.
    pub fn config_text(&self, name: &str) -> Result<String> {
        let path = self.config(name);
        std::fs::read_to_string(&path).with_context(|| format!("reading `{}`", path.display()))
    }

    /// `edeploy.conf`.
    pub fn configuration(&self) -> PathBuf {
        self.directory.join("edeploy.conf")
    }

    /// Starts the server.
    pub fn start_server(&self) -> Result<Service> {
        let log = self.directory.join("server.log");
        let program = &self.artifacts.server;
        edeploy_server(program, &self.configuration(), self.ports.http, &log, self.lifetime)
    }

    /// Starts the rsync daemon.
    pub fn start_rsync_daemon(&self) -> Result<Service> {
        let install = self.directory.join("install");
        let metadata = self.directory.join("metadata");
        rsync_daemon(&self.directory, self.ports.rsync, &install, &metadata, self.lifetime)
    }

    /// Gives a command of the admin's, for example `["reinstall", "host03"]`.
    pub fn admin(&self, arguments: &[&str]) -> Result<String> {
        let configuration = self.configuration().display().to_string();
        let mut line = arguments.to_vec();
        line.extend(["--config", &configuration]);
        run(&self.artifacts.server.to_string_lossy(), line)
    }

    /// A new machine of this site with blank disks of these sizes, network first.
    pub fn machine(
        &self,
        name: &str,
        firmware: Firmware,
        memory: u32,
        disks: &[u64],
    ) -> Result<Machine> {
        ensure_room(&self.directory)?;
        let directory = self.directory.join(name);
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("making `{}`", directory.display()))?;
        let mut described = Vec::new();
        for (index, bytes) in disks.iter().enumerate() {
            let image = directory.join(format!("disk{index}"));
            crate::disk::blank(&image, *bytes)?;
            let serial = format!("{}-DISK{index}", name.to_uppercase());
            described.push(Disk { image, bus: Bus::Virtio, serial });
        }
        Ok(Machine {
            name: name.to_owned(),
            directory,
            firmware,
            memory,
            mac: mac_of(name),
            disks: described,
            boot: self.network_first(firmware),
            forwards: Vec::new(),
        })
    }

    /// Booting from this site's network.
    pub fn network_first(&self, firmware: Firmware) -> Boot {
        Boot::NetworkFirst { tftp: self.tftp(), file: boot_file(firmware).to_owned() }
    }

    /// How to log in to a machine through this port.
    pub fn login(&self, port: u16) -> Login {
        Login { key: self.key.clone(), port }
    }
}

/// An address of QEMU's own range, the same for the same name.
fn mac_of(name: &str) -> String {
    let digest = blake3::hash(name.as_bytes());
    let [a, b, c, ..] = digest.as_bytes();
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_of_different_names_have_different_addresses() {
        assert_ne!(mac_of("one"), mac_of("two"));
        assert_eq!(mac_of("one"), mac_of("one"));
        assert!(mac_of("one").parse::<specs::units::Mac>().is_ok());
    }
}
