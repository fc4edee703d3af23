use super::*;
use crate::model::{Mirror, PrivateKey, Resource, Resources, RouteFilter, Share, Trust, fixture::*};
use crate::snapshot::{Local, Snapshot};

/// A Service by TLS with a route on a listener of its own, and a mirror at the other Service.
fn part(service_of: &str, hostname: &str, key: &str, mirror: &str) -> Vec<Resource> {
    let [mut backend, endpoints] = service(service_of, 80, &[8000]);
    if let Resource::Backend(backend) = &mut backend {
        let policy = PolicyRef { kind: "BackendTLSPolicy".into(), name: name("p"), source: source(3) };
        let trust = Some(Trust::Bundle(b"pem"[..].into()));
        let verification = Verification { trust, hostname: hostname.into(), alt_names: Vec::new() };
        backend.tls = Some(BackendTls { policy, verification });
    }
    let mut listener = listener("gw", service_of, &format!("{service_of}.org"));
    listener.client_certificate = (!key.is_empty()).then(|| Certificate {
        secret: name("client"),
        chain: b"chain"[..].into(),
        key: PrivateKey::new(key.as_bytes()),
    });
    let mut rule = rule("r", &["/"], vec![to(service_of, 1)]);
    let mirror = service_name(mirror, 80);
    rule.filters = vec![RouteFilter::Mirror(Mirror { backend: mirror, share: Share::ALL })];
    let parents = vec![on_listener("gw", service_of, &[""])];
    let route = route(service_of, parents, vec![rule]);
    vec![backend, endpoints, Resource::Listener(listener), Resource::Route(route)]
}

fn mesh(hostnames: [&str; 2], keys: [&str; 2]) -> Resources {
    let (a, b) = (part("a", hostnames[0], keys[0], "b"), part("b", hostnames[1], keys[1], "a"));
    resources(a.into_iter().chain(b))
}

fn build(resources: &Resources, state: &StateStore) -> Snapshot {
    let (snapshot, rejected) = Snapshot::build(resources, &Local::default(), state);
    assert_eq!(rejected, []);
    snapshot
}

/// Where each set of settings lies.
fn identities(snapshot: &Snapshot) -> Vec<usize> {
    let mut all: Vec<_> = snapshot.originations().map(|(_, tls)| Arc::as_ptr(&tls.settings).addr()).collect();
    all.sort_unstable();
    all
}

#[test]
fn equal_settings_are_one_and_whatever_differs_is_another() {
    // Each listener calls both Services, one of them as a mirror; so do callers inside the mesh, who show nothing.
    for (hostnames, keys, count) in [
        (["x.org", "x.org"], ["", ""], 1),
        (["x.org", "y.org"], ["", ""], 2),
        (["x.org", "x.org"], ["key", ""], 2),
        (["x.org", "x.org"], ["key", "key"], 2),
        (["x.org", "x.org"], ["key", "other"], 3),
        (["x.org", "y.org"], ["key", "other"], 6),
    ] {
        let snapshot = build(&mesh(hostnames, keys), &StateStore::new([0, 0]));
        assert_eq!(snapshot.originations().count(), count, "{hostnames:?} {keys:?}");
    }
}

#[test]
fn settings_live_on_from_push_to_push_and_are_forgotten_with_their_last_user() {
    let state = StateStore::new([0, 0]);
    let first = build(&mesh(["x.org", "x.org"], ["", ""]), &state);
    let second = build(&mesh(["x.org", "y.org"], ["", ""]), &state);
    let kept = identities(&first)[0];
    assert!(identities(&second).contains(&kept));
    let settings = |snapshot: &Snapshot| {
        snapshot.originations().map(|(_, tls)| Arc::downgrade(&tls.settings)).collect::<Vec<_>>()
    };
    let weak = settings(&second);
    drop((first, second));
    build(&Resources::default(), &state);
    assert!(weak.iter().all(|settings| settings.strong_count() == 0));
}

#[test]
fn what_is_made_of_settings_is_made_once() {
    let settings =
        TlsSettings::new(Verification { trust: None, hostname: "x.org".into(), alt_names: Vec::new() }, None);
    assert!(!settings.is_made());
    let made = settings.made(|settings| settings.verification.hostname.len());
    assert_eq!((*made, settings.is_made()), (5, true));
    assert!(Arc::ptr_eq(&made, &settings.made(|_| unreachable!())));
}

#[test]
fn a_key_is_no_part_of_what_is_printed() {
    let resources = mesh(["x.org", "x.org"], ["treasure", ""]);
    let snapshot = build(&resources, &StateStore::new([0, 0]));
    let text = format!("{snapshot:?}");
    assert!(text.contains("shop/client") && !text.contains("treasure"), "{text}");
    let bytes = format!("{:?}", b"treasure");
    assert!(!text.contains(bytes.trim_matches(['[', ']'])));
}

#[test]
fn only_failures_of_tls_are_blamed_on_the_policy() {
    let snapshot = build(&mesh(["x.org", "x.org"], ["", ""]), &StateStore::new([0, 0]));
    let (_, tls) = snapshot.originations().next().unwrap();
    for reason in Reason::ALL {
        let blamed = tls.refusal(reason).map(|decision| decision.policy.source.to_string());
        let expected = reason.flag().starts_with("upstream_tls").then(|| String::from("test.yaml:3"));
        assert_eq!(blamed, expected, "{reason:?}");
    }
}
