//! Several limits spent at once by requests that meet: in every order in which their threads can come between each
//! other's steps, or in many of them by chance.
//!
//! What is checked is the filter itself, down to the cells; see [`crate::sync`]. Keys are known before the threads start:
//! then all that they take of locks is leave to read, and none ever waits for another.

use super::*;
use crate::kind::BindFilter;
use crate::sync::modelled;

const ORDERS_BY_CHANCE: usize = 3_000;

/// Long after the requests by which all keys are known: all buckets are full again.
const START: u64 = 1_000_000_000;

/// One request: where to, and when, from [`START`].
type Ask = (&'static str, u64);

/// A policy, the requests that meet, and what must hold once they are through.
#[derive(Clone)]
struct Meeting {
    policy: Arc<dyn BindFilter>,
    /// Each limit by itself, which shows what is left of it.
    alone: Vec<Arc<dyn BindFilter>>,
    asks: Arc<[Ask]>,
}

fn compiled(spec: Value) -> Arc<dyn BindFilter> {
    match compile_in(Mode::Enforce, KIND, spec).expect("valid") {
        Compiled::Filter(filter) => filter,
        _ => panic!("not a filter"),
    }
}

impl Meeting {
    fn of(limits: &[Value], asks: &[Ask]) -> Self {
        Self {
            policy: compiled(json!({"limits": limits})),
            alone: limits.iter().map(|limit| compiled(one(limit.clone()))).collect(),
            asks: asks.into(),
        }
    }

    /// Lets the requests meet once; which of them passed, and the store in which they met.
    fn meet(&self) -> (Vec<Ask>, StateStore) {
        let store = StateStore::new([0, 0]);
        let filter = self.policy.bind(&store);
        // Whether it passes or not, it makes its buckets.
        self.asks.iter().for_each(|(path, _)| drop(get(&filter, path, 0)));
        let ask = |ask: &Ask| {
            let (filter, (path, millis)) = (filter.clone(), (ask.0, START + ask.1));
            shuttle::thread::spawn(move || {
                get(&filter, path, millis).allowed().then_some((path, millis - START))
            })
        };
        let threads: Vec<_> = self.asks.iter().map(ask).collect();
        (threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect(), store)
    }

    /// How many more of `path` each limit would let through at once.
    fn left(&self, store: &StateStore, path: &str, millis: u64) -> Vec<usize> {
        let left = |limit: &Arc<dyn BindFilter>| admitted(&limit.bind(store), path, 20, START + millis);
        self.alone.iter().map(left).collect()
    }
}

fn limit(name: &str, requests: u32, per: &str, key: &str) -> Value {
    let key = if key.is_empty() { json!([]) } else { json!([{"type": key}]) };
    json!({"name": name, "requests": requests, "per": per, "key": key})
}

/// Two limits of which the second is spent by whoever is first there.
fn two_at_the_last_of_a_limit() -> Meeting {
    Meeting::of(&[limit("a", 2, "1h", ""), limit("b", 1, "1h", "Path")], &[("/x", 0), ("/x", 0)])
}

#[test]
fn in_every_order_of_two_requests_one_has_the_last_of_a_limit_and_the_other_costs_nothing() {
    let meeting = two_at_the_last_of_a_limit();
    modelled(|| {
        let check = move || {
            let (passed, store) = meeting.meet();
            assert_eq!(passed.len(), 1);
            assert_eq!(meeting.left(&store, "/x", 0), [1, 0], "what was refused has been given back");
        };
        shuttle::check_dfs(check, None);
    });
}

#[test]
fn however_three_requests_meet_no_limit_passes_more_than_it_has_or_is_spent_by_who_is_refused() {
    let limits = [limit("a", 3, "1h", ""), limit("b", 2, "1h", "Method"), limit("c", 1, "1h", "Path")];
    let meeting = Meeting::of(&limits, &[("/x", 0), ("/x", 0), ("/y", 0)]);
    modelled(|| {
        let check = move || {
            let (passed, store) = meeting.meet();
            let to = |path: &str| passed.iter().filter(|(to, _)| *to == path).count();
            assert!(passed.len() <= 2 && to("/x") <= 1 && to("/y") <= 1, "{passed:?}");
            // Somebody was, whatever is given back too late for another.
            assert!(!passed.is_empty());
            assert_eq!(meeting.left(&store, "/x", 0), [3 - passed.len(), 2 - passed.len(), 1 - to("/x")]);
            assert_eq!(meeting.left(&store, "/y", 0)[2], 1 - to("/y"));
        };
        shuttle::check_random(check, ORDERS_BY_CHANCE);
    });
}

#[test]
fn while_the_clock_moves_on_who_loses_a_race_lets_nobody_more_pass_and_costs_nothing() {
    let limits = [limit("a", 2, "2s", ""), limit("b", 1, "1h", "Path")];
    let meeting = Meeting::of(&limits, &[("/x", 0), ("/x", 0), ("/y", 2500), ("/z", 2500)]);
    modelled(|| {
        let check = move || {
            let (passed, store) = meeting.meet();
            let early = passed.iter().filter(|(_, millis)| *millis == 0).count();
            // None, if those of later were there first: the bucket knows no earlier time then.
            assert!(early <= 1, "{passed:?}");
            // At 2.5 s all is back of what was spent at 0 s: two are there, however late the loser of `/x` gave its own back.
            let later = passed.len() - early;
            let left = meeting.left(&store, "/z", 2500)[0];
            assert_eq!(left, 2 - later, "{passed:?}");
        };
        shuttle::check_random(check, ORDERS_BY_CHANCE);
    });
}
