//! A connection of our own application to a known address: HTTP, or bytes that are only carried.
//!
//! Where nobody has said which, the bytes of whoever begins decide. A client is waited for only as long as [`GRACE`];
//! one that is silent for longer may wait for the server's greeting (MySQL, SMTP), so the server is connected to, and
//! whichever side speaks first tells. No limit is put on that: a protocol may well begin with a pause.

use std::net::SocketAddr;
use std::time::Duration;

use tidegate_policy::snapshot::Expected;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::http::{ConnectionContext, Hello, HttpServer, hello};
use crate::intake::{close, judge};
use crate::tcp::{Abort as _, Carried, IDLE_TIMEOUT, Upstream, carry, open};
use crate::telemetry::{ConnectionSide, StreamRecord};

/// Clients that begin do so at once: longer than one machine's own network takes, too short to be felt as a wait.
const GRACE: Duration = Duration::from_millis(50);

/// From the accept to the first bytes, where only a client can begin.
const FIRST_BYTES: Duration = Duration::from_secs(10);

/// What a connection turned out to be.
enum Kind {
    Http,
    /// With a connection to the endpoint, where one was opened already.
    Opaque(Option<Box<(Upstream, StreamRecord)>>),
    /// It ended, or could not be connected, before anything was known.
    Over,
}

/// Serves `stream`, which wanted to go to `address`, until it ends or, after `stop`, is drained.
pub(crate) async fn serve(
    server: &HttpServer,
    stream: TcpStream,
    address: SocketAddr,
    context: ConnectionContext,
    stop: CancellationToken,
) {
    if context.proxy.demand.is_some() {
        let key = address.ip().to_string();
        tokio::select! {
            () = context.proxy.settle(&key) => {}
            () = stop.cancelled() => return,
        }
    }
    let expected = context.proxy.store.load().expected(address);
    let kind = match expected {
        Expected::Http => Kind::Http,
        Expected::Opaque => Kind::Opaque(None),
        expected => tokio::select! {
            kind = find_out(&stream, address, expected, &context) => kind,
            () = stop.cancelled() => return,
        },
    };
    match kind {
        Kind::Http => server.serve(stream, context, stop).await,
        Kind::Opaque(opened) => {
            let _busy = context.presence.busy();
            let _counted = context.proxy.telemetry.connection(ConnectionSide::Downstream);
            let opened = match opened {
                Some(opened) => Some(*opened),
                None => connect(&stream, address, &context).await,
            };
            if let Some((upstream, record)) = opened {
                let carried = Carried { upstream, scope: context.scope };
                carry(&context.proxy, stream, carried, record, stop).await;
            }
        }
        Kind::Over => {}
    }
}

async fn find_out(
    stream: &TcpStream,
    address: SocketAddr,
    expected: Expected,
    context: &ConnectionContext,
) -> Kind {
    // In both that are expected then, the client begins.
    let patience = if expected == Expected::HttpOrTls { FIRST_BYTES } else { GRACE };
    match timeout(patience, hello(stream)).await {
        Ok(Ok(Hello::Http)) => return Kind::Http,
        // Is told that it is no HTTP.
        Ok(Ok(Hello::Other)) if expected == Expected::HttpOrTls => return Kind::Http,
        Ok(Ok(Hello::Tls | Hello::Other)) => return Kind::Opaque(None),
        Ok(Err(_)) => return Kind::Over,
        Err(_silent) if expected == Expected::HttpOrTls => return Kind::Over,
        Err(_silent) => {}
    }
    let Some((upstream, record)) = connect(stream, address, context).await else { return Kind::Over };
    if upstream.stream.is_secured() {
        // Who speaks first is found out at the other end, which is told the bytes as they are.
        return Kind::Opaque(Some(Box::new((upstream, record))));
    }
    tokio::select! {
        biased;
        hello = hello(stream) => match hello {
            Ok(Hello::Tls | Hello::Other) => Kind::Opaque(Some(Box::new((upstream, record)))),
            Ok(Hello::Http) => {
                record.forget();
                Kind::Http
            }
            Err(_) => Kind::Over,
        },
        // An end without a greeting is the server's word as well.
        _ = upstream.stream.spoken() => Kind::Opaque(Some(Box::new((upstream, record)))),
        () = sleep(IDLE_TIMEOUT) => Kind::Over,
    }
}

/// Connects to an endpoint for opaque bytes; where that fails, the client is told by a reset.
async fn connect(
    stream: &TcpStream,
    address: SocketAddr,
    context: &ConnectionContext,
) -> Option<(Upstream, StreamRecord)> {
    let proxy = &context.proxy;
    let mut record = proxy.telemetry.stream(context.peer.clone(), address, context.direction);
    let selected = proxy.store.load().stream(address);
    let opened = match selected {
        Ok(selected) => {
            record.decided(&selected);
            // Counts as well one that was silent for long and turns out to be HTTP.
            if let Err(cut) = judge(proxy, &selected.target().gate, &mut record) {
                close(cut, stream, record);
                return None;
            }
            open(proxy, &selected, &mut context.rng(), &mut record, None).await
        }
        Err(reason) => Err(reason),
    };
    match opened {
        Ok(upstream) => Some((upstream, record)),
        Err(reason) => {
            stream.abort();
            record.ended(Some(reason));
            None
        }
    }
}
