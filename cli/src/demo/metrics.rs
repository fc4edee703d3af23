//! The proxies' metrics, as numbers the table needs. The only file that knows what the proxies call them.

use std::collections::BTreeMap;

use super::table::Circuit;
use crate::prometheus::{Buckets, Sample, Samples};

const REQUESTS: &str = "tidegate_requests_total";
const DURATION: &str = "tidegate_request_duration_seconds";
const BREAKER: &str = "tidegate_breaker_state";
const TRANSITIONS: &str = "tidegate_breaker_transitions_total";
const INBOUND: (&str, &str) = ("direction", "inbound");
const OUTBOUND: (&str, &str) = ("direction", "outbound");

/// What is known of one callee since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    /// Calls meant for it, refused ones included.
    pub(crate) requests: f64,
    /// Calls it answered with 2xx.
    pub(crate) ok: f64,
    /// Requests that its own sidecar limited.
    pub(crate) limited: f64,
    /// As its own sidecar measures it, in seconds.
    pub(crate) latency: Buckets,
}

/// How often a circuit has turned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turns {
    pub(crate) opened: u64,
    pub(crate) half_opened: u64,
    pub(crate) closed: u64,
}

/// The caller's view of the services it calls: by name of the Service.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Callees {
    pub(crate) counts: BTreeMap<String, Counts>,
    pub(crate) circuits: BTreeMap<String, Circuit>,
    pub(crate) turns: BTreeMap<String, Turns>,
}

impl Callees {
    /// Reads the metrics of the caller's sidecar.
    pub(crate) fn read(samples: &Samples) -> Self {
        let mut callees = Self::default();
        for sample in samples.select(REQUESTS, &[OUTBOUND]) {
            let Some(service) = service(sample) else { continue };
            let counts = callees.counts.entry(service).or_default();
            counts.requests += sample.value;
            if sample.label("code").is_some_and(|code| code.starts_with('2')) {
                counts.ok += sample.value;
            }
        }
        for sample in samples.select(BREAKER, &[]) {
            let Some(service) = service(sample) else { continue };
            let circuit = match sample.value as u8 {
                0 => Circuit::Closed,
                1 => Circuit::HalfOpen,
                _ => Circuit::Open,
            };
            // A backend with several rules is as shut as the strictest of them.
            callees.circuits.entry(service).and_modify(|c| *c = circuit.max(*c)).or_insert(circuit);
        }
        for sample in samples.select(TRANSITIONS, &[]) {
            let Some(service) = service(sample) else { continue };
            let turns = callees.turns.entry(service).or_default();
            match sample.label("to") {
                Some("open") => turns.opened += sample.value as u64,
                Some("half_open") => turns.half_opened += sample.value as u64,
                _ => turns.closed += sample.value as u64,
            }
        }
        callees
    }

    /// Adds what the sidecar of `service` tells itself.
    pub(crate) fn add_own(&mut self, service: &str, samples: &Samples) {
        let counts = self.counts.entry(service.to_owned()).or_default();
        counts.limited = samples.sum(REQUESTS, &[INBOUND, ("reason", "rate_limited")]);
        counts.latency = samples.buckets(DURATION, &[INBOUND]);
    }
}

/// `checkout-v2` of `demo/checkout-v2:80`.
fn service(sample: &Sample) -> Option<String> {
    let (_, name) = sample.label("backend")?.split_once('/')?;
    Some(name.rsplit_once(':').map_or(name, |(service, _)| service).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: &str = r#"
tidegate_requests_total{direction="inbound",route="",backend="",code="200",grpc_code="",reason=""} 500
tidegate_requests_total{direction="outbound",route="demo/canary",backend="demo/checkout-v1:80",code="200",grpc_code="",reason=""} 90
tidegate_requests_total{direction="outbound",route="demo/canary",backend="demo/checkout-v2:80",code="200",grpc_code="",reason=""} 6
tidegate_requests_total{direction="outbound",route="demo/canary",backend="demo/checkout-v2:80",code="503",grpc_code="",reason="circuit_open"} 4
tidegate_breaker_state{policy="demo/b",backend="demo/checkout-v2:80",endpoint="",rule="failing"} 2
tidegate_breaker_state{policy="demo/b",backend="demo/checkout-v2:80",endpoint="",rule="other"} 0
tidegate_breaker_transitions_total{policy="demo/b",backend="demo/checkout-v2:80",endpoint="",rule="failing",to="open"} 3
tidegate_breaker_transitions_total{policy="demo/b",backend="demo/checkout-v2:80",endpoint="",rule="failing",to="half_open"} 2
tidegate_breaker_transitions_total{policy="demo/b",backend="demo/checkout-v2:80",endpoint="",rule="failing",to="closed"} 1
tidegate_breaker_transitions_total{policy="demo/b",backend="demo/checkout-v2:80",endpoint="",rule="other",to="open"} 1
"#;

    #[test]
    fn refused_calls_count_for_the_backend_they_were_meant_for() {
        let callees = Callees::read(&Samples::parse(CALLER));
        assert_eq!(callees.counts["checkout-v1"].requests, 90.0);
        assert_eq!(callees.counts["checkout-v2"].requests, 10.0);
        assert_eq!(callees.counts["checkout-v2"].ok, 6.0);
        assert_eq!(callees.counts.len(), 2, "inbound requests are nobody's calls");
    }

    #[test]
    fn a_backend_is_as_shut_as_its_strictest_rule() {
        let callees = Callees::read(&Samples::parse(CALLER));
        assert_eq!(callees.circuits["checkout-v2"], Circuit::Open);
    }

    #[test]
    fn the_turns_of_a_backends_rules_add_up() {
        let callees = Callees::read(&Samples::parse(CALLER));
        assert_eq!(callees.turns["checkout-v2"], Turns { opened: 4, half_opened: 2, closed: 1 });
    }

    #[test]
    fn a_service_tells_its_own_latency_and_limits() {
        let own = r#"
tidegate_requests_total{direction="inbound",code="429",reason="rate_limited"} 7
tidegate_request_duration_seconds_bucket{le="0.01",direction="inbound"} 10
tidegate_request_duration_seconds_bucket{le="+Inf",direction="inbound"} 10
"#;
        let mut callees = Callees::default();
        callees.add_own("checkout-v1", &Samples::parse(own));
        let counts = &callees.counts["checkout-v1"];
        assert_eq!((counts.limited, counts.latency.quantile(1.0)), (7.0, Some(0.01)));
    }
}
