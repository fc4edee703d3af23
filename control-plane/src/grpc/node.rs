//! One connected proxy: who it says it is, and what it said of each resource.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tidegate_policy::model::ResourceName;
use tidegate_xds::client::WANTS;
use tidegate_xds::server::Nack;
use tidegate_xds::server::grpc::IDENTITY;
use tidegate_xds::{Name, Node, Version};

use crate::publish::{Interest, ResourceId, Role, Scope, account};

/// A node's metadata may be anything; no more than this many services are shown.
const MAX_SERVICES: usize = 64;

#[derive(Clone, Debug)]
pub struct NodeState {
    pub id: String,
    pub role: Role,
    /// Which part of the whole it is told.
    pub scope: Scope,
    pub namespace: String,
    pub services: Vec<String>,
    /// The SPIFFE id that it has proved to have.
    pub identity: Option<String>,
    /// Where it runs, if it says so.
    pub zone: Option<String>,
    pub connected_since: SystemTime,
    pub last_refusal: Option<String>,
    /// By type URL. The largest thing a control plane holds per node: names and versions are those of the world.
    acknowledged: BTreeMap<&'static str, HashMap<Name, Version>>,
    refused: HashMap<ResourceId, Refusal>,
}

/// Which version was refused, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub version: Version,
    pub reason: String,
    /// It is in force there all the same, without the address that it asks for.
    pub unbound: bool,
}

impl Interest {
    /// `None` of a node that is told of everything.
    fn of(metadata: Option<&Struct>, namespace: &str) -> Option<Self> {
        field(metadata, WANTS)?;
        let services = texts(metadata, "services");
        Some(Self {
            namespace: namespace.into(),
            served: services.iter().filter_map(|service| service.parse().ok()).collect(),
            wants: texts_up_to(metadata, WANTS, Self::MAX).into_iter().map(Name::from).collect(),
        })
    }
}

impl NodeState {
    /// Reads `metadata {namespace, services: [..], role, gateway: namespace/name, pod}` and `locality {zone}` of an xDS node.
    pub fn new(node: &Node, now: SystemTime) -> Self {
        let text = |key| text(node.metadata.as_ref(), key);
        let role = Role::parse(text("role").unwrap_or_default());
        let namespace = text("namespace").unwrap_or_default();
        // A name of a wrong form is nobody's.
        let nobodys = |name: &str| ResourceName::new("", name);
        let account = text(IDENTITY).map(|name| account(name).unwrap_or_else(|| nobodys(name)));
        let scope = match role {
            Role::Gateway => {
                let name = text("gateway").map(|name| name.parse().unwrap_or_else(|_| nobodys(name)));
                Scope::Gateway { name, account }
            }
            Role::Sidecar => {
                let is_there = |account: ResourceName| *account.namespace == *namespace;
                let pod = text("pod").filter(|_| account.is_none_or(is_there));
                let pod = pod.map(|pod| ResourceName::new(namespace, pod));
                Scope::Sidecar { pod, interest: Interest::of(node.metadata.as_ref(), namespace) }
            }
        };
        Self {
            id: node.id.clone(),
            role,
            scope,
            namespace: namespace.to_owned(),
            services: texts(node.metadata.as_ref(), "services"),
            identity: text(IDENTITY).map(str::to_owned),
            zone: node.locality.as_ref().map(|at| at.zone.clone()).filter(|zone| !zone.is_empty()),
            connected_since: now,
            last_refusal: None,
            acknowledged: BTreeMap::new(),
            refused: HashMap::new(),
        }
    }

    pub fn acknowledge(
        &mut self,
        type_url: &'static str,
        resources: impl IntoIterator<Item = (Name, Version)>,
        removed: &[Name],
    ) {
        let acknowledged = self.acknowledged.entry(type_url).or_default();
        for (name, version) in resources {
            self.refused.remove(&(type_url, name.clone()));
            acknowledged.insert(name, version);
        }
        for name in removed {
            acknowledged.remove(name);
            self.refused.remove(&(type_url, name.clone()));
        }
    }

    pub fn refuse(&mut self, nack: Nack) {
        self.acknowledge(nack.type_url, nack.acked, &nack.removed);
        for rejected in nack.rejected {
            if rejected.in_force {
                // It may have run this very version before, with its address.
                self.acknowledged.entry(nack.type_url).or_default().remove(&rejected.name);
            }
            let refusal =
                Refusal { version: rejected.version, reason: rejected.reason, unbound: rejected.in_force };
            self.refused.insert((nack.type_url, rejected.name), refusal);
        }
        self.last_refusal = Some(nack.message);
    }

    /// Whether the node has exactly this version in force.
    pub fn runs(&self, id: &ResourceId, version: &Version) -> bool {
        self.acknowledged.get(id.0).and_then(|of_type| of_type.get(&id.1)) == Some(version)
    }

    /// Why the node refused exactly this version, if it did.
    pub fn refusal(&self, id: &ResourceId, version: &Version) -> Option<&Refusal> {
        self.refused.get(id).filter(|r| r.version == *version)
    }
}

fn field<'a>(metadata: Option<&'a Struct>, key: &str) -> Option<&'a Kind> {
    metadata?.fields.get(key)?.kind.as_ref()
}

fn text<'a>(metadata: Option<&'a Struct>, key: &str) -> Option<&'a str> {
    as_text(field(metadata, key)?)
}

fn texts(metadata: Option<&Struct>, key: &str) -> Vec<String> {
    texts_up_to(metadata, key, MAX_SERVICES)
}

fn texts_up_to(metadata: Option<&Struct>, key: &str, most: usize) -> Vec<String> {
    let Some(Kind::ListValue(list)) = field(metadata, key) else { return Vec::new() };
    let item = |value: &Value| as_text(value.kind.as_ref()?).map(str::to_owned);
    list.values.iter().filter_map(item).take(most).collect()
}

fn as_text(kind: &Kind) -> Option<&str> {
    match kind {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tidegate_xds::Locality;

    use super::*;

    #[test]
    fn where_a_proxy_runs_is_known_if_it_says_so() {
        let zone =
            |locality| NodeState::new(&Node { locality, ..Node::default() }, SystemTime::UNIX_EPOCH).zone;
        let at = |zone: &str| Some(Locality { zone: zone.to_owned(), ..Locality::default() });
        assert_eq!(zone(at("eu-1a")).as_deref(), Some("eu-1a"));
        assert_eq!((zone(at("")), zone(None)), (None, None));
    }
}
