//! Carries out what the core asks of a store.

use tidegate_policy::pipeline::{Effect, Performed, Spend, Spent};

use super::exact::{self, CannotAsk, Wanted};
use super::store::ExactStore;

/// Does what a filter needs done before it can judge. Without a store, or without its answer, nothing is spent.
pub(crate) async fn perform(store: Option<&ExactStore>, effect: &Effect) -> Performed {
    let spend = match effect {
        Effect::Spend(spend) => spend,
        Effect::Wait(wait) => {
            tokio::time::sleep(*wait).await;
            return Performed::Waited;
        }
        Effect::Turn(ticket) => {
            let _ = tokio::time::timeout(ticket.patience(), ticket.clone()).await;
            ticket.give_up();
            return Performed::Turned(ticket.clone());
        }
    };
    let (Some(store), Ok(wanted)) = (store, wanted(spend)) else { return Performed::Unanswered };
    match store.spend(&wanted, spend.timeout).await {
        Ok(told) => {
            let levels = told.levels.iter().map(|level| (level.remaining, level.wait)).collect();
            Performed::Spent(Spent { allowed: told.allowed, levels })
        }
        Err(why) => {
            tracing::debug!(%why, policy = %spend.policy.name, "the store of exact limits was of no use");
            Performed::Unanswered
        }
    }
}

fn wanted(spend: &Spend) -> Result<Vec<Wanted>, CannotAsk> {
    let policy = spend.policy.name.to_string();
    let buckets = spend.buckets.iter().map(|bucket| {
        let key = exact::key(&policy, &bucket.limit, &[&bucket.key]);
        Wanted::new(key, (bucket.requests, bucket.per), bucket.burst, bucket.cost)
    });
    buckets.collect()
}
