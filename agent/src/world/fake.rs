//! A runner that starts nothing: it answers from a script, remembers what it was asked, and
//! fails where it is told to.

use super::{Cmd, CmdError, Output, Runner};

/// See the module. Commands that the script does not know succeed and print nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakeRunner {
    /// Standard output by the beginning of the command's line; the first that fits is given,
    /// as often as it is asked for.
    pub(crate) answers: Vec<(String, String)>,
    /// Answers that are given before those, and each only once.
    pub(crate) answers_once: Vec<(String, String)>,
    /// The number (from 0) of the command that fails, with status 1 and `injected fault` as its
    /// last words.
    pub(crate) fail_at: Option<usize>,
    /// Commands beginning with one of these lines fail in the same way.
    pub(crate) failing: Vec<String>,
    /// The lines of all commands so far, the failed one included.
    pub(crate) transcript: Vec<String>,
}

impl FakeRunner {
    /// Adds an answer.
    pub(crate) fn answer(mut self, line_start: &str, stdout: &str) -> FakeRunner {
        self.answers.push((line_start.to_owned(), stdout.to_owned()));
        self
    }

    /// Adds an answer that is given once.
    pub(crate) fn answer_once(mut self, line_start: &str, stdout: &str) -> FakeRunner {
        self.answers_once.push((line_start.to_owned(), stdout.to_owned()));
        self
    }
}

impl Runner for FakeRunner {
    fn run(&mut self, cmd: &Cmd) -> Result<Output, CmdError> {
        let line = cmd.to_string();
        let number = self.transcript.len();
        self.transcript.push(line.clone());
        if self.fail_at == Some(number) || self.failing.iter().any(|start| line.starts_with(start))
        {
            return Err(CmdError::Exit {
                cmd: line,
                code: 1,
                stderr_tail: "injected fault".into(),
            });
        }
        let once = self.answers_once.iter().position(|(start, _)| line.starts_with(start));
        if let Some(position) = once {
            let (_, stdout) = self.answers_once.remove(position);
            return Ok(Output { stdout, stderr: String::new() });
        }
        let answer = self.answers.iter().find(|(start, _)| line.starts_with(start.as_str()));
        let stdout = answer.map(|(_, stdout)| stdout.clone()).unwrap_or_default();
        Ok(Output { stdout, stderr: String::new() })
    }

    fn run_streaming(
        &mut self,
        cmd: &Cmd,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<Output, CmdError> {
        let output = self.run(cmd)?;
        output.stdout.lines().for_each(on_line);
        Ok(Output::default())
    }

    fn run_all(&mut self, cmds: &[Cmd]) -> Vec<Result<Output, CmdError>> {
        cmds.iter().map(|cmd| self.run(cmd)).collect()
    }
}
