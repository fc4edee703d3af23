//! What plugins cost a request, as a collector is told by a whole proxy.

use std::time::Duration;

use serde_json::json;
use tidegate_proxy::telemetry::{Sampling, TraceSettings};
use tidegate_testkit::backend::FaultBackend;
use tidegate_testkit::otlp::{OtlpCollector, ReceivedEvent};

use super::module::{callback, event};
use super::{PAUSE, Plugged};
use crate::mesh::get;

async fn told(functions: &[String], sampling: Sampling) -> Vec<ReceivedEvent> {
    let (backend, collector) = (FaultBackend::start().await, OtlpCollector::start().await);
    let endpoint = Some(collector.endpoint());
    let traces =
        TraceSettings { endpoint, sampling, delay: Duration::from_millis(1), ..TraceSettings::default() };
    let plugged = Plugged::with(&backend, functions, json!({}), |config| config.traces = Some(traces)).await;
    plugged.call(get("/")).await;
    plugged.gateway.running.shutdown();
    plugged.gateway.running.wait().await;
    let spans = collector.spans(1).await;
    spans.into_iter().flat_map(|span| span.events).filter(|event| event.name == "tidegate.plugin").collect()
}

#[tokio::test]
async fn the_span_of_a_request_tells_of_each_plugin_its_calls_its_time_and_cpu_and_its_word() {
    let spin = "(local $n i32) (loop $again
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $n) (i32.const 3000000))))";
    let events = told(&[callback("request_headers", 3, spin), event("log", 1, "")], Sampling::AlwaysOn).await;
    let [event] = &*events else { panic!("{events:?}") };
    let of = |name: &str| event.attributes[&format!("tidegate.plugin.{name}")].clone();
    assert_eq!(
        (of("name"), of("callbacks"), of("verdict")),
        ("shop/policy".into(), "2".into(), "done".into())
    );
    let number = |name: &str| of(name).parse::<u64>().unwrap();
    assert!(number("cpu_us") > 0 && number("time_us") > 0, "{event:?}");
}

#[tokio::test]
async fn a_plugin_that_answers_or_fails_is_told_as_one_that_does() {
    let answer = "(drop (call $send_local_response (i32.const 403) @\"\" @\"no\" @{} (i32.const -1)))";
    for (body, verdict) in
        [(format!("{answer} {PAUSE}"), "answered"), (String::from("unreachable"), "failed")]
    {
        let events = told(&[callback("request_headers", 3, &body)], Sampling::AlwaysOn).await;
        assert_eq!(events[0].attributes["tidegate.plugin.verdict"], verdict);
    }
}
