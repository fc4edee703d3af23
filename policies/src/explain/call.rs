//! How the backend would be called, where each setting comes from, and what else it might have been.

use std::time::Duration;

use serde::Serialize;

use crate::call::{Limit, Said};
use crate::snapshot::Target;
use crate::story::Told;

/// What holds for calls to the target.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallSaid {
    pub settings: Vec<Setting>,
}

/// A setting, and where it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    pub name: &'static str,
    pub value: String,
    /// A policy with its rule and line, or the object itself.
    pub from: String,
}

/// A backend that the rule leads to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendSaid {
    /// Its name, or why there is none.
    pub backend: String,
    pub weight: u32,
    /// Of all requests of the rule.
    pub percent: f64,
    /// Where nothing was decided by who asks, it was by chance: another time it may be another one.
    pub picked: bool,
    pub balancing: String,
    pub endpoints: Vec<String>,
    /// Which of them would be called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
}

pub(super) const OWN: &str = "the route's rule, or the Backend";

impl CallSaid {
    pub(super) fn of(target: &Target) -> Self {
        let times = &target.plan.times;
        let limits = [
            ("connect timeout", &times.connect),
            ("request timeout", &times.request),
            ("timeout of an attempt", &times.per_try),
            ("idle timeout", &times.idle),
            ("stream timeout", &times.stream),
        ];
        let mut settings: Vec<_> = limits
            .into_iter()
            .filter_map(|(name, limit)| Some(Setting::limit(name, limit.as_ref()?)))
            .collect();
        if let Some(rule) = target.plan.retry.as_deref().filter(|rule| rule.attempts > 0) {
            let from = from(rule.said.as_ref());
            let value = format!("{} at the most", rule.attempts);
            settings.push(Setting { name: "further attempts", value, from: from.clone() });
            if let Some(wait) = rule.max_wait {
                settings.push(Setting { name: "longest wait", value: words(wait), from });
            }
        }
        if let Ok(backend) = &target.backend
            && let Some(after) = backend.connect_timeout
            && times.connect.is_none()
        {
            settings.push(Setting { name: "connect timeout", value: words(after), from: OWN.to_owned() });
        }
        if let Some(guard) = &target.guard {
            let policy = &guard.circuit.policy;
            let from = format!("{} {} ({})", policy.kind, policy.name, policy.source);
            settings.push(Setting { name: "circuit breaker", value: String::from("guards it"), from });
        }
        Self { settings }
    }
}

impl Setting {
    fn limit(name: &'static str, limit: &Limit) -> Self {
        Self { name, value: words(limit.after), from: from(limit.said.as_deref()) }
    }
}

impl BackendSaid {
    pub(super) fn of(target: &Target, total: u64, picked: Option<&Told>) -> Self {
        let backend = target.backend.as_ref();
        let settings = target.balancer.as_ref().and_then(|balancer| balancer.settings.describe());
        let endpoints = backend.map_or(&[][..], |backend| &backend.endpoints);
        let copies = picked.map(|told| told.mirrors.iter()).into_iter().flatten();
        Self {
            backend: backend
                .map_or_else(|reason| format!("none ({})", reason.flag()), |one| one.label.to_string()),
            weight: target.weight,
            percent: if total == 0 { 0.0 } else { f64::from(target.weight) * 100.0 / total as f64 },
            picked: picked.is_some(),
            balancing: settings.unwrap_or_else(|| String::from("the better of two, by latency")),
            endpoints: endpoints.iter().map(|endpoint| endpoint.label.to_string()).collect(),
            endpoint: picked.and_then(|told| told.endpoint.as_ref()).map(|one| one.label.to_string()),
            mirrors: copies.map(|copy| copy.label.to_string()).collect(),
        }
    }
}

fn from(said: Option<&Said>) -> String {
    said.map_or_else(
        || OWN.to_owned(),
        |said| format!("{} {} {} ({})", said.policy.kind, said.policy.name, said.rule.name, said.rule.source),
    )
}

fn words(duration: Duration) -> String {
    format!("{duration:?}")
}
