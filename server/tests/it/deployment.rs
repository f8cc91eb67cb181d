//! A deployment in a scratch folder: the sample profile `vm`, an edeploy.conf, machines that
//! upload, and a look at what is stored afterwards.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use server::handle::Application;
use server::request::{Request, Response};
use specs::cmdb::Cmdb;
use specs::state::State;
use tempfile::TempDir;

/// The boundary of every form that is sent here.
pub(crate) const BOUNDARY: &str = "----edeploy-test";

pub(crate) struct Deployment {
    folder: TempDir,
    pub(crate) application: Application,
}

impl Deployment {
    /// The sample profile with this `state` and `vm.cmdb`.
    pub(crate) fn new(state: &str, cmdb: &str) -> Deployment {
        Deployment::with_settings(state, cmdb, "")
    }

    pub(crate) fn with_settings(state: &str, cmdb: &str, settings: &str) -> Deployment {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config");
        std::fs::create_dir(&config).unwrap();
        for name in ["vm.specs", "vm.configure"] {
            std::fs::copy(profiles().join(name), config.join(name)).unwrap();
        }
        std::fs::write(config.join("state"), state).unwrap();
        std::fs::write(config.join("vm.cmdb"), cmdb).unwrap();
        let conf = format!("[SERVER]\nCONFIGDIR=config\nHWDIR=hw\nLOGDIR=logs\n{settings}");
        let path = folder.path().join("edeploy.conf");
        std::fs::write(&path, conf).unwrap();
        Deployment { application: Application::open(&path).unwrap(), folder }
    }

    /// As the README has it: entries host03 to host07, four of the profile.
    pub(crate) fn readme() -> Deployment {
        let cmdb = std::fs::read_to_string(profiles().join("vm.cmdb")).unwrap();
        Deployment::new("[(\"vm\", 4)]\n", &cmdb)
    }

    /// `entries` entries and as many of the profile.
    pub(crate) fn sized(entries: u32) -> Deployment {
        let cmdb = entries_cmdb(entries);
        Deployment::new(&format!("[(\"vm\", {entries})]\n"), &cmdb)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Forgets everything in memory, as a restart does.
    pub(crate) fn restart(&mut self) {
        self.application = Application::open(&self.path("edeploy.conf")).unwrap();
    }

    pub(crate) fn sync(&self) {
        self.application.store("SERVER").unwrap().sync().unwrap();
    }

    pub(crate) fn upload(&self, facts: &Value) -> Response {
        self.post(&[("file", Some("facts.json"), facts.to_string().as_bytes())])
    }

    pub(crate) fn post(&self, fields: &[(&str, Option<&str>, &[u8])]) -> Response {
        self.application.handle(&form_request(fields))
    }

    pub(crate) fn events(&self, ticket: &str, sequence: u64, events: &Value) -> Response {
        let batch = json!({
            "protocol": 1, "agent": "test", "nonce": "0".repeat(32), "ticket": ticket,
            "sequence": sequence, "events": events,
        });
        let mut request = form_request(&[]);
        request.path = "/events".into();
        request.body = batch.to_string().into_bytes();
        self.application.handle(&request)
    }

    /// What `state` says of the profile `vm`.
    pub(crate) fn count(&self) -> String {
        let state = State::parse("state", &self.read("config/state")).unwrap();
        state.count(&"vm".parse().unwrap()).unwrap().to_string()
    }

    /// The host names of used entries.
    pub(crate) fn used(&self) -> BTreeSet<String> {
        let cmdb = Cmdb::parse("vm.cmdb", &self.read("config/vm.cmdb"), &BTreeSet::new()).unwrap();
        cmdb.entries()
            .filter(|entry| entry.is_used())
            .map(|entry| entry.get("hostname").unwrap().as_text())
            .collect()
    }
}

/// The sample profiles of the repository.
pub(crate) fn profiles() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../specs/profiles")
}

pub(crate) fn entries_cmdb(entries: u32) -> String {
    let list: Vec<String> = (0..entries)
        .map(|n| {
            format!(
                " {{\"hostname\": \"m{n}\", \"ip\": \"10.1.{}.{}\", \"netmask\": \"255.255.0.0\", \
                 \"gateway\": \"10.1.255.254\"}}",
                n / 250,
                n % 250 + 1
            )
        })
        .collect();
    format!("[\n{}\n]\n", list.join(",\n"))
}

/// The facts of machine number `n`: its own MAC, serial, UUID and disk.
pub(crate) fn machine(n: u32) -> Value {
    let mac = format!("52:54:00:{:02x}:{:02x}:{:02x}", n >> 16 & 255, n >> 8 & 255, n & 255);
    json!([
        ["disk", "vda", "size", "10"],
        ["disk", "vda", "bytes", (10_u64 << 30).to_string()],
        ["disk", "vda", "serial", format!("disk-{n}")],
        ["network", "eth0", "ipv4", "10.0.2.15"],
        ["network", "eth0", "serial", mac],
        ["system", "product", "name", "KVM"],
        ["system", "product", "serial", format!("SN{n:06}")],
        ["system", "product", "uuid", format!("6f1a2b3c-0000-4000-8000-{n:012}")],
        ["system", "firmware", "type", "bios"],
    ])
}

pub(crate) fn form_body(fields: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file_name, content) in fields {
        body.extend(
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"").bytes(),
        );
        if let Some(file_name) = file_name {
            body.extend(format!("; filename=\"{file_name}\"").bytes());
        }
        body.extend(b"\r\n\r\n");
        body.extend_from_slice(content);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{BOUNDARY}--\r\n").bytes());
    body
}

pub(crate) fn form_request(fields: &[(&str, Option<&str>, &[u8])]) -> Request {
    Request {
        method: "POST".into(),
        path: "/cgi-bin/edeploy/upload".into(),
        content_type: Some(format!("multipart/form-data; boundary={BOUNDARY}")),
        accept: Some("application/json".into()),
        peer: None,
        body: form_body(fields),
    }
}

pub(crate) fn json_of(response: &Response) -> Value {
    serde_json::from_slice(&response.body)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&response.body)))
}

/// The host name of the plan in a reply.
pub(crate) fn hostname(response: &Response) -> Option<String> {
    let reply = json_of(response);
    reply["plan"]["plan"]["hostname"].as_str().map(str::to_owned)
}

pub(crate) fn ticket(response: &Response) -> String {
    json_of(response)["plan"]["ticket"].as_str().unwrap().to_owned()
}

/// The reason of a refusal, with those of the profiles.
pub(crate) fn reason(response: &Response) -> String {
    let reply = json_of(response);
    let refused = &reply["refused"];
    let mut text = refused["reason"].as_str().unwrap_or_default().to_owned();
    for profile in refused["profiles"].as_array().into_iter().flatten() {
        text.push_str(&format!(
            "\n{}: {}",
            profile["profile"].as_str().unwrap(),
            profile["reason"].as_str().unwrap()
        ));
    }
    text
}
