//! What a snapshot holds, in words for people: the admin page's view.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::gateway::{ListenerRoutes, Routes};
use super::outbound::{PortRules, Service};
use super::policies::InForce;
use super::{BackendState, Rule, Snapshot, Target};
use crate::matching::MatchTable;
use crate::model::{
    AppProtocol, BackendName, BackendTls, HeaderMatch, Mode, PathMatch, PolicyRef, ProxyProtocol, QueryMatch,
    Retry, RouteMatch, SourceRef, StringMatch, Timeouts,
};
use crate::pick::Sessions;

/// What is in force. Everything prints as it is named in documents, with the place where it was written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Description<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    listeners: Vec<ListenerView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inbound: Option<RuleView<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    outbound: BTreeMap<String, Vec<RuleView<'a>>>,
    backends: BTreeMap<&'a str, BackendView<'a>>,
    policies: Vec<PolicyView<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ListenerView<'a> {
    name: String,
    source: &'a SourceRef,
    /// `address:port`, with `*` for all addresses.
    bind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    hostname: String,
    /// The Secrets with the certificates of an HTTPS listener.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    certificates: Vec<String>,
    /// By host or server name, `*` for any.
    hosts: BTreeMap<String, Vec<RuleView<'a>>>,
}

/// A match and where it leads. Listed in the order in which they are tried.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RuleView<'a> {
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    wanted: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    rule: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a SourceRef>,
    /// `request=10s backendRequest=2.5s`.
    #[serde(skip_serializing_if = "String::is_empty")]
    timeouts: String,
    /// `attempts=2 codes=502,503 backoff=100ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<String>,
    /// What carries the session: `cookie NAME` or `header NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    targets: Vec<TargetView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TargetView {
    /// The backend, or the reason why there is none.
    backend: String,
    weight: u32,
    /// `Maglev by header:x-user`; nothing where nothing is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    balancing: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    policies: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BackendView<'a> {
    protocol: AppProtocol,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<&'a BackendTls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_protocol: Option<ProxyProtocol>,
    endpoints: Vec<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyView<'a> {
    policy: String,
    mode: Mode,
    targets: Vec<String>,
    source: &'a SourceRef,
}

impl<'a> Description<'a> {
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        let listeners = snapshot.binds().into_iter().flat_map(|bind| {
            let ip = bind.ip.map_or_else(|| String::from("*"), |ip| ip.to_string());
            let socket = snapshot.sockets.get(&bind).into_iter();
            let view = move |(host, listener): (_, &'a Arc<ListenerRoutes>)| {
                ListenerView::of(listener, format!("{ip}:{}", bind.port), ToString::to_string(&host))
            };
            socket.flat_map(|socket| socket.listeners.iter()).map(view)
        });
        let backends = snapshot.backends.values().map(|backend| (&*backend.label, BackendView::of(backend)));
        Self {
            listeners: listeners.collect(),
            inbound: snapshot.inbound.as_deref().map(|rule| RuleView::of(None, rule)),
            outbound: snapshot.outbound.all.iter().flat_map(|service| services(service)).collect(),
            backends: backends.collect(),
            policies: snapshot.policies.iter().map(PolicyView::of).collect(),
        }
    }
}

impl<'a> ListenerView<'a> {
    fn of(listener: &'a ListenerRoutes, bind: String, hostname: String) -> Self {
        let named = |host: String| if host.is_empty() { String::from("*") } else { host };
        let hosts: Vec<(_, Vec<_>)> = match &listener.routes {
            Routes::Requests(hosts) => hosts.iter().map(|(host, table)| (host, rules(table))).collect(),
            Routes::ServerNames { rules, .. } | Routes::Connections(rules) => {
                rules.iter().map(|(host, rule)| (host, vec![RuleView::of(None, rule)])).collect()
            }
        };
        let hosts = hosts.into_iter().map(|(host, rules)| (named(host.to_string()), rules));
        Self {
            name: listener.name.to_string(),
            source: &listener.source,
            bind,
            hostname,
            certificates: listener.certificates.iter().map(ToString::to_string).collect(),
            hosts: hosts.collect(),
        }
    }
}

impl<'a> RuleView<'a> {
    fn of(wanted: Option<&RouteMatch>, rule: &'a Rule) -> Self {
        let targets = rule.targets.iter().zip(&rule.applied);
        Self {
            wanted: wanted.map(describe_match),
            route: rule.route.as_deref(),
            rule: &rule.name,
            source: rule.source.as_ref(),
            timeouts: describe_timeouts(rule.timeouts),
            retry: rule.retry.as_ref().map(describe_retry),
            session: rule.sessions.as_ref().map(Sessions::describe),
            targets: targets.map(|(target, applied)| TargetView::of(target, applied)).collect(),
        }
    }
}

impl TargetView {
    fn of(target: &Target, applied: &[Arc<PolicyRef>]) -> Self {
        let backend = match &target.backend {
            Ok(backend) => backend.label.to_string(),
            Err(reason) => format!("none ({})", reason.flag()),
        };
        let policies = applied.iter().map(|policy| format!("{} {}", policy.kind, policy.name)).collect();
        let balancing = target.balancer.as_ref().and_then(|balancer| balancer.settings.describe());
        Self { backend, weight: target.weight, balancing, policies }
    }
}

impl<'a> BackendView<'a> {
    fn of(backend: &'a BackendState) -> Self {
        let endpoints = backend.endpoints.iter().map(|endpoint| &*endpoint.label).collect();
        let BackendState { protocol, proxy_protocol, .. } = *backend;
        Self { protocol, tls: backend.tls.as_ref(), proxy_protocol, endpoints }
    }
}

impl<'a> PolicyView<'a> {
    fn of(policy: &'a InForce) -> Self {
        Self {
            policy: format!("{} {}", policy.reference.kind, policy.reference.name),
            mode: policy.mode,
            targets: policy.targets.iter().map(ToString::to_string).collect(),
            source: &policy.reference.source,
        }
    }
}

fn services(service: &Service) -> impl Iterator<Item = (String, Vec<RuleView<'_>>)> {
    service.ports.iter().map(|(port, found)| {
        let views = match found {
            PortRules::Direct { rule, .. } => vec![RuleView::of(None, rule)],
            PortRules::Routed(table) => rules(table),
        };
        let name = BackendName { kind: service.kind, object: service.name.clone(), port: *port };
        (name.to_string(), views)
    })
}

fn rules(table: &MatchTable<Arc<Rule>>) -> Vec<RuleView<'_>> {
    table.iter().map(|candidate| RuleView::of(Some(&candidate.wanted), &candidate.value)).collect()
}

fn describe_timeouts(timeouts: Timeouts) -> String {
    let named = [("request", timeouts.request), ("backendRequest", timeouts.backend_request)];
    let written = named.into_iter().filter_map(|(name, limit)| Some(format!("{name}={:?}", limit?)));
    written.collect::<Vec<_>>().join(" ")
}

fn describe_retry(retry: &Retry) -> String {
    let mut text = format!("attempts={}", retry.attempts);
    if !retry.codes.is_empty() {
        let codes: Vec<_> = retry.codes.iter().map(ToString::to_string).collect();
        text += &format!(" codes={}", codes.join(","));
    }
    if let Some(backoff) = retry.backoff {
        text += &format!(" backoff={backoff:?}");
    }
    text
}

/// One line: `GET /cart/* x-canary=1 ?debug=~.*`.
pub(crate) fn describe_match(wanted: &RouteMatch) -> String {
    let path = match &wanted.path {
        PathMatch::Exact(path) => path.to_string(),
        PathMatch::Prefix(prefix) => format!("{prefix}/*"),
        PathMatch::Regex(regex) => format!("~{}", regex.as_str()),
        PathMatch::AnyService(method) => format!("/*/{method}"),
    };
    let value = |value: &StringMatch| match value {
        StringMatch::Exact(value) => value.to_string(),
        StringMatch::Regex(regex) => format!("~{}", regex.as_str()),
    };
    let header = |h: &HeaderMatch| format!("{}={}", h.name, value(&h.value));
    let query = |q: &QueryMatch| format!("?{}={}", q.name, value(&q.value));
    let method = wanted.method.iter().map(ToString::to_string);
    let parts = method.chain([path]).chain(wanted.headers.iter().map(header));
    parts.chain(wanted.query.iter().map(query)).collect::<Vec<_>>().join(" ")
}
