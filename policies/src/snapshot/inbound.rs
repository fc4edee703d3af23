//! The way to our own application: the filters of every Service it serves, then the app.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use super::build::Builder;
use super::policies::Behaviour;
use super::rule::Filters;
use super::{BackendState, Rule, Target};
use crate::attach::Chain;
use crate::balance::{Balancer, EndpointState};
use crate::call::{CallPlan, TimeLimits};
use crate::health::Together;
use crate::model::{Address, AppProtocol, BackendKind, BackendName, ResourceName};
use crate::pipeline::Filter;
use crate::state::StateKey;

impl Builder<'_> {
    /// `None` where there is no application.
    pub(super) fn inbound(&mut self) -> Option<Rule> {
        let (address, protocol) = self.local.app?;
        // With a single port, all that are served lead there, whatever number they give it.
        let port = (!self.local.apps.is_empty()).then_some(address.port());
        Some(self.inbound_to((address, protocol), port))
    }

    /// What holds at each of the other ports. What is spoken there is said beside the workload, else by the Services whose
    /// ports lead there.
    pub(super) fn inbound_at(&mut self) -> BTreeMap<u16, Arc<Rule>> {
        let apps = self.local.apps.iter();
        let known = |(port, (address, protocol)): (&u16, &(SocketAddr, Option<AppProtocol>))| {
            (*port, *address, protocol.unwrap_or_else(|| self.spoken_at(*port)))
        };
        let apps: Vec<_> = apps.map(known).collect();
        let rule =
            |(port, address, protocol)| (port, Arc::new(self.inbound_to((address, protocol), Some(port))));
        apps.into_iter().map(rule).collect()
    }

    fn spoken_at(&self, port: u16) -> AppProtocol {
        let ports = self.served.iter().flat_map(|service| self.resources.ports_of(service));
        let mut there = ports.filter(|backend| {
            let known = self.resources.endpoints.get(&backend.name);
            known.is_some_and(|known| known.endpoints.iter().any(|e| e.address.port() == port))
        });
        there.next().map(|backend| backend.protocol).unwrap_or_default()
    }

    /// A policy that several of its Services share holds once. `port`: of the workload, where it tells Services' ports apart.
    fn inbound_to(&mut self, (address, protocol): (SocketAddr, AppProtocol), port: Option<u16>) -> Rule {
        let app = self.app(address, protocol);
        let (mut filters, mut applied, mut seen) = (Filters::default(), Vec::new(), BTreeSet::new());
        let (mut effective, mut all, mut mtls) = (Vec::new(), Vec::new(), Vec::new());
        for service in &self.served {
            let chains = Chain::inbound_at(service, self.resources, port);
            all.extend(chains.iter().cloned());
            for policy in chains.iter().flat_map(|chain| self.attachments.effective(chain)) {
                if !seen.insert((&policy.kind, &policy.meta.name)) {
                    continue;
                }
                effective.push(policy);
                if let Some(mesh) = self.policies.mesh_tls(policy) {
                    applied.push(mesh.policy.clone());
                    mtls.push(mesh as Arc<dyn Filter>);
                }
                if let Some(bound) = self.policies.get(policy)
                    && let Behaviour::Filter(filter) = &bound.behaviour
                {
                    filters.push(bound.order, filter.clone());
                    applied.push(bound.reference.clone());
                }
            }
        }
        let authorizers = self.authorizers(&all, Some(address.port()));
        applied.extend(authorizers.applied);
        authorizers.filters.iter().for_each(|filter| filters.push(authorizers.order, filter.clone()));
        // Of several Services, the strictest holds: one application serves them all.
        let header = effective.iter().filter_map(|policy| self.head_limit(&[policy]));
        let header = header.min_by_key(|limit| limit.after);
        let target = Target {
            backend: Ok(app),
            weight: 1,
            filters: filters.ordered(),
            // First: whoever may not connect spends nobody's budget.
            gate: mtls
                .into_iter()
                .chain(self.gate(&effective, &authorizers.filters).iter().cloned())
                .collect(),
            guard: None,
            health: None,
            together: Together::default(),
            balancer: None,
            mirrors: Box::default(),
            plan: CallPlan { times: TimeLimits { header, ..TimeLimits::default() }, ..CallPlan::default() },
            tls: None,
        };
        let named = Rule { name: "inbound".into(), ..Rule::empty() };
        named.leading_to(vec![(target, applied.into())])
    }

    fn app(&self, address: SocketAddr, protocol: AppProtocol) -> Arc<BackendState> {
        let unnamed = || ResourceName::new(self.local.namespace.clone(), "app");
        let object = self.served.first().cloned().unwrap_or_else(unnamed);
        let name = BackendName { kind: BackendKind::Service, object, port: address.port() };
        let address = Address::Socket(address);
        let key = StateKey::new("endpoint/app", address.to_string());
        let endpoint = self.state.get_or_insert(key, || EndpointState::new(address));
        Arc::new(BackendState {
            name,
            label: "app".into(),
            protocol,
            connect_timeout: None,
            proxy_protocol: None,
            tls: None,
            mtls: None,
            balancer: Balancer::plain(std::slice::from_ref(&endpoint)).into(),
            endpoints: Box::new([endpoint]),
            placements: Box::default(),
            _roster: Arc::default(),
            retry_budget: Arc::default(),
        })
    }
}
