//! The kernel's tables, by iptables' own programs, in the network namespace of the thread that calls.
//!
//! The program speaks to either of the kernel's two back ends, and is the one that whoever looks after the node looks at.
//! It has so long, for another may hold its lock; then it is ended.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::{Family, Found, Rules, missing, script};

/// Of one program. The lock of iptables is held for as long as another one writes: milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// As much is read of what it prints; a namespace's nat table is a few lines.
const MAX_PRINTED_BYTES: u64 = 16 << 20;
/// Also looked into: the PATH of a container runtime often has none of the administrator's.
const FOLDERS: [&str; 5] = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin"];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot run {0}: is iptables installed? ({1})")]
    Start(&'static str, io::Error),
    #[error("{0}: {1} (it needs CAP_NET_ADMIN, and the kernel's NAT)")]
    Refused(&'static str, String),
    #[error("{0}: has not ended within {1} s")]
    Late(&'static str, u64),
}

/// The families that this namespace has: IPv6 may be missing from the kernel.
fn families() -> impl Iterator<Item = Family> {
    // Of the thread: `/proc/net` is the whole process's.
    let is_there = |family: &Family| match family {
        Family::V4 => true,
        Family::V6 => Path::new("/proc/thread-self/net/if_inet6").exists(),
    };
    [Family::V4, Family::V6].into_iter().filter(is_there)
}

/// Makes the rules those that hold, whatever of ours was there; without rules, takes everything back. Each family's are
/// swapped as a whole.
///
/// # Errors
/// A program is missing, refuses, or takes longer than 30 s.
pub fn apply(rules: Option<&Rules>) -> Result<(), Error> {
    for family in families() {
        let found = Found::in_tables(&saved(family)?);
        if rules.is_none() && found == Found::default() {
            continue;
        }
        run(family.restore(), &["--noflush", "--wait"], &script(rules, family, found))?;
    }
    Ok(())
}

/// What of the rules does not hold here, in words; empty where all do.
///
/// # Errors
/// As [`apply`].
pub fn check(rules: &Rules) -> Result<Vec<String>, Error> {
    let mut all = Vec::new();
    for family in families() {
        all.extend(missing(rules, family, &saved(family)?));
    }
    Ok(all)
}

/// Whether the programs are there.
///
/// # Errors
/// As [`apply`].
pub fn are_there() -> Result<(), Error> {
    run(Family::V4.restore(), &["--version"], "").map(drop)
}

fn saved(family: Family) -> Result<String, Error> {
    run(family.save(), &["-t", "nat"], "")
}

/// Its output.
fn run(name: &'static str, args: &[&str], input: &str) -> Result<String, Error> {
    run_for(PATIENCE, name, args, input)
}

fn run_for(patience: Duration, name: &'static str, args: &[&str], input: &str) -> Result<String, Error> {
    let pipe = Stdio::piped;
    let command = found(name).map(|path| {
        let mut command = Command::new(path);
        command.args(args).stdin(pipe()).stdout(pipe()).stderr(pipe());
        command
    });
    let mut child =
        command.and_then(|mut command| command.spawn()).map_err(|error| Error::Start(name, error))?;
    let told = talk(&mut child, input, patience);
    if told.is_none() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| Error::Start(name, error))?;
    match told {
        None => Err(Error::Late(name, patience.as_secs())),
        Some((_, errors)) if !status.success() => Err(Error::Refused(name, errors.trim().to_owned())),
        Some((output, _)) => Ok(output),
    }
}

/// What it prints on both of its outputs until they are closed; nothing, if that takes too long.
fn talk(child: &mut Child, input: &str, patience: Duration) -> Option<(String, String)> {
    let (stdin, stdout, stderr) = (child.stdin.take()?, child.stdout.take()?, child.stderr.take()?);
    let end = Instant::now() + patience;
    let input = input.to_owned();
    // Each pipe has a thread, since it may be full or silent while another one moves. They end with the program.
    thread::spawn(move || {
        let mut stdin = stdin;
        // One that ends early says why itself.
        let _ = stdin.write_all(input.as_bytes());
    });
    let (output, errors) = (read(stdout), read(stderr));
    let next =
        |from: mpsc::Receiver<String>| from.recv_timeout(end.saturating_duration_since(Instant::now())).ok();
    Some((next(output)?, next(errors)?))
}

fn read(from: impl io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (done, whole) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.take(MAX_PRINTED_BYTES).read_to_end(&mut bytes);
        let _ = done.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    whole
}

fn found(name: &str) -> io::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.map(PathBuf::from));
    let mut files = folders.filter(|folder| folder.is_absolute()).map(|folder| folder.join(name));
    files.find(|file| file.is_file()).ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_prints_and_why_it_refuses_is_told() {
        let echo = run("sh", &["-c", "read line; echo \"$line!\""], "hello\n").unwrap();
        assert_eq!(echo, "hello!\n");
        let refused = run("sh", &["-c", "echo no >&2; exit 3"], "").unwrap_err().to_string();
        assert!(refused.starts_with("sh: no ("), "{refused}");
        let none = run("no-such-program", &[], "").unwrap_err().to_string();
        assert!(none.contains("is iptables installed?"), "{none}");
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let late = run_for(Duration::from_millis(50), "sleep", &["1000"], &"x".repeat(1 << 20));
        assert!(matches!(late, Err(Error::Late("sleep", 0))), "{late:?}");
    }
}
