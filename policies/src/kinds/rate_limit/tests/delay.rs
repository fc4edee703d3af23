//! `onLimit.delay`: turns that are waited for.

use std::time::Duration;

use super::*;
use crate::pipeline::{Effect, Performed};

/// What one request met that may have to wait.
struct Queued {
    wait: Option<Duration>,
    reply: Option<LocalReply>,
    decisions: Decisions,
    headers: HeaderMap,
    held: Vec<Box<dyn Held>>,
}

impl Queued {
    /// Its turn has come.
    fn go(&mut self) {
        self.held.iter_mut().for_each(|held| held.on_resume());
    }
}

fn ask(filter: &Arc<dyn Filter>, path: &str, millis: u64) -> Queued {
    let (mut head, ()) = Request::get(path).body(()).unwrap().into_parts();
    let (mut decisions, mut headers, mut held) = (Decisions::new(), HeaderMap::new(), Vec::new());
    let mut cx = RequestContext {
        head: &mut head,
        peer: &peer("192.0.2.1:1", None),
        route: None,
        now: Timestamp::from_millis(millis),
        unix: &|| Duration::from_millis(millis),
        rng: &mut fastrand::Rng::with_seed(1),
        decisions: &mut decisions,
        response_headers: &mut headers,
        claims: &mut None,
        held: &mut held,
    };
    let (wait, reply) = match filter.on_request(&mut cx) {
        Verdict::Continue => (None, None),
        Verdict::Effect(Effect::Wait(wait)) => {
            assert!(matches!(filter.on_effect(&mut cx, &Performed::Waited), Verdict::Continue));
            (Some(wait), None)
        }
        Verdict::Reply(reply) => (None, Some(reply)),
        other => panic!("{other:?}"),
    };
    Queued { wait, reply, decisions, headers, held }
}

fn delayed(at_most: &str, limits: &Value) -> Value {
    json!({"onLimit": {"delay": {"atMost": at_most}}, "limits": limits})
}

fn shaped(at_most: &str) -> Arc<dyn Filter> {
    let limits = json!([{"name": "all", "requests": 10, "per": "1s", "burst": 2}]);
    bind(Mode::Enforce, delayed(at_most, &limits), &StateStore::new([0, 0]))
}

fn millis(queued: &Queued) -> u128 {
    queued.wait.map_or(0, |wait| wait.as_millis())
}

#[test]
fn who_comes_too_early_waits_in_the_order_of_arrival_and_beyond_the_longest_wait_is_refused() {
    let filter = shaped("300ms");
    let mut queue: Vec<_> = (0..6).map(|_| ask(&filter, "/", 0)).collect();
    queue.iter_mut().for_each(Queued::go);
    assert_eq!(queue.iter().map(millis).collect::<Vec<_>>(), [0, 0, 100, 200, 300, 0]);
    assert_eq!(queue[3].decisions[0].outcome, Outcome::Allowed);
    assert_eq!(queue[3].decisions[0].detail, Some(Detail::Delayed(Duration::from_millis(200))));
    assert_eq!(queue[3].headers["ratelimit"], "\"all\";r=0;t=1");
    let refused = queue[5].reply.as_ref().unwrap();
    assert_eq!((refused.reason, refused.again), (Reason::RateLimited, Some(Duration::from_millis(400))));
    assert_eq!(millis(&ask(&filter, "/", 100)), 300, "behind those that wait");
}

#[test]
fn who_gives_up_last_leaves_his_turn_and_others_keep_theirs() {
    let filter = shaped("1s");
    let mut queue: Vec<_> = (0..5).map(|_| ask(&filter, "/", 0)).collect();
    drop(queue.pop());
    assert_eq!(millis(&ask(&filter, "/", 0)), 300, "the turn of who gave up, which was given up again");
    let last = ask(&filter, "/", 0);
    assert_eq!(millis(&last), 300);
    // One in the middle goes: those behind were told when theirs comes.
    drop(queue.remove(2));
    assert_eq!(millis(&ask(&filter, "/", 0)), 400);
}

#[test]
fn a_turn_that_has_come_stays_spent() {
    let filter = shaped("1s");
    let mut queue: Vec<_> = (0..3).map(|_| ask(&filter, "/", 0)).collect();
    queue.iter_mut().for_each(Queued::go);
    drop(queue);
    assert_eq!(millis(&ask(&filter, "/", 0)), 200);
}

#[test]
fn of_several_limits_the_longest_wait_counts_and_none_is_spent_by_who_is_refused() {
    let limits = json!([
        {"name": "fast", "requests": 10, "per": "1s", "burst": 1},
        {"name": "slow", "requests": 1, "per": "1s", "key": [{"type": "Path"}]},
    ]);
    let filter = bind(Mode::Enforce, delayed("1s", &limits), &StateStore::new([0, 0]));
    let go = |path| {
        let mut queued = ask(&filter, path, 0);
        queued.go();
        (millis(&queued), queued.reply.is_none())
    };
    assert_eq!([go("/a"), go("/a"), go("/a")], [(0, true), (1000, true), (0, false)]);
    assert_eq!(go("/b"), (200, true), "the third spent nothing of what all share");
}

#[test]
fn in_shadow_nobody_waits_and_turns_count() {
    let limits = json!([{"name": "all", "requests": 1, "per": "1s"}]);
    let filter = bind(Mode::Shadow, delayed("1s", &limits), &StateStore::new([0, 0]));
    let met: Vec<_> = (0..3).map(|_| ask(&filter, "/", 0)).collect();
    assert!(met.iter().all(|met| met.wait.is_none() && met.reply.is_none() && met.headers.is_empty()));
    assert_eq!(met[1].decisions[0].detail, Some(Detail::Delayed(Duration::from_secs(1))));
    assert_eq!(met[2].decisions[0].outcome, Outcome::WouldRefuse(Reason::RateLimited));
}

#[test]
fn faults_of_a_delay() {
    let limit = json!({"name": "a", "requests": 5, "per": "1s"});
    let mut mesh = delayed("1s", &json!([limit]));
    mesh["scope"] = json!("Mesh");
    let by_answer = json!([{"name": "a", "requests": 5, "per": "1s", "responseCost": {"header": "x"}}]);
    for (spec, want) in [
        (delayed("2m", &json!([limit])), "spec/onLimit/delay/atMost: 2m is out of range: use 1ms to 1m"),
        (mesh, "spec/onLimit/delay: `delay` goes with `scope: Local`"),
        (delayed("1s", &by_answer), "spec/limits/0/responseCost: with `delay`"),
    ] {
        let faults = faults(KIND, spec);
        assert!(faults.len() == 1 && faults[0].starts_with(want), "{want}: {faults:?}");
    }
}

proptest! {
    /// At the moments at which they go on, whoever gives up meanwhile.
    #[test]
    fn those_that_wait_go_on_no_faster_than_the_limit_says(
        steps in prop::collection::vec((0_u64..150, any::<bool>()), 1..80),
    ) {
        let filter = shaped("700ms");
        let (mut now, mut went, mut queue) = (0_u64, Vec::new(), Vec::<(u64, Queued)>::new());
        for (step, gives_up) in steps {
            now += step;
            for (turn, mut queued) in std::mem::take(&mut queue) {
                if turn <= now {
                    queued.go();
                    went.push(turn);
                } else {
                    queue.push((turn, queued));
                }
            }
            if gives_up && !queue.is_empty() {
                let who = usize::try_from(now).unwrap() % queue.len();
                drop(queue.remove(who));
            }
            let queued = ask(&filter, "/", now);
            if queued.reply.is_none() {
                let turn = now + u64::try_from(millis(&queued)).unwrap();
                queue.push((turn, queued));
            }
        }
        for (turn, mut queued) in queue {
            queued.go();
            went.push(turn);
        }
        went.sort_unstable();
        for (i, from) in went.iter().enumerate() {
            for (n, to) in went[i..].iter().enumerate() {
                prop_assert!((n as u64) < 2 + (to - from) / 100, "{n} from {from} to {to}: {went:?}");
            }
        }
    }
}
