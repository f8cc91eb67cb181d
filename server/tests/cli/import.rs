//! `import` and `verify-cmdb`.

use serde_json::Value;

use crate::{corpus, folder, run, text};

const SCRIPT: &str = "disk1 = '/dev/' + var['disk']
run('parted -s %s mklabel msdos' % disk1)
set_role('mysql', 'D7-F.1.0.0', disk1)
";

#[test]
fn files_are_converted_with_their_comments_and_scripts_are_read_out() {
    let original = folder(&[
        ("state", "# racks\n[('vm', 4)]\n"),
        ("vm.specs", "[('disk', '$disk', 'size', 'gt(4)')]  # any\n"),
        ("vm.cmdb", "generate({'ip': '10.0.0.3-7', 'hostname': 'host03-07'})\n"),
        ("vm.configure", SCRIPT),
        ("edeploy.conf", "[SERVER]\nCONFIGDIR=config\n"),
        ("notes.txt", "hello"),
        (".vm.specs.swp", "an editor's"),
    ]);
    std::fs::create_dir(original.path().join("hw")).unwrap();
    std::fs::write(original.path().join("hw/a.hw"), "[('a', 'b', 'c', 1)]").unwrap();
    let new = folder(&[]);
    let out = new.path().join("config");
    let (code, shown) = run(&["import", text(original.path()), text(&out)]);
    let expected = " FILE          OUTCOME
 edeploy.conf  copied
 hw/a.hw       converted
 notes.txt     left out: not a file of a CONFIGDIR
 state         converted
 vm.cmdb       converted
 vm.configure  left out: a Python script of 3 statements
 vm.specs      converted

vm.configure: to be written anew
 LINE  STATEMENT                                  DOES                          NOW IN
 1     disk1 = '/dev/' + var['disk']              computes `disk1`              a template `{{ … }}`
 2     run('parted -s %s mklabel msdos' % disk1)  prepares a disk with `parted` disks:
 3     set_role('mysql', 'D7-F.1.0.0', disk1)     names the role: mysql         role:";
    let words = |text: &str| -> Vec<Vec<String>> {
        let lines = text.lines();
        lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    assert_eq!(words(&shown), words(expected));
    assert_eq!(code, 1, "a script is left to be written");
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert_eq!(read("state"), "// racks\n[(\"vm\", 4)]\n");
    assert_eq!(read("vm.specs"), "[(\"disk\", \"$disk\", \"size\", \"gt(4)\")]  // any\n");
    assert_eq!(
        read("vm.cmdb"),
        "generate({\"ip\": \"10.0.0.3-7\", \"hostname\": \"host03-07\"})\n"
    );
    assert_eq!(read("hw/a.hw"), "[(\"a\", \"b\", \"c\", 1)]");
    assert!(!out.join("vm.configure").exists() && !out.join("notes.txt").exists());

    let (code, shown) = run(&["import", text(original.path()), text(&out)]);
    assert_eq!(code, 3);
    assert!(shown.contains("is not empty: name a new folder"), "{shown}");
}

#[test]
fn everything_the_original_shipped_can_be_imported_but_its_broken_file() {
    let new = folder(&[]);
    let from = corpus("edeploy/config");
    let (code, shown) = run(&["import", text(&from), text(new.path()), "--json"]);
    let json: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, &json["complete"]), (1, &false.into()));
    let files = json["files"].as_array().unwrap();
    let broken: Vec<&str> = files
        .iter()
        .filter(|file| file["outcome"] != "converted")
        .map(|file| file["file"].as_str().unwrap())
        .collect();
    assert_eq!(broken, ["hp-mlx.specs"]);
    let broken = files.iter().find(|file| file["outcome"] != "converted").unwrap();
    assert_eq!(broken["outcome"]["broken"]["line"], 21);
}

#[test]
fn wrong_folders_are_named() {
    let new = folder(&[("file", "")]);
    let (code, shown) = run(&["import", "/nowhere/at/all", text(new.path())]);
    assert_eq!((code, shown.contains("cannot read /nowhere/at/all")), (3, true), "{shown}");
    let file = new.path().join("file");
    let (code, shown) = run(&["import", text(&file), text(new.path())]);
    assert_eq!((code, shown.contains("is no folder")), (3, true), "{shown}");
}

#[test]
fn deployed_or_not_is_an_exit_code() {
    let config = folder(&[("vm.cmdb", "[{'hostname': 'h1', 'used': 1}, {'hostname': 'h2'}]")]);
    let cmdb = config.path().join("vm.cmdb");
    assert_eq!(run(&["verify-cmdb", "hostname", "h1", text(&cmdb)]), (0, String::new()));
    assert_eq!(run(&["verify-cmdb", "hostname", "h2", text(&cmdb)]), (1, String::new()));
    assert_eq!(run(&["verify-cmdb", "hostname"]).0, 2);
}
