//! One call to a backend: admission, connection, request, response head.

use std::time::Duration;

use http::{Request, StatusCode, request, response};
use hyper::body::Incoming;
use tidegate_policy::call::{Attempt, admit};
use tidegate_policy::decision::CallResult;
use tidegate_policy::model::AppProtocol;
use tidegate_policy::pipeline::LocalReply;
use tidegate_policy::snapshot::{BackendState, Selected};
use tidegate_policy::{Reason, Timestamp};

use super::lease::{Lease, Unanswered};
use super::open_call::{OpenCall, report};
use super::pool::{Checkout, Pools, Protocol};
use super::target::{Spare, addressed};
use crate::clock::Clock;
use crate::http::{Record, RequestBody, Upload, grpc_status};
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
}

/// A response whose body is still to come.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) head: response::Parts,
    pub(crate) body: Incoming,
    pub(crate) call: Box<OpenCall>,
}

/// Calls the selected backend once.
///
/// # Errors
/// What to answer in the backend's place; breakers and telemetry have been told.
pub(crate) async fn call(
    cx: Call<'_>,
    mut head: request::Parts,
    body: RequestBody,
    record: &mut Record,
) -> Result<Answered, LocalReply> {
    let target = cx.selected.target();
    let backend = target.backend.as_ref().map_err(|reason| *reason)?;
    let admitted = cx.clock.now();
    let mut attempt = admit(target, backend, admitted, cx.rng, &mut record.decisions)?;
    if let Some(exchange) = record.exchange() {
        exchange.attempt(
            AttemptInfo {
                backend: backend.label.clone(),
                endpoint: attempt.endpoint.label.clone(),
                weight: target.weight,
                number: 1,
            },
            &mut head.headers,
        );
    }
    let upload = record.upload.clone();
    let exchanged = within(
        deadline(&cx, upload.as_deref()),
        exchange(&cx, backend, &attempt, Request::from_parts(head, body), record),
    )
    .await;
    match exchanged {
        Ok((response, lease)) => {
            Ok(answered(response, OpenCall::new(attempt, lease, cx.clock, admitted), cx.grpc, record))
        }
        Err(reply) => {
            failed(&mut attempt, reply.reason, cx.clock, admitted, record);
            Err(reply)
        }
    }
}

fn answered(
    response: http::Response<Incoming>,
    mut call: OpenCall,
    grpc: bool,
    record: &mut Record,
) -> Answered {
    let (head, body) = response.into_parts();
    let early = grpc_status(&head.headers).filter(|_| grpc);
    let result = early.map_or(CallResult::Status(head.status.as_u16()), CallResult::Grpc);
    record.grpc_status = early;
    if early.is_some() || !grpc || head.status != StatusCode::OK {
        call.record(result);
    }
    if let Some(exchange) = record.exchange() {
        exchange.attempt_done(result);
    }
    Answered { head, body, call: Box::new(call) }
}

fn failed(attempt: &mut Attempt, reason: Reason, clock: Clock, admitted: Timestamp, record: &mut Record) {
    let result = CallResult::Failed(reason);
    report(attempt, result, clock, admitted);
    if let Some(exchange) = record.exchange() {
        exchange.attempt_done(result);
    }
}

/// Runs `work` until it is done or `deadline` has come.
async fn within<T>(
    deadline: impl Future<Output = Reason>,
    work: impl Future<Output = Result<T, LocalReply>>,
) -> Result<T, LocalReply> {
    tokio::select! {
        biased;
        done = work => done,
        reason = deadline => Err(reason.into()),
    }
}

/// The timeouts of the rule count from the start, the default from the end of the upload: a slow client with a large
/// body is no failure of the endpoint, as long as the body moves. (Gateway API GEP-1742 leaves the start to the
/// implementation.)
fn deadline<'u>(cx: &Call<'_>, upload: Option<&'u Upload>) -> impl Future<Output = Reason> + use<'u> {
    let timeouts = cx.selected.rule.timeouts;
    let written = [timeouts.request, timeouts.backend_request].into_iter().flatten().min();
    let (default, stall, grpc) = (cx.request_timeout, cx.stall_timeout, cx.grpc);
    async move {
        if let Some(limit) = written {
            tokio::time::sleep(limit).await;
            return Reason::RequestTimeout;
        }
        if grpc {
            return std::future::pending().await;
        }
        if let Some(upload) = upload
            && let Err(stalled) = upload.ended(stall).await
        {
            return stalled;
        }
        let Some(limit) = default else { return std::future::pending().await };
        tokio::time::sleep(limit).await;
        Reason::RequestTimeout
    }
}

/// Sends the request over a pooled connection, and again over a fresh one if the first turns out to have been dead
/// and sending again is safe.
async fn exchange(
    cx: &Call<'_>,
    backend: &BackendState,
    attempt: &Attempt,
    request: Request<RequestBody>,
    record: &mut Record,
) -> Result<(http::Response<Incoming>, Lease), LocalReply> {
    let protocol = match backend.protocol {
        AppProtocol::Http1 if !cx.grpc => Protocol::Http1,
        AppProtocol::Http1 | AppProtocol::H2c => Protocol::Http2,
    };
    let mut request = addressed(request, protocol, &attempt.endpoint.label)?;
    let pool = cx.pools.pool(&attempt.endpoint, protocol, cx.selected.target().guard.as_ref());
    let connect_timeout = backend.connect_timeout.unwrap_or(cx.connect_timeout);
    let mut checkout = Checkout { attempt, connect_timeout, fresh: false };
    loop {
        let mut lease = pool.checkout(&checkout, &mut record.decisions).await?;
        let spare = lease.reused.then(|| Spare::of(&request)).flatten();
        let Unanswered { unsent, error } = match lease.send(request).await {
            Ok(response) => return Ok((response, lease)),
            Err(unanswered) => unanswered,
        };
        // Our own fault, or an answer that makes no sense: the connection was not dead.
        let alive = error.as_ref().is_some_and(|error| error.is_user() || error.is_parse());
        let reused = lease.reused;
        tracing::debug!(?error, endpoint = %attempt.endpoint.label, reused, "call failed");
        request = match unsent.or_else(|| spare.map(Spare::into_request)) {
            Some(again) if reused && !alive => again,
            _ => return Err(reason(error.as_ref(), record.upload.as_deref()).into()),
        };
        checkout.fresh = true;
    }
}

/// Why the endpoint gave no answer.
fn reason(error: Option<&hyper::Error>, upload: Option<&Upload>) -> Reason {
    let Some(error) = error else { return Reason::UpstreamReset };
    if error.is_user() {
        // The only thing of ours that can fail in there is the request body: the client's upload.
        upload.map_or(Reason::Internal, Upload::failure)
    } else if error.is_parse() {
        Reason::UpstreamProtocol
    } else {
        Reason::UpstreamReset
    }
}
