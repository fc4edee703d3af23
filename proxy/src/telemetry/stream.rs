//! One opaque connection as telemetry sees it: a line in the access log and a few counters when it has ended. It has no
//! span: a trace is carried by requests, and nothing is known of those.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tidegate_policy::decision::CallResult;
use tidegate_policy::model::BackendName;
use tidegate_policy::model::Peer;
use tidegate_policy::pipeline::{ConnectionContext, Cut, Ongoing, on_connection};
use tidegate_policy::snapshot::{Gate, Scope, Selected, Snapshot};
use tidegate_policy::{Decisions, Reason, Timestamp};

use super::attributes as name;
use super::exchange::Destination;
use super::fields::{Field, decision, routing};
use super::{Direction, Telemetry};
use crate::plugins::{Chain, SeenConnection};
use crate::proxy_protocol::Addresses;
use crate::tcp::Passed;

/// Told once, when it is dropped. Until its end is known it counts as cut off by a drain: that is what drops it then.
#[derive(Debug)]
pub(crate) struct StreamRecord {
    telemetry: Arc<Telemetry>,
    started: Instant,
    direction: Direction,
    client: Peer,
    /// Where the client meant to connect.
    server: SocketAddr,
    /// Whom it asked for by TLS.
    server_name: Option<Arc<str>>,
    destination: Option<Destination>,
    endpoint: Option<Arc<str>>,
    reason: Option<Reason>,
    forgotten: bool,
    pub(crate) decisions: Decisions,
    /// That have seen the connection, until it is carried.
    pub(crate) plugins: Option<Box<Chain>>,
    pub(crate) passed: Passed,
}

impl StreamRecord {
    pub(super) fn new(
        telemetry: Arc<Telemetry>,
        client: Peer,
        server: SocketAddr,
        direction: Direction,
    ) -> Self {
        Self {
            telemetry,
            started: Instant::now(),
            direction,
            client,
            server,
            server_name: None,
            destination: None,
            endpoint: None,
            reason: Some(Reason::Draining),
            forgotten: false,
            decisions: Decisions::new(),
            plugins: None,
            passed: Passed::default(),
        }
    }

    pub(crate) fn client(&self) -> &Peer {
        &self.client
    }

    /// Between which addresses the client believes to speak.
    pub(crate) fn addresses(&self) -> Addresses {
        Addresses { source: self.client.address, destination: self.server }
    }

    /// What plugins may ask about it.
    pub(crate) fn seen_by_plugins(&self) -> SeenConnection {
        let named = (self.route().cloned(), self.backend().cloned());
        SeenConnection::new((self.client.clone(), self.server), self.server_name.clone(), named)
    }

    /// The client has named a server (SNI).
    pub(crate) fn asked_for(&mut self, server_name: Arc<str>) {
        self.server_name = Some(server_name);
    }

    /// Whether the policies at a gate let it in. What they say is told with it. `carried`: as a whole.
    pub(crate) fn judge(&mut self, gate: &Gate, carried: bool, now: Timestamp) -> Result<(), Cut> {
        let (peer, server_name) = (&self.client, self.server_name.as_deref());
        let (port, decisions) = (self.server.port(), &mut self.decisions);
        on_connection(gate, &mut ConnectionContext { peer, port, server_name, carried, now, decisions })
    }

    /// Whether it may go on under this configuration.
    pub(crate) fn judge_again(
        &self,
        snapshot: &Snapshot,
        (scope, backend): (Scope, Option<&BackendName>),
        decisions: &mut Decisions,
    ) -> Result<(), Cut> {
        let (peer, server_name) = (&self.client, self.server_name.as_deref());
        snapshot.judge_again(scope, backend, &mut Ongoing { peer, server_name, opened_by: None, decisions })
    }

    /// The same as long as nothing was sent to anybody for it. What is said is told with it.
    pub(crate) fn judge_now(&mut self, snapshot: &Snapshot, scope: Scope) -> Result<(), Cut> {
        let mut said = Decisions::new();
        let judged = self.judge_again(snapshot, (scope, None), &mut said);
        self.decisions.extend(said);
        judged
    }

    /// A backend has been picked.
    pub(crate) fn decided(&mut self, selected: &Selected) {
        self.destination = Some(selected.into());
    }

    /// An endpoint has been picked, and connecting to it has ended.
    pub(crate) fn attempted(&mut self, endpoint: &Arc<str>, result: CallResult) {
        self.endpoint = Some(endpoint.clone());
        if let Some(Destination { backend: Some(backend), .. }) = &self.destination {
            self.telemetry.metrics.connected(backend, result);
        }
    }

    /// It is over: `None` for an end in order.
    pub(crate) fn ended(mut self, reason: Option<Reason>) {
        self.reason = reason;
    }

    /// It was no opaque connection after all. What was decided of it still counts.
    pub(crate) fn forget(mut self) {
        self.forgotten = true;
    }

    pub(super) fn direction(&self) -> &'static str {
        self.direction.as_str()
    }

    pub(super) fn route(&self) -> Option<&Arc<str>> {
        self.destination.as_ref()?.route.as_ref()
    }

    pub(super) fn backend(&self) -> Option<&Arc<str>> {
        self.destination.as_ref()?.backend.as_ref()
    }

    pub(super) fn reason(&self) -> Option<Reason> {
        self.reason
    }

    /// Every field that applies, as for a request.
    pub(super) fn visit(&self, visit: &mut impl FnMut(&'static str, Field<'_>)) {
        visit(name::DIRECTION, Field::Static(self.direction.as_str()));
        visit(name::NETWORK_TRANSPORT, Field::Static("tcp"));
        visit(name::CLIENT_ADDRESS, Field::Shown(&self.client.address.ip()));
        if let Some(identity) = &self.client.identity {
            visit(name::PEER, Field::Shared(&identity.0));
        }
        match &self.server_name {
            Some(server_name) => visit(name::SERVER_ADDRESS, Field::Shared(server_name)),
            None => visit(name::SERVER_ADDRESS, Field::Shown(&self.server.ip())),
        }
        visit(name::SERVER_PORT, Field::Int(self.server.port().into()));
        if let Some(destination) = &self.destination {
            routing(destination, visit);
        }
        if let Some(endpoint) = &self.endpoint {
            visit(name::ENDPOINT, Field::Shared(endpoint));
        }
        let bytes = |bytes: u64| Field::Int(i64::try_from(bytes).unwrap_or(i64::MAX));
        visit(name::BYTES_RECEIVED, bytes(self.passed.received()));
        visit(name::BYTES_SENT, bytes(self.passed.sent()));
        if let Some(reason) = self.reason {
            visit(name::REASON, Field::Static(reason.flag()));
        }
        decision(&self.decisions, self.reason, visit);
    }
}

impl Drop for StreamRecord {
    fn drop(&mut self) {
        self.telemetry.metrics.decided(&self.decisions);
        if self.forgotten {
            return;
        }
        self.telemetry.metrics.streams.ended(self);
        self.telemetry.log.write_stream(self, SystemTime::now(), self.started.elapsed());
    }
}
