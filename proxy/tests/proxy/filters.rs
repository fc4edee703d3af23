//! The filters of routes, at work in a real proxy.

use crate::mesh;
use crate::mesh::{Gateway, get, listener, route, service_at};
use http::{Request, StatusCode};
use tidegate_policy::model::*;
use tidegate_testkit::backend::{FaultBackend, Reply};
use tidegate_testkit::body::empty;
use tidegate_testkit::client::Client;

/// A gateway with one rule that has these filters, and leads to `backend` where there is one.
async fn gateway(filters: Vec<RouteFilter>, backend: Option<&FaultBackend>) -> Gateway {
    let mut gateway = Gateway::start();
    let mut route = route("v1");
    route.rules[0].filters = filters;
    let mut all = vec![Resource::Listener(listener(mesh::PORT))];
    match backend {
        Some(backend) => all.extend(service_at("v1", AppProtocol::Http1, &[backend.address()])),
        None => route.rules[0].backends.clear(),
    }
    all.push(Resource::Route(route));
    gateway.apply(all);
    gateway.address().await;
    gateway
}

#[tokio::test]
async fn a_redirect_names_the_listeners_port_and_not_the_one_that_is_bound() {
    let redirect =
        Redirect { scheme: None, hostname: None, path: None, port: None, status: StatusCode::SEE_OTHER };
    let gateway = gateway(vec![RouteFilter::Redirect(redirect)], None).await;
    let address = gateway.address().await;
    assert_ne!(address.port(), mesh::PORT);
    for mut client in [Client::http1(address).await, Client::http2(address).await] {
        let request = Request::get("/a?b").header("host", format!("shop.test:{}", address.port()));
        let answer = client.call(request.body(empty()).unwrap()).await;
        assert_eq!(answer.status, 303);
        assert_eq!(answer.headers["location"], "http://shop.test:8080/a?b");
        assert_eq!((answer.body.len(), answer.reason()), (0, None), "it is no failure");
    }
}

#[tokio::test]
async fn a_rewritten_request_reaches_the_backend_with_its_new_host_and_path() {
    let backend = FaultBackend::start().await;
    let path = PathModifier::Prefix { matched: "".into(), replacement: "/v2".into() };
    let rewrite = Rewrite { hostname: Some("cart.internal".into()), path: Some(path) };
    let gateway = gateway(vec![RouteFilter::Rewrite(rewrite)], Some(&backend)).await;
    let answer = Client::http1(gateway.address().await).await.call(get("/a?b=c")).await;
    assert_eq!(answer.status, 200);
    let seen = &backend.seen()[0];
    assert_eq!(seen.uri.to_string(), "/v2/a?b=c");
    assert_eq!(seen.headers["host"], "cart.internal");
}

#[tokio::test]
async fn a_preflight_is_answered_here_and_other_answers_keep_what_they_vary_with() {
    let backend = FaultBackend::start().await;
    let own = Reply::text("body").header("vary", "accept").header("access-control-allow-origin", "*");
    backend.always(own.into());
    let origins = Listed::Only(vec!["https://*.shop.test".parse().unwrap()]);
    let cors = Cors { origins, credentials: true, methods: Listed::All, max_age: 5, ..Cors::default() };
    let gateway = gateway(vec![RouteFilter::Cors(cors)], Some(&backend)).await;
    let mut client = Client::http1(gateway.address().await).await;
    let origin = "https://www.shop.test";
    let preflight = Request::options("/").header("origin", origin);
    let preflight = preflight.header("access-control-request-method", "PUT").body(empty()).unwrap();
    let answer = client.call(preflight).await;
    assert_eq!((answer.status.as_u16(), backend.counts().requests), (204, 0));
    assert_eq!(answer.headers["access-control-allow-origin"], origin);
    assert_eq!(answer.headers["access-control-allow-methods"], "PUT");
    let simple = Request::get("/").header("origin", origin).body(empty()).unwrap();
    let answer = client.call(simple).await;
    let all = |name: &str| {
        answer.headers.get_all(name).iter().map(|v| v.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(all("access-control-allow-origin"), [origin], "one, and not the backend's");
    assert_eq!(all("vary"), ["accept", "origin"]);
}
