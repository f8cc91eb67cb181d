//! `edeploy-server edit`, run as a program with a script for an editor, while machines ask.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::deployment::{Deployment, hostname, machine};
use crate::processes::command;

/// `edit FILE` with an editor that does this to `$1`, the copy.
fn edit(deployment: &Deployment, file: &str, script: &str) -> Command {
    static EDITORS: AtomicUsize = AtomicUsize::new(0);
    let editor = format!("editor-{}", EDITORS.fetch_add(1, Ordering::Relaxed));
    let editor = deployment.path(&editor);
    std::fs::write(&editor, script).unwrap();
    let copies = deployment.path("copies");
    std::fs::create_dir_all(&copies).unwrap();
    let mut edit = command(env!("CARGO_BIN_EXE_edeploy-server"));
    edit.args(["edit", file])
        .env("EDEPLOY_CONF", deployment.path("edeploy.conf"))
        .env("EDITOR", format!("sh -e {}", editor.display()))
        .env_remove("VISUAL")
        .env("TMPDIR", copies)
        .current_dir(deployment.path("config"))
        .stdin(Stdio::null());
    edit
}

/// What was printed, with the exit code before it.
fn shown(output: &Output) -> String {
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}: {out}{err}", output.status.code().unwrap())
}

/// The copies that were kept.
fn copies(deployment: &Deployment) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(deployment.path("copies")).unwrap();
    let files = folders.flat_map(|it| std::fs::read_dir(it.unwrap().path()).unwrap());
    files.map(|it| it.unwrap().path()).collect()
}

/// Runs `edit`, and does something while the editor is open.
fn edit_while<T>(
    deployment: &Deployment,
    file: &str,
    script: &str,
    meanwhile: impl FnOnce() -> T,
) -> (String, T) {
    let (opened, go) = (deployment.path("opened"), deployment.path("go"));
    let wait = format!(
        "touch {}; until test -e {}; do sleep 0.02; done\n{script}",
        opened.display(),
        go.display()
    );
    let mut edit = edit(deployment, file, &wait);
    let child = edit.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !opened.exists() {
        assert!(Instant::now() < deadline, "the editor was not opened");
        std::thread::sleep(Duration::from_millis(10));
    }
    let done = meanwhile();
    std::fs::write(&go, "").unwrap();
    (shown(&child.wait_with_output().unwrap()), done)
}

#[test]
fn an_edit_is_in_force_with_what_machines_were_given_meanwhile() {
    let deployment = Deployment::sized(3);
    assert_eq!(hostname(&deployment.upload(&machine(0))).as_deref(), Some("m0"));
    // Somebody puts an entry before all others and removes a free one; m1 is given away.
    let script = "sed -i -e '/\"m2\"/d' -e '1a {\"hostname\": \"new\", \"ip\": \"10.1.9.9\", \
                  \"netmask\": \"255.255.0.0\", \"gateway\": \"10.1.255.254\"},' \"$1\"";
    let (said, given) = edit_while(&deployment, "vm.cmdb", script, || {
        let given = hostname(&deployment.upload(&machine(1)));
        deployment.sync();
        given
    });
    assert_eq!(given.as_deref(), Some("m1"), "a machine waited for an editor");
    assert!(said.starts_with("0: "), "{said}");
    assert!(said.contains("1 entry changed") && said.contains("meanwhile"), "{said}");
    assert!(copies(&deployment).is_empty());
    let text = deployment.read("config/vm.cmdb");
    assert!(text.contains("\"new\"") && !text.contains("\"m2\""), "{text}");
    let used = deployment.used();
    assert_eq!(used.into_iter().collect::<Vec<_>>(), ["m0", "m1"]);
    // And everyone keeps what they have.
    for (n, expected) in [(0, "m0"), (1, "m1"), (2, "new")] {
        assert_eq!(hostname(&deployment.upload(&machine(n))).as_deref(), Some(expected));
    }
}

#[test]
fn counts_taken_while_the_editor_is_open_stay_taken() {
    for sync in [true, false] {
        let deployment = Deployment::sized(5);
        let script = "sed -i 's/5/9/' \"$1\"";
        let (said, ()) = edit_while(&deployment, "state", script, || {
            deployment.upload(&machine(1));
            if sync {
                deployment.sync();
            }
        });
        assert!(said.contains("the count of vm goes from 4 to 8"), "{said}");
        deployment.sync();
        assert_eq!(deployment.count(), "8");
        deployment.upload(&machine(2));
        deployment.sync();
        assert_eq!(deployment.count(), "7");
    }
}

#[test]
fn an_edit_of_the_entry_that_was_given_away_is_refused_and_kept() {
    let deployment = Deployment::sized(2);
    let script = "sed -i 's/10.1.0.1\"/10.1.0.77\"/' \"$1\"";
    let (said, _) = edit_while(&deployment, "vm.cmdb", script, || deployment.upload(&machine(1)));
    assert!(said.starts_with("1: "), "{said}");
    assert!(said.contains("has changed entry 1 of vm.cmdb meanwhile"), "{said}");
    let copies = copies(&deployment);
    assert!(said.contains(copies[0].to_str().unwrap()), "{said}");
    assert!(std::fs::read_to_string(&copies[0]).unwrap().contains("10.1.0.77"));
    let text = deployment.read("config/vm.cmdb");
    assert!(text.contains("52:54:00:00:00:01") && !text.contains("10.1.0.77"), "{text}");
}

#[test]
fn an_edit_that_is_killed_is_in_force_or_its_copy_is_there() {
    let deployment = Deployment::sized(30);
    for n in 0..30 {
        let (left, done) = (100 + n, deployment.path(&format!("done-{n}")));
        let script = format!("echo '[(\"vm\", {left})]' > \"$1\"; touch {}", done.display());
        let mut child = edit(&deployment, "state", &script).stdout(Stdio::null()).spawn().unwrap();
        deployment.upload(&machine(n));
        while !done.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Somewhere between the end of the editor and that of the edit.
        std::thread::sleep(Duration::from_micros(u64::from(n) * 1500));
        child.kill().unwrap();
        child.wait().unwrap();
        deployment.sync();
        let said = format!("\"vm\", {left}");
        let kept = copies(&deployment)
            .iter()
            .any(|copy| std::fs::read_to_string(copy).unwrap().contains(&said));
        let count: u32 = deployment.count().parse().unwrap();
        assert!(kept || (left - 1..=left).contains(&count), "{n}: {count}");
        assert_eq!(deployment.used().len(), n as usize + 1);
    }
}

#[test]
fn a_mistake_never_comes_into_force() {
    for (file, script, place) in [
        ("vm.specs", "echo '[(\"disk\",' > \"$1\"", "vm.specs:"),
        ("vm.configure", "sed -i 's/{{ hostname }}/{{ nobody }}/' \"$1\"", "vm.configure:"),
        ("state", "echo '[(\"vm\", 4), (\"hp\", 1)]' > \"$1\"", "hp.specs"),
        ("vm.cmdb", "printf '[{\"a\": \"\\377\"}]' > \"$1\"", "vm.cmdb:1:"),
    ] {
        let deployment = Deployment::readme();
        let before = deployment.read(&format!("config/{file}"));
        let said = shown(&edit(&deployment, file, script).output().unwrap());
        assert!(said.starts_with("1: "), "{file}: {said}");
        assert!(said.contains(place), "{file}: {said}");
        assert_eq!(deployment.read(&format!("config/{file}")), before);
        let copies = copies(&deployment);
        assert!(said.contains(copies[0].to_str().unwrap()), "{file}: {said}");
        assert_ne!(std::fs::read(&copies[0]).unwrap(), before.as_bytes(), "{file}");
        assert_eq!(hostname(&deployment.upload(&machine(1))).as_deref(), Some("host03"));
    }
}

#[test]
fn a_broken_file_is_mended_while_others_are_broken_as_well() {
    let deployment = Deployment::readme();
    let good = deployment.read("config/vm.specs");
    deployment.write("config/vm.specs", "[(\"disk\",");
    deployment.write("config/state", "[(\"vm\", 4), (\"hp\", 1)]");
    deployment.write("good", &good);
    let script = format!("cat {} > \"$1\"", deployment.path("good").display());
    let said = shown(&edit(&deployment, "vm.specs", &script).output().unwrap());
    assert!(said.starts_with("0: ") && !said.contains("hp"), "{said}");
    assert_eq!(deployment.read("config/vm.specs"), good);
}

#[test]
fn what_is_not_edited_leaves_nothing_behind() {
    let deployment = Deployment::readme();
    let before = deployment.read("config/vm.cmdb");
    for (file, script, expected) in [
        ("vm.cmdb", "true", "0: vm.cmdb is unchanged"),
        // A path of such a file, and a program that fails.
        ("../config/vm.cmdb", "exit 3", "3: edeploy-server: the editor sh"),
        ("../vm.cmdb", "true", "is no CONFIGDIR or STATEDIR of edeploy.conf"),
        (".hidden", "true", "cannot be a file of the configuration"),
    ] {
        let said = shown(&edit(&deployment, file, script).output().unwrap());
        assert!(said.contains(expected), "{file}: {said}");
        assert!(copies(&deployment).is_empty(), "{file}: {said}");
    }
    assert_eq!(deployment.read("config/vm.cmdb"), before);
    let no_editor = edit(&deployment, "state", "true").env_remove("EDITOR").output().unwrap();
    assert!(shown(&no_editor).contains("name a program in EDITOR"), "{}", shown(&no_editor));
    // The work of an editor that failed is kept.
    let said = edit(&deployment, "vm.cmdb", "echo more >> \"$1\"; exit 1").output().unwrap();
    assert!(shown(&said).contains(copies(&deployment)[0].to_str().unwrap()), "{}", shown(&said));
}

#[test]
fn a_file_has_one_editor_at_a_time_and_other_files_theirs() {
    let deployment = Deployment::readme();
    let (_, others) = edit_while(&deployment, "state", "true", || {
        ["state", "vm.specs"].map(|file| shown(&edit(&deployment, file, "true").output().unwrap()))
    });
    assert!(others[0].contains("somebody else is editing state"), "{}", others[0]);
    assert!(others[1].contains("vm.specs is unchanged"), "{}", others[1]);
}

#[test]
fn a_new_file_is_made_and_one_in_a_checkout_stays_as_it_is() {
    let cmdb = "generate({\"hostname\": \"m1-3\", \"ip\": \"10.1.0.1-3\", \
                \"netmask\": \"255.255.0.0\", \"gateway\": \"10.1.255.254\"})\n";
    let deployment = Deployment::with_settings("[(\"vm\", 3)]", cmdb, "STATEDIR=written\n");
    // A server that runs already, and has seen CONFIGDIR alone.
    deployment.application.store("SERVER").unwrap().look(|_| ()).unwrap();
    let said = shown(&edit(&deployment, "run.sh", "echo true > \"$1\"").output().unwrap());
    assert!(said.contains("run.sh is a new file"), "{said}");
    assert_eq!(deployment.read("config/run.sh"), "true\n");
    // With a STATEDIR its copy is what is edited; CONFIGDIR is only read.
    let script = "sed -i s/m1-3/n1-3/ \"$1\"";
    let said = shown(&edit(&deployment, "vm.cmdb", script).output().unwrap());
    assert!(said.contains("written/vm.cmdb is in force"), "{said}");
    assert_eq!(deployment.read("config/vm.cmdb"), cmdb);
    assert_eq!(hostname(&deployment.upload(&machine(1))).as_deref(), Some("n1"));
    deployment.sync();
    let said = shown(&edit(&deployment, "vm.cmdb", "sed -i s/n3/o3/ \"$1\"").output().unwrap());
    assert!(said.contains("1 entry changed"), "{said}");
    assert!(deployment.read("written/vm.cmdb").contains("o3"), "{said}");
    assert_eq!(hostname(&deployment.upload(&machine(1))).as_deref(), Some("n1"));
}
