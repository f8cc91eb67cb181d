//! What the lab runs: the programs, the kernel and initrd, the role tree. Each is built by the
//! same command that a person uses, into caches outside the checkout, and only when it changed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::process::run_shown;

/// The version of the role tree that the samples install.
pub const VERSION: &str = "D12-F.1.0.0";
/// The role that the samples install.
pub const ROLE: &str = "mysql";
/// Its next versions, each with an edge from the one before: other packages, then another kernel.
pub const NEXT_VERSIONS: [&str; 2] = ["D12-F.1.0.1", "D12-F.1.0.2"];
/// What kernel and base initrd may weigh together.
pub const BOOT_LIMIT: u64 = 40 << 20;

/// Where everything lies.
#[derive(Debug, Clone)]
pub struct Artifacts {
    /// The cache, shared by all labs of this user.
    pub cache: PathBuf,
    /// `edeploy-agent`, static.
    pub agent: PathBuf,
    /// `edeploy`, the command of installed hosts, static.
    pub edeploy: PathBuf,
    /// `edeploy-server`.
    pub server: PathBuf,
    /// `edeploy-cgi`.
    pub cgi: PathBuf,
    /// The kernel.
    pub kernel: PathBuf,
    /// The base initrd.
    pub initrd: PathBuf,
    /// The `[install]` module: `<version>/<role>/`.
    pub install: PathBuf,
}

/// The root of the checkout.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// `EDEPLOY_CACHE`, else `edeploy` in the user's cache folder.
pub fn cache() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let user_cache = || match variable("XDG_CACHE_HOME") {
        Some(directory) => PathBuf::from(directory),
        None => PathBuf::from(variable("HOME").unwrap_or_else(|| "/root".into())).join(".cache"),
    };
    variable("EDEPLOY_CACHE").map_or_else(|| user_cache().join("edeploy"), PathBuf::from)
}

/// Where cargo builds.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout().join("target"), PathBuf::from)
}

impl Artifacts {
    /// Where everything would be, built or not.
    pub fn locate() -> Artifacts {
        let cache = cache();
        let of_initrd = target().join("x86_64-unknown-linux-musl/initrd");
        let of_host = target().join("debug");
        Artifacts {
            agent: of_initrd.join("edeploy-agent"),
            edeploy: of_initrd.join("edeploy"),
            server: of_host.join("edeploy-server"),
            cgi: of_host.join("edeploy-cgi"),
            kernel: cache.join("boot/vmlinuz"),
            initrd: cache.join("boot/initrd.pxe"),
            install: cache.join("install"),
            cache,
        }
    }

    /// Builds what is missing or older than its sources, telling what and how long on standard
    /// error.
    pub fn build() -> Result<Artifacts> {
        let artifacts = Artifacts::locate();
        let script = |name: &str| checkout().join("scripts").join(name).display().to_string();
        let path = |path: &Path| path.display().to_string();
        let Artifacts { cache, agent, .. } = &artifacts;
        let boot = cache.join("boot");
        std::fs::create_dir_all(&boot).with_context(|| format!("making `{}`", boot.display()))?;
        let _turn = artifacts.take_turn()?;

        timed("static agent and edeploy", || run_shown(&script("build"), [""; 0]))?;
        timed("server and initrd builder", || {
            run_shown("cargo", ["build", "--quiet", "--locked", "-p", "server", "-p", "mkinitrd"])
        })?;
        timed("vmlinuz and initrd.pxe", || {
            let builder = target().join("debug/mkinitrd");
            run_shown(&path(&builder), ["build", "--agent", &path(agent), "--out", &path(&boot)])
        })?;
        artifacts.build_role(VERSION)?;
        artifacts.check()?;
        Ok(artifacts)
    }

    /// Builds the versions that the installed one is upgraded to.
    pub fn build_next_versions(&self) -> Result<()> {
        let _turn = self.take_turn()?;
        NEXT_VERSIONS.into_iter().try_for_each(|version| self.build_role(version))
    }

    /// Waits for others who build into the same folders; they go on when what is returned goes.
    fn take_turn(&self) -> Result<File> {
        let path = self.cache.join("build.lock");
        let open = || {
            let file = File::create(&path)?;
            file.lock()?;
            Ok::<File, std::io::Error>(file)
        };
        open().with_context(|| format!("waiting for `{}`", path.display()))
    }

    fn build_role(&self, version: &str) -> Result<()> {
        timed(&format!("role tree {version}/{ROLE}"), || {
            let script = checkout().join("scripts/build-role").display().to_string();
            let (edeploy, install) =
                (self.edeploy.display().to_string(), self.install.display().to_string());
            let options = ["--edeploy", &edeploy, "--out", &install, "--version", version, ROLE];
            run_shown(&script, options)
        })
    }

    /// Fails, naming the file, when something is not there.
    pub fn check(&self) -> Result<()> {
        let role = self.install.join(VERSION).join(ROLE);
        let all = [&self.agent, &self.edeploy, &self.server, &self.cgi, &self.kernel, &self.initrd];
        for path in all.into_iter().chain([&role]) {
            ensure!(path.exists(), "`{}` is not there; scripts/lab builds it", path.display());
        }
        Ok(())
    }

    /// As [`Artifacts::check`], and the next versions.
    pub fn check_next_versions(&self) -> Result<()> {
        self.check()?;
        for version in NEXT_VERSIONS {
            let role = self.install.join(version).join(ROLE);
            ensure!(
                role.exists(),
                "`{}` is not there: scripts/build-role --version {version} {ROLE}",
                role.display()
            );
        }
        Ok(())
    }

    /// The bytes of kernel and base initrd.
    pub fn boot_sizes(&self) -> Result<[u64; 2]> {
        let size = |path: &Path| -> Result<u64> {
            let size = path.metadata().with_context(|| format!("looking at `{}`", path.display()));
            Ok(size?.len())
        };
        Ok([size(&self.kernel)?, size(&self.initrd)?])
    }
}

/// Does one part of the set-up and tells how long it took.
fn timed(what: &str, build: impl FnOnce() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    crate::say(&format!("building {what}"));
    build().with_context(|| format!("building {what}"))?;
    crate::say(&format!("built {what} in {:.1} s", start.elapsed().as_secs_f64()));
    Ok(())
}
