//! Asks the API server for one pod: in bounded time, with a bounded answer, by a certificate that is verified.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value as Json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::kubeconfig::{self, Access};
use crate::spec::{Code, Failure, PodName};

/// An object of the API has no more than 1.5 MiB in the store behind it.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// How long is tried. A runtime gives a plugin minutes, and begins again if it fails.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub attempt: Duration,
    pub whole: Duration,
    /// Before the second attempt; doubled before each further one.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let (attempt, whole) = (Duration::from_secs(5), Duration::from_secs(20));
        Self { attempt, whole, pause: Duration::from_millis(100) }
    }
}

/// How one attempt failed.
enum Fault {
    /// The same may go well later.
    Passing(String),
    Lasting(Failure),
}

fn passing(error: impl std::fmt::Display) -> Fault {
    Fault::Passing(error.to_string())
}

/// The pod as the API server knows it. The kubeconfig is read anew for each attempt: its token changes.
///
/// # Errors
/// `TryAgainLater`: nothing could be learnt in time, or there is no such pod (yet). `InvalidConfig`: the API server does not
/// let us ask.
pub async fn pod(kubeconfig: &Path, name: &PodName, patience: Patience) -> Result<Json, Failure> {
    let end = Instant::now() + patience.whole;
    let mut pause = patience.pause;
    loop {
        let left = end.saturating_duration_since(Instant::now()).min(patience.attempt);
        let why = match timeout(left, attempt(kubeconfig, name)).await {
            Ok(Ok(pod)) => return Ok(pod),
            Ok(Err(Fault::Lasting(failure))) => return Err(failure),
            Ok(Err(Fault::Passing(why))) => why,
            Err(_) => format!("no answer within {} ms", left.as_millis()),
        };
        if Instant::now() + pause >= end {
            let what =
                format!("pod {name}: cannot learn whether it is of the mesh, so it must not start: {why}");
            return Err(Failure::new(Code::TryAgainLater, what));
        }
        sleep(pause).await;
        pause *= 2;
    }
}

async fn attempt(kubeconfig: &Path, name: &PodName) -> Result<Json, Fault> {
    let in_file = |why: &dyn std::fmt::Display| passing(format!("{}: {why}", kubeconfig.display()));
    let access = access(kubeconfig).map_err(passing)?;
    let (host, port) = authority(&access.server);
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await;
    let stream = stream.map_err(|error| passing(format!("{host}:{port}: {error}")))?;
    if access.server.scheme_str() == Some("http") {
        return get(stream, &access, name).await;
    }
    let server = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(passing)?;
    let connector = TlsConnector::from(Arc::new(tls(&access.roots).map_err(|why| in_file(&why))?));
    let stream = connector.connect(server, stream).await;
    get(stream.map_err(|error| passing(format!("{host}:{port}: {error}")))?, &access, name).await
}

/// Whom to ask.
///
/// # Errors
/// The file cannot be read, or says nothing that can be used.
pub fn access(kubeconfig: &Path) -> Result<Access, String> {
    use std::io::Read as _;

    let named = |why: &dyn std::fmt::Display| format!("{}: {why}", kubeconfig.display());
    let mut text = Vec::new();
    let file = std::fs::File::open(kubeconfig).map_err(|error| named(&error))?;
    file.take(kubeconfig::MAX_BYTES).read_to_end(&mut text).map_err(|error| named(&error))?;
    Access::read(&text).map_err(|why| named(&why))
}

fn authority(server: &Uri) -> (&str, u16) {
    let default = if server.scheme_str() == Some("http") { 80 } else { 443 };
    (server.host().unwrap_or_default(), server.port_u16().unwrap_or(default))
}

fn tls(roots: &[u8]) -> Result<ClientConfig, String> {
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots) {
        let added = root.map_err(|error| error.to_string()).map(|root| store.add(root));
        added?.map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(store).with_no_client_auth())
}

async fn get<S>(stream: S, access: &Access, name: &PodName) -> Result<Json, Fault>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(passing)?;
    let connection = tokio::spawn(connection);
    let host = access.server.authority().map(ToString::to_string).unwrap_or_default();
    let request = Request::get(format!("/api/v1/namespaces/{}/pods/{}", name.namespace, name.name))
        .header(HOST, host)
        .header(USER_AGENT, concat!("tidegate-cni/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "application/json")
        .header(AUTHORIZATION, format!("Bearer {}", access.token))
        .body(Empty::<Bytes>::new())
        .map_err(passing)?;
    let answer = sender.send_request(request).await.map_err(passing)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
    connection.abort();
    let body = body.map_err(passing)?.to_bytes();
    told(status, &body, name)
}

fn told(status: StatusCode, body: &[u8], name: &PodName) -> Result<Json, Fault> {
    let lasting = |code, why: String| Err(Fault::Lasting(Failure::new(code, why)));
    match status {
        StatusCode::OK => serde_json::from_slice(body).map_err(passing),
        StatusCode::NOT_FOUND => {
            lasting(Code::TryAgainLater, format!("pod {name}: the API server does not know it"))
        }
        StatusCode::FORBIDDEN => lasting(
            Code::InvalidConfig,
            format!(
                "pod {name}: the API server does not let us ask (403): is the ClusterRole tidegate-cni there?"
            ),
        ),
        // 401 as well: the token in the file is being renewed.
        other => Err(passing(format!("the API server says {other}"))),
    }
}
