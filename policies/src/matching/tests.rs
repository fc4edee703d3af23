use std::sync::Arc;

use http::request;

use super::*;
use crate::model::fixture::matching;
use crate::model::{Meta, fixture};

mod reference;
mod work;

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
fn routes_of_one_age_go_by_namespace_and_name_written_as_one_word() {
    // `-` comes before `/`, so `a-b/x` before `a/x`.
    let ladder = ["a-b/x", "a/x", "a/y", "b/a"].map(|route| candidate("/a", route, None, 0));
    for pair in ladder.windows(2) {
        assert_eq!(found(vec![pair[1].clone(), pair[0].clone()]), pair[0].value);
    }
}
