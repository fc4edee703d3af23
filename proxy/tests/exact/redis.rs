//! A Redis of one's own, at a socket in a directory of its own.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

pub(crate) struct Redis {
    child: Child,
    directory: TempDir,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { child: spawn(&directory), directory }
    }

    pub(crate) fn address(&self) -> String {
        format!("redis+unix://{}", socket(&self.directory).display())
    }

    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.directory);
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Any command, as an administrator sends it.
    pub(crate) fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(self.address()).unwrap();
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(word);
        });
        command.query(&mut client.get_connection().unwrap()).unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Whatever has become of it in the test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn socket(directory: &TempDir) -> PathBuf {
    directory.path().join("redis")
}

fn spawn(directory: &TempDir) -> Child {
    let mut child = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--unixsocket"])
        .arg(socket(directory))
        .current_dir(directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-server on the PATH");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("eady to accept connections")));
    // Its later lines must go somewhere.
    std::thread::spawn(move || lines.for_each(drop));
    child
}
