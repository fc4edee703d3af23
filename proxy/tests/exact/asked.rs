//! Whole proxies that ask a rate limit service, and what they do when it is away, hangs, or talks nonsense.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Request;
use serde_json::{Value, json};
use tidegate_policy::model::{AppProtocol, TargetKind};
use tidegate_testkit::backend::FaultBackend;
use tidegate_testkit::body::{TestBody, empty};
use tidegate_testkit::client::Client;
use tidegate_xds::rls::{
    Code, DescriptorStatus, HeaderValue, RateLimit, RateLimitRequest, RateLimitResponse, RateLimitService,
    RateLimitServiceServer,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Response, Status};

use crate::mesh::{Gateway, policy, service_at};

/// Lets two of each tenant through; `hangs` gets no answer.
#[derive(Clone, Default)]
struct Two(Arc<AtomicUsize>);

fn header(key: &str, value: &str) -> HeaderValue {
    HeaderValue { key: key.to_owned(), value: value.to_owned(), raw_value: Vec::new() }
}

#[tonic::async_trait]
impl RateLimitService for Two {
    async fn should_rate_limit(
        &self,
        request: tonic::Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let request = request.into_inner();
        let entry = &request.descriptors[0].entries[0];
        assert_eq!((&*request.domain, &*entry.key), ("edge", "tenant"));
        if entry.value == "hangs" {
            return std::future::pending().await;
        }
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let code = if before < 2 { Code::Ok } else { Code::OverLimit };
        let status = DescriptorStatus {
            code: code.into(),
            current_limit: Some(RateLimit { requests_per_unit: 2, unit: 3, ..RateLimit::default() }),
            limit_remaining: u32::try_from(1_usize.saturating_sub(before)).unwrap(),
            duration_until_reset: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        };
        Ok(Response::new(RateLimitResponse {
            overall_code: code.into(),
            statuses: vec![status],
            response_headers_to_add: vec![header("x-plan", "gold"), header("content-length", "1")],
            request_headers_to_add: vec![header("x-seen", "1"), header("host", "evil")],
            raw_body: b"slow down".to_vec(),
        }))
    }
}

async fn serve(service: Two) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().add_service(RateLimitServiceServer::new(service));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    address
}

async fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A gateway whose service is at these addresses.
async fn gateway(backend: &FaultBackend, services: &[SocketAddr], service: Value) -> (Gateway, Client) {
    let mut gateway = Gateway::start().to(&[backend.address()]).await;
    gateway.apply(service_at("limits", AppProtocol::Http1, services));
    let mut written =
        json!({"backendRef": {"name": "limits", "port": 80}, "domain": "edge", "timeout": "1s"});
    written.as_object_mut().unwrap().extend(service.as_object().unwrap().clone());
    let from = json!({"type": "Header", "name": "x-tenant"});
    let mut limit = json!({"name": "tenant", "descriptor": [{"key": "tenant", "from": from}]});
    if written.get("onFailure").is_none() {
        limit.as_object_mut().unwrap().extend([("requests".into(), json!(30)), ("per".into(), json!("1h"))]);
    }
    let spec = json!({
        "scope": "Service", "service": written, "limits": [limit], "responseHeaders": ["RateLimit", "XRateLimit"],
    });
    gateway.apply(vec![policy("RateLimitPolicy", (TargetKind::HTTPRoute, "all"), spec)]);
    let client = Client::http1(gateway.address().await).await;
    (gateway, client)
}

fn of(tenant: &str) -> Request<TestBody> {
    Request::get("/").header("host", "app").header("x-tenant", tenant).body(empty()).unwrap()
}

async fn passed(client: &mut Client, requests: usize) -> usize {
    let mut passed = 0;
    for _ in 0..requests {
        passed += usize::from(client.call(of("gold")).await.status == 200);
    }
    passed
}

async fn page(gateway: &Gateway) -> String {
    let body = Client::http1(gateway.running.admin()).await.get("/metrics").await.body;
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn the_service_counts_and_its_words_reach_client_and_backend() {
    let (backend, two) = (FaultBackend::start().await, Two::default());
    let (gateway, mut client) = gateway(&backend, &[serve(two.clone()).await], json!({})).await;
    let first = client.call(of("gold")).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.headers["ratelimit"], "\"tenant\";r=1;t=60");
    assert_eq!(first.headers["ratelimit-policy"], "\"tenant\";q=2;w=3600");
    assert_eq!(
        (&first.headers["x-ratelimit-limit"], &first.headers["x-plan"]),
        (&"2".parse().unwrap(), &"gold".parse().unwrap())
    );
    assert_eq!(passed(&mut client, 5).await, 1);
    let refused = client.call(of("gold")).await;
    assert_eq!((refused.status.as_u16(), &*refused.body), (429, &b"slow down"[..]));
    assert_eq!(
        (refused.reason(), &refused.headers["retry-after"]),
        (Some("rate_limited"), &"60".parse().unwrap())
    );
    assert_eq!(two.0.load(Ordering::Relaxed), 7, "each is asked for once");
    let page = page(&gateway).await;
    let line = "tidegate_limit_service_total{service=\"shop/limits:80\",result=\"answered\"} 7\n";
    assert!(page.contains(line), "{page}");
}

#[tokio::test]
async fn grpc_is_told_that_its_resource_is_exhausted() {
    let backend = FaultBackend::start().await;
    let (_gateway, mut client) =
        gateway(&backend, &[serve(Two(Arc::new(AtomicUsize::new(9)))).await], json!({})).await;
    let mut call = of("gold");
    call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let answer = client.call(call).await;
    assert_eq!((answer.status.as_u16(), &answer.headers["grpc-status"]), (200, &"8".parse().unwrap()));
}

#[tokio::test]
async fn without_the_service_what_is_written_for_that_decides() {
    let backend = FaultBackend::start().await;
    for (service, want) in [
        (json!({"fallbackPercent": 20}), 6),
        (json!({"onFailure": "Allow"}), 20),
        (json!({"onFailure": "Deny"}), 0),
    ] {
        for services in [vec![], vec![nowhere().await]] {
            let (gateway, mut client) = gateway(&backend, &services, service.clone()).await;
            assert_eq!(passed(&mut client, 20).await, want, "{service} {services:?}");
            let line = "tidegate_limit_service_total{service=\"shop/limits:80\",result=\"fell_back\"} 20\n";
            let page = page(&gateway).await;
            assert!(page.contains(line), "{page}");
        }
    }
}

#[tokio::test]
async fn a_service_that_hangs_is_waited_for_as_long_as_is_written_and_soon_no_more() {
    let backend = FaultBackend::start().await;
    let service = json!({"timeout": "5ms", "onFailure": "Allow"});
    let (gateway, mut client) = gateway(&backend, &[serve(Two::default()).await], service).await;
    for _ in 0..30 {
        assert_eq!(client.call(of("hangs")).await.status, 200);
    }
    let page = page(&gateway).await;
    let line = "tidegate_limit_service_total{service=\"shop/limits:80\",result=\"timed_out\"} ";
    let timed_out = page.split(line).nth(1).and_then(|rest| rest.lines().next()).unwrap();
    let timed_out: u32 = timed_out.parse().unwrap();
    assert!((5..30).contains(&timed_out), "{timed_out}");
}

#[tokio::test]
async fn one_that_speaks_no_grpc_is_no_answer() {
    let (backend, listener) = (FaultBackend::start().await, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let (_gateway, mut client) = gateway(&backend, &[address], json!({"onFailure": "Deny"})).await;
    assert_eq!(passed(&mut client, 10).await, 0);
}

#[tokio::test]
async fn where_one_endpoint_is_away_another_is_asked_and_no_request_is_judged_without() {
    let (backend, two) = (FaultBackend::start().await, Two::default());
    let services = [nowhere().await, serve(two.clone()).await, nowhere().await];
    let (_gateway, mut client) = gateway(&backend, &services, json!({"onFailure": "Deny"})).await;
    assert_eq!(passed(&mut client, 12).await, 2);
    assert_eq!(two.0.load(Ordering::Relaxed), 12);
}

#[tokio::test]
async fn a_service_that_no_policy_names_any_more_is_forgotten() {
    let (backend, two) = (FaultBackend::start().await, Two::default());
    let (mut gateway, mut client) = gateway(&backend, &[serve(two).await], json!({})).await;
    assert_eq!(passed(&mut client, 1).await, 1);
    assert!(page(&gateway).await.contains("tidegate_limit_service_total"));
    let other = json!({"limits": [{"name": "all", "requests": 100, "per": "1h"}]});
    gateway.apply(vec![policy("RateLimitPolicy", (TargetKind::HTTPRoute, "all"), other)]);
    assert_eq!(passed(&mut client, 1).await, 1);
    assert!(!page(&gateway).await.contains("tidegate_limit_service_total"));
}
