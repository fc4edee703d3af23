use std::cmp::Ordering;
use std::sync::Arc;

use http::{HeaderName, request};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::model::fixture::matching;
use crate::model::{Meta, PathMatch, RouteMatch, fixture};

fn candidate(text: &str, route: &str, created: Option<i64>, rule: usize) -> Candidate<String> {
    let meta = Meta { created, ..fixture::meta(route) };
    let value = format!("{route}#{rule} {text}");
    Candidate { wanted: Arc::new(matching(text)), order: RuleOrder::new(&meta, rule, 0), value }
}

fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> request::Parts {
    let mut builder = http::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

/// The match that is found for `POST /a/b?q=1&p=2` with the headers `x` and `y`.
fn found(candidates: Vec<Candidate<String>>) -> String {
    let head = request("POST", "/a/b?q=1&p=2", &[("x", "1"), ("y", "2")]);
    MatchTable::new(candidates).find(&RequestView::new(&head)).cloned().unwrap_or_default()
}

#[test]
fn the_more_specific_match_wins_step_by_step() {
    // Each beats the one after it, however much the later one says about lesser things.
    let ladder = [
        "=/a/b",
        "~/a/.* POST x:1 y:2 ?q=1 ?p=2",
        "/a/b",
        "/a POST x:1 y:2 ?q=1 ?p=2",
        "/a POST x:1 y:2 ?q=1",
        "/a POST x:1 y:2",
        "/a POST x:1 ?q=1 ?p=2",
        "/a POST",
        "/a x:1 y:2",
        "/a x:1 ?q=1 ?p=2",
        "/a ?q=1 ?p=2",
        "/a ?q=1",
        "/a",
        "/",
    ];
    for (at, pair) in ladder.windows(2).enumerate() {
        let better = candidate(pair[0], "z-young", None, 9);
        let worse = candidate(pair[1], "a-old", Some(1), 0);
        for all in [vec![better.clone(), worse.clone()], vec![worse, better.clone()]] {
            assert_eq!(found(all), better.value, "step {at}");
        }
    }
}

#[test]
fn ties_go_to_the_older_route_then_to_the_name_then_to_the_earlier_rule() {
    let ladder = [
        candidate("/a", "zz/zz", Some(1), 9),
        candidate("/a", "zz/zz", Some(2), 9),
        candidate("/a", "a/b", None, 9),
        candidate("/a", "a/c", None, 0),
        candidate("/a", "a/c", None, 1),
        candidate("/a", "b/a", None, 0),
    ];
    for pair in ladder.windows(2) {
        assert_eq!(found(vec![pair[1].clone(), pair[0].clone()]), pair[0].value);
    }
}

#[test]
fn a_better_path_whose_other_parts_fail_leaves_the_request_to_a_worse_one() {
    let all = |texts: &[&str]| texts.iter().map(|text| candidate(text, "r", None, 0)).collect::<Vec<_>>();
    assert_eq!(found(all(&["=/a/b GET", "~/a/c", "/a/b x:other", "/a ?q=2", "/ y:2"])), "r#0 / y:2");
    assert_eq!(found(all(&["=/a/b GET"])), "");
}

#[test]
fn a_grpc_call_goes_by_service_then_method_then_headers() {
    // Each beats the one after it for `POST /a/b`.
    let ladder = ["=/a/b", "/a x:1", "/a", "*b x:1 y:2", "*b x:1", "*b", "/ x:1", "/"];
    for (at, pair) in ladder.windows(2).enumerate() {
        let better = candidate(pair[0], "z-young", None, 9);
        let worse = candidate(pair[1], "a-old", Some(1), 0);
        assert_eq!(found(vec![worse, better.clone()]), better.value, "step {at}");
    }
    assert_eq!(found(vec![candidate("*a", "r", None, 0), candidate("*c", "r", None, 0)]), "");
}

#[test]
fn ten_thousand_routes_do_not_make_a_path_of_slashes_costly() {
    let mut all: Vec<_> = (0..10_000).map(|i| candidate(&format!("/route-{i}"), "r", None, i)).collect();
    all.push(candidate("/", "r", None, 10_000));
    let table = MatchTable::new(all);
    let head = request("GET", &"/".repeat(60_000), &[]);
    assert_eq!(table.find(&RequestView::new(&head)).unwrap(), "r#10000 /");
}

fn any_match() -> impl Strategy<Value = RouteMatch> {
    let path = select(vec![
        "=/", "=/a", "=/a/", "=/a/b", "/", "/a", "/a/b", "/a/b/c", "/ab", "~/a.*", "~/.*b", "~/a/[bc]", "*b",
        "*c",
    ]);
    let method = select(vec!["", "GET", "POST"]);
    let headers = select(vec!["", "x:1", "x:2", "x:1 y:1"]);
    let query = select(vec!["", "?q=1", "?q=2", "?q=1 ?p=1"]);
    (path, method, headers, query).prop_map(|(p, m, h, q)| matching(&format!("{p} {m} {h} {q}")))
}

fn any_candidate() -> impl Strategy<Value = Candidate<usize>> {
    let created = proptest::option::of(0_i64..3);
    (any_match(), select(vec!["a/a", "a/b", "b/a"]), created, 0_usize..3).prop_map(
        |(wanted, route, created, rule)| {
            let meta = Meta { created, ..fixture::meta(route) };
            Candidate { wanted: Arc::new(wanted), order: RuleOrder::new(&meta, rule, 0), value: 0 }
        },
    )
}

fn any_request() -> impl Strategy<Value = request::Parts> {
    let uri = select(vec!["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/a//b", "*", "/x?q=1", "/a/b?q=1&p=1"]);
    let headers = select(vec![&[][..], &[("x", "1")], &[("x", "2")], &[("x", "1"), ("y", "1")]]);
    (select(vec!["GET", "POST", "PUT"]), uri, headers).prop_map(|(m, uri, h)| request(m, uri, h))
}

/// The specification's words, one by one and without any index.
fn naive(candidates: &[Candidate<usize>], head: &request::Parts) -> Option<usize> {
    let path = head.uri.path();
    let value = |name: &HeaderName| head.headers.get(name).and_then(|v| v.to_str().ok());
    let query = |name: &str| {
        let pairs =
            head.uri.query()?.split('&').find_map(|pair| pair.split_once('=').filter(|p| p.0 == name));
        pairs.map(|(_, value)| value)
    };
    let holds = |wanted: &RouteMatch| {
        let elements = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
        let path_holds = match &wanted.path {
            PathMatch::Exact(exact) => **exact == *path,
            PathMatch::Prefix(prefix) if prefix.is_empty() => true,
            PathMatch::Prefix(prefix) => elements(path).starts_with(&elements(prefix)),
            PathMatch::Regex(regex) => regex.is_match(path),
            PathMatch::AnyService(method) => match elements(path)[..] {
                [ref root, ref service, ref name] => {
                    root.is_empty() && !service.is_empty() && *name == **method
                }
                _ => false,
            },
        };
        path_holds
            && wanted.method.as_ref().is_none_or(|method| *method == head.method)
            && wanted.headers.iter().all(|h| value(&h.name).is_some_and(|v| h.value.matches(v)))
            && wanted.query.iter().all(|q| query(&q.name).is_some_and(|v| q.value.matches(v)))
    };
    let matching = candidates.iter().filter(|candidate| holds(&candidate.wanted));
    matching.min_by(|a, b| compare(a, b)).map(|candidate| candidate.value)
}

proptest! {
    #[test]
    fn precedence_is_a_total_order(a in any_candidate(), b in any_candidate(), c in any_candidate()) {
        prop_assert_eq!(compare(&a, &a), Ordering::Equal);
        prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
            prop_assert!(compare(&a, &c).is_le());
        }
        // Only matches written at the same place can be equal.
        prop_assert!(a.order == b.order || compare(&a, &b).is_ne());
    }

    #[test]
    fn the_index_finds_what_a_naive_search_finds(
        mut candidates in vec(any_candidate(), 0..24),
        head in any_request(),
    ) {
        for (value, candidate) in candidates.iter_mut().enumerate() {
            candidate.value = value;
        }
        let expected = naive(&candidates, &head);
        let table = MatchTable::new(candidates.clone());
        let found = table.find(&RequestView::new(&head)).copied();
        // Two matches at one place rank the same; either may be found.
        let rank = |value: Option<usize>| value.map(|value| &candidates[value]);
        match (rank(found), rank(expected)) {
            (Some(found), Some(expected)) => prop_assert!(compare(found, expected).is_eq()),
            (found, expected) => prop_assert_eq!(found.is_none(), expected.is_none()),
        }
    }
}
