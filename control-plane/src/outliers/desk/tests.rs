use serde_json::json;
use tidegate_outliers::{Failing, Statement};
use tidegate_policy::model::{Meta, Mode, Policy, ResourceName, SourceMap, SourceRef};
use tidegate_xds::outliers::suspects;

use super::*;

const BACKEND: &str = "CircuitBreakerPolicy/shop/share|shop/cart:80";

fn rules(mode: Mode) -> SharedRules {
    let policy = Policy {
        meta: Meta {
            name: ResourceName::new("shop", "share"),
            source: SourceRef::File { path: "a.yaml".into(), line: 1 },
            created: None,
        },
        kind: "CircuitBreakerPolicy".into(),
        targets: Vec::new(),
        mode,
        spec: json!({"shared": {"quorum": 2, "failures": 2, "settle": "0s", "hold": "10s"}}),
        lines: SourceMap::default(),
    };
    SharedRules::new([&policy])
}

fn desk() -> Desk {
    Desk::new(100, rules(Mode::Enforce))
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

struct Proxy {
    stream: u64,
    end: CancellationToken,
    inbox: mpsc::Receiver<Result<LoadStatsResponse, Status>>,
}

impl Proxy {
    fn join(desk: &mut Desk, node: &str, queue: usize) -> Self {
        let (outbox, inbox) = mpsc::channel(queue);
        let (stream, end) = desk.join(node, outbox);
        Self { stream, end, inbox }
    }

    fn fails(&self, desk: &mut Desk, cluster: &str, now: Duration) {
        let failing = Failing { failures: 3, age: Duration::ZERO, ejected: false };
        let statement = Statement { success: None, failing: Some(failing) };
        let said = Said { cluster: cluster.to_owned(), endpoint: String::from("10.0.0.1:80"), statement };
        desk.take(self.stream, std::iter::once(said), now);
    }

    /// The last message, as suspects by cluster.
    fn told(&mut self) -> Option<Vec<(String, usize)>> {
        let mut last = None;
        while let Ok(Ok(message)) = self.inbox.try_recv() {
            last = Some(suspects(&message).map(|(cluster, all)| (cluster.to_owned(), all.len())).collect());
        }
        last
    }
}

#[test]
fn what_two_say_all_are_told_and_whoever_comes_later_too() {
    let mut desk = desk();
    let mut proxies: Vec<_> = ["a", "b", "c"].map(|node| Proxy::join(&mut desk, node, 9)).into();
    proxies[0].fails(&mut desk, BACKEND, at(1));
    proxies[1].fails(&mut desk, BACKEND, at(1));
    desk.judge(at(1));
    let word = Some(vec![(BACKEND.to_owned(), 1)]);
    assert!(proxies.iter_mut().all(|proxy| proxy.told() == word));
    assert_eq!(Proxy::join(&mut desk, "d", 9).told(), word);
    desk.judge(at(11));
    assert_eq!(proxies[2].told(), Some(vec![(BACKEND.to_owned(), 0)]), "nobody says so any more");
    assert_eq!((desk.counts().suspicions, desk.counts().suspects), (1, 0));
}

#[test]
fn one_proxy_is_one_voice_however_often_it_connects() {
    let mut desk = desk();
    for _ in 0..5 {
        let proxy = Proxy::join(&mut desk, "a", 9);
        proxy.fails(&mut desk, BACKEND, at(1));
        desk.leave(proxy.stream);
    }
    desk.judge(at(1));
    assert_eq!(desk.counts().suspects, 0);
}

#[test]
fn the_first_word_of_failure_makes_all_be_asked() {
    let mut desk = desk();
    let (a, mut b) = (Proxy::join(&mut desk, "a", 9), Proxy::join(&mut desk, "b", 9));
    b.told();
    a.fails(&mut desk, BACKEND, at(1));
    desk.judge(at(1));
    let Ok(Ok(message)) = b.inbox.try_recv() else { panic!("not asked") };
    assert_eq!(message.clusters, [BACKEND]);
}

#[test]
fn what_nobody_shares_is_not_heard() {
    for (rules, cluster) in [
        (rules(Mode::Enforce), "CircuitBreakerPolicy/shop/other|shop/cart:80"),
        (rules(Mode::Enforce), "nonsense"),
        (rules(Mode::Shadow), BACKEND),
        (SharedRules::default(), BACKEND),
    ] {
        let mut desk = Desk::new(1, rules);
        for node in ["a", "b"] {
            Proxy::join(&mut desk, node, 9).fails(&mut desk, cluster, at(1));
        }
        desk.judge(at(1));
        assert_eq!((desk.counts().suspects, desk.counts().unheard), (0, 2), "{cluster}");
    }
}

#[test]
fn a_policy_that_shares_no_longer_frees_its_suspects() {
    let mut desk = desk();
    let (mut a, b) = (Proxy::join(&mut desk, "a", 9), Proxy::join(&mut desk, "b", 9));
    a.fails(&mut desk, BACKEND, at(1));
    b.fails(&mut desk, BACKEND, at(1));
    desk.judge(at(1));
    a.told();
    desk.rewrite(SharedRules::default());
    assert_eq!(a.told(), Some(vec![(BACKEND.to_owned(), 0)]));
}

#[test]
fn who_does_not_read_is_let_go() {
    let mut desk = desk();
    let (slow, other) = (Proxy::join(&mut desk, "slow", 1), Proxy::join(&mut desk, "b", 9));
    other.fails(&mut desk, BACKEND, at(1));
    desk.judge(at(1));
    assert!(slow.end.is_cancelled() && !other.end.is_cancelled());
    assert_eq!((desk.counts().dropped, desk.counts().proxies), (1, 1));
}

#[test]
fn who_has_gone_is_forgotten_once_nothing_fails() {
    let mut desk = desk();
    for node in 0..100 {
        let proxy = Proxy::join(&mut desk, &node.to_string(), 9);
        desk.leave(proxy.stream);
    }
    desk.judge(at(1));
    assert!(desk.reporters.is_empty());
}
