//! Backends with certificates, and the settings to call them.

use std::path::Path;

use tidegate_policy::model::*;
use tidegate_testkit::backend::{FaultBackend, SeenTls};
use tidegate_testkit::client::Client;
use tidegate_testkit::pki::Authority;

use crate::mesh::{Gateway, PORT, get, listener, route, service_at};

/// What endpoints are asked for.
pub(crate) const HOST: &str = "v1.internal";

pub(crate) async fn backend(ca: &Authority, names: &[&str]) -> FaultBackend {
    FaultBackend::start_tls(ca.sign(names).server(None)).await
}

pub(crate) fn settings(trust: Option<Trust>, alt_names: Vec<AltName>) -> Verification {
    Verification { trust, hostname: HOST.into(), alt_names }
}

pub(crate) fn trusting(ca: &Authority) -> Verification {
    settings(Some(Trust::Bundle(ca.pem().into_bytes().into())), Vec::new())
}

pub(crate) fn dns(name: &str) -> AltName {
    AltName::Dns(HostPattern::parse(name).unwrap())
}

pub(crate) fn uri(uri: &str) -> AltName {
    AltName::Uri(uri.into())
}

/// A Service that is called by TLS.
pub(crate) fn service(
    name: &str,
    protocol: AppProtocol,
    endpoints: &[&FaultBackend],
    verification: Verification,
) -> Vec<Resource> {
    let endpoints: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address()).collect();
    let mut all = service_at(name, protocol, &endpoints);
    let policy = PolicyRef {
        kind: BACKEND_TLS_POLICY.into(),
        name: ResourceName::new("shop", "tls"),
        source: SourceRef::File { path: "policies.yaml".into(), line: 4 },
    };
    if let Some(Resource::Backend(backend)) = all.first_mut() {
        backend.tls = Some(BackendTls { policy, verification });
    }
    all
}

/// The same with a listener and a route that lead there.
pub(crate) fn everything(
    protocol: AppProtocol,
    endpoints: &[&FaultBackend],
    verification: Verification,
) -> Vec<Resource> {
    let mut all = service("v1", protocol, endpoints, verification);
    all.push(Resource::Listener(listener(PORT)));
    all.push(Resource::Route(route("v1")));
    all
}

pub(crate) async fn start(all: Vec<Resource>) -> Gateway {
    let mut gateway = Gateway::start();
    gateway.apply(all);
    gateway.address().await;
    gateway
}

/// Of a request on a connection of its own, with the reason of a refusal.
pub(crate) async fn status(gateway: &Gateway) -> (u16, String) {
    let answer = Client::http1(gateway.address().await).await.call(get("/")).await;
    (answer.status.as_u16(), answer.reason().unwrap_or_default().to_owned())
}

/// How each request came in.
pub(crate) fn seen(server: &FaultBackend) -> Vec<SeenTls> {
    server.seen().iter().map(|head| head.extensions.get::<SeenTls>().cloned().unwrap()).collect()
}

/// What is in a file once anything is.
pub(crate) async fn written(path: &Path) -> String {
    loop {
        let text = std::fs::read_to_string(path).unwrap();
        if text.ends_with('\n') {
            return text;
        }
        tokio::task::yield_now().await;
    }
}
