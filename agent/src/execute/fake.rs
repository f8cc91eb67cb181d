//! A system that does nothing: it remembers what it was asked, and fails where it is told to.

use std::io;

use super::{System, SystemCall, SystemError};

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakeSystem {
    /// The number (from 0) of the call that fails.
    pub(crate) fail_at: Option<usize>,
    /// Calls beginning with one of these lines fail.
    pub(crate) failing: Vec<String>,
    /// The lines of all calls so far.
    pub(crate) transcript: Vec<String>,
}

impl System for FakeSystem {
    fn call(&mut self, call: &SystemCall) -> Result<(), SystemError> {
        let line = call.to_string();
        let number = self.transcript.len();
        self.transcript.push(line.clone());
        if self.fail_at == Some(number) || self.failing.iter().any(|start| line.starts_with(start))
        {
            return Err(SystemError { call: line, source: io::Error::other("injected fault") });
        }
        Ok(())
    }
}
