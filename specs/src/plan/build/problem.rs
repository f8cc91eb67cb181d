//! What can be wrong with a plan before there is one, each with what to do about it.

use crate::configure::template::TemplateError;
use crate::units::Bytes;

/// Why a configure file gives no plan for a machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A string that cannot be rendered.
    #[error("{error}{}", .error.help().map(|help| format!(" ({help})")).unwrap_or_default())]
    Template {
        /// Why.
        error: TemplateError,
    },
    /// A role or version that could not be part of a path.
    #[error(
        "`{text}` is not a role or version: letters, digits, `.`, `_`, `+`, `-`; first a letter or digit"
    )]
    RoleName {
        /// What it is.
        text: String,
    },
    /// Not RFC 1123, or longer than Linux keeps.
    #[error(
        "`{name}` is not a host name: at most 64 letters, digits and dashes, with dots between its parts"
    )]
    Hostname {
        /// What it is.
        name: String,
    },
    /// The facts hold no such disk.
    #[error("there is no disk `{device}` (disks of this machine: {})", list(.known))]
    UnknownDisk {
        /// The path as rendered.
        device: String,
        /// The disks there are.
        known: Vec<String>,
    },
    /// More than one disk is meant.
    #[error("`{device}` may be any of {}: use a name that only one disk has", list(.candidates))]
    AmbiguousDisk {
        /// The path as rendered.
        device: String,
        /// The disks it may be.
        candidates: Vec<String>,
    },
    /// The facts do not say how large the disk is.
    #[error("the facts hold no size of {disk}: nothing can be placed on it")]
    DiskSize {
        /// Path of the disk.
        disk: String,
    },
    /// Two entries are the same disk.
    #[error("{disk} is listed twice: one entry per disk")]
    DiskTwice {
        /// Path of the disk.
        disk: String,
    },
    /// A disk without partitions.
    #[error("a listed disk is erased and needs at least one partition: add one or remove the disk")]
    NoPartitions,
    /// A size that cannot be read.
    #[error(
        "`{text}` is not a size: write `512MiB`, `10GB`, `20%` or `rest` (`100%` on the last partition)"
    )]
    Size {
        /// What it is.
        text: String,
    },
    /// More than one `rest`.
    #[error("only one partition of a disk can have the rest: give this one a size")]
    RestTwice,
    /// The disk is too small for all of it.
    #[error(
        "{disk} has {has} and the partitions need {needed}: make them smaller, or ask for a larger disk in the specs"
    )]
    DiskTooSmall {
        /// Path of the disk.
        disk: String,
        /// Its size.
        has: Bytes,
        /// What would do.
        needed: Bytes,
    },
    /// A partition is too small for what it holds.
    #[error("the partition would have {given} and its contents need at least {minimum}")]
    PartitionTooSmall {
        /// What it would have.
        given: Bytes,
        /// What it needs.
        minimum: Bytes,
    },
    /// The table is full.
    #[error(
        "{disk} would need more than the {limit} partitions its table can hold: `table: gpt` holds 128"
    )]
    TooManyPartitions {
        /// Path of the disk.
        disk: String,
        /// What the table holds.
        limit: usize,
    },
    /// Too large for an MBR.
    #[error("`table: msdos` reaches {reach} only and {disk} is larger: use `table: gpt`")]
    BeyondMsdos {
        /// Path of the disk.
        disk: String,
        /// How far it reaches.
        reach: Bytes,
    },
    /// A label the file system or the table cannot hold.
    #[error("`{label}` is not a label here: at most {limit} letters, digits, `.`, `_`, `+`, `-`")]
    Label {
        /// What it is.
        label: String,
        /// The limit of this file system.
        limit: usize,
    },
    /// A mount option that would break fstab.
    #[error("`{option}` is not a mount option: one word each")]
    MountOption {
        /// What it is.
        option: String,
    },
    /// A mount point that cannot be one.
    #[error(
        "`{path}` cannot be a mount point: an absolute path of plain characters, not below /proc, /sys, /dev or /run"
    )]
    MountPoint {
        /// What it is.
        path: String,
    },
    /// Two file systems at one place.
    #[error("two file systems are mounted at `{path}`")]
    MountTwice {
        /// Where.
        path: String,
    },
    /// No root.
    #[error("no file system is mounted at `/`: add `use: filesystem(type: ext4, mount: \"/\")`")]
    NoRoot,
    /// A root that is not for Unix.
    #[error("the root file system must be ext4, xfs or btrfs")]
    RootFilesystem,
    /// More than one ESP.
    #[error("there are two EFI system partitions: keep one")]
    TwoEsps,
    /// More than one `boot: auto`.
    #[error("`boot: auto` stands on two disks: keep the one the machine boots from")]
    TwoBootDisks,
    /// UEFI and MBR.
    #[error("this machine was started by UEFI, which needs `table: gpt` on the disk it boots from")]
    UefiNeedsGpt,
    /// UEFI and no ESP.
    #[error(
        "this machine was started by UEFI and there is no EFI system partition: add `boot: auto` to a disk"
    )]
    NoEsp,
    /// BIOS, GPT and nowhere to put GRUB.
    #[error(
        "this machine was started by BIOS and there is no BIOS boot partition: add `boot: auto` to a disk"
    )]
    NoBiosBoot,
    /// A name that cannot be one of an interface.
    #[error("`{name}` is not an interface name: at most 15 letters, digits, `.`, `_`, `-`")]
    InterfaceName {
        /// What it is.
        name: String,
    },
    /// The same interface twice.
    #[error("the interface `{name}` is configured twice")]
    InterfaceTwice {
        /// Its name or MAC.
        name: String,
    },
    /// Not a MAC, or one that this machine does not have.
    #[error("no network interface of this machine has the MAC address `{mac}` (there are: {})", list(.known))]
    UnknownMac {
        /// What was asked for.
        mac: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No MAC given and none known.
    #[error("the facts hold no MAC address of `{name}`: add `mac:`")]
    NoMac {
        /// Name of the interface.
        name: String,
    },
    /// An address that cannot be one of a host.
    #[error(
        "`{text}` is not an address of a host: write `10.0.2.103/24` or `10.0.2.103/255.255.255.0`"
    )]
    Address {
        /// What it is.
        text: String,
    },
    /// A gateway that cannot be reached.
    #[error("the gateway `{gateway}` is not another host in the network {network}")]
    Gateway {
        /// What it is.
        gateway: String,
        /// The network of the address, or what stands for it.
        network: String,
    },
    /// A name server that is not an address.
    #[error("`{text}` is not the address of a name server")]
    NameServer {
        /// What it is.
        text: String,
    },
    /// A file path that cannot be one.
    #[error(
        "`{path}` cannot be the path of a file: absolute, without `..`, not below /proc, /sys, /dev or /run"
    )]
    FilePath {
        /// What it is.
        path: String,
    },
    /// The same file twice.
    #[error("the file `{path}` is given twice")]
    FileTwice {
        /// Which.
        path: String,
    },
    /// A mode that is not octal text.
    #[error("`{text}` is not a mode: three or four octal digits as text, such as \"0644\"")]
    FileMode {
        /// What it is.
        text: String,
    },
    /// A kernel argument that would change the boot loader's configuration.
    #[error(
        "`{text}` cannot be a kernel argument: one each, without blanks, quotes, `$`, `\\` and back quotes"
    )]
    KernelArgument {
        /// What it is.
        text: String,
    },
    /// Neither or both of `command` and `script`.
    #[error("the run step `{name}` needs either `command` with at least a program, or `script`")]
    RunWhat {
        /// Name of the step.
        name: String,
    },
    /// Two run steps of one name, or an empty one.
    #[error("`{name}` is not a name of its own: every run step needs one, of plain characters")]
    RunName {
        /// Name of the step.
        name: String,
    },
    /// `chroot` where there is no tree yet.
    #[error(
        "the run step `{name}` cannot use `chroot: true` before the tree is there: use `at: after_tree`"
    )]
    RunTooEarly {
        /// Name of the step.
        name: String,
    },
    /// A script file that is not there or cannot be started.
    #[error(
        "the script `{script}` is not in the configuration directory, or does not begin with `#!`"
    )]
    Script {
        /// Its file name.
        script: String,
    },
}

impl From<TemplateError> for Problem {
    fn from(error: TemplateError) -> Problem {
        Problem::Template { error }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
