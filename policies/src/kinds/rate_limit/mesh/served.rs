//! The limits whose budgets the control plane lends: to our proxies those of `scope: Mesh`, to others, who ask by a
//! domain, those that have one.

use std::collections::{BTreeMap, HashMap};

use tidegate_quota::{Limit, MESH_DOMAIN, Terms};

use super::bucket::{Names, own_name};
use super::{TTL, rate};
use crate::kind::{CompileContext, PolicyKind};
use crate::kinds::rate_limit::key::{KeyPart, Source};
use crate::kinds::rate_limit::scope::Sharing;
use crate::kinds::rate_limit::{RateLimitPolicy, RateLimitPolicySpec};
use crate::model::{Mode, Policy};

/// See the module.
#[derive(Debug, Default)]
pub struct QuotaLimits {
    /// By policy, limit, and the key that has a limit of its own.
    mesh: HashMap<(String, String, Option<String>), Limit>,
    domains: BTreeMap<String, Vec<DomainLimit>>,
}

#[derive(Debug)]
struct DomainLimit {
    /// The names that a bucket must have.
    entries: Vec<String>,
    limit: Limit,
}

impl QuotaLimits {
    /// Limits with faults are left out.
    pub fn new<'a>(policies: impl IntoIterator<Item = &'a Policy>) -> Self {
        let mut this = Self::default();
        for policy in policies.into_iter().filter(|policy| &*policy.kind == RateLimitPolicy::KIND) {
            if let Ok(spec) = <RateLimitPolicySpec as serde::Deserialize>::deserialize(&policy.spec) {
                this.add(policy, &spec);
            }
        }
        // The one that says most of a bucket is its limit.
        this.domains.values_mut().for_each(|limits| limits.sort_by_key(|l| usize::MAX - l.entries.len()));
        this
    }

    fn add(&mut self, policy: &Policy, spec: &RateLimitPolicySpec) {
        let mut cx = CompileContext::new(policy);
        let sharing = Sharing::compile(spec, &mut cx);
        for (i, limit) in spec.limits.iter().enumerate() {
            let Some(limit) = limit.compile(&format!("/limits/{i}"), &mut cx) else { continue };
            if let Some(domain) = spec.domain.as_ref().filter(|_| policy.mode != Mode::Shadow) {
                let entries = limit.key.iter().filter_map(entry).collect();
                let terms = Terms { ttl: TTL * 5, reuse: TTL };
                let limit = Limit { rate: rate(limit.written), terms };
                self.domains.entry(domain.clone()).or_default().push(DomainLimit { entries, limit });
            }
            let Sharing::Mesh(mesh) = sharing else { continue };
            let place = |own| (policy.reference().name.to_string(), limit.rule.name.to_string(), own);
            self.mesh.insert(place(None), mesh.limit(limit.written));
            for (key, written) in limit.overrides.iter().filter_map(|own| own.written()) {
                self.mesh.insert(place(Some(own_name(key))), mesh.limit(written));
            }
        }
    }

    /// The limit of the bucket that `names` says; `None` if there is none.
    pub fn limit(&self, domain: &str, names: &Names) -> Option<Limit> {
        if domain == MESH_DOMAIN {
            let name = |name: &str| names.get(name).cloned();
            return self.mesh.get(&(name("policy")?, name("limit")?, name("own"))).copied();
        }
        let limits = self.domains.get(domain)?;
        let named = |limit: &&DomainLimit| limit.entries.iter().all(|entry| names.contains_key(entry));
        limits.iter().find(named).map(|found| found.limit)
    }
}

fn entry(part: &KeyPart) -> Option<String> {
    if let Source::Descriptor(name) = &part.source { Some(name.to_string()) } else { None }
}
