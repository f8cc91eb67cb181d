//! What is known of every Linux system, whatever its role.

/// What belongs to one machine, by the reason why.
pub(super) const MACHINE: [(&str, &[&str]); 6] = [
    (
        "The kernel's and the running system's.",
        &[
            "/dev/",
            "/proc/",
            "/run/",
            "/sys/",
            "/tmp/",
            "/var/lock",
            "/var/run",
            "/var/tmp/",
            "/lib/init/rw",
            "/etc/mtab",
            "/etc/nologin",
            "/etc/network/run",
            "lost+found",
        ],
    ),
    (
        "How this machine boots and what its disks are.",
        &[
            "/boot/efi/",
            "/boot/grub/",
            "/boot/grub2/",
            "/boot/loader/",
            "/etc/.pwd.lock",
            "/etc/adjtime",
            "/etc/blkid.tab",
            "/etc/blkid.tab.old",
            "/etc/crypttab",
            "/etc/default/grub",
            "/etc/default/grub.d/",
            "/etc/fstab",
            "/etc/lvm/archive/",
            "/etc/lvm/backup/",
            "/etc/mdadm/mdadm.conf",
            "/etc/mdadm.conf",
        ],
    ),
    (
        "What this machine is called and where it is in the network.",
        &[
            "/etc/hostname",
            "/etc/hosts",
            "/etc/machine-id",
            "/etc/network/interfaces",
            "/etc/network/interfaces/",
            "/etc/networks",
            "/etc/resolv.conf",
            "/etc/sysconfig/network",
            "/etc/sysconfig/network-scripts/",
            "/etc/systemd/network/",
            "/etc/udev/rules.d/70-persistent-*.rules",
        ],
    ),
    ("Who it is to others: keys that only this machine has.", &["/etc/ssh/ssh_host_*"]),
    (
        "What was set up on it by hand, or for it.",
        &[
            "/etc/default/locale",
            "/etc/init.d/.depend.*",
            "/etc/localtime",
            "/etc/motd",
            "/etc/rc.local",
            "/etc/sudoers.d/90-cloud-init-users",
            "/etc/timezone",
            "/home/",
            "/root/",
        ],
    ),
    (
        "What it wrote down.",
        &[
            "/var/backups/",
            "/var/crash/",
            "/var/lib/apt/lists/",
            "/var/lib/dpkg/*-old",
            "/var/lib/dpkg/lock*",
            "/var/lib/systemd/linger/",
            "/var/lib/systemd/random-seed",
            "/var/lib/systemd/timers/",
            "/var/lib/systemd/timesync/",
            "/var/lib/edeploy/",
            "/var/lib/urandom/",
            "/var/log/",
            "/var/mail/",
            "/var/spool/",
        ],
    ),
];

/// Accounts, which hosts add to and roles sometimes change.
pub(super) const ACCOUNTS: [&str; 6] =
    ["etc/group", "etc/gshadow", "etc/passwd", "etc/shadow", "etc/subgid", "etc/subuid"];

/// Folders of `/var/lib` that the tools of a tree keep and that must follow its files: databases
/// of what is installed.
pub(super) const DATABASES: [&str; 9] =
    ["alternatives", "apt", "dnf", "dpkg", "pam", "rpm", "shells.state", "systemd", "yum"];

/// What lies in `/etc` and is no configuration of people: it must follow the programs.
pub(super) const PROGRAMS: [&str; 26] = [
    ".updated",
    "alternatives",
    "apt",
    "bash_completion.d",
    "ca-certificates",
    "debian_version",
    "dpkg",
    "init.d",
    "issue",
    "issue.net",
    "kernel",
    "ld.so.cache",
    "ld.so.conf.d",
    "os-release",
    "pam.d",
    "rc0.d",
    "rc1.d",
    "rc2.d",
    "rc3.d",
    "rc4.d",
    "rc5.d",
    "rc6.d",
    "rcS.d",
    "rpm",
    "ssl",
    "systemd",
];
