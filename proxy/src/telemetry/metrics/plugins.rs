//! Plugins: what they cost and how they fare; and what they count themselves.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};
use tidegate_wasm::Metric;

use crate::plugins::{CustomMetric, PluginStatus};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginLabel {
    plugin: String,
}

type Value = fn(&PluginStatus) -> u64;

const COUNTERS: [(&str, &str, Value); 9] = [
    ("tidegate_plugin_streams", "Requests that a plugin saw", |p| p.counts.streams),
    ("tidegate_plugin_callbacks", "Calls into a plugin", |p| p.counts.callbacks),
    ("tidegate_plugin_traps", "VMs of a plugin that trapped", |p| p.counts.traps),
    ("tidegate_plugin_overruns", "VMs of a plugin that ran for longer than allowed", |p| p.counts.overruns),
    ("tidegate_plugin_starts", "VMs of a plugin that were started", |p| p.counts.started),
    ("tidegate_plugin_recycled", "VMs of a plugin that were replaced because they had grown", |p| {
        p.counts.recycled
    }),
    ("tidegate_plugin_calls", "Side calls of a plugin", |p| p.counts.calls),
    ("tidegate_plugin_log_dropped", "Lines of a plugin's log over its rate", |p| p.counts.lines_dropped),
    ("tidegate_plugin_quarantines", "Times that a plugin was left out for failing", |p| {
        p.standing.quarantines
    }),
];

const GAUGES: [(&str, &str, Value); 5] = [
    ("tidegate_plugin_instances", "VMs of a plugin", |p| p.counts.instances),
    ("tidegate_plugin_memory_bytes", "Linear memory of a plugin's VMs", |p| p.counts.memory),
    ("tidegate_plugin_loaded", "Whether a version of the plugin is in force", |p| u64::from(p.loaded)),
    ("tidegate_plugin_failing", "Whether the version that is wanted cannot be loaded", |p| {
        u64::from(p.fault.is_some())
    }),
    ("tidegate_plugin_quarantined", "Whether the plugin is left out for failing", |p| {
        u64::from(p.quarantined)
    }),
];

pub(super) fn register(registry: &mut Registry, plugins: &[PluginStatus], own: Vec<CustomMetric>) {
    let labels = |plugin: &PluginStatus| PluginLabel { plugin: plugin.name.to_string() };
    for (name, help, value) in COUNTERS {
        let family = Family::<PluginLabel, Counter>::default();
        plugins.iter().for_each(|plugin| {
            family.get_or_create(&labels(plugin)).inc_by(value(plugin));
        });
        registry.register(name, help, family);
    }
    for (name, help, value) in GAUGES {
        let family = Family::<PluginLabel, Gauge>::default();
        plugins.iter().for_each(|plugin| {
            family.get_or_create(&labels(plugin)).set(i64::try_from(value(plugin)).unwrap_or(i64::MAX));
        });
        registry.register(name, help, family);
    }
    let times = Family::<PluginLabel, Counter<f64, std::sync::atomic::AtomicU64>>::default();
    plugins.iter().for_each(|plugin| {
        times.get_or_create(&labels(plugin)).inc_by(plugin.counts.time.as_secs_f64());
    });
    registry.register_with_unit("tidegate_plugin_time", "Spent in calls into a plugin", Unit::Seconds, times);
    for (name, metric) in own {
        let name = format!("wasmcustom_{}", sanitized(&name));
        let help = "Of a plugin";
        match metric {
            Metric::Counter(value) => registry.register(name, help, ConstCounter::new(value)),
            Metric::Gauge(value) => {
                registry.register(name, help, ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)));
            }
            Metric::Histogram(histogram) => {
                registry.register(format!("{name}_count"), help, ConstCounter::new(histogram.count));
                registry.register(format!("{name}_sum"), help, ConstCounter::new(histogram.sum));
            }
        }
    }
}

/// Plugins name their metrics as they like; Envoy writes `.` and the like as `_` too.
fn sanitized(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
