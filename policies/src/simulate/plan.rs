use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::HeaderValue;
use http::header::HOST;
use http::request;
use serde_json::Value;

use crate::document::Parsed;
use crate::model::{AppProtocol, Policy, ResourceName, Resources, RouteFilter};
use crate::snapshot::{BindAddress, Local, Scope};
use crate::state::StateStore;
use crate::story::World;

/// Policies that traffic is to be replayed through, at one side of one proxy.
#[derive(Debug)]
pub struct Plan {
    pub world: World,
    side: Side,
    binds: Vec<BindAddress>,
    notes: Vec<String>,
}

/// Where the traffic comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    Gateway,
    /// At the sidecar of who calls, in this namespace.
    Caller(Arc<str>),
    /// At the sidecar of what these Services are served by.
    Serving(Vec<ResourceName>),
}

/// Where the application of a sidecar would listen.
const APP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3000);
const TOKENS: &str = "JwtAuthenticationPolicy";
/// Of counters, so that two runs are the same.
const HASH_SEED: [u64; 2] = [0, 0];

impl Plan {
    /// # Errors
    /// What a proxy would refuse, or a side that the documents do not have.
    pub fn new<'p>(parsed: impl IntoIterator<Item = &'p Parsed>, side: Side) -> Result<Self, String> {
        let mut resolved = World::resolve(parsed);
        let notes = adapt(&mut resolved.resources);
        let app = Some((APP, AppProtocol::Http1));
        let local = Local { node: "simulation".into(), ..Local::default() };
        let local = match &side {
            Side::Gateway => local,
            Side::Caller(namespace) => Local { app, namespace: namespace.clone(), ..local },
            Side::Serving(services) => Local { app, services: services.clone(), ..local },
        };
        let world = World::compile(resolved, &local, &StateStore::new(HASH_SEED))?;
        let binds = world.snapshot.binds();
        if side == Side::Gateway && binds.is_empty() {
            return Err(String::from(
                "no Gateway here has a listener: replay as a sidecar, by --as caller:NAMESPACE or \
                 --as serving:NAMESPACE/SERVICE",
            ));
        }
        Ok(Self { world, side, binds, notes })
    }

    /// What is not as it would be in production, in sentences.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What our own access log calls this side.
    pub fn direction(&self) -> &'static str {
        match self.side {
            Side::Gateway => "gateway",
            Side::Caller(_) => "outbound",
            Side::Serving(_) => "inbound",
        }
    }

    /// A host that some route is for; for requests of which none is known.
    pub fn usual_host(&self) -> Option<HeaderValue> {
        let routes = self.world.resolved.resources.routes.values();
        let hosts = routes.flat_map(|route| &route.parents).filter_map(|parent| match parent {
            crate::model::RouteParent::Listener { hostnames, .. } => Some(hostnames),
            crate::model::RouteParent::Service { .. } => None,
        });
        let plain = hosts.flatten().map(ToString::to_string).find(|host| !host.contains('*'));
        plain.and_then(|host| HeaderValue::try_from(host).ok())
    }

    /// Where a request comes in: at the port that it names, else at that of its scheme, else at the first there is.
    pub(super) fn scope(&self, head: &request::Parts, secure: bool) -> Scope {
        match self.side {
            Side::Caller(_) => return Scope::Outbound,
            Side::Serving(_) => return Scope::Inbound,
            Side::Gateway => {}
        }
        let named = || {
            let host = head.headers.get(HOST)?.as_bytes();
            let colon = host.iter().rposition(|byte| *byte == b':')?;
            std::str::from_utf8(&host[colon + 1..]).ok()?.parse().ok()
        };
        let usual = if secure { 443 } else { 80 };
        let at = |port: u16| self.binds.iter().find(|bind| bind.port == port);
        let bind = match &self.binds[..] {
            [only] => Some(only),
            binds => named().and_then(at).or_else(|| at(usual)).or(binds.first()),
        };
        bind.map_or(Scope::Outbound, |bind| Scope::Gateway(*bind))
    }
}

/// Makes of the resources what one proxy can do by itself, and says what it was.
fn adapt(resources: &mut Resources) -> Vec<String> {
    let mut notes = Vec::new();
    resources.policies.retain(|_, policy| {
        let keep = &*policy.kind != TOKENS;
        if !keep {
            notes.push(format!("{}: left out, for a log has no tokens", shown(policy)));
        }
        keep
    });
    // A route that names what is not there refuses everything.
    let stays = |filter: &RouteFilter| !matches!(filter, RouteFilter::Extension(key) if &*key.kind == TOKENS);
    for rule in resources.routes.values_mut().flat_map(|route| &mut route.rules) {
        rule.filters.retain(stays);
        rule.backends.iter_mut().for_each(|backend| backend.filters.retain(stays));
    }
    for policy in resources.policies.values_mut() {
        if &*policy.kind == "RateLimitPolicy" {
            limit(policy, &mut notes);
        }
        if &*policy.kind == "AuthorizationPolicy" && policy.spec.to_string().contains("claims") {
            notes.push(format!(
                "{}: asks for claims of tokens, and judges as if there were none",
                shown(policy)
            ));
        }
        if &*policy.kind == "RetryPolicy" && policy.spec.get("hedge").is_some() {
            notes.push(format!("{}: nothing is hedged here", shown(policy)));
        }
        if &*policy.kind == "HealthCheckPolicy" {
            notes.push(format!("{}: nobody checks here, so every endpoint is healthy", shown(policy)));
        }
    }
    notes
}

fn limit(policy: &mut Policy, notes: &mut Vec<String>) {
    let name = shown(policy);
    let Some(spec) = policy.spec.as_object_mut() else { return };
    if let Some(scope) = spec.remove("scope").filter(|scope| scope != "Local") {
        let scope = scope.as_str().unwrap_or_default().to_owned();
        notes.push(format!("{name}: `scope: {scope}` counts as Local here, as if one proxy saw all of it"));
        for field in ["mesh", "exact", "service"] {
            spec.remove(field);
        }
        let limits = spec.get_mut("limits").and_then(Value::as_array_mut);
        for limits in limits.into_iter() {
            let before = limits.len();
            limits.retain(|limit| limit.get("requests").is_some() && limit.get("per").is_some());
            if limits.len() < before {
                notes.push(format!("{name}: limits that only its service knows are left out"));
            }
            for limit in limits.iter_mut().filter_map(Value::as_object_mut) {
                limit.remove("descriptor");
            }
        }
    }
    if spec.get("newConnections").is_some() {
        notes.push(format!("{name}: limits of new connections are not asked, for a log is of requests"));
    }
    let headers = spec.get("limits").and_then(Value::as_array).into_iter().flatten();
    let keys = headers.filter_map(|limit| limit.get("key")?.as_array()).flatten();
    let named = keys.filter_map(|key| match key.get("type")?.as_str()? {
        kind @ ("Header" | "Cookie" | "QueryParameter") => Some((kind, key.get("name")?.as_str()?)),
        _ => None,
    });
    for (kind, header) in named {
        notes.push(format!(
            "{name}: counts by {} `{header}`; requests that the traffic has without share one count",
            kind.to_lowercase()
        ));
    }
}

fn shown(policy: &Policy) -> String {
    format!("{} {} ({})", policy.kind, policy.meta.name, policy.meta.source)
}
