//! Whether a kernel of the role can reach the disks it will be installed on.
//!
//! A kernel without the driver of the disk's controller installs well and then waits for its root
//! file system for ever: the kernels that distributions make for virtual machines know no SATA. Which
//! devices lie between the machine and a disk, the running kernel shows; which devices a kernel
//! of the role knows, its module tables say (`depmod`'s text files, which every distribution
//! ships). Only drivers that are modules here are looked for: what is built in here, such as PCI
//! bridges, is named in no table. A role without tables is not judged.

use std::collections::BTreeSet;
use std::path::Path;

use specs::plan::PlannedDisk;
use specs::upgrade::Pattern;

use crate::execute::device::kernel_name;
use crate::world::Root;

/// The tables, as patterns of paths in a tree, wherever `/lib` is.
pub(super) fn tables() -> Vec<String> {
    let files = ["modules.alias", "modules.dep", "modules.builtin", "modules.builtin.modinfo"];
    let in_folder = |folder: &str| files.map(|file| format!("{folder}/modules/*/{file}"));
    ["/lib", "/usr/lib"].iter().flat_map(|folder| in_folder(folder)).collect()
}

/// A device on the way to a disk.
#[derive(Debug, PartialEq, Eq)]
struct Device {
    /// How it announces itself: `pci:v00008086d00002922…`.
    modalias: String,
    /// The module that drives it here.
    module: String,
}

/// What no kernel of the role drives, in words; the tables are in this folder of the machine.
pub(super) fn missing(root: &Root, disks: &[PlannedDisk], folder: &str) -> Vec<String> {
    let kernels: Vec<Kernel> = ["lib", "usr/lib"]
        .iter()
        .flat_map(|lib| Kernel::all(root, &format!("{folder}/{lib}/modules")))
        .collect();
    if kernels.is_empty() {
        return Vec::new();
    }
    let names: Vec<&str> = kernels.iter().map(|kernel| kernel.name.as_str()).collect();
    let lacks = |kernel: &Kernel| -> BTreeSet<(String, String)> {
        let unknown = disks.iter().flat_map(|disk| {
            let devices = devices(root, kernel_name(&disk.path));
            let unknown = devices.into_iter().filter(|device| !kernel.drives(device));
            unknown.map(|device| (device.module, disk.path.clone()))
        });
        unknown.collect()
    };
    // One kernel that reaches all disks is enough; else what the best one lacks is told.
    let least = kernels.iter().map(lacks).min_by_key(BTreeSet::len).unwrap_or_default();
    let in_words = |(module, disk): (String, String)| {
        let names = names.join(", ");
        format!("driver `{module}` for {disk} in its kernel {names} (package linux-image-amd64)")
    };
    least.into_iter().map(in_words).collect()
}

/// From the disk outwards.
fn devices(root: &Root, disk: &str) -> Vec<Device> {
    let Ok(path) = root.resolve(&format!("/sys/class/block/{disk}/device")) else {
        return Vec::new();
    };
    let Ok(path) = path.strip_prefix(root.folder()) else { return Vec::new() };
    let device = |folder: &Path| {
        let folder = Path::new("/").join(folder);
        let modalias = root.read_text(&folder.join("modalias").to_string_lossy()).ok()?;
        let driver = folder.join("driver/module");
        let module = driver.to_string_lossy();
        let module = root.exists(&module).then(|| root.resolve(&module).ok())??;
        let module = module.file_name()?.to_str()?.to_owned();
        Some(Device { modalias: modalias.trim().to_owned(), module })
    };
    path.ancestors().filter_map(device).collect()
}

/// What one kernel of the role can drive.
struct Kernel {
    name: String,
    /// Patterns of devices.
    aliases: Vec<String>,
    /// Names of its modules, and of what would be modules were they not built in.
    modules: BTreeSet<String>,
}

impl Kernel {
    /// Each kernel whose tables are in this folder.
    fn all(root: &Root, folder: &str) -> Vec<Kernel> {
        let names = root.names(folder).unwrap_or_default();
        names.into_iter().filter_map(|name| Kernel::read(root, folder, name)).collect()
    }

    /// Nothing when its main table is not there.
    fn read(root: &Root, folder: &str, name: String) -> Option<Kernel> {
        let read = |file: &str| root.read_text(&format!("{folder}/{name}/{file}"));
        let aliases = read("modules.alias").ok()?;
        let aliases = aliases.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == "alias").then(|| words.next().map(str::to_owned))?
        });
        let built_in = read("modules.builtin.modinfo").unwrap_or_default();
        // Each is `module.key=value` and ends with a zero byte.
        let built_in = built_in.split('\0').filter_map(|info| {
            let (key, value) = info.split_once('=')?;
            key.ends_with(".alias").then(|| value.to_owned())
        });
        let aliases = aliases.chain(built_in).collect();
        let paths = ["modules.dep", "modules.builtin"].map(|file| read(file).unwrap_or_default());
        let modules = paths.iter().flat_map(|text| text.lines()).filter_map(module_name).collect();
        Some(Kernel { name, aliases, modules })
    }

    /// By what it announces; or by its module, since a device may be given to a driver in other
    /// ways.
    fn drives(&self, device: &Device) -> bool {
        self.modules.contains(&device.module)
            || self.aliases.iter().any(|alias| {
                // Most are of another bus.
                alias.get(..4) == device.modalias.get(..4)
                    && Pattern::new(alias).matches(device.modalias.as_bytes(), false)
            })
    }
}

/// The module in a line `kernel/drivers/ata/ahci.ko.xz: …`, as the kernel writes its name.
fn module_name(line: &str) -> Option<String> {
    let path = line.split_once(':').map_or(line, |(path, _)| path);
    let file = path.rsplit('/').next()?;
    let (name, _) = file.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use specs::plan::DiskSize;
    use specs::units::{Bytes, SectorSize};

    use super::*;

    /// A disk behind a SATA controller, as the kernel shows it, and a bridge that is built in.
    fn machine() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let bridge = "sys/devices/pci0000:00/0000:00:01.0";
        let controller = format!("{bridge}/0000:00:1f.2");
        let disk = format!("{controller}/ata1/host0/target0:0:0/0:0:0:0");
        put(&format!("{bridge}/modalias"), "pci:v00008086d00000001sv1sd1bc06sc04i00\n");
        put(&format!("{controller}/modalias"), "pci:v00008086d00002922sv1sd1bc01sc06i01\n");
        put(&format!("{disk}/modalias"), "scsi:t-0x00\n");
        put(&format!("{disk}/block/sda/size"), "1\n");
        for (driver, module, device) in
            [("ahci", Some("ahci"), &controller), ("sd", Some("sd_mod"), &disk)]
                .into_iter()
                .chain([("pcieport", None, &bridge.to_owned())])
        {
            let drivers = format!("sys/bus/drivers/{driver}");
            fs::create_dir_all(folder.path().join(&drivers)).unwrap();
            symlink(format!("/{drivers}"), folder.path().join(device).join("driver")).unwrap();
            if let Some(module) = module {
                fs::create_dir_all(folder.path().join(format!("sys/module/{module}"))).unwrap();
                let link = folder.path().join(drivers).join("module");
                symlink(format!("/sys/module/{module}"), link).unwrap();
            }
        }
        symlink(format!("/{disk}"), folder.path().join(format!("{disk}/block/sda/device")))
            .unwrap();
        fs::create_dir_all(folder.path().join("sys/class/block")).unwrap();
        let block = format!("/{disk}/block/sda");
        symlink(block, folder.path().join("sys/class/block/sda")).unwrap();
        folder
    }

    fn planned() -> PlannedDisk {
        PlannedDisk {
            path: "/dev/sda".to_owned(),
            serial: None,
            wwn: None,
            size: DiskSize::Exact(Bytes(512)),
            sector_size: SectorSize::DEFAULT,
        }
    }

    /// Tables of kernels, each a version and its files; what is missing then.
    #[track_caller]
    fn check(kernels: &[(&str, &[(&str, &str)])], missing_drivers: &[&str]) {
        let machine = machine();
        for (version, files) in kernels {
            let folder = machine.path().join("run/role/usr/lib/modules").join(version);
            fs::create_dir_all(&folder).unwrap();
            for (file, text) in *files {
                fs::write(folder.join(file), text).unwrap();
            }
        }
        let root = Root::new(machine.path());
        assert_eq!(missing(&root, &[planned()], "/run/role"), missing_drivers);
    }

    const SCSI_DISKS: &str = "alias scsi:t-0x00* sd_mod\n";
    const SATA: &str = "alias pci:v*d*sv*sd*bc01sc06i01* ahci\nalias scsi:t-0x00* sd_mod\n";

    #[test]
    fn a_kernel_without_the_controllers_driver_is_named() {
        let wanted = "driver `ahci` for /dev/sda in its kernel 6.1-cloud \
                      (package linux-image-amd64)";
        check(&[("6.1-cloud", &[("modules.alias", SCSI_DISKS)])], &[wanted]);
    }

    #[test]
    fn one_kernel_that_reaches_the_disk_is_enough() {
        check(&[("6.1", &[("modules.alias", SATA)])], &[]);
        check(
            &[("6.1-cloud", &[("modules.alias", SCSI_DISKS)]), ("6.1", &[("modules.alias", SATA)])],
            &[],
        );
    }

    #[test]
    fn what_is_built_in_counts_and_so_does_a_module_of_that_name() {
        let info = "ahci.license=GPL\0ahci.alias=pci:v00008086d00002922sv*sd*bc*sc*i*\0";
        check(&[("6.1", &[("modules.alias", SCSI_DISKS), ("modules.builtin.modinfo", info)])], &[]);
        let modules = "kernel/drivers/ata/ahci.ko.xz: kernel/drivers/ata/libahci.ko.xz\n";
        check(&[("6.1", &[("modules.alias", SCSI_DISKS), ("modules.dep", modules)])], &[]);
        let built_in = "kernel/drivers/ata/ahci.ko\nkernel/drivers/scsi/sd-mod.ko\n";
        check(&[("6.1", &[("modules.alias", ""), ("modules.builtin", built_in)])], &[]);
    }

    #[test]
    fn a_role_without_tables_is_not_judged() {
        check(&[], &[]);
        check(&[("6.1", &[("modules.dep", "")])], &[]);
    }

    #[test]
    fn what_is_built_in_here_is_not_looked_for() {
        let machine = machine();
        let modules: Vec<String> = devices(&Root::new(machine.path()), "sda")
            .into_iter()
            .map(|device| device.module)
            .collect();
        assert_eq!(modules, ["sd_mod", "ahci"]);
    }
}
