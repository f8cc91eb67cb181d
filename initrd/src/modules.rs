//! Chooses kernel modules, with everything they depend on.
//!
//! The indices that `modprobe` and udev read are those of *all* modules of the kernel package: a
//! module of an optional group, appended to the initrd, is loaded like any other. A name that the
//! index knows and the initrd lacks simply fails to load.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::command::{CommandError, run};
use crate::manifest::Part;

/// What `kmod` reads at run time; `modules.symbols.bin` serves `modprobe symbol:…` alone.
pub(crate) const INDICES: [&str; 6] = [
    "modules.alias.bin",
    "modules.builtin.alias.bin",
    "modules.builtin.bin",
    "modules.dep.bin",
    "modules.devname",
    "modules.softdep",
];

/// Why modules could not be chosen.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The packages hold no kernel, or several.
    #[error("the packages hold {0} kernel versions and the initrd needs one")]
    Versions(usize),
    /// The folder of the modules cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The indices could not be made.
    #[error("cannot index the kernel modules")]
    Index(#[source] CommandError),
    /// The manifest names a module or folder that the kernel does not have.
    #[error("`{entry}` of `{part}` names no module of kernel {version}")]
    Unknown {
        /// What the manifest names.
        entry: String,
        /// The part.
        part: String,
        /// The kernel.
        version: String,
    },
}

/// All modules of the kernel of an unpacked tree.
#[derive(Debug)]
pub(crate) struct ModuleTree {
    pub(crate) version: String,
    /// By path below `kernel/` without suffix; what must be loaded before, in reverse order.
    dependencies: BTreeMap<String, Vec<String>>,
}

impl ModuleTree {
    /// Indexes and reads the modules of `tree`.
    pub(crate) fn read(tree: &Path) -> Result<ModuleTree, ModuleError> {
        let folder = tree.join("usr/lib/modules");
        let read_error = |path: &Path| {
            let path = path.to_owned();
            move |source| ModuleError::Read { path, source }
        };
        let mut versions = Vec::new();
        for entry in fs::read_dir(&folder).map_err(read_error(&folder))? {
            let entry = entry.map_err(read_error(&folder))?;
            versions.push(entry.file_name().to_string_lossy().into_owned());
        }
        let [version] = versions.as_slice() else {
            return Err(ModuleError::Versions(versions.len()));
        };
        let index = folder.join(version).join("modules.dep");
        if !index.exists() {
            let base = tree.to_string_lossy();
            run(("depmod", "kmod"), &["-b", &base, version], "").map_err(ModuleError::Index)?;
        }
        let text = fs::read_to_string(&index).map_err(read_error(&index))?;
        Ok(ModuleTree::parse(version, &text))
    }

    fn parse(version: &str, modules_dep: &str) -> ModuleTree {
        let dependencies = modules_dep
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(module, needs)| (plain(module), needs.split_whitespace().map(plain).collect()))
            .collect();
        ModuleTree { version: version.to_owned(), dependencies }
    }

    /// The modules of a part with all they depend on.
    pub(crate) fn select(&self, part: &Part) -> Result<BTreeSet<String>, ModuleError> {
        let unknown = |entry: &String| ModuleError::Unknown {
            entry: entry.clone(),
            part: part.name.clone(),
            version: self.version.clone(),
        };
        for entry in part.modules.iter().chain(&part.without) {
            let known = match entry.strip_suffix('/') {
                Some(_) => self.dependencies.keys().any(|module| module.starts_with(entry)),
                None => self.dependencies.contains_key(entry),
            };
            if !known {
                return Err(unknown(entry));
            }
        }
        let named = self.dependencies.iter().filter(|(module, _)| part.selects_module(module));
        Ok(named
            .flat_map(|(module, needs)| std::iter::once(module).chain(needs))
            .cloned()
            .collect())
    }

    /// The modules of that list and what they depend on, in the order in which they load.
    pub(crate) fn load_order(&self, modules: &[String]) -> Result<Vec<String>, ModuleError> {
        let mut order: Vec<String> = Vec::new();
        for module in modules {
            let needs = self.dependencies.get(module).ok_or_else(|| ModuleError::Unknown {
                entry: module.clone(),
                part: "first_modules".to_owned(),
                version: self.version.clone(),
            })?;
            for next in needs.iter().rev().chain([module]) {
                if !order.contains(next) {
                    order.push(next.clone());
                }
            }
        }
        Ok(order)
    }

    /// The file of a module, as a path of the tree.
    pub(crate) fn file(&self, module: &str) -> String {
        format!("usr/lib/modules/{}/kernel/{module}.ko", self.version)
    }
}

/// `kernel/fs/ext4/ext4.ko` as the manifest writes it: `fs/ext4/ext4`.
fn plain(path: &str) -> String {
    let path = path.trim();
    let path = path.strip_prefix("kernel/").unwrap_or(path);
    path.strip_suffix(".ko").unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/fs/mbcache.ko:\n\
        kernel/fs/jbd2/jbd2.ko:\n\
        kernel/fs/ext4/ext4.ko: kernel/fs/mbcache.ko kernel/fs/jbd2/jbd2.ko kernel/lib/crc16.ko\n\
        kernel/lib/crc16.ko:\n\
        kernel/sound/snd.ko:\n";

    fn part(modules: &[&str]) -> Part {
        Part {
            name: "p".to_owned(),
            modules: modules.iter().map(|&module| module.to_owned()).collect(),
            ..Part::default()
        }
    }

    #[test]
    fn a_module_brings_what_it_depends_on() {
        let tree = ModuleTree::parse("6.1", DEP);
        let selected = tree.select(&part(&["fs/ext4/"])).unwrap();
        let expected = ["fs/ext4/ext4", "fs/jbd2/jbd2", "fs/mbcache", "lib/crc16"];
        assert_eq!(selected.iter().collect::<Vec<_>>(), expected);
        let order = tree.load_order(&["fs/ext4/ext4".to_owned()]).unwrap();
        assert_eq!(order, ["lib/crc16", "fs/jbd2/jbd2", "fs/mbcache", "fs/ext4/ext4"]);
    }

    #[test]
    fn what_the_kernel_does_not_have_is_an_error() {
        let tree = ModuleTree::parse("6.1", DEP);
        for entry in ["fs/ext5/", "fs/ext4/ext5"] {
            let error = tree.select(&part(&[entry])).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("`{entry}` of `p` names no module of kernel 6.1")
            );
        }
    }
}
