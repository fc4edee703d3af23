//! Which part of the whole a node is told, by what it is. Nodes of one role are told the same, so the work is
//! done once per role and not once per node.

use std::collections::BTreeSet;

use tidegate_policy::model::{
    Policy, PolicyKey, ResourceName, Resources, Route, RouteFilter, RouteParent, TargetKind,
};

/// What a node is, from its xDS metadata.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Accepts traffic on the listeners of Gateways.
    Gateway,
    /// Sits beside one workload: its listeners are its own business.
    #[default]
    Sidecar,
}

impl Role {
    pub const ALL: [Self; 2] = [Self::Gateway, Self::Sidecar];

    /// As nodes write it in `metadata.role`; anything else is a sidecar, which is told less.
    pub fn parse(text: &str) -> Self {
        if text == "gateway" { Self::Gateway } else { Self::Sidecar }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Sidecar => "sidecar",
        }
    }

    /// What a node of this role needs of `all`, and nothing that it could only ignore.
    pub fn select(self, all: &Resources) -> Resources {
        let routes: Vec<Route> = all.routes.values().filter_map(|route| self.route(route)).collect();
        let told: BTreeSet<_> = routes.iter().map(|route| (route.kind.target(), &route.meta.name)).collect();
        let named = routes.iter().flat_map(|route| &route.rules).flat_map(|rule| {
            let below = rule.backends.iter().flat_map(|backend| RouteFilter::extensions(&backend.filters));
            RouteFilter::extensions(&rule.filters).chain(below)
        });
        let named: BTreeSet<_> = named.collect();
        let policies = all.policies.iter();
        let policies =
            policies.filter_map(|(key, p)| Some((key.clone(), self.policy(p, &told, &named)?))).collect();
        Resources {
            listeners: if self == Self::Gateway { all.listeners.clone() } else { Default::default() },
            policies,
            routes: routes
                .iter()
                .map(|route| ((route.kind, route.meta.name.clone()), route.clone()))
                .collect(),
            streams: if self == Self::Gateway { all.streams.clone() } else { Default::default() },
            backends: all.backends.clone(),
            endpoints: all.endpoints.clone(),
            workloads: Default::default(),
        }
    }

    fn route(self, route: &Route) -> Option<Route> {
        let mine = |parent: &RouteParent| match parent {
            RouteParent::Listener { .. } => self == Self::Gateway,
            RouteParent::Service { .. } => self == Self::Sidecar,
        };
        let parents: Vec<_> = route.parents.iter().filter(|p| mine(p)).cloned().collect();
        (!parents.is_empty()).then(|| Route { parents, ..route.clone() })
    }

    /// `named`: by the routes that are told. It is needed there, whatever it is attached to.
    fn policy(
        self,
        policy: &Policy,
        routes: &BTreeSet<(TargetKind, &ResourceName)>,
        named: &BTreeSet<&PolicyKey>,
    ) -> Option<Policy> {
        let mine = |kind: TargetKind, object: &ResourceName| match kind {
            TargetKind::Gateway | TargetKind::ListenerSet | TargetKind::TCPRoute | TargetKind::TLSRoute => {
                self == Self::Gateway
            }
            TargetKind::HTTPRoute | TargetKind::GRPCRoute => routes.contains(&(kind, object)),
            TargetKind::Namespace | TargetKind::Service | TargetKind::Backend => true,
        };
        let targets: Vec<_> = policy.targets.iter().filter(|t| mine(t.kind, &t.object)).cloned().collect();
        let needed = !targets.is_empty() || named.contains(&policy.key());
        needed.then(|| Policy { targets, ..policy.clone() })
    }
}
