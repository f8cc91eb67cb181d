//! What machine is this? The facts, read from `/sys` and `/proc` through a [`Root`].
//!
//! Every detector is a function from a root to facts, so that a captured tree of a machine is as
//! good as the machine. What `sysinfo` finds (processor, memory, addresses) cannot be pointed at a
//! tree: it is an [`Inventory`], made from the live system or from the files of a capture.
//!
//! Nothing is judged here: junk serials and odd vendors are reported as they stand, the server
//! decides what they are worth. Nothing is written, and what a machine does not have is left out
//! rather than made up. Facts that need vendors' tools (RAID controllers, IPMI, SMART) are not here.

pub mod disks;
mod inventory;
mod memory;
mod networks;
mod system;
mod table;

use specs::facts::Facts;

use crate::world::Root;

pub use inventory::Inventory;
pub(crate) use networks::{driver, has_carrier, interface_number, mac, names as ethernet_names};
pub use table::table;

/// The facts of the machine below `root`, in the order in which the original reports them:
/// disks, system, memory, networks, processors.
pub fn detect(root: &Root, inventory: &Inventory) -> Facts {
    let mut facts = Facts::default();
    disks::push_facts(&mut facts, root);
    system::push_facts(&mut facts, root);
    memory::push_facts(&mut facts, root, inventory);
    networks::push_facts(&mut facts, root, inventory);
    system::push_processors(&mut facts, root, inventory);
    facts
}

/// The facts of this machine, or of the one that was captured in a tree.
pub fn detect_at(root: &Root) -> Facts {
    let inventory = if *root == Root::system() {
        Inventory::of_this_machine()
    } else {
        Inventory::of_capture(root)
    };
    detect(root, &inventory)
}

/// A file of one value, without blanks around it; `None` when absent, unreadable or empty.
fn value(root: &Root, path: &str) -> Option<String> {
    let bytes = root.read_bytes(path).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// As [`value`], as a number.
fn number(root: &Root, path: &str) -> Option<i64> {
    value(root, path)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The folder of captured machines.
    pub(super) fn machine(name: &str) -> Root {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/machines");
        let folder = folder.join(name);
        assert!(folder.is_dir(), "{} is missing", folder.display());
        Root::new(folder)
    }

    #[track_caller]
    fn check(name: &str, expected: expect_test::Expect) {
        expected.assert_eq(&table(&detect_at(&machine(name))));
    }

    #[test]
    fn a_virtual_machine_of_the_lab() {
        check(
            "qemu-virtio",
            expect_test::expect![[r#"
            disk logical
              count                1
            disk vda
              size                 10
              bytes                10737418240
              vendor               0x1af4
              logical_block_size   512
              physical_block_size  512
              optimal_io_size      0
              rotational           1
              nr_requests          256
              removable            no
              transport            virtio
              serial               disk-host03
            system product
              name                 Standard PC (i440FX + PIIX, 1996)
              vendor               QEMU
              version              pc-i440fx-7.2
              uuid                 5f1c7a3e-98b5-4c44-b2ff-2d9b9b1c9f03
            firmware bios
              version              1.16.2-debian-1.16.2-1
              date                 04/01/2014
              vendor               SeaBIOS
            system firmware
              type                 bios
            system kernel
              version              6.1.0-40-amd64
              cmdline              BOOT_IMAGE=vmlinuz initrd=initrd.pxe SERV=10.0.2.2 RSERV_PORT=1515 HTTP_PORT=9000 HTTP_PATH=/cgi-bin/edeploy/ console=ttyS0
              arch                 x86_64
            memory total
              size                 1073741824
            network eth0
              businfo              pci@0000:00:03.0
              ipv4                 10.0.2.15
              ipv4-netmask         255.255.255.0
              ipv4-cidr            24
              ipv4-network         10.0.2.0
              link                 yes
              driver               virtio_net
              serial               52:54:00:88:17:3c
              permanent            yes
            cpu physical
              number               1
            cpu physical_0
              product              QEMU Virtual CPU version 2.5+
              vendor               AuthenticAMD
              cores                1
              threads              1
            cpu logical
              number               1
        "#]],
        );
    }

    #[test]
    fn a_server_with_every_kind_of_disk() {
        check(
            "server-uefi",
            expect_test::expect![[r#"
            disk logical
              count                3
            disk nvme0n1
              size                 1920
              bytes                1920383410176
              model                SAMSUNG MZQL21T9HCJR-00A07
              rev                  GDC5602Q
              logical_block_size   4096
              physical_block_size  4096
              optimal_io_size      0
              rotational           0
              nr_requests          256
              removable            no
              transport            nvme
              serial               S64GNE0R500123
              wwn-id               eui.002538b471b0a1c2
            disk sda
              size                 300
              bytes                300000000000
              vendor               SEAGATE
              model                ST9300605SS
              rev                  0004
              logical_block_size   512
              physical_block_size  512
              optimal_io_size      0
              rotational           1
              nr_requests          256
              removable            no
              transport            sas
              serial               6XP0XXXX0000B2
              wwn-id               0x5000c5005ef1a2b3
            disk sdb
              size                 240
              bytes                240057409536
              vendor               ATA
              model                INTEL SSDSC2BB24
              rev                  0370
              logical_block_size   512
              physical_block_size  4096
              optimal_io_size      0
              rotational           0
              nr_requests          256
              removable            no
              transport            sata
              serial               PHWL4420013K240NGN
              wwn-id               0x55cd2e404b5dcf80
            system product
              serial               To be filled by O.E.M.
              name                 PowerEdge R650
              vendor               Dell Inc.
              uuid                 4c4c4544-0032-4b10-8051-c2c04f4d3032
            system motherboard
              name                 0PYXKY
              vendor               Dell Inc.
              version              A01
              serial               .9K9PW02.CNFCP0015.
            firmware bios
              version              1.6.5
              date                 04/15/2022
              vendor               Dell Inc.
            system firmware
              type                 uefi
            system kernel
              version              6.1.0-40-amd64
              arch                 x86_64
            memory total
              size                 137438953472
            network eth1
              link                 no
              driver               ice
              serial               3c:fd:fe:aa:00:02
              permanent            yes
            network eth0
              ipv4                 192.168.122.33
              ipv4-netmask         255.255.255.0
              ipv4-cidr            24
              ipv4-network         192.168.122.0
              ipv6                 2001:db8::33
              ipv6-cidr            64
              link                 yes
              driver               ice
              speed                25Gbit/s
              duplex               full
              serial               3c:fd:fe:aa:00:01
              permanent            yes
            network eth10
              link                 yes
              driver               tg3
              speed                100Mbit/s
              duplex               full
              serial               02:11:22:33:44:55
              permanent            no
            cpu physical
              number               2
            cpu physical_0
              product              Intel(R) Xeon(R) Gold 5317 CPU @ 3.00GHz
              vendor               GenuineIntel
              cores                2
              threads              4
            cpu physical_1
              product              Intel(R) Xeon(R) Gold 5317 CPU @ 3.00GHz
              vendor               GenuineIntel
              cores                2
              threads              4
            cpu logical
              number               8
        "#]],
        );
    }

    #[test]
    fn an_empty_tree_has_no_facts_but_counts() {
        let folder = tempfile::tempdir().unwrap();
        let text = table(&detect_at(&Root::new(folder.path())));
        expect_test::expect![[r#"
            disk logical
              count   0
            system firmware
              type    bios
            system kernel
              arch    x86_64
            cpu physical
              number  0
            cpu logical
              number  0
        "#]]
        .assert_eq(&text);
    }
}
