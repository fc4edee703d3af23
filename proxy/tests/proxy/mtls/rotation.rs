//! Certificates, roots and clocks that change under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tidegate_proxy::Running;
use tidegate_testkit::authority::{TestAuthority, TestClock};
use tidegate_testkit::backend::FaultBackend;
use tokio::task::JoinSet;

use super::support::{Caller, Served, certified};
use super::{DOMAIN, app};
use crate::outbound::CART;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Asks for another certificate, and waits for it.
async fn renewed(running: &Running) {
    let identity = running.state().identity.clone().unwrap();
    let next = *identity.changes().borrow() + 1;
    identity.renew_now();
    certified(running, next).await;
}

/// Calls without a pause from several clients, each over connections of its own now and then, while `change` is under way;
/// how many calls went well, and the first that did not.
async fn under_load(caller: &Arc<Caller>, change: impl Future<Output = ()>) -> (u64, Option<String>) {
    let (stop, well) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let (caller, stop, well) = (caller.clone(), stop.clone(), well.clone());
        clients.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                match caller.get().await {
                    (200, _, _) => drop(well.fetch_add(1, Ordering::Relaxed)),
                    other => return Some(format!("{other:?}")),
                }
            }
            None
        });
    }
    change.await;
    stop.store(true, Ordering::Relaxed);
    let failed = clients.join_all().await.into_iter().flatten().next();
    (well.load(Ordering::Relaxed), failed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_replaced_under_load_and_no_request_fails() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let served = Served::start(&authority, &clock, app.address()).await;
    let caller = Arc::new(Caller::start(&authority, &clock, "shop/web").await.to(served.address()));
    let (well, failed) = under_load(&caller, async {
        for _ in 0..10 {
            renewed(&served.running).await;
            renewed(&caller.sidecar.running).await;
        }
    })
    .await;
    assert_eq!(failed, None);
    assert!(well > 0);
    assert_eq!(authority.signed_for("spiffe://cluster.local/ns/shop/sa/cart"), 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_is_replaced_under_load_and_no_request_fails() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let served = Served::start(&authority, &clock, app.address()).await;
    let caller = Arc::new(Caller::start(&authority, &clock, "shop/web").await.to(served.address()));
    let (well, failed) = under_load(&caller, async {
        authority.rotate(24 * HOUR);
        // Four times half a life, to the end of both overlaps and beyond; in turns, as it is with jitter.
        for turn in 0..12 {
            clock.advance(10 * HOUR);
            let (first, then) = if turn % 2 == 0 {
                (&served.running, &caller.sidecar.running)
            } else {
                (&caller.sidecar.running, &served.running)
            };
            renewed(first).await;
            renewed(then).await;
        }
    })
    .await;
    assert_eq!(failed, None);
    assert!(well > 0);
    let status = tidegate_proxy::admin::AdminSource::status(&**served.running.state());
    assert_eq!(status["identity"]["certificate"]["trusted_roots"], 1, "the old root is gone");
    // Who comes now knows only the new one.
    let late = Caller::start(&authority, &clock, "shop/late").await.to(served.address());
    assert_eq!(late.get().await.0, 200);
}

#[tokio::test]
async fn while_nobody_signs_the_certificate_in_use_serves_until_it_runs_out() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let served = Served::start(&authority, &clock, app.address()).await;
    let caller = Caller::start(&authority, &clock, "shop/web").await.to(served.address());
    authority.set_away(true);
    clock.advance(23 * HOUR);
    // One client is served by one thread, over one connection.
    let mut client = caller.sidecar.http1(CART).await;
    assert_eq!(client.get("/").await.status, 200);
    clock.advance(2 * HOUR);
    assert_eq!(client.get("/").await.status, 200, "the connection that stands lives on");
    let other = FaultBackend::start().await;
    let caller = caller.to(other.address());
    assert_eq!(caller.get().await.1.as_deref(), Some("no_identity"));
    authority.set_away(false);
    renewed(&served.running).await;
    renewed(&caller.sidecar.running).await;
    let caller = caller.to(served.address());
    assert_eq!(caller.get().await.0, 200);
}
