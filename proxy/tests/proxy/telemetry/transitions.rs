//! A call that makes a breaker change its state says so in its span.

use std::sync::Arc;

use http::HeaderMap;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tidegate_policy::decision::{CallResult, RuleRef};
use tidegate_policy::health::{BreakerPhase, Evidence, Transition};
use tidegate_policy::model::SourceRef;
use tidegate_proxy::telemetry::{Direction, Telemetry};
use tidegate_testkit::otlp::OtlpCollector;
use tokio::runtime::Handle;

use super::support::{attempt, finished, head, peer, to};

#[tokio::test]
async fn a_trip_is_an_event_on_the_span_of_its_call() {
    let collector = OtlpCollector::start().await;
    let (telemetry, guard) = Telemetry::start(to(&collector), &Handle::current());
    let mut exchange = telemetry.begin(&head("GET", "/", &[]), &peer(), Direction::Outbound);
    exchange.attempt(attempt(1), &mut HeaderMap::new());
    let source = SourceRef::File { path: "breakers.yaml".into(), line: 12 };
    exchange.transition(&Transition {
        rule: Arc::new(RuleRef { name: "errors".into(), source }),
        endpoint: Some("10.0.0.2:8080".into()),
        from: BreakerPhase::Closed,
        to: BreakerPhase::Open,
        evidence: Some(Evidence::Consecutive { failures: 5 }),
    });
    exchange.attempt_done(CallResult::Status(503));
    exchange.finish(finished(503));
    guard.shutdown().await;

    let spans = collector.spans(2).await;
    let client = spans.iter().find(|span| span.kind == SpanKind::Client).unwrap();
    assert_eq!(client.events.len(), 1);
    let event = &client.events[0];
    assert_eq!(event.name, "tidegate.breaker");
    for (name, value) in [
        ("tidegate.policy.rule", "errors"),
        ("tidegate.policy.source", "breakers.yaml:12"),
        ("tidegate.endpoint", "10.0.0.2:8080"),
        ("tidegate.breaker.before", "closed"),
        ("tidegate.breaker.state", "open"),
        ("tidegate.breaker.evidence", "5 calls in a row failed"),
    ] {
        assert_eq!(event.attributes[name], value, "{name}");
    }
}
