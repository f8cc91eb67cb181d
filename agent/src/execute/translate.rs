//! The pure translation: a step of the plan in, its operations out.

use std::time::Duration;

use specs::plan::{Action, Step};

use super::op::Op;
use super::system::SystemCall;
use super::target::inside;
use super::{Installation, boot, disk, tree};

/// What carrying out `step` consists of. Commands get the step's deadline.
pub fn operations(installation: &Installation<'_>, step: &Step) -> Vec<Op> {
    let deadline = Duration::from_secs(u64::from(step.deadline_seconds));
    let mut ops = match &step.action {
        Action::ClearDisk { disk } => disk::clear(disk),
        Action::WriteTable { disk, table, partitions } => {
            disk::write_table(disk, table, partitions, deadline)
        }
        Action::MakeFilesystem { device, filesystem, label, options } => {
            disk::make_filesystem(device, filesystem, label.as_deref(), options)
        }
        Action::Mount { device, path, filesystem, options } => {
            vec![Op::System(SystemCall::Mount {
                source: device.clone(),
                folder: inside(&installation.target, path),
                filesystem: filesystem.clone(),
                options: options.clone(),
            })]
        }
        Action::FetchTree { role } => tree::fetch(installation, role),
        Action::WriteFile { file } => tree::write(file),
        Action::RecordInstallation => tree::record(installation),
        Action::Run { command, chroot, environment } => {
            tree::run(installation, &step.id, command, *chroot, environment)
        }
        Action::InstallBootLoader { target } => boot::install(installation, target),
    };
    for op in &mut ops {
        match op {
            Op::Run(cmd) | Op::Fetch(cmd) => cmd.deadline = deadline,
            Op::Unpack(fetch) => fetch.deadline = deadline,
            Op::RunFirst(cmds) => cmds.iter_mut().for_each(|cmd| cmd.deadline = deadline),
            _ => {}
        }
    }
    ops
}

/// What an installation ends with, after the last step. A disk that has not taken all of it must
/// not count as installed: programs hear nothing of what the kernel writes after them.
pub fn finishing(installation: &Installation<'_>) -> Vec<Op> {
    let target = &installation.target;
    let formatted = installation.plan.steps.iter().filter_map(|step| match &step.action {
        Action::MakeFilesystem { device, .. } => Some(device.clone()),
        _ => None,
    });
    vec![
        Op::System(SystemCall::FlushBelow(target.clone())),
        Op::System(SystemCall::UnmountBelow(target.clone())),
        Op::System(SystemCall::FlushDevices { nodes: formatted.collect() }),
    ]
}
