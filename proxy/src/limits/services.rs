//! The rate limit services that policies name: their endpoints, and who of them is asked.
//!
//! A question goes to the endpoint that a hash of its first descriptor says, the same at every proxy: so one that counts in
//! its own memory counts right, and one that shares a store with others has its share of the load. Where it cannot be
//! connected to, or its breaker is open, the next one is asked. A question that was sent is sent nowhere else: it may have
//! been counted.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tidegate_policy::balance::EndpointState;
use tidegate_policy::pipeline::{Answer, Ask, ServiceRef};
use tidegate_policy::snapshot::{BackendState, Snapshot};
use tokio::time::Instant;

use super::NoAnswer;
use super::counts::{Counted, Counts};
use super::service::Service;

/// See the module. What no snapshot names any more is dropped.
#[derive(Debug, Default)]
pub(crate) struct Services(Mutex<BTreeMap<Arc<ServiceRef>, Arc<Known>>>);

/// One service.
#[derive(Debug, Default)]
struct Known {
    /// By address. Bounded by the endpoints of the backend.
    endpoints: Mutex<FxHashMap<Arc<str>, Arc<Service>>>,
    counts: Counts,
}

/// An endpoint with its place in the order of a question; the lowest is asked first.
type Ranked<'a> = (u64, &'a Arc<EndpointState>);

impl Services {
    /// # Errors
    /// If there is no answer within the time that the question has, or nobody to ask.
    pub(crate) async fn ask(&self, snapshot: &Snapshot, question: &Ask) -> Result<Answer, NoAnswer> {
        let known = self.known(&question.service);
        let result = known.ask(snapshot.service(&question.service).cloned(), question).await;
        known.counts.told(&result);
        result
    }

    /// Forgets the services that `snapshot` does not name.
    pub(crate) fn keep(&self, snapshot: &Snapshot) {
        self.0.lock().retain(|service, _| snapshot.services().contains(service));
    }

    /// By service, what became of the questions.
    pub(crate) fn counted(&self) -> Vec<(Arc<str>, Counted)> {
        let all = self.0.lock();
        all.iter().map(|(service, known)| (service.to_string().into(), known.counts.now())).collect()
    }

    fn known(&self, service: &Arc<ServiceRef>) -> Arc<Known> {
        Arc::clone(self.0.lock().entry(Arc::clone(service)).or_default())
    }
}

impl Known {
    async fn ask(&self, backend: Option<Arc<BackendState>>, question: &Ask) -> Result<Answer, NoAnswer> {
        let callable =
            |backend: &Arc<BackendState>| backend.tls.is_none() && backend.proxy_protocol.is_none();
        let backend = backend.filter(callable).ok_or(NoAnswer::Unreachable)?;
        let (begun, mut last) = (Instant::now(), NoAnswer::Unreachable);
        let (mut after, mut asked) = (None, false);
        while let Some((rank, endpoint)) = next(&backend, question, after) {
            after = Some(rank);
            let Some(service) = self.endpoint(endpoint, &backend) else { continue };
            let left = question.timeout.saturating_sub(begun.elapsed());
            if left == Duration::ZERO {
                return Err(NoAnswer::TimedOut);
            }
            let result = service.ask(question, left).await;
            if !asked && !matches!(result, Err(NoAnswer::Open | NoAnswer::Busy)) {
                asked = true;
                self.counts.asked();
            }
            match result {
                Err(why @ (NoAnswer::Open | NoAnswer::Unreachable)) => last = why,
                result => return result,
            }
        }
        Err(last)
    }

    fn endpoint(&self, endpoint: &EndpointState, backend: &BackendState) -> Option<Arc<Service>> {
        let mut endpoints = self.endpoints.lock();
        if let Some(known) = endpoints.get(&endpoint.label) {
            return Some(Arc::clone(known));
        }
        endpoints.retain(|address, _| backend.endpoints.iter().any(|endpoint| endpoint.label == *address));
        let new = Arc::new(Service::new(&endpoint.label).ok()?);
        endpoints.insert(Arc::clone(&endpoint.label), Arc::clone(&new));
        Some(new)
    }
}

/// The endpoint that is asked after the one with rank `after`.
fn next<'a>(backend: &'a BackendState, question: &Ask, after: Option<u64>) -> Option<Ranked<'a>> {
    let taking = backend.endpoints.iter().filter(|endpoint| endpoint.weight() > 0);
    let ranked = taking.map(|endpoint| (rank(question, &endpoint.label), endpoint));
    ranked.filter(|(rank, _)| after.is_none_or(|after| *rank > after)).min_by_key(|(rank, _)| *rank)
}

fn rank(question: &Ask, address: &str) -> u64 {
    // Its keys are fixed: other proxies rank alike.
    let mut hasher = DefaultHasher::new();
    question.domain.hash(&mut hasher);
    question.descriptors.first().map(|descriptor| &descriptor.entries).hash(&mut hasher);
    address.hash(&mut hasher);
    hasher.finish()
}
