//! The machine protocol of QEMU (QMP): the few commands that the lab gives.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// A connection to the monitor of one machine.
#[derive(Debug)]
pub struct Monitor {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Monitor {
    /// Connects and negotiates.
    pub fn connect(socket: &Path) -> Result<Monitor> {
        let writer = UnixStream::connect(socket)
            .with_context(|| format!("connecting to the QEMU monitor `{}`", socket.display()))?;
        writer.set_read_timeout(Some(Duration::from_secs(10)))?;
        let reader = BufReader::new(writer.try_clone()?);
        let mut monitor = Monitor { reader, writer };
        let greeting = monitor.read()?;
        if greeting.get("QMP").is_none() {
            bail!("the QEMU monitor greeted with `{greeting}`");
        }
        monitor.command("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    /// Gives a command and returns its answer; events that come in between are dropped.
    pub fn command(&mut self, name: &str, arguments: Value) -> Result<Value> {
        let line = json!({ "execute": name, "arguments": arguments });
        writeln!(self.writer, "{line}").with_context(|| format!("telling QEMU to `{name}`"))?;
        loop {
            let mut answer = self.read()?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                bail!("QEMU refused `{name}`: {error}");
            }
        }
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.reader.read_line(&mut line).context("reading from the QEMU monitor")?;
        serde_json::from_str(&line).with_context(|| format!("the QEMU monitor said `{line}`"))
    }
}
