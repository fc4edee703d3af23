//! The limits that the control plane serves as a rate limit service: by domain and descriptor, not by request.
//!
//! A limit counts every descriptor that has all entries of its key; a descriptor that no limit counts is let through.
//! All descriptors of a question are spent, or none. While two questions race, one may be refused for what the other
//! gives back a moment later; never is more let through than the limits say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::cell::{Level, Spend};
use super::key::{self, KeyPart, KeySpec, KeyType, Source};
use super::scope::{Scope, Sharing};
use super::{BoundLimit, RateLimitPolicy, RateLimitPolicySpec};
use crate::kind::{CompileContext, PolicyKind};
use crate::model::{Mode, Policy};
use crate::state::StateStore;
use crate::time::Timestamp;

/// The limits of all domains, joined to their counters.
#[derive(Debug, Default)]
pub struct DescriptorLimiter {
    domains: BTreeMap<String, Vec<DomainLimit>>,
    seed: [u64; 2],
}

#[derive(Debug)]
struct DomainLimit {
    limit: BoundLimit,
    shadow: bool,
}

/// One descriptor of a question, and how much it costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor<'a> {
    pub entries: Vec<(&'a str, &'a str)>,
    pub hits: u32,
}

/// What is said of one descriptor: of the limit that is closest to exhaustion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    pub allowed: bool,
    pub limit: Arc<str>,
    pub remaining: u32,
    /// Until there is one more, or until what was wanted is there; `None` for never.
    pub wait: Option<Duration>,
}

/// One for each descriptor, in order; `None` where no limit counts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    pub descriptors: Vec<Option<Judged>>,
}

/// One limit under one key of one descriptor.
struct Part<'a> {
    descriptor: usize,
    limit: &'a BoundLimit,
    key: u128,
    hits: u32,
}

/// The faults of a `domain` and of what goes with it only.
pub(super) fn check(spec: &RateLimitPolicySpec, cx: &mut CompileContext<'_>) {
    if spec.domain.as_deref() == Some("") {
        cx.error("/domain", "a domain has a name");
    }
    if spec.domain.is_some() && cx.has_targets() {
        cx.error("/domain", "a policy with a `domain` is served to others: write no targetRefs");
    }
    if spec.domain.is_some() {
        refuse_what_asks_of_requests(spec, cx);
    }
    for (i, limit) in spec.limits.iter().enumerate() {
        for (n, part) in limit.key.iter().enumerate() {
            let at = format!("/limits/{i}/key/{n}/type");
            match (spec.domain.is_some(), part.r#type == KeyType::Descriptor) {
                (true, false) => {
                    cx.error(at, "a policy with a `domain` sees descriptors only: use Descriptor");
                }
                (false, true) => cx.error(at, "Descriptor goes with a `domain` only"),
                _ => {}
            }
        }
    }
    for (at, key) in keys_of_requests(spec).filter(|_| spec.domain.is_none()) {
        for (n, _) in key.iter().enumerate().filter(|(_, part)| part.r#type == KeyType::Descriptor) {
            cx.error(format!("{at}/key/{n}/type"), "Descriptor goes with a `domain` only");
        }
    }
}

/// Those keys that no descriptor has.
fn keys_of_requests(spec: &RateLimitPolicySpec) -> impl Iterator<Item = (String, &[KeySpec])> {
    let concurrent =
        spec.concurrent.iter().enumerate().map(|(i, one)| (format!("/concurrent/{i}"), one.key()));
    let quotas = spec.quotas.iter().enumerate().map(|(i, quota)| (format!("/quotas/{i}"), quota.key()));
    concurrent.chain(quotas)
}

/// There is a descriptor and no request, and refusals are written by who asked.
fn refuse_what_asks_of_requests(spec: &RateLimitPolicySpec, cx: &mut CompileContext<'_>) {
    let mut fields = vec![
        (String::from("/scope"), spec.scope != Scope::Local),
        (String::from("/when"), spec.when.is_some()),
        (String::from("/onLimit"), spec.on_limit.is_some()),
        (String::from("/concurrent"), !spec.concurrent.is_empty()),
        (String::from("/quotas"), !spec.quotas.is_empty()),
        (String::from("/newConnections"), !spec.new_connections.is_empty()),
    ];
    for (i, limit) in spec.limits.iter().enumerate() {
        fields.push((format!("/limits/{i}/when"), limit.when.is_some()));
        fields.push((format!("/limits/{i}/requestsFrom"), limit.requests_from.is_some()));
        fields.push((format!("/limits/{i}/cost"), limit.cost.is_some()));
        fields.push((format!("/limits/{i}/responseCost"), limit.response_cost.is_some()));
        fields.push((format!("/limits/{i}/overrides"), !limit.overrides.is_empty()));
    }
    for (at, _) in fields.into_iter().filter(|(_, written)| *written) {
        cx.error(
            at,
            "a policy with a `domain` sees descriptors only, and refuses nobody itself: leave it out",
        );
    }
}

impl DescriptorLimiter {
    /// The limits of those policies that have a domain. Policies with faults are left out.
    pub fn new<'a>(policies: impl IntoIterator<Item = &'a Policy>, state: &StateStore) -> Self {
        let mut this = Self { domains: BTreeMap::new(), seed: state.hash_seed() };
        for policy in policies.into_iter().filter(|policy| &*policy.kind == RateLimitPolicy::KIND) {
            let spec = <RateLimitPolicySpec as serde::Deserialize>::deserialize(&policy.spec);
            let Ok(RateLimitPolicySpec { domain: Some(domain), limits, .. }) = spec else { continue };
            let mut cx = CompileContext::new(policy);
            let owner: Arc<str> = format!("domain {domain}: {}", policy.meta.name).into();
            let bound = limits.iter().enumerate().filter_map(|(i, limit)| {
                let limit = limit.compile(&format!("/limits/{i}"), &mut cx)?.bind(
                    &owner,
                    &policy.reference(),
                    Sharing::Local,
                    state,
                );
                Some(DomainLimit { limit, shadow: policy.mode == Mode::Shadow })
            });
            this.domains.entry(domain).or_default().extend(bound);
        }
        this
    }

    /// Spends what all descriptors cost, or nothing.
    pub fn judge(&self, domain: &str, descriptors: &[Descriptor<'_>], now: Timestamp) -> Judgement {
        let mut judgement = Judgement { descriptors: vec![None; descriptors.len()] };
        let parts = self.parts(domain, descriptors);
        for part in &parts {
            judgement.note(part, part.look(now));
        }
        if !judgement.allowed() {
            return judgement;
        }
        judgement.descriptors.fill(None);
        let mut spends = Vec::with_capacity(parts.len());
        for part in &parts {
            let result = part.take(now);
            spends.extend(result.as_ref().map(|spent| spent.after));
            let refused = result.is_err();
            judgement.note(part, result.map(|spent| spent.level));
            if refused {
                parts.iter().zip(spends).for_each(|(taken, after)| taken.put_back(after, now));
                return judgement;
            }
        }
        judgement
    }

    fn parts(&self, domain: &str, descriptors: &[Descriptor<'_>]) -> Vec<Part<'_>> {
        let mut parts = Vec::new();
        let limits = self.domains.get(domain).map(Vec::as_slice).unwrap_or_default();
        for DomainLimit { limit, .. } in limits.iter().filter(|limit| !limit.shadow) {
            for (i, descriptor) in descriptors.iter().enumerate() {
                let Some(values) = descriptor.values(&limit.key) else { continue };
                let key = key::hash_values(values.into_iter(), self.seed);
                parts.push(Part { descriptor: i, limit, key, hits: descriptor.hits });
            }
        }
        parts
    }
}

impl<'a> Descriptor<'a> {
    fn values(&self, key: &[KeyPart]) -> Option<Vec<&'a str>> {
        let value = |part: &KeyPart| match &part.source {
            Source::Descriptor(name) => {
                self.entries.iter().find(|(key, _)| *key == &**name).map(|(_, value)| *value)
            }
            _ => None,
        };
        key.iter().map(value).collect()
    }
}

impl Judgement {
    /// Whether all descriptors pass.
    pub fn allowed(&self) -> bool {
        self.descriptors.iter().flatten().all(|judged| judged.allowed)
    }

    fn note(&mut self, part: &Part<'_>, result: Result<Level, Option<Duration>>) {
        let (allowed, remaining, wait) = match result {
            Ok(level) => (true, level.remaining, Some(level.next)),
            Err(wait) => (false, 0, wait),
        };
        let judged = Judged { allowed, limit: Arc::clone(&part.limit.rule.name), remaining, wait };
        let told = &mut self.descriptors[part.descriptor];
        // A refusal before any rest; of two refusals the longer wait; of two rests the smaller one.
        let worse = told.as_ref().is_none_or(|before| match (before.allowed, allowed) {
            (true, false) => true,
            (false, true) => false,
            (true, true) => remaining < before.remaining,
            (false, false) => before.wait.is_some_and(|known| wait.is_none_or(|wait| wait > known)),
        });
        if worse {
            *told = Some(judged);
        }
    }
}

impl Part<'_> {
    // The lock of a limit is held for one bucket at a time: a question may have several of one limit.
    fn look(&self, now: Timestamp) -> Result<Level, Option<Duration>> {
        let bucket = self.limit.counters.bucket(self.key, Vec::new, now);
        bucket.check(self.hits, now)?;
        Ok(bucket.level(now))
    }

    fn take(&self, now: Timestamp) -> Result<Spend, Option<Duration>> {
        let bucket = self.limit.counters.bucket(self.key, Vec::new, now);
        bucket.spend(self.hits, now)
    }

    fn put_back(&self, after: u64, now: Timestamp) {
        let bucket = self.limit.counters.bucket(self.key, Vec::new, now);
        bucket.give_back(self.hits, after);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{faults, policy};
    use super::*;
    use crate::model::{TargetKind, TargetRef};
    use serde_json::{Value, json};

    fn limiter() -> DescriptorLimiter {
        let spec = json!({"domain": "edge", "limits": [
            {"name": "user", "requests": 3, "per": "1h", "key": [{"type": "Descriptor", "name": "user"}]},
            {"name": "path", "requests": 5, "per": "1h", "key": [{"type": "Descriptor", "name": "path"}]},
        ]});
        DescriptorLimiter::new(&[policy("RateLimitPolicy", Mode::Enforce, spec)], &StateStore::new([0, 0]))
    }

    fn one<'a>(key: &'a str, value: &'a str, hits: u32) -> Descriptor<'a> {
        Descriptor { entries: vec![(key, value)], hits }
    }

    fn passes(limiter: &DescriptorLimiter, domain: &str, descriptors: &[Descriptor<'_>]) -> bool {
        limiter.judge(domain, descriptors, Timestamp::from_millis(1)).allowed()
    }

    #[test]
    fn a_descriptor_with_the_entries_of_a_key_is_counted_by_value_and_cost() {
        let limiter = limiter();
        assert!(passes(&limiter, "edge", &[one("user", "ann", 2)]));
        assert!(!passes(&limiter, "edge", &[one("user", "ann", 2)]));
        assert!(passes(&limiter, "edge", &[one("user", "ann", 1)]));
        assert!(passes(&limiter, "edge", &[one("user", "bob", 3)]));
        assert!(!passes(&limiter, "edge", &[one("user", "eve", 4)]), "more than it ever holds");
    }

    #[test]
    fn what_no_limit_counts_passes() {
        let limiter = limiter();
        for _ in 0..9 {
            assert!(passes(&limiter, "edge", &[one("tenant", "ann", 1)]));
            assert!(passes(&limiter, "other", &[one("user", "ann", 1)]));
        }
    }

    #[test]
    fn a_refused_descriptor_spends_nothing_of_the_others_nor_of_itself() {
        let limiter = limiter();
        assert!(passes(&limiter, "edge", &[one("user", "ann", 3)]));
        for _ in 0..9 {
            assert!(!passes(&limiter, "edge", &[one("path", "/", 1), one("user", "ann", 1)]));
            assert!(!passes(&limiter, "edge", &[one("path", "/", 3), one("path", "/", 3)]));
        }
        assert!(passes(&limiter, "edge", &[one("path", "/", 5)]));
    }

    #[test]
    fn descriptors_go_with_a_domain_and_a_domain_with_descriptors() {
        let spec = |domain: Option<&str>, key| {
            let limit = json!({"name": "a", "requests": 1, "per": "1s", "key": [key]});
            let mut spec = json!({"limits": [limit]});
            domain.into_iter().for_each(|domain| spec["domain"] = json!(domain));
            spec
        };
        let wrong = [
            spec(None, json!({"type": "Descriptor", "name": "user"})),
            spec(Some("edge"), json!({"type": "Path"})),
            spec(Some("edge"), json!({"type": "Descriptor"})),
            spec(Some(""), json!({"type": "Descriptor", "name": "user"})),
        ];
        for spec in wrong {
            assert_eq!(faults("RateLimitPolicy", spec.clone()).len(), 1, "{spec}");
        }
    }

    #[test]
    fn a_domain_with_targets_is_refused() {
        let spec = json!({"domain": "edge", "limits": [
            {"name": "a", "requests": 1, "per": "1s", "key": [{"type": "Descriptor", "name": "u"}]},
        ]});
        let mut policy = policy("RateLimitPolicy", Mode::Enforce, spec);
        assert!(crate::kinds::find("RateLimitPolicy").unwrap().compile(&policy).is_ok());
        let object = crate::model::ResourceName::new("shop", "cart");
        policy.targets.push(TargetRef { kind: TargetKind::Service, object, section: None });
        let faults = crate::kinds::find("RateLimitPolicy").unwrap().compile(&policy).unwrap_err();
        assert_eq!(faults[0].pointer, "/domain");
    }

    #[test]
    fn what_asks_of_a_request_or_has_targets_is_no_part_of_a_domain() {
        let limit = |extra: (&str, Value)| {
            let mut limit = json!({"name": "a", "requests": 1, "per": "1s", "key": [{"type": "Descriptor", "name": "u"}]});
            limit[extra.0] = extra.1;
            json!({"domain": "edge", "limits": [limit]})
        };
        for (spec, want) in [
            (limit(("when", json!("true"))), "spec/limits/0/when: a policy with a `domain`"),
            (limit(("cost", json!({"fixed": 1}))), "spec/limits/0/cost: a policy with a `domain`"),
            (
                limit(("overrides", json!([{"key": ["a"], "unlimited": true}]))),
                "spec/limits/0/overrides: a policy",
            ),
        ] {
            let faults = faults("RateLimitPolicy", spec);
            assert!(faults.len() == 1 && faults[0].starts_with(want), "{faults:?}");
        }
    }
}
