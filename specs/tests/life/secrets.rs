//! Secrets stay home.

use specs::fleet::Change;
use specs::secret::{REDACTED, is_secret_key, redacted_record, redacted_text};
use specs::value::Value;

use crate::hall::{Hall, mac, machine};

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
fn texts_lose_every_secret_and_nothing_else() {
    let secrets = ["abcd".to_owned(), "abcdef".to_owned(), "a".to_owned(), "é→ü!".to_owned()];
    assert_eq!(
        redacted_text("x abcdef abcd a é→ü!", &secrets),
        format!("x {REDACTED} {REDACTED} a {REDACTED}")
    );
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
    let variables = &hall.record("host03").assignment.as_ref().unwrap().variables;
    assert_eq!(variables["ipmi-password"], Value::from(REDACTED));
    assert_eq!(variables["key"], Value::from(REDACTED));
    let stored = hall.journal.iter().find_map(|change| match change {
        Change::Facts { facts, .. } => facts.text("ipmi", "lan", "snmp-token"),
        _ => None,
    });
    assert_eq!(stored.as_deref(), Some(REDACTED));
    let shown = format!("{:?}", redacted_record(hall.record("host03")));
    assert!(!shown.contains("hunter22") && !shown.contains("s3cret!"), "{shown}");
    assert!(hall.text("vm.cmdb").contains("'key': secret('s3cret!')"));
}
