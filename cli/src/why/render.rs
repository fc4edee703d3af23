//! Hops for people: what came in, where it was led, what each policy said, and how it ended.

use std::fmt::Write as _;
use std::time::Duration;

use tidegate_control_plane::decisions::Why;
use tidegate_policy::decision::{DecisionRecord, Said};

const RED: &str = "31";
const YELLOW: &str = "33";
const DIM: &str = "2";

pub(super) fn text(why: &Why, colour: bool) -> String {
    let mut out = String::new();
    if why.hops.is_empty() {
        let _ = writeln!(out, "Nothing is kept of {}.", why.id);
    }
    for (number, one) in why.hops.iter().enumerate() {
        if number > 0 {
            out.push('\n');
        }
        hop(&mut out, one, colour);
    }
    if why.more {
        out += "\nThere are more hops than are shown.\n";
    }
    if why.unanswered > 0 {
        let named = why.silent.join(", ");
        let others = why.unanswered.saturating_sub(why.silent.len());
        let others = if others > 0 { format!(" and {others} others") } else { String::new() };
        let asked = why.answered + why.unanswered;
        let _ = writeln!(out, "\n{} of {asked} proxies could not be asked: {named}{others}", why.unanswered);
    }
    out
}

fn hop(out: &mut String, hop: &DecisionRecord, colour: bool) {
    let refused = hop.reason.is_some();
    let status = painted(&hop.status.to_string(), if refused { RED } else { "" }, colour);
    let (at, took) = (clock(hop.time_unix_micros), Duration::from_micros(hop.duration_micros));
    let _ = writeln!(
        out,
        "{at}  {} {}: {} {}{} from {} -> {status} after {took:?}",
        hop.node,
        hop.direction,
        hop.method,
        hop.host,
        hop.path,
        hop.peer.as_ref().unwrap_or(&hop.client),
    );
    if let Some(rule) = &hop.rule {
        let route = hop.route.as_ref().map(|route| format!("{route} ")).unwrap_or_default();
        let place = hop.source.as_ref().map(|source| format!(" ({source})")).unwrap_or_default();
        let _ = writeln!(out, "    route {route}rule {rule}{place}");
    }
    if let Some(backend) = &hop.backend {
        let called = match (&hop.endpoint, hop.attempts) {
            (Some(endpoint), 1) => format!(" at {endpoint}"),
            (Some(endpoint), attempts) => format!(" at {endpoint}, attempt {attempts}"),
            (None, _) => String::from(", which was not called"),
        };
        let _ = writeln!(out, "    backend {backend}{called}");
    }
    for said in &hop.decisions {
        let _ = writeln!(out, "    {}", painted(&said.to_string(), paint(said), colour));
    }
    match &hop.reason {
        Some(reason) => {
            let _ = writeln!(out, "    {}", painted(&format!("refused here: {reason}"), RED, colour));
        }
        None if hop.kept == "refused" => out.push_str("    answered by the mesh, at the next hop\n"),
        None => {}
    }
    let ids = [("request", &hop.request_id), ("trace", &hop.trace_id)];
    let ids = ids.into_iter().filter(|(_, id)| !id.is_empty()).map(|(what, id)| format!("{what} {id}"));
    let _ = writeln!(out, "    {}", painted(&ids.collect::<Vec<_>>().join(", "), DIM, colour));
}

fn paint(said: &Said) -> &'static str {
    match said.outcome.as_str() {
        "refused" => RED,
        "allowed" | "picked" => "",
        _ => YELLOW,
    }
}

fn painted(text: &str, paint: &str, colour: bool) -> String {
    if colour && !paint.is_empty() { format!("\x1b[{paint}m{text}\x1b[0m") } else { text.to_owned() }
}

/// The time of day, in UTC: hops of one request are seconds apart at the most.
fn clock(micros: u64) -> String {
    let (seconds, rest) = (micros / 1_000_000 % 86_400, micros % 1_000_000);
    format!("{:02}:{:02}:{:02}.{rest:06}Z", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> DecisionRecord {
        let said = Said {
            kind: "RateLimitPolicy".into(),
            policy: "shop/strict".into(),
            rule: "everyone".into(),
            source: "limits.yaml:12".into(),
            outcome: "refused".into(),
            reason: Some("rate_limited".into()),
            detail: None,
        };
        DecisionRecord {
            node: "checkout-1".into(),
            direction: "inbound".into(),
            time_unix_micros: 86_399_000_042,
            duration_micros: 1_500,
            method: "GET".into(),
            host: "checkout".into(),
            path: "/pay".into(),
            client: "10.0.0.1:1".into(),
            rule: Some("0".into()),
            source: Some("routes.yaml:3".into()),
            status: 429,
            reason: Some("rate_limited".into()),
            kept: "refused".into(),
            trace_id: "4bf9".into(),
            decisions: vec![said],
            ..DecisionRecord::default()
        }
    }

    #[test]
    fn a_hop_says_what_came_where_it_went_and_who_refused() {
        let why = Why { id: "4bf9".into(), hops: vec![refused()], answered: 1, ..Why::default() };
        let text = text(&why, false);
        for part in [
            "23:59:59.000042Z  checkout-1 inbound: GET checkout/pay from 10.0.0.1:1 -> 429 after 1.5ms",
            "    route rule 0 (routes.yaml:3)",
            "    RateLimitPolicy shop/strict everyone (limits.yaml:12): refused rate_limited",
            "    refused here: rate_limited",
            "    trace 4bf9",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains('\x1b'));
        assert!(super::text(&why, true).contains("\x1b[31m429\x1b[0m"));
    }

    #[test]
    fn who_could_not_be_asked_is_told() {
        let mut why = Why { id: "x".into(), ..Why::default() };
        why.close((0..30).map(|n| format!("proxy-{n}")));
        let text = text(&why, false);
        assert!(text.starts_with("Nothing is kept of x.\n"), "{text}");
        assert!(text.contains("30 of 30 proxies could not be asked: proxy-0, proxy-1,"), "{text}");
        assert!(text.contains("proxy-19 and 10 others"), "{text}");
    }
}
