//! What goes into the tree: the role, files, the records of the installation, and the commands
//! that an admin runs in it.

use std::collections::BTreeMap;
use std::time::Duration;

use specs::plan::{Action, BootTarget, Command, File, Plan, Role};

use super::op::Op;
use super::redact::redact;
use super::target::{in_chroot, inside};
use super::{Installation, rsync};
use crate::archive;
use crate::assignments;
use crate::world::{Cmd, Program};

/// Where an installed host keeps what it is (read by `edeploy`).
pub(crate) const CONF: &str = "/var/lib/edeploy/conf";

/// Where an installed host keeps how it was made.
pub(crate) const RECORDS: &str = "/var/log/edeploy";

/// After a connection to the server of archives has broken.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

pub(super) fn fetch(installation: &Installation<'_>, role: &Role) -> Vec<Op> {
    if let Some(urls) = installation.origin.archive_urls(role) {
        let folder = installation.target.clone();
        let deadline = Cmd::DEADLINE;
        return vec![Op::Unpack(archive::Fetch {
            urls,
            folder,
            deadline,
            first_pause: FIRST_PAUSE,
        })];
    }
    let folder = format!("{}/", installation.target.display());
    vec![Op::Fetch(rsync::fetch(&installation.origin.tree_url(role), &folder))]
}

pub(super) fn write(file: &File) -> Vec<Op> {
    let File { path, content, mode, uid, gid } = file.clone();
    vec![Op::WriteFile { path, content, mode, owner: (uid, gid) }]
}

/// Writes where the machine came from, and how it was made, without secrets.
pub(super) fn record(installation: &Installation<'_>) -> Vec<Op> {
    let Installation { plan, origin, .. } = *installation;
    let key = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let conf = Op::SetKeys {
        path: CONF.to_owned(),
        keys: vec![
            key("VERS", plan.role.version.as_str()),
            key("ROLE", plan.role.name.as_str()),
            key("SERV", &origin.server),
            key("RSERV", &origin.rsync_host),
            key("RPATH", &origin.rsync_path),
            key("RSERV_PORT", &origin.rsync_port.to_string()),
        ],
    };
    let mut vars = vec![
        key("ROLE", plan.role.name.as_str()),
        key("VERS", plan.role.version.as_str()),
        key("PROFILE", plan.profile.as_str()),
    ];
    vars.extend(boot_disk(plan).map(|disk| key("DISK", disk)));
    let keep = |name: &str, content: String| Op::WriteFile {
        path: format!("{RECORDS}/{name}"),
        content: redact(&content, &plan.secrets),
        // Facts and plan tell much about a machine; only root reads them.
        mode: 0o600,
        owner: (0, 0),
    };
    let mut ops = vec![
        conf,
        Op::MakeFolder { path: RECORDS.to_owned() },
        Op::WriteFile {
            path: format!("{RECORDS}/vars"),
            content: assignments::set("", &vars),
            mode: 0o644,
            owner: (0, 0),
        },
        keep("plan.ron", plan_text(plan)),
    ];
    if let Some(facts) = installation.facts
        && let Ok(json) = serde_json::to_string_pretty(facts)
    {
        ops.push(keep("facts.json", json + "\n"));
    }
    if let Some(log) = installation.log {
        ops.push(Op::KeepText { from: log.to_owned(), path: format!("{RECORDS}/install.log") });
    }
    ops
}

/// The plan as it may be kept: its own list of secrets is left out.
fn plan_text(plan: &Plan) -> String {
    let public = Plan { secrets: Vec::new(), ..plan.clone() };
    specs::wire::to_ron(&public).unwrap_or_else(|error| format!("// not kept: {error}\n"))
}

/// The disk that the boot loader goes to, or whose EFI system partition it goes to.
fn boot_disk(plan: &Plan) -> Option<&str> {
    plan.steps.iter().find_map(|step| match &step.action {
        Action::InstallBootLoader { target: BootTarget::Bios { disk } } => Some(disk.as_str()),
        Action::InstallBootLoader { target: BootTarget::Uefi { esp, .. } } => {
            super::boot::esp_partition(plan, esp).map(|(disk, _)| disk)
        }
        _ => None,
    })
}

/// Runs a command or script of the admin. A script is put into the tree's `/tmp` for as long as
/// it runs, also when it runs outside of the tree.
pub(super) fn run(
    installation: &Installation<'_>,
    step: &str,
    command: &Command,
    chroot: bool,
    environment: &BTreeMap<String, String>,
) -> Vec<Op> {
    let (program, args, script) = match command {
        Command::Arguments(words) => {
            let (program, args) = words.split_first().map_or(("", &[][..]), |(p, a)| (p, a));
            (program.to_owned(), args, None)
        }
        Command::Script { name, content } => {
            let name: String =
                name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
            let path = format!("/tmp/edeploy-{name}");
            let write = Op::WriteFile {
                path: path.clone(),
                content: content.clone(),
                mode: 0o700,
                owner: (0, 0),
            };
            let at = if chroot {
                path.clone()
            } else {
                inside(&installation.target, &path).display().to_string()
            };
            (at, &[][..], Some((write, Op::RemoveFile { path })))
        }
    };
    let cmd = Cmd {
        args: args.to_vec(),
        environment: environment.clone(),
        chroot: chroot.then(|| installation.target.clone()),
        ..Cmd::of(Program::Named(program), &[])
    };
    let cmd = Op::Run(cmd.why(format!("run `{step}`")));
    let mut ops = if chroot { in_chroot(installation, vec![cmd]) } else { vec![cmd] };
    if let Some((write, remove)) = script {
        ops.insert(0, write);
        ops.push(remove);
    }
    ops
}
