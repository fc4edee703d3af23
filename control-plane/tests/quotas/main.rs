//! A control plane that is asked as a rate limit quota service, over loopback, with leases as its clients.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its set-up too")]

mod front;
mod replicas;
mod support;

use std::time::Duration;

use tidegate_quota::{Share, State};
use tidegate_xds::quota::{MESH_DOMAIN, abandoned, assignments, bucket_action, bucket_id};
use tokio::time::timeout;
use tonic::Code;

use support::{Mesh, names, plain, until};

const WHOLE: u64 = Share::WHOLE.as_billionths();
const ABANDONED: &str = "quota_messages_total{message=\"abandoned\"}";

#[tokio::test]
async fn two_clients_share_a_limit_and_who_stays_gets_what_the_other_leaves() {
    let mesh = Mesh::start().await;
    let (mut ann, mut bob) = (mesh.peer(1, "all").await, mesh.peer(2, "all").await);
    until(&mut [&mut ann, &mut bob], |peers| {
        assert!(peers.iter().map(|peer| peer.share()).sum::<u64>() <= WHOLE);
        peers.iter().all(|peer| peer.share() > WHOLE * 4 / 10)
    })
    .await;
    let _still_open = ann.leave().await;
    until(&mut [&mut bob], |peers| peers[0].share() == WHOLE).await;
}

#[tokio::test]
async fn what_a_broken_stream_leaves_behind_goes_to_others_when_it_has_run_out() {
    let mesh = Mesh::start().await;
    let (mut ann, mut bob) = (mesh.peer(1, "all").await, mesh.peer(2, "all").await);
    until(&mut [&mut ann, &mut bob], |peers| peers.iter().all(|peer| peer.share() > WHOLE * 4 / 10)).await;
    drop(ann.reconnect(&mesh).await);
    mesh.until_number("quota_clients", 1).await;
    until(&mut [&mut bob], |peers| {
        let has_more = peers[0].share() > WHOLE * 7 / 10;
        assert!(!has_more || ann.state() != State::Assigned, "it counts as cut off before");
        has_more
    })
    .await;
    until(&mut [&mut bob], |peers| peers[0].share() == WHOLE).await;
    assert_eq!(ann.state(), State::Fallback);
}

#[tokio::test]
async fn a_client_whose_stream_broke_is_served_on_another_and_keeps_its_share_meanwhile() {
    let mesh = Mesh::start().await;
    let mut ann = mesh.peer(1, "all").await;
    until(&mut [&mut ann], |peers| peers[0].share() == WHOLE).await;
    let (share, version) = (ann.share(), ann.version());
    drop(ann.reconnect(&mesh).await);
    mesh.until_number("quota_clients", 0).await;
    assert_eq!(ann.share(), share);
    // Another client makes the share change, which must be told on the new stream.
    let mut bob = mesh.peer(2, "all").await;
    until(&mut [&mut ann, &mut bob], |peers| peers[0].version() > version && peers[1].share() > WHOLE / 4)
        .await;
}

#[tokio::test]
async fn a_bucket_that_nobody_limits_is_abandoned_by_our_own_and_by_envoys() {
    let mesh = Mesh::start().await;
    let mut ann = mesh.peer(1, "other").await;
    ann.report().await;
    let told = ann.next().await.unwrap();
    assert_eq!(abandoned(&told, MESH_DOMAIN), [bucket_id(MESH_DOMAIN, &names("other"))]);
    let mut envoy = mesh.stream().await;
    envoy.say(plain("edge", "path", &["/"])).await;
    // As the protocol has it: the domain is said once.
    envoy.say(plain("", "path", &["/"])).await;
    for _ in 0..2 {
        assert_eq!(abandoned(&envoy.next().await.unwrap(), "edge").len(), 1);
    }
    mesh.until_number(ABANDONED, 3).await;
    assert_eq!(mesh.number("quota_buckets").await, 0);
}

#[tokio::test]
async fn who_does_not_read_holds_up_nobody() {
    const MESSAGES: usize = 200;
    let mesh = Mesh::start().await;
    let mut deaf = mesh.stream().await;
    let values: Vec<String> = (0..40).map(|i| format!("{i}-{}", "x".repeat(2000))).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    // Each is answered, which is far more than the queue and the windows of HTTP/2 have room for; all of it is taken.
    for _ in 0..MESSAGES {
        deaf.say(plain("edge", "path", &values)).await;
    }
    mesh.until_number(ABANDONED, (MESSAGES * values.len()) as u64).await;
    let mut ann = mesh.peer(1, "all").await;
    until(&mut [&mut ann], |peers| peers[0].share() == WHOLE).await;
    let mut heard = 0;
    while timeout(Duration::from_secs(1), deaf.next()).await.is_ok() {
        heard += 1;
    }
    assert!((1..MESSAGES).contains(&heard), "it hears what there was room for: {heard}");
}

#[tokio::test]
async fn a_plain_envoy_gets_a_token_bucket_and_no_lease() {
    let mesh = Mesh::start().await;
    let mut envoy = mesh.stream().await;
    envoy.say(plain("edge", "user", &["ann"])).await;
    let told = envoy.next().await.unwrap();
    assert_eq!(assignments(&told, "edge"), []);
    let action = told.bucket_action[0].bucket_action.as_ref();
    let Some(bucket_action::BucketAction::QuotaAssignmentAction(assigned)) = action else {
        panic!("{told:?}");
    };
    assert!(assigned.rate_limit_strategy.is_some());
    assert!(assigned.assignment_time_to_live.unwrap().seconds > 5, "an Envoy reports every five seconds");
}

#[tokio::test]
async fn a_stream_may_begin_with_its_domain_only() {
    let mesh = Mesh::start().await;
    let mut ann = mesh.peer(1, "all").await;
    ann.say_domain_only().await;
    until(&mut [&mut ann], |peers| peers[0].share() == WHOLE).await;
}

#[tokio::test]
async fn a_bucket_whose_names_are_too_long_is_counted_and_not_kept() {
    let mesh = Mesh::start().await;
    let mut envoy = mesh.stream().await;
    envoy.say(plain("edge", "user", &["ann", &"x".repeat(5000)])).await;
    mesh.until_number("quota_messages_total{message=\"beyond\"}", 1).await;
    mesh.until_number("quota_messages_total{message=\"report\"}", 2).await;
    assert_eq!(mesh.number("quota_buckets").await, 1);
}

#[tokio::test]
async fn streams_end_with_the_control_plane() {
    let mesh = Mesh::start().await;
    let mut ann = mesh.peer(1, "all").await;
    ann.report().await;
    let told = ann.next().await.unwrap();
    assert_eq!(assignments(&told, MESH_DOMAIN).len(), 1);
    timeout(support::PATIENCE, mesh.running.shutdown()).await.unwrap();
    let end = loop {
        match ann.next().await {
            Ok(_) => {}
            Err(end) => break end,
        }
    };
    assert_eq!(end.code(), Code::Unavailable);
}
