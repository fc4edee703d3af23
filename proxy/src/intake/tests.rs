use std::sync::Arc;

use tidegate_policy::model::{
    Accepts, HostPattern, Listener, ListenerName, Peer, Resource, ResourceName, SourceRef, TlsMode,
};
use tidegate_policy::snapshot::Scope;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::*;
use crate::config::{Applier, Change, ProxyConfig};
use crate::state::ProxyState;
use crate::telemetry::{Direction, LogTarget, Scrape, Telemetry, TelemetryConfig};

const BIND: BindAddress = BindAddress { ip: None, port: 443 };

fn proxy() -> Arc<ProxyState> {
    let config = TelemetryConfig { access_log: LogTarget::Off, ..TelemetryConfig::default() };
    let (telemetry, _guard) = Telemetry::start(config, &Handle::current());
    let proxy = ProxyState::new(ProxyConfig::default(), telemetry);
    let gateway = ResourceName::new("shop", "edge");
    let listener = Listener {
        source: SourceRef::Object { name: gateway.clone(), generation: 1 },
        name: ListenerName::own(gateway, "tls"),
        addresses: Vec::new(),
        port: BIND.port,
        accepts: Accepts::Tls { hostname: HostPattern::Any, mode: TlsMode::Passthrough },
        clients: None,
        client_certificate: None,
    };
    let change = Change { upserts: vec![Resource::Listener(listener)], removed: Vec::new() };
    assert_eq!(Applier::new(proxy.clone()).apply(change), []);
    proxy
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_first_message_does_not_come_in_time_is_closed() {
    let proxy = proxy();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, address) = listener.accept().await.unwrap();
    let peer = Peer { address, identity: None };
    let context =
        ConnectionContext::new(proxy.clone(), Scope::Gateway(BIND), Direction::Gateway, (peer, address), 7);
    // The beginning of a first message of 512 bytes, and no more.
    client.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]).await.unwrap();
    let (server, begun) = (HttpServer::new(), Instant::now());
    let serving = serve(&server, stream, BIND, context, CancellationToken::new());
    let (_, heard) = tokio::join!(serving, client.read_u8());
    assert!(heard.is_err());
    assert_eq!(begun.elapsed().as_secs(), FIRST_MESSAGE.as_secs());
    let told = proxy.telemetry.render_metrics(&Scrape::default());
    assert!(told.contains(r#"reason="bad_handshake"} 1"#), "{told}");
}
