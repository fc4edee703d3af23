//! Routes for gRPC, at work in a real proxy.

use crate::mesh;
use crate::mesh::{Gateway, listener, route, service_at};
use http::{Request, Version};
use tidegate_policy::model::*;
use tidegate_testkit::backend::{FaultBackend, Reply};
use tidegate_testkit::body::{TestBody, full};
use tidegate_testkit::client::Client;

/// A route for `/shop.Cart/Get` to a Service that does not say what it speaks, and one for `/shop.Cart/Put` to nobody.
async fn gateway(backend: &FaultBackend) -> Gateway {
    let mut gateway = Gateway::start();
    let mut route = Route { kind: RouteKind::Grpc, ..route("v1") };
    let mut invalid = route.rules[0].clone();
    route.rules[0].matches[0].path = PathMatch::Exact("/shop.Cart/Get".into());
    invalid.matches[0].path = PathMatch::AnyService("Put".into());
    invalid.backends[0].target = Err(InvalidRef::BackendNotFound);
    route.rules.push(invalid);
    let mut all = vec![Resource::Listener(listener(mesh::PORT))];
    all.extend(service_at("v1", AppProtocol::Http1, &[backend.address()]));
    all.push(Resource::Route(route));
    gateway.apply(all);
    gateway.address().await;
    gateway
}

fn call(path: &str, content_type: &str) -> Request<TestBody> {
    Request::post(path).header("content-type", content_type).body(full("message")).unwrap()
}

#[tokio::test]
async fn calls_reach_their_backend_over_http_2_and_keep_their_trailers() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::grpc("answer", 5).into());
    let gateway = gateway(&backend).await;
    let mut client = Client::http2(gateway.address().await).await;
    // The route says that this is gRPC, whatever the request does.
    for content_type in ["application/grpc", "application/octet-stream"] {
        let answer = client.call(call("/shop.Cart/Get", content_type)).await;
        assert_eq!((answer.status.as_u16(), &answer.trailers["grpc-status"]), (200, &"5".parse().unwrap()));
    }
    assert!(backend.seen().iter().all(|head| head.version == Version::HTTP_2));
}

#[tokio::test]
async fn no_match_is_unimplemented_and_an_invalid_backend_is_unavailable() {
    let backend = FaultBackend::start().await;
    let gateway = gateway(&backend).await;
    let mut client = Client::http2(gateway.address().await).await;
    for (path, code) in [("/shop.Cart/None", "12"), ("/any.Service/Put", "14")] {
        let answer = client.call(call(path, "application/grpc")).await;
        assert_eq!((answer.status.as_u16(), answer.headers["grpc-status"].to_str().unwrap()), (200, code));
    }
    assert_eq!(backend.counts().requests, 0);
}
