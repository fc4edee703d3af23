//! Two desks, and what goes between them by hand.

use tidegate_quota::owner;

use super::*;
use crate::quotas::QuotaArgs;

const NAMES: [&str; 2] = ["a:1", "b:1"];

/// The one that lends of the limit `all`, and another one with the queue of what it relays.
fn desks(queue: usize) -> (Desk, Desk, mpsc::Receiver<Relayed>) {
    let lender = owner(bucket_id(MESH_DOMAIN, &names("all")), NAMES).unwrap();
    let other = NAMES.into_iter().find(|name| *name != lender).unwrap();
    let desk = |own: &str, peer: &str| {
        let args =
            QuotaArgs { quota_peers: NAMES.map(str::to_owned).to_vec(), quota_name: Some(own.to_owned()) };
        let peers = Peers::new(&args, "127.0.0.1:1".parse().unwrap()).unwrap();
        let (relay, relayed) = mpsc::channel(queue);
        (Desk::new(1, true, limits(100), (peers, [(peer.to_owned(), relay)].into())), relayed)
    };
    let (relays, relayed) = desk(other, lender);
    (desk(lender, other).0, relays, relayed)
}

fn peer() -> (Caller, mpsc::Receiver<Result<RateLimitQuotaResponse, tonic::Status>>) {
    let (outbox, inbox) = mpsc::channel(16);
    let mut caller = Caller::peer((STREAMS.fetch_add(1, Relaxed), outbox));
    caller.domain = String::from(MESH_DOMAIN);
    (caller, inbox)
}

fn drain(relayed: &mut mpsc::Receiver<Relayed>) -> Vec<(Names, Report)> {
    std::iter::from_fn(|| relayed.try_recv().ok()).map(|told| (told.names, told.report)).collect()
}

#[test]
fn many_clients_are_relayed_over_one_stream_and_answered_in_one_message() {
    let (mut lends, mut relays, mut relayed) = desks(16);
    let (peer, mut inbox) = peer();
    let (mut ann, mut bob) = (Client::new(1, 16), Client::new(2, 16));
    ann.report(&mut relays, SECOND);
    bob.report(&mut relays, SECOND);
    let told = drain(&mut relayed);
    assert_eq!((told.len(), relays.counts().relayed, relays.counts().buckets), (2, 2, 0));
    lends.take(&peer, told, SECOND);
    rebalance(&mut lends, SECOND);
    let answer = inbox.try_recv().unwrap().unwrap();
    assert_eq!(answer.bucket_action.len(), 2);
    assert!(inbox.try_recv().is_err());
    relays.pass(answer, SECOND);
    assert_eq!((ann.read(SECOND), bob.read(SECOND)), (1, 1));
    assert!(ann.lease.share().is_some() && bob.lease.share().is_some());
}

#[test]
fn what_comes_from_a_peer_is_never_relayed_and_an_answer_is_never_passed_on_twice() {
    let (mut lends, mut relays, mut relayed) = desks(16);
    let (peer, mut inbox) = peer();
    let mut ann = Client::new(1, 16);
    let report = ann.lease.report(SECOND);
    relays.take(&peer, vec![(names("all"), report)], SECOND);
    assert_eq!((drain(&mut relayed).len(), relays.counts().misdirected), (0, 1));
    // The other way round: the client speaks to the one that lends through this peer, and answers come for it.
    lends.take(&peer, vec![(names("all"), report)], SECOND);
    rebalance(&mut lends, SECOND);
    let answer = inbox.try_recv().unwrap().unwrap();
    lends.pass(answer, SECOND);
    assert!(inbox.try_recv().is_err());
}

#[test]
fn what_a_peer_does_not_read_in_time_is_dropped_and_counted_and_lent_by_nobody() {
    let (_, mut relays, _relayed) = desks(1);
    let mut ann = Client::new(1, 16);
    for step in 1..4 {
        ann.report(&mut relays, SECOND * step);
        rebalance(&mut relays, SECOND * step);
    }
    assert_eq!((relays.counts().relayed, relays.counts().unsent, relays.counts().buckets), (1, 2, 0));
    assert_eq!(ann.read(SECOND * 3), 0);
}

#[test]
fn a_replica_is_not_told_of_buckets_that_have_no_limit() {
    let (mut lends, _, _) = desks(1);
    let (peer, mut inbox) = peer();
    let report = Client::new(1, 16).lease.report(SECOND);
    lends.take(&peer, vec![(names("other"), report)], SECOND);
    assert_eq!(lends.counts().abandoned, 1);
    assert!(inbox.try_recv().is_err());
}
