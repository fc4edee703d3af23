//! What our application calls is asked for when it is called: a sidecar knows as much of the mesh as it uses.
//!
//! The first call by a name waits until everything behind that name is in force, which the control plane says last of all.
//! Where it cannot be heard, nobody waits: what was asked for stays, and what was not is no Service's.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tidegate_policy::model::{Destination, ResourceType};
use tidegate_xds::client::Want;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// More names are not kept: those that were asked for first are forgotten, and asked for again where they are used.
const MOST: usize = 1_024;
/// For an answer. Once it was late for a name, nobody waits for that name again.
const PATIENCE: Duration = Duration::from_secs(2);
/// Questions that wait for the stream to take them.
const QUEUE: usize = 64;

const TYPE: &str = ResourceType::Destination.type_url();

/// See the module.
#[derive(Debug)]
pub(crate) struct Demand {
    /// What is answered, or was waited for long enough: no request waits for it.
    settled: RwLock<HashMap<Arc<str>, State>>,
    /// All names, those that were asked for first in front.
    order: Mutex<VecDeque<Arc<str>>>,
    wants: mpsc::Sender<Want>,
    wanted: Mutex<Option<mpsc::Receiver<Want>>>,
    answers: watch::Sender<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Asked,
    /// By an answer, or by its absence for too long.
    Settled,
}

impl Demand {
    pub(crate) fn new() -> Self {
        let (wants, wanted) = mpsc::channel(QUEUE);
        Self {
            settled: RwLock::default(),
            order: Mutex::default(),
            wants,
            wanted: Mutex::new(Some(wanted)),
            answers: watch::Sender::new(0),
        }
    }

    /// What the stream takes its wants from, and who else may have some. Once.
    pub(crate) fn channel(&self) -> (mpsc::Sender<Want>, Option<mpsc::Receiver<Want>>) {
        (self.wants.clone(), self.wanted.lock().take())
    }

    /// Whether a call by this name need not wait.
    pub(crate) fn knows(&self, key: &str) -> bool {
        self.settled.read().get(key) == Some(&State::Settled)
    }

    /// Waits until what is behind a name is in force. `is_heard`: whether the control plane can be.
    pub(crate) async fn settle(&self, key: &str, is_heard: impl Fn() -> bool) {
        let mut answers = self.answers.subscribe();
        if self.knows(key) || !self.ask(key) || !is_heard() {
            return;
        }
        // Fails only without a sender, and that is `self`.
        let answered = timeout(PATIENCE, answers.wait_for(|_| self.knows(key) || !is_heard())).await;
        if answered.is_err() {
            tracing::warn!(name = key, "the control plane has not said what is there; going on without");
            self.settled.write().insert(key.into(), State::Settled);
        }
    }

    /// The control plane has answered, or it was known before.
    pub(crate) fn answered<'a>(&self, found: impl Iterator<Item = &'a Destination>) {
        let mut settled = self.settled.write();
        for Destination { key, .. } in found {
            let key: Arc<str> = key.as_str().into();
            if settled.insert(key.clone(), State::Settled).is_none() {
                self.order.lock().push_back(key);
            }
        }
        drop(settled);
        self.answers.send_modify(|count| *count += 1);
    }

    /// Nobody is to wait for a stream that has ended.
    pub(crate) fn unheard(&self) {
        self.answers.send_modify(|count| *count += 1);
    }

    /// Whether the name is asked for, now or before.
    fn ask(&self, key: &str) -> bool {
        let mut settled = self.settled.write();
        if settled.contains_key(key) {
            return true;
        }
        let Ok(place) = self.wants.try_reserve() else { return false };
        place.send(Want::Subscribe { type_url: TYPE, names: vec![key.to_owned()] });
        let key: Arc<str> = key.into();
        settled.insert(key.clone(), State::Asked);
        let mut order = self.order.lock();
        order.push_back(key);
        if order.len() > MOST
            && let Some(oldest) = order.pop_front()
            && let Ok(place) = self.wants.try_reserve()
        {
            settled.remove(&oldest);
            place.send(Want::Unsubscribe { type_url: TYPE, names: vec![oldest.to_string()] });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(demand: &Demand, key: &str) {
        demand.answered([Destination { key: key.to_owned(), known: true }].iter());
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_call_asks_and_waits_and_the_next_does_neither() {
        let demand = Arc::new(Demand::new());
        let mut wanted = demand.channel().1.unwrap();
        let first = tokio::spawn({
            let demand = demand.clone();
            async move { demand.settle("cart", || true).await }
        });
        let want = wanted.recv().await;
        assert_eq!(want, Some(Want::Subscribe { type_url: TYPE, names: vec!["cart".into()] }));
        assert!(!first.is_finished());
        answer(&demand, "cart");
        first.await.unwrap();
        demand.settle("cart", || true).await;
        assert!(wanted.try_recv().is_err(), "asked once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_control_plane_that_is_silent_or_gone_holds_nobody_up_for_long() {
        let demand = Demand::new();
        let _wanted = demand.channel().1.unwrap();
        let begun = tokio::time::Instant::now();
        demand.settle("cart", || false).await;
        assert_eq!(begun.elapsed(), Duration::ZERO, "it is not there");
        demand.settle("cart", || true).await;
        assert_eq!(begun.elapsed(), PATIENCE);
        demand.settle("cart", || true).await;
        assert_eq!(begun.elapsed(), PATIENCE, "waited for once");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_for_first_is_forgotten_where_there_is_too_much() {
        let demand = Demand::new();
        let mut wanted = demand.channel().1.unwrap();
        for i in 0..=MOST {
            let key = format!("s{i}");
            assert!(demand.ask(&key));
            answer(&demand, &key);
            assert!(wanted.try_recv().is_ok());
        }
        let gone = Want::Unsubscribe { type_url: TYPE, names: vec!["s0".into()] };
        assert_eq!(wanted.try_recv(), Ok(gone));
        assert!(!demand.knows("s0") && demand.knows("s1"));
        assert_eq!(demand.order.lock().len(), MOST);
    }
}
