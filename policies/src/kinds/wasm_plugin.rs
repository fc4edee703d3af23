//! `WasmPlugin`: what the built-in policies cannot say, said by a proxy-wasm plugin. Checks what was written; the plugin itself is
//! fetched, run and held to its budgets by the proxy.

mod filter;
mod limits;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::decision::RuleRef;
use crate::kind::{BindFilter, CompileContext, Compiled, Merge, PolicyKind};
use crate::kinds::backend_ref::BackendRefSpec;
use crate::kinds::check;
use crate::model::{Mode, TargetKind};
use crate::pipeline::{Filter, Phase, ServiceRef};
use crate::plugin::{Failure, HOSTCALLS, Plugin, Traffic};
use crate::state::StateStore;
use filter::PluginFilter;
use limits::{BudgetsSpec, QuarantineSpec};
use source::SourceSpec;

#[derive(Debug)]
pub(super) struct WasmPlugin;

/// A plugin for proxy-wasm 0.2.1, 0.2.0 or 0.1.0. Of several on the way of a request all are asked.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct WasmPluginSpec {
    /// Where the module is: one of `file`, `http` and `oci`.
    source: SourceSpec,
    /// Which of the plugins in the module, where it holds several (`root_id`). Default: the one without a name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    plugin_name: String,
    /// Plugins with the same one share their data and queues. Default: nobody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    vm_id: Option<String>,
    /// What the plugin is configured with: a text as it is, anything else as JSON.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schemars(schema_with = "anything")]
    configuration: Value,
    /// What the plugin sees as its environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    environment: BTreeMap<String, String>,
    /// Among which policies it is asked. Default: Plugin.
    #[serde(default)]
    phase: PhaseSpec,
    /// Among the plugins of its phase: requests, and what clients send, meet lower ones first, answers last. Default: 0.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    order: i32,
    /// What becomes of requests and connections while the plugin cannot be asked. Default: Closed.
    #[serde(default)]
    failure_policy: FailureSpec,
    #[serde(default)]
    budgets: BudgetsSpec,
    #[serde(default)]
    quarantine: QuarantineSpec,
    #[serde(default)]
    capabilities: CapabilitiesSpec,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum PhaseSpec {
    /// Before those who ask who it is.
    Authenticate,
    /// With those who ask whether they may.
    Authorize,
    /// After everything that may refuse.
    #[default]
    Plugin,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum FailureSpec {
    /// They pass without it; so do the bytes of a connection in which it has failed.
    Open,
    /// They are refused.
    #[default]
    Closed,
    /// The version of the plugin before is asked; without one they are refused.
    LastGood,
}

/// What the plugin may use.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CapabilitiesSpec {
    /// Names of hostcalls, such as `proxy_http_call`; all others fail. Default: all may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    hostcalls: Option<Vec<String>>,
    /// Whom it may call. Default: nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    upstreams: Vec<UpstreamSpec>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct UpstreamSpec {
    /// As the plugin names it: its "cluster".
    #[schemars(length(min = 1, max = 253))]
    name: String,
    backend_ref: BackendRefSpec,
}

/// A policy that has passed validation.
#[derive(Debug)]
struct Wasm {
    plugin: Arc<Plugin>,
    rule: Arc<RuleRef>,
    phase: Phase,
    order: i32,
}

const MOST_UPSTREAMS: usize = 32;

impl PolicyKind for WasmPlugin {
    const KIND: &'static str = "WasmPlugin";
    const ABOUT: &'static str =
        "Asks a proxy-wasm plugin, which may change, answer or refuse requests, and what connections carry.";
    const TARGETS: &'static [TargetKind] = &TargetKind::ALL;
    const MERGE: Merge = Merge::AddUp;
    type Spec = WasmPluginSpec;

    fn compile(spec: Self::Spec, cx: &mut CompileContext<'_>) -> Option<Compiled> {
        if !(-1000..=1000).contains(&spec.order) {
            cx.error("/order", format!("{} is out of range: use -1000 to 1000", spec.order));
        }
        // Each is looked at before any is needed, so that all faults are told at once.
        let source = spec.source.compile("/source", cx);
        let (budgets, offences) = (spec.budgets.compile(cx), spec.quarantine.compile(cx));
        let (hostcalls, upstreams) = spec.capabilities.compile(cx);
        let environment = spec.environment.into_iter().enumerate().map(|(i, (name, value))| {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                cx.error("/environment", format!("variable {i}: `{name}` cannot be the name of one"));
            }
            (name, value)
        });
        let plugin = Plugin {
            environment: environment.collect(),
            policy: cx.policy().clone(),
            source: source?,
            root_id: spec.plugin_name,
            vm_id: spec.vm_id,
            configuration: configuration(&spec.configuration),
            failure: spec.failure_policy.into(),
            budgets,
            offences,
            hostcalls,
            upstreams: upstreams?,
            shadow: cx.mode() == Mode::Shadow,
            traffic: traffic(&cx.target_kinds()),
        };
        let phase = match spec.phase {
            PhaseSpec::Authenticate => Phase::Authenticate,
            PhaseSpec::Authorize => Phase::Authorize,
            PhaseSpec::Plugin => Phase::Plugin,
        };
        let rule = cx.rule("plugin", "/source");
        Some(Compiled::Filter(Arc::new(Wasm { plugin: Arc::new(plugin), rule, phase, order: spec.order })))
    }
}

/// Of kinds that may be either, a Gateway or a Service, the plugin is asked whatever comes.
fn traffic(targets: &[TargetKind]) -> Traffic {
    let all = |kinds: &[TargetKind]| !targets.is_empty() && targets.iter().all(|kind| kinds.contains(kind));
    if all(&[TargetKind::TCPRoute, TargetKind::TLSRoute]) {
        Traffic::Connections
    } else if all(&[TargetKind::HTTPRoute, TargetKind::GRPCRoute]) {
        Traffic::Requests
    } else {
        Traffic::Any
    }
}

/// Only the plugin knows what it wants.
fn anything(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
}

fn configuration(written: &Value) -> Bytes {
    match written {
        Value::Null => Bytes::new(),
        Value::String(text) => Bytes::from(text.clone()),
        other => Bytes::from(other.to_string()),
    }
}

type Upstreams = Option<Vec<(String, Arc<ServiceRef>)>>;

impl CapabilitiesSpec {
    fn compile(self, cx: &mut CompileContext<'_>) -> (Option<Vec<String>>, Upstreams) {
        for (i, name) in self.hostcalls.iter().flatten().enumerate() {
            if !HOSTCALLS.contains(&name.as_str()) {
                let message = format!("`{name}` is no hostcall; they are named like `proxy_http_call`");
                cx.error(format!("/capabilities/hostcalls/{i}"), message);
            }
        }
        if self.upstreams.len() > MOST_UPSTREAMS {
            cx.error("/capabilities/upstreams", format!("write at most {MOST_UPSTREAMS}"));
        }
        let names = self.upstreams.iter().map(|upstream| Some(upstream.name.as_str()));
        check::unique(cx, "/capabilities/upstreams", names);
        let each = self.upstreams.into_iter().enumerate().map(|(i, upstream)| {
            let at = format!("/capabilities/upstreams/{i}");
            if upstream.name.is_empty() {
                cx.error(format!("{at}/name"), "write the name that the plugin calls it by");
            }
            Some((upstream.name, Arc::new(upstream.backend_ref.compile(&format!("{at}/backendRef"), cx)?)))
        });
        let upstreams: Vec<_> = each.collect();
        (self.hostcalls, upstreams.into_iter().collect())
    }
}

impl From<FailureSpec> for Failure {
    fn from(written: FailureSpec) -> Self {
        match written {
            FailureSpec::Open => Self::Open,
            FailureSpec::Closed => Self::Closed,
            FailureSpec::LastGood => Self::LastGood,
        }
    }
}

impl BindFilter for Wasm {
    fn bind(&self, _state: &StateStore) -> Arc<dyn Filter> {
        let (plugin, rule) = (self.plugin.clone(), self.rule.clone());
        Arc::new(PluginFilter { plugin, rule, phase: self.phase, order: self.order })
    }

    fn services(&self) -> Vec<(&Arc<ServiceRef>, String)> {
        let upstreams = self.plugin.upstreams.iter().enumerate();
        let place = |i| format!("/capabilities/upstreams/{i}/backendRef");
        upstreams.map(|(i, (_, service))| (service, place(i))).collect()
    }
}

#[cfg(test)]
mod tests;
