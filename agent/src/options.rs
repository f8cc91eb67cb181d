//! What the boot arguments ask of the agent: the kernel command line as typed options.
//!
//! The names and defaults are those of the original, so that existing PXE configurations work
//! unchanged; the last of several wins and unknown words are somebody else's. Values are parsed,
//! never evaluated. A value that cannot be understood is an error and nothing is guessed from it:
//! the machine does what ONFAILURE says, which is why [`OnFailure::of`] can be asked even of a
//! command line that is otherwise wrong.
//!
//! Left out with reasons in ARCHITECTURE.md: `DISCO`, `FAKEIPMI`, sourced user-data. `EMBEDDED`
//! and the health check's words belong to those programs.

mod addressing;
mod cmdline;

use std::time::Duration;

use specs::units::{Mac, Name};

pub use addressing::{Addressing, InterfaceSettings, Method};
pub use cmdline::RawCmdline;

/// Everything the boot arguments decide.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentOptions {
    /// `SERV`, `HTTP_PORT`, `HTTP_PATH`, `SECTION`: whom to ask.
    pub server: Server,
    /// `HSERV`, `HSERV_PORT`, `HPATH`: where archives of role trees are, when set.
    pub archives: Option<TreeSource>,
    /// `RSERV`, `RSERV_PORT`, `RPATH`: the rsync daemon with the role trees.
    pub rsync: TreeSource,
    /// `IP`: how each network interface gets its address.
    pub addressing: Addressing,
    /// `BOOTIF`, added by the network boot loader: the card that the machine was started from.
    pub boot_card: Option<Mac>,
    /// `LINK_UP_TIMEOUT`: how long to wait for a carrier.
    pub link_up_timeout: Duration,
    /// `ONSUCCESS`.
    pub on_success: OnSuccess,
    /// `ONFAILURE`.
    pub on_failure: OnFailure,
    /// `KEXEC_KERNEL`: picks among several kernels of the installed system.
    pub kexec_kernel: Option<String>,
    /// `UPLOAD_LOG`.
    pub upload_log: bool,
    /// `VERBOSE`: also print every command.
    pub verbose: bool,
    /// `OS`: overrides the role of the plan.
    pub role: Option<Name>,
    /// `OS_VER`: overrides its version.
    pub role_version: Option<Name>,
    /// The text between pipes: kernel arguments of the installed system.
    pub kernel_arguments: Vec<String>,
}

/// Where the matching server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path below which `upload` and `events` are, without a slash at either end.
    pub path: String,
    /// Section of the server's configuration.
    pub section: String,
}

/// A host, a port and a module or path: where role trees come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeSource {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Module (rsync) or path (HTTP), without a slash at either end.
    pub path: String,
}

/// What to do when the machine is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnSuccess {
    /// Start the installed system without going through the firmware.
    Kexec,
    /// Restart the machine.
    Reboot,
    /// Switch it off.
    Halt,
    /// Leave a shell on the console.
    Console,
}

/// What to do when it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Switch it off.
    Halt,
    /// Restart it, and so try again.
    Reboot,
    /// Leave a shell on the console.
    Console,
}

/// One boot argument that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("boot argument `{name}={value}`: expected {expected}")]
pub struct OptionError {
    /// The variable.
    pub name: String,
    /// What it was set to.
    pub value: String,
    /// What would have been right.
    pub expected: &'static str,
}

impl Server {
    /// The address of one of the server's services: `upload` or `events`.
    pub fn url(&self, service: &str) -> String {
        let slash = if self.path.is_empty() { "" } else { "/" };
        format!("http://{}{slash}{}/{service}", authority(&self.host, self.port), self.path)
    }
}

/// `host:port` as a URL wants it: IPv6 addresses in brackets.
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

impl OnFailure {
    /// What `ONFAILURE` says, whatever else is wrong with the command line. As in the original,
    /// a word that is none of the three leaves a shell, and so does the old `DEBUG=1`.
    pub fn of(cmdline: &RawCmdline) -> OnFailure {
        match cmdline.get("ONFAILURE") {
            None if cmdline.get("DEBUG") == Some("1") => OnFailure::Console,
            None | Some("halt") => OnFailure::Halt,
            Some("reboot") => OnFailure::Reboot,
            Some(_) => OnFailure::Console,
        }
    }
}

impl AgentOptions {
    /// Reads the options out of a command line; every value that cannot be understood is
    /// reported, not only the first.
    pub fn parse(cmdline: &RawCmdline) -> Result<AgentOptions, Vec<OptionError>> {
        let mut reader = Reader { cmdline, errors: Vec::new() };
        let host = reader.host("SERV").unwrap_or_else(|| "10.0.0.1".to_owned());
        let options = AgentOptions {
            rsync: TreeSource {
                host: reader.host("RSERV").unwrap_or_else(|| host.clone()),
                port: reader.number("RSERV_PORT", 873),
                path: reader.path("RPATH", "install"),
            },
            archives: reader.host("HSERV").map(|host| TreeSource {
                host,
                port: reader.number("HSERV_PORT", 80),
                path: reader.path("HPATH", "install"),
            }),
            server: Server {
                host,
                port: reader.number("HTTP_PORT", 80),
                path: reader.path("HTTP_PATH", "/cgi-bin/"),
                section: reader.text("SECTION").unwrap_or("SERVER").to_owned(),
            },
            addressing: reader
                .parsed("IP", addressing::EXPECTED, |text| text.parse().ok())
                .unwrap_or_default(),
            // The boot loader's word, not the admin's: an odd one is no reason to stop.
            boot_card: reader.text("BOOTIF").and_then(boot_card),
            link_up_timeout: Duration::from_secs(reader.number("LINK_UP_TIMEOUT", 10).into()),
            on_success: reader
                .parsed("ONSUCCESS", "reboot, halt, console or kexec", |text| match text {
                    "kexec" => Some(OnSuccess::Kexec),
                    "reboot" => Some(OnSuccess::Reboot),
                    "halt" => Some(OnSuccess::Halt),
                    "console" => Some(OnSuccess::Console),
                    _ => None,
                })
                .unwrap_or(OnSuccess::Reboot),
            on_failure: OnFailure::of(cmdline),
            kexec_kernel: reader.text("KEXEC_KERNEL").map(str::to_owned),
            upload_log: reader.switch("UPLOAD_LOG", true),
            verbose: reader.switch("VERBOSE", false),
            role: reader.parsed("OS", "the name of a role", |text| text.parse().ok()),
            role_version: reader.parsed("OS_VER", "a version", |text| text.parse().ok()),
            kernel_arguments: cmdline.carried().to_vec(),
        };
        if cmdline.unclosed_pipe() {
            reader.errors.push(OptionError {
                name: "|".to_owned(),
                value: String::new(),
                expected: "a second `|` that ends the arguments of the installed system",
            });
        }
        if reader.errors.is_empty() { Ok(options) } else { Err(reader.errors) }
    }
}

/// The address in `01-52-54-00-88-17-3c`: behind the hardware type (1, Ethernet), if there is one.
fn boot_card(text: &str) -> Option<Mac> {
    let text = text.replace('-', ":");
    let address = if text.len() > 17 { text.strip_prefix("01:")? } else { &text };
    address.parse().ok()
}

/// Takes typed values out of a command line and remembers what was wrong.
struct Reader<'a> {
    cmdline: &'a RawCmdline,
    errors: Vec<OptionError>,
}

impl<'a> Reader<'a> {
    /// The value of a variable; an empty one counts as absent, as in the original.
    fn text(&self, name: &str) -> Option<&'a str> {
        self.cmdline.get(name).filter(|text| !text.is_empty())
    }

    fn parsed<T>(
        &mut self,
        name: &str,
        expected: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let value = parse(text);
        if value.is_none() {
            self.errors.push(OptionError {
                name: name.to_owned(),
                value: text.to_owned(),
                expected,
            });
        }
        value
    }

    fn number(&mut self, name: &str, default: u16) -> u16 {
        self.parsed(name, "a whole number from 0 to 65535", |text| text.parse().ok())
            .unwrap_or(default)
    }

    fn switch(&mut self, name: &str, default: bool) -> bool {
        self.parsed(name, "0 or 1", |text| match text {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        })
        .unwrap_or(default)
    }

    fn host(&mut self, name: &str) -> Option<String> {
        self.parsed(name, "a host name or address", |text| {
            text.chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-:[]".contains(c))
                .then(|| text.to_owned())
        })
    }

    fn path(&mut self, name: &str, default: &str) -> String {
        let path = self.parsed(name, "a path of letters, digits and `/._~+-`", |text| {
            text.chars()
                .all(|c| c.is_ascii_alphanumeric() || "/._~+-".contains(c))
                .then(|| text.to_owned())
        });
        path.as_deref().unwrap_or(default).trim_matches('/').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> AgentOptions {
        AgentOptions::parse(&RawCmdline::parse(text)).unwrap()
    }

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        let errors = AgentOptions::parse(&RawCmdline::parse(text)).unwrap_err();
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(lines.join("\n"), expected, "for `{text}`");
    }

    #[test]
    fn defaults_are_those_of_the_original() {
        let options = parse("BOOT_IMAGE=vmlinuz initrd=initrd.pxe quiet");
        assert_eq!(options.server.url("upload"), "http://10.0.0.1:80/cgi-bin/upload");
        assert_eq!(options.server.section, "SERVER");
        assert_eq!(
            options.rsync,
            TreeSource { host: "10.0.0.1".to_owned(), port: 873, path: "install".to_owned() }
        );
        assert_eq!(options.archives, None);
        assert_eq!(options.link_up_timeout, Duration::from_secs(10));
        assert_eq!(options.on_success, OnSuccess::Reboot);
        assert_eq!(options.on_failure, OnFailure::Halt);
        assert!(options.upload_log);
        assert!(!options.verbose);
        assert!(options.kernel_arguments.is_empty());
    }

    #[test]
    fn the_configuration_of_the_readme() {
        let options = parse(
            "SERV=10.0.2.2 RSERV_PORT=1515 HTTP_PORT=9000 HTTP_PATH=/cgi-bin/edeploy/ \
             ONFAILURE=console ONSUCCESS=kexec UPLOAD_LOG=0 | console=ttyS0,115200n8 quiet |",
        );
        assert_eq!(options.server.url("upload"), "http://10.0.2.2:9000/cgi-bin/edeploy/upload");
        assert_eq!(options.rsync.host, "10.0.2.2");
        assert_eq!(options.rsync.port, 1515);
        assert_eq!(options.on_success, OnSuccess::Kexec);
        assert_eq!(options.on_failure, OnFailure::Console);
        assert!(!options.upload_log);
        assert_eq!(options.kernel_arguments, ["console=ttyS0,115200n8", "quiet"]);
    }

    #[test]
    fn the_last_of_several_wins_and_an_empty_value_is_no_value() {
        assert_eq!(parse("SERV=a SERV=b").server.host, "b");
        assert_eq!(parse("SERV=a SERV=").server.host, "10.0.0.1");
        assert_eq!(parse("HTTP_PATH=/").server.url("events"), "http://10.0.0.1:80/events");
        assert_eq!(
            parse("SERV=fd00::1").server.url("upload"),
            "http://[fd00::1]:80/cgi-bin/upload"
        );
    }

    #[test]
    fn the_card_that_the_machine_was_started_from() {
        for (text, expected) in [
            ("BOOTIF=01-52-54-00-88-17-3C", Some("52:54:00:88:17:3c")),
            ("BOOTIF=52:54:00:88:17:3c", Some("52:54:00:88:17:3c")),
            ("BOOTIF=20-52-54-00-88-17-3c", None),
            ("BOOTIF=eth0", None),
            ("", None),
        ] {
            let card = parse(text).boot_card;
            assert_eq!(card.as_ref().map(Mac::as_str), expected, "{text}");
        }
    }

    #[test]
    fn values_are_never_evaluated() {
        check_error(
            "SERV=$(reboot) RPATH=`id`",
            "boot argument `SERV=$(reboot)`: expected a host name or address\n\
             boot argument `RPATH=`id``: expected a path of letters, digits and `/._~+-`",
        );
    }

    #[test]
    fn every_bad_value_is_named() {
        check_error(
            "HTTP_PORT=eighty ONSUCCESS=explode UPLOAD_LOG=yes OS=../etc",
            "boot argument `HTTP_PORT=eighty`: expected a whole number from 0 to 65535\n\
             boot argument `ONSUCCESS=explode`: expected reboot, halt, console or kexec\n\
             boot argument `UPLOAD_LOG=yes`: expected 0 or 1\n\
             boot argument `OS=../etc`: expected the name of a role",
        );
        check_error(
            "quiet | console=ttyS0",
            "boot argument `|=`: expected a second `|` that ends the arguments of the installed \
             system",
        );
    }

    #[test]
    fn onfailure_is_known_even_when_the_rest_is_wrong() {
        for (text, expected) in [
            ("HTTP_PORT=x", OnFailure::Halt),
            ("HTTP_PORT=x ONFAILURE=reboot", OnFailure::Reboot),
            ("ONFAILURE=shell", OnFailure::Console),
            ("DEBUG=1", OnFailure::Console),
            ("DEBUG=1 ONFAILURE=halt", OnFailure::Halt),
        ] {
            assert_eq!(OnFailure::of(&RawCmdline::parse(text)), expected, "{text}");
        }
    }
}
