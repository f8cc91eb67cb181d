//! Looks at the plan before anything is done, and puts into it what the boot arguments add.
//!
//! The boot arguments can override the role (`OS`, `OS_VER`) and add kernel arguments (the text
//! between pipes). They become part of the plan, so that what is recorded on the machine is what
//! was done. Whether the disks are the right ones is looked at by the executor, immediately
//! before the first of them is touched.

use specs::facts::{Facts, Firmware};
use specs::plan::lint::{Note, errors, lint};
use specs::plan::{Action, File, Plan, Step};

use crate::options::AgentOptions;
use crate::world::quote;

/// Read by `update-grub` after the files that the plan itself writes.
const KERNEL_ARGUMENTS: &str = "/etc/default/grub.d/95-edeploy-boot-arguments.cfg";

/// Why a plan is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// It contradicts itself.
    #[error("it contradicts itself: {}", .0.join("; "))]
    Contradiction(Vec<String>),
    /// It is for a machine that was started otherwise.
    #[error("it is made for {planned:?} firmware and this machine was started by {found:?}")]
    Firmware {
        /// What the plan says.
        planned: Firmware,
        /// What the machine is.
        found: Firmware,
    },
}

/// The plan with what the boot arguments add to it.
pub(super) fn amended(mut plan: Plan, options: &AgentOptions) -> Plan {
    if let Some(role) = &options.role {
        plan.role.name = role.clone();
    }
    if let Some(version) = &options.role_version {
        plan.role.version = version.clone();
    }
    let role_of_plan = plan.role.clone();
    for step in &mut plan.steps {
        if let Action::FetchTree { role } = &mut step.action {
            *role = role_of_plan.clone();
        }
    }
    if !options.kernel_arguments.is_empty() {
        let step = kernel_arguments_step(&options.kernel_arguments);
        let boot_loader = plan
            .steps
            .iter()
            .position(|step| matches!(step.action, Action::InstallBootLoader { .. }));
        plan.steps.insert(boot_loader.unwrap_or(plan.steps.len()), step);
    }
    plan
}

/// GRUB's defaults are read by a shell: the arguments are one quoted word in it.
fn kernel_arguments_step(arguments: &[String]) -> Step {
    let added = quote(&format!(" {}", arguments.join(" ")));
    let content = format!(
        "# Added by the boot arguments of the installation.\n\
         GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT\"{added}\n"
    );
    let path = KERNEL_ARGUMENTS.to_owned();
    let file = File { path, content, mode: 0o644, uid: 0, gid: 0 };
    Step {
        id: "kernel arguments".to_owned(),
        deadline_seconds: 60,
        action: Action::WriteFile { file },
    }
}

/// Whether the plan can be carried out on a machine with these facts; says what it will do.
pub(super) fn check(plan: &Plan, facts: &Facts) -> Result<((), String), PlanError> {
    let notes = lint(plan);
    let contradictions: Vec<String> = errors(&notes).map(Note::to_string).collect();
    if !contradictions.is_empty() {
        return Err(PlanError::Contradiction(contradictions));
    }
    let found = facts.firmware();
    if plan.firmware != found {
        return Err(PlanError::Firmware { planned: plan.firmware, found });
    }
    let disks: Vec<&str> = plan.disks.iter().map(|disk| disk.path.as_str()).collect();
    Ok(((), format!("{} {} on {}", plan.role.name, plan.role.version, disks.join(" "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::RawCmdline;
    use specs::plan::{BootTarget, Role};

    fn plan() -> Plan {
        let role = Role { name: "mysql".parse().unwrap(), version: "D12-F.1.0.0".parse().unwrap() };
        let step = |id: &str, action| Step { id: id.to_owned(), deadline_seconds: 60, action };
        Plan {
            format: specs::plan::FORMAT,
            profile: "vm".parse().unwrap(),
            hostname: "host03".to_owned(),
            role: role.clone(),
            firmware: Firmware::Bios,
            disks: Vec::new(),
            root: "0b1e2d3c-4f50-4a6b-8c7d-9e0f10213243".parse().unwrap(),
            steps: vec![
                step("tree", Action::FetchTree { role }),
                step(
                    "boot loader",
                    Action::InstallBootLoader {
                        target: BootTarget::Bios { disk: "/dev/vda".to_owned() },
                    },
                ),
            ],
            secrets: Vec::new(),
        }
    }

    fn amend(cmdline: &str) -> Plan {
        amended(plan(), &AgentOptions::parse(&RawCmdline::parse(cmdline)).unwrap())
    }

    #[test]
    fn boot_arguments_override_the_role_everywhere() {
        assert_eq!(amend("quiet"), plan());
        let amended = amend("OS=base OS_VER=D12-F.1.0.1");
        assert_eq!(amended.role.name.as_str(), "base");
        assert!(
            matches!(&amended.steps[0].action, Action::FetchTree { role } if *role == amended.role)
        );
        assert_eq!(amend("OS=base").role.version.as_str(), "D12-F.1.0.0");
    }

    #[test]
    fn text_between_pipes_is_written_before_the_boot_loader_and_is_no_code() {
        let amended = amend("quiet | console=ttyS0,115200n8 x=$(reboot) |");
        let ids: Vec<&str> = amended.steps.iter().map(|step| step.id.as_str()).collect();
        assert_eq!(ids, ["tree", "kernel arguments", "boot loader"]);
        let Action::WriteFile { file } = &amended.steps[1].action else { panic!("no file") };
        assert_eq!(
            file.content.lines().last().unwrap(),
            "GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT\"' console=ttyS0,115200n8 \
             x=$(reboot)'"
        );
    }

    #[test]
    fn a_plan_that_contradicts_itself_is_refused() {
        // A boot loader on a disk that the plan does not name.
        let error = check(&plan(), &Facts::default()).unwrap_err();
        assert!(matches!(error, PlanError::Contradiction(_)), "{error}");
    }
}
