//! The control plane's stream: what it sends is decoded, applied and kept for the next start.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use tidegate_policy::codec;
use tidegate_policy::model::{Destination, Resource, ResourceType};
use tidegate_policy::snapshot::Rejected;
use tidegate_xds::UNCERTAIN;
use tidegate_xds::backoff::{Backoff, BackoffConfig};
use tidegate_xds::client::{ConfigHandler, DeltaClient, Rejection, Update, grpc};
use tidegate_xds::{Locality, Node};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::binds::{Binds, Wanted};
use super::last_good::{LastGood, Stored};
use super::{Applier, Change, ProxyConfig};
use crate::demand::Demand;
use crate::state::ProxyState;

/// Applies updates for the stream.
struct Handler {
    proxy: Arc<ProxyState>,
    applier: Applier,
    last_good: Option<LastGood>,
    binds: Arc<Binds>,
    /// The first whole configuration is here. Before, what is on disk is better than what is in force.
    synced: bool,
}

/// Puts the last good configuration in force, if there is one, and keeps the proxy connected until `stop`. A proxy
/// without a control plane is left alone.
///
/// # Errors
/// The control plane's address cannot be used.
pub(crate) fn start(
    proxy: &Arc<ProxyState>,
    runtime: &Handle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Some(endpoint) = proxy.control_plane()? else { return Ok(()) };
    let tells_pod = proxy.config.local.pod.is_some() && proxy.config.local.services.is_empty();
    let types = ResourceType::PUSH_ORDER.into_iter();
    let types = types.filter(|wanted| match wanted {
        ResourceType::Workload => tells_pod,
        ResourceType::Destination => proxy.demand.is_some(),
        _ => true,
    });
    let types: Vec<_> = types.map(ResourceType::type_url).collect();
    let asked = ResourceType::Destination.type_url();
    let mut client = DeltaClient::new(node(&proxy.config), &types).asking(asked);
    let mut applier = Applier::new(proxy.clone());
    let binds = Arc::new(Binds::new(proxy.clone()));
    let last_good = proxy.config.state_dir.as_deref().map(load);
    if let Some(last_good) = &last_good {
        for (resource_type, name, version) in restore(last_good, &mut applier, &binds) {
            if resource_type == ResourceType::Destination {
                client.subscribe(asked, [name.clone()]);
            }
            client.seed(resource_type.type_url(), name, version);
        }
    }
    let (wants, wanted) = match proxy.demand.as_ref().map(Demand::channel) {
        Some((wants, Some(wanted))) => (wants, wanted),
        _ => mpsc::channel(1),
    };
    if proxy.config.gateway.is_some() {
        let binds = binds.clone();
        let stop = stop.clone();
        runtime.spawn(async move { stop.run_until_cancelled(binds.follow(wants)).await });
    }
    let handler = Handler { proxy: proxy.clone(), applier, last_good, binds, synced: false };
    let backoff = Backoff::new(BackoffConfig::default(), fastrand::Rng::with_seed(crate::clock::seed()));
    runtime.spawn(async move { grpc::run_on_demand(endpoint, client, handler, backoff, stop, wanted).await });
    Ok(())
}

fn load(directory: &Path) -> LastGood {
    LastGood::load(directory).unwrap_or_else(|error| {
        tracing::warn!(%error, "the last good configuration is not used; waiting for the control plane");
        LastGood::empty(directory)
    })
}

/// Applies what was on disk; returns the names and versions that are in force now.
fn restore(
    last_good: &LastGood,
    applier: &mut Applier,
    binds: &Binds,
) -> Vec<(ResourceType, String, String)> {
    let mut change = Change::default();
    let mut seeds = Vec::new();
    for (resource_type, name, stored) in last_good.iter() {
        match codec::decode(resource_type, name, &stored.body) {
            Ok(Resource::Destination(found)) => {
                if let Some(demand) = &binds.proxy().demand {
                    demand.answered(std::iter::once(&found));
                    seeds.push((resource_type, name.to_owned(), stored.version.clone()));
                }
            }
            Ok(resource) => {
                change.upserts.push(resource);
                seeds.push((resource_type, name.to_owned(), stored.version.clone()));
            }
            Err(error) => tracing::warn!(name, %error, "a resource on disk is not used"),
        }
    }
    if seeds.is_empty() {
        return seeds;
    }
    let wanted: Vec<_> = change.upserts.iter().filter_map(Wanted::of).collect();
    let rejected = applier.apply(change);
    for wanted in wanted {
        // Sockets open later; what cannot be bound then is told then.
        binds.judge(wanted, &BTreeMap::new());
    }
    for (resource_type, name, version) in &mut seeds {
        if applier.stands_in(*resource_type, name) {
            UNCERTAIN.clone_into(version);
        }
    }
    seeds.retain(|(t, name, _)| {
        let refused = rejected.iter().any(|r| r.resource_type == *t && r.name == *name);
        !refused || applier.stands_in(*t, name)
    });
    binds.proxy().set_configured();
    tracing::info!(resources = seeds.len(), "started from the last good configuration");
    seeds
}

/// As the control plane knows this proxy.
pub(crate) fn node(config: &ProxyConfig) -> Node {
    let text = |text: String| Value { kind: Some(Kind::StringValue(text)) };
    let services = config.local.services.iter().map(|service| text(service.to_string())).collect();
    let fields = [
        ("namespace", text(config.local.namespace.to_string())),
        ("services", Value { kind: Some(Kind::ListValue(ListValue { values: services })) }),
        ("role", text(config.role().to_owned())),
    ];
    let gateway = config.gateway_name.as_ref().map(|name| ("gateway", text(name.to_string())));
    let pod = config.local.pod.as_ref().map(|pod| ("pod", text(pod.name.to_string())));
    let fields =
        fields.into_iter().chain(gateway).chain(pod).map(|(name, value)| (name.to_owned(), value)).collect();
    let zone = config.local.zone.as_ref();
    let locality = zone.map(|zone| Locality { zone: zone.to_string(), ..Locality::default() });
    Node { id: config.node.clone(), metadata: Some(Struct { fields }), locality, ..Node::default() }
}

impl Handler {
    fn decode(update: &Update, resource_type: ResourceType) -> (Vec<Resource>, Vec<Rejection>) {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for upsert in &update.upserts {
            match codec::decode(resource_type, &upsert.name, &upsert.body) {
                Ok(resource) => good.push(resource),
                Err(error) => bad.push(Rejection::of_content(upsert.name.clone(), error.to_string())),
            }
        }
        (good, bad)
    }

    fn keep(&mut self, resource_type: ResourceType, update: &Update, rejected: &[Rejection]) {
        let Some(last_good) = &mut self.last_good else { return };
        let refused = |name: &str| rejected.iter().any(|r| r.name == name && !r.in_force);
        let unbound = |name: &str| rejected.iter().any(|r| r.name == name && r.in_force);
        for upsert in update.upserts.iter().filter(|u| !refused(&u.name)) {
            let version = if unbound(&upsert.name) { UNCERTAIN.to_owned() } else { upsert.version.clone() };
            let stored = Stored { version, body: upsert.body.clone() };
            last_good.insert(resource_type, upsert.name.clone(), stored);
        }
        for name in &update.removed {
            last_good.remove(resource_type, name);
        }
        if self.synced && update.complete {
            self.save();
        }
    }

    fn save(&self) {
        let Some(last_good) = &self.last_good else { return };
        // A slow disk must not keep the admin port waiting, which shares this runtime.
        if let Err(error) = tokio::task::block_in_place(|| last_good.save()) {
            tracing::warn!(%error, "the last good configuration cannot be kept in --state-dir");
        }
    }
}

fn answer(resource: &Resource) -> Option<&Destination> {
    match resource {
        Resource::Destination(found) => Some(found),
        _ => None,
    }
}

impl ConfigHandler for Handler {
    fn apply(&mut self, update: &Update) -> Vec<Rejection> {
        // The client only hands on types that were asked for.
        let Some(resource_type) = ResourceType::from_type_url(update.type_url) else { return Vec::new() };
        let (upserts, mut rejected) = Self::decode(update, resource_type);
        for Rejection { name, reason, .. } in &rejected {
            tracing::warn!(?resource_type, name, reason, "resource refused; the last good one stays");
        }
        let wanted: Vec<_> = upserts.iter().filter_map(Wanted::of).collect();
        let foreseen = self.binds.foresee(&wanted);
        if let Some(demand) =
            self.proxy.demand.as_ref().filter(|_| resource_type == ResourceType::Destination)
        {
            demand.answered(upserts.iter().filter_map(answer));
            self.keep(resource_type, update, &rejected);
            return rejected;
        }
        let removed = update.removed.iter().map(|name| (resource_type, name.clone())).collect();
        let refused = self.applier.apply(Change { upserts, removed });
        // What is stood in for is in force in a way: its removal must be told, and a restart must not forget it.
        let stands_in = |name: &str| self.applier.stands_in(resource_type, name);
        rejected.extend(refused.into_iter().map(|Rejected { name, reason, .. }| Rejection {
            in_force: stands_in(&name),
            name,
            reason,
        }));
        if resource_type == ResourceType::Listener {
            self.binds.forget(&update.removed);
        }
        let applied = wanted.into_iter().filter(|w| !rejected.iter().any(|r| r.name == w.name));
        let unbound = applied.filter_map(|wanted| {
            let name = wanted.name.clone();
            let reason = self.binds.judge(wanted, &foreseen)?;
            Some(Rejection { name, reason, in_force: true })
        });
        let unbound: Vec<_> = unbound.collect();
        rejected.extend(unbound);
        self.keep(resource_type, update, &rejected);
        rejected
    }

    fn connected(&mut self) {
        tracing::info!("connected to the control plane");
        self.proxy.xds.connected();
        self.binds.reconnected();
    }

    fn synced(&mut self) {
        self.synced = true;
        // First: who is ready can be restarted without a control plane.
        self.save();
        self.proxy.set_configured();
    }

    fn disconnected(&mut self, reason: &str, retry_in: Duration) {
        tracing::warn!(reason, ?retry_in, "no control plane; traffic goes on as configured");
        self.proxy.xds.disconnected(reason);
        if let Some(demand) = &self.proxy.demand {
            demand.unheard();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zone_is_told_as_the_locality_of_the_node() {
        let mut config = ProxyConfig::default();
        assert_eq!(node(&config).locality, None);
        config.local.zone = Some("eu-1a".into());
        assert_eq!(node(&config).locality.unwrap().zone, "eu-1a");
    }
}
