use proptest::prelude::*;
use serde_json::json;

use super::*;

const US: &str = "us";

fn key(name: &str) -> ObjectKey {
    ObjectKey { kind: "HTTPRoute".into(), namespace: "shop".into(), name: name.into() }
}

fn parents(controller: &str, reason: &str) -> Json {
    json!({ "parents": [{
        "parentRef": { "name": "edge" }, "controllerName": controller,
        "conditions": [{ "type": "Accepted", "status": "True", "reason": reason, "lastTransitionTime": "t" }],
    }] })
}

/// An object at the API, with a version for every change.
struct Api {
    status: Json,
    version: u64,
}

impl Api {
    fn new() -> Self {
        Self { status: json!({}), version: 1 }
    }

    fn seen(&self) -> Arc<Observed> {
        Arc::new(Observed {
            resource_version: self.version.to_string(),
            status: self.status.clone(),
            ..Observed::default()
        })
    }

    fn put(&mut self, status: &Json) {
        self.status = status.clone();
        self.version += 1;
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn nothing_is_written_twice_and_each_object_once_a_second() {
    let mut api = Api::new();
    let mut planner = Planner::new(US, 1);
    let look = |planner: &mut Planner, api: &Api, at: Duration, reason: &str| {
        planner.plan(at, &[(key("a"), parents(US, reason))], |_| Some(api.seen()))
    };
    let plan = look(&mut planner, &api, seconds(1), "A");
    assert_eq!(plan.writes.len(), 1);
    api.put(&plan.writes[0].status);
    planner.done(seconds(1), &plan.writes[0], Outcome::Written);
    assert_eq!(look(&mut planner, &api, seconds(1), "A"), Plan::default());
    let early = look(&mut planner, &api, Duration::from_millis(1500), "B");
    assert_eq!((early.writes.len(), early.next), (0, Some(seconds(2))));
    assert_eq!(look(&mut planner, &api, seconds(2), "B").writes.len(), 1);
}

#[test]
fn a_write_that_fails_is_tried_again_later_and_later() {
    let api = Api::new();
    let mut planner = Planner::new(US, 1);
    let wanted = [(key("a"), parents(US, "A"))];
    let (mut now, mut pauses) = (seconds(1), Vec::new());
    for _ in 0..12 {
        let plan = planner.plan(now, &wanted, |_| Some(api.seen()));
        planner.done(now, &plan.writes[0], Outcome::Failed);
        let next = planner.plan(now, &wanted, |_| Some(api.seen())).next.unwrap();
        pauses.push(next - now);
        now = next;
    }
    assert!(pauses[0] >= Duration::from_millis(125) && pauses[0] <= Duration::from_millis(250));
    assert!(pauses[11] >= seconds(30) && pauses[11] <= seconds(60), "{pauses:?}");
}

#[test]
fn a_fight_over_an_entry_is_told_once_and_left_to_cool() {
    let mut api = Api::new();
    let mut planner = Planner::new(US, 1);
    let wanted = [(key("a"), parents(US, "Ours"))];
    let (mut writes, mut told) = (0, 0);
    // The other one undoes whatever we write, at once, for an hour.
    for second in 0..3600 {
        let plan = planner.plan(seconds(second), &wanted, |_| Some(api.seen()));
        told += plan.fights.len();
        for write in &plan.writes {
            writes += 1;
            api.put(&write.status);
            planner.done(seconds(second), write, Outcome::Written);
            api.put(&parents(US, "Theirs"));
        }
    }
    assert_eq!(told, 1);
    assert!(writes < 25, "{writes} writes in an hour");
    // Once the other one is gone, our word stands, and old quarrels are forgotten.
    let now = seconds(3600 + 301);
    let plan = planner.plan(now, &wanted, |_| Some(api.seen()));
    api.put(&plan.writes[0].status);
    planner.done(now, &plan.writes[0], Outcome::Written);
    assert_eq!(planner.plan(now + seconds(1000), &wanted, |_| Some(api.seen())), Plan::default());
    assert_eq!(planner.entries[&key("a")].fights, 0);
}

#[test]
fn a_watch_that_lags_behind_our_own_write_is_no_fight() {
    let mut api = Api::new();
    let mut planner = Planner::new(US, 1);
    let wanted = [(key("a"), parents(US, "Ours"))];
    let stale = api.seen();
    let plan = planner.plan(seconds(1), &wanted, |_| Some(api.seen()));
    api.put(&plan.writes[0].status);
    planner.done(seconds(1), &plan.writes[0], Outcome::Written);
    planner.plan(seconds(2), &wanted, |_| Some(stale.clone()));
    assert_eq!(planner.entries[&key("a")].fights, 0);
    assert_eq!(planner.plan(seconds(3), &wanted, |_| Some(api.seen())), Plan::default());
}

proptest! {
    #[test]
    fn no_more_is_written_than_the_rate_allows(objects in 1_usize..200, steps in prop::collection::vec(1_u64..400, 1..60)) {
        let mut planner = Planner::new(US, 1);
        let api = Api::new();
        let wanted: Vec<_> = (0..objects).map(|i| (key(&i.to_string()), parents(US, "A"))).collect();
        let (mut now, mut writes) = (Duration::ZERO, 0_usize);
        for step in steps {
            now += Duration::from_millis(step);
            let plan = planner.plan(now, &wanted, |_| Some(api.seen()));
            writes += plan.writes.len();
            for write in &plan.writes {
                planner.done(now, write, Outcome::Failed);
            }
            prop_assert!(writes as f64 <= BURST + RATE * now.as_secs_f64() + 1e-6);
            prop_assert!(plan.next.is_none_or(|next| next > now));
        }
    }
}
