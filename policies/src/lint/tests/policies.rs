use super::*;

fn on(target: &str, kind: &str, name: &str, spec: &str) -> String {
    policy(kind, name, &format!("  targetRefs: [{target}]\n{spec}"))
}

const GATEWAY: &str = "{group: gateway.networking.k8s.io, kind: Gateway, name: gw}";
const ROUTE: &str = "{group: gateway.networking.k8s.io, kind: HTTPRoute, name: a}";
const SERVICE: &str = "{kind: Service, name: web}";

fn one_route() -> String {
    route("a", "", "{path: {value: /x}}")
}

fn limit(target: &str, name: &str, more: &str) -> String {
    on(target, "RateLimitPolicy", name, &format!("  limits: [{{name: l, requests: 5, per: 1s}}]\n{more}"))
}

#[test]
fn a_policy_that_is_overridden_everywhere_is_told_and_one_that_holds_somewhere_is_not() {
    let both = one_route() + &limit(GATEWAY, "p", "") + &limit(ROUTE, "q", "");
    assert_eq!(told(&both), ["overridden-policy RateLimitPolicy p/targetRefs"]);
    let found = findings(&both);
    assert!(found[0].message.ends_with(": default/q") && found[0].related.len() == 1, "{found:?}");
    silent(&(both + &route("b", "", "{path: {value: /y}}")));
}

#[test]
fn a_default_of_a_namespace_is_there_to_be_overridden() {
    let gateway = "\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: gw, namespace: edge}\nspec: {gatewayClassName: tidegate, \
        listeners: [{name: http, protocol: HTTP, port: 81, allowedRoutes: {namespaces: {from: All}}}]}\n---";
    let route = one_route().replace("{name: gw}", "{name: gw, namespace: edge}");
    let in_edge = |policy: String| policy.replace("metadata: {", "metadata: {namespace: edge, ");
    let namespace = in_edge(limit("{group: '', kind: Namespace, name: edge}", "p", ""));
    let specific = in_edge(limit(GATEWAY, "q", ""));
    silent(&(gateway.to_owned() + &route + &namespace + &specific));
}

#[test]
fn a_shadow_in_the_place_of_what_is_enforced_is_told() {
    let tried = limit(ROUTE, "q", "  mode: Shadow");
    let second = route("b", "", "{path: {value: /y}}");
    let both = one_route() + &second + &limit(GATEWAY, "p", "") + &tried;
    assert_eq!(told(&both), ["shadow-replaces-enforced RateLimitPolicy q/mode"]);
    silent(&(one_route() + &second + &tried));
    silent(&(one_route() + &second + &limit(GATEWAY, "p", "  mode: Shadow") + &tried));
    silent(&(one_route() + &second + &limit(GATEWAY, "p", "") + &limit(ROUTE, "q", "")));
}

#[test]
fn attempts_that_take_longer_than_the_request_may_are_told() {
    let retry = |attempts: u32, on: &str| {
        let spec = format!("  attempts: {attempts}\n  retryOn: {{conditions: [{on}]}}");
        self::on(SERVICE, "RetryPolicy", "again", &spec)
    };
    let times = on(SERVICE, "TimeoutPolicy", "times", "  request: 5s\n  perTry: 2s");
    let told_of = |documents: String| told(&(one_route() + &documents));
    assert_eq!(
        told_of(times.clone() + &retry(2, "Timeout")),
        ["retries-exceed-timeout RetryPolicy again/attempts"]
    );
    let found = findings(&(one_route() + &times + &retry(5, "Timeout")));
    assert!(
        found[0].message.contains("6 attempts of 2s") && found[0].message.contains("3 of them"),
        "{found:?}"
    );
    silent(&(one_route() + &times + &retry(1, "Timeout")));
    // What fails fails early.
    silent(&(one_route() + &times + &retry(5, "ConnectFailure")));
    silent(&(one_route() + &on(SERVICE, "TimeoutPolicy", "times", "  request: 5s") + &retry(5, "Timeout")));
}

#[test]
fn retries_of_a_route_itself_are_told_at_its_rule() {
    let rule = |request: &str| {
        one_route().replace("  - matches", &format!("  - timeouts: {{request: {request}, backendRequest: 2s}}\n    retry: {{attempts: 2}}\n    matches"))
    };
    assert_eq!(told(&rule("5s")), ["retries-exceed-timeout HTTPRoute a/rules/0/retry"]);
    silent(&rule("6s"));
}

#[test]
fn a_hedge_that_is_due_after_the_timeout_is_told() {
    let hedge = |after: &str| {
        on(SERVICE, "RetryPolicy", "again", &format!("  perTryTimeout: 500ms\n  hedge: {{after: {after}}}"))
    };
    assert_eq!(told(&(one_route() + &hedge("500ms"))), ["hedge-too-late RetryPolicy again/hedge/after"]);
    silent(&(one_route() + &hedge("499ms")));
}

fn breaker(target: &str, spec: &str) -> String {
    on(target, "CircuitBreakerPolicy", "cb", &format!("  breakers: [{{{spec}}}]"))
}

#[test]
fn a_breaker_for_calls_slower_than_any_can_be_never_opens() {
    let slow = |than: &str| {
        breaker(
            SERVICE,
            &format!(
                "scope: Backend, slowCallRate: {{percent: 50, slowerThan: {than}, minimumCalls: 1, window: 1s}}"
            ),
        )
    };
    let times = on(SERVICE, "TimeoutPolicy", "times", "  request: 1s");
    assert_eq!(
        told(&(one_route() + &times + &slow("3s"))),
        ["breaker-cannot-open CircuitBreakerPolicy cb/breakers/0/slowCallRate/slowerThan"]
    );
    silent(&(one_route() + &times + &slow("900ms")));
    silent(&(one_route() + &slow("3s")));
    // Only some of the calls have an end.
    let gateway = on(ROUTE, "TimeoutPolicy", "times", "  request: 1s");
    silent(&(one_route() + &gateway + &slow("3s")));
}

#[test]
fn a_breaker_that_compares_too_few_endpoints_never_opens() {
    let compare = |least: u32| {
        let rate = format!("successRate: {{minimumEndpoints: {least}, minimumCalls: 1, window: 1s}}");
        breaker(SERVICE, &format!("scope: Endpoint, {rate}"))
    };
    assert_eq!(told(&compare(3)), ["breaker-cannot-open CircuitBreakerPolicy cb/breakers/0/successRate"]);
    silent(&compare(2));
}

#[test]
fn a_breaker_of_the_only_endpoint_never_opens_unless_it_may_be_ejected() {
    let target = "{group: tidegate.io, kind: Backend, name: one}";
    let only = breaker(target, "scope: Endpoint, consecutiveFailures: 3");
    assert_eq!(told(&only), ["breaker-cannot-open CircuitBreakerPolicy cb/breakers/0/scope"]);
    silent(&only.replace("  breakers", "  ejection: {lastEndpoint: Eject}\n  breakers"));
    silent(&breaker(target, "scope: Backend, consecutiveFailures: 3"));
    silent(&breaker(SERVICE, "scope: Endpoint, consecutiveFailures: 3"));
}

#[test]
fn an_expression_that_asks_nothing_is_told_with_its_result() {
    let when = |text: &str| {
        on(
            SERVICE,
            "RateLimitPolicy",
            "p",
            &format!("  limits: [{{name: l, requests: 5, per: 1s, when: \"{text}\"}}]"),
        )
    };
    let at = ["constant-expression RateLimitPolicy p/limits/0/when"];
    for (text, says) in [
        ("1 == 2", "always false"),
        ("true || request.method == 'GET'", "always true"),
        ("1 / 0 == 1", "fails"),
    ] {
        assert_eq!(told(&when(text)), at);
        assert!(findings(&when(text))[0].message.contains(says), "{text}");
    }
    silent(&when("request.method == 'GET' || false"));
}

#[test]
fn claims_are_there_only_where_tokens_are_verified() {
    let asks = on(
        ROUTE,
        "RateLimitPolicy",
        "p",
        "  limits: [{name: l, requests: 5, per: 1s, when: \"jwt.claims.plan == 'free'\"}]",
    );
    assert_eq!(told(&(one_route() + &asks)), ["claims-without-tokens RateLimitPolicy p/limits/0/when"]);
    let tokens = "  providers: [{name: a, issuer: https://a.test, audiences: [x], jwks: {uri: 'https://a.test/keys'}}]";
    let jwt = on(GATEWAY, "JwtAuthenticationPolicy", "jwt", tokens);
    silent(&(one_route() + &asks + &jwt));
}
