//! Health checks, as they stand at the moment of a scrape.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::{CheckLabels, HealthLabels};

/// The checks of one policy on one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSample {
    /// `namespace/name` of the policy.
    pub policy: Arc<str>,
    pub backend: Arc<str>,
    /// Whether each endpoint is healthy, by its label; none while they are not checked.
    pub endpoints: Vec<(Arc<str>, bool)>,
    /// How often checks had each result.
    pub results: Vec<(&'static str, u64)>,
}

/// At most `cap` endpoints are told, and the results of as many backends.
pub(super) fn register(registry: &mut Registry, samples: &[HealthSample], cap: usize) {
    let (healthy, results) =
        (Family::<HealthLabels, Gauge>::default(), Family::<CheckLabels, Counter>::default());
    let mut left = cap;
    for HealthSample { policy, backend, endpoints, results: counted } in samples.iter().take(cap) {
        for (endpoint, is_healthy) in endpoints.iter().take(left) {
            let (policy, backend, endpoint) = (policy.clone(), backend.clone(), endpoint.clone());
            healthy.get_or_create(&HealthLabels { policy, backend, endpoint }).set((*is_healthy).into());
        }
        left = left.saturating_sub(endpoints.len());
        for (result, count) in counted {
            let (policy, backend) = (policy.clone(), backend.clone());
            results.get_or_create(&CheckLabels { policy, backend, result }).inc_by(*count);
        }
    }
    registry.register("tidegate_endpoint_healthy", "1 healthy, 0 unhealthy, by active checks", healthy);
    registry.register("tidegate_health_checks", "Active health checks, by what they found", results);
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text;

    fn render(samples: &[HealthSample], cap: usize) -> String {
        let (mut registry, mut out) = (Registry::default(), String::new());
        register(&mut registry, samples, cap);
        text::encode(&mut out, &registry).unwrap();
        out
    }

    #[test]
    fn endpoints_and_results_are_told_up_to_the_cap() {
        let endpoints = vec![("10.0.0.1:80".into(), true), ("10.0.0.2:80".into(), false)];
        let results = vec![("passed", 7), ("status", 2)];
        let sample =
            HealthSample { policy: "shop/h".into(), backend: "shop/cart:80".into(), endpoints, results };
        let told = render(std::slice::from_ref(&sample), 10);
        for line in [
            r#"tidegate_endpoint_healthy{policy="shop/h",backend="shop/cart:80",endpoint="10.0.0.1:80"} 1"#,
            r#"tidegate_endpoint_healthy{policy="shop/h",backend="shop/cart:80",endpoint="10.0.0.2:80"} 0"#,
            r#"tidegate_health_checks_total{policy="shop/h",backend="shop/cart:80",result="status"} 2"#,
        ] {
            assert!(told.contains(line), "{told}");
        }
        assert!(!render(&[sample], 1).contains("10.0.0.2"));
    }
}
