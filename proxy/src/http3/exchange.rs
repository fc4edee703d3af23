//! One request and its answer. What happens in between is the same story as for HTTP/1 and HTTP/2.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use h3::error::{Code, StreamError};
use h3::server::{RequestResolver, RequestStream};
use http::header::{CONTENT_LENGTH, COOKIE, DATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;

use super::body::{Incoming, announced};
use super::quic::{Answered, Aside, Connection, SendStream};
use crate::http::{BodyError, ConnectionContext, HEADER_TIMEOUT, NoAnswer, ResponseBody, handle};

/// Why there is no whole answer.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the client wants no more of it, or is gone")]
    Unwanted,
    #[error("{0}")]
    Body(#[from] BodyError),
    #[error("{0}")]
    Stream(#[from] StreamError),
    #[error("the client does not read")]
    Stalled,
}

/// The way back to the client. Dropped before its end, it is reset: half an answer must not look like a whole one.
struct Answer {
    stream: RequestStream<SendStream, Bytes>,
    /// How long a write may wait; `None`: for ever.
    stall_timeout: Option<Duration>,
    code: Option<Code>,
}

/// Serves a request until the client has all of the answer.
pub(super) async fn serve(
    context: Arc<ConnectionContext>,
    resolver: RequestResolver<Connection, Bytes>,
    Aside { mut answer, ahead }: Aside,
) {
    let resolved = tokio::select! {
        resolved = tokio::time::timeout(HEADER_TIMEOUT, resolver.resolve_request()) => resolved,
        _ = &mut answer => return,
    };
    let (mut request, stream) = match resolved {
        Ok(Ok(resolved)) => resolved,
        Ok(Err(error)) => return tracing::debug!(%error, client = %context.peer.address, "no request"),
        Err(_late) => return,
    };
    let (send, receive) = stream.split();
    let mut back = Answer {
        stream: send,
        stall_timeout: context.proxy.config.stall_timeout,
        code: Some(Code::H3_MESSAGE_ERROR),
    };
    let Ok(length) = announced(request.headers()) else { return };
    join_cookies(request.headers_mut());
    let should_end = length.map_or_else(|| is_mostly_empty(&request), |length| length == 0);
    let head = request.method() == Method::HEAD;
    let body = tokio::select! {
        body = Incoming::begin(receive, ahead, length, should_end) => body,
        _ = &mut answer => return,
    };
    if length == Some(0) && !body.is_end_stream() {
        return;
    }
    // Until there is an answer, it is the client's doing if there is none.
    back.code = Some(Code::H3_REQUEST_CANCELLED);
    let response = tokio::select! {
        response = handle(&context, request.map(|()| body)) => response,
        _ = &mut answer => return,
    };
    if response.extensions().get::<NoAnswer>().is_some() {
        back.code = Some(Code::H3_INTERNAL_ERROR);
        return;
    }
    match back.give(response, head, &mut answer).await {
        // Closing the connection would take back what the client has not acknowledged.
        Ok(()) => drop(answer.await),
        Err(error) => tracing::debug!(%error, client = %context.peer.address, "answer cut short"),
    }
}

/// HTTP/3 may send cookies one by one, which HTTP/1 and applications behind it do not understand (RFC 9114, section
/// 4.2.1).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(cookies) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(COOKIE, cookies);
    }
}

/// Whether a request like this has a body only if it says so (RFC 9110, section 9.3).
fn is_mostly_empty(request: &Request<()>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS | Method::TRACE)
}

impl Answer {
    async fn give(
        &mut self,
        response: Response<ResponseBody>,
        head: bool,
        answer: &mut Answered,
    ) -> Result<(), Broken> {
        let (mut parts, mut body) = response.into_parts();
        // What hyper does for the other versions.
        if !parts.headers.contains_key(DATE)
            && let Ok(now) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now()))
        {
            parts.headers.insert(DATE, now);
        }
        let length = body.size_hint().exact().filter(|_| !head && may_have_body(parts.status));
        if let Some(length) = length {
            parts.headers.entry(CONTENT_LENGTH).or_insert_with(|| length.into());
        }
        self.code = Some(Code::H3_INTERNAL_ERROR);
        within(self.stall_timeout, self.stream.send_response(Response::from_parts(parts, ()))).await?;
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                _ = &mut *answer => {
                    self.code = Some(Code::H3_REQUEST_CANCELLED);
                    return Err(Broken::Unwanted);
                }
            };
            match frame.transpose()?.map(http_body::Frame::into_data) {
                Some(Ok(data)) => within(self.stall_timeout, self.stream.send_data(data)).await?,
                Some(Err(frame)) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        within(self.stall_timeout, self.stream.send_trailers(trailers)).await?;
                    }
                }
                None => break,
            }
        }
        self.stream.finish().await?;
        self.code = None;
        Ok(())
    }
}

fn may_have_body(status: StatusCode) -> bool {
    !status.is_informational() && status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED
}

/// A client that does not read must not be waited for without end.
async fn within(
    limit: Option<Duration>,
    sent: impl Future<Output = Result<(), StreamError>>,
) -> Result<(), Broken> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, sent).await.map_err(|_| Broken::Stalled)??,
        None => sent.await?,
    }
    Ok(())
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(code) = self.code {
            self.stream.stop_stream(code);
        }
    }
}
