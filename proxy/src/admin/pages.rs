//! What each page of the admin port says. Pure: a path in, a page out.

use std::time::Duration;

use http::StatusCode;

use super::AdminSource;
use crate::telemetry::{DecisionQuery, Telemetry};

/// A page, whole.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// RFC 9512.
const YAML: &str = "application/yaml";
/// OpenMetrics 1.0, which Prometheus asks for first.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const INDEX: [(&str, &str); 7] = [
    ("/", "this list"),
    (
        "/ready",
        "200 when traffic is welcome, else 503 and what is missing; ?wait=SECONDS, up to 10, for the 200",
    ),
    ("/live", "200 while the process answers"),
    ("/metrics", "counters, for Prometheus"),
    ("/config", "what is in force, as YAML"),
    ("/decisions", "what was decided of single requests: ?request_id= ?trace_id= ?refused &limit=, as JSON"),
    ("/status", "node, versions, connection to the control plane, listeners, breakers, as JSON"),
];

/// The longest that a "no" of `/ready` is kept back.
const MOST_PATIENCE: u64 = 10;

/// How long somebody waits to be told that traffic is welcome.
pub(super) fn patience(query: &str) -> Option<Duration> {
    let seconds: u64 = query.strip_prefix("wait=")?.parse().ok()?;
    Some(Duration::from_secs(seconds.min(MOST_PATIENCE)))
}

/// `query`: what stands behind `?`.
pub(super) fn page((path, query): (&str, &str), source: &impl AdminSource, telemetry: &Telemetry) -> Page {
    match path {
        "/" => text(StatusCode::OK, index("Tidegate proxy, admin port.")),
        "/ready" => match source.ready() {
            Ok(()) => text(StatusCode::OK, String::from("ready\n")),
            Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", one_line(&reason))),
        },
        "/live" => text(StatusCode::OK, String::from("live\n")),
        "/metrics" => Page {
            status: StatusCode::OK,
            content_type: OPEN_METRICS,
            body: telemetry.render_metrics(&source.scrape()),
        },
        "/config" => match source.config_yaml() {
            Ok(body) => Page { status: StatusCode::OK, content_type: YAML, body },
            Err(reason) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{reason}\n")),
        },
        "/status" => {
            // `{:#}` of a JSON value is JSON, indented.
            let body = format!("{:#}\n", source.status());
            Page { status: StatusCode::OK, content_type: JSON, body }
        }
        "/decisions" => match DecisionQuery::parse(query) {
            Ok(query) => {
                let body = serde_json::to_string_pretty(&telemetry.decisions(&query)).unwrap_or_default();
                Page { status: StatusCode::OK, content_type: JSON, body: body + "\n" }
            }
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        },
        _ => text(StatusCode::NOT_FOUND, index("There is no such page. There are:")),
    }
}

pub(super) fn method_not_allowed() -> Page {
    let body = String::from("This port only answers: GET and HEAD, nothing is changed here.\n");
    text(StatusCode::METHOD_NOT_ALLOWED, body)
}

pub(super) fn busy() -> Page {
    text(StatusCode::SERVICE_UNAVAILABLE, String::from("Too many scrapes at once; come back later.\n"))
}

/// The page panicked; the panic itself is in the proxy's log.
pub(super) fn failed() -> Page {
    text(
        StatusCode::INTERNAL_SERVER_ERROR,
        String::from("This page cannot be shown: a defect in Tidegate.\n"),
    )
}

fn text(status: StatusCode, body: String) -> Page {
    Page { status, content_type: TEXT, body }
}

fn index(head: &str) -> String {
    let lines = INDEX.iter().map(|(path, about)| format!("  {path:<12}{about}\n"));
    std::iter::once(format!("{head}\n")).chain(lines).collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
