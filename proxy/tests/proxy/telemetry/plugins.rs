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
    let plugin = |plugin: &str, callbacks, microseconds, verdict| PluginTime {
        plugin: plugin.into(),
        callbacks,
        time: Duration::from_micros(microseconds),
        cpu: (microseconds < 1_000).then(|| Duration::from_micros(microseconds - 1)),
        answered: verdict != "done",
        failed: verdict == "failed",
    };
    let plugins = vec![
        plugin("shop/auth", 4, 31, "answered"),
        plugin("shop/count", 2, 7, "done"),
        plugin("shop/redact", 1, 20_000, "failed"),
    ];
    exchange.finish(Finished { plugins, ..finished(503) });
    guard.shutdown().await;

    let spans = collector.spans(1).await;
    let server = spans.iter().find(|span| span.kind == SpanKind::Server).unwrap();
    let told: Vec<_> = server
        .events
        .iter()
        .map(|event| {
            let of = |name: &str| event.attributes.get(&format!("tidegate.plugin.{name}")).cloned();
            let of = ["name", "callbacks", "time_us", "cpu_us", "verdict"]
                .map(|name| of(name).unwrap_or_default());
            (event.name.clone(), of.join(" "))
        })
        .collect();
    let event = |told: &str| (String::from("tidegate.plugin"), told.to_owned());
    let expected = ["shop/auth 4 31 30 answered", "shop/count 2 7 6 done", "shop/redact 1 20000  failed"];
    assert_eq!(told, expected.map(event));
}
