use super::*;

const SHADOWED: &str = "unreachable-rule HTTPRoute b/rules/0";

#[test]
fn a_rule_that_asks_for_what_an_earlier_route_asks_for_is_never_reached() {
    let same = "{path: {value: /x}, method: GET, headers: [{name: a, value: '1'}, {name: b, value: '2'}]}";
    let turned = "{path: {value: /x}, method: GET, headers: [{name: b, value: '2'}, {name: a, value: '1'}]}";
    assert_eq!(told(&(route("a", "", same) + &route("b", "", turned))), [SHADOWED]);
    let found = findings(&(route("a", "", same) + &route("b", "", same)));
    assert!(found[0].message.contains("rule 0 of HTTPRoute default/a (mesh.yaml:"), "{found:?}");
}

#[test]
fn a_rule_that_asks_for_anything_else_is_reached() {
    let first = "{path: {value: /x}, headers: [{name: a, value: '1'}]}";
    for other in [
        "{path: {value: /y}, headers: [{name: a, value: '1'}]}",
        "{path: {value: /x}, headers: [{name: a, value: '2'}]}",
        "{path: {value: /x}, headers: [{name: b, value: '1'}]}",
        "{path: {value: /x}, method: GET, headers: [{name: a, value: '1'}]}",
        "{path: {value: /x}}",
        "{path: {value: /x}, queryParams: [{name: a, value: '1'}]}",
        "{path: {type: Exact, value: /x}, headers: [{name: a, value: '1'}]}",
    ] {
        silent(&(route("a", "", first) + &route("b", "", other)));
    }
}

#[test]
fn a_pattern_for_every_value_takes_what_a_later_route_asks_for() {
    let any = "{path: {value: /x}, headers: [{name: a, type: RegularExpression, value: '[0-9]+'}]}";
    let one = |value: &str| format!("{{path: {{value: /x}}, headers: [{{name: a, value: '{value}'}}]}}");
    assert_eq!(told(&(route("a", "", any) + &route("b", "", &one("17")))), [SHADOWED]);
    silent(&(route("a", "", any) + &route("b", "", &one("x17"))));
    // The other way round the exact one goes first, and the pattern has the rest.
    silent(&(route("a", "", &one("17")) + &route("b", "", any)));
}

#[test]
fn an_expression_for_every_path_takes_the_prefixes_and_no_exact_path() {
    let any = "{path: {type: RegularExpression, value: '/.*'}}";
    assert_eq!(told(&(route("a", "", any) + &route("b", "", "{path: {value: /x}}"))), [SHADOWED]);
    silent(&(route("a", "", any) + &route("b", "", "{path: {type: Exact, value: /x}}")));
    let some = "{path: {type: RegularExpression, value: '/a.*'}}";
    silent(&(route("a", "", some) + &route("b", "", "{path: {value: /x}}")));
}

#[test]
fn a_rule_that_is_reached_under_one_of_its_hosts_is_reached() {
    let hosts = |hosts: &str| format!("hostnames: [{hosts}]");
    let x = "{path: {value: /x}}";
    silent(&(route("a", &hosts("a.test"), x) + &route("b", &hosts("a.test, b.test"), x)));
    assert_eq!(
        told(&(route("a", &hosts("a.test, b.test"), x) + &route("b", &hosts("a.test, b.test"), x))),
        [SHADOWED]
    );
}

#[test]
fn one_match_of_several_is_told_by_itself() {
    let two = "{path: {value: /x}}, {path: {value: /y}}";
    let lone = "{path: {value: /x}}";
    assert_eq!(
        told(&(route("a", "", lone) + &route("b", "", two))),
        ["unreachable-rule HTTPRoute b/rules/0/matches/0"]
    );
    assert_eq!(
        told(&route("a", "", "{path: {value: /x}}, {path: {value: /x}}")),
        ["unreachable-rule HTTPRoute a/rules/0/matches/1"]
    );
}

#[test]
fn a_host_that_belongs_to_another_listener_is_never_asked_for_at_this_one() {
    let at = |section: &str, host: &str| {
        let route = route("b", &format!("hostnames: [{host}]"), "{path: {value: /x}}");
        route.replace("{name: gw}", &format!("{{name: gw, sectionName: {section}}}"))
    };
    assert_eq!(told(&at("http", "a.shop.test")), [SHADOWED]);
    assert!(
        findings(&at("http", "a.shop.test"))[0]
            .message
            .contains("`a.shop.test` belong to listener default/gw/shop")
    );
    assert_eq!(told(&at("http", "'*.eu.shop.test'")), [SHADOWED]);
    silent(&at("shop", "a.shop.test"));
    silent(&at("http", "shop.test"));
    silent(&at("http", "a.test"));
}

#[test]
fn weights_that_miss_the_hundred_are_odd() {
    let weights = |a: u32, b: u32| {
        route("a", "", "{path: {value: /x}}").replace(
            "[{name: web, port: 80}]",
            &format!("[{{name: web, port: 80, weight: {a}}}, {{name: web, port: 80, weight: {b}}}]"),
        )
    };
    assert_eq!(told(&weights(90, 1)), ["odd-weights HTTPRoute a/rules/0/backendRefs"]);
    assert_eq!(told(&weights(0, 0)), ["odd-weights HTTPRoute a/rules/0/backendRefs"]);
    silent(&weights(90, 10));
    silent(&weights(9, 1));
}

#[test]
fn a_route_without_a_parent_leads_nowhere() {
    let lost = route("a", "", "{path: {value: /x}}").replace("parentRefs: [{name: gw}]", "");
    assert_eq!(told(&lost), ["route-leads-nowhere HTTPRoute a/parentRefs"]);
    // That there is no such Gateway is told as an error of the route.
    silent(&route("a", "", "{path: {value: /x}}").replace("{name: gw}", "{name: other}"));
    silent(
        &route("a", "", "{path: {value: /x}}")
            .replace("{name: gw}", "{kind: Service, group: '', name: web, port: 80}"),
    );
}

#[test]
fn in_the_mesh_routes_of_one_service_shadow_each_other_and_those_of_callers_are_left_alone() {
    let for_service = |name: &str, more: &str| {
        let route = route(name, "", "{path: {value: /x}}");
        let parent = format!("{{kind: Service, group: '', name: web, namespace: default, port: 80{more}}}");
        route.replace("{name: gw}", &parent)
    };
    assert_eq!(told(&(for_service("a", "") + &for_service("b", ""))), [SHADOWED]);
    let caller = for_service("b", "").replace("{name: b}", "{name: b, namespace: other}");
    let caller = caller.replace("{name: web, port: 80}]", "{name: web, namespace: default, port: 80}]");
    let told = told(&(for_service("a", "") + &caller));
    assert_eq!(told, [] as [String; 0]);
}
