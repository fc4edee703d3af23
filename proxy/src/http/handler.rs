//! The story of a request: route, policies, call, answer. Reads top to bottom.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALT_SVC, CONNECTION, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version, request};
use hyper::body::Body as _;
use tidegate_policy::matching::authority;
use tidegate_policy::model::AppProtocol;
use tidegate_policy::pick::PickContext;
use tidegate_policy::pipeline::{
    self, DirectReply, Effect, Flow, LocalReply, Performed, Phase, Progress, RequestContext, Stop,
    WrittenReply,
};
use tidegate_policy::snapshot::{Scope, Selected, Snapshot};
use tidegate_policy::{Reason, Timestamp};
use tokio::time::Instant;

use super::body::{ClientBody, RequestBody};
use super::explain::{self, X_TIDEGATE_EXPLAIN};
use super::grpc_web::GrpcWeb;
use super::names::Names;
use super::record::Record;
use super::reply::{self, Dialect};
use super::response_body::ResponseBody;
use super::server::{ConnectionContext, TlsSession};
use super::tunnel::Opened;
use super::{headers, plugged, tunnel};
use crate::clock::since_epoch;
use crate::effects;
use crate::limits;
use crate::probes::{self, Asks};
use crate::state::ProxyState;
use crate::upstream::{self, Answered, Call};

/// Where one request has got to.
pub(super) struct Story<'a> {
    pub(super) connection: &'a Arc<ConnectionContext>,
    rng: fastrand::Rng,
    begun: Instant,
    pub(super) dialect: Dialect,
    /// For an address that is no Service's, or a probe: passes as it is.
    foreign: bool,
    /// What the kubelet asks of our application.
    probe: Option<&'a Asks>,
    pub(super) record: Record,
    pub(super) selected: Option<Selected>,
    pub(super) progress: Progress,
    /// What the policies want on the response, whoever gives it.
    response_headers: HeaderMap,
    /// Of a request that opens a tunnel, to judge it again: as those see it who say whether it may.
    opens: Option<Opens>,
    /// The answer says what was decided.
    explains: bool,
    pub(super) has_body: bool,
}

/// See [`Story::opens`].
enum Opens {
    /// It is not known yet who asks.
    Wanted,
    By(Box<request::Parts>),
}

/// Marks a response that is not to be sent: its connection is closed in its place, or its stream reset.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a policy wants no answer")]
pub(crate) struct NoAnswer;

/// Answers one request. Dropping the future means that the client is gone: everything taken is given back.
pub(crate) async fn handle(
    connection: &Arc<ConnectionContext>,
    request: Request<impl Into<ClientBody>>,
) -> Response<ResponseBody> {
    let (head, body) = request.into_parts();
    let body = body.into();
    // Boxed, because it moves on through every future of the call.
    let mut head = Box::new(head);
    let (proxy, names, begun) = (&connection.proxy, Names::of(&head.headers), Instant::now());
    let from = (&connection.peer, connection.direction);
    let mut exchange = proxy.telemetry.begin_at((&head, names), from, begun);
    if connection.tls.is_some() {
        exchange.secure();
    }
    if proxy.demand.is_some() && connection.scope == Scope::Outbound {
        // Boxed, because few requests wait for it.
        Box::pin(settle(proxy, &head)).await;
    }
    let mut story = Story {
        connection,
        rng: connection.rng(),
        begun,
        dialect: Dialect::of(&head, names),
        foreign: false,
        probe: None,
        record: Record::new(exchange, connection.presence.busy()),
        selected: None,
        progress: Progress::default(),
        response_headers: HeaderMap::new(),
        opens: None,
        explains: false,
        has_body: !body.is_end_stream(),
    };
    let upgrade = tunnel::Downstream::wanted(&mut head, names, &mut story.rng);
    story.opens = upgrade.as_ref().map(|_| Opens::Wanted);
    let (has_body, waiting) = (story.has_body, connection.resets.begin(begun));
    let judged = match story.judge(&mut head, names) {
        Ok(Flow::Done) => Ok(()),
        // Boxed, because few requests wait for anything.
        Ok(Flow::Effect(effect)) => Box::pin(story.perform(effect, &mut head)).await,
        Err(stop) => Err(stop),
    };
    let outcome = match judged {
        Ok(()) => story.forward(head, body, upgrade.as_ref()).await.map_err(Stop::from),
        Err(stop) => Err(stop),
    };
    waiting.answered();
    connection.set_unread(has_body && story.record.upload.as_ref().is_none_or(|upload| !upload.is_whole()));
    match outcome {
        // Boxed, because few requests are probes.
        Ok(answered) if matches!(story.probe, Some(Asks::Get(_))) => {
            Box::pin(async { probes::status_only(story.pass_on(answered, upgrade).await).await }).await
        }
        Ok(answered) => story.pass_on(answered, upgrade).await,
        // Boxed, because few requests meet plugins.
        Err(Stop::Refused(reply)) if story.record.plugins.is_some() => {
            Box::pin(story.reply_through_plugins(&reply)).await
        }
        Err(Stop::Refused(reply)) => story.reply(&reply),
        Err(Stop::Answered(reply)) => story.answer(reply),
    }
}

/// A call of our own application by a host: what that is must be known before it is routed.
async fn settle(proxy: &ProxyState, head: &request::Parts) {
    // What has none is refused later on.
    let Ok(asked) = authority(head) else { return };
    let host = asked.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&asked.host);
    proxy.settle(host).await;
}

impl Story<'_> {
    /// Routes the request and asks every policy on its way.
    fn judge(&mut self, head: &mut request::Parts, names: Names) -> Result<Flow, Stop> {
        let connection = self.connection;
        let snapshot = connection.proxy.store.load();
        let probe = probes::of(connection, &snapshot, head);
        // An application that is busy is not to be started again for it.
        if let Some(crowd) = connection.proxy.crowd.as_ref().filter(|_| probe.is_none()) {
            self.record.room = Some(crowd.enter().ok_or(Reason::Overloaded)?);
        }
        headers::normalize_target(head)?;
        self.foreign = probe.is_some() || connection.foreign(&snapshot).is_some();
        if !self.foreign {
            headers::normalize_path(head)?;
        }
        headers::check_framing(&head.headers, names)?;
        // Before any policy: what a client lists in `connection` must not remove what a policy adds.
        let names = headers::strip_hop_by_hop(&mut head.headers, names);
        if names.has(Names::X_TIDEGATE_ATTEMPT) && matches!(connection.scope, Scope::Gateway(_)) {
            // From outside: whether the mesh retries is not for its clients to say.
            head.headers.remove(upstream::X_TIDEGATE_ATTEMPT);
        }
        if names.has(Names::X_TIDEGATE_EXPLAIN) {
            self.asked_to_explain(head);
        }
        let scheme = if connection.tls.is_some() { "https" } else { "http" };
        headers::add_forwarded(&mut head.headers, names, &connection.client_address, scheme, &mut self.rng);
        if let Some(exchange) = self.record.exchange() {
            exchange.identified(&head.headers);
        }
        if let Scope::Gateway(bind) = connection.scope
            && let Some(TlsSession { server_name: Some(name) }) = &connection.tls
            && snapshot.is_misdirected(bind, name, head)
        {
            return Err(Reason::Misdirected.into());
        }
        if let Some((selected, asks)) = probe {
            (self.selected, self.probe) = (Some(selected), Some(asks));
            return Ok(Flow::Done);
        }
        if probes::may_come(connection, &snapshot) {
            self.enter(&snapshot)?;
        }
        let mut cx = PickContext {
            head,
            peer: &connection.peer,
            secure: connection.tls.is_some(),
            unix: &since_epoch,
            rng: &mut self.rng,
            decisions: &mut self.record.decisions,
            response_headers: &mut self.response_headers,
        };
        let selected = &*self.selected.insert(connection.route(&snapshot, &mut cx)?);
        if head.method == Method::CONNECT && !selected.rule.connect && !self.foreign {
            return Err(Reason::ConnectRefused.into());
        }
        if let Some(exchange) = self.record.exchange() {
            exchange.decided(selected);
        }
        self.ask(head, connection.proxy.clock.at(self.begun), None)
    }

    /// Past the policies that judge connections, with the first request of one that may be the kubelet's: they are asked once.
    /// Whoever may not come in gets no answer, as elsewhere.
    fn enter(&mut self, snapshot: &Snapshot) -> Result<(), Stop> {
        let connection = self.connection;
        let judged = connection.entered.get_or_init(|| {
            let mut cx = pipeline::ConnectionContext {
                peer: &connection.peer,
                port: connection.reached.port(),
                server_name: None,
                carried: false,
                now: connection.proxy.clock.at(self.begun),
                decisions: &mut self.record.decisions,
            };
            pipeline::on_connection(&snapshot.gate(connection.scope, None), &mut cx)
        });
        judged.map_err(|cut| {
            let silent = WrittenReply { reset: true, ..WrittenReply::default() };
            LocalReply { written: Some(Arc::new(silent)), ..cut.reason.into() }.into()
        })
    }

    /// What is decided is told to who may know; for anybody else, nobody further on is asked either.
    fn asked_to_explain(&mut self, head: &mut request::Parts) {
        let ConnectionContext { proxy, peer, direction, .. } = &**self.connection;
        self.explains = proxy.config.explain_to.iter().any(|who| who.permits(peer, *direction));
        if !self.explains {
            head.headers.remove(X_TIDEGATE_EXPLAIN);
        } else if let Some(exchange) = self.record.exchange() {
            exchange.asked();
        }
    }

    /// Does what a policy needs done before it can judge, and asks the others.
    async fn perform(&mut self, mut effect: Effect, head: &mut request::Parts) -> Result<(), Stop> {
        let proxy = &self.connection.proxy;
        loop {
            let performed = match &effect {
                Effect::Plugin(wanted) => Performed::Plugged(self.ask_plugin(wanted, head).await),
                other => limits::perform(proxy, other).await,
            };
            match self.ask(head, proxy.clock.now(), Some(&performed))? {
                Flow::Done => return Ok(()),
                Flow::Effect(next) => effect = next,
            }
        }
    }

    /// Asks the policies on the way, from where they stopped for what was `performed`.
    fn ask(
        &mut self,
        head: &mut request::Parts,
        now: Timestamp,
        performed: Option<&Performed>,
    ) -> Result<Flow, Stop> {
        let flow = self.ask_some(head, now, performed)?;
        if !matches!((&flow, &self.opens), (Flow::Done, Some(Opens::Wanted))) {
            return Ok(flow);
        }
        self.opens = Some(Opens::By(Box::new(head.clone())));
        self.ask_some(head, now, None)
    }

    /// As [`Story::ask`]; for what is to be judged again, only those who say who it is, until that is known.
    fn ask_some(
        &mut self,
        head: &mut request::Parts,
        now: Timestamp,
        performed: Option<&Performed>,
    ) -> Result<Flow, Stop> {
        let Some(selected) = &self.selected else { return Err(Reason::Internal.into()) };
        let kept = &mut *self.record;
        let mut cx = RequestContext {
            head,
            peer: &self.connection.peer,
            route: selected.rule.route.as_deref(),
            now,
            unix: &since_epoch,
            rng: &mut self.rng,
            decisions: &mut kept.decisions,
            response_headers: &mut self.response_headers,
            claims: &mut kept.claims,
            held: &mut kept.held,
        };
        let mut filters = &selected.target().filters[..];
        if let Some(Opens::Wanted) = self.opens {
            filters = &filters[..filters.partition_point(|filter| filter.phase() < Phase::Authorize)];
        }
        match performed {
            None => pipeline::on_request(filters, &mut cx, &mut self.progress),
            Some(performed) => pipeline::resume(filters, &mut cx, &mut self.progress, performed),
        }
    }

    /// Calls the backend.
    async fn forward(
        &mut self,
        mut head: Box<request::Parts>,
        body: ClientBody,
        upgrade: Option<&tunnel::Downstream>,
    ) -> Result<Answered, LocalReply> {
        if let (Some(selected), Some(claims)) = (&mut self.selected, &self.record.claims) {
            selected.identified(&head, &self.connection.peer, claims);
        }
        let Some(selected) = &self.selected else { return Err(Reason::Internal.into()) };
        let proxy = &self.connection.proxy;
        let mut body = RequestBody::new(body);
        if let Some(web) = self.dialect.web.filter(|_| !self.foreign && speaks_grpc(selected)) {
            GrpcWeb::to_grpc(&mut head.headers);
            (self.dialect.grpc, body) = (true, body.unpacked(web.sent));
        }
        self.record.upload = body.upload().cloned();
        if let Some(plugins) = self.record.plugins.clone() {
            body = Box::pin(plugged::request(plugins, &mut head, body, proxy.config.stall_timeout)).await?;
        }
        if upgrade.is_none() {
            let target = selected.target();
            effects::mirror(proxy, target, (&head, &mut body), self.dialect.grpc, &mut self.rng);
        }
        if let Some(upgrade) = upgrade {
            upgrade.ask(&mut head.headers);
        }
        let call = Call {
            pools: self.connection.pools(selected.target()),
            clock: proxy.clock,
            rng: &mut self.rng,
            selected,
            grpc: self.dialect.grpc,
            connect_timeout: proxy.config.connect_timeout,
            request_timeout: proxy.config.request_timeout,
            stall_timeout: proxy.config.stall_timeout,
            overtime: Some(&self.connection.overtime).filter(|_| self.dialect.http1),
            from_outside: matches!(self.connection.scope, Scope::Gateway(_)),
        };
        let called = upstream::call(call, head, body, &mut self.record).await;
        // What a plugin wanted answered for the body stands in place of what followed from that.
        called.map_err(|reply| self.record.plugins.as_ref().and_then(|p| p.take_cut()).unwrap_or(reply))
    }

    /// The backend's answer, as the policies leave it.
    async fn pass_on(
        mut self,
        answered: Answered,
        upgrade: Option<tunnel::Downstream>,
    ) -> Response<ResponseBody> {
        let Answered { mut head, body, call } = answered;
        let secure = self.connection.tls.is_some();
        let at = || (secure, since_epoch());
        match tunnel::agreed(&mut head, upgrade.as_ref()) {
            Ok(None) => {}
            Ok(Some(upstream)) => {
                if let Some(selected) = &self.selected {
                    selected.remember(call.endpoint(), at, &mut head.headers);
                }
                let opened = (self.selected.take(), self.opens.take());
                let (Some(downstream), (Some(selected), Some(Opens::By(asked)))) = (upgrade, opened) else {
                    return self.reply(&Reason::UpstreamProtocol.into());
                };
                let opened = Opened { connection: self.connection.clone(), head: asked, selected };
                return downstream.open((head, upstream), call, self.record, opened);
            }
            Err(reason) => return self.reply(&reason.into()),
        }
        let names = Names::of(&head.headers);
        if headers::check_framing(&head.headers, names).is_err() {
            // What the coding left could not be told from the answer itself.
            call.fail(Reason::UpstreamProtocol);
            return self.reply(&Reason::UpstreamProtocol.into());
        }
        if names.has(Names::X_TIDEGATE_EXPLAIN) && !self.explains {
            head.headers.remove(X_TIDEGATE_EXPLAIN);
        }
        if names.has(Names::X_TIDEGATE_REASON)
            && let Some(exchange) = self.record.exchange()
        {
            exchange.refused_there();
        }
        if let Some(selected) = &self.selected {
            selected.remember(call.endpoint(), at, &mut self.response_headers);
        }
        headers::strip_hop_by_hop(&mut head.headers, names);
        headers::strip_length(&mut head, self.dialect.http1);
        let web = self.dialect.web.filter(|_| self.dialect.grpc);
        let packing = web.and_then(|web| web.answer(&mut head));
        let plugins = self.record.plugins.clone();
        if let Some(plugins) = &plugins
            && let Err(reply) = Box::pin(self.show_plugins(plugins, &mut head, body.is_end_stream())).await
        {
            drop((body, call));
            return self.reply(&reply);
        }
        let announced = head.headers.get(CONTENT_LENGTH).and_then(length);
        self.conclude(&mut head);
        let stall_timeout = self.connection.proxy.config.stall_timeout.filter(|_| !self.dialect.grpc);
        let pace = pipeline::slowest(&self.record.held);
        let idle = call.ends.idle.as_ref().map(|limit| limit.after).or(stall_timeout);
        let record = std::mem::replace(&mut self.record, Record::spent());
        let body = ResponseBody::upstream((body, call), (announced, idle), packing, record).paced(pace);
        match plugins {
            None => Response::from_parts(head, body),
            Some(plugins) => Box::pin(self.pass_through_plugins(plugins, head, body)).await,
        }
    }

    /// What was asked for, without a backend.
    fn answer(mut self, reply: DirectReply) -> Response<ResponseBody> {
        let mut head = reply::direct(reply);
        self.conclude(&mut head);
        Response::from_parts(head, ResponseBody::local(Bytes::new(), self.record))
    }

    /// Our own refusal.
    pub(super) fn reply(mut self, reply: &LocalReply) -> Response<ResponseBody> {
        self.record.reason = Some(reply.reason);
        let (mut head, body) = reply::response(reply, self.dialect);
        self.record.grpc_status = self.dialect.wants_grpc_status().then(|| reply.grpc());
        self.conclude(&mut head);
        if reply.is_reset() {
            head.extensions.insert(NoAnswer);
        }
        Response::from_parts(head, ResponseBody::local(body, self.record))
    }

    pub(super) fn conclude(&mut self, head: &mut http::response::Parts) {
        head.version = Version::HTTP_11;
        if self.connection.is_last() && self.dialect.http1 {
            head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(alternative) = self.connection.alternative() {
            head.headers.entry(ALT_SVC).or_insert(alternative);
        }
        if !self.record.held.is_empty() {
            pipeline::answered(&mut self.record.held, head, self.connection.proxy.clock.now());
        }
        let filters = self.selected.as_ref().map_or(&[][..], |selected| &selected.target().filters);
        pipeline::conclude(filters, self.progress, std::mem::take(&mut self.response_headers), head);
        if self.explains {
            let ConnectionContext { proxy, direction, .. } = &**self.connection;
            let decided = (&self.record.decisions[..], self.record.reason);
            let value = explain::value(proxy, *direction, self.selected.as_ref(), decided);
            head.headers.append(X_TIDEGATE_EXPLAIN, value);
        }
        self.record.status = Some(head.status);
    }
}

/// Whether what comes as gRPC-Web is to go out as gRPC; see [`super::grpc_web`].
fn speaks_grpc(selected: &Selected) -> bool {
    let backend = selected.target().backend.as_ref();
    selected.rule.grpc || backend.is_ok_and(|backend| backend.protocol == AppProtocol::H2c)
}

fn length(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.parse().ok()
}
