//! The root the agent works in: the kernel's file systems, then the squashfs of the initrd below
//! an overlay in memory, with optional groups (`/groups`) on top of it.
//!
//! The squashfs stays compressed in memory. What a group brings hides what the squashfs has at
//! the same path. In an initramfs without `/root.squashfs` the root stays what it is.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot};

use super::{AGENT, loop_device};

const SQUASHFS: &str = "/root.squashfs";
const MODULES: &str = "/modules";
const GROUPS: &str = "/groups";

/// Why the root could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A file system could not be mounted.
    #[error("cannot mount {what} on {target}")]
    Mount {
        /// What was to be mounted.
        what: String,
        /// Where.
        target: String,
        /// Why.
        #[source]
        source: Errno,
    },
    /// A kernel module that the root needs could not be loaded.
    #[error("cannot load the kernel module {module}")]
    Module {
        /// Its file.
        module: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The image could not be attached to a loop device.
    #[error("cannot attach {SQUASHFS} to a loop device")]
    Loop(#[source] io::Error),
    /// A file or folder of the initrd could not be used.
    #[error("cannot prepare {path}")]
    Path {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The root could not be changed.
    #[error("cannot make {NEW_ROOT} the root")]
    Switch(#[source] Errno),
}

const NEW_ROOT: &str = "/new-root";

/// Mounts what every program expects: proc, sys, dev, pts, run, tmp. What is there already
/// (`devtmpfs` of a kernel that mounts it itself) is left.
pub(super) fn mount_kernel_filesystems() -> Result<(), InitError> {
    let harmless = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for (kind, target, flags, data) in [
        ("proc", "/proc", harmless, ""),
        ("sysfs", "/sys", harmless, ""),
        ("devtmpfs", "/dev", MsFlags::MS_NOSUID, "mode=0755"),
        ("devpts", "/dev/pts", MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, "mode=0620,gid=5"),
        ("tmpfs", "/run", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=0755"),
    ] {
        make_folder(Path::new(target))?;
        match mount_one(kind, Path::new(target), kind, flags, data) {
            Err(InitError::Mount { source: Errno::EBUSY, .. }) | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
    make_folder(Path::new("/tmp"))
}

/// Makes the root and puts the agent into it; says what it is made of.
pub(super) fn make_root() -> Result<((), String), InitError> {
    let agent = std::env::current_exe()
        .map_err(|source| InitError::Path { path: "/proc/self/exe".to_owned(), source })?;
    let image = match File::open(SQUASHFS) {
        Ok(image) => image,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            place_agent(&agent, Path::new(AGENT))?;
            return Ok(((), "as it came".to_owned()));
        }
        Err(source) => return Err(InitError::Path { path: SQUASHFS.to_owned(), source }),
    };
    let modules = load_modules(Path::new(MODULES))?;
    let groups = mount_overlay(&image)?;
    place_agent(&agent, &Path::new(NEW_ROOT).join(&AGENT[1..]))?;
    switch_root()?;
    Ok(((), format!("{modules} modules, squashfs{}", if groups { ", groups" } else { "" })))
}

/// Loads the modules that `order` names, one file name a line; returns how many there were.
fn load_modules(folder: &Path) -> Result<usize, InitError> {
    let order = match fs::read_to_string(folder.join("order")) {
        Ok(order) => order,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => {
            return Err(InitError::Path { path: format!("{MODULES}/order"), source });
        }
    };
    let names: Vec<&str> = order.split_whitespace().collect();
    for name in &names {
        let failed = |source| InitError::Module { module: (*name).to_owned(), source };
        let file = File::open(folder.join(name)).map_err(failed)?;
        match finit_module(&file, &CString::default(), ModuleInitFlags::empty()) {
            // The kernel has it already.
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
    }
    Ok(names.len())
}

/// Mounts squashfs and overlay on [`NEW_ROOT`]; returns whether there were groups.
fn mount_overlay(image: &File) -> Result<bool, InitError> {
    let device = loop_device::attach(image).map_err(InitError::Loop)?;
    let (lower, memory) = (Path::new("/squashfs"), Path::new("/overlay"));
    for folder in [lower, memory, Path::new(NEW_ROOT)] {
        make_folder(folder)?;
    }
    mount_one(&device.display().to_string(), lower, "squashfs", MsFlags::MS_RDONLY, "")?;
    mount_one("tmpfs", memory, "tmpfs", MsFlags::MS_NOSUID, "mode=0755")?;
    for folder in ["upper", "work"] {
        make_folder(&memory.join(folder))?;
    }
    let groups = fs::read_dir(GROUPS).is_ok_and(|mut entries| entries.next().is_some());
    let lowers = if groups { format!("{GROUPS}:/squashfs") } else { "/squashfs".to_owned() };
    let data = format!("lowerdir={lowers},upperdir=/overlay/upper,workdir=/overlay/work");
    mount_one("overlay", Path::new(NEW_ROOT), "overlay", MsFlags::empty(), &data)?;
    Ok(groups)
}

/// Makes the agent visible at `target` without a second copy of it in memory.
fn place_agent(agent: &Path, target: &Path) -> Result<(), InitError> {
    let failed = |source| InitError::Path { path: target.display().to_string(), source };
    if let Some(folder) = target.parent() {
        make_folder(folder)?;
    }
    File::options().create(true).append(true).open(target).map_err(failed)?;
    mount(Some(agent), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(|source| {
        InitError::Mount {
            what: agent.display().to_string(),
            target: target.display().to_string(),
            source,
        }
    })
}

/// Takes the kernel's file systems along and makes [`NEW_ROOT`] the root.
fn switch_root() -> Result<(), InitError> {
    for moved in ["/proc", "/sys", "/dev", "/run"] {
        let target = PathBuf::from(format!("{NEW_ROOT}{moved}"));
        make_folder(&target)?;
        mount(Some(moved), &target, None::<&str>, MsFlags::MS_MOVE, None::<&str>).map_err(
            |source| InitError::Mount {
                what: moved.to_owned(),
                target: target.display().to_string(),
                source,
            },
        )?;
    }
    make_folder(&Path::new(NEW_ROOT).join("tmp"))?;
    chdir(NEW_ROOT)
        .and_then(|()| mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>))
        .and_then(|()| chroot("."))
        .and_then(|()| chdir("/"))
        .map_err(InitError::Switch)
}

fn mount_one(
    what: &str,
    target: &Path,
    kind: &str,
    flags: MsFlags,
    data: &str,
) -> Result<(), InitError> {
    mount(Some(what), target, Some(kind), flags, Some(data)).map_err(|source| InitError::Mount {
        what: what.to_owned(),
        target: target.display().to_string(),
        source,
    })
}

fn make_folder(path: &Path) -> Result<(), InitError> {
    fs::create_dir_all(path)
        .map_err(|source| InitError::Path { path: path.display().to_string(), source })
}
