//! Which part of the whole a node is told, by what it is. Nodes of one role are told the same, so the work is
//! done once per role and not once per node.

use std::collections::BTreeSet;

use tidegate_policy::model::{
    Policy, PolicyKey, Resource, ResourceName, Resources, Route, RouteFilter, RouteParent, TargetKind,
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

/// The routes that nodes of one role are told, and the policies that these name: such a policy is needed where the route
/// is, whatever it is attached to.
#[derive(Debug, Default)]
pub(super) struct ToldRoutes<'a> {
    routes: BTreeSet<(TargetKind, &'a ResourceName)>,
    named: BTreeSet<&'a PolicyKey>,
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
        let told = self.told(all);
        let policies = all.policies.iter();
        let policies = policies.filter_map(|(key, p)| Some((key.clone(), self.policy(p, &told)?))).collect();
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

    /// The routes that nodes of this role are told.
    pub(super) fn told(self, all: &Resources) -> ToldRoutes<'_> {
        let routes = all.routes.values().filter(|route| route.parents.iter().any(|p| self.has_parent(p)));
        let mut told = ToldRoutes::default();
        for route in routes {
            told.routes.insert((route.kind.target(), &route.meta.name));
            for rule in &route.rules {
                let below = rule.backends.iter().map(|backend| &backend.filters);
                let filters = std::iter::once(&rule.filters).chain(below);
                told.named.extend(filters.flat_map(|filters| RouteFilter::extensions(filters)));
            }
        }
        told
    }

    fn has_parent(self, parent: &RouteParent) -> bool {
        match parent {
            RouteParent::Listener { .. } => self == Self::Gateway,
            RouteParent::Service { .. } => self == Self::Sidecar,
        }
    }

    fn route(self, route: &Route) -> Option<Route> {
        let parents: Vec<_> = route.parents.iter().filter(|p| self.has_parent(p)).cloned().collect();
        (!parents.is_empty()).then(|| Route { parents, ..route.clone() })
    }

    /// What a node of this role needs of one resource that is no route; `None`: nothing.
    pub(super) fn part_of(self, resource: &Resource, told: &ToldRoutes<'_>) -> Option<Resource> {
        match resource {
            Resource::Policy(policy) => self.policy(policy, told).map(Resource::Policy),
            Resource::Listener(_) | Resource::StreamRoute(_) => {
                (self == Self::Gateway).then(|| resource.clone())
            }
            Resource::Route(route) => self.route(route).map(Resource::Route),
            Resource::Backend(_) | Resource::Endpoints(_) => Some(resource.clone()),
            Resource::Workload(_) | Resource::Destination(_) => None,
        }
    }

    pub(super) fn policy(self, policy: &Policy, told: &ToldRoutes<'_>) -> Option<Policy> {
        let mine = |kind: TargetKind, object: &ResourceName| match kind {
            TargetKind::Gateway | TargetKind::ListenerSet | TargetKind::TCPRoute | TargetKind::TLSRoute => {
                self == Self::Gateway
            }
            TargetKind::HTTPRoute | TargetKind::GRPCRoute => told.routes.contains(&(kind, object)),
            TargetKind::Namespace | TargetKind::Service | TargetKind::Backend => true,
        };
        let targets: Vec<_> = policy.targets.iter().filter(|t| mine(t.kind, &t.object)).cloned().collect();
        let needed = !targets.is_empty() || told.named.contains(&policy.key());
        needed.then(|| Policy { targets, ..policy.clone() })
    }
}
