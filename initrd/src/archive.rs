//! The two ways a root is packed: a squashfs for what is always there, a compressed cpio for the rest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::command::{CommandError, run};

/// How the squashfs is compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// Larger by an eighth and read several times as fast: what a machine should boot.
    #[default]
    Zstd,
    /// Smallest.
    Xz,
}

/// Good for files of some megabytes; higher levels want more memory to unpack than they save.
const CPIO_LEVEL: i32 = 19;

/// Packs `folder` into the squashfs `image`, the same bytes for the same content.
pub(crate) fn make_squashfs(
    folder: &Path,
    image: &Path,
    compression: Compression,
) -> Result<(), CommandError> {
    let (folder, image) = (folder.to_string_lossy(), image.to_string_lossy());
    let mut arguments: Vec<&str> = vec![&folder, &image];
    arguments.extend(squashfs_options(compression));
    run(("mksquashfs", "squashfs-tools"), &arguments, "").map(drop)
}

/// Everything that decides the bytes of a squashfs, beside its content.
pub(crate) fn squashfs_options(compression: Compression) -> Vec<&'static str> {
    let mut options = vec![
        "-noappend",
        "-quiet",
        "-no-progress",
        "-no-xattrs",
        "-no-exports",
        "-all-root",
        "-all-time",
        "0",
        "-mkfs-time",
        "0",
        "-b",
        "1M",
    ];
    options.extend(match compression {
        Compression::Zstd => vec!["-comp", "zstd", "-Xcompression-level", "22"],
        Compression::Xz => vec!["-comp", "xz", "-Xbcj", "x86"],
    });
    options
}

/// Compresses a cpio archive; the kernel takes several behind one another if each fills words of four bytes.
pub(crate) fn compress_cpio(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut compressed = zstd::bulk::compress(bytes, CPIO_LEVEL)?;
    compressed.resize(compressed.len().next_multiple_of(4), 0);
    Ok(compressed)
}

/// Writes a file under its name only when it is whole.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    fs::write(&partial, bytes)?;
    fs::rename(&partial, path)
}

#[cfg(test)]
mod tests {
    use std::fs::FileTimes;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::cpio::{Archive, Entry};

    /// The same content, made in another order and at another time.
    fn folder(names: &[&str], age: u64) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, name.repeat(1000)).unwrap();
            let time = SystemTime::now().checked_sub(Duration::from_secs(age)).unwrap();
            let file = fs::File::options().append(true).open(&path).unwrap();
            file.set_times(FileTimes::new().set_modified(time)).unwrap();
        }
        folder
    }

    #[test]
    fn the_same_content_is_packed_to_the_same_bytes() {
        let there = run(("mksquashfs", "squashfs-tools"), &["-version"], "").is_ok();
        assert!(there || std::env::var("CI").as_deref() != Ok("true"), "needs mksquashfs");
        if !there {
            println!("SKIPPED: needs mksquashfs");
            return;
        }
        let pack = |names: &[&str], age| {
            let folder = folder(names, age);
            let image = folder.path().with_extension("squashfs");
            make_squashfs(folder.path(), &image, Compression::Zstd).unwrap();
            let bytes = fs::read(&image).unwrap();
            fs::remove_file(image).unwrap();
            bytes
        };
        let names = ["bin/a", "bin/b", "lib/c"];
        let image = pack(&names, 0);
        assert_eq!(image, pack(&["lib/c", "bin/b", "bin/a"], 100_000));
        assert_ne!(image, pack(&names[..2], 0));

        let cpio = |names: &[&str]| {
            let mut archive = Archive::default();
            archive.add("bin", Entry::Folder);
            names.iter().for_each(|name| archive.add_file(name, name.as_bytes().to_vec(), true));
            compress_cpio(&archive.to_bytes().unwrap()).unwrap()
        };
        assert_eq!(cpio(&["bin/a", "bin/b"]), cpio(&["bin/a", "bin/b"]));
    }
}
