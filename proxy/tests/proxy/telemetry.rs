//! Requests told about, end to end: real collector, real files, real scrapes.

mod decisions;
mod plugins;
mod support;
mod transitions;

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use serde_json::Value;
use support::{
    PARENT, attempt, breaker, destination, finished, head, limiter, metric, peer, quiet, refusal, to,
};
use tidegate_policy::decision::CallResult;
use tidegate_policy::kinds::rate_limit::Standing;
use tidegate_policy::overload::Load;
use tidegate_policy::{Outcome, Reason};
use tidegate_proxy::telemetry::{
    ConnectionSide, Direction, EjectedSample, LogTarget, Sampling, Scrape, Telemetry, TelemetryConfig,
    TraceSettings,
};
use tidegate_testkit::otlp::OtlpCollector;
use tokio::runtime::Handle;
use tokio::time::timeout;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test]
async fn a_trace_that_comes_in_goes_on_through_our_spans() {
    let collector = OtlpCollector::start().await;
    let (telemetry, guard) = Telemetry::start(to(&collector), &Handle::current());
    let head = head("GET", "/cart", &[("traceparent", PARENT), ("tracestate", "vendor=1")]);
    let mut exchange = telemetry.begin(&head, &peer(), Direction::Outbound);
    exchange.decided(destination());
    let mut outgoing = head.headers.clone();
    exchange.attempt(attempt(1), &mut outgoing);
    exchange.attempt_done(CallResult::Status(200));
    exchange.finish(finished(200));
    guard.shutdown().await;

    let spans = collector.spans(2).await;
    let server = spans.iter().find(|s| s.kind == SpanKind::Server).unwrap();
    let client = spans.iter().find(|s| s.kind == SpanKind::Client).unwrap();
    assert_eq!(server.trace_id, TRACE);
    assert_eq!(server.parent_span_id, "00f067aa0ba902b7");
    assert_eq!((&client.trace_id, &client.parent_span_id), (&server.trace_id, &server.span_id));
    assert_eq!(outgoing["traceparent"].to_str().unwrap(), format!("00-{TRACE}-{}-01", client.span_id));
    assert_eq!(outgoing["tracestate"], "vendor=1");
    assert_eq!(client.trace_state, "vendor=1");
}

#[tokio::test]
async fn an_invalid_traceparent_starts_a_new_trace() {
    let collector = OtlpCollector::start().await;
    let (telemetry, guard) = Telemetry::start(to(&collector), &Handle::current());
    let head = head("GET", "/", &[("traceparent", "00-4bf92f-00f067-01"), ("tracestate", "vendor=1")]);
    let mut outgoing = head.headers.clone();
    let mut exchange = telemetry.begin(&head, &peer(), Direction::Inbound);
    exchange.attempt(attempt(1), &mut outgoing);
    exchange.finish(finished(200));
    guard.shutdown().await;

    let spans = collector.spans(2).await;
    let server = spans.iter().find(|s| s.kind == SpanKind::Server).unwrap();
    assert_eq!(server.parent_span_id, "");
    assert!(outgoing["traceparent"].to_str().unwrap().starts_with(&format!("00-{}-", server.trace_id)));
    assert!(!outgoing.contains_key("tracestate"), "the state of a trace that is not continued");
}

#[tokio::test]
async fn a_trace_that_is_not_sampled_stays_so() {
    let collector = OtlpCollector::start().await;
    let (telemetry, guard) = Telemetry::start(to(&collector), &Handle::current());
    let unsampled = PARENT.replace("-01", "-00");
    let head = head("GET", "/", &[("traceparent", &unsampled)]);
    let mut outgoing = HeaderMap::new();
    let mut exchange = telemetry.begin(&head, &peer(), Direction::Inbound);
    exchange.attempt(attempt(1), &mut outgoing);
    exchange.finish(finished(200));
    telemetry
        .begin(&support::head("GET", "/sampled", &[]), &peer(), Direction::Inbound)
        .finish(finished(200));
    guard.shutdown().await;

    let sent = outgoing["traceparent"].to_str().unwrap();
    assert!(sent.starts_with(&format!("00-{TRACE}-")) && sent.ends_with("-00"), "{sent}");
    let spans = collector.spans(1).await;
    assert_eq!(spans.iter().map(|s| s.attribute("url.path")).collect::<Vec<_>>(), ["/sampled"]);
}

#[tokio::test]
async fn a_refusal_arrives_with_its_policy_rule_and_line() {
    let collector = OtlpCollector::start().await;
    let mut config = to(&collector);
    config.node = Some(String::from("sidecar~checkout-1"));
    let (telemetry, guard) = Telemetry::start(config, &Handle::current());
    let headers = [("host", "checkout.shop:8080"), ("user-agent", "curl/8"), ("traceparent", PARENT)];
    let mut exchange = telemetry.begin(&head("POST", "/pay?card=1", &headers), &peer(), Direction::Inbound);
    exchange.decided(destination());
    exchange.finish(refusal());
    guard.shutdown().await;

    let spans = collector.spans(1).await;
    let span = &spans[0];
    let expected = [
        ("http.request.method", "POST"),
        ("url.scheme", "http"),
        ("url.path", "/pay"),
        ("network.protocol.version", "1.1"),
        ("client.address", "192.0.2.7"),
        ("server.address", "checkout.shop"),
        ("server.port", "8080"),
        ("user_agent.original", "curl/8"),
        ("http.response.status_code", "429"),
        ("http.request.body.size", "0"),
        ("http.response.body.size", "18"),
        ("tidegate.direction", "inbound"),
        ("tidegate.peer", "spiffe://cluster.local/ns/shop/sa/storefront"),
        ("tidegate.route", "shop/checkout"),
        ("tidegate.rule", "pay"),
        ("tidegate.backend", "shop/checkout-v2:8080"),
        ("tidegate.weight", "10"),
        ("tidegate.reason", "rate_limited"),
        ("tidegate.decision", "refused"),
        ("tidegate.policy.kind", "RateLimitPolicy"),
        ("tidegate.policy.namespace", "shop"),
        ("tidegate.policy.name", "per-user"),
        ("tidegate.policy.rule", "burst"),
        ("tidegate.policy.source", "policies/limits.yaml:14"),
        ("tidegate.policy.detail", "remaining=0"),
        ("tidegate.breaker.state", "half_open"),
    ];
    let expected = expected.map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(span.attributes, expected.into_iter().collect());
    assert_eq!(span.name, "POST shop/checkout");
    assert_eq!(span.status, SpanStatus::Unset, "a 4xx is the client's error");
    let events: Vec<_> = span
        .events
        .iter()
        .map(|e| (&*e.name, &*e.attributes["tidegate.decision"], &*e.attributes["tidegate.policy.source"]))
        .collect();
    assert_eq!(
        events,
        [
            ("tidegate.decision", "would_refuse", "shop/checkout-circuit@3"),
            ("tidegate.decision", "refused", "policies/limits.yaml:14"),
        ]
    );
    assert_eq!(span.resource["service.name"], "tidegate");
    assert_eq!(span.resource["service.instance.id"], "sidecar~checkout-1");
}

#[tokio::test]
async fn a_method_nobody_knows_names_no_span() {
    let collector = OtlpCollector::start().await;
    let (telemetry, guard) = Telemetry::start(to(&collector), &Handle::current());
    let mut exchange = telemetry.begin(&head("BREW", "/pot", &[]), &peer(), Direction::Inbound);
    exchange.decided(destination());
    exchange.finish(finished(200));
    guard.shutdown().await;
    let spans = collector.spans(1).await;
    assert_eq!(spans[0].name, "HTTP shop/checkout");
    assert_eq!(spans[0].attribute("http.request.method"), "_OTHER");
    assert_eq!(spans[0].attribute("http.request.method_original"), "BREW");
}

#[tokio::test]
async fn every_attempt_has_a_span_and_the_server_fails_by_its_last_word() {
    let collector = OtlpCollector::start().await;
    let (telemetry, guard) = Telemetry::start(to(&collector), &Handle::current());
    let headers = [("content-type", "application/grpc+proto"), ("host", "user:secret@checkout.shop:80")];
    let mut exchange =
        telemetry.begin(&head("POST", "/shop.Checkout/Pay", &headers), &peer(), Direction::Outbound);
    exchange.decided(destination());
    exchange.attempt(attempt(1), &mut HeaderMap::new());
    exchange.attempt_done(CallResult::Failed(Reason::ConnectFailed));
    exchange.attempt(attempt(2), &mut HeaderMap::new());
    exchange.attempt_done(CallResult::Status(200));
    let mut end = finished(200);
    end.grpc_status = Some(14);
    // A refused attempt that another one made good decides nothing.
    end.decisions.push(breaker(Outcome::Refused(Reason::CircuitOpen)));
    exchange.finish(end);
    guard.shutdown().await;

    let spans = collector.spans(3).await;
    let by_attempt = |kind, number| {
        spans.iter().find(|s| s.kind == kind && s.attribute("tidegate.attempt") == number).unwrap()
    };
    let failed = by_attempt(SpanKind::Client, "1");
    assert_eq!((failed.status, failed.attribute("error.type")), (SpanStatus::Error, "connect_failed"));
    let answered = by_attempt(SpanKind::Client, "2");
    assert_eq!(answered.attribute("http.request.resend_count"), "1");
    assert_eq!(answered.attribute("rpc.response.status_code"), "UNAVAILABLE");
    assert_eq!(answered.attribute("server.address"), "10.0.0.2");
    assert_eq!(answered.attribute("server.port"), "8080");
    assert_eq!(answered.attribute("url.full"), "http://checkout.shop:80/shop.Checkout/Pay");
    let server = by_attempt(SpanKind::Server, "2");
    assert_eq!(server.name, "shop.Checkout/Pay");
    assert_eq!(server.attribute("rpc.system.name"), "grpc");
    assert_eq!(server.attribute("rpc.method"), "shop.Checkout/Pay");
    assert_eq!(server.attribute("rpc.response.status_code"), "UNAVAILABLE");
    assert_eq!((server.status, server.attribute("error.type")), (SpanStatus::Error, "UNAVAILABLE"));
    assert_eq!(server.attribute("tidegate.decision"), "allowed");
}

#[tokio::test]
async fn a_collector_that_hangs_costs_spans_and_nothing_else() {
    let collector = OtlpCollector::start().await;
    collector.hang();
    let mut config = to(&collector);
    config.traces =
        TraceSettings { queue: 16, batch: 4, timeout: Duration::from_secs(3_600), ..config.traces };
    config.flush_bound = Duration::from_millis(1);
    let (telemetry, guard) = Telemetry::start(config, &Handle::current());
    let request = |path: &str| {
        let exchange = telemetry.begin(&head("GET", path, &[]), &peer(), Direction::Inbound);
        exchange.finish(finished(200));
    };
    request("/first");
    collector.calls(1).await;
    for _ in 0..1_000 {
        request(&"/long".repeat(10_000));
    }
    let dropped = metric(&telemetry, "tidegate_telemetry_dropped_total{signal=\"traces\"}");
    // 16 wait, at most 4 are on the way.
    assert!((980..=1_000).contains(&dropped), "{dropped}");
    let served = "tidegate_requests_total{direction=\"inbound\",route=\"\",backend=\"\",code=\"200\",\
                  grpc_code=\"\",reason=\"\"}";
    assert_eq!(metric(&telemetry, served), 1_001);
    guard.shutdown().await;
}

#[tokio::test]
async fn a_collector_that_comes_back_gets_spans_again() {
    let collector = OtlpCollector::start().await;
    collector.hang();
    let mut config = to(&collector);
    config.traces.timeout = Duration::from_millis(50);
    let (telemetry, guard) = Telemetry::start(config, &Handle::current());
    telemetry.begin(&head("GET", "/lost", &[]), &peer(), Direction::Inbound).finish(finished(200));
    collector.calls(1).await;
    collector.recover();
    // On a slow machine the next ones may be given up too; not all of them.
    let spans = loop {
        telemetry.begin(&head("GET", "/kept", &[]), &peer(), Direction::Inbound).finish(finished(200));
        if let Ok(spans) = timeout(Duration::from_millis(100), collector.spans(1)).await {
            break spans;
        }
    };
    assert_eq!(spans[0].attribute("url.path"), "/kept");
    assert!(metric(&telemetry, "tidegate_telemetry_dropped_total{signal=\"traces\"}") >= 1);
    guard.shutdown().await;
}

#[tokio::test]
async fn spans_for_a_collector_that_is_away_are_counted_as_dropped() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut config = quiet();
    config.traces.endpoint = Some(format!("http://{free}"));
    config.traces.timeout = Duration::from_millis(50);
    let (telemetry, guard) = Telemetry::start(config, &Handle::current());
    for _ in 0..3 {
        telemetry.begin(&head("GET", "/", &[]), &peer(), Direction::Inbound).finish(finished(200));
    }
    guard.shutdown().await;
    assert_eq!(metric(&telemetry, "tidegate_telemetry_dropped_total{signal=\"traces\"}"), 3);
}

#[tokio::test]
async fn without_a_collector_a_trace_passes_through_as_it_came() {
    let (telemetry, _guard) = Telemetry::start(quiet(), &Handle::current());
    let head = head("GET", "/", &[("traceparent", PARENT), ("tracestate", "vendor=1")]);
    let mut outgoing = head.headers.clone();
    let mut exchange = telemetry.begin(&head, &peer(), Direction::Inbound);
    exchange.attempt(attempt(1), &mut outgoing);
    assert_eq!(outgoing, head.headers);

    let mut outgoing = HeaderMap::new();
    let mut exchange = telemetry.begin(&support::head("GET", "/", &[]), &peer(), Direction::Inbound);
    exchange.attempt(attempt(1), &mut outgoing);
    assert_eq!(exchange.trace_id(), None);
    assert!(outgoing.is_empty(), "the first span of such a trace would be missing");
}

#[tokio::test]
async fn a_disabled_sdk_touches_no_header_and_starts_no_trace() {
    let mut config = quiet();
    config.traces.disabled = true;
    let (telemetry, _guard) = Telemetry::start(config, &Handle::current());
    let mut outgoing = HeaderMap::new();
    let mut exchange = telemetry.begin(&head("GET", "/", &[]), &peer(), Direction::Inbound);
    exchange.attempt(attempt(1), &mut outgoing);
    assert_eq!(exchange.trace_id(), None);
    assert!(outgoing.is_empty());
}

#[tokio::test]
async fn a_collector_address_that_makes_no_sense_leaves_the_proxy_working() {
    let mut config = quiet();
    config.traces.endpoint = Some(String::from("not an address"));
    let (telemetry, guard) = Telemetry::start(config, &Handle::current());
    telemetry.begin(&head("GET", "/", &[]), &peer(), Direction::Inbound).finish(finished(200));
    assert_eq!(
        metric(&telemetry, "tidegate_request_duration_seconds_count{direction=\"inbound\",route=\"\"}"),
        1
    );
    guard.shutdown().await;
}

#[tokio::test]
async fn the_access_log_tells_what_the_span_tells_under_the_same_names() {
    let collector = OtlpCollector::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut config = to(&collector);
    config.access_log = LogTarget::File(file.path().to_owned());
    let (telemetry, guard) = Telemetry::start(config, &Handle::current());
    let path = format!("/\u{e4}\"{}", "x".repeat(5_000)).replace(['\u{e4}', '"'], "%22");
    let mut exchange = telemetry.begin(&head("GET", &path, &[]), &peer(), Direction::Gateway);
    exchange.decided(destination());
    exchange.finish(refusal());
    drop(telemetry.begin(&head("GET", "/gone", &[]), &peer(), Direction::Gateway));
    guard.shutdown().await;

    let text = std::fs::read_to_string(file.path()).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [refused, gone] = &lines[..] else { panic!("two lines: {text}") };
    let spans = collector.spans(2).await;
    let span = spans.iter().find(|s| s.attribute("tidegate.reason") == "rate_limited").unwrap();
    assert_eq!(refused["trace_id"], span.trace_id.as_str());
    assert_eq!(refused["span_id"], span.span_id.as_str());
    for (name, value) in &span.attributes {
        let logged = refused[name].as_str().map_or_else(|| refused[name].to_string(), str::to_owned);
        assert_eq!(logged, *value, "{name}");
    }
    assert!(refused["url.path"].as_str().unwrap().len() < 1_100, "what clients send is bounded");
    assert!(refused["duration_ms"].is_f64());
    assert_eq!(
        refused["decisions"][1],
        serde_json::json!({
            "policy": "shop/per-user", "kind": "RateLimitPolicy", "rule": "burst",
            "source": "policies/limits.yaml:14", "outcome": "refused", "reason": "rate_limited",
            "detail": "remaining=0",
        })
    );
    assert_eq!(gone["tidegate.reason"], "client_gone");
    assert_eq!(gone["http.response.status_code"], 499);
}

#[tokio::test]
async fn metrics_count_requests_decisions_connections_and_what_is_scraped() {
    let (telemetry, _guard) = Telemetry::start(quiet(), &Handle::current());
    for _ in 0..3 {
        let mut exchange = telemetry.begin(&head("GET", "/", &[]), &peer(), Direction::Inbound);
        exchange.decided(destination());
        exchange.finish(refusal());
    }
    let mut open = telemetry.begin(&head("GET", "/", &[]), &peer(), Direction::Outbound);
    open.attempt(attempt(1), &mut HeaderMap::new());
    open.attempt_done(CallResult::Status(503));
    let connection = telemetry.connection(ConnectionSide::Upstream);
    drop(telemetry.connection(ConnectionSide::Upstream));
    let scrape = Scrape {
        plugins: Vec::new(),
        plugin_metrics: Vec::new(),
        identity: None,
        xds_connected: Some(true),
        config_age: Some(Duration::from_secs(5)),
        breakers: vec![support::breaker_sample()],
        ejected: vec![EjectedSample {
            policy: "shop/checkout-circuit".into(),
            backend: "shop/checkout:8080".into(),
            ejected: 1,
        }],
        health: Vec::new(),
        exact: None,
        services: Vec::new(),
        lent: Standing { assigned: 2, reused: 0, fallback: 1 },
        gates: vec![("shop/guard".into(), Load { limit: 24, in_flight: 20, queued: 3 })],
    };
    let text = telemetry.render_metrics(&scrape);
    let expected = [
        "tidegate_overload_limit{policy=\"shop/guard\"} 24",
        "tidegate_overload_in_flight{policy=\"shop/guard\"} 20",
        "tidegate_overload_queued{policy=\"shop/guard\"} 3",
        "tidegate_requests_total{direction=\"inbound\",route=\"shop/checkout\",backend=\"shop/checkout-v2:8080\",\
         code=\"429\",grpc_code=\"\",reason=\"rate_limited\"} 3",
        "tidegate_request_duration_seconds_count{direction=\"inbound\",route=\"shop/checkout\"} 3",
        "tidegate_policy_decisions_total{kind=\"RateLimitPolicy\",policy=\"shop/per-user\",rule=\"burst\",\
         outcome=\"refused\"} 3",
        "tidegate_policy_decisions_total{kind=\"CircuitBreakerPolicy\",policy=\"shop/checkout-circuit\",\
         rule=\"failures\",outcome=\"would_refuse\"} 3",
        "tidegate_policy_rule_info{kind=\"RateLimitPolicy\",policy=\"shop/per-user\",rule=\"burst\",\
         source=\"policies/limits.yaml:14\"} 1",
        "tidegate_attempts_total{backend=\"shop/checkout-v2:8080\",result=\"5xx\"} 1",
        "tidegate_in_flight_requests{direction=\"inbound\"} 0",
        "tidegate_in_flight_requests{direction=\"outbound\"} 1",
        "tidegate_connections{side=\"upstream\"} 1",
        "tidegate_connections_opened_total{side=\"upstream\"} 2",
        "tidegate_xds_connected 1",
        "tidegate_config_age_seconds 5.0",
        "tidegate_breaker_state{policy=\"shop/checkout-circuit\",backend=\"shop/checkout:8080\",\
         endpoint=\"10.0.0.2:8080\",rule=\"failures\"} 2",
        "tidegate_breaker_transitions_total{policy=\"shop/checkout-circuit\",backend=\"shop/checkout:8080\",\
         endpoint=\"10.0.0.2:8080\",rule=\"failures\",to=\"open\"} 2",
        "tidegate_ejected_endpoints{policy=\"shop/checkout-circuit\",backend=\"shop/checkout:8080\"} 1",
        "tidegate_mesh_limit_buckets{standing=\"assigned\"} 2",
        "tidegate_mesh_limit_buckets{standing=\"fallback\"} 1",
        "tidegate_telemetry_dropped_total{signal=\"traces\"} 0",
        "tidegate_telemetry_dropped_total{signal=\"access_log\"} 0",
    ];
    for line in expected {
        assert!(text.lines().any(|l| l == line), "{line}\nis not in\n{text}");
    }
    assert!(metric(&telemetry, "process_resident_memory_bytes") > 100_000);
    assert!(text.ends_with("# EOF\n"));
    drop((open, connection));
    assert_eq!(metric(&telemetry, "tidegate_in_flight_requests{direction=\"outbound\"}"), 0);
    assert_eq!(metric(&telemetry, "tidegate_connections{side=\"upstream\"}"), 0);
}

#[tokio::test]
async fn a_rule_that_moves_to_another_line_is_told_at_its_new_line() {
    let (telemetry, _guard) = Telemetry::start(quiet(), &Handle::current());
    for line in [14, 15] {
        let mut end = refusal();
        end.decisions[1] = limiter(line);
        telemetry.begin(&head("GET", "/", &[]), &peer(), Direction::Inbound).finish(end);
    }
    let text = telemetry.render_metrics(&Scrape::default());
    assert!(text.contains("policies/limits.yaml:15") && !text.contains("policies/limits.yaml:14"), "{text}");
}

#[tokio::test]
async fn label_sets_are_capped() {
    let (telemetry, _guard) =
        Telemetry::start(TelemetryConfig { series_cap: 10, ..quiet() }, &Handle::current());
    for n in 0..1_000 {
        let mut exchange = telemetry.begin(&head("GET", "/", &[]), &peer(), Direction::Inbound);
        let route: Arc<str> = format!("shop/r{n}").into();
        exchange.decided(tidegate_proxy::telemetry::Destination { route: Some(route), ..destination() });
        exchange.finish(finished(200));
    }
    let text = telemetry.render_metrics(&Scrape::default());
    let series = text.lines().filter(|l| l.starts_with("tidegate_requests_total{")).count();
    assert_eq!(series, 11);
    let other = "tidegate_requests_total{direction=\"inbound\",route=\"other\",backend=\"other\",code=\"200\",\
                 grpc_code=\"\",reason=\"\"}";
    assert_eq!(metric(&telemetry, other), 990);
}

/// Prints what a request costs; asserts only that none is lost or counted twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_on_many_threads_are_each_counted_once() {
    const THREADS: u64 = 4;
    const EACH: u64 = 5_000;
    let collector = OtlpCollector::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let logged = TelemetryConfig { access_log: LogTarget::File(file.path().to_owned()), ..quiet() };
    for (what, config) in [("metrics", quiet()), ("and log", logged), ("and traces", to(&collector))] {
        let traced = config.traces.endpoint.is_some();
        let lines = matches!(config.access_log, LogTarget::File(_));
        let (telemetry, guard) = Telemetry::start(config, &Handle::current());
        let started = Instant::now();
        let threads = (0..THREADS).map(|_| {
            let telemetry = telemetry.clone();
            tokio::task::spawn_blocking(move || {
                let head = head("GET", "/cart", &[("host", "shop"), ("user-agent", "curl/8")]);
                for _ in 0..EACH {
                    let mut exchange = telemetry.begin(&head, &peer(), Direction::Inbound);
                    exchange.decided(destination());
                    exchange.finish(refusal());
                }
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            thread.await.unwrap();
        }
        let nanos = started.elapsed().as_nanos() / u128::from(THREADS * EACH);
        println!("{what}: {nanos} ns a request on {THREADS} threads, unoptimized");
        guard.shutdown().await;
        let durations =
            "tidegate_request_duration_seconds_count{direction=\"inbound\",route=\"shop/checkout\"}";
        assert_eq!(metric(&telemetry, durations), THREADS * EACH);
        if traced {
            let dropped = metric(&telemetry, "tidegate_telemetry_dropped_total{signal=\"traces\"}");
            let sent = usize::try_from(THREADS * EACH - dropped).unwrap();
            assert_eq!(collector.spans(sent).await.len(), sent);
        }
        if lines {
            let dropped = metric(&telemetry, "tidegate_telemetry_dropped_total{signal=\"access_log\"}");
            let text = std::fs::read_to_string(file.path()).unwrap();
            assert!(text.lines().all(|line| line.starts_with('{') && line.ends_with('}')));
            assert_eq!(text.lines().count(), usize::try_from(THREADS * EACH - dropped).unwrap());
        }
    }
}

#[test]
fn an_exchange_may_travel_between_threads() {
    fn travels<T: Send + 'static>() {}
    travels::<tidegate_proxy::telemetry::Exchange>();
}

/// Runs itself in a second process, because a test must not change its own environment.
#[tokio::test]
async fn the_environment_says_where_spans_go_and_who_sends_them() {
    const CHILD: &str = "TIDEGATE_TEST_IS_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let traces = TraceSettings::from_env();
        assert_eq!(traces.sampling, Sampling::Ratio(1.0));
        let (telemetry, guard) = Telemetry::start(TelemetryConfig { traces, ..quiet() }, &Handle::current());
        let unsampled = PARENT.replace("-01", "-00");
        let head = head("GET", "/from-child", &[("traceparent", &unsampled)]);
        telemetry.begin(&head, &peer(), Direction::Inbound).finish(finished(200));
        return guard.shutdown().await;
    }
    let collector = OtlpCollector::start().await;
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "telemetry::the_environment_says_where_spans_go_and_who_sends_them"])
        .env(CHILD, "1")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=shop")
        .env("OTEL_SERVICE_NAME", "storefront")
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.instance.id=me")
        .env("OTEL_TRACES_SAMPLER", "traceidratio")
        .env("OTEL_TRACES_SAMPLER_ARG", "1.0");
    let status = tokio::task::spawn_blocking(move || child.status()).await.unwrap().unwrap();
    assert!(status.success());
    let spans = collector.spans(1).await;
    assert_eq!(spans[0].attribute("url.path"), "/from-child");
    assert_eq!(spans[0].resource["service.name"], "storefront");
    assert_eq!(spans[0].resource["service.instance.id"], "me");
    assert_eq!(spans[0].resource["deployment.environment.name"], "test");
    assert_eq!(collector.metadata().get("x-tenant").unwrap(), "shop");
}
