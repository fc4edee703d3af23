use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::{Value, json};
use tidegate_policy::model::{Meta, Mode, Policy, ResourceName, SourceMap, SourceRef};
use tidegate_quota::{Fallback, Lease, Rate, Share};
use tidegate_xds::quota::{MESH_DOMAIN, RateLimitQuotaResponse, assignments, bucket_id};

mod peers;

use super::caller::Speaks;
use super::*;

static STREAMS: AtomicU64 = AtomicU64::new(0);
const SECOND: Duration = Duration::from_secs(1);
const RATE: Rate = Rate { requests: 100, per: SECOND, burst: 10 };

fn limits(requests: u32) -> QuotaLimits {
    let limit = json!({"name": "all", "requests": requests, "per": "1s", "burst": 10});
    QuotaLimits::new([&policy(json!({"scope": "Mesh", "limits": [limit]}))])
}

fn policy(spec: Value) -> Policy {
    let name = ResourceName::new("shop", "limits");
    let source = SourceRef::File { path: "a.yaml".into(), line: 1 };
    Policy {
        meta: Meta { name, source, created: None },
        kind: "RateLimitPolicy".into(),
        targets: Vec::new(),
        mode: Mode::Enforce,
        spec,
        lines: SourceMap::default(),
    }
}

fn names(limit: &str) -> Names {
    let pairs = [("policy", "shop/limits"), ("limit", limit), ("key", "x")];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn rebalance(desk: &mut Desk, now: Duration) {
    let mut round = Round::new(now);
    while desk.rebalance(&mut round) {}
    round.told().for_each(|(caller, told)| desk.tell(&caller, told, now));
    desk.clean(now);
}

struct Client {
    id: ClientId,
    lease: Lease,
    caller: Caller,
    inbox: mpsc::Receiver<Result<RateLimitQuotaResponse, tonic::Status>>,
}

impl Client {
    fn new(id: ClientId, queue: usize) -> Self {
        let (outbox, inbox) = mpsc::channel(queue);
        let bucket = bucket_id(MESH_DOMAIN, &names("all"));
        let lease = Lease::new(id, bucket, RATE, Fallback::Share(Share::NONE), SECOND);
        let (domain, speaks, stream) =
            (String::from(MESH_DOMAIN), Speaks::ForItself, STREAMS.fetch_add(1, Relaxed));
        Self { id, lease, caller: Caller { domain, speaks, stream, outbox }, inbox }
    }

    fn report(&mut self, desk: &mut Desk, now: Duration) {
        let mut report = self.lease.report(now);
        report.client = self.id;
        desk.take(&self.caller, vec![(names("all"), report)], now);
    }

    fn read(&mut self, now: Duration) -> usize {
        let mut read = 0;
        while let Ok(Ok(message)) = self.inbox.try_recv() {
            for assignment in assignments(&message, MESH_DOMAIN) {
                assert_eq!(assignment.client, self.id);
                self.lease.assign(&assignment, now);
                read += 1;
            }
        }
        read
    }
}

/// A round in which everybody asks for all there is.
fn round(desk: &mut Desk, clients: &mut [&mut Client], now: Duration) {
    for client in clients.iter_mut() {
        for _ in 0..50 {
            let _ = client.lease.cell().take(1, now);
        }
        client.report(desk, now);
    }
    rebalance(desk, now);
    for client in clients.iter_mut() {
        client.read(now);
    }
}

fn percent(client: &Client) -> u64 {
    client.lease.share().map_or(0, |share| share.as_billionths() / 10_000_000)
}

/// After the time in which shares of a server before may still be held.
const LATER: Duration = Duration::from_secs(20);

#[test]
fn two_clients_share_and_one_that_leaves_gives_all_to_the_other() {
    let mut desk = Desk::new(1, false, limits(100), Default::default());
    let (mut a, mut b) = (Client::new(1, 16), Client::new(2, 16));
    let at = |step: u32| LATER + SECOND * step / 5;
    (0..10).for_each(|step| round(&mut desk, &mut [&mut a, &mut b], at(step)));
    assert_eq!((percent(&a), percent(&b)), (49, 49));
    assert_eq!((desk.counts().buckets, desk.counts().clients), (1, 2));
    let leaves = a.lease.leave(at(10));
    desk.take(&a.caller, vec![(names("all"), Report { client: 1, ..leaves })], at(10));
    (11..14).for_each(|step| round(&mut desk, &mut [&mut b], at(step)));
    assert_eq!(percent(&b), 100);
}

#[test]
fn a_bucket_without_a_limit_is_abandoned_and_nothing_is_kept_of_it() {
    let mut desk = Desk::new(1, false, limits(100), Default::default());
    let mut client = Client::new(1, 16);
    let report = client.lease.report(LATER);
    desk.take(&client.caller, vec![(names("other"), report)], LATER);
    let told = client.inbox.try_recv().unwrap().unwrap();
    assert_eq!((told.bucket_action.len(), assignments(&told, MESH_DOMAIN).len()), (1, 0));
    assert_eq!((desk.counts().buckets, desk.counts().abandoned), (0, 1));
}

#[test]
fn of_a_message_that_never_ends_the_rest_is_counted_and_not_taken() {
    let mut desk = Desk::new(1, false, limits(100), Default::default());
    let mut client = Client::new(1, 16);
    let report = client.lease.report(LATER);
    desk.take(&client.caller, vec![(names("all"), report); MOST_REPORTS + 3], LATER);
    assert_eq!((desk.counts().reports, desk.counts().beyond), (MOST_REPORTS as u64 + 3, 3));
}

#[test]
fn one_that_does_not_read_holds_up_nobody() {
    let mut desk = Desk::new(1, false, limits(100), Default::default());
    let (mut stuck, mut other) = (Client::new(1, 1), Client::new(2, 16));
    for step in 0..60_u32 {
        let now = LATER + SECOND * step / 5;
        stuck.report(&mut desk, now);
        round(&mut desk, &mut [&mut other], now);
    }
    assert!(desk.counts().dropped > 0);
    assert!(percent(&other) > 0);
}

#[test]
fn a_client_that_comes_back_over_another_stream_is_told_there() {
    let mut desk = Desk::new(1, false, limits(100), Default::default());
    let (mut dead, mut back) = (Client::new(1, 16), Client::new(1, 16));
    dead.report(&mut desk, LATER);
    back.report(&mut desk, LATER);
    rebalance(&mut desk, LATER);
    assert_eq!((dead.read(LATER), back.read(LATER)), (0, 1));
    // The end of the old stream is noticed late, and changes nothing.
    desk.forget(dead.caller.stream);
    back.report(&mut desk, LATER + SECOND);
    rebalance(&mut desk, LATER + SECOND);
    assert_eq!(back.read(LATER + SECOND), 1);
}

#[test]
fn what_nobody_reports_is_forgotten() {
    let mut desk = Desk::new(1, false, limits(100), Default::default());
    let mut client = Client::new(1, 16);
    client.report(&mut desk, LATER);
    rebalance(&mut desk, LATER);
    drop(client);
    for step in 1..40 {
        rebalance(&mut desk, LATER + SECOND * step);
    }
    assert_eq!(desk.counts(), Counts { reports: 1, assignments: 1, ..Counts::default() });
    assert!(desk.buckets.is_empty());
}

#[test]
fn a_plain_envoy_is_told_a_token_bucket_of_the_limit_as_it_is_written_now() {
    let mut desk = Desk::new(1, false, limits(100), Default::default());
    let mut client = Client::new(1, 16);
    client.caller.speaks = Speaks::Plainly;
    let fill = |client: &mut Client| {
        let told = client.inbox.try_recv().unwrap().unwrap();
        let text = format!("{told:?}");
        let at = text.find("tokens_per_fill: Some(").unwrap();
        text[at..]
            .chars()
            .skip_while(|c| !c.is_ascii_digit())
            .take_while(char::is_ascii_digit)
            .collect::<String>()
    };
    client.report(&mut desk, LATER);
    rebalance(&mut desk, LATER);
    assert_eq!(fill(&mut client), "1000000");
    desk.rewrite(limits(250));
    client.report(&mut desk, LATER + SECOND);
    rebalance(&mut desk, LATER + SECOND);
    assert_eq!(fill(&mut client), "2500000");
}

#[test]
fn the_first_control_plane_lends_at_once_and_any_other_waits_for_what_may_still_be_held() {
    for (is_first, read) in [(true, 1), (false, 0)] {
        let mut desk = Desk::new(1, is_first, limits(100), Default::default());
        let mut client = Client::new(1, 16);
        client.report(&mut desk, SECOND);
        rebalance(&mut desk, SECOND);
        assert_eq!(client.read(SECOND), read);
    }
}
