//! What is kept of single requests, and found again.

use std::sync::Arc;

use http::HeaderMap;
use tidegate_policy::decision::DecisionRecord;
use tidegate_proxy::telemetry::{
    DecisionQuery, DecisionSettings, Direction, Finished, Telemetry, TelemetryConfig,
};
use tokio::runtime::Handle;

use super::support::{PARENT, attempt, destination, finished, head, peer, quiet, refusal};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn keeping(decisions: DecisionSettings) -> Arc<Telemetry> {
    let node = Some(String::from("web-1"));
    Telemetry::start(TelemetryConfig { decisions, node, ..quiet() }, &Handle::current()).0
}

fn tell(telemetry: &Arc<Telemetry>, parent: &str, finished: Finished) {
    let head = head("POST", "/pay?card=1234", &[("host", "shop.example"), ("traceparent", parent)]);
    let mut exchange = telemetry.begin(&head, &peer(), Direction::Outbound);
    exchange.decided(destination());
    exchange.attempt(attempt(2), &mut HeaderMap::new());
    exchange.finish(finished);
}

fn parent(number: u64) -> String {
    format!("00-{number:032x}-00f067aa0ba902b7-01")
}

fn found(telemetry: &Telemetry, query: &str) -> Vec<DecisionRecord> {
    telemetry.decisions(&DecisionQuery::parse(query).unwrap())
}

#[tokio::test]
async fn a_refused_request_is_found_by_its_trace_with_policy_rule_and_line() {
    let telemetry = keeping(DecisionSettings::default());
    tell(&telemetry, PARENT, refusal());
    let hops = found(&telemetry, &format!("trace_id={TRACE}"));
    assert_eq!(hops, found(&telemetry, &format!("id={TRACE}&refused")));
    let [hop] = &hops[..] else { panic!("{hops:?}") };
    assert_eq!(
        (hop.node.as_str(), hop.direction.as_str(), hop.kept.as_str()),
        ("web-1", "outbound", "refused")
    );
    assert_eq!((hop.status, hop.reason.as_deref(), hop.attempts), (429, Some("rate_limited"), 2));
    assert_eq!((hop.host.as_str(), hop.path.as_str()), ("shop.example", "/pay"), "never the query");
    assert_eq!(hop.route.as_deref(), Some("shop/checkout"));
    assert_eq!(hop.source.as_deref(), Some("routes.yaml:7"));
    let said: Vec<_> = hop.decisions.iter().map(ToString::to_string).collect();
    let limit =
        "RateLimitPolicy shop/per-user burst (policies/limits.yaml:14): refused rate_limited remaining=0";
    assert_eq!(said[1], limit);
    assert!(found(&telemetry, "trace_id=4bf92f3577b34da6a3ce929d0e0e4737").is_empty());
    assert!(found(&telemetry, "request_id=x").is_empty());
}

#[tokio::test]
async fn of_refused_requests_the_newest_are_kept_and_nothing_takes_their_room() {
    let telemetry = keeping(DecisionSettings { refused: 3, others: 2, bytes: 1 << 20, one_in: 1 });
    for number in 1..=5 {
        tell(&telemetry, &parent(number), refusal());
    }
    for number in 6..=9 {
        tell(&telemetry, &parent(number), finished(200));
    }
    let traces = |query| -> Vec<_> {
        let hops = found(&telemetry, query);
        hops.iter().map(|hop| u64::from_str_radix(&hop.trace_id, 16).unwrap()).collect()
    };
    assert_eq!(traces("refused"), [5, 4, 3]);
    assert_eq!(traces("refused&limit=1"), [5]);
    let mut all = traces("");
    all.sort_unstable();
    assert_eq!(all, [3, 4, 5, 8, 9]);
}

#[tokio::test]
async fn of_the_others_every_hop_keeps_the_same_few() {
    let settings = DecisionSettings { others: 4_096, one_in: 10, ..DecisionSettings::default() };
    let (one, two) = (keeping(settings), keeping(settings));
    for number in 1..=2_000 {
        for telemetry in [&one, &two] {
            tell(telemetry, &parent(number), finished(200));
        }
    }
    let traces = |telemetry| {
        let mut all: Vec<_> = found(telemetry, "limit=1000").into_iter().map(|hop| hop.trace_id).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(traces(&one), traces(&two));
    assert!((140..=260).contains(&traces(&one).len()), "{} of 2000 are about a tenth", traces(&one).len());
    assert!(found(&one, "").iter().all(|hop| hop.kept == "sample"));
}

#[tokio::test]
async fn with_no_room_nothing_is_kept() {
    let telemetry = keeping(DecisionSettings { refused: 0, one_in: 1, ..DecisionSettings::default() });
    tell(&telemetry, PARENT, refusal());
    assert!(found(&telemetry, "").is_empty());
}

#[tokio::test]
async fn long_texts_are_cut_and_many_decisions_are_few() {
    let telemetry = keeping(DecisionSettings::default());
    let long = "x".repeat(5_000);
    let head = head("GET", &format!("/{long}"), &[("host", "shop.example"), ("traceparent", PARENT)]);
    let exchange = telemetry.begin(&head, &peer(), Direction::Gateway);
    let mut decided = refusal();
    for line in 0..200 {
        decided.decisions.push(super::support::limiter(line));
    }
    exchange.finish(decided);
    let hops = found(&telemetry, "");
    assert!(hops[0].path.len() <= 256 && hops[0].decisions.len() <= 32);
    assert!(hops[0].decisions.last().unwrap().source.ends_with(":199"), "the last word is among them");
}
