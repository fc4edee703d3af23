//! `tidegate status backends`: what a running proxy knows of the health of each backend and endpoint, and why.

mod checks;

use std::io;

use anyhow::{Context as _, Result};
use http::Uri;
use serde::Deserialize;
use tidegate_policy::health::check::HealthReport;
use tidegate_policy::health::{BreakerReport, CapReport, GuardReport};

use super::{fetch, red};
use crate::exit::Done;
use crate::{logging, runtime, say};

pub(crate) const EXAMPLES: &str = "\
Examples:
  tidegate status backends                              of this machine's proxy
  tidegate status backends --url http://10.0.0.7:15020  of another one
  tidegate status backends --json | jq '.[].breakers'   breakers, for programs

Shows each circuit breaker with its state, the line it was written on, since
when, until when and on what evidence; caps that are taken in part; and each
health check with what it found last, and when it asks again.";

#[derive(Debug, clap::Args)]
pub(crate) struct BackendsArgs {
    /// The proxy's admin address
    #[arg(long, env = "TIDEGATE_PROXY_URL", value_name = "URL", default_value = "http://127.0.0.1:15020")]
    url: Uri,
    /// Print what the proxy says, as JSON
    #[arg(long)]
    json: bool,
}

/// What is read of the proxy's page.
#[derive(Debug, Deserialize)]
struct Page {
    circuit_breakers: Vec<GuardReport>,
    /// A proxy of before says it in another form, or not at all.
    #[serde(default)]
    health_checks: Vec<HealthReport>,
}

pub(crate) fn command(args: &BackendsArgs) -> Result<Done> {
    logging::start("warn");
    let text = runtime::one()?.block_on(fetch(&args.url, "/status", "a proxy"))?;
    let page: Page = serde_json::from_str(&text)
        .with_context(|| format!("{} does not answer like a proxy of this version", args.url))?;
    say::text(&if args.json {
        format!("{}\n", serde_json::to_string_pretty(&page.circuit_breakers)?)
    } else {
        render(&page, logging::colour(&io::stdout()))
    });
    Ok(Done::Well)
}

fn render(page: &Page, colour: bool) -> String {
    if page.circuit_breakers.is_empty() && page.health_checks.is_empty() {
        return String::from("No backend has a circuit breaker or a health check.\n");
    }
    let breakers = page.circuit_breakers.iter().map(|guard| section(guard, colour));
    let checks = page.health_checks.iter().map(|report| checks::section(report, colour));
    breakers.chain(checks).collect::<Vec<_>>().join("\n")
}

/// One backend: its policy, its breakers, and the caps that are limited or in use.
fn section(guard: &GuardReport, colour: bool) -> String {
    let GuardReport { backend, policy, source, mode, ejected, endpoints, .. } = guard;
    let panic = if guard.panic { ", so few left that all are called" } else { "" };
    let mut out = format!("{backend}  {policy} ({source}, {mode:?})");
    if guard.breakers.iter().any(|breaker| breaker.endpoint.is_some()) {
        out += &format!("  {ejected} of {endpoints} endpoints ejected{panic}");
    }
    out.push('\n');
    let headings = ["ENDPOINT", "BREAKER", "STATE", "SINCE", "UNTIL", "WRITTEN AT", "WHY"].map(str::to_owned);
    let rows: Vec<_> = guard.breakers.iter().map(row).collect();
    if !rows.is_empty() {
        out += &table(&headings, &rows, colour);
    }
    for cap in guard.caps.iter().filter(|cap| cap.limit.is_some()) {
        out += &format!("  {}\n", words(cap));
    }
    out
}

/// Whether it is worth a colour, and the cells.
fn row(breaker: &BreakerReport) -> (bool, [String; 7]) {
    let why = match breaker.why() {
        none if none.is_empty() => format!("{} of {} calls failed", breaker.failures, breaker.calls),
        why => why,
    };
    let left = breaker.left_seconds.map_or_else(|| String::from("-"), |left| format!("in {}", span(left)));
    let cells = [
        breaker.endpoint.clone().unwrap_or_else(|| String::from("all")),
        breaker.rule.clone(),
        breaker.state.clone(),
        span(breaker.for_seconds),
        left,
        breaker.source.clone(),
        why,
    ];
    (breaker.state != "closed" || breaker.spared.is_some(), cells)
}

/// A row is worth a colour where it says that something is wrong.
fn table(headings: &[String; 7], rows: &[(bool, [String; 7])], colour: bool) -> String {
    let all = || std::iter::once(headings).chain(rows.iter().map(|(_, row)| row));
    let widths: [usize; 7] =
        std::array::from_fn(|column| all().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let line = |row: &[String; 7]| {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("  {}", cells.join("  ").trim_end())
    };
    let mut out = line(headings) + "\n";
    for (bad, row) in rows {
        out += &(red(&line(row), *bad && colour) + "\n");
    }
    out
}

/// `requests of 10.0.0.2:8080: 3 of 16 (breakers.yaml:12)`.
fn words(cap: &CapReport) -> String {
    let of = cap.of.as_ref().map(|of| format!(" of {of}")).unwrap_or_default();
    let limit = cap.limit.unwrap_or_default();
    let source = cap.source.as_ref().map(|source| format!(" ({source})")).unwrap_or_default();
    let name = format!("{:?}", cap.cap).to_lowercase();
    format!("cap on {name}{of}: {} of {limit} taken{source}", cap.used)
}

/// `12s`, `4m 10s`, `3h 2m`.
fn span(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{seconds:.1}s");
    }
    match seconds as u64 {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m {}s", s / 60, s % 60),
        s => format!("{}h {}m", s / 3600, s / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_policy::health::{BreakerScope, Cap, CapScope};
    use tidegate_policy::model::Mode;

    fn breaker(endpoint: &str, state: &str, evidence: Option<&str>) -> BreakerReport {
        BreakerReport {
            rule: "errors".into(),
            source: "breakers.yaml:12".into(),
            scope: BreakerScope::Endpoint,
            endpoint: Some(endpoint.into()),
            state: state.into(),
            for_seconds: 130.0,
            left_seconds: (state == "open").then_some(4.5),
            failures: 1,
            calls: 20,
            evidence: evidence.map(str::to_owned),
            spared: None,
            failed_probes: 0,
        }
    }

    fn guard(breakers: Vec<BreakerReport>) -> GuardReport {
        let cap = CapReport {
            cap: Cap::Requests,
            scope: CapScope::Backend,
            of: None,
            used: 3,
            limit: Some(16),
            source: Some("breakers.yaml:8".into()),
        };
        GuardReport {
            policy: "shop/checkout-breaker".into(),
            source: "breakers.yaml:1".into(),
            mode: Mode::Enforce,
            backend: "shop/checkout:8080".into(),
            ejected: 1,
            endpoints: 3,
            panic: false,
            caps: vec![cap],
            breakers,
        }
    }

    fn page(circuit_breakers: Vec<GuardReport>) -> Page {
        Page { circuit_breakers, health_checks: Vec::new() }
    }

    #[test]
    fn each_breaker_is_a_row_with_its_line_and_its_reason() {
        let why = "7 of 10 calls took longer than 250ms within 10s";
        let mut failing = breaker("10.0.0.2:80", "half_open", Some(why));
        failing.failed_probes = 2;
        let guards = vec![guard(vec![breaker("10.0.0.1:80", "open", Some(why)), failing])];
        let text = render(&page(guards), false);
        for part in [
            "shop/checkout:8080  shop/checkout-breaker (breakers.yaml:1, Enforce)  1 of 3 endpoints ejected",
            "2m 10s  in 4.5s  breakers.yaml:12  7 of 10 calls took longer than 250ms within 10s",
            "within 10s; 2 probes failed since",
            "cap on requests: 3 of 16 taken (breakers.yaml:8)",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn what_is_kept_in_use_says_why_it_should_not_be() {
        let mut spared = breaker("10.0.0.1:80", "closed", None);
        spared.spared = Some("5 calls in a row failed".into());
        let text = render(&page(vec![guard(vec![spared, breaker("10.0.0.2:80", "closed", None)])]), true);
        assert!(text.contains("kept in use, though 5 calls in a row failed"), "{text}");
        assert!(text.contains("1 of 20 calls failed"), "{text}");
        assert_eq!(text.matches("\x1b[31m").count(), 1, "{text}");
    }

    #[test]
    fn what_a_proxy_says_is_read_as_it_was_meant() {
        let guards = vec![guard(vec![breaker("10.0.0.1:80", "open", Some("a call failed"))])];
        let page = serde_json::json!({"node": "n", "circuit_breakers": guards});
        let read: Page = serde_json::from_value(page).unwrap();
        assert_eq!(read.circuit_breakers, guards);
    }

    #[test]
    fn no_breaker_is_said_in_words() {
        assert_eq!(render(&page(vec![]), false), "No backend has a circuit breaker or a health check.\n");
    }
}
