//! The way of one opaque connection: leave to call an endpoint, a connection to it, bytes until both sides have ended.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use socket2::SockRef;
use tidegate_policy::balance::Wish;
use tidegate_policy::call::{Attempt, ConnectionPermit, admit};
use tidegate_policy::decision::CallResult;
use tidegate_policy::mesh::Way;
use tidegate_policy::model::BackendName;
use tidegate_policy::pipeline::{Cut, Filter};
use tidegate_policy::snapshot::{Origination, Scope, Selected, Snapshot};
use tidegate_policy::{Decisions, Reason};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::relay::Relay;
use super::splice::{Pipes, Raw};
use crate::identity::MeshConnector;
use crate::plugins::Chain;
use crate::proxy_protocol::header;
use crate::state::ProxyState;
use crate::telemetry::{ConnectionGuard, ConnectionSide, StreamRecord};
use crate::upstream::{UpstreamStream, connect_mesh, connect_opaque, report};

/// How long nothing may move in either direction. Database pools keep connections silent for long, and TCP's
/// keepalive already finds the peers that are gone.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// Endpoints that are tried for one connection: nothing was sent to one that cannot be reached.
const TRIES: usize = 3;

/// An open connection to an endpoint, with all that it counts against.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) stream: UpstreamStream,
    backend: BackendName,
    _attempt: Attempt,
    _permit: ConnectionPermit,
    _counted: ConnectionGuard,
}

/// Where a connection is carried to, and where it came in.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) upstream: Upstream,
    pub(crate) scope: Scope,
}

/// A client's connection that can be cut off so that the client notices: an end in order would pass for the end of
/// the data.
pub(crate) trait Abort {
    fn abort(&self);
}

impl Abort for TcpStream {
    fn abort(&self) {
        // Fails only on a socket that is gone already.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl Abort for UpstreamStream {
    fn abort(&self) {
        self.socket().abort();
    }
}

/// Connects to an endpoint of the picked backend, to another one where that fails; by TLS where `tls` says how.
/// Breakers and telemetry are told.
///
/// # Errors
/// The backend is not valid, a breaker or a cap refuses, or no endpoint can be reached.
pub(crate) async fn open(
    proxy: &ProxyState,
    selected: &Selected,
    rng: &mut fastrand::Rng,
    record: &mut StreamRecord,
    tls: Option<&Origination>,
) -> Result<Upstream, Reason> {
    record.decided(selected);
    let target = selected.target();
    let backend = target.backend.as_ref().map_err(|reason| *reason)?;
    let limit = backend.connect_timeout.unwrap_or(proxy.config.connect_timeout);
    let first =
        backend.proxy_protocol.map(|version| header(version, Some(&record.addresses()))).unwrap_or_default();
    let mut tried = SmallVec::<[_; TRIES]>::new();
    let (key, counted) = (selected.key_of(record.client()), selected.counted_of(record.client()));
    loop {
        let now = proxy.clock.now();
        let wish = Wish { prefer: None, avoid: &tried, key, counted };
        let admitted = admit(target, backend, wish, now, rng, &mut record.decisions);
        let mut attempt = admitted.map_err(|reply| reply.reason)?;
        let Some(permit) = attempt.open_connection() else {
            return Err(attempt.connection_cap_reached(&mut record.decisions).reason);
        };
        let settings = tls.map(|tls| &*tls.settings);
        let address = &attempt.endpoint.address;
        let way =
            if tls.is_some() { Way::Plain } else { backend.way(&attempt.endpoint, proxy.identity.is_some()) };
        let connected = match way {
            Way::Plain => connect_opaque(address, limit, &first, settings).await,
            Way::Mesh => {
                let peer = backend.peer(&attempt.endpoint);
                match MeshConnector::new(proxy.identity.as_ref(), peer, None) {
                    Ok(connector) => connect_mesh(address, limit, &first, &connector).await,
                    Err(reason) => Err(reason),
                }
            }
        };
        let result =
            connected.as_ref().map_or_else(|why| CallResult::Failed(*why), |_| CallResult::Connected);
        let _ = report(&mut attempt, result, proxy.clock, now);
        record.attempted(&attempt.endpoint.label, result);
        match connected {
            Ok(stream) => {
                if let Some(plugins) = &record.plugins {
                    plugins.connected(stream.socket().peer_addr().ok());
                }
                let counted = proxy.telemetry.connection(ConnectionSide::Upstream);
                let backend = backend.name.clone();
                return Ok(Upstream {
                    stream,
                    backend,
                    _attempt: attempt,
                    _permit: permit,
                    _counted: counted,
                });
            }
            Err(reason) => {
                record.decisions.extend(tls.and_then(|tls| tls.refusal(reason)));
                record.decisions.extend(backend.refusal(&attempt.endpoint, reason));
                tried.push(attempt.endpoint.clone());
                if tried.len() >= TRIES.min(backend.endpoints.len()) {
                    return Err(reason);
                }
            }
        }
    }
}

/// Carries bytes both ways until both sides have ended, or a change of the configuration ends it; and tells how it went.
pub(crate) async fn carry<D>(
    proxy: &ProxyState,
    mut downstream: D,
    Carried { mut upstream, scope }: Carried,
    mut record: StreamRecord,
    stop: CancellationToken,
) where
    D: AsyncRead + AsyncWrite + Abort + Raw + Unpin,
{
    let drain_timeout = proxy.config.drain_timeout;
    let relay = Relay {
        idle_timeout: Some(IDLE_TIMEOUT),
        drain: stop,
        drain_timeout,
        pipes: Pipes::of_this_process(),
    };
    let mut plugins = record.plugins.take();
    let at = (scope, Some(&upstream.backend));
    let judge = |snapshot: &Snapshot, said: &mut Decisions| record.judge_again(snapshot, at, said);
    let (reason, aborts, said) = tokio::select! {
        ended = async {
            match &mut plugins {
                None => relay.run(&mut downstream, &mut upstream.stream, &record.passed).await,
                Some(plugins) => {
                    let both = (&mut downstream, &mut upstream.stream);
                    relay.run_plugged(plugins, both, &record.passed).await
                }
            }
        } => (ended.reason(), ended.aborts(), None),
        (cut, said) = crate::intake::cut(proxy, judge) => (Some(cut.reason), true, Some(said)),
    };
    record.decisions.extend(said.into_iter().flatten());
    record.decisions.extend(plugins.iter_mut().flat_map(|plugins| plugins.take_said()));
    if aborts {
        downstream.abort();
        upstream.stream.abort();
    }
    record.ended(reason);
}

/// Has the plugins that these filters ask look at a connection that begins; they stay with its record.
///
/// # Errors
/// It is to be closed.
pub(crate) async fn meet_plugins(
    proxy: &Arc<ProxyState>,
    filters: &[Arc<dyn Filter>],
    record: &mut StreamRecord,
) -> Result<(), Cut> {
    if filters.iter().any(|filter| filter.plugin().is_some()) {
        let seen = record.seen_by_plugins();
        record.plugins = Chain::begin(proxy, filters, seen, &mut record.decisions).await?;
    }
    Ok(())
}
