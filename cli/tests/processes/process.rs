//! Whole processes for tests: started, listened to, and ended with the test.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Nothing here takes long; this only ends a test that would hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// `tidegate` with flags, and what it says on standard error.
pub(crate) struct Tidegate {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Tidegate {
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut child = command(args).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Self { child, lines, said: Vec::new() }
    }

    /// SIGTERM, as a kubelet sends it; waits until it has ended by itself.
    pub(crate) fn terminate(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success(), "it ended as it should:\n{}", self.said.join("\n"));
    }

    /// The next line that begins with `beginning`.
    pub(crate) fn hear(&mut self, beginning: &str) -> String {
        self.hear_line(beginning, |line| line.starts_with(beginning))
    }

    /// The next line of its log that has all of these in it.
    pub(crate) fn hear_of(&mut self, parts: &[&str]) -> String {
        self.hear_line(&parts.join(" … "), |line| parts.iter().all(|part| line.contains(part)))
    }

    fn hear_line(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("never said `{what}`, only:\n{}", self.said.join("\n"));
            };
            self.said.push(line.clone());
            if is_it(&line) {
                return line;
            }
        }
    }
}

impl Drop for Tidegate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(args).stdin(Stdio::null());
    command
}

/// The first socket address in a line.
pub(crate) fn address(line: &str) -> SocketAddr {
    line.split([' ', ',', '/'])
        .find_map(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no address: {line}"))
}

/// The address that a line of the log says after `key`, such as `grpc=`.
pub(crate) fn address_after(line: &str, key: &str) -> SocketAddr {
    let value = line.split(key).nth(1).unwrap_or_else(|| panic!("no {key}: {line}"));
    value.split([' ', '"']).find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

/// An application that answers every request with `hello`, for as long as the test runs.
pub(crate) fn app() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello");
}

/// Status and body of one GET.
pub(crate) fn get(address: SocketAddr, path: &str, headers: &str) -> (u16, String) {
    try_get(address, path, headers).unwrap()
}

pub(crate) fn try_get(address: SocketAddr, path: &str, headers: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n{headers}\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let broken = || std::io::Error::other(format!("no answer: {text}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
    Ok((status, body.to_owned()))
}

/// A port that was free a moment ago, for files that must name one.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
