//! The builds: the base, an optional group, and the list of what is in.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::archive::{Compression, compress_cpio, make_squashfs, squashfs_options, write_whole};
use crate::cpio::{Archive, Entry};
use crate::manifest::{Manifest, Part};
use crate::modules::{INDICES, ModuleTree};
use crate::own_group;
use crate::packages::Request;
use crate::root::{Content, Root};

/// What all builds need to know.
#[derive(Debug)]
pub struct BuildOptions {
    /// What goes in.
    pub manifest: Manifest,
    /// Where packages and trees are kept between builds.
    pub cache: PathBuf,
    /// A Debian mirror, in place of the machine's own archives.
    pub mirror: Option<String>,
}

/// Folders of the root that exist to be mounted on or written to.
const EMPTY_FOLDERS: [&str; 12] = [
    "dev",
    "proc",
    "sys",
    "run",
    "tmp",
    "root",
    "etc",
    "mnt/target",
    "var/lib",
    "var/log",
    "var/tmp",
    "usr/local",
];
/// Files of our own, the few that a Debian package makes by script or does not have.
const OWN_FILES: [(&str, &str); 8] = [
    ("etc/group", include_str!("../rootfs/etc/group")),
    ("etc/hosts", include_str!("../rootfs/etc/hosts")),
    ("etc/lvm/lvm.conf", include_str!("../rootfs/etc/lvm/lvm.conf")),
    ("etc/modprobe.d/scsi.conf", include_str!("../rootfs/etc/modprobe.d/scsi.conf")),
    ("etc/nsswitch.conf", include_str!("../rootfs/etc/nsswitch.conf")),
    ("etc/passwd", include_str!("../rootfs/etc/passwd")),
    ("etc/shells", include_str!("../rootfs/etc/shells")),
    ("etc/udev/udev.conf", include_str!("../rootfs/etc/udev/udev.conf")),
];
const OWN_PART: &str = "own files";
const INDEX_PART: &str = "module indices";

/// What the Debian archive is split into; firmware is in the last two.
const MAIN: [&str; 1] = ["main"];
const ALL_COMPONENTS: [&str; 4] = ["main", "contrib", "non-free", "non-free-firmware"];

/// Builds `vmlinuz` and `initrd.pxe` in `out`; returns the table of their sizes.
pub fn build(
    options: &BuildOptions,
    agent: &Path,
    out: &Path,
    compression: Compression,
) -> anyhow::Result<String> {
    let agent_bytes =
        fs::read(agent).with_context(|| format!("cannot read the agent {}", agent.display()))?;
    let tree = unpack_base(options)?;
    let modules = ModuleTree::read(&tree)?;
    let root = base_root(&options.manifest, &tree, &modules)?;
    let image = squashfs(options, &root, compression)?;

    let mut first = Archive::default();
    for folder in ["dev", "proc", "sys", "run", "tmp", "root"] {
        first.add(folder, Entry::Folder);
    }
    first.add_file("init", agent_bytes, true);
    let mut order = String::new();
    for module in modules.load_order(&options.manifest.first_modules)? {
        let file = tree.join(modules.file(&module));
        let name = format!("{}.ko", module.rsplit('/').next().unwrap_or(&module));
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        first.add_file(&format!("modules/{name}"), bytes, false);
        writeln!(order, "{name}")?;
    }
    first.add_file("modules/order", order.into_bytes(), false);
    let mut second = Archive::default();
    let image_bytes =
        fs::read(&image).with_context(|| format!("cannot read {}", image.display()))?;
    let image_size = image_bytes.len();
    second.add_file("root.squashfs", image_bytes, false);

    // The squashfs is compressed already: only what stands before it gains by compressing.
    let mut initrd = compress_cpio(&first.to_bytes()?)?;
    let first_size = initrd.len();
    initrd.extend(second.to_bytes()?);
    let kernel = tree.join("boot").join(format!("vmlinuz-{}", modules.version));
    let kernel_bytes =
        fs::read(&kernel).with_context(|| format!("cannot read {}", kernel.display()))?;
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    for (name, bytes) in [("vmlinuz", &kernel_bytes), ("initrd.pxe", &initrd)] {
        let path = out.join(name);
        write_whole(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let unpacked: usize = root.items.values().map(|item| size(&item.content)).sum();
    Ok(format!(
        "vmlinuz     {:>6} MiB  Linux {}\n\
         initrd.pxe  {:>6} MiB  agent and first modules {} MiB, root {} MiB ({} files, {} MiB unpacked)\n\
         together    {:>6} MiB\n",
        mebibytes(kernel_bytes.len()),
        modules.version,
        mebibytes(initrd.len()),
        mebibytes(first_size),
        mebibytes(image_size),
        root.items.len(),
        mebibytes(unpacked),
        mebibytes(kernel_bytes.len() + initrd.len()),
    ))
}

/// What is in the root: size, path, part and reason; biggest first.
pub fn contents(options: &BuildOptions) -> anyhow::Result<String> {
    let tree = unpack_base(options)?;
    let modules = ModuleTree::read(&tree)?;
    let root = base_root(&options.manifest, &tree, &modules)?;
    let reason = |name: &str| match options.manifest.parts.iter().find(|part| part.name == name) {
        Some(part) => part.reason.trim(),
        None if name == INDEX_PART => "kmod finds modules by them, those of optional groups too",
        None => "accounts, names and settings that no package brings as a file",
    };
    let mut lines: Vec<(usize, &String, &str)> =
        root.items.iter().map(|(path, item)| (size(&item.content), path, &*item.part)).collect();
    lines.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    let mut text = String::new();
    for (size, path, part) in lines {
        writeln!(text, "{size:>9}  /{path}  [{part}: {}]", reason(part))?;
    }
    Ok(text)
}

/// Builds `NAME.cpio` in `out` for a group of the manifest or a firmware package; returns a line with its size.
pub fn build_group(options: &BuildOptions, name: &str, out: &Path) -> anyhow::Result<String> {
    let items = match options.manifest.groups.iter().find(|group| group.name == name) {
        Some(group) => group_items(options, group)?,
        None if name.starts_with("firmware-") => firmware_items(options, name)?,
        None => {
            let known: Vec<&str> =
                options.manifest.groups.iter().map(|group| &*group.name).collect();
            anyhow::bail!(
                "no group `{name}`: the manifest has {}; firmware packages are named firmware-…",
                known.join(", ")
            );
        }
    };
    write_group(name, items, out)
}

/// Builds `NAME.cpio` in `out` of a folder of the administrator's; returns a line with its size.
pub fn build_own_group(
    options: &BuildOptions,
    name: &str,
    folder: &Path,
    out: &Path,
) -> anyhow::Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    let is_name = name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain);
    anyhow::ensure!(is_name, "`{name}` is not a name of a group: use letters, digits, `-`, `_`");
    let taken = options.manifest.groups.iter().any(|group| group.name == name);
    anyhow::ensure!(
        !taken,
        "the manifest has a group `{name}` already; give this one another name"
    );
    let tree = unpack_base(options)?;
    let modules = ModuleTree::read(&tree)?;
    let base = base_root(&options.manifest, &tree, &modules)?;
    let mut items = own_group::read_folder(folder)?;
    own_group::add_libraries(&mut items, &base, &tree)?;
    write_group(name, items.into_iter().collect(), out)
}

/// Packs what a group has below `/groups`, where the agent looks for it.
fn write_group(name: &str, items: Vec<(String, Content)>, out: &Path) -> anyhow::Result<String> {
    let mut archive = Archive::default();
    let mut unpacked = 0;
    for (path, content) in items {
        unpacked += size(&content);
        archive.add(
            &format!("groups/{path}"),
            match content {
                Content::Bytes { bytes, executable } => Entry::File { content: bytes, executable },
                Content::Link(target) => Entry::Link(target),
            },
        );
    }
    let bytes = compress_cpio(&archive.to_bytes()?)?;
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let path = out.join(format!("{name}.cpio"));
    write_whole(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(format!(
        "{:>6} MiB  {} ({} MiB unpacked)",
        mebibytes(bytes.len()),
        path.display(),
        mebibytes(unpacked)
    ))
}

fn unpack_base(options: &BuildOptions) -> anyhow::Result<PathBuf> {
    let packages = options.manifest.packages();
    let request = Request {
        suite: &options.manifest.suite,
        packages: &packages,
        components: &MAIN,
        mirror: options.mirror.as_deref(),
    };
    Ok(request.unpack(&options.cache)?)
}

/// The root of the base: parts, their libraries, modules and indices, and our own files.
fn base_root<'a>(
    manifest: &Manifest,
    tree: &'a Path,
    modules: &ModuleTree,
) -> anyhow::Result<Root<'a>> {
    let mut root = Root::new(tree);
    for (path, text) in OWN_FILES {
        let content = Content::Bytes { bytes: text.as_bytes().to_vec(), executable: false };
        root.insert(path, content, OWN_PART);
    }
    for part in &manifest.parts {
        root.add_part(part)?;
        for module in modules.select(part)? {
            root.add_path(&modules.file(&module), &part.name)?;
        }
    }
    for index in INDICES {
        root.add_path(&format!("usr/lib/modules/{}/{index}", modules.version), INDEX_PART)?;
    }
    root.add_libraries()?;
    Ok(root)
}

/// What a group has and the base has not.
fn group_items(options: &BuildOptions, group: &Part) -> anyhow::Result<Vec<(String, Content)>> {
    let tree = unpack_base(options)?;
    let modules = ModuleTree::read(&tree)?;
    let base = base_root(&options.manifest, &tree, &modules)?;
    let mut items = Vec::new();
    let selected: BTreeSet<String> =
        modules.select(group)?.iter().map(|module| modules.file(module)).collect();
    for path in selected.into_iter().filter(|path| !base.items.contains_key(path)) {
        let file = tree.join(&path);
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        items.push((path, Content::Bytes { bytes, executable: false }));
    }
    Ok(items)
}

/// Everything that a firmware package has for the kernel to load.
fn firmware_items(options: &BuildOptions, package: &str) -> anyhow::Result<Vec<(String, Content)>> {
    let packages = [package.to_owned()];
    let request = Request {
        suite: &options.manifest.suite,
        packages: &packages,
        components: &ALL_COMPONENTS,
        mirror: options.mirror.as_deref(),
    };
    let tree = request.unpack(&options.cache).with_context(|| {
        format!(
            "package `{package}`: is the name right, and does the mirror have the component \
             non-free-firmware of {}?",
            options.manifest.suite
        )
    })?;
    let mut root = Root::new(&tree);
    root.add_path("usr/lib/firmware", package)
        .with_context(|| format!("package `{package}` brings no firmware"))?;
    Ok(root.items.into_iter().map(|(path, item)| (path, item.content)).collect())
}

/// The squashfs of a root, from the cache if it was packed before: packing takes a minute.
fn squashfs(
    options: &BuildOptions,
    root: &Root<'_>,
    compression: Compression,
) -> anyhow::Result<PathBuf> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{:?}{EMPTY_FOLDERS:?}", squashfs_options(compression)).as_bytes());
    for (path, item) in &root.items {
        let (kind, bytes) = match &item.content {
            Content::Bytes { bytes, executable: true } => ("x", bytes.as_slice()),
            Content::Bytes { bytes, executable: false } => ("f", bytes.as_slice()),
            Content::Link(target) => ("l", target.as_bytes()),
        };
        hasher.update(format!("{kind} {path}\0{}\0", bytes.len()).as_bytes()).update(bytes);
    }
    let folder = options.cache.join("roots");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let image = folder.join(format!("{}.squashfs", &hasher.finalize().to_hex()[..16]));
    if image.exists() {
        return Ok(image);
    }
    let work = tempfile::tempdir_in(&folder)
        .with_context(|| format!("cannot create a folder in {}", folder.display()))?;
    let staging = work.path().join("root");
    root.write_to(&staging, &EMPTY_FOLDERS)?;
    let packed = work.path().join("image");
    make_squashfs(&staging, &packed, compression)?;
    fs::rename(&packed, &image).with_context(|| format!("cannot write {}", image.display()))?;
    Ok(image)
}

fn size(content: &Content) -> usize {
    match content {
        Content::Bytes { bytes, .. } => bytes.len(),
        Content::Link(_) => 0,
    }
}

/// One digit behind the point, rounded up: a limit that is kept by rounding is not kept.
fn mebibytes(bytes: usize) -> String {
    let tenths = (bytes * 10).div_ceil(1024 * 1024);
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_rootfs_goes_in() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("rootfs");
        let mut pending = vec![folder.clone()];
        let mut found = Vec::new();
        while let Some(path) = pending.pop() {
            for entry in fs::read_dir(&path).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    pending.push(path);
                } else {
                    found.push(path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        found.sort();
        assert_eq!(found, OWN_FILES.map(|(path, _)| path));
    }

    #[test]
    fn sizes_are_rounded_up() {
        for (bytes, expected) in
            [(0, "0.0"), (1, "0.1"), (41_943_040, "40.0"), (41_943_041, "40.1")]
        {
            assert_eq!(mebibytes(bytes), expected);
        }
    }
}
