//! Out of file descriptors. Alone in its process, because the limit is the process's.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its set-up too")]

#[path = "proxy/mesh.rs"]
mod mesh;

use std::net::TcpStream;

use mesh::sidecar;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidegate_testkit::backend::FaultBackend;
use tidegate_testkit::client::RawClient;

#[tokio::test]
async fn a_proxy_without_file_descriptors_serves_again_when_it_has_some() {
    let backend = FaultBackend::start().await;
    let proxy = sidecar(backend.address());
    let address = proxy.inbound().unwrap();
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    assert_eq!(current, maximum, "the proxy takes what it may have");
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    setrlimit(Resource::Nofile, Rlimit { current: Some(open + 20), maximum }).unwrap();
    let mut held = Vec::new();
    let refused = loop {
        match TcpStream::connect(address) {
            Ok(stream) => held.push(stream),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()), "{refused}");
    // The next to connect is one that the proxy may not be able to accept; it waits, and is served when others have
    // gone. Proxy and test share what is free, so the first place that is given back may not be ours.
    let waiting = loop {
        drop(held.pop().expect("somebody can connect once everybody else is gone"));
        if let Ok(stream) = TcpStream::connect(address) {
            break stream;
        }
    };
    drop(held);
    waiting.set_nonblocking(true).unwrap();
    let mut waiting = RawClient::from(tokio::net::TcpStream::from_std(waiting).unwrap());
    waiting.write("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(waiting.read_to_end().await.starts_with("HTTP/1.1 200"));
}
