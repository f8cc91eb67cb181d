//! What plans are translated to: operations, by step.

use expect_test::{Expect, expect};
use specs::plan::{Action, Command, Plan, Step};

use super::*;

/// The operations of the steps that `wanted` picks, one a line, as a dry run shows them.
#[track_caller]
fn check(plan: &Plan, wanted: impl Fn(&Action) -> bool, expected: &Expect) {
    let origin = origin();
    let installation = Installation {
        plan,
        facts: None,
        origin: &origin,
        log: None,
        target: PathBuf::from(TARGET),
    };
    let steps = plan.steps.iter().filter(|step| wanted(&step.action));
    let ops = steps.flat_map(|step| operations(&installation, step));
    let lines: Vec<String> = ops.map(|op| op.to_string()).collect();
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn clearing_takes_a_disk_out_of_use_and_erases_it() {
    let wanted = |action: &Action| matches!(action, Action::ClearDisk { .. });
    check(
        &vm("bios"),
        wanted,
        &expect![[r#"
            # swapoff, vgchange, dmsetup remove and mdadm --stop for what is found on /dev/vda
            wipefs --no-act /dev/vda
            # wipefs and partx --delete for the partitions found on /dev/vda
            wipefs --all --force /dev/vda
            dd if=/dev/zero of=/dev/vda bs=1M count=1 conv=fsync; dd if=/dev/zero of=/dev/vda bs=512 count=2048 conv=fsync seek=$(( $(blockdev --getsz /dev/vda) - 2048 ))
            udevadm settle  # where udev runs"#]],
    );
}

#[test]
fn tables_are_written_in_one_call_and_their_nodes_awaited() {
    let wanted = |action: &Action| matches!(action, Action::WriteTable { .. });
    check(
        &vm("bios"),
        wanted,
        &expect![[r#"
            sfdisk --quiet --wipe always --wipe-partitions always --no-reread --no-tell-kernel /dev/vda <<'END'
            label: gpt
            label-id: ea677403-3ab2-858b-88fd-08cd24455396
            unit: sectors
            1: start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649, uuid=23f58cc6-af55-8c47-960b-330ad60976ab
            2: start=4096, size=20965376, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=6f4d623b-d0b3-8d81-8eec-5461bfb16a50, name="root"
            END
            partx --update /dev/vda  # unless udev did"#]],
    );
}

#[test]
fn an_mbr_has_an_active_partition() {
    let wanted = |action: &Action| matches!(action, Action::WriteTable { .. });
    let facts = facts(&["vda"], "bios");
    check(
        &plan(&VM.replace("gpt", "msdos"), &facts, &[("disk", "vda")]),
        wanted,
        &expect![[r#"
            sfdisk --quiet --wipe always --wipe-partitions always --no-reread --no-tell-kernel /dev/vda <<'END'
            label: dos
            label-id: 0xea677403
            unit: sectors
            1: start=2048, size=20969472, type=83, bootable
            END
            partx --update /dev/vda  # unless udev did"#]],
    );
}

#[test]
fn file_systems_get_their_identifiers_and_labels() {
    let facts = facts(&["vda", "nvme0n1", "vdc"], "uefi");
    let disks = [("disk1", "vda"), ("disk2", "nvme0n1"), ("disk3", "vdc")];
    let wanted =
        |action: &Action| matches!(action, Action::MakeFilesystem { .. } | Action::Mount { .. });
    check(
        &plan(STORAGE, &facts, &disks),
        wanted,
        &expect![[r#"
        mkfs.fat -F 32 -i 692D3D04 /dev/vda1
        udevadm settle  # where udev runs
        mkfs.ext4 -F -q -U 7158f737-5bfa-8032-9ed7-13a2f547b3b1 -L root /dev/vda2
        udevadm settle  # where udev runs
        mkswap -f -U ebde9948-e3fe-805c-ac6d-aaa94154c910 -L swap /dev/vda3
        udevadm settle  # where udev runs
        mkfs.ext4 -F -q -U 268cd043-b1a5-8104-89c9-d408e0edb999 -L var /dev/vda4
        udevadm settle  # where udev runs
        mkfs.xfs -f -q -m uuid=380acaf3-7621-89b9-8569-52997e787a1d -L data-nvme0n1 -i size=1024 /dev/nvme0n1p1
        udevadm settle  # where udev runs
        mkfs.xfs -f -q -m uuid=00686709-e196-8e8c-9f2a-4f3697359eaa -L data-vdc -i size=1024 /dev/vdc1
        udevadm settle  # where udev runs
        mkdir -p /mnt/target && mount -t ext4 /dev/vda2 /mnt/target
        mkdir -p /mnt/target/boot/efi && mount -t vfat -o umask=0077 /dev/vda1 /mnt/target/boot/efi
        mkdir -p /mnt/target/srv/nvme0n1 && mount -t xfs -o noatime,nodev /dev/nvme0n1p1 /mnt/target/srv/nvme0n1
        mkdir -p /mnt/target/srv/vdc && mount -t xfs -o noatime,nodev /dev/vdc1 /mnt/target/srv/vdc
        mkdir -p /mnt/target/var && mount -t ext4 -o noatime /dev/vda4 /mnt/target/var"#]],
    );
}

#[test]
fn the_tree_is_fetched_whole() {
    let wanted = |action: &Action| matches!(action, Action::FetchTree { .. });
    check(
        &vm("bios"),
        wanted,
        &expect![
            "rsync -aHAX --numeric-ids --info=progress2 --no-inc-recursive --timeout=120 --contimeout=30 rsync://10.0.2.2:1515/install/D12-F.1.0.0/mysql/ /mnt/target/"
        ],
    );
}

#[test]
fn a_tree_over_http_is_verified_and_may_lie_in_two_places() {
    let plan = vm("bios");
    let (host, path) = ("fd00::1".to_owned(), "install".to_owned());
    let archives = Some(TreeSource { host, port: 8080, path });
    let origin = Origin { archives, ..origin() };
    let installation = Installation {
        plan: &plan,
        facts: None,
        origin: &origin,
        log: None,
        target: PathBuf::from(TARGET),
    };
    let ops = tree::fetch(&installation, &plan.role);
    let lines: Vec<String> = ops.iter().map(ToString::to_string).collect();
    expect!["curl --fail 'http://[fd00::1]:8080/install/D12-F.1.0.0/mysql-D12-F.1.0.0.edeploy' || curl --fail 'http://[fd00::1]:8080/install/mysql-D12-F.1.0.0.edeploy' | tar --extract --zstd --numeric-owner --xattrs '--xattrs-include=*' --directory=/mnt/target  # verified by SHA256SUMS beside it"].assert_eq(&lines.join("\n"));
}

#[test]
fn the_installed_host_is_told_what_it_is() {
    let mut plan = vm("bios");
    plan.steps.retain(|step| !matches!(step.action, Action::WriteFile { .. }));
    let origin = origin();
    let installation = Installation {
        plan: &plan,
        facts: None,
        origin: &origin,
        log: Some(Path::new("/run/edeploy/install.log")),
        target: PathBuf::from(TARGET),
    };
    let ops = tree::record(&installation);
    let short = ops.iter().map(|op| match op {
        Op::WriteFile { path, .. } if path.ends_with("plan.ron") => format!("(writes {path})"),
        other => other.to_string(),
    });
    expect![[r#"
        # set in $TARGET/var/lib/edeploy/conf: VERS=D12-F.1.0.0 ROLE=mysql SERV=10.0.2.2 RSERV=10.0.2.2 RPATH=install RSERV_PORT=1515
        # note in $TARGET/var/lib/edeploy/own what is not the role's
        mkdir -p $TARGET/var/log/edeploy
        install -D -m 0644 -o 0 -g 0 /dev/stdin $TARGET/var/log/edeploy/vars <<'END'
        ROLE=mysql
        VERS=D12-F.1.0.0
        PROFILE=vm
        DISK=/dev/vda
        END
        (writes /var/log/edeploy/plan.ron)
        cp /run/edeploy/install.log $TARGET/var/log/edeploy/install.log  # without secrets"#]].assert_eq(&short.collect::<Vec<_>>().join("\n"));
}

#[test]
fn commands_run_inside_with_the_machine_bound_and_scripts_do_not_stay() {
    let mut plan = vm("bios");
    let run = |id: &str, command, chroot| Step {
        id: id.to_owned(),
        deadline_seconds: 60,
        action: Action::Run {
            command,
            chroot,
            environment: BTreeMap::from([("EDEPLOY_ip".to_owned(), "192.0.2.103".to_owned())]),
        },
    };
    let script =
        Command::Script { name: "first boot.sh".to_owned(), content: "#!/bin/sh\n".into() };
    let words = Command::Arguments(vec!["mysql-setup".to_owned(), "a b".to_owned()]);
    plan.steps = vec![run("run setup", words, true), run("run script", script, false)];
    check(
        &plan,
        |_| true,
        &expect![[r#"
        mkdir -p /mnt/target/dev && mount --rbind --make-rslave /dev /mnt/target/dev
        mkdir -p /mnt/target/proc && mount --rbind --make-rslave /proc /mnt/target/proc
        mkdir -p /mnt/target/sys && mount --rbind --make-rslave /sys /mnt/target/sys
        mkdir -p /mnt/target/run && mount --rbind --make-rslave /run /mnt/target/run
        EDEPLOY_ip=192.0.2.103 chroot /mnt/target mysql-setup 'a b'
        umount --lazy /mnt/target/run
        umount --lazy /mnt/target/sys
        umount --lazy /mnt/target/proc
        umount --lazy /mnt/target/dev
        install -D -m 0700 -o 0 -g 0 /dev/stdin $TARGET/tmp/edeploy-first_boot_sh <<'END'
        #!/bin/sh
        END
        EDEPLOY_ip=192.0.2.103 /mnt/target/tmp/edeploy-first_boot_sh
        rm $TARGET/tmp/edeploy-first_boot_sh"#]],
    );
}

#[test]
fn under_bios_the_boot_loader_goes_to_the_disk() {
    let wanted = |action: &Action| matches!(action, Action::InstallBootLoader { .. });
    check(
        &vm("bios"),
        wanted,
        &expect![[r#"
        mkdir -p /mnt/target/dev && mount --rbind --make-rslave /dev /mnt/target/dev
        mkdir -p /mnt/target/proc && mount --rbind --make-rslave /proc /mnt/target/proc
        mkdir -p /mnt/target/sys && mount --rbind --make-rslave /sys /mnt/target/sys
        mkdir -p /mnt/target/run && mount --rbind --make-rslave /run /mnt/target/run
        ln -s /dev/vda2 /dev/disk/by-uuid/7158f737-5bfa-8032-9ed7-13a2f547b3b1  # unless udev did
        chroot /mnt/target grub-install --target=i386-pc /dev/vda  # or: chroot /mnt/target grub2-install --target=i386-pc /dev/vda
        chroot /mnt/target grub-mkconfig -o /boot/grub/grub.cfg  # or: chroot /mnt/target grub2-mkconfig -o /boot/grub2/grub.cfg
        grep -F -q root=UUID=7158f737-5bfa-8032-9ed7-13a2f547b3b1 $TARGET/boot/grub/grub.cfg $TARGET/boot/grub2/grub.cfg
        umount --lazy /mnt/target/run
        umount --lazy /mnt/target/sys
        umount --lazy /mnt/target/proc
        umount --lazy /mnt/target/dev"#]],
    );
}

#[test]
fn under_uefi_there_is_a_fallback_and_an_entry_behind_the_others() {
    let wanted = |action: &Action| matches!(action, Action::InstallBootLoader { .. });
    check(
        &vm("uefi"),
        wanted,
        &expect![[r#"
        mkdir -p /mnt/target/dev && mount --rbind --make-rslave /dev /mnt/target/dev
        mkdir -p /mnt/target/proc && mount --rbind --make-rslave /proc /mnt/target/proc
        mkdir -p /mnt/target/sys && mount --rbind --make-rslave /sys /mnt/target/sys
        mkdir -p /mnt/target/run && mount --rbind --make-rslave /run /mnt/target/run
        ln -s /dev/vda2 /dev/disk/by-uuid/7158f737-5bfa-8032-9ed7-13a2f547b3b1  # unless udev did
        chroot /mnt/target grub-install --target=x86_64-efi --efi-directory=/boot/efi --no-nvram --bootloader-id=edeploy  # or: chroot /mnt/target grub2-install --target=x86_64-efi --efi-directory=/boot/efi --no-nvram --bootloader-id=edeploy
        chroot /mnt/target grub-install --target=x86_64-efi --efi-directory=/boot/efi --no-nvram --removable  # or: chroot /mnt/target grub2-install --target=x86_64-efi --efi-directory=/boot/efi --no-nvram --removable
        chroot /mnt/target grub-mkconfig -o /boot/grub/grub.cfg  # or: chroot /mnt/target grub2-mkconfig -o /boot/grub2/grub.cfg
        grep -F -q root=UUID=7158f737-5bfa-8032-9ed7-13a2f547b3b1 $TARGET/boot/grub/grub.cfg $TARGET/boot/grub2/grub.cfg
        umount --lazy /mnt/target/run
        umount --lazy /mnt/target/sys
        umount --lazy /mnt/target/proc
        umount --lazy /mnt/target/dev
        efibootmgr --create-only --disk /dev/vda --part 1 --label edeploy --loader '\EFI\edeploy\grubx64.efi' && efibootmgr --bootorder OLD,NEW  # behind the entries that are there"#]],
    );
}
