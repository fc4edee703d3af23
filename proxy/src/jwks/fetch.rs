//! One question to an issuer, within its timeout and with a bound on what is read. Redirects are not followed: where keys come
//! from is said by the policy, and by nobody on the way.

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use tidegate_policy::jwt::{KeySet, KeySource, KeysAt, max_age};
use tokio::time::timeout;

use crate::health_checks::send;
use crate::upstream::{Protocol, connect_speaking};

const AGENT: HeaderValue = HeaderValue::from_static("tidegate-jwks");

/// # Errors
/// Why there is no answer that could be a set of keys, in words.
pub(super) async fn fetch(at: &KeysAt) -> Result<KeySet, String> {
    timeout(at.timeout, ask(at)).await.unwrap_or_else(|_| Err(String::from("no answer in time")))
}

async fn ask(at: &KeysAt) -> Result<KeySet, String> {
    let speaks = (at.tls.as_deref(), Some(Protocol::Http1));
    let stream = connect_speaking(&at.address, at.timeout, &[], speaks).await;
    let stream = stream.map_err(|reason| String::from(reason.answer().message))?;
    let request = Request::get(&*at.path)
        .header(HOST, &*at.host)
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .header(CONNECTION, "close")
        .header(USER_AGENT, AGENT)
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answered = async |response: Response<Incoming>| Ok(read(response).await);
    send(stream, Protocol::Http1, request, answered).await.map_err(|cause| cause.to_string())?
}

async fn read(response: Response<Incoming>) -> Result<KeySet, String> {
    let (head, mut body) = response.into_parts();
    if head.status != http::StatusCode::OK {
        return Err(format!("status {}", head.status.as_u16()));
    }
    let said = head.headers.get(CACHE_CONTROL).and_then(|value| value.to_str().ok());
    let max_age = said.and_then(max_age);
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the answer broke off: {error}"))?;
        if let Some(data) = frame.data_ref() {
            if read.len() + data.len() > KeySource::MOST_BYTES {
                return Err(format!("more than {} bytes", KeySource::MOST_BYTES));
            }
            read.extend_from_slice(data);
        }
    }
    Ok(KeySet { body: read, max_age })
}
