//! Where telemetry goes and how much of it may wait; read from the environment as OpenTelemetry says.
//!
//! Source: <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>. Headers, timeout and
//! compression of the exporter are read by the exporter itself. A value that cannot be read is reported and the
//! default used, as the specification asks.

use std::str::FromStr;
use std::time::Duration;

use tracing::warn;

use super::access_log::LogTarget;
use super::decisions::DecisionSettings;

/// All that [`super::Telemetry::start`] needs.
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    pub access_log: LogTarget,
    /// `service.name` unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` says another.
    pub service_name: String,
    /// Name of this proxy, as the control plane knows it: `service.instance.id`.
    pub node: Option<String>,
    pub traces: TraceSettings,
    /// How long a flush at shutdown may take.
    pub flush_bound: Duration,
    /// How many label sets one metric may have; the rest is counted under the label `other`.
    pub series_cap: usize,
    /// How much of single requests is kept to be asked for.
    pub decisions: DecisionSettings,
}

/// How spans are sampled, queued and sent.
#[derive(Clone, Debug)]
pub struct TraceSettings {
    /// The OTLP/gRPC collector. `None`: no span is recorded, trace ids are only passed on and logged.
    pub endpoint: Option<String>,
    /// `OTEL_SDK_DISABLED=true`: trace context passes through untouched and no trace is started.
    pub disabled: bool,
    pub sampling: Sampling,
    /// Spans that may wait for the exporter; more are dropped and counted.
    pub queue: usize,
    pub batch: usize,
    /// The longest a span waits for its batch to fill.
    pub delay: Duration,
    /// The longest one batch may take, retries included.
    pub timeout: Duration,
}

/// `OTEL_TRACES_SAMPLER` with its argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampling {
    AlwaysOn,
    AlwaysOff,
    /// Share of traces, 0 to 1.
    Ratio(f64),
    ParentOrOn,
    ParentOrOff,
    ParentOrRatio(f64),
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            access_log: LogTarget::Stdout,
            service_name: String::from("tidegate"),
            node: None,
            traces: TraceSettings::default(),
            flush_bound: Duration::from_secs(3),
            series_cap: 2_000,
            decisions: DecisionSettings::default(),
        }
    }
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self {
            endpoint: None,
            disabled: false,
            sampling: Sampling::ParentOrOn,
            queue: 2_048,
            batch: 512,
            delay: Duration::from_secs(1),
            timeout: Duration::from_secs(30),
        }
    }
}

impl TraceSettings {
    /// From the process' environment.
    pub fn from_env() -> Self {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// From any source of variables. An empty variable counts as unset.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| lookup(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let default = Self::default();
        let queue = parse(&get, "OTEL_BSP_MAX_QUEUE_SIZE", default.queue).max(1);
        let millis = |name, or: Duration| {
            let or = u64::try_from(or.as_millis()).unwrap_or(u64::MAX);
            Duration::from_millis(parse(&get, name, or))
        };
        Self {
            endpoint: endpoint(&get),
            disabled: get("OTEL_SDK_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true")),
            sampling: Sampling::from_vars(&get),
            queue,
            batch: parse(&get, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", default.batch).clamp(1, queue),
            delay: millis("OTEL_BSP_SCHEDULE_DELAY", default.delay),
            timeout: millis("OTEL_BSP_EXPORT_TIMEOUT", default.timeout),
        }
    }
}

impl Sampling {
    fn from_vars(get: &impl Fn(&str) -> Option<String>) -> Self {
        let ratio = || {
            let ratio = parse(get, "OTEL_TRACES_SAMPLER_ARG", 1.0_f64);
            if (0.0..=1.0).contains(&ratio) {
                return ratio;
            }
            warn!(value = ratio, "OTEL_TRACES_SAMPLER_ARG is not between 0 and 1; every trace is sampled");
            1.0
        };
        match get("OTEL_TRACES_SAMPLER").as_deref() {
            Some("always_on") => Self::AlwaysOn,
            Some("always_off") => Self::AlwaysOff,
            Some("traceidratio") => Self::Ratio(ratio()),
            None | Some("parentbased_always_on") => Self::ParentOrOn,
            Some("parentbased_always_off") => Self::ParentOrOff,
            Some("parentbased_traceidratio") => Self::ParentOrRatio(ratio()),
            Some(other) => {
                warn!(value = other, "OTEL_TRACES_SAMPLER is not known; using parentbased_always_on");
                Self::ParentOrOn
            }
        }
    }
}

/// The collector's address, or `None` when spans go nowhere.
fn endpoint(get: &impl Fn(&str) -> Option<String>) -> Option<String> {
    match get("OTEL_TRACES_EXPORTER").as_deref() {
        None | Some("otlp") => {}
        Some("none") => return None,
        Some(other) => {
            warn!(value = other, "OTEL_TRACES_EXPORTER is neither otlp nor none; no span is exported");
            return None;
        }
    }
    let endpoint =
        get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| get("OTEL_EXPORTER_OTLP_ENDPOINT"))?;
    let protocol = get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| get("OTEL_EXPORTER_OTLP_PROTOCOL"));
    if let Some(protocol) = protocol.filter(|p| p != "grpc") {
        warn!(value = protocol, "only OTLP over gRPC is spoken; the endpoint is used with gRPC");
    }
    // `collector:4317` is common, though a URL is asked for.
    Some(if endpoint.contains("://") { endpoint } else { format!("http://{endpoint}") })
}

fn parse<T: FromStr>(get: &impl Fn(&str) -> Option<String>, name: &str, default: T) -> T {
    let Some(text) = get(name) else { return default };
    text.parse().unwrap_or_else(|_| {
        warn!(variable = name, value = text, "not a valid value; the default is used");
        default
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(vars: &[(&str, &str)]) -> TraceSettings {
        let vars: Vec<(String, String)> =
            vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        TraceSettings::from_lookup(|name| vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
    }

    #[test]
    fn without_an_endpoint_nothing_is_exported() {
        assert_eq!(settings(&[]).endpoint, None);
        assert_eq!(settings(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).endpoint, None);
    }

    #[test]
    fn the_endpoint_for_traces_wins_over_the_general_one() {
        let both = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://general:4317"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4317"),
        ];
        assert_eq!(settings(&both).endpoint.as_deref(), Some("http://traces:4317"));
        assert_eq!(settings(&both[..1]).endpoint.as_deref(), Some("http://general:4317"));
    }

    #[test]
    fn an_endpoint_without_a_scheme_is_plain_http() {
        let settings = settings(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")]);
        assert_eq!(settings.endpoint.as_deref(), Some("http://collector:4317"));
    }

    #[test]
    fn the_exporter_none_turns_export_off() {
        let vars = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"), ("OTEL_TRACES_EXPORTER", "none")];
        assert_eq!(settings(&vars).endpoint, None);
    }

    #[test]
    fn the_sdk_is_disabled_by_true_in_any_case() {
        assert!(settings(&[("OTEL_SDK_DISABLED", "True")]).disabled);
        assert!(!settings(&[("OTEL_SDK_DISABLED", "yes")]).disabled);
    }

    #[test]
    fn samplers_take_their_argument_and_fall_back_when_it_is_wrong() {
        let with =
            |name, arg| settings(&[("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", arg)]).sampling;
        assert_eq!(with("traceidratio", "0.25"), Sampling::Ratio(0.25));
        assert_eq!(with("parentbased_traceidratio", "7"), Sampling::ParentOrRatio(1.0));
        assert_eq!(with("parentbased_always_off", ""), Sampling::ParentOrOff);
        assert_eq!(with("of the moon", ""), Sampling::ParentOrOn);
    }

    #[test]
    fn a_batch_is_never_larger_than_the_queue_and_bad_numbers_are_ignored() {
        let vars = [("OTEL_BSP_MAX_QUEUE_SIZE", "10"), ("OTEL_BSP_SCHEDULE_DELAY", "soon")];
        let settings = settings(&vars);
        assert_eq!((settings.queue, settings.batch), (10, 10));
        assert_eq!(settings.delay, Duration::from_secs(1));
    }
}
