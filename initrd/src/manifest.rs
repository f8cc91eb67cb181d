//! What goes into the initrd, and why: the typed form of `manifest.toml`.
//!
//! A manifest only names things. Whether a named program exists, and which libraries and modules
//! come along, is found out when the root is put together.

use std::collections::BTreeSet;

use serde::Deserialize;

/// A whole manifest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The Debian release.
    pub suite: String,
    /// The package of the kernel.
    pub kernel: String,
    /// Modules that `/init` loads itself, before there is a root to load others from.
    pub first_modules: Vec<String>,
    /// What is always in.
    #[serde(rename = "part")]
    pub parts: Vec<Part>,
    /// What can be appended by name.
    #[serde(rename = "group", default)]
    pub groups: Vec<Part>,
}

/// Things that are in for one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// What they are called together.
    pub name: String,
    /// Why they are in.
    pub reason: String,
    /// The Debian packages they come from.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Names of programs of these packages.
    #[serde(default)]
    pub programs: Vec<String>,
    /// Other files of these packages, from the root; one that ends in a slash is a folder.
    #[serde(default)]
    pub files: Vec<String>,
    /// Names under which busybox is started.
    #[serde(default)]
    pub applets: Vec<String>,
    /// Kernel modules, without `.ko`, from the folder `kernel/`; one that ends in a slash is a folder.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Modules to leave out of the folders above, in the same form.
    #[serde(default)]
    pub without: Vec<String>,
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It does not read as a manifest; the source names the place.
    #[error("the manifest cannot be read")]
    Syntax(#[source] Box<toml::de::Error>),
    /// A name is used twice.
    #[error("`{0}` names two parts or groups of the manifest; give one another name")]
    Duplicate(String),
    /// Nothing says why something is in.
    #[error("`{0}` has no reason; the manifest says of everything why it is in")]
    NoReason(String),
    /// A path is not in the form that the manifest asks for.
    #[error("`{path}` of `{part}` {problem}")]
    Path {
        /// The part.
        part: String,
        /// The path.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Manifest {
    /// The manifest that this program was built with.
    pub fn built_in() -> Result<Manifest, ManifestError> {
        Manifest::parse(include_str!("../manifest.toml"))
    }

    /// Reads a manifest and checks what can be checked without the packages.
    pub fn parse(text: &str) -> Result<Manifest, ManifestError> {
        let manifest: Manifest =
            toml::from_str(text).map_err(|error| ManifestError::Syntax(Box::new(error)))?;
        let mut names = BTreeSet::new();
        for part in manifest.parts.iter().chain(&manifest.groups) {
            if !names.insert(&part.name) {
                return Err(ManifestError::Duplicate(part.name.clone()));
            }
            part.check()?;
        }
        Ok(manifest)
    }

    /// All packages of the base, the kernel included, sorted.
    pub fn packages(&self) -> Vec<String> {
        let mut packages: BTreeSet<String> =
            self.parts.iter().flat_map(|part| part.packages.iter().cloned()).collect();
        packages.insert(self.kernel.clone());
        packages.into_iter().collect()
    }
}

impl Part {
    fn check(&self) -> Result<(), ManifestError> {
        if self.reason.trim().is_empty() {
            return Err(ManifestError::NoReason(self.name.clone()));
        }
        let error = |path: &str, problem| {
            Err(ManifestError::Path { part: self.name.clone(), path: path.to_owned(), problem })
        };
        for file in &self.files {
            if !file.starts_with("/usr/") && !file.starts_with("/etc/") {
                return error(file, "must begin with /usr/ or /etc/");
            }
        }
        for program in self.programs.iter().chain(&self.applets) {
            if program.contains('/') {
                return error(program, "must be a name without a folder");
            }
        }
        for module in self.modules.iter().chain(&self.without) {
            if module.starts_with('/') || module.ends_with(".ko") {
                return error(module, "must be a path below kernel/, without .ko");
            }
        }
        Ok(())
    }

    /// Whether this part takes in the module at that path below `kernel/`, without its suffix.
    pub fn selects_module(&self, module: &str) -> bool {
        let named = |list: &[String]| {
            list.iter().any(|entry| match entry.strip_suffix('/') {
                Some(folder) => {
                    module.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
                }
                None => entry == module,
            })
        };
        named(&self.modules) && !named(&self.without)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "suite = \"bookworm\"\nkernel = \"linux-image-amd64\"\nfirst_modules = []\n";

    #[track_caller]
    fn check_error(parts: &str, expected: &str) {
        let error = Manifest::parse(&format!("{HEAD}{parts}")).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn errors_name_the_place() {
        let a = "[[part]]\nname = \"a\"\nreason = \"r\"\n";
        check_error(
            &format!("{a}{a}"),
            "`a` names two parts or groups of the manifest; give one another name",
        );
        check_error(
            "[[part]]\nname = \"a\"\nreason = \" \"\n",
            "`a` has no reason; the manifest says of everything why it is in",
        );
        check_error(
            &format!("{a}files = [\"sbin/x\"]\n"),
            "`sbin/x` of `a` must begin with /usr/ or /etc/",
        );
        check_error(
            &format!("{a}modules = [\"fs/ext4/ext4.ko\"]\n"),
            "`fs/ext4/ext4.ko` of `a` must be a path below kernel/, without .ko",
        );
        check_error(
            &format!("{a}programs = [\"sbin/x\"]\n"),
            "`sbin/x` of `a` must be a name without a folder",
        );
    }

    #[test]
    fn a_misspelt_key_is_an_error_with_its_line() {
        let text = format!("{HEAD}[[part]]\nname = \"a\"\nreason = \"r\"\nprogram = [\"x\"]\n");
        let Err(ManifestError::Syntax(source)) = Manifest::parse(&text) else {
            panic!("a misspelt key was accepted");
        };
        assert!(source.to_string().contains("line 7"), "{source}");
        assert!(source.to_string().contains("program"), "{source}");
    }

    #[test]
    fn folders_and_names_select_modules() {
        let part = Part {
            modules: vec!["drivers/scsi/".to_owned(), "fs/fat/vfat".to_owned()],
            without: vec!["drivers/scsi/lpfc/".to_owned()],
            ..Part::default()
        };
        for (module, expected) in [
            ("drivers/scsi/sd_mod", true),
            ("drivers/scsi/mpt3sas/mpt3sas", true),
            ("drivers/scsi/lpfc/lpfc", false),
            ("drivers/scsi_x/y", false),
            ("fs/fat/vfat", true),
            ("fs/fat/msdos", false),
        ] {
            assert_eq!(part.selects_module(module), expected, "{module}");
        }
    }

    #[test]
    fn the_built_in_manifest_holds_every_tool_of_the_agent() {
        let manifest = Manifest::built_in().unwrap();
        let named: BTreeSet<&str> = manifest
            .parts
            .iter()
            .flat_map(|part| part.programs.iter().chain(&part.applets))
            .map(String::as_str)
            .collect();
        for tool in agent::world::Tool::ALL {
            assert!(
                named.contains(tool.program()),
                "{} is a tool of the agent and missing from initrd/manifest.toml",
                tool.program()
            );
        }
    }
}
