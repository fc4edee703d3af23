//! Backends that are called by TLS: nothing is sent to an endpoint that did not prove who it is, under the settings that
//! are in force when the request is sent.

pub(crate) mod support;

use crate::mesh;
use std::sync::Arc;
use std::time::Duration;

use crate::mesh::{PORT, backend_name, listener, rename_gateway, route};
use http::Request;
use support::{HOST, backend, dns, everything, seen, settings, start, status, trusting, uri};
use tidegate_policy::model::*;
use tidegate_policy::snapshot::BindAddress;
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::{empty, full};
use tidegate_testkit::client::Client;
use tidegate_testkit::pki::Authority;
use tokio::net::TcpListener;
use tokio::sync::Notify;

#[tokio::test]
async fn a_backend_is_called_by_tls_under_the_name_of_its_policy_and_the_request_stays_as_it_is() {
    let ca = Authority::new("ca");
    let server = backend(&ca, &[HOST]).await;
    let gateway = start(everything(AppProtocol::Http1, &[&server], trusting(&ca))).await;
    let mut client = Client::http1(gateway.address().await).await;
    for path in ["/a", "/b?c"] {
        let request = Request::get(path).header("host", "shop.example.com").body(empty()).unwrap();
        assert_eq!(client.call(request).await.status, 200);
    }
    for (head, path) in server.seen().iter().zip(["/a", "/b?c"]) {
        assert_eq!(head.headers["host"], "shop.example.com");
        assert_eq!(head.headers["x-forwarded-proto"], "http", "as the client came");
        assert_eq!(head.uri, path);
    }
    let tls = seen(&server);
    assert_eq!(tls[0].server_name.as_deref(), Some(HOST));
    assert_eq!((tls[0].alpn.as_deref(), &tls[0].shown), (Some(&b"http/1.1"[..]), &None));
    assert_eq!(server.counts().connections, 1);
}

#[tokio::test]
async fn an_endpoint_that_cannot_prove_who_it_is_gets_no_request() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    for (why, shown) in [
        ("another authority", other.sign(&[HOST])),
        ("another name", ca.sign(&["elsewhere.example.com"])),
        ("no name", ca.sign(&[])),
        ("a time that is over", ca.sign_expired(&[HOST])),
    ] {
        let server = FaultBackend::start_tls(shown.server(None)).await;
        let gateway = start(everything(AppProtocol::Http1, &[&server], trusting(&ca))).await;
        assert_eq!(status(&gateway).await, (503, "upstream_tls_untrusted".into()), "{why}");
        assert_eq!(server.counts().requests, 0, "{why}");
    }
}

#[tokio::test]
async fn of_several_authorities_each_is_trusted() {
    let (one, two) = (Authority::new("one"), Authority::new("two"));
    let (first, second) = (backend(&one, &[HOST]).await, backend(&two, &[HOST]).await);
    let bundle = Some(Trust::Bundle((one.pem() + &two.pem()).into_bytes().into()));
    let both = settings(bundle, Vec::new());
    for server in [first, second] {
        let gateway = start(everything(AppProtocol::Http1, &[&server], both.clone())).await;
        assert_eq!(status(&gateway).await.0, 200);
    }
}

#[tokio::test]
async fn with_alternative_names_one_of_them_counts_and_the_name_that_was_asked_for_does_not() {
    const ID: &str = "spiffe://example.com/ns/shop/sa/cart";
    let ca = Authority::new("ca");
    let shown: &[&[&str]] = &[&["a.example.com", ID], &["*.example.com"], &[HOST]];
    for (wanted, accepted) in [
        (vec![dns("a.example.com")], [true, true, false]),
        (vec![uri(ID)], [true, false, false]),
        (vec![uri("spiffe://example.com/ns/shop/sa/cart/more")], [false; 3]),
        (vec![uri("spiffe://EXAMPLE.com/ns/shop/sa/cart")], [false; 3]),
        (vec![dns("*.example.com")], [true, true, false]),
        (vec![dns("*.com")], [false; 3]),
        (vec![dns("example.com")], [false; 3]),
        (vec![uri("spiffe://no"), dns(HOST)], [false, false, true]),
    ] {
        for (names, accepted) in shown.iter().zip(accepted) {
            let server = backend(&ca, names).await;
            let verification = settings(trusting(&ca).trust, wanted.clone());
            let gateway = start(everything(AppProtocol::Http1, &[&server], verification)).await;
            let expected = if accepted { 200 } else { 503 };
            assert_eq!(status(&gateway).await.0, expected, "wanted {wanted:?}, shown {names:?}");
            assert_eq!(server.counts().requests, usize::from(accepted));
            if accepted {
                assert_eq!(seen(&server)[0].server_name.as_deref(), Some(HOST), "asked for all the same");
            }
        }
    }
}

#[tokio::test]
async fn the_right_alternative_name_from_the_wrong_authority_or_time_is_worth_nothing() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    for shown in [other.sign(&["a.org"]), ca.sign_expired(&["a.org"])] {
        let server = FaultBackend::start_tls(shown.server(None)).await;
        let verification = settings(trusting(&ca).trust, vec![dns("a.org")]);
        let gateway = start(everything(AppProtocol::Http1, &[&server], verification)).await;
        assert_eq!(status(&gateway).await, (503, "upstream_tls_untrusted".into()));
        assert_eq!(server.counts().requests, 0);
    }
}

#[tokio::test]
async fn http_2_is_spoken_where_the_backend_or_the_call_asks_for_it_and_only_if_it_is_agreed_upon() {
    let ca = Authority::new("ca");
    let server = backend(&ca, &[HOST]).await;
    let gateway = start(everything(AppProtocol::H2c, &[&server], trusting(&ca))).await;
    assert_eq!(status(&gateway).await.0, 200);
    assert_eq!(seen(&server)[0].alpn.as_deref(), Some(&b"h2"[..]));
    assert_eq!(server.seen()[0].uri.scheme_str(), Some("https"));
    // A gRPC call goes out as HTTP/2 whatever the backend says.
    let server = backend(&ca, &[HOST]).await;
    server.always(Reply::grpc("message", 0).into());
    let gateway = start(everything(AppProtocol::Http1, &[&server], trusting(&ca))).await;
    let call =
        Request::post("http://a/s/m").header("content-type", "application/grpc").body(empty()).unwrap();
    let answer = Client::http2(gateway.address().await).await.call(call).await;
    assert_eq!(answer.trailers["grpc-status"], "0");
    assert_eq!(seen(&server)[0].alpn.as_deref(), Some(&b"h2"[..]));
    // Nothing to agree upon.
    let mut old = (*ca.sign(&[HOST]).server(None)).clone();
    old.alpn_protocols = Vec::new();
    let server = FaultBackend::start_tls(Arc::new(old)).await;
    let gateway = start(everything(AppProtocol::H2c, &[&server], trusting(&ca))).await;
    assert_eq!(status(&gateway).await, (503, "upstream_tls_failed".into()));
    let gateway = start(everything(AppProtocol::Http1, &[&server], trusting(&ca))).await;
    assert_eq!(status(&gateway).await.0, 200, "HTTP/1.1 needs no agreement");
}

#[tokio::test]
async fn an_endpoint_that_speaks_no_tls_gets_nothing_that_it_could_understand() {
    let server = FaultBackend::start().await;
    let gateway = start(everything(AppProtocol::Http1, &[&server], trusting(&Authority::new("ca")))).await;
    assert_eq!(status(&gateway).await, (503, "upstream_tls_failed".into()));
    assert_eq!(server.counts().requests, 0);
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_cut_off_with_the_connect_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let written = serde_json::json!({"connect": "100ms"});
    for by_policy in [false, true] {
        let mut all = everything(AppProtocol::Http1, &[], trusting(&Authority::new("ca")));
        for resource in &mut all {
            match resource {
                Resource::Backend(backend) if !by_policy => {
                    backend.connect_timeout = Some(Duration::from_millis(100));
                }
                Resource::Endpoints(all) => {
                    all.endpoints = vec![Endpoint::at(Address::Socket(silent.local_addr().unwrap()))];
                }
                _ => {}
            }
        }
        if by_policy {
            all.push(crate::mesh::policy("TimeoutPolicy", (TargetKind::Service, "v1"), written.clone()));
        }
        let mut gateway = mesh::Gateway::with(|config| config.connect_timeout = Duration::from_secs(600));
        gateway.apply(all);
        gateway.address().await;
        let answer = tokio::time::timeout(Duration::from_secs(60), status(&gateway)).await;
        assert_eq!(answer.expect("long before the proxy's own limit"), (503, "connect_timeout".into()));
    }
}

#[tokio::test]
async fn without_anybody_to_trust_no_connection_is_opened() {
    let ca = Authority::new("ca");
    let server = backend(&ca, &[HOST]).await;
    // By its outermost shape it is a certificate.
    let garbled = "-----BEGIN CERTIFICATE-----\nMAIwAA==\n-----END CERTIFICATE-----\n";
    let bundle = |pem: String| Some(Trust::Bundle(pem.into_bytes().into()));
    for trust in [None, bundle(String::new()), bundle(garbled.into()), bundle(ca.pem() + garbled)] {
        let gateway = start(everything(AppProtocol::Http1, &[&server], settings(trust, Vec::new()))).await;
        assert_eq!(status(&gateway).await, (500, "upstream_tls_invalid".into()));
    }
    assert_eq!(server.counts().connections, 0);
}

#[tokio::test]
async fn new_settings_hold_for_the_next_request_and_no_connection_of_the_old_ones_is_used_again() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let server = backend(&ca, &[HOST]).await;
    let with = |trust| everything(AppProtocol::Http1, &[&server], trust);
    let mut gateway = start(with(trusting(&ca))).await;
    let mut client = Client::http1(gateway.address().await).await;
    let go = Arc::new(Notify::new());
    server.push(Script::After(go.clone(), Box::new(Reply::text("late").into())));
    let address = gateway.address().await;
    let on_its_way = tokio::spawn(async move { Client::http1(address).await.get("/").await });
    server.until(|counts| counts.requests == 1).await;
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(server.until(|counts| counts.open == 2).await.connections, 2);
    gateway.apply(with(trusting(&other)));
    assert_eq!(client.get("/").await.reason(), Some("upstream_tls_untrusted"));
    // What was on its way when the settings changed is not touched.
    go.notify_one();
    assert_eq!(on_its_way.await.unwrap().body, "late");
    let both = settings(Some(Trust::Bundle((ca.pem() + &other.pem()).into_bytes().into())), Vec::new());
    gateway.apply(with(both));
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(server.counts().requests, 3);
    assert_eq!(server.counts().connections, 4, "one was refused by us, the last is new");
    // And without TLS there is no using one that has it.
    gateway.apply(mesh::everything_to("v1", &[server.address()]));
    assert_ne!(client.get("/").await.status, 200);
    assert_eq!(server.counts().requests, 3);
}

#[tokio::test]
async fn a_push_that_says_the_same_of_tls_keeps_the_connections() {
    let ca = Authority::new("ca");
    let server = backend(&ca, &[HOST]).await;
    let mut all = everything(AppProtocol::Http1, &[&server], trusting(&ca));
    let mut gateway = start(all.clone()).await;
    let mut client = Client::http1(gateway.address().await).await;
    assert_eq!(client.get("/").await.status, 200);
    for resource in &mut all {
        if let Resource::Backend(Backend { tls: Some(tls), .. }) = resource {
            tls.policy.source = SourceRef::File { path: "moved.yaml".into(), line: 7 };
        }
    }
    gateway.apply(all);
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(server.counts().connections, 1);
}

#[tokio::test]
async fn the_gateways_certificate_is_shown_to_a_backend_that_asks_and_each_gateway_has_its_own() {
    let (ca, clients) = (Authority::new("ca"), Authority::new("clients"));
    let server = FaultBackend::start_tls(ca.sign(&[HOST]).server(Some(&clients))).await;
    let (one, two) = (clients.sign(&["one.org"]), clients.sign(&["two.org"]));
    let mut all = everything(AppProtocol::Http1, &[&server], trusting(&ca));
    let mut second = vec![Resource::Listener(listener(PORT + 1)), Resource::Route(route("v1"))];
    second.iter_mut().for_each(|resource| rename_gateway(resource, "other"));
    for (resource, shown) in all.iter_mut().map(|r| (r, &one)).chain(second.iter_mut().map(|r| (r, &two))) {
        match resource {
            Resource::Listener(listener) => listener.client_certificate = Some(shown.certificate("client")),
            Resource::Route(route) if *shown.chain == *two.chain => {
                route.meta.name = ResourceName::new("shop", "second");
            }
            _ => {}
        }
    }
    all.extend(second);
    let gateway = start(all).await;
    let other = BindAddress { ip: None, port: PORT + 1 };
    for address in [gateway.address().await, gateway.running.gateway_bound(other).await.unwrap()] {
        assert_eq!(Client::http1(address).await.get("/").await.status, 200);
    }
    let shown: Vec<_> = seen(&server).into_iter().map(|tls| tls.shown.unwrap()).collect();
    assert_eq!((shown.len(), server.counts().connections), (2, 2));
    assert_ne!(shown[0], shown[1], "a connection of one Gateway is not used for another");
    let debug = format!("{:?}", gateway.running.state().store.load());
    for signed in [&one, &two] {
        let secret = signed.key.lines().nth(2).unwrap();
        assert!(!debug.contains(secret) && !debug.contains("PRIVATE"), "{debug}");
    }
}

#[tokio::test]
async fn a_backend_that_insists_on_a_certificate_refuses_a_gateway_that_has_none() {
    let (ca, clients) = (Authority::new("ca"), Authority::new("clients"));
    for shown in [None, Some(Authority::new("stranger").sign(&["x.org"]).certificate("client"))] {
        let server = FaultBackend::start_tls(ca.sign(&[HOST]).server(Some(&clients))).await;
        let mut all = everything(AppProtocol::Http1, &[&server], trusting(&ca));
        for resource in &mut all {
            if let Resource::Listener(listener) = resource {
                listener.client_certificate.clone_from(&shown);
            }
        }
        let gateway = start(all).await;
        let (status, reason) = status(&gateway).await;
        // It is told after our side of the handshake is done; the connection may be gone before it is read.
        assert!(
            [(503, "upstream_tls_failed"), (502, "upstream_reset")].contains(&(status, &*reason)),
            "{reason}"
        );
        assert_eq!(server.counts().requests, 0);
    }
}

#[tokio::test]
async fn a_mirror_is_called_by_tls_as_its_policy_says() {
    let ca = Authority::new("ca");
    let (primary, mirror, untrusted) = (
        FaultBackend::start().await,
        backend(&ca, &[HOST]).await,
        backend(&Authority::new("other"), &[HOST]).await,
    );
    let mut all = mesh::everything_to("v1", &[primary.address()]);
    for (name, server) in [("m1", &mirror), ("m2", &untrusted)] {
        all.extend(support::service(name, AppProtocol::Http1, &[server], trusting(&ca)));
    }
    for resource in &mut all {
        if let Resource::Route(route) = resource {
            let to = |name| RouteFilter::Mirror(Mirror { backend: backend_name(name), share: Share::ALL });
            route.rules[0].filters = vec![to("m1"), to("m2")];
        }
    }
    let gateway = start(all).await;
    assert_eq!(status(&gateway).await.0, 200);
    mirror.until(|counts| counts.requests == 1).await;
    assert_eq!(seen(&mirror)[0].server_name.as_deref(), Some(HOST));
    untrusted.until(|counts| counts.connections == 1 && counts.open == 0).await;
    assert_eq!(untrusted.counts().requests, 0);
}

#[tokio::test]
async fn a_call_that_found_one_endpoint_untrusted_is_retried_at_another() {
    let ca = Authority::new("ca");
    let (good, bad) = (backend(&ca, &[HOST]).await, backend(&Authority::new("other"), &[HOST]).await);
    let mut all = everything(AppProtocol::Http1, &[&good, &bad], trusting(&ca));
    for resource in &mut all {
        if let Resource::Route(route) = resource {
            route.rules[0].retry = Some(Retry { codes: [].into(), attempts: 1, backoff: None });
        }
    }
    let gateway = start(all).await;
    let mut client = Client::http1(gateway.address().await).await;
    while bad.counts().connections == 0 {
        assert_eq!(client.call(mesh::post("/", "body")).await.status, 200, "even a POST: nothing was sent");
    }
    assert_eq!(bad.counts().requests, 0);
}

#[tokio::test]
async fn the_log_names_the_policy_and_its_line_and_the_admin_page_shows_what_is_verified() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let server = backend(&other, &[HOST]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let log = file.path().to_owned();
    let mut gateway = mesh::Gateway::with(|config| {
        config.access_log = tidegate_proxy::telemetry::LogTarget::File(log.clone());
    });
    let names = vec![uri("spiffe://a/b")];
    gateway.apply(everything(AppProtocol::Http1, &[&server], settings(trusting(&ca).trust, names)));
    assert_eq!(status(&gateway).await.0, 503);
    let config = Client::http1(gateway.running.admin()).await.get("/config").await;
    let config = String::from_utf8(config.body.to_vec()).unwrap();
    for expected in [&format!("hostname: {HOST}"), "URI:spiffe://a/b", "trust: bundle of ", "policies.yaml:4"]
    {
        assert!(config.contains(expected), "{expected}: {config}");
    }
    drop(gateway);
    let logged = support::written(file.path()).await;
    for expected in ["upstream_tls_untrusted", "BackendTLSPolicy", "shop/tls", "policies.yaml:4"] {
        assert!(logged.contains(expected), "{expected}: {logged}");
    }
}

#[tokio::test]
async fn bodies_pass_both_ways_by_tls_for_clients_of_either_http() {
    let ca = Authority::new("ca");
    let server = backend(&ca, &[HOST]).await;
    server.always(Script::Echo);
    let gateway = start(everything(AppProtocol::Http1, &[&server], trusting(&ca))).await;
    let answer = Client::http1(gateway.address().await).await.call(mesh::post("/", "body")).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"body"[..]));
    let request = Request::post("http://a/").body(full("body")).unwrap();
    assert_eq!(Client::http2(gateway.address().await).await.call(request).await.body, "body");
}
