//! Child processes that cannot outlive this one.
//!
//! Each child gets a pipe as standard input and ends when that is closed, which the kernel does for us however we
//! end. It also gets a process group of its own: Ctrl-C in a terminal reaches this process only, which then drains
//! the children in order.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::shutdown::EXIT_ON_STDIN_CLOSE;

/// How long a child may drain before it is killed.
const DRAIN: Duration = Duration::from_secs(10);

/// How much of a dead child's log is shown.
const LOG_TAIL: usize = 15;

/// One of our own subcommands, running.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    program: PathBuf,
    args: Vec<String>,
}

impl Process {
    /// Starts `program` with `args`; what it writes goes to `logs/NAME.log`.
    ///
    /// # Errors
    /// When the log file or the process cannot be created.
    pub(crate) fn start(program: &Path, name: &str, args: &[String], logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let child = spawn(program, args, &log)?;
        let (name, program, args) = (name.to_owned(), program.to_owned(), args.to_vec());
        Ok(Self { name, child, log, program, args })
    }

    /// Starts it again if somebody has killed it, and says so.
    ///
    /// # Errors
    /// As [`Process::check`] if it ended by itself; as [`Process::start`].
    pub(crate) fn revive(&mut self) -> Result<Option<String>> {
        let killed = match self.child.try_wait()? {
            None => return Ok(None),
            Some(status) => status.signal().is_some().then_some(status),
        };
        let Some(status) = killed else { return self.check().map(|()| None) };
        self.child = spawn(&self.program, &self.args, &self.log)?;
        Ok(Some(format!("{} ended ({status})", self.name)))
    }

    /// Fails if the process has ended, with the end of its log.
    ///
    /// # Errors
    /// Which process, how it ended, and what it said.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}).\n{}", self.name, self.tail()),
        }
    }

    /// Waits until `ready` says yes; a child that ends meanwhile, or takes longer than `patience`, is an error.
    ///
    /// # Errors
    /// As [`Process::check`].
    pub(crate) async fn wait_ready(
        &mut self,
        patience: Duration,
        ready: impl AsyncFn() -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !ready().await {
            self.check()?;
            if Instant::now() > deadline {
                bail!("{} is not ready after {patience:?}.\n{}", self.name, self.tail());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Asks the process to drain and waits; kills it when it does not end in time.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub(crate) async fn stop(mut self) -> Result<ExitStatus> {
        drop(self.child.stdin.take());
        match timeout(DRAIN, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => {
                tracing::warn!("{} did not drain within {DRAIN:?} and was killed", self.name);
                self.child.kill().await?;
                Ok(self.child.wait().await?)
            }
        }
    }

    fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LOG_TAIL);
        format!("The end of {}:\n  {}", self.log.display(), lines[from..].join("\n  "))
    }
}

fn spawn(program: &Path, args: &[String], log: &Path) -> Result<Child> {
    let file = OpenOptions::new().create(true).append(true).open(log);
    let file = file.with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Command::new(program);
    // What somebody set for a proxy of their own is not meant for these.
    let ours = |name: &OsString| name.to_string_lossy().starts_with("TIDEGATE_") && name != "TIDEGATE_LOG";
    for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command
        .args(args)
        .env(EXIT_ON_STDIN_CLOSE, "1")
        .stdin(Stdio::piped())
        .stdout(file.try_clone()?)
        .stderr(file)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {} {}", program.display(), args.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, logs: &Path) -> Process {
        Process::start(Path::new("/bin/sh"), "probe", &["-c".to_owned(), script.to_owned()], logs).unwrap()
    }

    #[tokio::test]
    async fn closing_standard_input_is_how_a_child_learns_to_stop() {
        let logs = tempfile::tempdir().unwrap();
        let child = shell("cat >/dev/null; exit 7", logs.path());
        assert_eq!(child.stop().await.unwrap().code(), Some(7));
    }

    #[tokio::test]
    async fn a_child_that_dies_is_reported_with_its_last_words() {
        let logs = tempfile::tempdir().unwrap();
        let mut child = shell("echo 'the port is taken' >&2; exit 3", logs.path());
        let error = child.wait_ready(Duration::from_secs(60), async || false).await.unwrap_err().to_string();
        assert!(error.contains("probe ended") && error.contains("the port is taken"), "{error}");
    }

    #[tokio::test]
    async fn a_child_that_was_killed_is_started_again_and_one_that_gave_up_is_not() {
        let logs = tempfile::tempdir().unwrap();
        let mut killed = shell("kill -9 $$", logs.path());
        killed.child.wait().await.unwrap();
        let told = killed.revive().unwrap().unwrap();
        assert!(told.contains("probe ended") && told.contains('9'), "{told}");
        let mut gave_up = shell("exit 3", logs.path());
        gave_up.child.wait().await.unwrap();
        assert!(gave_up.revive().is_err());
    }
}
