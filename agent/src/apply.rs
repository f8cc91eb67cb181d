//! `edeploy-agent apply PLAN`: shows what a plan does, command by command, and with `--write`
//! does it.
//!
//! Outside the initrd every disk that is destroyed must be named with `--disk` as well: a plan
//! file alone never erases a disk of somebody's desk.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use specs::plan::{Plan, PlannedDisk};

use crate::execute::{
    EventSink, Executor, Failure, Installation, LinuxSystem, Op, Origin, Receipt, finishing,
    operations, redact,
};
use crate::world::{Cmd, RealRunner, Root};

/// What `apply` was asked for.
#[derive(Debug, Clone)]
pub struct ApplyOptions {
    /// Carry the plan out instead of showing it.
    pub write: bool,
    /// Serial number or WWN of each disk that may be destroyed; the path of a disk that has
    /// neither.
    pub disks: Vec<String>,
    /// Whether this is the initrd, where the server's plan is consent enough.
    pub in_initrd: bool,
    /// Where the tree comes from.
    pub origin: Origin,
    /// Where the tree is mounted while it is written, [`crate::execute::TARGET`] as a rule.
    pub target: PathBuf,
}

/// Why a plan was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The file could not be read.
    #[error("cannot read plan `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no plan.
    #[error("`{}` is not a plan", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<ron::error::SpannedError>,
    },
    /// A disk was not named.
    #[error("the plan destroys {disk}: to do so, add `--disk {name}`")]
    NotNamed {
        /// Path in the plan.
        disk: String,
        /// What names it.
        name: String,
    },
    /// It was begun and failed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Reads a plan file, in RON.
pub fn read_plan(path: &Path) -> Result<Plan, ApplyError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ApplyError::Read { path: path.to_owned(), source })?;
    specs::wire::ron_options()
        .from_str(&text)
        .map_err(|source| ApplyError::Parse { path: path.to_owned(), source: Box::new(source) })
}

/// Shows or does what the plan says: the text to print, or, with `write`, the receipt.
pub fn run(
    plan: &Plan,
    options: &ApplyOptions,
    events: &mut dyn EventSink,
) -> Result<Applied, ApplyError> {
    let installation = Installation {
        plan,
        facts: None,
        origin: &options.origin,
        log: None,
        target: options.target.clone(),
    };
    if !options.write {
        return Ok(Applied::Shown(show(&installation)));
    }
    if !options.in_initrd {
        check_named(plan, &options.disks)?;
    }
    let mut executor = Executor {
        runner: &mut RealRunner,
        system: &mut LinuxSystem,
        root: Root::system(),
        events,
    };
    Ok(Applied::Written(executor.execute(&installation)?))
}

/// What `apply` did.
#[derive(Debug, Clone, PartialEq)]
pub enum Applied {
    /// Nothing was written; this would be done.
    Shown(String),
    /// The plan was carried out.
    Written(Receipt),
}

/// Every operation of the plan, in order, with a heading per step. Values of [`Plan::secrets`]
/// are not shown. `$TARGET` is the folder that the tree is mounted at.
pub fn show(installation: &Installation<'_>) -> String {
    let plan = installation.plan;
    let mut text = format!(
        "# {} as {} {} on {}\nTARGET={}\n",
        plan.hostname,
        plan.role.name,
        plan.role.version,
        disks(plan),
        installation.target.display()
    );
    let mut section = |title: &str, destroys: bool, ops: &[Op]| {
        let mark = if destroys { " (destroys data)" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n# {title}{mark}");
        for op in ops {
            if let Some(why) = why(op) {
                let _ = writeln!(text, "# {why}");
            }
            let _ = writeln!(text, "{op}");
        }
    };
    for step in &plan.steps {
        let ops = operations(installation, step);
        section(&step.id, step.action.destroys().is_some(), &ops);
    }
    section(crate::execute::FINISH, false, &finishing(installation));
    redact(&text, &plan.secrets)
}

fn disks(plan: &Plan) -> String {
    let names: Vec<&str> = plan.disks.iter().map(|disk| disk.path.as_str()).collect();
    names.join(", ")
}

fn why(op: &Op) -> Option<&str> {
    let cmd: &Cmd = match op {
        Op::Run(cmd) | Op::Fetch(cmd) => cmd,
        Op::RunFirst(cmds) => cmds.first()?,
        _ => return None,
    };
    (!cmd.why.is_empty()).then_some(cmd.why.as_str())
}

/// Every disk that a step destroys must be among the names.
fn check_named(plan: &Plan, named: &[String]) -> Result<(), ApplyError> {
    let destroyed = |disk: &&PlannedDisk| {
        plan.steps.iter().any(|step| step.action.destroys() == Some(disk.path.as_str()))
    };
    for disk in plan.disks.iter().filter(destroyed) {
        let identity = disk.serial.as_ref().or(disk.wwn.as_ref());
        let is_named = match identity {
            None => named.contains(&disk.path),
            Some(_) => {
                [&disk.serial, &disk.wwn].into_iter().flatten().any(|name| named.contains(name))
            }
        };
        if !is_named {
            let name = identity.unwrap_or(&disk.path).clone();
            return Err(ApplyError::NotNamed { disk: disk.path.clone(), name });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use specs::configure::Configure;
    use specs::facts::Facts;
    use specs::plan::build;
    use specs::units::Token;
    use specs::value::{Value, Variables};

    use super::*;
    use crate::execute::Objection;

    const CONFIGURE: &str = r#"(
        role: (name: "mysql", version: "D12-F.1.0.0"),
        hostname: "host03",
        disks: [(device: "/dev/vda", table: gpt, boot: auto, partitions: [
            (label: "root", size: "rest", use: filesystem(type: ext4, mount: "/")),
        ])],
        files: [(path: "/etc/token", content: "{{ token }}", mode: "0600")],
    )"#;

    fn plan(serial: Option<&str>) -> Plan {
        let mut facts = Facts::default();
        facts.push("disk", "vda", "bytes", 4_i64 << 30);
        if let Some(serial) = serial {
            facts.push("disk", "vda", "serial", serial);
        }
        let variables = Variables::from([("token".to_owned(), Value::from("s3cr3t"))]);
        let inputs = build::Inputs {
            facts: &facts,
            variables: &variables,
            profile: &"vm".parse().unwrap(),
            nonce: &Token::from_bytes([3; 16]),
            secrets: &["s3cr3t".to_owned()],
            scripts: &std::collections::BTreeMap::new(),
        };
        build::plan(&Configure::parse("vm.configure", CONFIGURE).unwrap(), &inputs).unwrap()
    }

    fn options(write: bool) -> ApplyOptions {
        ApplyOptions {
            write,
            disks: Vec::new(),
            in_initrd: false,
            origin: Origin {
                server: "192.0.2.1".to_owned(),
                rsync_host: "192.0.2.1".to_owned(),
                rsync_port: 873,
                rsync_path: "install".to_owned(),
                archives: None,
            },
            target: PathBuf::from(crate::execute::TARGET),
        }
    }

    struct NoEvents;

    impl EventSink for NoEvents {
        fn event(&mut self, event: specs::event::Event) {
            panic!("a dry run tells {event:?}");
        }

        fn confirm(&mut self) -> Result<(), Objection> {
            panic!("a dry run destroys nothing");
        }

        fn proceed(&mut self) -> Result<(), Objection> {
            panic!("a dry run has no steps");
        }
    }

    #[test]
    fn a_dry_run_shows_every_step_and_no_secret() {
        let plan = plan(Some("S1"));
        let Ok(Applied::Shown(text)) = run(&plan, &options(false), &mut NoEvents) else {
            panic!("nothing shown");
        };
        for step in &plan.steps {
            assert!(text.contains(&format!("\n# {}", step.id)), "{}: {text}", step.id);
        }
        assert!(text.contains("<secret>") && !text.contains("s3cr3t"), "{text}");
        assert!(text.trim_end().ends_with("\nsync /dev/vda2"), "{text}");
    }

    #[test]
    fn a_disk_that_is_not_named_is_not_destroyed() {
        for (serial, named, wanted) in [
            (Some("S1"), vec![], Some("S1")),
            (Some("S1"), vec!["S2", "/dev/vda"], Some("S1")),
            (Some("S1"), vec!["S1"], None),
            (None, vec!["S1"], Some("/dev/vda")),
            (None, vec!["/dev/vda"], None),
        ] {
            let named: Vec<String> = named.into_iter().map(str::to_owned).collect();
            let found = match check_named(&plan(serial), &named) {
                Ok(()) => None,
                Err(ApplyError::NotNamed { disk, name }) => {
                    assert_eq!(disk, "/dev/vda");
                    Some(name)
                }
                Err(other) => panic!("{other}"),
            };
            assert_eq!(found.as_deref(), wanted, "{serial:?} {named:?}");
        }
        let refused = run(&plan(Some("S1")), &options(true), &mut NoEvents);
        assert!(matches!(refused, Err(ApplyError::NotNamed { .. })), "{refused:?}");
    }
}
