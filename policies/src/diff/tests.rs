use std::collections::BTreeSet;
use std::sync::Arc;

use http::Request;
use proptest::prelude::*;

use super::*;
use crate::document::parse;
use crate::model::PolicyRef;
use crate::objects::Object;
use crate::resolve::resolve;
use crate::snapshot::{BindAddress, Local, Rule, Scope, Snapshot, Target};
use crate::state::StateStore;

/// Documents of a small mesh, each with a place for a number.
const POOL: [&str; 12] = [
    "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec:\n  gatewayClassName: tidegate\n  listeners: [{name: http, protocol: HTTP, port: 80}, {name: shop, protocol: HTTP, port: 80, hostname: '*.shop.test'}]\n",
    "apiVersion: v1\nkind: Service\nmetadata: {name: v1}\nspec: {ports: [{port: 80}]}\n",
    "apiVersion: v1\nkind: Service\nmetadata: {name: v2}\nspec: {ports: [{port: 80}]}\n",
    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: v1-1, labels: {kubernetes.io/service-name: v1}}\naddressType: IPv4\nendpoints: [{addresses: [127.0.0.1]}, {addresses: [127.0.0.§]}]\nports: [{port: 3000}]\n",
    "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\nspec:\n  parentRefs: [{name: gw}]\n  hostnames: [a.shop.test, b.test]\n  rules:\n  - matches: [{path: {value: /x}}, {path: {type: Exact, value: /y}, method: POST}]\n    backendRefs: [{name: v1, port: 80, weight: 9}, {name: v2, port: 80, weight: §}]\n  - name: second\n    matches: [{path: {value: /}, headers: [{name: k, value: '§'}]}]\n    backendRefs: [{name: v2, port: 80}]\n",
    "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: b}\nspec:\n  parentRefs: [{name: gw}]\n  rules:\n  - matches: [{path: {value: /x}}, {headers: [{name: j, value: '1'}]}]\n    timeouts: {request: §s}\n    backendRefs: [{name: v1, port: 80}]\n",
    "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: c}\nspec:\n  parentRefs: [{kind: Service, group: '', name: v1, port: 80}]\n  rules:\n  - matches: [{path: {value: /§}}]\n    backendRefs: [{name: v2, port: 80}]\n",
    "apiVersion: tidegate.io/v1alpha1\nkind: RateLimitPolicy\nmetadata: {name: gateway}\nspec:\n  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: gw}]\n  limits: [{name: all, requests: §, per: 1s}]\n",
    "apiVersion: tidegate.io/v1alpha1\nkind: RateLimitPolicy\nmetadata: {name: route}\nspec:\n  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: a}]\n  limits: [{name: b, requests: 3, per: 1s}, {name: a, requests: §, per: 1m}]\n",
    "apiVersion: tidegate.io/v1alpha1\nkind: RateLimitPolicy\nmetadata: {name: lost}\nspec:\n  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: nowhere}]\n  limits: [{name: b, requests: §, per: 1s}]\n",
    "apiVersion: tidegate.io/v1alpha1\nkind: RetryPolicy\nmetadata: {name: again}\nspec:\n  targetRefs: [{kind: Service, name: v1}]\n  attempts: §\n",
    "apiVersion: tidegate.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: who}\nspec:\n  targetRefs: [{kind: Service, name: v2}]\n  rules: [{name: one, action: Deny, to: [{methods: [DELETE]}]}]\n",
];

fn read(files: &[String]) -> Resources {
    let mut objects: Vec<Object> = Vec::new();
    for (at, text) in files.iter().enumerate() {
        let parsed = parse(&Arc::from(format!("f{at}.yaml")), text);
        let errors: Vec<_> = parsed.diagnostics.iter().filter(|found| found.is_error()).collect();
        assert_eq!(errors, [] as [&_; 0], "{text}");
        objects.extend(parsed.objects);
    }
    resolve(&objects).resources
}

/// All of the pool that `numbers` has, with the number in its place.
fn documents(numbers: &[Option<u8>]) -> Vec<String> {
    let of = |(text, number): (&&str, &Option<u8>)| Some(text.replace('§', &number.as_ref()?.to_string()));
    POOL.iter().zip(numbers).filter_map(of).collect()
}

fn whole() -> Vec<String> {
    documents(&[Some(1); POOL.len()])
}

fn told(before: &[String], after: &[String]) -> Vec<(Topic, Way, Vec<String>)> {
    let changes = diff(&read(before), &read(after));
    changes.into_iter().map(|change| (change.topic, change.way, change.subjects)).collect()
}

#[test]
fn a_rule_that_another_route_takes_over_is_told_with_both_lines() {
    let mut after = whole();
    after[4] =
        after[4].replace("b.test", "b.test, c.test").replace("matches: [{path: {value: /x}}, ", "matches: [");
    let changes = diff(&read(&whole()), &read(&after));
    let listed: Vec<_> = changes.iter().map(|change| (change.way, &*change.subjects[0])).collect();
    assert!(listed.contains(&(Way::Removed, "listener default/gw/http b.test: /x/*")), "{listed:#?}");
    assert!(listed.contains(&(Way::Added, "listener default/gw/http c.test: POST /y")), "{listed:#?}");
}

#[test]
fn who_wins_a_match_and_what_holds_on_the_way_is_a_change() {
    // With an age, route `b` goes before all others.
    let mut after = whole();
    after[4] = after[4].replace("  hostnames: [a.shop.test, b.test]\n", "");
    let before = after.clone();
    after[5] = after[5].replace("{name: b}", "{name: b, creationTimestamp: 2026-01-01T00:00:00Z}");
    let changes = diff(&read(&before), &read(&after));
    let subject = "listener default/gw/http any host: /x/*";
    let won = changes.iter().find(|change| change.subjects == [subject]).unwrap();
    let rule = won.details.iter().find(|detail| detail.field == "rule").unwrap();
    let text = |said: &Option<Said>| said.as_ref().unwrap().text.clone();
    assert_eq!(
        (&*text(&rule.before), &*text(&rule.after)),
        ("HTTPRoute default/a 0", "HTTPRoute default/b 0")
    );
    assert_eq!(won.before.as_ref().unwrap().to_string(), "f4.yaml:7");
    assert_eq!(won.after.as_ref().unwrap().to_string(), "f5.yaml:7");
}

#[test]
fn a_policy_that_holds_is_compared_by_its_values_and_one_that_holds_nowhere_not_at_all() {
    let mut after = whole();
    after[9] = after[9].replace("requests: 1", "requests: 7");
    assert_eq!(told(&whole(), &after), []);
    after[8] = after[8].replace("requests: 3", "requests: 5");
    let changes = diff(&read(&whole()), &read(&after));
    let [change] = &changes[..] else { panic!("{changes:#?}") };
    assert_eq!((change.topic, &*change.subjects[0]), (Topic::Policy, "RateLimitPolicy default/route"));
    let [detail] = &change.details[..] else { panic!("{change:#?}") };
    assert_eq!(detail.field, "spec.limits[b].requests");
    assert_eq!(detail.before.as_ref().unwrap().source.as_ref().unwrap().to_string(), "f8.yaml:6");
}

#[test]
fn a_policy_that_goes_leaves_its_place_to_a_less_specific_one() {
    let mut after = whole();
    after.remove(8);
    let changes = diff(&read(&whole()), &read(&after));
    let holds = changes.iter().find(|change| change.topic == Topic::Holds).unwrap();
    let detail = &holds.details[0];
    let text = |said: &Option<Said>| said.as_ref().map(|said| said.text.clone());
    assert_eq!(
        (text(&detail.before).as_deref(), text(&detail.after).as_deref()),
        (Some("default/route"), Some("default/gateway"))
    );
    assert!(holds.subjects.len() > 1, "{holds:?}");
    assert!(changes.iter().any(|change| change.topic == Topic::Policy && change.way == Way::Removed));
}

#[test]
fn what_is_written_although_it_is_the_default_is_no_change() {
    let mut after = whole();
    after[8] = after[8]
        .replace("  limits", "  mode: Enforce\n  scope: Local\n  limits")
        .replace("per: 1m", "per: 60s");
    after[5] = after[5]
        .replace("backendRefs: [{name: v1, port: 80}]", "backendRefs: [{name: v1, port: 80, weight: 1}]");
    assert_eq!(told(&whole(), &after), []);
}

#[test]
fn an_endpoint_more_is_told_by_its_address() {
    let mut after = whole();
    after[3] = after[3]
        .replace("{addresses: [127.0.0.1]}, ", "{addresses: [127.0.0.1]}, {addresses: [127.0.0.7]}, ");
    let changes = diff(&read(&whole()), &read(&after));
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].topic, &*changes[0].details[0].field), (Topic::Endpoints, "127.0.0.7:3000"));
}

/// Where a rule leads and what holds on the way, in words.
fn described(rule: &Rule, resources: &Resources) -> String {
    let target = |(target, applied): (&Target, &[Arc<PolicyRef>])| {
        let backend = match &target.backend {
            Ok(backend) => {
                let ends: Vec<_> = backend.endpoints.iter().map(|end| end.label.clone()).collect();
                format!("{} {ends:?}", backend.label)
            }
            Err(reason) => format!("{reason:?}"),
        };
        let policies = applied.iter().map(|one| {
            let key = (one.kind.to_string(), one.name.clone());
            format!("{} {} {}", one.kind, one.name, resources.policies[&key].spec)
        });
        let time = target.plan.times.request.as_ref().map(|limit| limit.after);
        format!("{backend} {} {:?} {time:?}", target.weight, policies.collect::<Vec<_>>())
    };
    let targets: BTreeSet<_> =
        rule.targets.iter().zip(rule.applied.iter().map(|applied| &**applied)).map(target).collect();
    format!("{:?} {} {targets:?}", rule.route, rule.name)
}

/// What a gateway and a sidecar do with some requests.
fn decisions(resources: &Resources) -> Vec<String> {
    let (snapshot, _) = Snapshot::build(resources, &Local::default(), &StateStore::new([0; 2]));
    let gateway = Scope::Gateway(BindAddress { ip: None, port: 80 });
    let hosts = ["a.shop.test", "b.test", "x.shop.test", "other.test", "v1.default", "v2.default"];
    let kinds = [("GET", None), ("POST", None), ("GET", Some("k")), ("GET", Some("j"))];
    let mut all = Vec::new();
    for (host, path) in
        hosts.iter().flat_map(|host| ["/", "/x", "/x/1", "/y", "/1", "/2"].map(|path| (host, path)))
    {
        for ((method, header), scope) in
            kinds.iter().flat_map(|kind| [gateway, Scope::Outbound].map(|to| (kind, to)))
        {
            let mut request = Request::builder().method(*method).uri(path).header("host", *host);
            if let Some(name) = header {
                request = request.header(*name, "1");
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            let found = snapshot.find(scope, &head).map(|rule| described(rule, resources));
            all.push(format!("{host} {path} {method} {header:?} {scope:?}: {found:?}"));
        }
    }
    all
}

fn numbers() -> impl Strategy<Value = Vec<Option<u8>>> {
    proptest::collection::vec(prop_oneof![1 => Just(None), 6 => (1_u8..4).prop_map(Some)], POOL.len())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn documents_in_another_order_and_in_other_files_change_nothing(
        numbers in numbers(),
        seed in any::<u64>(),
        files in 1_usize..5,
    ) {
        let before = documents(&numbers);
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut shuffled = before.clone();
        rng.shuffle(&mut shuffled);
        let mut after = vec![String::from("# of another file\n"); files];
        for document in shuffled {
            let file = &mut after[rng.usize(..files)];
            *file += "---\n# a comment\n";
            *file += &document;
        }
        prop_assert_eq!(diff(&read(&before), &read(&after)), []);
    }

    /// Two sets that are nearly the same, so that many differ in what has no effect only.
    #[test]
    fn without_a_change_every_request_is_treated_as_before(
        numbers in numbers(),
        at in 0..POOL.len(),
        number in proptest::option::of(1_u8..4),
    ) {
        let mut other = numbers.clone();
        other[at] = number;
        let (before, after) = (read(&documents(&numbers)), read(&documents(&other)));
        let (there, back) = (diff(&before, &after), diff(&after, &before));
        prop_assert_eq!(there.len(), back.len());
        if there.is_empty() {
            prop_assert_eq!(decisions(&before), decisions(&after));
        }
        prop_assert_eq!(diff(&before, &before), []);
    }
}
