//! The way to our own application: the filters of every Service it serves, then the app.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::build::Builder;
use super::policies::Behaviour;
use super::rule::Filters;
use super::{BackendState, Rule, Target};
use crate::attach::Chain;
use crate::balance::{Balancer, EndpointState};
use crate::call::{CallPlan, TimeLimits};
use crate::health::Together;
use crate::model::{Address, BackendKind, BackendName, ResourceName};
use crate::pipeline::Filter;
use crate::state::StateKey;

impl Builder<'_> {
    /// `None` where there is no application. A policy that several of its Services share holds once.
    pub(super) fn inbound(&mut self) -> Option<Rule> {
        let app = self.app()?;
        let (mut filters, mut applied, mut seen) = (Filters::default(), Vec::new(), BTreeSet::new());
        let (mut effective, mut all, mut mtls) = (Vec::new(), Vec::new(), Vec::new());
        for service in &self.local.services {
            let chains = Chain::inbound(service, self.resources);
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
        let authorizers = self.authorizers(&all, self.local.app.map(|(address, _)| address.port()));
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
        Some(named.leading_to(vec![(target, applied.into())]))
    }

    fn app(&self) -> Option<Arc<BackendState>> {
        let (address, protocol) = self.local.app?;
        let unnamed = || ResourceName::new(self.local.namespace.clone(), "app");
        let object = self.local.services.first().cloned().unwrap_or_else(unnamed);
        let name = BackendName { kind: BackendKind::Service, object, port: address.port() };
        let address = Address::Socket(address);
        let key = StateKey::new("endpoint/app", address.to_string());
        let endpoint = self.state.get_or_insert(key, || EndpointState::new(address));
        Some(Arc::new(BackendState {
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
        }))
    }
}
