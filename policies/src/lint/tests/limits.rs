use super::*;

fn limits(spec: &str) -> String {
    policy("RateLimitPolicy", "p", &format!("  targetRefs: [{{kind: Service, name: web}}]\n{spec}"))
}

fn idle(list: &str, at: usize) -> Vec<String> {
    vec![format!("limit-never-trips RateLimitPolicy p/{list}/{at}")]
}

#[test]
fn a_limit_beside_a_stricter_one_of_all_requests_never_trips() {
    let two = |first: &str, second: &str| {
        limits(&format!("  limits:\n  - {{name: a, {first}}}\n  - {{name: b, {second}}}"))
    };
    let by_user = "key: [{type: Header, name: x-user}]";
    assert_eq!(
        told(&two(&format!("requests: 10, per: 1s, {by_user}"), "requests: 5, per: 1s")),
        idle("limits", 0)
    );
    assert_eq!(told(&two("requests: 5, per: 1s", "requests: 300, per: 1m")), idle("limits", 1));
    assert_eq!(
        told(&two("requests: 5, per: 1s", "requests: 9, per: 1s, when: 'request.method == \"GET\"'")),
        idle("limits", 1)
    );
    // One of several users is stopped before all of them are.
    silent(&two(&format!("requests: 5, per: 1s, {by_user}"), "requests: 10, per: 1s"));
    // Slower, but more at once.
    silent(&two("requests: 5, per: 1s", "requests: 100, per: 1m"));
    silent(&two("requests: 5, per: 1s, burst: 20", "requests: 10, per: 1s"));
    // The stricter one does not count all of it, or holds nobody back.
    silent(&two("requests: 5, per: 1s, when: 'request.method == \"GET\"'", "requests: 10, per: 1s"));
    silent(&two("requests: 5, per: 1s, mode: Shadow", "requests: 10, per: 1s"));
    silent(&two("requests: 5, per: 1s", "requests: 10, per: 1s, cost: {fixed: 3}"));
    silent(&two(
        "requests: 5, per: 1s",
        &format!("requests: 10, per: 1s, {}", "key: [{type: Header, name: x-user, missing: Deny}]"),
    ));
    silent(&two(
        &format!("requests: 5, per: 1s, {by_user}, overrides: [{{key: [big], requests: 50, per: 1s}}]"),
        &format!("requests: 10, per: 1s, {by_user}"),
    ));
}

#[test]
fn of_two_equal_limits_one_is_idle() {
    let spec = "  limits: [{name: a, requests: 5, per: 1s}, {name: b, requests: 5, per: 1s}]";
    assert_eq!(told(&limits(spec)), idle("limits", 1));
}

#[test]
fn limits_that_are_lent_are_not_compared() {
    let spec = "  limits: [{name: a, requests: 5, per: 1s}, {name: b, requests: 5, per: 1s}]";
    silent(&limits(&format!("  scope: Mesh\n{spec}")));
}

#[test]
fn a_cap_or_a_quota_beside_a_stricter_one_never_trips() {
    let caps = |a: u32, b: u32| {
        limits(&format!(
            "  concurrent: [{{name: a, atMost: {a}, key: [{{type: ClientAddress}}]}}, {{name: b, atMost: {b}}}]"
        ))
    };
    assert_eq!(told(&caps(10, 10)), idle("concurrent", 0));
    silent(&caps(5, 10));
    let quotas = |hour: u32, day: u32| {
        limits(&format!(
            "  quotas: [{{name: a, requests: {hour}, every: Hour}}, {{name: b, requests: {day}, every: Day}}]"
        ))
    };
    assert_eq!(told(&quotas(10, 250)), idle("quotas", 1));
    silent(&quotas(10, 200));
    let beside = |day: u32| {
        limits(&format!(
            "  limits: [{{name: a, requests: 1, per: 1h, burst: 5}}]\n  quotas: [{{name: b, requests: {day}, every: Day}}]"
        ))
    };
    assert_eq!(told(&beside(1000)), idle("quotas", 0));
    silent(&beside(30));
}

#[test]
fn limits_for_descriptors_are_each_for_descriptors_of_their_own() {
    let key = |names: &str| format!("key: [{names}]");
    let (x, y) = ("{type: Descriptor, name: x}", "{type: Descriptor, name: y}");
    let spec = format!(
        "  domain: shop\n  limits: [{{name: a, requests: 5, per: 1s, {}}}, {{name: b, requests: 9, per: 1s, {}}}]",
        key(x),
        key(&format!("{x}, {y}"))
    );
    silent(&policy("RateLimitPolicy", "p", &spec));
}
