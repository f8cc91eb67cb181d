//! Requests, one by one: the status, the sentence, and what is stored afterwards.

use serde_json::json;
use server::admin::machines;
use specs::machine::{Phase, Record};

use crate::deployment::{
    BOUNDARY, Deployment, form_body, form_request, hostname, json_of, machine, reason, ticket,
};

/// That nothing was taken: `state` and CMDB as the admin wrote them, no machine known.
#[track_caller]
fn check_untouched(deployment: &Deployment, state: &str, cmdb: &str) {
    deployment.sync();
    assert_eq!(deployment.read("config/state"), state);
    assert_eq!(deployment.read("config/vm.cmdb"), cmdb);
}

#[test]
fn uploads_that_cannot_be_understood_change_nothing() {
    let deployment = Deployment::readme();
    let (state, cmdb) = (deployment.read("config/state"), deployment.read("config/vm.cmdb"));
    let facts = machine(1).to_string();
    let file = |content: &[u8]| form_body(&[("file", Some("facts.json"), content)]);
    let whole = file(facts.as_bytes());
    let with = |extra: (&str, Option<&str>, &[u8])| {
        form_body(&[extra, ("file", Some("facts.json"), facts.as_bytes())])
    };
    let cases: Vec<(Vec<u8>, u16, &str)> = vec![
        (Vec::new(), 400, "the body is empty"),
        (b"hello".to_vec(), 400, "does not begin with the boundary"),
        (whole[..whole.len() / 2].to_vec(), 400, "the upload was cut off"),
        (form_body(&[]), 400, "no field `file`"),
        (form_body(&[("file", None, facts.as_bytes())]), 400, "no usable file name"),
        (form_body(&[("file", Some(".."), facts.as_bytes())]), 400, "no usable file name"),
        (file(b""), 400, "is empty"),
        (file(b"{}"), 400, "these are no facts"),
        (file(b"[[\"disk\", \"sda\"]]"), 400, "these are no facts"),
        (file(b"[[\"disk\", \"vda\",\n  oops"), 400, "facts.json:2:"),
        (file(b"\xff\xfe"), 400, "these are no facts"),
        (with(("section", None, b"NOWHERE")), 404, "no section `NOWHERE`; it has `SERVER`"),
        (with(("protocol", None, b"2")), 426, "speaks protocol 1, not 2"),
        (with(("protocol", None, b"one")), 400, "`protocol` is not a number"),
        (with(("nonce", None, b"xyz")), 400, "32 hexadecimal digits"),
        (with(("ticket", None, b"1")), 400, "32 hexadecimal digits"),
        (with(("file", None, b"x")), 400, "the field `file` is there twice"),
    ];
    for (body, status, expected) in cases {
        let mut request = form_request(&[]);
        request.body = body;
        let response = deployment.application.handle(&request);
        assert_eq!(response.status, status, "{expected}: {}", reason(&response));
        assert!(reason(&response).contains(expected), "{expected}: {}", reason(&response));
    }
    check_untouched(&deployment, &state, &cmdb);
}

#[test]
fn other_requests_are_told_what_is_answered() {
    let deployment = Deployment::readme();
    for (method, path, content_type, status, expected) in [
        ("GET", "/upload", None, 405, "send it with POST"),
        ("POST", "/elsewhere", None, 404, "nothing answers at /elsewhere"),
        ("GET", "/", None, 404, "nothing answers"),
        ("POST", "/upload", Some("text/plain"), 400, "got `text/plain`"),
        ("POST", "/events", None, 400, "the events are not understood"),
    ] {
        let mut request = form_request(&[]);
        request.method = method.into();
        request.path = path.into();
        request.content_type = content_type.map(str::to_owned);
        let response = deployment.application.handle(&request);
        assert_eq!(response.status, status, "{path}");
        assert!(reason(&response).contains(expected), "{path}: {}", reason(&response));
    }
    let mut ready = form_request(&[]);
    (ready.method, ready.path) = ("GET".into(), "/readyz".into());
    assert_eq!(deployment.application.handle(&ready).body, b"ready\n");
}

#[test]
fn a_broken_file_is_named_with_its_place_and_stops_its_profile_only() {
    for (file, text, expected) in [
        ("vm.specs", "[\n    (\"disk\", \"$disk\", \"size\", \"gt(\"),\n]\n", "vm.specs:2:"),
        ("vm.cmdb", "[\n {\"ip\": \"10.0.0.1\",,}\n]\n", "vm.cmdb:2:"),
        ("vm.configure", "(\n    role: (name: \"mysql\",\n", "vm.configure:"),
        ("vm.configure", "disk1 = '/dev/' + var['disk']\n", "is a Python script of the original"),
    ] {
        let deployment = Deployment::new("[(\"vm\", 4), (\"other\", 1)]\n", "[]\n");
        let of_vm = |name: &str| deployment.read(&format!("config/vm.{name}"));
        deployment.write("config/other.specs", &of_vm("specs").replace("gt(4)", "le(4)"));
        let configure = of_vm("configure")
            .replace("{{ hostname }}", "other")
            .replace("static(\"{{ ip }}/{{ netmask }}\"), gateway: \"{{ gateway }}\"", "dhcp");
        deployment.write("config/other.configure", &configure);
        deployment.write(&format!("config/{file}"), text);
        let mut small = machine(1);
        small[0][3] = json!("4");
        let response = deployment.upload(&small);
        assert_eq!(response.status, 200, "{file}: {}", reason(&response));
        assert_eq!(hostname(&response).as_deref(), Some("other"), "{file}");
        // A machine that may fit the broken profile hears of the broken file.
        let response = deployment.upload(&machine(2));
        assert!(reason(&response).contains(expected), "{file}: {}", reason(&response));
        deployment.sync();
        assert_eq!(deployment.read(&format!("config/{file}")), text);
        assert_eq!(deployment.count(), "4");
    }
}

#[test]
fn a_broken_state_is_named_and_left_alone() {
    let deployment = Deployment::readme();
    let broken = "[(\"vm\", 4),\n (\"hp\" 2)]\n";
    deployment.write("config/state", broken);
    let response = deployment.upload(&machine(1));
    assert_eq!(response.status, 503);
    assert!(reason(&response).contains("state:2:"), "{}", reason(&response));
    deployment.sync();
    assert_eq!(deployment.read("config/state"), broken);
    // Mended, it goes on without a restart.
    deployment.write("config/state", "[(\"vm\", 4)]\n");
    assert_eq!(hostname(&deployment.upload(&machine(1))).as_deref(), Some("host03"));
}

#[test]
fn a_file_caught_half_written_keeps_its_last_good_version() {
    let deployment = Deployment::readme();
    assert_eq!(hostname(&deployment.upload(&machine(1))).as_deref(), Some("host03"));
    let configure = deployment.read("config/vm.configure");
    deployment.write("config/vm.configure", &configure[..configure.len() / 2]);
    assert_eq!(hostname(&deployment.upload(&machine(2))).as_deref(), Some("host04"));
    deployment.write("config/vm.configure", &configure.replace("D12-F.1.0.0", "D12-F.1.0.1"));
    let response = deployment.upload(&machine(3));
    assert_eq!(json_of(&response)["plan"]["plan"]["role"]["version"], "D12-F.1.0.1");
}

#[test]
fn a_plan_that_cannot_be_made_takes_nothing() {
    for (from, to, expected) in [
        ("{{ hostname }}", "{{ nobody }}", "nobody"),
        ("size: \"rest\"", "size: \"900GiB\"", "vm.configure:"),
    ] {
        let deployment = Deployment::readme();
        let (state, cmdb) = (deployment.read("config/state"), deployment.read("config/vm.cmdb"));
        let configure = deployment.read("config/vm.configure").replacen(from, to, 1);
        deployment.write("config/vm.configure", &configure);
        let response = deployment.upload(&machine(1));
        assert!(response.status >= 400, "{to}");
        assert!(reason(&response).contains(expected), "{to}: {}", reason(&response));
        check_untouched(&deployment, &state, &cmdb);
    }
}

#[test]
fn no_fit_names_the_line_and_the_nearest_value() {
    let deployment = Deployment::readme();
    let mut facts = machine(1);
    facts[0][3] = json!("3");
    let response = deployment.upload(&facts);
    assert_eq!(response.status, 422);
    let reason = reason(&response);
    assert!(reason.contains("vm:") && reason.contains("gt(4)") && reason.contains('3'), "{reason}");
}

#[test]
fn the_same_machine_gets_the_same_answer() {
    let mut deployment = Deployment::readme();
    let first = deployment.upload(&machine(1));
    let again = deployment.upload(&machine(1));
    assert_eq!(json_of(&first)["plan"]["plan"], json_of(&again)["plan"]["plan"]);
    deployment.restart();
    let after_restart = deployment.upload(&machine(1));
    assert_eq!(json_of(&first)["plan"]["plan"], json_of(&after_restart)["plan"]["plan"]);
    deployment.sync();
    assert_eq!(deployment.count(), "3");
    assert_eq!(deployment.used(), ["host03".to_owned()].into());
}

#[test]
fn the_cmdb_reads_as_in_the_readme_and_the_original_is_kept() {
    let deployment = Deployment::readme();
    let original = deployment.read("config/vm.cmdb");
    deployment.upload(&machine(1));
    deployment.sync();
    let cmdb = deployment.read("config/vm.cmdb");
    for part in ["\"used\": 1", "\"disk\": \"vda\"", "\"mac\": \"52:54:00:00:00:01\"", "host03"] {
        assert!(cmdb.contains(part), "{cmdb}");
    }
    assert_eq!(deployment.read("config/vm.cmdb.orig"), original);
    let hw = deployment.read("hw/KVM-SN000001-52-54-00-00-00-01.hw");
    assert!(hw.contains("('disk', 'vda', 'size', '10')"), "{hw}");
}

#[test]
fn an_installation_from_lease_to_reinstall() {
    let deployment = Deployment::readme();
    let reply = deployment.upload(&machine(1));
    let ticket = ticket(&reply);
    let started = json!([{"event": "step_started", "step": "clear /dev/vda", "destructive": true}]);
    assert_eq!(json_of(&deployment.events(&ticket, 0, &started))["next"], 1);
    // A repeated batch is passed over.
    assert_eq!(json_of(&deployment.events(&ticket, 0, &started))["next"], 1);
    let done = json!([{"event": "installed", "seconds": 60.0}]);
    assert_eq!(json_of(&deployment.events(&ticket, 1, &done))["next"], 2);
    let reply = json_of(&deployment.upload(&machine(1)));
    assert_eq!(reply["installed"]["hostname"], "host03");
    assert_eq!(deployment.events(&"f".repeat(32), 0, &done).status, 409);
    let store = deployment.application.store("SERVER").unwrap();
    let record = server::admin::commands::find(&store, "host03").unwrap();
    let change = server::admin::commands::Change::Reinstall;
    server::admin::commands::carry_out(&store, &record.id, change).unwrap().unwrap();
    assert_eq!(hostname(&deployment.upload(&machine(1))).as_deref(), Some("host03"));
    deployment.sync();
    assert_eq!(deployment.count(), "3");
}

#[test]
fn a_failure_before_the_first_destructive_step_gives_all_back() {
    let deployment = Deployment::readme();
    let ticket = ticket(&deployment.upload(&machine(1)));
    let facts = machine(1).to_string();
    let response = deployment.post(&[
        ("failure", None, b"vm"),
        ("ticket", None, ticket.as_bytes()),
        ("file", Some("facts.json"), facts.as_bytes()),
    ]);
    assert_eq!(response.status, 200, "{}", reason(&response));
    deployment.sync();
    assert_eq!(deployment.count(), "4");
    assert!(deployment.used().is_empty());
}

#[test]
fn a_failure_without_a_ticket_is_seen_and_changes_nothing() {
    let deployment = Deployment::readme();
    deployment.upload(&machine(1));
    deployment.sync();
    let (state, cmdb) = (deployment.read("config/state"), deployment.read("config/vm.cmdb"));
    let store = deployment.application.store("SERVER").unwrap();
    let record = |n: u32| {
        let found = store.look(|world| world.census.find(&format!("SN{n:06}"))).unwrap();
        <[Record; 1]>::try_from(found).unwrap()[0].clone()
    };
    let before = record(1);
    // One that holds something, and one that was never heard of; both twice.
    for n in [1, 1, 2, 2] {
        let facts = machine(n).to_string();
        let response = deployment.post(&[
            ("failure", None, b"vm"),
            ("reason", None, b"the answer was \x1b[2Jno plan"),
            ("file", Some("hw.json"), facts.as_bytes()),
        ]);
        assert_eq!(response.body, b"recorded\n", "{}", reason(&response));
    }
    deployment.sync();
    assert_eq!((deployment.read("config/state"), deployment.read("config/vm.cmdb")), (state, cmdb));
    let text = "reported a failure of vm without a plan: the answer was \\u{1b}[2Jno plan";
    let known = record(1);
    assert_eq!(known.history.last().map(|line| line.text.as_str()), Some(text));
    assert_eq!(known.history.len(), before.history.len() + 1, "{:?}", known.history);
    let (history, complaint) = (before.history.clone(), None);
    assert_eq!(Record { history, complaint, ..known }, before, "a lease may not be made longer");
    let new = record(2);
    assert_eq!((new.phase, new.assignment.is_none()), (Phase::Unmatched, true));
    let table = machines::table(std::slice::from_ref(&new), new.since, None);
    assert!(table.contains("reported a failure of vm"), "{table}");
    assert!(machines::full_text(&new, new.since).contains(text));
    assert_eq!(machines::full_json(&new)["complaint"]["text"], text);
    assert!(deployment.path("hw/KVM-SN000002-52-54-00-00-00-02.hw").exists());
    // A plan is an answer to it.
    deployment.upload(&machine(2));
    assert_eq!(record(2).complaint, None);
}

#[test]
fn logs_are_stored_and_never_leave_their_folder() {
    let deployment = Deployment::readme();
    let long = "a".repeat(300) + ".log.gz";
    for (name, expected) in [
        ("v-p-s.log.gz", Some("v-p-s.log.gz")),
        ("../../v/evil.log.gz", Some("evil.log.gz")),
        ("..\\..\\w.log.gz", Some("w.log.gz")),
        ("a;b c.log.gz", Some("a_b_c.log.gz")),
        (long.as_str(), None),
    ] {
        let response = deployment.post(&[("file", Some(name), b"packed")]);
        match expected {
            Some(stored) => {
                assert_eq!(response.status, 200, "{name}");
                assert_eq!(deployment.read(&format!("logs/{stored}")), "packed");
            }
            None => assert_eq!(response.status, 400, "{name:.40}"),
        }
    }
    assert!(!deployment.path("evil.log.gz").exists() && !deployment.path("v").exists());
}

#[test]
fn secrets_are_in_the_plan_and_in_the_cmdb_and_nowhere_else() {
    let cmdb = "[{\"hostname\": \"h1\", \"ip\": \"10.0.0.1\", \"netmask\": \"255.0.0.0\", \
                \"gateway\": \"10.0.0.254\", \"motd\": secret(\"hunter2\")}]\n";
    let deployment = Deployment::new("[(\"vm\", 4)]\n", cmdb);
    let configure = deployment.read("config/vm.configure").replace("mysql on", "{{ motd }} on");
    deployment.write("config/vm.configure", &configure);
    let mut facts = machine(1);
    facts.as_array_mut().unwrap().push(json!(["ipmi", "lan", "password", "swordfish"]));
    let response = deployment.upload(&facts);
    assert!(String::from_utf8_lossy(&response.body).contains("hunter2 on h1"), "{response:?}");
    deployment.sync();
    assert!(deployment.read("config/vm.cmdb").contains("secret(\"hunter2\")"));
    let mut looked_at = 0;
    for folder in ["hw", "config/.edeploy/machines"] {
        for entry in std::fs::read_dir(deployment.path(folder)).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            // A record holds the entry that it gives back, marked as in the CMDB; nothing else.
            let marked = text.matches("secret: true").count()
                + text.matches("secret(\\\"hunter2\\\")").count();
            assert_eq!(text.matches("hunter2").count(), marked, "{text}");
            assert!(folder != "hw" || marked == 0, "{text}");
            assert!(!text.contains("swordfish"), "{text}");
            looked_at += 1;
        }
    }
    assert_eq!(looked_at, 2);
}

#[test]
fn a_reply_is_ron_unless_json_is_asked_for() {
    let deployment = Deployment::readme();
    let facts = machine(1).to_string();
    let nonce = "00112233445566778899aabbccddeeff";
    let mut request = form_request(&[
        ("nonce", None, nonce.as_bytes()),
        ("protocol", None, b"1"),
        ("file", Some("facts.json"), facts.as_bytes()),
    ]);
    request.accept = None;
    assert!(request.content_type.as_deref().unwrap().contains(BOUNDARY));
    let response = deployment.application.handle(&request);
    assert_eq!(response.content_type, "application/ron");
    let text = String::from_utf8(response.body).unwrap();
    let reply: specs::wire::Reply = specs::wire::ron_options().from_str(&text).unwrap();
    let specs::wire::Reply::Plan { nonce: repeated, plan, .. } = reply else { panic!("{text}") };
    assert_eq!(repeated.unwrap().as_str(), nonce);
    assert_eq!(plan.hostname, "host03");
}
