//! The control plane as a rate limit service, so that an Envoy can be pointed at it. What is let through, the policy
//! core says; its counters are those of this process and outlive every change of the documents.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_policy::kinds::rate_limit::{Descriptor, DescriptorLimiter, Judged, Judgement};
use tidegate_policy::state::StateStore;
use tidegate_xds::rls::{
    Code, DescriptorStatus, HeaderValue, RateLimit, RateLimitRequest, RateLimitResponse, RateLimitService,
};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::world::World;

/// See the module.
#[derive(Debug)]
pub(crate) struct Limits {
    world: watch::Receiver<Arc<World>>,
    state: StateStore,
    /// Of which world it is.
    current: Mutex<(u64, Arc<DescriptorLimiter>)>,
    start: Instant,
}

impl Limits {
    pub(crate) fn new(world: watch::Receiver<Arc<World>>) -> Self {
        let seed = || RandomState::new().build_hasher().finish();
        let state = StateStore::new([seed(), seed()]);
        let current = Mutex::new((world.borrow().generation, Arc::new(limiter(&world.borrow(), &state))));
        Self { world, state, current, start: Instant::now() }
    }

    fn judge(&self, request: &RateLimitRequest) -> Judgement {
        let descriptors = request.descriptors.iter().map(|descriptor| Descriptor {
            entries: descriptor.entries.iter().map(|entry| (&*entry.key, &*entry.value)).collect(),
            hits: match descriptor.hits_addend {
                Some(hits) => u32::try_from(hits).unwrap_or(u32::MAX),
                None => request.hits_addend.max(1),
            },
        });
        self.current().judge(&request.domain, &descriptors.collect::<Vec<_>>(), self.start.elapsed().into())
    }

    fn current(&self) -> Arc<DescriptorLimiter> {
        let world = Arc::clone(&self.world.borrow());
        let mut current = self.current.lock();
        if current.0 != world.generation {
            *current = (world.generation, Arc::new(limiter(&world, &self.state)));
            self.state.sweep(self.start.elapsed().into());
        }
        Arc::clone(&current.1)
    }
}

fn limiter(world: &World, state: &StateStore) -> DescriptorLimiter {
    DescriptorLimiter::new(world.policies(), state)
}

#[tonic::async_trait]
impl RateLimitService for Limits {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        Ok(Response::new(answer(&self.judge(request.get_ref()))))
    }
}

fn answer(judgement: &Judgement) -> RateLimitResponse {
    let code = |allowed| if allowed { Code::Ok } else { Code::OverLimit };
    let status = |judged: &Judged| DescriptorStatus {
        code: code(judged.allowed).into(),
        current_limit: Some(RateLimit { name: judged.limit.to_string(), ..RateLimit::default() }),
        limit_remaining: judged.remaining,
        duration_until_reset: judged.wait.and_then(|wait| wait.try_into().ok()),
    };
    let uncounted = DescriptorStatus { code: Code::Ok.into(), ..DescriptorStatus::default() };
    let statuses =
        judgement.descriptors.iter().map(|judged| judged.as_ref().map_or(uncounted.clone(), status));
    let refused = judgement.descriptors.iter().flatten().filter(|judged| !judged.allowed);
    let wait = refused.filter_map(|judged| judged.wait).max();
    let retry_after = wait.map(|wait| HeaderValue {
        key: String::from("retry-after"),
        value: wait.as_nanos().div_ceil(1_000_000_000).max(1).to_string(),
        raw_value: Vec::new(),
    });
    RateLimitResponse {
        overall_code: code(judgement.allowed()).into(),
        statuses: statuses.collect(),
        response_headers_to_add: retry_after.into_iter().collect(),
        ..RateLimitResponse::default()
    }
}
