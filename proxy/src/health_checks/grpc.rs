//! The gRPC health checking protocol: `grpc.health.v1.Health/Check`.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use prost::Message;
use tidegate_policy::health::check::{Cause, Finding};

use super::exchange::{self, Asked, address, send};
use crate::upstream::UpstreamStream;

const PATH: &str = "/grpc.health.v1.Health/Check";
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: &str = "grpc-status";
const SERVING: i32 = 1;
/// One byte for compression, four for the length.
const PREFIX: usize = 5;
/// An answer is a few bytes.
const MAX_ANSWER: usize = 4 * 1024;

#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

pub(super) async fn health(
    stream: UpstreamStream,
    asked: &Asked,
    service: &str,
    timeout: Duration,
) -> Result<Finding, Cause> {
    let mut request = Request::post("/").body(Full::new(question(service))).map_err(|_| Cause::Malformed)?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, HeaderValue::from_static("tidegate-health-check"));
    // In milliseconds; a minute at most, so that it has the eight digits that it may have.
    let limit = HeaderValue::try_from(format!("{}m", timeout.as_millis()));
    headers.insert("grpc-timeout", limit.map_err(|_| Cause::Malformed)?);
    address(&mut request, asked, &asked.host, PATH)?;
    send(stream, asked.protocol, request, answer).await
}

fn question(service: &str) -> Bytes {
    let message = HealthCheckRequest { service: service.to_owned() };
    let mut bytes = BytesMut::with_capacity(PREFIX + message.encoded_len());
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    bytes.put_slice(&message.encode_to_vec());
    bytes.freeze()
}

async fn answer(response: Response<Incoming>) -> Result<Finding, Cause> {
    let (head, mut body) = response.into_parts();
    if head.status != StatusCode::OK {
        return Err(Cause::Status(head.status.as_u16()));
    }
    let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if !kind.starts_with(GRPC.as_bytes()) {
        return Err(Cause::Malformed);
    }
    let (mut message, mut trailers) = (BytesMut::new(), head.headers);
    while let Some(frame) = body.frame().await {
        match frame.map_err(|error| exchange::cause(&error))?.into_data() {
            Ok(data) if message.len() + data.len() > MAX_ANSWER => return Err(Cause::Malformed),
            Ok(data) => message.extend_from_slice(&data),
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    judge(&trailers, &message)
}

/// What an answer says, whose message is in `body`.
fn judge(trailers: &HeaderMap, body: &[u8]) -> Result<Finding, Cause> {
    let status = trailers.get(GRPC_STATUS).and_then(|status| status.to_str().ok()?.parse().ok());
    match status {
        Some(0) => {}
        Some(code) => return Err(Cause::GrpcStatus(code)),
        None => return Err(Cause::Malformed),
    }
    let message = body.split_first_chunk::<PREFIX>().filter(|([compressed, length @ ..], message)| {
        *compressed == 0 && *length == u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes()
    });
    let message = message.and_then(|(_, message)| HealthCheckResponse::decode(message).ok());
    match message.ok_or(Cause::Malformed)?.status {
        SERVING => Ok(Finding::Passed),
        other => Err(Cause::NotServing(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_status(status: &'static str) -> HeaderMap {
        HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(status))])
    }

    fn message(status: i32) -> Vec<u8> {
        let message = HealthCheckResponse { status }.encode_to_vec();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0], &length[..], &message].concat()
    }

    #[test]
    fn only_serving_will_do() {
        let ok = with_status("0");
        assert_eq!(judge(&ok, &message(1)), Ok(Finding::Passed));
        for other in [0, 2, 3, 99] {
            assert_eq!(judge(&ok, &message(other)), Err(Cause::NotServing(other)));
        }
    }

    #[test]
    fn a_status_other_than_ok_is_told_and_none_at_all_is_no_answer() {
        assert_eq!(judge(&with_status("12"), &[]), Err(Cause::GrpcStatus(12)));
        assert_eq!(judge(&HeaderMap::new(), &message(1)), Err(Cause::Malformed));
        assert_eq!(judge(&with_status("zero"), &message(1)), Err(Cause::Malformed));
    }

    #[test]
    fn what_is_no_message_is_no_answer() {
        let ok = with_status("0");
        let serving = message(1);
        for bad in [&[][..], &[0, 0][..], &serving[..serving.len() - 1], &[&serving[..], &[0][..]].concat()] {
            assert_eq!(judge(&ok, bad), Err(Cause::Malformed), "{bad:?}");
        }
        let mut compressed = serving;
        compressed[0] = 1;
        assert_eq!(judge(&ok, &compressed), Err(Cause::Malformed));
    }

    #[test]
    fn a_question_is_one_message_that_names_the_service() {
        assert_eq!(&*question(""), [0, 0, 0, 0, 0]);
        assert_eq!(&*question("a"), [0, 0, 0, 0, 3, 0x0a, 1, b'a']);
    }
}
