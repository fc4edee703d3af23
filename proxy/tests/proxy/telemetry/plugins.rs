//! What plugins cost a request is told on its span.

use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tidegate_proxy::telemetry::{Direction, Finished, PluginTime, Telemetry};
use tidegate_testkit::otlp::OtlpCollector;
use tokio::runtime::Handle;

use super::support::{finished, head, peer, to};

#[tokio::test]
async fn each_plugin_is_an_event_with_its_time_and_how_it_ended() {
    let collector = OtlpCollector::start().await;
    let (telemetry, guard) = Telemetry::start(to(&collector), &Handle::current());
    let exchange = telemetry.begin(&head("GET", "/", &[]), &peer(), Direction::Inbound);
    let plugin = |plugin: &str, callbacks, microseconds, failed| PluginTime {
        plugin: plugin.into(),
        callbacks,
        time: Duration::from_micros(microseconds),
        failed,
    };
    let plugins = vec![plugin("shop/auth", 4, 31, false), plugin("shop/redact", 1, 20_000, true)];
    exchange.finish(Finished { plugins, ..finished(503) });
    guard.shutdown().await;

    let spans = collector.spans(1).await;
    let server = spans.iter().find(|span| span.kind == SpanKind::Server).unwrap();
    let told: Vec<_> = server
        .events
        .iter()
        .map(|event| {
            let of = |name: &str| event.attributes[&format!("tidegate.plugin.{name}")].clone();
            (event.name.clone(), of("name"), of("callbacks"), of("time_us"), of("verdict"))
        })
        .collect();
    let event = |name: &str, callbacks: &str, time: &str, verdict: &str| {
        let text = str::to_owned;
        (text("tidegate.plugin"), text(name), text(callbacks), text(time), text(verdict))
    };
    assert_eq!(told, [event("shop/auth", "4", "31", "done"), event("shop/redact", "1", "20000", "failed")]);
}
