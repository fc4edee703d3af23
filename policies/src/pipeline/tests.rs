//! What the filters of a route do to a request, sentence by sentence of the Gateway API.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header, request};

use super::*;
use crate::model::{Cors, Listed, PathModifier, Redirect, Rewrite, RouteFilter, WebScheme};

const ENTRY: Entry = Entry { scheme: WebScheme::Http, port: 80 };

fn head(method: &str, uri: &str, headers: &[(&str, &str)]) -> request::Parts {
    let mut builder = http::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

/// Runs one filter; what it leaves on the response comes back with its word.
fn run(filter: &RouteFilter, entry: Entry, head: &mut request::Parts) -> (Result<(), Stop>, HeaderMap) {
    let peer = Peer { address: "127.0.0.1:5".parse().unwrap(), identity: None };
    let mut response_headers = HeaderMap::new();
    let mut cx = RequestContext {
        head,
        peer: &peer,
        route: None,
        now: Timestamp::from_millis(1),
        unix: &|| Duration::ZERO,
        rng: &mut fastrand::Rng::with_seed(1),
        decisions: &mut Decisions::new(),
        response_headers: &mut response_headers,
        claims: &mut None,
        held: &mut Vec::new(),
    };
    let done = on_request(&[route_filter(filter, entry).unwrap()], &mut cx, &mut Progress::default());
    (done.map(|flow| assert!(matches!(flow, Flow::Done))), response_headers)
}

fn redirect() -> Redirect {
    Redirect { scheme: None, hostname: None, path: None, port: None, status: StatusCode::FOUND }
}

/// Where a request for `uri` with the Host `host` is sent.
fn location(redirect: Redirect, entry: Entry, host: &str, uri: &str) -> String {
    let mut head = head("GET", uri, &[("host", host)]);
    match run(&RouteFilter::Redirect(redirect), entry, &mut head).0 {
        Err(Stop::Answered(reply)) => {
            let (name, value) = &reply.headers[0];
            assert_eq!(name, header::LOCATION);
            value.to_str().unwrap().to_owned()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_port_of_a_redirect_is_its_own_else_that_of_its_scheme_else_the_listeners() {
    use WebScheme::{Http, Https};
    // (listener, redirect, expected)
    for (listener, scheme, port, want) in [
        ((Http, 80), None, None, "http://example.org/a"),
        ((Http, 80), None, Some(80), "http://example.org/a"),
        ((Http, 80), None, Some(8080), "http://example.org:8080/a"),
        ((Http, 80), Some(Https), None, "https://example.org/a"),
        ((Http, 80), Some(Https), Some(443), "https://example.org/a"),
        ((Http, 80), Some(Https), Some(8443), "https://example.org:8443/a"),
        ((Http, 80), Some(Http), Some(443), "http://example.org:443/a"),
        ((Http, 8080), None, None, "http://example.org:8080/a"),
        ((Http, 8080), None, Some(80), "http://example.org/a"),
        ((Http, 8080), None, Some(8081), "http://example.org:8081/a"),
        ((Http, 8080), Some(Http), None, "http://example.org/a"),
        ((Http, 8080), Some(Https), None, "https://example.org/a"),
        ((Https, 443), None, None, "https://example.org/a"),
        ((Https, 443), None, Some(8443), "https://example.org:8443/a"),
        ((Https, 443), Some(Http), None, "http://example.org/a"),
        ((Https, 443), Some(Http), Some(8080), "http://example.org:8080/a"),
        ((Https, 8443), None, None, "https://example.org:8443/a"),
        ((Https, 8443), Some(Https), None, "https://example.org/a"),
    ] {
        let entry = Entry { scheme: listener.0, port: listener.1 };
        let redirect = Redirect { hostname: Some("example.org".into()), scheme, port, ..redirect() };
        assert_eq!(location(redirect, entry, "here", "/a"), want, "{listener:?} {scheme:?} {port:?}");
    }
}

#[test]
fn a_redirect_without_a_hostname_keeps_the_hosts_without_its_port() {
    assert_eq!(location(redirect(), ENTRY, "shop.example.com:30080", "/a"), "http://shop.example.com/a");
    assert_eq!(location(redirect(), ENTRY, "[::1]:8080", "/a"), "http://[::1]/a");
}

#[test]
fn a_redirect_changes_its_path_and_keeps_the_query() {
    let full = PathModifier::Full("/full".into());
    let prefix = PathModifier::Prefix { matched: "/old".into(), replacement: "/new".into() };
    for (path, uri, want) in [
        (None, "/old/a?b=c%20d&e", "http://here/old/a?b=c%20d&e"),
        (None, "/", "http://here/"),
        (Some(full.clone()), "/old/a", "http://here/full"),
        (Some(full), "/old/a?b", "http://here/full?b"),
        (Some(prefix.clone()), "/old/a?b=c", "http://here/new/a?b=c"),
        (Some(prefix), "/old", "http://here/new"),
    ] {
        assert_eq!(location(Redirect { path, ..redirect() }, ENTRY, "here", uri), want, "{uri}");
    }
}

#[test]
fn a_redirect_answers_with_its_status() {
    for status in [301, 302, 303, 307, 308] {
        let status = StatusCode::from_u16(status).unwrap();
        let filter = RouteFilter::Redirect(Redirect { status, ..redirect() });
        let (stopped, _) = run(&filter, ENTRY, &mut head("GET", "/", &[("host", "a")]));
        assert!(matches!(stopped, Err(Stop::Answered(reply)) if reply.status == status));
    }
}

#[test]
fn a_redirect_without_any_host_to_go_to_is_a_bad_request() {
    let (stopped, _) = run(&RouteFilter::Redirect(redirect()), ENTRY, &mut head("GET", "/", &[]));
    assert_eq!(stopped, Err(Reason::BadRequest.into()));
}

/// Host and target of a request for `/old/a?b` with the Host `here:8080` after a rewrite.
fn rewritten(rewrite: Rewrite) -> (String, String) {
    let mut head = head("GET", "/old/a?b", &[("host", "here:8080")]);
    assert_eq!(run(&RouteFilter::Rewrite(rewrite), ENTRY, &mut head).0, Ok(()));
    (head.headers[header::HOST].to_str().unwrap().to_owned(), head.uri.to_string())
}

#[test]
fn a_rewrite_changes_the_host_or_the_path_and_nothing_else() {
    let hostname = Some("there.example.com".into());
    let full = Some(PathModifier::Full("/full".into()));
    let prefix = Some(PathModifier::Prefix { matched: "/old".into(), replacement: "".into() });
    for (rewrite, host, target) in [
        (Rewrite::default(), "here:8080", "/old/a?b"),
        (Rewrite { hostname: hostname.clone(), path: None }, "there.example.com", "/old/a?b"),
        (Rewrite { hostname: None, path: full.clone() }, "here:8080", "/full?b"),
        (Rewrite { hostname: None, path: prefix }, "here:8080", "/a?b"),
        (Rewrite { hostname, path: full }, "there.example.com", "/full?b"),
    ] {
        let name = format!("{rewrite:?}");
        assert_eq!(rewritten(rewrite), (host.to_owned(), target.to_owned()), "{name}");
    }
}

#[test]
fn a_path_that_a_rewrite_makes_too_long_is_refused_and_not_cut() {
    let mut head = head("GET", &format!("/old?{}", "q".repeat(65_000)), &[("host", "a")]);
    let path = Some(PathModifier::Full(format!("/{}", "p".repeat(1_000)).into()));
    let (stopped, _) = run(&RouteFilter::Rewrite(Rewrite { hostname: None, path }), ENTRY, &mut head);
    assert_eq!(stopped, Err(Reason::BadRequest.into()));
}

/// Which of the CORS headers an answer has, as `name=value` without the common part of the names.
fn told(headers: &HeaderMap) -> Vec<String> {
    let mut told: Vec<_> = headers
        .iter()
        .map(|(name, value)| {
            let name = name.as_str().trim_start_matches("access-control-");
            format!("{name}={}", value.to_str().unwrap())
        })
        .collect();
    told.sort();
    told
}

fn cors(origins: &[&str], methods: &[&str], headers: &[&str], expose: &[&str], credentials: bool) -> Cors {
    fn list<T: std::str::FromStr>(names: &[&str]) -> Listed<T> {
        match names {
            ["*"] => Listed::All,
            names => Listed::Only(names.iter().filter_map(|name| name.parse().ok()).collect()),
        }
    }
    Cors {
        origins: list(origins),
        credentials,
        methods: list(methods),
        headers: list(headers),
        expose: list(expose),
        max_age: 5,
    }
}

const PREFLIGHT: [(&str, &str); 3] = [
    ("origin", "https://www.foo.com"),
    ("access-control-request-method", "PUT"),
    ("access-control-request-headers", "x-one, x-two"),
];

/// The answer to a preflight, which is never forwarded.
fn preflight(cors: Cors, headers: &[(&str, &str)]) -> Vec<String> {
    let (stopped, answer) = run(&RouteFilter::Cors(cors), ENTRY, &mut head("OPTIONS", "/", headers));
    match stopped {
        Err(Stop::Answered(reply)) => assert_eq!((reply.status.as_u16(), reply.headers.len()), (204, 0)),
        other => panic!("{other:?}"),
    }
    told(&answer)
}

#[test]
fn a_preflight_is_answered_with_what_is_allowed() {
    let listed = cors(&["https://www.foo.com"], &["GET", "PUT"], &["x-one"], &["x-seen"], false);
    assert_eq!(
        preflight(listed.clone(), &PREFLIGHT),
        [
            "allow-headers=x-one",
            "allow-methods=GET, PUT",
            "allow-origin=https://www.foo.com",
            "expose-headers=x-seen",
            "max-age=5",
            "vary=origin",
        ]
    );
    let without_headers = preflight(listed, &PREFLIGHT[..2]);
    assert!(!without_headers.iter().any(|t| t.starts_with("allow-headers")), "{without_headers:?}");
    assert_eq!(
        preflight(cors(&["*"], &["*"], &["*"], &["*"], false), &PREFLIGHT),
        ["allow-headers=*", "allow-methods=*", "allow-origin=*", "expose-headers=*", "max-age=5"]
    );
}

#[test]
fn with_credentials_nothing_is_answered_with_a_star() {
    let all = cors(&["*"], &["*"], &["*"], &["*"], true);
    assert_eq!(
        preflight(all.clone(), &PREFLIGHT),
        [
            "allow-credentials=true",
            "allow-headers=x-one, x-two",
            "allow-methods=PUT",
            "allow-origin=https://www.foo.com",
            "max-age=5",
            "vary=origin",
        ]
    );
    let (done, answer) = run(&RouteFilter::Cors(all), ENTRY, &mut head("GET", "/", &PREFLIGHT[..1]));
    assert_eq!(done, Ok(()));
    assert_eq!(told(&answer), ["allow-credentials=true", "allow-origin=https://www.foo.com", "vary=origin"]);
}

#[test]
fn an_origin_that_is_not_allowed_gets_no_cors_header_and_only_its_preflight_ends_here() {
    let other = cors(&["https://*.bar.com"], &["*"], &["*"], &["*"], true);
    assert_eq!(preflight(other.clone(), &PREFLIGHT), ["vary=origin"]);
    let (done, answer) = run(&RouteFilter::Cors(other), ENTRY, &mut head("GET", "/", &PREFLIGHT[..1]));
    assert_eq!((done, told(&answer)), (Ok(()), vec![String::from("vary=origin")]));
}

#[test]
fn a_simple_request_is_forwarded_and_its_answer_names_origin_and_exposed_headers() {
    let listed = cors(&["https://www.foo.com"], &["PUT"], &["x-one"], &["x-seen", "x-too"], false);
    let (done, answer) =
        run(&RouteFilter::Cors(listed.clone()), ENTRY, &mut head("GET", "/", &PREFLIGHT[..1]));
    assert_eq!(done, Ok(()));
    assert_eq!(
        told(&answer),
        ["allow-origin=https://www.foo.com", "expose-headers=x-seen, x-too", "vary=origin"]
    );
    // Neither is a preflight without its method, nor a request without an origin.
    for headers in [&PREFLIGHT[..1], &PREFLIGHT[1..]] {
        let (done, _) = run(&RouteFilter::Cors(listed.clone()), ENTRY, &mut head("OPTIONS", "/", headers));
        assert_eq!(done, Ok(()), "{headers:?}");
    }
}

#[test]
fn the_backends_cors_headers_are_replaced_and_its_others_kept() {
    let filter = [route_filter(&RouteFilter::Cors(cors(&["*"], &[], &[], &[], false)), ENTRY).unwrap()];
    let response = http::Response::builder()
        .header("access-control-allow-origin", "https://backend")
        .header("access-control-allow-credentials", "true")
        .header("x-own", "1");
    let mut head = response.body(()).unwrap().into_parts().0;
    on_response(&filter, Progress(1), &mut head);
    assert_eq!(told(&head.headers), ["x-own=1"]);
}
