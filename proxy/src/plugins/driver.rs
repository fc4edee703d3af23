//! What a VM has to do beside requests: its ticks, its queues, and what it wants asked elsewhere. One task for each VM, on the
//! thread that it is used on.

mod streams;

use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, TE};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use rustc_hash::FxHashMap;
use tidegate_policy::health::check::Cause;
use tidegate_policy::model::AppProtocol;
use tidegate_policy::plugin::Plugin as Wanted;
use tidegate_policy::snapshot::BackendState;
use tidegate_wasm::{
    Answer, Asked, CallOut, GrpcAnswer, Outgoing, RequestHead, ResponseHead, SharedVm, Work,
};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use streams::Messages;

use crate::clock;
use crate::health_checks::send;
use crate::http::grpc_status;
use crate::state::ProxyState;
use crate::upstream::{Protocol, UpstreamStream, connect_speaking};

/// Without a timeout of the plugin's own.
const LONGEST_CALL: Duration = Duration::from_secs(60);
const GRPC_TIMEOUT: &str = "grpc-timeout";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A root context that is not done by then is not waited for.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Begins to drive a VM, until its end.
pub(super) fn start(vm: SharedVm, proxy: &Arc<ProxyState>, wanted: Arc<Wanted>) {
    tokio::spawn(drive(vm, Arc::downgrade(proxy), wanted));
}

async fn drive(vm: SharedVm, proxy: Weak<ProxyState>, wanted: Arc<Wanted>) {
    let mut calls = FxHashMap::<u32, AbortHandle>::default();
    loop {
        let Some(now) = proxy.upgrade().map(|proxy| proxy.plugins.world.outside.clock().monotonic()) else {
            vm.lock().end();
            return;
        };
        let mut until = None;
        // Registers to be woken, and says what is to be done.
        let work = poll_fn(|cx| Poll::Ready(vm.lock().work(now, cx.waker()))).await;
        match work {
            Work::Calls { send, cancel } => {
                calls.retain(|_, call| !call.is_finished());
                for call in cancel {
                    calls.remove(&call).iter().for_each(AbortHandle::abort);
                }
                for call in send {
                    let (id, whose) = (call.id, (vm.clone(), proxy.clone(), wanted.clone()));
                    let task = match call.request {
                        Asked::GrpcStream { .. } => tokio::spawn(streams::converse(whose, call)),
                        Asked::Http { .. } | Asked::Grpc { .. } => tokio::spawn(ask(whose, call)),
                    };
                    calls.insert(id, task.abort_handle());
                }
                continue;
            }
            Work::Wait(at) => until = at.map(|at| at.saturating_sub(now)).or(until),
            Work::Over => break,
        }
        let leaving = !vm.lock().is_live() && vm.lock().streams() == 0;
        let wait = if leaving { Some(until.unwrap_or(LAST_WORDS).min(LAST_WORDS)) } else { until };
        let mut first = true;
        let woken = poll_fn(|_| {
            // The waker was given above: whatever polls this again was woken.
            if std::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(()) }
        });
        match wait {
            Some(wait) => {
                let slept = tokio::select! {
                    biased;
                    () = sleep(wait) => true,
                    () = woken => false,
                };
                if slept && leaving && until.is_none() {
                    vm.lock().end();
                }
            }
            None => woken.await,
        }
    }
    calls.values().for_each(AbortHandle::abort);
}

/// A VM, its proxy and the plugin as its policy has it.
type Whose = (SharedVm, Weak<ProxyState>, Arc<Wanted>);

async fn ask((vm, proxy, wanted): Whose, call: CallOut) {
    let CallOut { id, upstream, timeout: limit, request } = call;
    let limit = limit.unwrap_or(LONGEST_CALL).min(LONGEST_CALL);
    let most = wanted.budgets.buffer;
    let grpc = matches!(request, Asked::Grpc { .. });
    let answered = async {
        let backend = named(&proxy, &wanted, &upstream).ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
        exchange(&backend, (&upstream, request), limit, most).await
    };
    let answer = timeout(limit, answered).await.unwrap_or(Err(StatusCode::GATEWAY_TIMEOUT));
    let mut vm = vm.lock();
    // A VM that ends of it tells its plugin so.
    let _ = if grpc {
        vm.grpc_answered(id, grpc_answer(answer))
    } else {
        vm.answered(id, Some(answer.unwrap_or_else(failed)))
    };
}

/// What a plugin calls by that name.
fn named(proxy: &Weak<ProxyState>, wanted: &Wanted, upstream: &str) -> Option<Arc<BackendState>> {
    let (_, service) = wanted.upstreams.iter().find(|(name, _)| name == upstream)?;
    proxy.upgrade()?.store.load_full().service(service).cloned()
}

/// As Envoy says it: a failure is an answer too, since plugins look at the status.
fn failed(status: StatusCode) -> Answer {
    let text = if status == StatusCode::GATEWAY_TIMEOUT {
        "upstream request timeout"
    } else {
        "upstream connect error or disconnect/reset before headers"
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Answer {
        head: ResponseHead { status, headers },
        body: Bytes::from_static(text.as_bytes()),
        trailers: HeaderMap::new(),
    }
}

async fn exchange(
    backend: &BackendState,
    (upstream, request): (&str, Asked),
    limit: Duration,
    most: usize,
) -> Result<Answer, StatusCode> {
    const UNREACHABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
    let answered = async |response: Response<Incoming>| Ok(read(response, most).await);
    let answer = match request {
        Asked::Http { head, body, .. } => {
            let protocol =
                if backend.protocol == AppProtocol::H2c { Protocol::Http2 } else { Protocol::Http1 };
            let stream = reach(backend, protocol, limit).await.ok_or(UNREACHABLE)?;
            let request = request_of(*head, body, protocol).ok_or(UNREACHABLE)?;
            send(stream, protocol, request, answered).await
        }
        Asked::Grpc { service, method, metadata, message } => {
            let stream = reach(backend, Protocol::Http2, limit).await.ok_or(UNREACHABLE)?;
            let mut head = grpc_head(upstream, (&service, &method), metadata).ok_or(UNREACHABLE)?;
            head.headers
                .insert(GRPC_TIMEOUT, HeaderValue::try_from(grpc_timeout(limit)).map_err(|_| UNREACHABLE)?);
            let request = addressed(head, Protocol::Http2).ok_or(UNREACHABLE)?;
            let message = Messages(Arc::new(Outgoing::of(message)));
            send(stream, Protocol::Http2, request.map(|()| message), answered).await
        }
        Asked::GrpcStream { .. } => return Err(UNREACHABLE),
    };
    answer.map_err(|_: Cause| UNREACHABLE)?
}

/// So that whoever is asked knows for how long anybody waits: milliseconds, at most eight digits.
fn grpc_timeout(limit: Duration) -> String {
    format!("{}m", limit.as_millis().min(99_999_999))
}

/// A connection to any of its endpoints, for one call.
async fn reach(backend: &BackendState, protocol: Protocol, limit: Duration) -> Option<UpstreamStream> {
    if backend.tls.is_some() || backend.proxy_protocol.is_some() {
        return None;
    }
    let taking: Vec<_> = backend.endpoints.iter().filter(|endpoint| endpoint.weight() > 0).collect();
    let at = usize::try_from(clock::seed()).unwrap_or(0).checked_rem(taking.len())?;
    let limit = CONNECT_TIMEOUT.min(limit);
    connect_speaking(&taking[at].address, limit, &[], (None, Some(protocol))).await.ok()
}

/// Trailers of a request are not sent.
fn request_of(mut head: RequestHead, body: Bytes, protocol: Protocol) -> Option<Request<Full<Bytes>>> {
    unframe(&mut head.headers);
    if body.is_empty() && [Method::POST, Method::PUT, Method::PATCH].contains(&head.method) {
        // Such a request is expected to say that it has no body; some servers refuse it otherwise.
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    }
    addressed(head, protocol).map(|request| request.map(|()| Full::new(body)))
}

/// How long a message is, and how its connection is used, is not for a plugin to say.
fn unframe(headers: &mut HeaderMap) {
    for name in [CONTENT_LENGTH, http::header::TRANSFER_ENCODING, http::header::CONNECTION] {
        headers.remove(name);
    }
}

/// To whom it is: by the name that the plugin calls it by, as in Envoy, or the service's where that could be no host's.
fn grpc_head(
    upstream: &str,
    (service, method): (&str, &str),
    mut metadata: HeaderMap,
) -> Option<RequestHead> {
    let host =
        upstream.parse::<Authority>().ok().map_or_else(|| service.split('/').next(), |_| Some(upstream))?;
    unframe(&mut metadata);
    metadata.insert(TE, HeaderValue::from_static("trailers"));
    metadata.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    metadata.insert(HOST, HeaderValue::try_from(host).ok()?);
    let uri = format!("/{service}/{method}").parse().ok()?;
    Some(RequestHead { method: Method::POST, uri, https: false, headers: metadata })
}

/// A message as it is sent, not compressed
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>). `None`: too long to be one.
fn framed(message: &[u8]) -> Option<Bytes> {
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.extend_from_slice(&[0]);
    framed.extend_from_slice(&u32::try_from(message.len()).ok()?.to_be_bytes());
    framed.extend_from_slice(message);
    Some(framed.freeze())
}

/// In the form of its protocol.
fn addressed(mut head: RequestHead, protocol: Protocol) -> Option<Request<()>> {
    let mut request = Request::new(());
    *request.method_mut() = head.method;
    if protocol == Protocol::Http2 {
        let host = head.headers.remove(HOST)?;
        let uri = format!("http://{}{}", host.to_str().ok()?, head.uri.path_and_query()?);
        *request.uri_mut() = Uri::try_from(uri).ok()?;
    } else {
        *request.uri_mut() = head.uri;
        head.headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
    *request.headers_mut() = head.headers;
    Some(request)
}

async fn read(response: Response<Incoming>, most: usize) -> Result<Answer, StatusCode> {
    let (head, mut body) = response.into_parts();
    let (mut whole, mut trailers) = (BytesMut::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
        match frame.into_data() {
            Ok(data) if whole.len() + data.len() > most => return Err(StatusCode::SERVICE_UNAVAILABLE),
            Ok(data) => whole.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    let head = ResponseHead { status: head.status, headers: head.headers };
    Ok(Answer { head, body: whole.freeze(), trailers })
}

fn grpc_answer(answer: Result<Answer, StatusCode>) -> GrpcAnswer {
    let without =
        |status: u32, said: &str| GrpcAnswer { message: None, status, status_message: said.to_owned() };
    match answer {
        Err(StatusCode::GATEWAY_TIMEOUT) => without(4, "deadline exceeded"),
        Err(_) => without(14, "upstream cannot be reached"),
        Ok(Answer { head, body, trailers }) => {
            let Some((status, status_message)) = said(&trailers).or_else(|| said(&head.headers)) else {
                return without(2, "no grpc-status");
            };
            // Behind the five bytes that frame it; compressed ones were not asked for.
            let message = (body.len() >= 5 && body[0] == 0).then(|| body.slice(5..));
            GrpcAnswer { message, status, status_message }
        }
    }
}

/// The status that trailers tell, or a head in their place, and what is said of it.
fn said(fields: &HeaderMap) -> Option<(u32, String)> {
    let message = fields.get("grpc-message").and_then(|text| text.to_str().ok()).unwrap_or_default();
    Some((grpc_status(fields)?.into(), message.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: Method, body: &'static str) -> Request<Full<Bytes>> {
        let mut head = tidegate_wasm::RequestHead { method, ..tidegate_wasm::RequestHead::default() };
        head.headers.insert(HOST, HeaderValue::from_static("auth"));
        // Of the request that a plugin copied its headers from.
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("58"));
        let body = Bytes::from_static(body.as_bytes());
        request_of(head, body, Protocol::Http1).unwrap()
    }

    #[test]
    fn a_call_that_could_have_a_body_and_has_none_says_so() {
        for method in [Method::POST, Method::PUT, Method::PATCH] {
            assert_eq!(asked(method, "").headers()[CONTENT_LENGTH], "0");
        }
        assert!(!asked(Method::GET, "").headers().contains_key(CONTENT_LENGTH));
        // Told by the body itself.
        assert!(!asked(Method::POST, "body").headers().contains_key(CONTENT_LENGTH));
    }
}
