//! The other end of a tunnel.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderValue, Response, StatusCode, request};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncWriteExt, copy, split};

use super::Shared;
use crate::body::{TestBody, empty};

/// What a server says to the opening of a tunnel: 101 to an upgrade, 200 to CONNECT.
pub(super) fn agreement(head: &request::Parts) -> Response<TestBody> {
    let mut response = Response::new(empty());
    let Some(protocol) = head.headers.get(UPGRADE) else { return response };
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, protocol.clone());
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(key) = head.headers.get(SEC_WEBSOCKET_KEY) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept(key.as_bytes()));
    }
    response
}

/// RFC 6455, section 4.2.2.
fn accept(key: &[u8]) -> HeaderValue {
    let digest =
        Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    HeaderValue::try_from(STANDARD.encode(digest)).expect("base64 is a header's value")
}

pub(super) async fn echo(upgrade: OnUpgrade, shared: Arc<Shared>) {
    let Ok(tunnel) = upgrade.await else { return };
    shared.counts.send_modify(|c| c.tunnels += 1);
    let (mut read, mut write) = split(TokioIo::new(tunnel));
    tokio::select! {
        _ = copy(&mut read, &mut write) => {}
        () = shared.hang_up.notified() => {}
    }
    let _ = write.shutdown().await;
    shared.counts.send_modify(|c| c.tunnels -= 1);
}
