//! One attempt at a backend: admission, connection, request, response head.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::header::UPGRADE;
use http::uri::Scheme;
use http::{Request, StatusCode, request, response};
use hyper::body::Incoming;
use tidegate_policy::balance::Wish;
use tidegate_policy::call::{Attempt, admit};
use tidegate_policy::decision::CallResult;
use tidegate_policy::mesh::Way;
use tidegate_policy::model::AppProtocol;
use tidegate_policy::snapshot::{BackendState, Selected};
use tidegate_policy::{Reason, Timestamp};
use tokio::time::Instant;

use super::lease::{Lease, Unanswered};
use super::open_call::{Ends, OpenCall, Unheard, report};
use super::pool::{Checkout, Pools, Protocol};
use super::retry::{Course, Failure, X_TIDEGATE_ATTEMPT};
use super::spare::Spare;
use super::target::addressed;
use super::tls::refused_us;
use crate::clock::Clock;
use crate::http::{Overtime, Record, RequestBody, Upload, grpc_status};
use crate::telemetry::AttemptInfo;

/// What a call needs besides the request.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) pools: &'a Pools,
    pub(crate) clock: Clock,
    pub(crate) rng: &'a mut fastrand::Rng,
    pub(crate) selected: &'a Selected,
    /// gRPC goes out as HTTP/2 whatever the backend says, and has deadlines of its own.
    pub(crate) grpc: bool,
    pub(crate) connect_timeout: Duration,
    /// For rules that set none.
    pub(crate) request_timeout: Option<Duration>,
    /// For an upload that stands still, where the rule sets no timeout.
    pub(crate) stall_timeout: Option<Duration>,
    /// Keeps the time of an HTTP/1 request.
    pub(crate) overtime: Option<&'a Overtime>,
    /// It comes from a client of a gateway, not from the mesh.
    pub(crate) from_outside: bool,
}

/// A response whose body is still to come.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) head: response::Parts,
    pub(crate) body: Incoming,
    pub(crate) call: Box<OpenCall>,
}

impl Call<'_> {
    /// The same for another attempt.
    pub(super) fn again(&mut self) -> Call<'_> {
        Call { rng: &mut *self.rng, ..*self }
    }
}

/// Calls the selected backend once.
///
/// # Errors
/// What to answer in the backend's place; breakers and telemetry have been told.
pub(super) async fn attempt(
    cx: Call<'_>,
    mut head: Box<request::Parts>,
    body: RequestBody,
    course: &mut Course<'_>,
    record: &mut Record,
) -> Result<Answered, Failure> {
    let target = cx.selected.target();
    let backend = target.backend.as_ref().map_err(|reason| *reason)?;
    let (admitted, plan) = (cx.clock.at(course.begun), &target.plan);
    let left = course.left(course.begun);
    plan.attempt((left, cx.grpc), admitted, &mut head.headers, &mut record.decisions)
        .map_err(|reason| Failure { over: true, ..reason.into() })?;
    let prefer = cx.selected.session.as_ref().map(|session| &session.endpoint);
    let Selected { key, counted, .. } = *cx.selected;
    let wish = Wish { prefer, avoid: &course.tried, key, counted };
    let attempt = admit(target, backend, wish, admitted, cx.rng, &mut record.decisions)?;
    if course.retries {
        course.goes_to(&attempt.endpoint);
        head.headers.insert(X_TIDEGATE_ATTEMPT, course.number.into());
    }
    if let Some(exchange) = record.exchange() {
        exchange.attempt(
            AttemptInfo {
                backend: backend.label.clone(),
                endpoint: attempt.endpoint.label.clone(),
                weight: target.weight,
                number: course.number,
                tls: target.tls.is_some(),
            },
            &mut head.headers,
        );
    }
    let per_try = plan.times.per_try.as_ref();
    let limit = per_try.map(|limit| Instant::now() + limit.after);
    let mut request = Some(Request::from_parts(*head, body));
    let unheard = Unheard::new(attempt, cx.clock, admitted);
    let ended = {
        let attempt = unheard.attempt().ok_or(Reason::Internal)?;
        let stalled = pin!(stalled(&cx, record.upload.clone()));
        let exchange = pin!(exchange(&cx, backend, attempt, &mut request, record));
        within(course, limit, stalled, exchange).await
    };
    let mut attempt = unheard.ended().ok_or(Reason::Internal)?;
    match ended {
        Ok((response, lease)) => {
            let mut call = OpenCall::new(attempt, lease, cx.clock, admitted);
            call.ends = ends(&cx, course, limit);
            told_latency(&cx, admitted, record);
            Ok(answered(response, call, cx.grpc, record))
        }
        Err(failure) => {
            let refusal = target.tls.as_ref().and_then(|tls| tls.refusal(failure.reply.reason));
            record.decisions.extend(refusal);
            let reason = failure.reply.reason;
            record.decisions.extend(backend.refusal(&attempt.endpoint, reason));
            if failure.reply.reason == Reason::RequestTimeout && !failure.over {
                record.decisions.extend(per_try.and_then(|limit| limit.reached(Reason::RequestTimeout)));
                record.decisions.extend(plan.shadow_timeout(cx.clock.now().since(admitted)));
            }
            failed(&mut attempt, failure.reply.reason, cx.clock, admitted, record);
            Err(failure)
        }
    }
}

/// When the answer that has begun must end.
fn ends(cx: &Call<'_>, course: &Course<'_>, attempt: Option<Instant>) -> Ends {
    let times = &cx.selected.target().plan.times;
    let idle = times.idle.clone();
    if let Some(stream) = &times.stream {
        let at = Some(Instant::now() + stream.after);
        return Ends { at, limit: Some(stream.clone()), of_streams: true, idle };
    }
    let (at, whole) = (course.ends, course.allowed.as_ref().map(|allowed| &allowed.limit));
    let (at, limit) = match attempt {
        Some(attempt) if at.is_none_or(|at| attempt < at) => (Some(attempt), times.per_try.as_ref()),
        _ => (at, whole),
    };
    Ends { at, limit: limit.cloned(), of_streams: false, idle }
}

/// Tells whoever wants to know how long the head of the answer took.
fn told_latency(cx: &Call<'_>, admitted: Timestamp, record: &mut Record) {
    let plan = &cx.selected.target().plan;
    if plan.latency.is_none() && plan.shadow.times.is_none() {
        return;
    }
    let now = cx.clock.now();
    if let Some(latency) = &plan.latency {
        latency.record(now.since(admitted), now);
    }
    record.decisions.extend(plan.shadow_timeout(now.since(admitted)));
}

fn answered(
    response: http::Response<Incoming>,
    mut call: OpenCall,
    grpc: bool,
    record: &mut Record,
) -> Answered {
    let (head, body) = response.into_parts();
    call.read(&head);
    let early = if grpc { grpc_status(&head.headers) } else { None };
    let result = early.map_or(CallResult::Status(head.status.as_u16()), CallResult::Grpc);
    record.grpc_status = early;
    if early.is_some() || !grpc || head.status != StatusCode::OK {
        let transition = call.record(result);
        record.transition(transition);
    }
    if let Some(exchange) = record.exchange() {
        exchange.attempt_done(result);
    }
    Answered { head, body, call: Box::new(call) }
}

fn failed(attempt: &mut Attempt, reason: Reason, clock: Clock, admitted: Timestamp, record: &mut Record) {
    let result = CallResult::Failed(reason);
    let transition = report(attempt, result, clock, admitted);
    record.transition(transition);
    if let Some(exchange) = record.exchange() {
        exchange.attempt_done(result);
    }
}

/// Runs `work` until it is done, the whole call has had its time, the attempt its own, or its upload has `stalled`.
async fn within<T>(
    course: &mut Course<'_>,
    limit: Option<Instant>,
    stalled: Pin<&mut impl Future<Output = Reason>>,
    work: Pin<&mut impl Future<Output = Result<T, Failure>>>,
) -> Result<T, Failure> {
    let late = async {
        match limit {
            Some(limit) => tokio::time::sleep_until(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        () = course.over.as_mut() => Err(course.timed_out()),
        () = late => Err(Reason::RequestTimeout.into()),
        reason = stalled => Err(reason.into()),
    }
}

/// Comes when the upload stands still: while it moves, the default timeout does not count. Each attempt watches anew,
/// for another endpoint may read what this one does not.
fn stalled(cx: &Call<'_>, upload: Option<Arc<Upload>>) -> impl Future<Output = Reason> + use<> {
    let times = &cx.selected.target().plan.times;
    let written = times.request.as_ref().or(times.per_try.as_ref()).is_some();
    let (upload, limit) = (upload.filter(|_| !cx.grpc && !written), cx.stall_timeout);
    async move {
        if let Some(upload) = upload
            && let Err(reason) = upload.ended(limit).await
        {
            return reason;
        }
        std::future::pending().await
    }
}

/// Sends the request over a pooled connection, and again over a fresh one if the first turns out to have been dead
/// and sending again is safe. Takes the request from where it is, so that no future on the way has room for one more.
async fn exchange(
    cx: &Call<'_>,
    backend: &BackendState,
    attempt: &Attempt,
    request: &mut Option<Request<RequestBody>>,
    record: &mut Record,
) -> Result<(http::Response<Incoming>, Lease), Failure> {
    let target = cx.selected.target();
    let protocol = match backend.protocol {
        // Requests of all kinds share connections there, but for upgrades that HTTP/2 has no word for.
        _ if cx.pools.way(&attempt.endpoint, target) == Way::Mesh => {
            if request.as_ref().is_some_and(is_bound_to_http1) { Protocol::Http1 } else { Protocol::Http2 }
        }
        AppProtocol::Http1 if !cx.grpc && !cx.selected.rule.grpc => Protocol::Http1,
        AppProtocol::Http1 | AppProtocol::H2c => Protocol::Http2,
    };
    let scheme = if target.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    let plain = request.take().ok_or(Reason::Internal)?;
    *request = Some(addressed(plain, (protocol, scheme), &attempt.endpoint.label)?);
    let pool = cx.pools.pool(&attempt.endpoint, protocol, target);
    let written = target.plan.times.connect.as_ref().filter(|_| backend.connect_timeout.is_none());
    let connect_timeout = backend.connect_timeout.or(written.map(|limit| limit.after));
    let connect_timeout = connect_timeout.unwrap_or(cx.connect_timeout);
    let mut checkout = Checkout { attempt, connect_timeout, fresh: false };
    loop {
        let mut lease = match pool.checkout(&checkout, &mut record.decisions).await {
            Ok(lease) => lease,
            Err(reply) => {
                let reached = written.filter(|_| reply.reason == Reason::ConnectTimeout);
                record.decisions.extend(reached.and_then(|limit| limit.reached(reply.reason)));
                return Err(reply.into());
            }
        };
        if request.as_ref().is_some_and(wants_tunnel) && !lease.carries_tunnels().await {
            return Err(Failure { unsent: true, ..Reason::UpgradeUnsupported.into() });
        }
        let may_be_lost = lease.reused || protocol == Protocol::Http2;
        let spare = request.as_ref().filter(|_| may_be_lost).and_then(Spare::of);
        let Unanswered { unsent, error } = match lease.send(request).await {
            Ok(response) => return Ok((response, lease)),
            Err(unanswered) => unanswered,
        };
        // Our own fault, or an answer that makes no sense: the connection was not dead.
        let alive = error.as_ref().is_some_and(|error| error.is_user() || error.is_parse());
        let reused = lease.reused;
        tracing::debug!(?error, endpoint = %attempt.endpoint.label, reused, "call failed");
        let untouched = error.as_ref().is_some_and(left_untouched);
        let never_sent = unsent.is_some() || untouched;
        let spare = spare.filter(|spare| untouched || spare.is_repeatable());
        *request = match unsent.or_else(|| spare.map(Spare::into_request)) {
            again @ Some(_) if !alive && (reused || untouched && !checkout.fresh) => again,
            _ => {
                let reason = reason(error.as_ref(), record.upload.as_deref());
                return Err(Failure { unsent: never_sent, ..reason.into() });
            }
        };
        checkout.fresh = true;
    }
}

/// Whether it asks for a protocol that extended CONNECT does not carry.
fn is_bound_to_http1(request: &Request<RequestBody>) -> bool {
    let asked = request.headers().get(UPGRADE);
    asked.is_some_and(|protocol| !protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Extended CONNECT (RFC 8441).
fn wants_tunnel(request: &Request<RequestBody>) -> bool {
    request.extensions().get::<hyper::ext::Protocol>().is_some()
}

/// Whether the endpoint has said that it did nothing about a request: refused the stream, or said goodbye to those
/// before it only (RFC 9113, section 8.7).
fn left_untouched(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| {
        cause.is_remote() && (cause.reason() == Some(h2::Reason::REFUSED_STREAM) || cause.is_go_away())
    })
}

/// Why the endpoint gave no answer.
fn reason(error: Option<&hyper::Error>, upload: Option<&Upload>) -> Reason {
    let Some(error) = error else { return Reason::UpstreamReset };
    if upload.is_some_and(|upload| upload.failure() == Reason::BadRequest) {
        // However the connection put it: nobody can answer what makes no sense.
        Reason::BadRequest
    } else if error.is_user() {
        // The only thing of ours that can fail in there is the request body: the client's upload.
        upload.map_or(Reason::Internal, Upload::failure)
    } else if refused_us(error) {
        Reason::UpstreamTlsFailed
    } else if error.is_parse() {
        Reason::UpstreamProtocol
    } else {
        Reason::UpstreamReset
    }
}
