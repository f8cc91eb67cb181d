//! The `IP=` boot argument: which interface gets its address how.
//!
//! `IP=<interface>:<method>,…` with `all` and `other` as names, and as methods `dhcp`, `none` or
//! an address with its prefix length, each with `@<vlan>` when wanted. The first rule that
//! covers an interface wins; `other` covers what no rule names; what no rule covers asks DHCP.

use std::str::FromStr;

use ipnet::IpNet;

/// What a good value looks like, for messages.
pub(super) const EXPECTED: &str =
    "<interface>:<dhcp | none | address/prefix>[@vlan], separated by commas";

/// How every interface of the machine gets its address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addressing {
    rules: Vec<(Selector, InterfaceSettings)>,
}

/// How one interface gets its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceSettings {
    /// Where the address comes from.
    pub method: Method,
    /// The VLAN it is on, when it is not the untagged network.
    pub vlan: Option<u16>,
}

/// Where an address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// From a DHCP server.
    Dhcp,
    /// From the boot argument.
    Static(IpNet),
    /// Nowhere: the interface is left alone.
    None,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Selector {
    Name(String),
    All,
    Other,
}

impl InterfaceSettings {
    const DEFAULT: InterfaceSettings = InterfaceSettings { method: Method::Dhcp, vlan: None };
}

impl Addressing {
    /// The settings of the interface with this name.
    pub fn of(&self, interface: &str) -> InterfaceSettings {
        let named =
            self.rules.iter().any(|(s, _)| matches!(s, Selector::Name(n) if n == interface));
        self.rules
            .iter()
            .find(|(selector, _)| match selector {
                Selector::Name(name) => name == interface,
                Selector::All => true,
                Selector::Other => !named,
            })
            .map_or(InterfaceSettings::DEFAULT, |(_, settings)| *settings)
    }
}

impl FromStr for Addressing {
    type Err = ();

    fn from_str(text: &str) -> Result<Addressing, ()> {
        let rules = text.split(',').map(rule).collect::<Option<Vec<_>>>().ok_or(())?;
        Ok(Addressing { rules })
    }
}

fn rule(text: &str) -> Option<(Selector, InterfaceSettings)> {
    let (name, settings) = text.split_once(':')?;
    let selector = match name {
        "all" => Selector::All,
        "other" => Selector::Other,
        // The kernel's own limit for names, and what keeps them harmless as arguments.
        name if (1..16).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
            && !name.starts_with('-') =>
        {
            Selector::Name(name.to_owned())
        }
        _ => return None,
    };
    let (method, vlan) = match settings.split_once('@') {
        Some((method, vlan)) => {
            (method, Some(vlan.parse().ok().filter(|id| (1..4095).contains(id))?))
        }
        None => (settings, None),
    };
    let method = match method {
        "dhcp" => Method::Dhcp,
        "none" => Method::None,
        address => Method::Static(address.parse().ok()?),
    };
    Some((selector, InterfaceSettings { method, vlan }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, interface: &str, method: Method, vlan: Option<u16>) {
        let addressing: Addressing = text.parse().unwrap_or_else(|()| panic!("{text} not parsed"));
        assert_eq!(addressing.of(interface), InterfaceSettings { method, vlan }, "{text}");
    }

    #[test]
    fn rules_are_applied_in_order() {
        let fixed = Method::Static("10.1.2.3/24".parse().unwrap());
        check("all:dhcp", "eth7", Method::Dhcp, None);
        check("eth0:10.1.2.3/24", "eth0", fixed, None);
        check("eth0:10.1.2.3/24", "eth1", Method::Dhcp, None);
        check("eth0:10.1.2.3/24@12,other:none", "eth0", fixed, Some(12));
        check("eth0:10.1.2.3/24,other:none", "eth1", Method::None, None);
        check("other:none,eth0:dhcp@4", "eth0", Method::Dhcp, Some(4));
        check("all:none,eth0:dhcp", "eth0", Method::None, None);
        check("eth0:fd00::5/64", "eth0", Method::Static("fd00::5/64".parse().unwrap()), None);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "",
            "dhcp",
            "eth0:",
            "eth0:10.1.2.3",
            "eth0:dhcp@0",
            "eth0:dhcp@4095",
            "eth0:dhcp@",
            "-a:dhcp",
            "eth 0:dhcp",
            "eth0:dhcp,,",
            "other=none",
            "eth0:10.1.2.300/24",
        ] {
            assert_eq!(text.parse::<Addressing>(), Err(()), "{text}");
        }
    }
}
