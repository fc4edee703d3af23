//! A process that starts with what another saved: the whole policy, with everything that counts.

use super::*;
use crate::pipeline::Performed;
use crate::state::Moment;

fn moment(millis: u64) -> Moment {
    let time = std::time::Duration::from_millis(millis);
    Moment { clock: time.into(), wall: time }
}

/// The store of a process that starts when the other was saved.
fn again(store: &StateStore, millis: u64) -> StateStore {
    StateStore::restored(store.save(moment(millis), usize::MAX).0, moment(millis)).unwrap()
}

fn ask(filter: &Arc<dyn Filter>, user: &str) -> bool {
    let head = Request::get("/").header("x-user", user);
    judge(&**filter, head, &peer("192.0.2.1:1000", None), 500).allowed()
}

#[test]
fn each_key_goes_on_where_it_was_whether_it_has_a_limit_of_its_own_or_not() {
    let limit = json!({
        "name": "each", "requests": 1, "per": "1h", "key": [{"type": "Header", "name": "x-user"}],
        "overrides": [{"key": ["gold"], "requests": 2}],
    });
    let store = StateStore::new([3, 4]);
    let filter = bind(Mode::Enforce, one(limit.clone()), &store);
    assert!(ask(&filter, "gold") && ask(&filter, "gold") && ask(&filter, "ann"));
    let filter = bind(Mode::Enforce, one(limit), &again(&store, 500));
    assert!(!ask(&filter, "gold") && !ask(&filter, "ann"));
    assert!(ask(&filter, "bob"));
}

#[test]
fn what_passes_without_a_store_goes_on_where_it_was() {
    let spec = json!({
        "scope": "Exact", "exact": {"fallbackPercent": 50},
        "limits": [{"name": "all", "requests": 4, "per": "1h"}],
    });
    let unanswered = |filter: &Arc<dyn Filter>| {
        let (mut head, ()) = Request::get("/").body(()).unwrap().into_parts();
        let verdict = filter.on_effect(
            &mut RequestContext {
                head: &mut head,
                peer: &peer("192.0.2.1:1000", None),
                route: None,
                now: Timestamp::from_millis(500),
                unix: &|| Duration::ZERO,
                rng: &mut fastrand::Rng::with_seed(1),
                decisions: &mut Decisions::new(),
                response_headers: &mut HeaderMap::new(),
                claims: &mut None,
                held: &mut Vec::new(),
            },
            &Performed::Unanswered,
        );
        matches!(verdict, Verdict::Continue)
    };
    let store = StateStore::new([3, 4]);
    let filter = bind(Mode::Enforce, spec.clone(), &store);
    assert!(unanswered(&filter) && unanswered(&filter) && !unanswered(&filter));
    let filter = bind(Mode::Enforce, spec, &again(&store, 500));
    assert!(!unanswered(&filter));
}
