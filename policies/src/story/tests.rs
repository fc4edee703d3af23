use std::time::Duration;

use http::HeaderMap;

use super::*;
use crate::decision::CallResult;
use crate::document;
use crate::snapshot::Local;
use crate::state::StateStore;

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cart-1, namespace: shop, labels: {kubernetes.io/service-name: cart}}
addressType: IPv4
ports: [{name: http, port: 9001}]
endpoints: [{addresses: [127.0.0.1]}]
---
apiVersion: tidegate.io/v1alpha1
kind: CircuitBreakerPolicy
metadata: {name: one, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: cart}]
  caps: [{scope: Backend, requests: 1}]
---
apiVersion: tidegate.io/v1alpha1
kind: RetryPolicy
metadata: {name: again, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: cart}]
  attempts: 1
  retryOn: {statuses: [503]}
  budget: {percent: 100, minPerSecond: 100}
";
const ASKED: Asked<'static> = Asked { scope: Scope::Outbound, sni: None, grpc: false };

fn world() -> World {
    let parsed = document::parse(&Arc::from("mesh.yaml"), MESH);
    assert!(parsed.failed.is_empty(), "{:?}", parsed.diagnostics);
    let local = Local { namespace: "shop".into(), ..Local::default() };
    World::build([&parsed], &local, &StateStore::new([0, 0])).unwrap()
}

fn teller(world: &World) -> Teller<'_> {
    let rng = fastrand::Rng::with_seed(7);
    Teller { snapshot: &world.snapshot, epoch: Duration::ZERO, connects: true, rng }
}

fn story() -> Story {
    let mut story = Story::new(Peer { address: "127.0.0.1:5".parse().unwrap(), identity: None });
    *story.head = http::Request::get("/x").header("host", "cart").body(()).unwrap().into_parts().0;
    story
}

/// After a hundred milliseconds, with these statuses one after the other.
fn backends(statuses: &'static [u16]) -> impl Backends {
    move |call: &Call<'_>, _: &mut HeaderMap| Answer {
        result: CallResult::Status(statuses[call.attempt as usize]),
        latency: Duration::from_millis(100),
    }
}

#[test]
fn a_call_holds_its_place_until_it_ends() {
    let world = world();
    let (mut teller, now) = (teller(&world), Timestamp::from_millis(5));
    let (mut first, mut second) = (story(), story());
    let step = teller.begin(&mut first, &ASKED, now, &mut backends(&[200]));
    let end = now + Duration::from_millis(100);
    assert!(matches!(step, Step::Until(at) if at == end), "{step:?}");
    assert!(matches!(teller.begin(&mut second, &ASKED, now, &mut backends(&[200])), Step::Done));
    assert_eq!(second.told.reason, Some(Reason::RequestCap));
    assert!(matches!(teller.resume(&mut first, end, &mut backends(&[200])), Step::Done));
    assert_eq!((first.told.attempts, first.told.response.status.as_u16()), (1, 200));
    // The same buffers, for another request: nothing of the refusal is left.
    second.head = story().head;
    assert!(matches!(teller.begin(&mut second, &ASKED, end, &mut backends(&[200])), Step::Until(_)));
    assert_eq!((second.told.reason, second.told.response.status.as_u16()), (None, 200));
    drop(second);
    let mut third = story();
    assert!(matches!(teller.begin(&mut third, &ASKED, end, &mut backends(&[200])), Step::Until(_)));
}

#[test]
fn an_attempt_that_fails_is_followed_by_another_one() {
    let world = world();
    let (mut teller, mut now, mut story) = (teller(&world), Timestamp::from_millis(5), story());
    let mut step = teller.begin(&mut story, &ASKED, now, &mut backends(&[503, 201]));
    let mut steps = 0;
    while let Step::Until(at) = step {
        assert!(at >= now);
        (now, steps) = (at, steps + 1);
        step = teller.resume(&mut story, now, &mut backends(&[503, 201]));
    }
    // The end of the first, the beginning of the second, and its end.
    assert!(matches!(step, Step::Done) && steps == 3, "{step:?} {steps}");
    assert_eq!((story.told.attempts, story.told.response.status.as_u16()), (2, 201));
    assert!(now >= Timestamp::from_millis(205));
    let told: Vec<_> = story.told.decisions.iter().map(|decision| decision.outcome.as_str()).collect();
    assert!(told.contains(&"retried"), "{told:?}");
}

#[test]
fn what_no_route_is_for_ends_at_once() {
    let world = world();
    let (mut teller, mut story) = (teller(&world), story());
    story.head.headers.insert("host", "else.example".parse().unwrap());
    let step = teller.begin(&mut story, &ASKED, Timestamp::from_millis(5), &mut backends(&[]));
    assert!(matches!(step, Step::Done));
    assert_eq!((story.told.reason, story.told.attempts), (Some(Reason::NoRoute), 0));
}
