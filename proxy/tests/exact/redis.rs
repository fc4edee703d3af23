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

/// Two nodes that share all slots.
pub(crate) struct Cluster {
    /// Each with its port.
    nodes: [(Child, u16); 2],
    _directories: [TempDir; 2],
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [(one, first, _), (other, second, bus)] = [node(&directories[0]), node(&directories[1])];
        let this = Self { nodes: [(one, first), (other, second)], _directories: directories };
        let _: () = ask(first, "CLUSTER ADDSLOTSRANGE 0 8191");
        let _: () = ask(second, "CLUSTER ADDSLOTSRANGE 8192 16383");
        // Nobody has an epoch of his own yet, and of two with the same one has to give way first.
        let _: () = ask(second, "CLUSTER SET-CONFIG-EPOCH 2");
        let _: () = ask(first, &format!("CLUSTER MEET 127.0.0.1 {second} {bus}"));
        for port in [first, second] {
            let known =
                |info: &str| info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:2");
            while !known(&ask::<String>(port, "CLUSTER INFO")) {
                std::thread::yield_now();
            }
        }
        this
    }

    /// One node is enough to find the others.
    pub(crate) fn address(&self, node: usize) -> String {
        format!("redis-cluster://127.0.0.1:{}", self.nodes[node].1)
    }

    /// How many keys each node has.
    pub(crate) fn keys(&self) -> [usize; 2] {
        [0, 1].map(|node| ask(self.nodes[node].1, "DBSIZE"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (child, _) in &mut self.nodes {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn ask<T: redis::FromRedisValue>(port: u16, words: &str) -> T {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        command.arg(word);
    });
    command.query(&mut client.get_connection().unwrap()).unwrap()
}

/// A node at a port that was free a moment ago; so is the second, on which nodes speak to each other.
fn node(directory: &TempDir) -> (Child, u16, u16) {
    let listeners = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [port, bus] = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
    drop(listeners);
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--cluster-port", &bus.to_string()]);
    command.args(["--cluster-enabled", "yes", "--save", "", "--bind", "127.0.0.1"]);
    (ready(command, directory), port, bus)
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
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--unixsocket"]).arg(socket(directory));
    ready(command, directory)
}

fn ready(mut command: Command, directory: &TempDir) -> Child {
    let mut child = command
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
