//! Carries out what the core asks of a store or a service.

use tidegate_policy::model::PolicyRef;
use tidegate_policy::pipeline::{Effect, Holds, Performed, Spend, Spent};

use super::NoAnswer;
use super::exact::{self, CannotAsk, Wanted};
use crate::state::ProxyState;

/// Does what a filter needs done before it can judge. Without a store or a service, or without its answer, nothing is spent.
pub(crate) async fn perform(proxy: &ProxyState, effect: &Effect) -> Performed {
    match effect {
        Effect::Spend(asked) => spend(proxy, asked).await,
        Effect::Ask(question) => {
            let snapshot = proxy.store.load_full();
            match proxy.services.ask(&snapshot, question).await {
                Ok(answer) => Performed::Answered(answer),
                Err(why) => unanswered(why, &question.policy),
            }
        }
        Effect::Wait(wait) => {
            tokio::time::sleep(*wait).await;
            Performed::Waited
        }
        Effect::Keys(awaited) => {
            proxy.keys.wait(awaited).await;
            Performed::Waited
        }
        Effect::Turn(ticket) => {
            let _ = tokio::time::timeout(ticket.patience(), ticket.clone()).await;
            ticket.give_up();
            Performed::Turned(ticket.clone())
        }
        // Where there are no plugins; where there are, the story of the request asks them itself.
        Effect::Plugin(_) => Performed::Unanswered,
    }
}

async fn spend(proxy: &ProxyState, spend: &Spend) -> Performed {
    let (Some(store), Ok(wanted)) = (&proxy.exact, wanted(spend)) else { return Performed::Unanswered };
    match store.spend(&wanted, spend.timeout).await {
        Ok(told) => {
            let levels = told.levels.iter().map(|level| (level.remaining, level.wait)).collect();
            Performed::Spent(Spent { allowed: told.allowed, levels })
        }
        Err(why) => unanswered(why, &spend.policy),
    }
}

fn unanswered(why: NoAnswer, policy: &PolicyRef) -> Performed {
    tracing::debug!(%why, policy = %policy.name, "whoever counts for all was of no use");
    Performed::Unanswered
}

fn wanted(spend: &Spend) -> Result<Vec<Wanted>, CannotAsk> {
    let policy = spend.policy.name.to_string();
    let buckets = spend.buckets.iter().map(|bucket| {
        let key = |values: &[&[u8]]| exact::key(&policy, &bucket.limit, values);
        match bucket.holds {
            Holds::Rate { requests, per, burst, in_proportion } => {
                let wanted = Wanted::new(key(&[&bucket.key]), (requests, per), burst, bucket.cost)?;
                Ok(if in_proportion { wanted.in_proportion(per) } else { wanted })
            }
            Holds::Window { requests, end } => {
                let key = key(&[&bucket.key, &end.as_secs().to_be_bytes()]);
                Wanted::until(key, requests, end, bucket.cost)
            }
        }
    });
    buckets.collect()
}
