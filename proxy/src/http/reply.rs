//! The mesh's own answers: a [`LocalReply`] becomes a response in the client's dialect, a [`DirectReply`] one as it is.
//!
//! What a reason means on the wire is said in [`tidegate_policy::Reason::answer`] alone; here it is only spelled out.
//! gRPC source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md> (trailers-only responses).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, Version, request, response};
use prost::Message as _;
use prost_types::Any;
use tidegate_policy::Reason;
use tidegate_policy::pipeline::{DirectReply, LocalReply};

use tidegate_proto::google::rpc::Status;

use super::grpc_web::{self, GrpcWeb};
use super::names::Names;

/// Says why the mesh answered, by flag. Absent from answers of the backend.
const X_TIDEGATE_REASON: HeaderName = HeaderName::from_static("x-tidegate-reason");
const GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<prost_types::Duration>,
}

/// What the client speaks, as far as an answer must care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dialect {
    /// From here to the backend.
    pub(crate) grpc: bool,
    /// From the client to here.
    pub(crate) web: Option<GrpcWeb>,
    head: bool,
    pub(crate) http1: bool,
}

impl Dialect {
    pub(crate) fn of(head: &request::Parts, names: Names) -> Self {
        let typed = names.has(Names::CONTENT_TYPE);
        Self {
            grpc: typed && is_grpc(&head.headers),
            web: if typed { GrpcWeb::of(head) } else { None },
            head: head.method == Method::HEAD,
            http1: head.version < Version::HTTP_2,
        }
    }

    /// Whether the client wants to be told a `grpc-status`.
    pub(crate) fn wants_grpc_status(self) -> bool {
        self.grpc || self.web.is_some()
    }
}

/// `application/grpc`, alone or with a `+codec` or parameters; not grpc-web.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    match content_type.strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';' | b' ')),
        None => false,
    }
}

/// The response to send in the backend's place; its body is empty or one line of text.
pub(crate) fn response(reply: &LocalReply, dialect: Dialect) -> (response::Parts, Bytes) {
    let answer = reply.reason.answer();
    let mut head = Response::new(()).into_parts().0;
    let mut body = Bytes::new();
    if let Some(web) = dialect.web {
        // In the body, because a script may not read headers that nobody exposes to it.
        head.headers.insert(CONTENT_TYPE, web.wanted.content_type(""));
        body = grpc_web::trailers(&trailers_of(reply), web.wanted);
    } else if dialect.grpc {
        head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        head.headers.extend(trailers_of(reply));
    } else {
        let written = reply.written.as_deref();
        head.status = written.and_then(|written| written.status).unwrap_or(answer.status);
        let text = || (TEXT, Bytes::from(format!("{}\n", answer.message)));
        let (content_type, said) = written.and_then(|written| written.body.clone()).unwrap_or_else(text);
        // Of a plugin's own answer no more is said than it says itself.
        if reply.reason != Reason::PluginAnswered || !said.is_empty() {
            head.headers.insert(CONTENT_TYPE, content_type);
        }
        if !dialect.head {
            body = said;
        } else if !said.is_empty() {
            // As long as it would be with another method: otherwise nobody would know.
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(said.len()));
        }
    }
    head.headers.insert(X_TIDEGATE_REASON, HeaderValue::from_static(answer.flag));
    if answer.closes && dialect.http1 {
        head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    for (name, value) in &reply.headers {
        head.headers.append(name, value.clone());
    }
    (head, body)
}

/// The same of a refusal, with when to come again, as clients' own retry logic reads it.
fn trailers_of(reply: &LocalReply) -> HeaderMap {
    let mut trailers = trailers_for(reply.reason);
    trailers.insert(GRPC_STATUS, HeaderValue::from(u16::from(reply.grpc())));
    if let Some((_, said)) = reply.written.as_ref().and_then(|written| written.body.as_ref())
        && reply.reason == Reason::PluginAnswered
        && let Ok(message) = HeaderValue::from_bytes(said)
    {
        trailers.insert(GRPC_MESSAGE, message);
    }
    if let Some(wait) = reply.again {
        trailers.insert(GRPC_STATUS_DETAILS, details(reply, wait));
    }
    trailers
}

/// `google.rpc.Status` with a `google.rpc.RetryInfo`. Binary metadata is in base64, without padding.
fn details(reply: &LocalReply, wait: Duration) -> HeaderValue {
    let answer = reply.reason.answer();
    let info = RetryInfo { retry_delay: prost_types::Duration::try_from(wait).ok() };
    let info = Any { type_url: String::from(RETRY_INFO), value: info.encode_to_vec() };
    let status =
        Status { code: reply.grpc().into(), message: answer.message.to_owned(), details: vec![info] };
    let text = STANDARD_NO_PAD.encode(status.encode_to_vec());
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// What gRPC is told of a failure.
pub(super) fn trailers_for(reason: Reason) -> HeaderMap {
    let answer = reason.answer();
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(GRPC_STATUS, HeaderValue::from(u16::from(answer.grpc)));
    trailers.insert(GRPC_MESSAGE, HeaderValue::from_static(answer.message));
    trailers
}

/// An answer that is no failure; it has no body.
pub(crate) fn direct(reply: DirectReply) -> response::Parts {
    let mut head = Response::new(()).into_parts().0;
    head.status = reply.status;
    for (name, value) in reply.headers {
        head.headers.append(name, value);
    }
    head
}

/// The `grpc-status` in a head or in trailers.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u8> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, StatusCode};
    use std::sync::Arc;
    use tidegate_policy::pipeline::WrittenReply;

    fn dialect(method: Method, version: Version, content_type: &'static str) -> Dialect {
        let request = Request::builder().method(method).version(version).header(CONTENT_TYPE, content_type);
        let head = request.body(()).unwrap().into_parts().0;
        Dialect::of(&head, Names::of(&head.headers))
    }

    #[test]
    fn every_reason_reaches_a_plain_client_with_status_flag_and_sentence() {
        for reason in Reason::ALL {
            let (head, body) = response(&reason.into(), dialect(Method::GET, Version::HTTP_11, ""));
            assert_eq!(head.status, reason.answer().status);
            assert_eq!(head.headers[X_TIDEGATE_REASON], reason.flag());
            assert_eq!(head.headers.contains_key(CONNECTION), reason.answer().closes);
            assert!(body.starts_with(reason.answer().message.as_bytes()));
        }
    }

    #[test]
    fn every_reason_reaches_a_grpc_client_as_trailers_only() {
        for reason in Reason::ALL {
            let grpc = dialect(Method::POST, Version::HTTP_2, "application/grpc+proto");
            let (head, body) = response(&reason.into(), grpc);
            assert_eq!(head.status, 200);
            assert_eq!(grpc_status(&head.headers), Some(reason.answer().grpc));
            assert!(body.is_empty());
            assert!(!head.headers.contains_key(CONNECTION), "not allowed in HTTP/2");
        }
    }

    #[test]
    fn every_reason_reaches_a_grpc_web_client_as_a_frame_of_trailers() {
        for reason in Reason::ALL {
            let web = dialect(Method::POST, Version::HTTP_11, "application/grpc-web");
            let (head, body) = response(&reason.into(), web);
            assert_eq!(
                (head.status.as_u16(), head.headers[CONTENT_TYPE].to_str().unwrap()),
                (200, "application/grpc-web+proto")
            );
            let text = String::from_utf8_lossy(&body);
            assert!(text.contains(&format!("grpc-status: {}\r\n", reason.answer().grpc)), "{text}");
            assert_eq!(head.headers.contains_key(CONNECTION), reason.answer().closes);
        }
    }

    #[test]
    fn a_head_request_gets_no_body_and_is_told_how_long_it_would_be() {
        let of = |method| response(&Reason::NoRoute.into(), dialect(method, Version::HTTP_11, "text/plain"));
        let ((head, none), (_, body)) = (of(Method::HEAD), of(Method::GET));
        assert_eq!(head.status, 404);
        assert!(none.is_empty() && !body.is_empty());
        assert_eq!(head.headers[CONTENT_LENGTH], *body.len().to_string());
    }

    #[test]
    fn grpc_web_is_another_dialect_than_grpc() {
        for (content_type, grpc) in [
            ("application/grpc", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
        ] {
            assert_eq!(dialect(Method::POST, Version::HTTP_2, content_type).grpc, grpc, "{content_type}");
        }
    }

    #[test]
    fn headers_of_the_refusal_are_added() {
        let reply = LocalReply {
            reason: Reason::RateLimited,
            headers: vec![(http::header::RETRY_AFTER, HeaderValue::from_static("1"))],
            ..Reason::RateLimited.into()
        };
        let (head, _) = response(&reply, dialect(Method::GET, Version::HTTP_11, ""));
        assert_eq!(head.headers[http::header::RETRY_AFTER], "1");
    }

    #[test]
    fn a_refusal_in_the_words_of_a_policy_is_told_in_them_and_grpc_in_its_own() {
        let body = Some((HeaderValue::from_static("application/json"), Bytes::from_static(b"{}")));
        let written =
            WrittenReply { status: Some(StatusCode::SERVICE_UNAVAILABLE), body, ..WrittenReply::default() };
        let reply = LocalReply {
            written: Some(Arc::new(written)),
            again: Some(Duration::from_millis(1_500)),
            ..Reason::RateLimited.into()
        };
        let (head, body) = response(&reply, dialect(Method::GET, Version::HTTP_11, ""));
        assert_eq!((head.status.as_u16(), &*body), (503, &b"{}"[..]));
        assert_eq!(head.headers[CONTENT_TYPE], "application/json");
        assert!(!head.headers.contains_key(GRPC_STATUS_DETAILS));
        let (_, none) = response(&reply, dialect(Method::HEAD, Version::HTTP_11, ""));
        assert!(none.is_empty());

        let (head, body) = response(&reply, dialect(Method::POST, Version::HTTP_2, "application/grpc"));
        assert_eq!((head.status.as_u16(), body.len()), (200, 0));
        assert_eq!(head.headers[GRPC_STATUS], "8");
        let status = STANDARD_NO_PAD.decode(head.headers[GRPC_STATUS_DETAILS].as_bytes()).unwrap();
        let status = Status::decode(&*status).unwrap();
        assert_eq!((status.code, status.details[0].type_url.as_str()), (8, RETRY_INFO));
        let info = RetryInfo::decode(&*status.details[0].value).unwrap();
        assert_eq!(info.retry_delay, Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }));
    }
}
