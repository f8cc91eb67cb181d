//! `<profile>.configure`: what a machine of a profile shall be, as the admin wrote it.
//!
//! Nouns, not verbs, and no values of a machine: every string is a template that stays
//! unrendered until [`crate::plan::build`] has the variables of one match. Reading is strict (an
//! unknown field, a field given twice or an unquoted mode is an error) and every finding has a
//! line and a column, which `ron` alone does not give: [`places`] remembers where things stand.
//!
//! Not here: deciding anything about disks or addresses (the planner does), and the Python
//! scripts of the original, which are recognised, named and otherwise left to `import`.

pub mod places;
pub mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;

use crate::diagnostic::{Code, Diagnostic};
use crate::dialect::ron_options;
use places::Places;
pub use places::is_python;

/// A configure file that was read without a finding.
#[derive(Debug, Clone)]
pub struct Configure {
    /// The file's name, for messages.
    pub file: String,
    /// What it says.
    pub machine: Machine,
    /// Where in the file it says so.
    pub places: Places,
}

/// A place in a configure file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// File name without folders.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// The whole of a configure file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The role tree.
    pub role: RoleText,
    /// Host name, RFC 1123.
    pub hostname: String,
    /// The disks to write to. A disk that is not listed is not touched.
    pub disks: Vec<Disk>,
    /// Network of the installed system; left as the role has it when absent.
    #[serde(default)]
    pub network: Network,
    /// Files of the installed system.
    #[serde(default)]
    pub files: Vec<FileText>,
    /// Arguments of the installed system's kernel, one each.
    #[serde(default)]
    pub kernel_args: Vec<String>,
    /// Commands and scripts of the admin.
    #[serde(default)]
    pub run: Vec<Run>,
}

/// A role tree, as templates.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleText {
    /// Name of the role.
    pub name: String,
    /// Version of the role.
    pub version: String,
}

/// A disk, or with `each` one disk per item.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// The entry is repeated for every item, which its strings call `{{ item }}`. An item that
    /// is the name of a variable stands for that variable's value.
    #[serde(default)]
    pub each: Option<Vec<String>>,
    /// `/dev/<kernel name>` or `/dev/disk/by-id/<name>`.
    pub device: String,
    /// The partition table.
    pub table: TableKind,
    /// Whether the machine boots from this disk and the partition for that is to be added.
    #[serde(default)]
    pub boot: Option<Boot>,
    /// In the order in which they lie on the disk.
    pub partitions: Vec<PartitionText>,
}

/// Kinds of partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableKind {
    /// GUID partition table.
    Gpt,
    /// MBR: four primary partitions, 2 TiB at 512-byte sectors.
    Msdos,
}

/// Value of `boot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Boot {
    /// Add what the firmware in the facts needs: a BIOS boot partition or an ESP.
    Auto,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionText {
    /// GPT name and file system label.
    #[serde(default)]
    pub label: Option<String>,
    /// `512MiB`, `10GB`, `20%` of the disk, or `rest`.
    pub size: String,
    /// What it is for.
    #[serde(rename = "use")]
    pub usage: Use,
}

/// What a partition is for.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Use {
    /// A file system.
    Filesystem {
        /// Its type.
        #[serde(rename = "type")]
        kind: FilesystemKind,
        /// Where it is mounted; made but not mounted when absent.
        #[serde(default)]
        mount: Option<String>,
        /// Mount options, one each: `noatime`.
        #[serde(default)]
        mount_options: Vec<String>,
        /// More arguments for the `mkfs` of the type, one each: `-m`, `0`.
        #[serde(default)]
        mkfs_options: Vec<String>,
    },
    /// A swap area.
    Swap,
    /// GRUB's core image on GPT under BIOS.
    BiosBoot,
    /// EFI system partition, mounted at `/boot/efi`.
    Esp,
}

/// Types of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilesystemKind {
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
    /// FAT32.
    Vfat,
}

/// The network of the installed system.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Its interfaces.
    #[serde(default)]
    pub interfaces: Vec<Interface>,
    /// Addresses of name servers, for `/etc/resolv.conf`.
    #[serde(default)]
    pub dns: Vec<String>,
}

/// A network interface, found again by its MAC address.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// What the initrd called it; names the file and finds the MAC when `mac` is absent.
    pub name: String,
    /// Its address; taken from the facts when absent.
    #[serde(default)]
    pub mac: Option<String>,
    /// How it gets its address.
    pub address: Address,
    /// Default gateway; must lie in the network of the address.
    #[serde(default)]
    pub gateway: Option<String>,
}

/// How an interface gets its address.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// Address and prefix length (`10.0.2.103/24`) or netmask (`10.0.2.103/255.255.255.0`).
    Static(String),
    /// DHCP.
    Dhcp,
}

/// A file of the installed system.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileText {
    /// Absolute path.
    pub path: String,
    /// What it holds.
    pub content: String,
    /// Permission bits in octal, as text: `"0644"`.
    #[serde(default = "default_mode")]
    pub mode: String,
    /// Owner, numeric.
    #[serde(default)]
    pub uid: u32,
    /// Group, numeric.
    #[serde(default)]
    pub gid: u32,
}

fn default_mode() -> String {
    "0644".to_owned()
}

/// A command or script of the admin.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Names the step.
    pub name: String,
    /// When.
    #[serde(default)]
    pub at: Moment,
    /// Whether it runs inside the installed tree rather than in the initrd.
    #[serde(default)]
    pub chroot: bool,
    /// Program and arguments, never a shell line. Either this or `script`.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// Name of a script file in the configuration directory. Scripts are not templates: they
    /// get the variables in their environment.
    #[serde(default)]
    pub script: Option<String>,
    /// After this many seconds the step has failed.
    #[serde(default = "default_deadline")]
    pub deadline_seconds: u32,
}

fn default_deadline() -> u32 {
    600
}

/// When a `run` step takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Before the first disk is touched.
    BeforeDisks,
    /// When all file systems are mounted, before the tree is fetched.
    BeforeTree,
    /// When tree and files are in place, before the boot loader.
    #[default]
    AfterTree,
}

impl Configure {
    /// Reads a configure file. `file` is its name, for messages.
    ///
    /// # Errors
    ///
    /// Every finding at once where that is possible, in the order of the file.
    pub fn parse(file: &str, text: &str) -> Result<Configure, Vec<Diagnostic>> {
        if places::is_python(text) {
            return Err(vec![python_script(file, text)]);
        }
        let scan = places::scan(text);
        let mut findings: Vec<Diagnostic> = scan
            .problems
            .iter()
            .map(|problem| {
                let span = places::span(text, problem.place);
                Diagnostic::error(Code::ConfigureValue, file, text, span, &problem.what)
                    .with_help(&problem.help)
            })
            .collect();
        let machine = match ron_options().from_str::<Machine>(text) {
            Ok(machine) => Some(machine),
            Err(error) => {
                // A value the scan complained about is often what ron trips over as well.
                if findings.is_empty() {
                    findings.push(syntax_error(file, text, &error));
                }
                None
            }
        };
        for (place, string) in scan.places.strings() {
            if let Err(error) = template::check(string) {
                let span = places::span(text, place);
                let finding =
                    Diagnostic::error(Code::Template, file, text, span, error.to_string());
                let help = error.help();
                let help = help.unwrap_or_else(|| "a variable is written `{{ name }}`".to_owned());
                findings.push(finding.with_help(help));
            }
        }
        match machine {
            Some(machine) if findings.is_empty() => {
                Ok(Configure { file: file.to_owned(), machine, places: scan.places })
            }
            _ => {
                findings.sort_by_key(|finding| (finding.line, finding.column));
                Err(findings)
            }
        }
    }

    /// The place of the value at `path`, for example `disks[0].partitions[1].size`; of the
    /// nearest thing around it when the file does not spell it out.
    pub fn at(&self, path: &str) -> At {
        let (line, column) = self.places.of(path);
        At { file: self.file.clone(), line, column }
    }

    /// The names of the script files that its `run` steps need, for the caller to read.
    pub fn scripts(&self) -> BTreeSet<&str> {
        self.machine.run.iter().filter_map(|run| run.script.as_deref()).collect()
    }

    /// The variables that its templates use, as `{{ … }}` writes them (dashes as underscores),
    /// each with the places where.
    pub fn variables(&self) -> BTreeMap<String, Vec<At>> {
        let mut found: BTreeMap<String, Vec<At>> = BTreeMap::new();
        for (place, text) in self.places.strings() {
            let (line, column) = place;
            for name in template::variables(text) {
                found.entry(name).or_default().push(At { file: self.file.clone(), line, column });
            }
        }
        found
    }
}

/// A script of the original cannot be used; this says so in the words the documentation uses.
fn python_script(file: &str, text: &str) -> Diagnostic {
    let message =
        format!("{file} is a Python script of the original: edeploy-server import DIR OUT");
    let start = places::span(text, (1, 1));
    Diagnostic::error(Code::ConfigurePython, file, text, start, message)
        .with_help("the import converts what it can and lists the rest")
}

/// What ron found, in the words of someone who edits the file.
fn syntax_error(file: &str, text: &str, error: &ron::error::SpannedError) -> Diagnostic {
    use ron::Error;
    let help = match &error.code {
        Error::NoSuchStructField { expected, found, .. }
        | Error::NoSuchEnumVariant { expected, found, .. } => did_you_mean(found, expected),
        Error::MissingStructField { field, .. } => format!("add `{field}: …` before this place"),
        Error::ExpectedString => "a text stands in double quotes".to_owned(),
        _ => "specs/README.md shows a configure file that can be read".to_owned(),
    };
    let what = match &error.code {
        Error::NoSuchStructField { found, .. } => format!("there is no field `{found}` here"),
        Error::NoSuchEnumVariant { found, .. } => format!("`{found}` is not possible here"),
        Error::MissingStructField { field, .. } => format!("the field `{field}` is missing"),
        other => {
            let text = other.to_string();
            let mut characters = text.chars();
            characters.next().map(|c| c.to_lowercase().chain(characters).collect()).unwrap_or(text)
        }
    };
    let span = places::span(text, (error.span.start.line, error.span.start.col));
    Diagnostic::error(Code::ConfigureSyntax, file, text, span, what).with_help(help)
}

/// The nearest of the possible words when one is near, all of them otherwise.
fn did_you_mean(found: &str, possible: &[&str]) -> String {
    let nearest = possible.iter().map(|word| (distance(found, word), word)).min();
    match nearest {
        Some((distance, word)) if distance <= 2.max(found.len() / 3) => {
            format!("did you mean `{word}`?")
        }
        _ => {
            let words: Vec<String> = possible.iter().map(|word| format!("`{word}`")).collect();
            format!("possible: {}", words.join(", "))
        }
    }
}

/// Levenshtein's distance, in characters.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests;
