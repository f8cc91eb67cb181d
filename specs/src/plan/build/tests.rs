//! Plans made of samples and of what must be refused.

use super::*;
use crate::value::Value;

const VM: &str = include_str!("../../../profiles/vm.configure");

/// A machine with these disks (name, bytes, logical sector size) and one NIC.
fn machine(firmware: &str, disks: &[(&str, u64, u32)]) -> Facts {
    let mut facts = Facts::default();
    facts.push("system", "firmware", "type", firmware);
    for (name, bytes, sector) in disks {
        facts.push("disk", name, "size", (bytes / 1_000_000_000).to_string());
        facts.push("disk", name, "bytes", bytes.to_string());
        facts.push("disk", name, "logical_block_size", i64::from(*sector));
        facts.push("disk", name, "serial", format!("serial-of-{name}"));
    }
    facts.push("network", "eth0", "serial", "52:54:00:00:00:01");
    facts
}

fn variables() -> Variables {
    let pairs = [
        ("disk", "vda"),
        ("eth", "eth0"),
        ("mac", "52:54:00:00:00:01"),
        ("ip", "10.0.2.103"),
        ("netmask", "255.255.255.0"),
        ("gateway", "10.0.2.2"),
        ("hostname", "host03"),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
}

fn plan_of(text: &str, facts: &Facts, variables: &Variables) -> Result<Plan, PlanError> {
    let configure = Configure::parse("vm.configure", text).unwrap();
    let scripts = BTreeMap::from([("bad".to_owned(), "no interpreter".to_owned())]);
    let inputs = Inputs {
        facts,
        variables,
        profile: &"vm".parse().unwrap(),
        nonce: &Token::from_bytes([1; 16]),
        secrets: &["hunter2".to_owned()],
        scripts: &scripts,
    };
    plan(&configure, &inputs)
}

const GIB: u64 = 1 << 30;

fn sample_machine() -> Facts {
    machine("bios", &[("vda", 10 * GIB, 512), ("vdb", 20 * GIB, 512)])
}

/// Plans the sample with one text replaced.
fn plan_with(from: &str, to: &str, facts: &Facts) -> Result<Plan, PlanError> {
    assert!(VM.contains(from), "the sample holds no {from}");
    plan_of(&VM.replacen(from, to, 1), facts, &variables())
}

#[track_caller]
fn refused(from: &str, to: &str, expected: &str) {
    let error = plan_with(from, to, &sample_machine()).unwrap_err().to_string();
    assert!(error.contains(expected), "{from} -> {to}: {error}");
}

const ROOT: &str = r#"(label: "root", size: "rest", use: filesystem(type: ext4, mount: "/")),"#;

#[test]
fn disks_that_are_not_exactly_one_are_refused() {
    // Bays of a controller have sizes as well, and no names that the kernel gives.
    let mut facts = sample_machine();
    for name in ["1I:1:1", "sda{megaraid,0}", "0", "Logical"] {
        facts.push("disk", name, "size", "10");
    }
    facts.push("memory", "bank", "size", "10");
    facts.push("disk", "vdx", "model", "QEMU");
    let device = "/dev/{{ disk }}";
    let error = plan_with(device, "/dev/vdz", &facts).unwrap_err().to_string();
    assert!(error.ends_with("(disks of this machine: vda, vdb)"), "{error}");
    refused(
        device,
        "/dev/vdz",
        "vm.configure:7:18: there is no disk `/dev/vdz` (disks of this machine: vda, vdb)",
    );
    refused(device, "{{ disk }}", "there is no disk `vda`");
    refused(device, "/dev/../vda", "there is no disk");
    refused(device, "/dev/logical", "there is no disk `/dev/logical`");
    refused(
        device,
        "/dev/{{ disc }}",
        "there is no variable `disc` (variables: did you mean `disk`?)",
    );
    refused("(device:", "(each: [\"disk\", \"vda\"], device:", "/dev/vda is listed twice");
}

#[test]
fn two_paths_to_one_disk_are_ambiguous() {
    let mut facts = sample_machine();
    for name in ["vda", "vdb"] {
        facts.push("disk", name, "wwn-id", "wwn-0x5000");
    }
    let error = plan_of(VM, &facts, &variables()).unwrap_err();
    let candidates = vec!["vda".to_owned(), "vdb".to_owned()];
    let device = "/dev/vda".to_owned();
    assert_eq!(error.problem, Problem::AmbiguousDisk { device, candidates });
    let by_link = plan_with("/dev/{{ disk }}", "/dev/disk/by-id/wwn-0x5000", &facts).unwrap_err();
    assert!(matches!(by_link.problem, Problem::AmbiguousDisk { .. }), "{by_link}");
}

#[test]
fn a_disk_may_be_named_by_a_link_that_the_facts_know() {
    let mut facts = sample_machine();
    facts.push("disk", "vdb", "id", "virtio-data");
    let plan = plan_with("/dev/{{ disk }}", "/dev/disk/by-id/virtio-data", &facts).unwrap();
    assert_eq!(plan.disks[0].path, "/dev/vdb");
    assert_eq!(plan.disks[0].serial.as_deref(), Some("serial-of-vdb"));
    // Only links of disks are looked at, and only what names a link.
    facts.push("network", "eth0", "id", "virtio-data");
    facts.push("disk", "vda", "model", "virtio-data");
    let plan = plan_with("/dev/{{ disk }}", "/dev/disk/by-id/virtio-data", &facts).unwrap();
    assert_eq!(plan.disks[0].path, "/dev/vdb");
    let error = plan_with("/dev/{{ disk }}", "/dev/disk/by-id/virtio-root", &facts).unwrap_err();
    let known = vec!["vda".to_owned(), "vdb".to_owned()];
    let device = "/dev/disk/by-id/virtio-root".to_owned();
    assert_eq!(error.problem, Problem::UnknownDisk { device, known });
}

#[test]
fn sizes_and_file_systems_that_cannot_be_are_refused() {
    refused("\"rest\"", "\"10\"", "vm.configure:8:35: `10` is not a size");
    refused("\"rest\"", "\"11GiB\"", "/dev/vda has 10 GiB and the partitions need 11 GiB");
    refused(
        "\"rest\"",
        "\"4MiB\"",
        "the partition would have 4 MiB and its contents need at least 8 MiB",
    );
    refused("mount: \"/\"", "mount: \"/srv\"", "no file system is mounted at `/`");
    refused("ext4", "vfat", "the root file system must be ext4, xfs or btrfs");
    refused("mount: \"/\"", "mount: \"/proc\"", "`/proc` cannot be a mount point");
    refused("label: \"root\"", "label: \"a name, with more\"", "is not a label here");
    for bad in ["_root", "a b", "é", "", "seventeen-letters"] {
        let label = format!("label: \"{bad}\"");
        refused("label: \"root\"", &label, "is not a label here");
    }
    for good in ["0.root_+-x", "sixteen--letters"] {
        let label = format!("label: \"{good}\"");
        plan_with("label: \"root\"", &label, &sample_machine()).unwrap();
    }
    refused(ROOT, &ROOT.repeat(2), "only one partition of a disk can have the rest");
    let twice = format!("{}{ROOT}", ROOT.replace("rest", "1GiB"));
    refused(ROOT, &twice, "two file systems are mounted at `/`");
    refused(ROOT, "", "needs at least one partition");
    refused(
        "mount: \"/\"",
        "mount: \"/\", mount_options: [\"a b\"]",
        "`a b` is not a mount option",
    );
}

/// FAT32 has a least number of clusters, of a sector each.
#[test]
fn what_a_file_system_needs_depends_on_the_sectors() {
    let esp = |size: &str, sector: u32| {
        let machine = machine("uefi", &[("vda", 10 * GIB, sector)]);
        let both = format!("(size: \"{size}\", use: esp),{ROOT}");
        plan_with(ROOT, &both, &machine).map(drop).map_err(|error| error.to_string())
    };
    for (sector, least) in [(512, 34), (4096, 260)] {
        assert_eq!(esp(&format!("{least}MiB"), sector), Ok(()));
        let error = esp(&format!("{}MiB", least - 1), sector).unwrap_err();
        assert!(error.contains(&format!("need at least {least} MiB")), "{error}");
    }
    for (kind, least) in [("ext4", 8), ("xfs", 300), ("btrfs", 128)] {
        let root = |mib: u32| ROOT.replace("rest", &format!("{mib}MiB")).replace("ext4", kind);
        plan_with(ROOT, &root(least), &sample_machine()).unwrap();
        refused(ROOT, &root(least - 1), &format!("need at least {least} MiB"));
    }
}

#[test]
fn what_the_firmware_cannot_boot_is_refused() {
    let uefi = machine("uefi", &[("vda", 10 * GIB, 512)]);
    let error =
        |from: &str, to: &str, facts: &Facts| plan_with(from, to, facts).unwrap_err().problem;
    let bios = sample_machine();
    assert_eq!(error("boot: auto, ", "", &bios), Problem::NoBiosBoot);
    assert_eq!(error("boot: auto, ", "", &uefi), Problem::NoEsp);
    assert_eq!(error("table: gpt", "table: msdos", &uefi), Problem::UefiNeedsGpt);
    let esps = format!(r#"(size: "1GiB", use: esp),(size: "1GiB", use: esp),{ROOT}"#);
    assert_eq!(error(ROOT, &esps, &uefi), Problem::TwoEsps);
    let other = r#"(device: "/dev/vdb", table: gpt, boot: auto, partitions: [(size: "rest", use: swap)]), (device:"#;
    assert_eq!(error("(device:", other, &bios), Problem::TwoBootDisks);
    let many = format!("{}{ROOT}", r#"(size: "1MiB", use: swap),"#.repeat(4));
    let text = VM.replace("table: gpt", "table: msdos").replace(ROOT, &many);
    let problem = plan_of(&text, &bios, &variables()).unwrap_err().problem;
    assert!(matches!(problem, Problem::TooManyPartitions { limit: 4, .. }), "{problem}");
}

#[test]
fn an_mbr_that_a_bios_starts_has_its_kernels_partition_active() {
    let boot = r#"(size: "1GiB", use: filesystem(type: ext4, mount: "/boot")),"#;
    let swap = r#"(size: "1GiB", use: swap),"#;
    for (table, before_root, expected) in [
        ("gpt", "", None),
        ("msdos", "", Some(1)),
        ("msdos", swap, Some(2)),
        ("msdos", &format!("{swap}{boot}") as &str, Some(2)),
    ] {
        let text = VM.replace("table: gpt", &format!("table: {table}"));
        let text = text.replace(ROOT, &format!("{before_root}{ROOT}"));
        let plan = plan_of(&text, &sample_machine(), &variables()).unwrap();
        let active = plan.steps.iter().find_map(|step| match &step.action {
            Action::WriteTable { partitions, .. } => partitions.iter().find(|p| p.active),
            _ => None,
        });
        assert_eq!(active.map(|partition| partition.number), expected, "{table} {before_root}");
        assert_eq!(crate::plan::lint::lint(&plan), []);
    }
}

#[test]
fn a_bios_starts_the_disk_with_the_kernel_where_none_is_marked() {
    let data = r#"(size: "rest", use: filesystem(type: ext4, mount: "/srv"))"#;
    let boot = r#"(size: "rest", use: filesystem(type: ext4, mount: "/boot"))"#;
    for (first, second, expected) in [
        (ROOT, data, "/dev/vda"),
        (data, ROOT, "/dev/vdb"),
        (ROOT, boot, "/dev/vdb"),
        (boot, ROOT, "/dev/vda"),
    ] {
        let text = VM.replace("table: gpt, boot: auto", "table: msdos").replace(ROOT, first);
        let other =
            format!(r#"disks: [(device: "/dev/vdb", table: msdos, partitions: [{second}]), "#);
        let text = text.replace("disks: [", &other);
        let plan = plan_of(&text, &sample_machine(), &variables()).unwrap();
        let disk = plan.steps.iter().find_map(|step| match &step.action {
            Action::InstallBootLoader { target: BootTarget::Bios { disk } } => Some(disk.as_str()),
            _ => None,
        });
        assert_eq!(disk, Some(expected));
    }
}

#[test]
fn names_addresses_and_arguments_are_checked() {
    refused("\"{{ hostname }}\"", "\"host_03\"", "vm.configure:5:15: `host_03` is not a host name");
    refused("\"mysql\"", "\"../mysql\"", "`../mysql` is not a role or version");
    refused("{{ netmask }}", "255.0.255.0", "`10.0.2.103/255.0.255.0` is not an address of a host");
    refused(
        "{{ gateway }}",
        "10.0.3.2",
        "`10.0.3.2` is not another host in the network 10.0.2.0/24",
    );
    refused("{{ mac }}", "52:54:00:00:00:02", "(there are: 52:54:00:00:00:01)");
    refused("mac: \"{{ mac }}\", ", "mac: \"\", ", "no network interface of this machine");
    refused(
        "\"{{ eth }}\", mac: \"{{ mac }}\"",
        "\"eth9\"",
        "the facts hold no MAC address of `eth9`",
    );
    let interface = |name: &str, mac: &str| {
        format!("(name: \"{name}\", mac: \"{mac}\", address: dhcp), (name: \"{{{{ eth }}}}\"")
    };
    let mut facts = sample_machine();
    facts.push("network", "eth1", "serial", "52:54:00:00:00:02");
    for (name, mac, twice) in [
        ("eth0", "52:54:00:00:00:02", Some("eth0")),
        ("eth1", "52:54:00:00:00:01", Some("52:54:00:00:00:01")),
        ("eth1", "52:54:00:00:00:02", None),
    ] {
        let plan = plan_with("(name: \"{{ eth }}\"", &interface(name, mac), &facts);
        let expected = twice.map(|name| Problem::InterfaceTwice { name: name.to_owned() });
        assert_eq!(plan.err().map(|error| error.problem), expected, "{name} {mac}");
    }
    // The kernel has room for 15 characters, and a file is called like it.
    for bad in ["", "a-name-of-16-c-s", ".eth0", "eth/0", "eth 0", "é"] {
        let name = format!("\"{bad}\"");
        refused("\"{{ eth }}\"", &name, &format!("`{bad}` is not an interface name"));
    }
    for good in ["a-name-of-15-cs", "eth0.100", "e"] {
        let name = format!("\"{good}\"");
        plan_with("\"{{ eth }}\"", &name, &sample_machine()).unwrap();
    }
    refused("\"10.0.2.253\"", "\"dns\"", "`dns` is not the address of a name server");
    refused("console=tty0", "a b", "`a b` cannot be a kernel argument");
    refused("console=tty0", "$(reboot)", "`$(reboot)` cannot be a kernel argument");
    refused("\"0644\"", "\"0648\"", "`0648` is not a mode");
    refused("/etc/motd.d/role", "/etc/../x", "cannot be the path of a file");
    let twice = "/etc/a\", content: \"\"), (path: \"/etc/b\", content: \"\"), (path: \"/etc/";
    refused("/etc/motd.d/role", &format!("{twice}a"), "/etc/a");
    plan_with("/etc/motd.d/role", &format!("{twice}c"), &sample_machine()).unwrap();
    for bad in ["44", "06440", "064a", ""] {
        refused("\"0644\"", &format!("\"{bad}\""), &format!("`{bad}` is not a mode"));
    }
    refused("name: \"ssh server\"", "name: \" \"", "vm.configure:");
    let run = "(name: \"ssh server\", at: after_tree, command: [\"true\"]), (name: \"ssh server\"";
    refused("(name: \"ssh server\"", run, "ssh server");
    refused(
        "command: [\"systemctl\", \"enable\", \"ssh.service\"]",
        "command: []",
        "needs either `command`",
    );
    refused(
        "command: [\"systemctl\", \"enable\", \"ssh.service\"]",
        "script: \"x\"",
        "the script `x` is not in",
    );
    refused(
        "command: [\"systemctl\", \"enable\", \"ssh.service\"]",
        "script: \"bad\"",
        "does not begin with `#!`",
    );
    refused("after_tree", "before_disks", "cannot use `chroot: true` before the tree is there");
}

#[test]
fn a_value_of_the_machine_adds_no_line_and_no_structure() {
    let evil = "x\nPermitRootLogin yes";
    let mut facts = sample_machine();
    facts.push("system", "product", "serial", evil);
    let mut variables = variables();
    variables.insert("serial".to_owned(), evil.into());
    for (from, to) in [("mysql on", "{{ serial }}"), ("console=tty0", "x={{ serial }}")] {
        let error = plan_of(&VM.replace(from, to), &facts, &variables).unwrap_err();
        assert!(
            error.to_string().contains("the value of `serial` holds a control character"),
            "{error}"
        );
    }
    variables.insert("hostname".to_owned(), "a\"), (device: \"/dev/vdb".into());
    let error = plan_of(VM, &facts, &variables).unwrap_err();
    assert!(matches!(error.problem, Problem::Hostname { .. }), "{error}");
}

#[test]
fn a_file_of_the_admin_replaces_the_generated_one() {
    let plan = plan_with("/etc/motd.d/role", "/etc/hosts", &sample_machine()).unwrap();
    let hosts: Vec<&str> = plan
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::WriteFile { file } if file.path == "/etc/hosts" => Some(file.content.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(hosts, ["mysql on host03\n"]);
}

#[test]
fn run_steps_get_the_variables_in_their_environment() {
    let mut variables = variables();
    variables.insert("eth-mgmt".to_owned(), "eth1".into());
    let plan = plan_of(VM, &sample_machine(), &variables).unwrap();
    let environment = plan.steps.iter().find_map(|step| match &step.action {
        Action::Run { environment, .. } if step.id == "run ssh server" => Some(environment),
        _ => None,
    });
    let environment = environment.unwrap();
    assert_eq!(environment["EDEPLOY_eth_mgmt"], "eth1");
    assert_eq!(environment["EDEPLOY_ROLE"], "mysql");
}

#[test]
fn facts_of_the_original_plan_with_what_the_disk_has_for_certain() {
    let mut facts = Facts::default();
    facts.push("disk", "vda", "size", "10");
    facts.push("network", "eth0", "serial", "52:54:00:00:00:01");
    let plan = plan_of(VM, &facts, &variables()).unwrap();
    assert_eq!(
        plan.disks[0].size,
        crate::plan::DiskSize::AtLeast(crate::units::Bytes(10_000_000_000))
    );
    for (key, value) in [("model", "QEMU"), ("size", "0"), ("bytes", "0"), ("size", "N/A")] {
        facts.0.retain(|fact| fact.0 != "disk");
        facts.push("disk", "vda", key, value);
        let error = plan_of(VM, &facts, &variables()).unwrap_err();
        let expected = Problem::DiskSize { disk: "/dev/vda".to_owned() };
        assert_eq!(error.problem, expected, "{key} {value}");
    }
}

#[test]
fn secrets_are_listed_and_hidden_from_the_description() {
    let text = VM.replace("\"ssh.service\"", "\"hunter2\"");
    let plan = plan_of(&text, &sample_machine(), &variables()).unwrap();
    assert_eq!(plan.secrets, ["hunter2"]);
    let shown = plan.to_string();
    assert!(!shown.contains("hunter2") && shown.contains("********"), "{shown}");
}

#[test]
fn what_destroys_the_data_of_a_disk_says_which() {
    let plan = plan_of(VM, &sample_machine(), &variables()).unwrap();
    let destroying: Vec<(&str, &str)> = plan
        .steps
        .iter()
        .filter_map(|step| Some((step.id.as_str(), step.action.destroys()?)))
        .collect();
    assert_eq!(destroying, [("clear /dev/vda", "/dev/vda"), ("table /dev/vda", "/dev/vda")]);
}
