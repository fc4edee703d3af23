//! Where plugins come from: over HTTP, and out of a registry that speaks as real ones do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tidegate_policy::model::TargetKind;
use tidegate_proxy::ProxyConfig;
use tidegate_testkit::backend::FaultBackend;
use tidegate_testkit::client::Client;
use tokio::net::TcpListener;

use super::module::{callback, plugin};
use crate::mesh::{Gateway, everything_to, get, policy};

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn module() -> Vec<u8> {
    plugin(&callback(
        "response_headers",
        3,
        "(drop (call $add_header_map_value (i32.const 2) @\"x-plugin\" @\"1\"))",
    ))
}

/// A registry with one image, for those who have a token; and the same module as a plain file.
struct Registry {
    address: std::net::SocketAddr,
    up: Arc<AtomicBool>,
}

impl Registry {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let up = Arc::new(AtomicBool::new(true));
        let serving = up.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let up = serving.load(Ordering::Relaxed);
                let answer = move |request: Request<Incoming>| async move {
                    if !up {
                        std::future::pending::<()>().await;
                    }
                    Ok::<_, std::convert::Infallible>(answer(&request, address))
                };
                let service = hyper::service::service_fn(answer);
                let stream = hyper_util::rt::TokioIo::new(stream);
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(stream, service));
            }
        });
        Self { address, up }
    }
}

fn answer(request: &Request<Incoming>, address: std::net::SocketAddr) -> Response<Full<Bytes>> {
    let module = module();
    let digest = hex(&module);
    let authorization = request.headers().get("authorization").map_or("", |value| value.to_str().unwrap());
    let path = request.uri().path();
    let ok = |body: Vec<u8>| Response::new(Full::new(Bytes::from(body)));
    let status = |code: StatusCode| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = code;
        response
    };
    if path == "/plugin.wasm" {
        return ok(module);
    }
    if path == "/token" {
        // user:secret
        let known = authorization == "Basic dXNlcjpzZWNyZXQ=";
        let asked = request.uri().query().unwrap_or_default();
        return if known && asked.contains("scope=repository:acme/tagger:pull") {
            ok(br#"{"token":"good"}"#.to_vec())
        } else {
            status(StatusCode::FORBIDDEN)
        };
    }
    if authorization != "Bearer good" {
        let mut refused = status(StatusCode::UNAUTHORIZED);
        let challenge = format!("Bearer realm=\"http://{address}/token\",service=\"registry\"");
        refused.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
        return refused;
    }
    match path {
        "/v2/acme/tagger/manifests/1.0" => {
            let layer = json!({"mediaType": "application/vnd.module.wasm.content.layer.v1+wasm", "digest": format!("sha256:{digest}"), "size": module.len()});
            ok(json!({"schemaVersion": 2, "layers": [layer]}).to_string().into_bytes())
        }
        path if path == format!("/v2/acme/tagger/blobs/sha256:{digest}") => {
            let mut elsewhere = status(StatusCode::TEMPORARY_REDIRECT);
            elsewhere.headers_mut().insert("location", "/plugin.wasm".parse().unwrap());
            elsewhere
        }
        _ => status(StatusCode::NOT_FOUND),
    }
}

async fn plugged(backend: &FaultBackend, source: Value, change: impl FnOnce(&mut ProxyConfig)) -> Gateway {
    let mut gateway = Gateway::with(change);
    let mut all = everything_to("v1", &[backend.address()]);
    let spec = json!({"source": source, "failurePolicy": "Closed"});
    all.push(policy("WasmPlugin", (TargetKind::HTTPRoute, "all"), spec));
    gateway.apply(all);
    gateway.address().await;
    gateway
}

async fn status_of(gateway: &Gateway) -> (u16, bool) {
    let answer = Client::http1(gateway.address().await).await.call(get("/")).await;
    (answer.status.as_u16(), answer.headers.contains_key("x-plugin"))
}

fn image(registry: &Registry, credentials: Option<&std::path::Path>) -> Value {
    let mut oci = json!({"image": format!("{}/acme/tagger:1.0", registry.address), "plainHttp": true});
    if let Some(credentials) = credentials {
        oci["credentialsFile"] = json!(credentials);
    }
    json!({"oci": oci})
}

fn credentials(registry: &Registry) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let auth = json!({"auths": {registry.address.to_string(): {"auth": "dXNlcjpzZWNyZXQ="}}});
    std::fs::write(file.path(), auth.to_string()).unwrap();
    file
}

#[tokio::test]
async fn a_module_is_fetched_by_http_and_only_the_one_that_is_written() {
    let (backend, registry) = (FaultBackend::start().await, Registry::start().await);
    let url = format!("http://{}/plugin.wasm", registry.address);
    let good = plugged(&backend, json!({"http": {"url": url, "sha256": hex(&module())}}), |_| {}).await;
    assert_eq!(status_of(&good).await, (200, true));
    let other = plugged(&backend, json!({"http": {"url": url, "sha256": hex(b"another")}}), |_| {}).await;
    assert_eq!(status_of(&other).await, (503, false));
}

#[tokio::test]
async fn an_image_is_pulled_with_its_secret_and_not_without() {
    let (backend, registry) = (FaultBackend::start().await, Registry::start().await);
    let credentials = credentials(&registry);
    let known = plugged(&backend, image(&registry, Some(credentials.path())), |_| {}).await;
    assert_eq!(status_of(&known).await, (200, true));
    let stranger = plugged(&backend, image(&registry, None), |_| {}).await;
    assert_eq!(status_of(&stranger).await, (503, false));
}

#[tokio::test]
async fn a_proxy_starts_with_what_it_fetched_before_when_the_registry_hangs() {
    let (backend, registry) = (FaultBackend::start().await, Registry::start().await);
    let (credentials, state) = (credentials(&registry), tempfile::tempdir().unwrap());
    let mut source = image(&registry, Some(credentials.path()));
    source["oci"]["sha256"] = json!(hex(&module()));
    let keeping = |config: &mut ProxyConfig| config.state_dir = Some(state.path().to_owned());
    let first = plugged(&backend, source.clone(), keeping).await;
    assert_eq!(status_of(&first).await, (200, true));
    drop(first);
    registry.up.store(false, Ordering::Relaxed);
    let second = plugged(&backend, source, keeping).await;
    assert_eq!(status_of(&second).await, (200, true));
}
