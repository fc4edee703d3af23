//! `scope: Mesh`: proxies with one server between them, and no time but the one that is said.

use std::collections::BTreeMap;

use tidegate_quota::{BucketId, MESH_DOMAIN, Most, Report, Server};

use super::*;
use crate::kinds::rate_limit::{Leases, QuotaLimits, Standing};
use crate::kinds::tests::policy;

/// What every proxy and the control plane know by themselves.
struct Proxy {
    store: StateStore,
    filter: Arc<dyn Filter>,
    id: u64,
}

struct Mesh {
    limits: QuotaLimits,
    server: Server,
    proxies: Vec<Proxy>,
    millis: u64,
}

const STEP: u64 = 50;

fn limits(spec: Value) -> QuotaLimits {
    QuotaLimits::new([&policy(KIND, Mode::Enforce, spec)])
}

fn server() -> Server {
    Server::new(Most { buckets: 1000, members: 100 }, 0, std::time::Duration::ZERO)
}

impl Proxy {
    fn new(id: u64, spec: &Value) -> Self {
        let store = StateStore::new([id, 7]);
        let filter = bind(Mode::Enforce, spec.clone(), &store);
        Self { store, filter, id }
    }

    fn leases(&self) -> Arc<Leases> {
        Leases::of(&self.store)
    }
}

impl Mesh {
    fn new(proxies: u64, spec: &Value) -> Self {
        let proxies = (1..=proxies).map(|id| Proxy::new(id, spec)).collect();
        Self { limits: limits(spec.clone()), server: server(), proxies, millis: 60_000 }
    }

    fn now(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.millis)
    }

    fn take(&mut self, (names, report): &(BTreeMap<String, String>, Report)) {
        assert_eq!(BucketId::named(MESH_DOMAIN, names), report.bucket);
        assert_ne!(report.client, 0, "whoever says it says who it is");
        let limit = self.limits.limit(MESH_DOMAIN, names).expect("a limit that the control plane knows");
        self.server.report(report, limit, self.now());
    }

    /// Everybody reports what is due, and is told what follows, one step later.
    fn talk(&mut self) {
        self.millis += STEP;
        let now = Timestamp::from_millis(self.millis);
        let told: Vec<_> =
            self.proxies.iter().flat_map(|proxy| proxy.leases().reports(proxy.id, now)).collect();
        told.iter().for_each(|report| self.take(report));
        if self.millis.is_multiple_of(2 * STEP) {
            for assignment in self.server.rebalance(self.now()) {
                let to = self.proxies.iter().find(|proxy| proxy.id == assignment.client);
                if let Some(report) = to.and_then(|proxy| proxy.leases().assign(&assignment, now)) {
                    self.take(&report);
                }
            }
        }
    }

    fn ask(&self, proxy: usize, path: &str, requests: u32) -> usize {
        admitted(&self.proxies[proxy].filter, path, requests, self.millis)
    }
}

fn spec(fallback: u32, limit: Value) -> Value {
    let mut spec = one(limit);
    spec["scope"] = json!("Mesh");
    spec["mesh"] = json!({"fallbackPercent": fallback});
    spec
}

#[test]
fn ten_proxies_with_one_busy_let_through_what_one_limit_says() {
    let limit = json!({"name": "all", "requests": 1000, "per": "1s", "burst": 100});
    let mut mesh = Mesh::new(10, &spec(10, limit));
    // Twice the limit: nine tenths of it at one proxy.
    let passed = |mesh: &mut Mesh, busy: usize, steps: usize| {
        let mut passed = 0;
        for step in 0..steps {
            let each = (0..10)
                .map(|proxy| mesh.ask(proxy, "/", if proxy == busy { 90 } else { step as u32 % 2 + 1 }));
            passed += each.sum::<usize>();
            mesh.talk();
        }
        passed
    };
    for busy in [0, 4] {
        // A second after the load has moved.
        passed(&mut mesh, busy, 20);
        let window = passed(&mut mesh, busy, 200);
        assert!((9_700..=10_300).contains(&window), "{window} at {busy}");
    }
}

#[test]
fn until_there_is_a_share_and_after_it_is_lost_each_proxy_lets_its_part_through() {
    let limit = json!({"name": "all", "requests": 100, "per": "100s", "burst": 50});
    let mut mesh = Mesh::new(2, &spec(20, limit.clone()));
    assert_eq!((mesh.ask(0, "/", 60), mesh.ask(1, "/", 60)), (10, 10));
    (0..10).for_each(|_| mesh.talk());
    assert_eq!(
        mesh.proxies[0].leases().standing(Timestamp::from_millis(mesh.millis)),
        Standing { assigned: 1, ..Standing::default() }
    );
    // What passed before is missing now.
    let (a, b) = (mesh.ask(0, "/", 60), mesh.ask(1, "/", 60));
    assert!((28..=32).contains(&(a + b)), "{a} + {b}");
    // Nobody talks any more: the last share, then the part.
    for (later, standing) in [
        (4_000, Standing { reused: 1, ..Standing::default() }),
        (20_000, Standing { fallback: 1, ..Standing::default() }),
    ] {
        mesh.millis += later;
        let now = Timestamp::from_millis(mesh.millis);
        mesh.proxies[0].leases().reports(1, now);
        assert_eq!(mesh.proxies[0].leases().standing(now), standing);
    }
    assert!(mesh.ask(0, "/", 60) <= 20, "what was lent, and then at most the part of the burst");
    mesh.millis += 1_000_000;
    assert_eq!(mesh.ask(0, "/", 60), 10);
    let none = Mesh::new(1, &spec(0, limit));
    assert_eq!(none.ask(0, "/", 5), 0, "as written");
}

#[test]
fn each_key_has_a_budget_of_its_own_at_all_proxies_and_an_override_its_own_limit() {
    let limit = json!({
        "name": "user", "requests": 10, "per": "1h", "key": [{"type": "Path"}],
        "overrides": [{"key": ["/gold"], "requests": 40}, {"key": ["/ours"], "unlimited": true}],
    });
    let mut mesh = Mesh::new(2, &spec(10, limit));
    let mut passed = BTreeMap::<_, usize>::new();
    for _ in 0..40 {
        for path in ["/a", "/b", "/gold", "/ours"] {
            *passed.entry(path).or_default() += mesh.ask(0, path, 2) + mesh.ask(1, path, 1);
        }
        mesh.talk();
    }
    assert!((9..=11).contains(&passed["/a"]) && (9..=11).contains(&passed["/b"]), "{passed:?}");
    assert!((38..=42).contains(&passed["/gold"]), "{passed:?}");
    assert_eq!(passed["/ours"], 120);
}

#[test]
fn what_nobody_asks_for_is_given_up_and_comes_back_as_it_was_left() {
    let limit = json!({"name": "user", "requests": 10, "per": "1h", "key": [{"type": "Path"}]});
    let mut mesh = Mesh::new(1, &spec(100, limit));
    mesh.ask(0, "/a", 1);
    (0..10).for_each(|_| mesh.talk());
    assert_eq!(mesh.ask(0, "/a", 20), 9);
    mesh.ask(0, "/b", 1);
    assert_eq!(mesh.server.len(), 1);
    (0..700).for_each(|_| mesh.talk());
    assert_eq!(mesh.proxies[0].leases().standing(Timestamp::from_millis(mesh.millis)), Standing::default());
    assert_eq!(mesh.server.len(), 2, "neither is full");
    // Its first share has nothing to spend: the part that passes at once is taken from what comes.
    assert!(mesh.ask(0, "/a", 1) == 1 && mesh.server.len() == 2);
    (0..10).for_each(|_| mesh.talk());
    assert_eq!(mesh.ask(0, "/a", 5), 0);
}

#[test]
fn a_limit_that_is_written_anew_keeps_what_was_spent() {
    let limit = |requests: u32| json!({"name": "all", "requests": requests, "per": "1h"});
    let mut mesh = Mesh::new(1, &spec(10, limit(100)));
    mesh.ask(0, "/", 1);
    (0..10).for_each(|_| mesh.talk());
    assert_eq!(mesh.ask(0, "/", 200), 99);
    let raised = spec(10, limit(200));
    mesh.limits = limits(raised.clone());
    mesh.proxies[0].filter = bind(Mode::Enforce, raised, &mesh.proxies[0].store);
    (0..10).for_each(|_| mesh.talk());
    assert!(mesh.ask(0, "/", 200) <= 1, "room, and what the new rate earns");
    // Nobody talks any more: a tenth of what is written now.
    mesh.millis += 7_200_000;
    mesh.proxies[0].leases().reports(1, Timestamp::from_millis(mesh.millis));
    mesh.millis += 7_200_000;
    assert_eq!(mesh.ask(0, "/", 200), 20);
}

#[test]
fn one_that_leaves_lets_others_have_its_share_at_once() {
    let limit = json!({"name": "all", "requests": 1000, "per": "1s"});
    let mut mesh = Mesh::new(2, &spec(10, limit));
    for _ in 0..40 {
        mesh.ask(0, "/", 100);
        mesh.ask(1, "/", 100);
        mesh.talk();
    }
    let leaving = mesh.proxies[0].leases().leave(1, Timestamp::from_millis(mesh.millis));
    assert_eq!(leaving.len(), 1);
    leaving.iter().for_each(|report| mesh.take(report));
    let mut second = || {
        let ask = |_| {
            mesh.talk();
            mesh.ask(1, "/", 100)
        };
        (0..20).map(ask).sum::<usize>()
    };
    second();
    let passed = second();
    assert!((950..=1100).contains(&passed), "{passed}");
}

#[test]
fn ever_new_keys_share_one_bucket_beyond_the_cap() {
    let limit = json!({"name": "user", "requests": 1, "per": "1h", "key": [{"type": "Path"}]});
    let mesh = Mesh::new(1, &spec(100, limit));
    let passed = (0..12_000).filter(|i| mesh.ask(0, &format!("/{i}"), 1) == 1).count();
    assert_eq!(passed, 10_001);
}

#[test]
fn who_asks_by_a_domain_gets_the_limit_that_says_most_of_the_bucket() {
    let descriptor = |name: &str| json!({"type": "Descriptor", "name": name});
    let limits = limits(json!({"domain": "edge", "limits": [
        {"name": "all", "requests": 100, "per": "1s"},
        {"name": "user", "requests": 5, "per": "1s", "key": [descriptor("user")]},
        {"name": "both", "requests": 2, "per": "1s", "key": [descriptor("user"), descriptor("path")]},
    ]}));
    let of = |domain: &str, names: &[&str]| {
        let names = names.iter().map(|name| ((*name).to_owned(), String::from("x"))).collect();
        limits.limit(domain, &names).map(|limit| limit.rate.requests)
    };
    assert_eq!(of("edge", &["path", "user"]), Some(2));
    assert_eq!(of("edge", &["user", "more"]), Some(5));
    assert_eq!(of("edge", &["more"]), Some(100));
    assert_eq!(of("other", &["user"]), None);
    assert_eq!(of(MESH_DOMAIN, &["policy", "limit"]), None);
}

#[test]
fn faults_of_what_goes_with_the_mesh() {
    let limit = json!({"name": "a", "requests": 5, "per": "1s"});
    for (spec, want) in [
        (json!({"mesh": {}, "limits": [limit]}), "spec/mesh: `mesh` goes with `scope: Mesh` only"),
        (
            json!({"scope": "Mesh", "mesh": {"keepShare": "2h"}, "limits": [limit]}),
            "spec/mesh/keepShare: 2h is out of range: use 1s to 1h",
        ),
        (
            json!({"scope": "Mesh", "mesh": {"fallbackPercent": 101}, "limits": [limit]}),
            "spec/mesh/fallbackPercent: 101 is out of range",
        ),
        (json!({"scope": "Mesh", "exact": {}, "limits": [limit]}), "spec/exact: `exact` goes with"),
    ] {
        let faults = faults(KIND, spec);
        assert!(faults.len() == 1 && faults[0].starts_with(want), "{want}: {faults:?}");
    }
}
