use std::time::Duration;

use tidegate_policy::model::Peer;
use tidegate_policy::snapshot::Scope;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::*;
use crate::config::ProxyConfig;
use crate::http::rest::HEADER_TIMEOUT;
use crate::telemetry::{LogTarget, Telemetry, TelemetryConfig};

pub(in crate::http) fn context(address: SocketAddr) -> ConnectionContext {
    context_with(address, ProxyConfig::default())
}

pub(in crate::http) fn context_with(address: SocketAddr, proxy: ProxyConfig) -> ConnectionContext {
    let config = TelemetryConfig { access_log: LogTarget::Off, ..TelemetryConfig::default() };
    let (telemetry, _guard) = Telemetry::start(config, &Handle::current());
    let proxy = ProxyState::new(proxy, telemetry);
    let peer = Peer { address, identity: None };
    ConnectionContext::new(proxy, Scope::Inbound, Direction::Inbound, (peer, address), 7)
}

/// How long a client is served that sends `first`, and then `more` every second for as long as it can.
async fn served(first: &[u8], more: &[u8]) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    client.write_all(first).await.unwrap();
    let (stream, address) = listener.accept().await.unwrap();
    let (server, begun) = (HttpServer::new(), Instant::now());
    let serving = server.serve(stream, context(address), CancellationToken::new());
    let (mut reads, mut writes) = client.split();
    let sending = async {
        loop {
            sleep(Duration::from_secs(1)).await;
            if writes.write_all(more).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = serving => begun.elapsed(),
        () = sending => unreachable!("it never ends"),
        end = async { while reads.read_u8().await.is_ok() {} } => {
            let () = end;
            begun.elapsed()
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_its_head_byte_by_byte_has_as_long_as_any_other() {
    let head = b"GET / HTTP/1.1\r\nhost: a\r\nx-slow: ";
    for more in [&b""[..], b"a"] {
        assert_eq!(served(head, more).await.as_secs(), HEADER_TIMEOUT.as_secs());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_or_half_a_preface_is_not_waited_for() {
    for first in [&b""[..], b"PRI * HTTP/2.0\r\n"] {
        assert_eq!(served(first, b"").await.as_secs(), FIRST_BYTES.as_secs());
    }
}

#[tokio::test(start_paused = true)]
async fn an_http_2_client_that_answers_no_ping_is_closed() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let patience = PING_EVERY + PING_TIMEOUT;
    let served = served(preface, b"").await;
    assert!((patience..patience * 2).contains(&served), "{served:?}");
}
