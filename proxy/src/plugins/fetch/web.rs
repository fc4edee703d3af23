//! A GET, with what registries need of one: headers, redirects, and a bound on what is read.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use tidegate_policy::model::Address;
use tidegate_policy::snapshot::TlsSettings;
use tokio::time::timeout;

use crate::health_checks::send;
use crate::upstream::{Protocol, connect_speaking};

const AGENT: HeaderValue = HeaderValue::from_static("tidegate-plugins");
const CONNECT: Duration = Duration::from_secs(10);
/// One answer, whole: a registry that hangs is given up on.
const WHOLE: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: usize = 5;

/// What came of a request.
pub(super) struct Got {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// The body of what is there.
///
/// # Errors
/// Why there is none, in words.
pub(super) async fn get(url: &str, most: usize) -> Result<Vec<u8>, String> {
    let got = ask(url, &HeaderMap::new(), most).await?;
    if got.status != StatusCode::OK {
        return Err(format!("{url}: status {}", got.status.as_u16()));
    }
    Ok(got.body)
}

/// Follows redirects; elsewhere nobody is told who asks.
///
/// # Errors
/// There is no answer.
pub(super) async fn ask(url: &str, headers: &HeaderMap, most: usize) -> Result<Got, String> {
    let (mut url, mut headers) = (url.to_owned(), headers.clone());
    for _ in 0..=MAX_REDIRECTS {
        let uri: Uri = url.parse().map_err(|_| format!("{url} is no URL"))?;
        let got = timeout(WHOLE, once(&uri, &headers, most)).await;
        let got = got
            .unwrap_or_else(|_| Err(String::from("no answer in time")))
            .map_err(|why| format!("{url}: {why}"))?;
        let location = got.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        match location.filter(|_| got.status.is_redirection()) {
            None => return Ok(got),
            Some(location) => {
                let next = resolved(&uri, location).ok_or_else(|| format!("{url}: leads to {location}"))?;
                if next.authority() != uri.authority() {
                    headers.remove(AUTHORIZATION);
                }
                if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                    return Err(format!("{url}: leads to {next}, without TLS"));
                }
                url = next.to_string();
            }
        }
    }
    Err(format!("{url}: too many redirects"))
}

fn resolved(from: &Uri, location: &str) -> Option<Uri> {
    let next: Uri = location.parse().ok()?;
    if next.scheme().is_some() {
        return Some(next);
    }
    let path = next.path_and_query()?.clone();
    Uri::builder()
        .scheme(from.scheme()?.clone())
        .authority(from.authority()?.clone())
        .path_and_query(path)
        .build()
        .ok()
}

async fn once(uri: &Uri, headers: &HeaderMap, most: usize) -> Result<Got, String> {
    let secure = uri.scheme_str() == Some("https");
    let host = uri.host().ok_or("no host")?;
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = match bare.parse() {
        Ok(ip) => Address::Socket(std::net::SocketAddr::new(ip, port)),
        Err(_) => Address::Name { host: host.into(), port },
    };
    let tls = secure.then(|| TlsSettings::of_system(bare));
    let stream = connect_speaking(&address, CONNECT, &[], (tls.as_ref(), Some(Protocol::Http1))).await;
    let stream = stream.map_err(|reason| String::from(reason.answer().message))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::get(path).body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let authority = uri.authority().map_or(host, |authority| authority.as_str());
    let own = request.headers_mut();
    own.extend(headers.clone());
    own.insert(HOST, HeaderValue::try_from(authority).map_err(|error| error.to_string())?);
    own.insert(CONNECTION, HeaderValue::from_static("close"));
    own.insert(USER_AGENT, AGENT);
    let answered = async |response: Response<Incoming>| Ok(read(response, most).await);
    send(stream, Protocol::Http1, request, answered).await.map_err(|cause| cause.to_string())?
}

async fn read(response: Response<Incoming>, most: usize) -> Result<Got, String> {
    let (head, mut body) = response.into_parts();
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the answer broke off: {error}"))?;
        if let Some(data) = frame.data_ref() {
            if read.len() + data.len() > most {
                return Err(format!("more than {most} bytes"));
            }
            read.extend_from_slice(data);
        }
    }
    Ok(Got { status: head.status, headers: head.headers, body: read })
}
