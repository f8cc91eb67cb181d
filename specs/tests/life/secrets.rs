//! Secrets stay home.

use specs::fleet::Change;
use specs::secret::{REDACTED, is_secret_key};
use specs::value::Value;

use crate::hall::{CONFIGURE_BY_MAC, Hall, mac, machine};

#[test]
fn keys_named_like_secrets_are() {
    for key in ["password", "ipmi-Pass", "client_secret", "API_TOKEN"] {
        assert!(is_secret_key(key), "{key}");
    }
    for key in ["ip", "hostname", "mac", "serial"] {
        assert!(!is_secret_key(key), "{key}");
    }
}

#[test]
fn plans_name_their_secrets_and_records_and_facts_hold_none() {
    let mut hall = Hall::of_vms("[('vm', 4)]");
    let cmdb = "[{'hostname': 'host03', 'ipmi-password': 'hunter22', 'key': secret('s3cret!')}]";
    hall.edit("vm.cmdb", cmdb);
    let mut facts = machine(&mac(1), "A1");
    facts.push("ipmi", "lan", "snmp-token", "public99");
    let (plan, _) = hall.plan(&facts);
    assert_eq!(plan.secrets, ["hunter22", "s3cret!"]);
    let variables = hall.record("host03").assignment.unwrap().variables;
    assert_eq!(variables["ipmi-password"], Value::from(REDACTED));
    assert_eq!(variables["key"], Value::from(REDACTED));
    let stored = hall.journal.iter().find_map(|change| match change {
        Change::Facts { facts, .. } => facts.text("ipmi", "lan", "snmp-token"),
        _ => None,
    });
    assert_eq!(stored.as_deref(), Some(REDACTED));
    assert!(hall.text("vm.cmdb").contains("'key': secret('s3cret!')"));
}

#[test]
fn lists_hold_secrets() {
    let mut hall = Hall::of_vms("[('vm', 4)]");
    hall.edit("vm.cmdb", "[{'hostname': 'host03', 'tokens': ['one11', '', None, ['two22', 3]]}]");
    let facts = machine(&mac(1), "A1");
    let (plan, _) = hall.plan(&facts);
    assert_eq!(plan.secrets, ["3", "one11", "two22"]);
}

/// A variable that is bound to a secret is one, whatever its name: in the plan's list, in the
/// record, in the CMDB, and in what is told of `$$` keys.
#[test]
fn a_plain_name_does_not_give_a_secret_away() {
    let mut facts = machine(&mac(1), "A1");
    facts.push("ipmi", "lan", "password", "hunter22");
    facts.push("ipmi", "lan", "pass-number", 1234);
    let specs = "[('disk', '$disk', 'size', 'gt(4)'), ('ipmi', 'lan', 'password', '$pw'),
        ('ipmi', 'lan', 'pass-number', '$n=gt(4)'), ('network', '$e', 'serial', '$mac')]";
    for cmdb in ["[{'hostname': 'host03'}]", "[]"] {
        let mut hall = Hall::of_vms("[('vm', 4)]");
        hall.edit("vm.specs", specs);
        hall.edit("vm.cmdb", cmdb);
        if cmdb == "[]" {
            hall.edit("vm.configure", &CONFIGURE_BY_MAC.replace("mysql", "{{ pw }}"));
        }
        let (plan, _) = hall.plan(&facts);
        assert_eq!(plan.secrets, ["1234", "hunter22"]);
        let variables = hall.record(&mac(1)).assignment.unwrap().variables;
        assert_eq!([&variables["pw"], &variables["n"]], [&Value::from(REDACTED); 2]);
        assert_eq!(variables["disk"], Value::from("vda"));
        if cmdb != "[]" {
            let written = hall.text("vm.cmdb");
            assert!(written.contains("'pw': secret('hunter22')"), "{written}");
            // Read again, it is the entry of the same machine.
            hall.edit("vm.cmdb", &written);
            assert_eq!(hall.plan(&facts).0, plan);
        }
    }
    let mut hall = Hall::of_vms("[('vm', 4)]");
    hall.edit("vm.specs", &specs.replace("$pw", "$$pw"));
    for cmdb in ["[{'hostname': 'a', 'pw': 'other'}]", "[{'hostname': 'a', 'pw': 'hunter22'}]"] {
        hall.edit("vm.cmdb", cmdb);
        let fresh = hall.fresh();
        let told = hall.world.try_out(&facts, hall.now, &fresh).profiles.remove(0);
        let everything = format!("{} {} {:?}", told.brief, told.reason, told.entry);
        assert!(everything.contains(REDACTED) && !everything.contains("hunter22"), "{everything}");
    }
}

#[test]
fn refusals_tell_no_value_of_a_secret_fact() {
    let specs = [
        "[('ipmi', 'lan', 'password', 'swordfish')]",
        "[('ipmi', 'lan', 'password', 'gt(4)')]",
        "[('ipmi', '$n', 'password', '$pw'), ('disk', '$d', 'serial', '$pw')]",
        "[('ipmi', '$n', 'password', '$pw'), ('gpu', '$n', 'serial', 'x')]",
        "[('ipmi', 'wan', 'password', '$pw')]",
    ];
    let mut facts = machine(&mac(1), "A1");
    facts.push("ipmi", "lan", "password", "hunter22");
    facts.push("disk", "vdz", "serial", "other");
    for spec in specs {
        let mut hall = Hall::of_vms("[('vm', 4)]");
        hall.edit("vm.specs", spec);
        let fresh = hall.fresh();
        let trial = hall.world.try_out(&facts, hall.now, &fresh);
        assert!(matches!(trial.answer, specs::fleet::Answer::Refused(_)), "{trial:?}");
        let told = &trial.profiles[0];
        assert!(told.mismatch.is_some() && told.mend.is_some(), "{told:?}");
        let everything = format!("{trial:?}");
        assert!(!everything.contains("hunter22"), "{everything}");
        let sentences = format!("{} {} {:?}", told.brief, told.reason, told.advice);
        assert!(!sentences.contains("swordfish"), "{sentences}");
        // What is no secret is told: any value would do, or only one that is bound.
        let advice = told.advice.as_deref().unwrap();
        assert!(spec.contains('$') || advice.contains("regexp()"), "{advice}");
        assert!(!spec.contains("'wan'") || sentences.contains("\"$pw\""), "{sentences}");
    }
}
