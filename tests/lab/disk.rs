//! Disk images: made, compared, and looked into through a loop device.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::run;

/// Makes an empty raw image of this size that takes no room yet.
pub fn blank(path: &Path, bytes: u64) -> Result<()> {
    let file = File::create(path).with_context(|| format!("making `{}`", path.display()))?;
    file.set_len(bytes).with_context(|| format!("sizing `{}`", path.display()))
}

/// As [`blank`], with recognisable bytes at its start, middle and end: an image that somebody
/// would miss.
pub fn precious(path: &Path, bytes: u64) -> Result<()> {
    use std::os::unix::fs::FileExt;
    blank(path, bytes)?;
    let file = File::options().write(true).open(path)?;
    for offset in [0, bytes / 2, bytes - (1 << 20)] {
        let mut block = vec![0; 1 << 20];
        blake3::Hasher::new().update(&offset.to_le_bytes()).finalize_xof().fill(&mut block);
        file.write_all_at(&block, offset)
            .with_context(|| format!("filling `{}`", path.display()))?;
    }
    Ok(())
}

/// The BLAKE3 checksum of a whole image.
pub fn checksum(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("opening `{}`", path.display()))?;
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut block)?;
        if length == 0 {
            return Ok(hasher.finalize().to_string());
        }
        hasher.update(&block[..length]);
    }
}

/// A loop device over an image; detached on drop.
#[derive(Debug)]
pub struct LoopDevice {
    /// The device, for example `/dev/loop3`.
    pub path: PathBuf,
}

impl LoopDevice {
    /// Attaches the image, with its partitions as devices of their own.
    pub fn attach(image: &Path, writable: bool) -> Result<LoopDevice> {
        let mut arguments = vec!["--find".to_owned(), "--show".to_owned()];
        if !writable {
            arguments.push("--read-only".to_owned());
        }
        arguments.push(image.display().to_string());
        let path = run("losetup", arguments)?.trim().to_owned();
        let device = LoopDevice { path: path.clone().into() };
        // The kernel need not know how to scan partitions of loop devices: it is told of each.
        // A disk without a table has none to add.
        let _ = run("partx", ["--update", &path]);
        Ok(device)
    }

    /// The device of a partition.
    pub fn partition(&self, number: u32) -> PathBuf {
        format!("{}p{number}", self.path.display()).into()
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let path = self.path.display().to_string();
        let _ = run("partx", ["--delete", &path]);
        let _ = run("losetup", ["--detach", &path]);
    }
}

/// What is on a disk, as the system's own tools report it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskState {
    /// `gpt` or `dos`; `None` without a partition table.
    pub table: Option<String>,
    /// The partitions, in order of their numbers.
    pub partitions: Vec<PartitionState>,
}

/// One partition of a [`DiskState`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// First sector.
    pub start: u64,
    /// Size in sectors.
    pub sectors: u64,
    /// Type: a GUID on GPT, two hexadecimal digits on MBR.
    pub kind: String,
    /// GPT name.
    pub label: Option<String>,
}

impl DiskState {
    /// Reads the partition table of an image or device.
    pub fn read(disk: &Path) -> Result<DiskState> {
        let arguments = ["--json".into(), disk.as_os_str().to_owned()];
        let text = match run("sfdisk", arguments) {
            Ok(text) => text,
            Err(error) if format!("{error:#}").contains("does not contain a recognized") => {
                return Ok(DiskState { table: None, partitions: Vec::new() });
            }
            Err(error) => return Err(error),
        };
        let json: serde_json::Value =
            serde_json::from_str(&text).context("reading sfdisk's JSON")?;
        let table = &json["partitiontable"];
        let partitions = table["partitions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let state = |partition: &serde_json::Value| {
            let number = |key: &str| match partition[key].as_u64() {
                Some(number) => Ok(number),
                None => bail!("sfdisk reports no `{key}` in `{partition}`"),
            };
            Ok(PartitionState {
                start: number("start")?,
                sectors: number("size")?,
                kind: partition["type"].as_str().unwrap_or_default().to_owned(),
                label: partition["name"].as_str().map(str::to_owned),
            })
        };
        Ok(DiskState {
            table: table["label"].as_str().map(str::to_owned),
            partitions: partitions.iter().map(state).collect::<Result<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_sees_one_changed_byte() {
        let scratch = tempfile::tempdir().unwrap();
        let image = scratch.path().join("disk");
        precious(&image, 8 << 20).unwrap();
        let before = checksum(&image).unwrap();
        assert_eq!(before, checksum(&image).unwrap());
        use std::os::unix::fs::FileExt;
        File::options().write(true).open(&image).unwrap().write_all_at(b"x", 3 << 20).unwrap();
        assert_ne!(before, checksum(&image).unwrap());
    }

    #[test]
    fn a_disk_without_a_table_has_none() {
        let scratch = tempfile::tempdir().unwrap();
        let image = scratch.path().join("disk");
        blank(&image, 8 << 20).unwrap();
        let none = DiskState { table: None, partitions: Vec::new() };
        assert_eq!(DiskState::read(&image).unwrap(), none);
    }
}
