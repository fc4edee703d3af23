//! A connection to our own application, where this proxy has an identity: of the mesh by mTLS, or of anybody else as it
//! comes.
//!
//! The two are told apart by the first bytes: mesh connections offer a protocol (ALPN) that nobody else has. TLS of the
//! application's own is not ours to end, and is carried to it untouched.

use std::io;
use std::time::Duration;

use tidegate_policy::snapshot::Selected;
use tidegate_policy::{Decisions, Reason};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::http::{ConnectionContext, Hello, HttpServer, Version, last_requests, told};
use crate::identity::{self, CARRIED, HTTP_1, HTTP_2, WorkloadIdentity};
use crate::intake::{close, lets_in, lets_in_to_app};
use crate::listener::{NoHello, Rewound, handshake, read_hello};
use crate::tcp::{Abort, Carried, Raw, Upstream, carry, meet_plugins, open};
use crate::telemetry::ConnectionSide;

/// From the accept to the first bytes, and to the end of a client's first message.
const FIRST_BYTES: Duration = Duration::from_secs(10);
/// How long a client of carried bytes is waited for, before the application is asked whether it speaks first.
const GRACE: Duration = Duration::from_millis(50);
/// More than a request line that tells HTTP.
const LOOKED_AT: usize = 2_048;
/// A handshake record of any version of TLS (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 0x16;

/// Serves `stream` until it ends or, after `stop`, is drained.
pub(crate) async fn serve(
    server: &HttpServer,
    mut stream: TcpStream,
    identity: &WorkloadIdentity,
    context: ConnectionContext,
    stop: CancellationToken,
) {
    let first = tokio::select! {
        first = timeout(FIRST_BYTES, begins_with_tls(&stream)) => first,
        () = last_requests(&stop) => return,
    };
    match first {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => {
            if lets_in_to_app(&context, &stream) {
                server.serve(stream, context, stop).await;
            }
            return;
        }
        Ok(Err(_)) | Err(_) => return,
    }
    let hello = tokio::select! {
        hello = timeout(FIRST_BYTES, read_hello(&mut stream)) => hello,
        () = last_requests(&stop) => return,
    };
    match hello {
        Ok(Ok(hello)) if hello.is_mesh => {
            let stream = hello.rewind(stream);
            Box::pin(mesh(server, stream, identity, context, stop)).await;
        }
        Ok(Ok(hello)) => {
            let name = hello.server_name.clone();
            let stream = hello.rewind(stream);
            if lets_in(&context, &stream, name.as_deref()) {
                let opened = connect(&stream, &context, name.as_deref()).await;
                Box::pin(carried(stream, opened, context, stop)).await;
            }
        }
        Ok(Err(NoHello::Silent)) => {}
        Ok(Err(error)) => refuse(&stream, &context, &error.to_string()),
        Err(_late) => refuse(&stream, &context, "the client's first message did not come in time"),
    }
}

async fn begins_with_tls(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(first == [HANDSHAKE_RECORD])
}

/// A connection of another proxy: it shows who it is, and says what is inside.
async fn mesh(
    server: &HttpServer,
    stream: Rewound<TcpStream>,
    identity: &WorkloadIdentity,
    mut context: ConnectionContext,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(identity.inbound());
    let shaken = tokio::select! {
        shaken = handshake(&acceptor, stream) => shaken,
        () = last_requests(&stop) => return,
    };
    let stream = match shaken {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(client = %context.peer.address, %error, "refused: mTLS handshake failed");
            let record =
                context.proxy.telemetry.stream(context.peer.clone(), context.reached, context.direction);
            return record.ended(Some(Reason::BadHandshake));
        }
    };
    let (_, session) = stream.get_ref();
    context.peer.identity = identity::shown(session.peer_certificates());
    let inside = match session.alpn_protocol() {
        Some(HTTP_2) => Some(Version::Http2),
        Some(HTTP_1) => Some(Version::Http1),
        Some(CARRIED) => None,
        _ => return,
    };
    if !lets_in(&context, &stream, None) {
        return;
    }
    match inside {
        Some(version) => server.serve_known(stream, version, context, stop).await,
        None => bytes(server, stream, context, stop).await,
    }
}

/// What was carried as bytes may be requests all the same, of a client that was silent for a while: no policy is passed
/// by in that way.
async fn bytes<D>(server: &HttpServer, mut stream: D, context: ConnectionContext, stop: CancellationToken)
where
    D: AsyncRead + AsyncWrite + Abort + Raw + Unpin + Send + 'static,
{
    let mut start = Vec::new();
    let mut opened = None;
    let hello = match timeout(GRACE, words(&mut stream, &mut start)).await {
        Ok(hello) => hello,
        // Who may send requests only is waited for: the application is asked nothing on his behalf.
        Err(_silent) if start.is_empty() && !may_be_carried(&context) => tokio::select! {
            hello = words(&mut stream, &mut start) => hello,
            () = last_requests(&stop) => return,
        },
        Err(_silent) if start.is_empty() => {
            let Some((upstream, record)) = connect(&stream, &context, None).await else { return };
            let hello = tokio::select! {
                biased;
                hello = words(&mut stream, &mut start) => hello,
                _ = upstream.stream.spoken() => Ok(Hello::Other),
                () = last_requests(&stop) => return,
            };
            match hello {
                Ok(Hello::Http) => record.forget(),
                _ => opened = Some((upstream, record)),
            }
            hello
        }
        Err(_slow) => Ok(Hello::Other),
    };
    let is_http2 = start.starts_with(b"PRI");
    let stream = Rewound::new(start, stream);
    match hello {
        Ok(Hello::Http) => {
            let version = if is_http2 { Version::Http2 } else { Version::Http1 };
            server.serve_known(stream, version, context, stop).await;
        }
        Ok(Hello::Tls | Hello::Other) => {
            let opened = match opened {
                None => connect(&stream, &context, None).await,
                opened => opened,
            };
            carried(stream, opened, context, stop).await;
        }
        Err(_) => {}
    }
}

/// What a client begins with, and the bytes that tell it.
async fn words(stream: &mut (impl AsyncRead + Unpin), start: &mut Vec<u8>) -> io::Result<Hello> {
    loop {
        let room = LOOKED_AT.saturating_sub(start.len());
        let read = (&mut *stream).take(room as u64).read_buf(start).await?;
        match told(start) {
            Some(hello) => return Ok(hello),
            None if read == 0 => return Ok(Hello::Other),
            None => {}
        }
    }
}

type Opened = (Upstream, crate::telemetry::StreamRecord);

/// Carries bytes to the application and back.
async fn carried<D>(stream: D, opened: Option<Opened>, context: ConnectionContext, stop: CancellationToken)
where
    D: AsyncRead + AsyncWrite + Abort + Raw + Unpin,
{
    let _busy = context.presence.busy();
    let _counted = context.proxy.telemetry.connection(ConnectionSide::Downstream);
    if let Some((upstream, record)) = opened {
        let carried = Carried { upstream, scope: context.scope };
        carry(&context.proxy, stream, carried, record, stop).await;
    }
}

/// Connects to the application, for whom the policies let do more than send requests; where that fails, the client is told
/// by a reset.
async fn connect(
    stream: &impl Abort,
    context: &ConnectionContext,
    server_name: Option<&str>,
) -> Option<Opened> {
    let proxy = &context.proxy;
    let (app, protocol) = proxy.store.load().app(context.scope)?;
    let mut record = proxy.telemetry.stream(context.peer.clone(), context.reached, context.direction);
    if let Some(server_name) = server_name.filter(|name| !name.is_empty()) {
        record.asked_for(server_name.into());
    }
    if let Err(cut) = record.judge_now(&proxy.store.load(), context.scope) {
        close(cut, stream, record);
        return None;
    }
    let filters = proxy.store.load().carried_to_app(context.scope);
    if let Err(cut) = meet_plugins(proxy, &filters, &mut record).await {
        close(cut, stream, record);
        return None;
    }
    let selected = Selected::passthrough(app, protocol);
    match open(proxy, &selected, &mut context.rng(), &mut record, None).await {
        Ok(upstream) => Some((upstream, record)),
        Err(reason) => {
            stream.abort();
            record.ended(Some(reason));
            None
        }
    }
}

/// Whether the policies would let its bytes through, whatever they are.
fn may_be_carried(context: &ConnectionContext) -> bool {
    let proxy = &context.proxy;
    let record = proxy.telemetry.stream(context.peer.clone(), context.reached, context.direction);
    // Nobody is refused yet: what is said is dropped.
    let may = record.judge_again(&proxy.store.load(), (context.scope, None), &mut Decisions::new()).is_ok();
    record.forget();
    may
}

fn refuse(stream: &impl Abort, context: &ConnectionContext, why: &str) {
    stream.abort();
    tracing::debug!(client = %context.peer.address, why, "connection closed");
    let record = context.proxy.telemetry.stream(context.peer.clone(), context.reached, context.direction);
    record.ended(Some(Reason::BadHandshake));
}
