//! What the agent is told by boot loaders, DHCP servers and files of the host.

use std::collections::BTreeMap;

use agent::assignments;
use agent::link::Lease;
use agent::options::{AgentOptions, Method, OnFailure, RawCmdline};

/// A kernel command line: every option that was understood is safe in a URL, a path and a
/// command, and the words for the installed system hold no pipe.
pub fn cmdline(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let cmdline = RawCmdline::parse(text);
    let _ = OnFailure::of(&cmdline);
    assert!(cmdline.carried().iter().all(|word| !word.contains('|') && !word.is_empty()));
    match AgentOptions::parse(&cmdline) {
        Ok(options) => {
            assert!(!cmdline.unclosed_pipe());
            let plain = |c: char| c.is_ascii_alphanumeric() || "._~+-:/[]".contains(c);
            let url = options.server.url("upload");
            assert!(url.starts_with("http://") && url.ends_with("/upload"), "{url}");
            assert!(url.chars().all(plain), "{url}");
            for source in [Some(&options.rsync), options.archives.as_ref()].into_iter().flatten() {
                assert!(source.host.chars().all(plain) && !source.host.is_empty(), "{source:?}");
                assert!(source.path.chars().all(plain), "{source:?}");
                assert!(!source.path.starts_with('/') && !source.path.ends_with('/'));
            }
            for interface in ["eth0", "other", "all", ""] {
                if let Method::Static(network) = options.addressing.of(interface).method {
                    assert!(!network.to_string().is_empty());
                }
            }
        }
        Err(errors) => assert!(!errors.is_empty() && !errors[0].to_string().is_empty()),
    }
}

/// What a DHCP server says, `name=value` a line: no answer becomes an option of `ip` or another
/// line of `resolv.conf`.
pub fn lease(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let variables: BTreeMap<String, String> = text
        .split('\0')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let Ok(lease) = Lease::from_environment(&variables) else { return };
    for command in lease.commands("eth0", 100) {
        let line = command.to_string();
        let plain = |c: char| c.is_ascii_alphanumeric() || " ./".contains(c);
        assert!(line.starts_with("ip ") && line.chars().all(plain), "{line}");
    }
    for line in lease.resolv_conf().iter().flat_map(|text| text.lines()) {
        let words: Vec<&str> = line.split(' ').collect();
        assert!(words.len() == 2 && ["search", "nameserver"].contains(&words[0]), "{line}");
    }
}

/// A file of `KEY=VALUE` lines and a value, with a zero between: what is set is read back, and
/// the other keys stay.
pub fn assignments(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (file, value) = text.split_once('\0').unwrap_or((text, "D12-F.1.0.0"));
    let before = assignments::get(file, "ROLE");
    let set = assignments::set(file, &[("VERS".to_owned(), value.to_owned())]);
    if !value.contains(['\n', '\r']) {
        assert_eq!(assignments::get(&set, "VERS").as_deref(), Some(value), "{set}");
        assert_eq!(assignments::get(&set, "ROLE"), before, "{set}");
        assert_eq!(assignments::set(&set, &[("VERS".to_owned(), value.to_owned())]), set);
    }
}
