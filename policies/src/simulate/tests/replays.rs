use proptest::prelude::*;

use super::*;

const PER_USER: &str = "  limits: [{name: each, requests: 5, per: 1s, key: [{type: Header, name: x-user}]}]";

fn sums(tally: &Tally) -> [u64; 3] {
    [Column::Requests, Column::Limited, Column::Failed].map(|column| tally.sum(column))
}

#[test]
fn a_limit_refuses_whoever_is_over_it_on_the_clock_of_the_log() {
    let plan = plan(&policy("RateLimitPolicy", PER_USER));
    // Ten a second of ann, two of bob, for ten seconds.
    let requests = (0..100).flat_map(|n| {
        let bob = (n % 5 == 0).then(|| request(n * 100, "/b", "bob"));
        [Some(request(n * 100, "/a", "ann")), bob].into_iter().flatten()
    });
    let simulator = replay(&plan, requests);
    let tally = simulator.tally();
    let [all, limited, failed] = sums(tally);
    assert_eq!((all, failed), (120, 0));
    // A bucketful of five and five a second.
    assert!((45..=46).contains(&limited), "{limited}");
    assert_eq!(tally.statuses[&429], limited);
    let rule = &tally.rules[0];
    assert_eq!((&*rule.rule.name, rule.outcomes.get("refused")), ("each", limited));
    assert_eq!(rule.keys.as_ref().unwrap().0.top(5), [("ann", limited, 0)]);
    assert!(rule.rule.source.to_string().starts_with("shop.yaml:"));
    assert_eq!(tally.routes[0].refused, limited);
    assert_eq!(tally.backends[0].calls, 120 - limited);
    let series: u64 = tally.series.column(Column::Limited as usize).sum();
    assert_eq!((series, tally.series.counts().len()), (limited, 10));
}

#[test]
fn a_limit_in_shadow_refuses_nobody_and_says_whom_it_would_have() {
    let plan = plan(&policy("RateLimitPolicy", &format!("  mode: Shadow\n{PER_USER}")));
    let simulator = replay(&plan, (0..100).map(|n| request(n, "/a", "ann")));
    let tally = simulator.tally();
    assert_eq!(sums(tally), [100, 0, 0]);
    assert_eq!(tally.sum(Column::WouldRefuse), 95);
    assert_eq!(tally.rules[0].keys.as_ref().unwrap().0.top(1)[0].0, "ann");
}

#[test]
fn calls_take_up_their_place_for_as_long_as_they_last() {
    let cap = "  caps: [{scope: Backend, requests: 3}]";
    let plan = plan(&policy("CircuitBreakerPolicy", cap));
    let slow = |n: u64| Request { logged: answered(200, 100), ..request(n * 10, "/", "ann") };
    // Ten at one time, of which three have a place; each keeps it for a tenth of a second.
    let simulator = replay(&plan, (0..100).map(slow));
    let tally = simulator.tally();
    assert_eq!(tally.backends[0].peak, 3);
    assert_eq!(tally.calls, 30, "{:?}", tally.reasons);
    assert_eq!(tally.reasons[&crate::Reason::RequestCap], 70);
    assert_eq!(tally.sum(Column::Refused), 70);
    let quick = replay(&plan, (0..100).map(|n| request(n * 10, "/", "ann")));
    assert_eq!(quick.tally().calls, 100);
}

#[test]
fn who_waits_for_a_turn_gets_it_when_another_one_leaves() {
    let spec = "  limit: 1\n  queue: {max: 10, maxWait: 1s, target: 900ms}";
    let plan = plan(&policy("OverloadPolicy", spec));
    let slow = |n: u64| Request { logged: answered(200, 100), ..request(n, "/", "ann") };
    let simulator = replay(&plan, (0..5).map(slow));
    let tally = simulator.tally();
    assert_eq!((tally.calls, tally.sum(Column::Delayed), tally.sum(Column::Refused)), (5, 4, 0));
    // One after the other: the last has waited for four.
    assert!((390..=400).contains(&tally.longest_wait.as_millis()), "{:?}", tally.longest_wait);
    assert_eq!(tally.backends[0].peak, 1);
}

#[test]
fn what_fails_is_sent_again_and_the_second_answer_is_one_of_those_that_are_usual() {
    let spec = "  attempts: 3\n  retryOn: {statuses: [503]}\n  budget: {percent: 100, minPerSecond: 100}";
    let plan = plan(&policy("RetryPolicy", spec));
    let requests = (0..1000).map(|n| {
        let status = if n % 10 == 9 { 503 } else { 200 };
        Request { logged: answered(status, 5), ..request(n * 10, "/", "ann") }
    });
    let simulator = replay(&plan, requests);
    let tally = simulator.tally();
    assert_eq!(tally.retried, 100, "{:?}", tally.reasons);
    // One in ten fails again, and of these one in ten.
    assert!(tally.sum(Column::Failed) < 10, "{}", tally.sum(Column::Failed));
    assert!((100..140).contains(&tally.sum(Column::Retries)));
    assert_eq!(tally.logged[&503], 100);
}

#[test]
fn a_breaker_that_opens_holds_back_what_follows() {
    let spec = "  breakers: [{name: errors, scope: Backend, consecutiveFailures: 5, open: 10s}]";
    let plan = plan(&policy("CircuitBreakerPolicy", spec));
    let requests = (0..100).map(|n| Request { logged: answered(500, 1), ..request(n * 10, "/", "ann") });
    let simulator = replay(&plan, requests);
    let tally = simulator.tally();
    assert_eq!(tally.calls, 5);
    assert_eq!(tally.reasons[&crate::Reason::CircuitOpen], 95);
}

#[test]
fn the_same_traffic_and_seed_give_the_same_result() {
    let faults = "  faults: [{name: gone, percent: 30, abort: {status: 418}}]";
    let plan_of = || plan(&policy("FaultPolicy", faults));
    let [a, b] = [plan_of(), plan_of()];
    let requests = || (0..500).map(|n| request(n, "/", "ann"));
    let (a, b) = (replay(&a, requests()), replay(&b, requests()));
    assert_eq!(a.tally().statuses, b.tally().statuses);
    let injected = a.tally().statuses[&418];
    assert!((100..200).contains(&injected), "{injected}");
}

#[test]
fn what_differs_between_two_sets_is_told_by_what_it_was_and_what_it_is() {
    let before = plan("");
    let after = plan(&policy("RateLimitPolicy", PER_USER));
    let mut comparison = Comparison::new((&before, &after), Answers::default, 7);
    for n in 0..20 {
        comparison.push(&mut request(n, "/a?x=1", "ann"));
    }
    comparison.finish();
    assert_eq!(comparison.changed(), 15);
    let changes = comparison.changes();
    let [change] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((change.from.status, change.to.status, change.count), (200, 429, 15));
    assert_eq!(&*change.by.as_ref().unwrap().rule.name, "each");
    let example = &change.examples[0];
    assert_eq!(
        (example.uri.to_string().as_str(), example.client.to_string().as_str()),
        ("/a?x=1", "10.0.0.7")
    );
    assert_eq!(comparison.before().sum(Column::Limited), 0);

    let (one, two) = (plan(""), plan(""));
    let mut same = Comparison::new((&one, &two), Answers::default, 7);
    (0..20).for_each(|n| same.push(&mut request(n, "/", "ann")));
    same.finish();
    assert_eq!(same.changed(), 0);
}

#[test]
fn scopes_that_others_count_act_as_local_and_it_is_said() {
    let spec = "  scope: Mesh\n  mesh: {fallbackPercent: 0}\n  limits: [{name: all, requests: 5, per: 1h}]";
    let plan = plan(&policy("RateLimitPolicy", spec));
    assert!(plan.notes()[0].contains("`scope: Mesh` counts as Local"), "{:?}", plan.notes());
    let simulator = replay(&plan, (0..20).map(|n| request(n, "/", "ann")));
    assert_eq!(simulator.tally().sum(Column::Limited), 15);
}

#[test]
fn what_no_route_is_for_and_what_no_gateway_hears_is_told() {
    let plan = plan("");
    let mut stranger = request(0, "/", "ann");
    assert!(stranger.set_host("else.example"));
    let simulator = replay(&plan, [stranger]);
    assert_eq!(simulator.tally().reasons[&crate::Reason::NoRoute], 1);
    let parsed = document::parse(&Arc::from("none.yaml"), "");
    assert!(Plan::new([&parsed], Side::Gateway).unwrap_err().contains("--as caller:"));
    assert!(Plan::new([&parsed], Side::Caller("shop".into())).is_ok());
}

#[test]
fn a_sidecar_judges_what_its_application_serves() {
    let text = "
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: p, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: cart}]
  limits: [{name: all, requests: 5, per: 1h}]
";
    let parsed = document::parse(&Arc::from("cart.yaml"), text);
    let cart = "shop/cart".parse().unwrap();
    let plan = Plan::new([&parsed], Side::Serving(vec![cart])).unwrap();
    let simulator = replay(&plan, (0..20).map(|n| request(n, "/", "ann")));
    assert_eq!(simulator.tally().sum(Column::Limited), 15);
}

#[test]
fn policies_that_ask_for_tokens_are_left_out_wherever_they_are_named() {
    let keys =
        r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let spec = format!("  providers: [{{name: corp, issuer: 'https://a', jwks: {{inline: '{keys}'}}}}]");
    let named = "filters: [{type: ExtensionRef, extensionRef: {group: tidegate.io, kind: JwtAuthenticationPolicy, name: p}}], \
                 backendRefs";
    let claims = "---\napiVersion: tidegate.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: who, namespace: shop}\n\
                  spec:\n  targetRefs: [{kind: HTTPRoute, name: cart}]\n  \
                  rules: [{name: ann, action: Allow, when: 'jwt.claims.sub == \"ann\"'}]\n";
    let text = format!("{SHOP}{}", policy("JwtAuthenticationPolicy", &spec));
    for (text, notes, failed) in
        [(text.clone(), 1, 0), (text.replace("backendRefs", named), 1, 0), (format!("{text}{claims}"), 2, 0)]
    {
        let parsed = document::parse(&Arc::from("shop.yaml"), &text);
        assert!(parsed.failed.is_empty(), "{:?}", parsed.diagnostics);
        let plan = Plan::new([&parsed], Side::Gateway).unwrap();
        assert_eq!(plan.notes().len(), notes, "{:?}", plan.notes());
        assert!(plan.notes()[0].contains("left out, for a log has no tokens"));
        let simulator = replay(&plan, [request(0, "/", "ann")]);
        let tally = simulator.tally();
        assert_eq!(tally.sum(Column::Failed), failed, "{:?}", tally.reasons);
        // Who has no claims is not let in by who asks for them.
        assert_eq!(tally.statuses.contains_key(&403), notes == 2, "{:?}", tally.statuses);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn nothing_is_lost_and_no_limit_is_exceeded(
        traffic in prop::collection::vec((0_u64..40, 0_u64..300, 0_usize..10), 1..300),
    ) {
        let policies = [
            policy("RateLimitPolicy", "  limits: [{name: all, requests: 50, per: 1s, burst: 10}]"),
            policy("CircuitBreakerPolicy", "  caps: [{scope: Backend, requests: 3, retries: 1}]"),
            policy("RetryPolicy", "  attempts: 2\n  retryOn: {statuses: [503]}\n  budget: {percent: 100, minPerSecond: 100}"),
        ];
        let plan = plan(&policies.join("---\n"));
        let mut at = 0;
        let requests: Vec<_> = traffic.iter().map(|(after, lasts, status)| {
            at += after;
            let status = if *status == 0 { 503 } else { 200 };
            Request { logged: answered(status, *lasts), ..request(at, "/", "ann") }
        }).collect();
        let simulator = replay(&plan, requests);
        let tally = simulator.tally();
        let all = u64::try_from(traffic.len()).unwrap();
        prop_assert_eq!(tally.statuses.values().sum::<u64>(), all);
        prop_assert_eq!(tally.sum(Column::Requests), all);
        prop_assert_eq!(tally.series.column(0).sum::<u64>(), all);
        prop_assert_eq!(tally.routes[0].requests, all);
        // A bucketful, and one more every 20 ms.
        prop_assert!(all - tally.sum(Column::Limited) <= 10 + at / 20 + 1);
        let backend = &tally.backends[0];
        prop_assert!(backend.peak <= 3 && backend.in_flight == 0, "{} {}", backend.peak, backend.in_flight);
        prop_assert_eq!(backend.calls, tally.calls);
        // Who is refused on a second attempt has made a first.
        prop_assert!(tally.calls >= all - tally.sum(Column::Refused) + tally.sum(Column::Retries));
    }
}
