//! What is refused about a route's filters, and that what is accepted arrives in the model.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its set-up too")]

use std::sync::Arc;
use std::time::Duration;

use tidegate_policy::document::{Severity, parse};
use tidegate_policy::model::{PathModifier, Resources, RouteFilter, SessionCarrier, Share};
use tidegate_policy::resolve::resolve;

/// A route whose only rule is `rule`, with the objects it needs.
fn documents(rule: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: gw, namespace: shop}}
spec: {{gatewayClassName: tidegate, listeners: [{{name: http, port: 8080, protocol: HTTP}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: cart, namespace: shop}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r, namespace: shop}}
spec:
  parentRefs: [{{name: gw}}]
  rules:
  - {rule}
"
    )
}

/// Every error, as `field: message`.
fn errors(rule: &str) -> Vec<String> {
    let parsed = parse(&Arc::from("a.yaml"), &documents(rule));
    let errors = parsed.diagnostics.iter().filter(|d| d.severity == Severity::Error);
    errors.map(|d| format!("{}: {}", d.field.replace("spec.rules[0].", ""), d.message)).collect()
}

fn resources(rule: &str) -> Resources {
    let parsed = parse(&Arc::from("a.yaml"), &documents(rule));
    assert!(parsed.failed.is_empty(), "{rule}: {:?}", parsed.diagnostics);
    resolve(&parsed.objects).resources
}

fn filters(rule: &str) -> Vec<RouteFilter> {
    let resources = resources(rule);
    let route = resources.routes.values().next().unwrap();
    route.rules[0].filters.clone()
}

#[test]
fn what_does_not_belong_together_is_refused_with_its_place() {
    let redirect = "{type: RequestRedirect, requestRedirect: {hostname: a.b}}";
    let rewrite = "{type: URLRewrite, urlRewrite: {hostname: a.b}}";
    let prefix = "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}}";
    for (rule, want) in [
        (
            format!("{{filters: [{redirect}, {rewrite}]}}"),
            "filters: URLRewrite and RequestRedirect cannot be used together",
        ),
        (
            format!("{{filters: [{redirect}], backendRefs: [{{name: cart, port: 80}}]}}"),
            "filters[0]: a rule that redirects sends nothing to its backendRefs",
        ),
        (
            format!("{{filters: [{redirect}, {redirect}]}}"),
            "filters[1]: a second RequestRedirect filter: put all changes in one",
        ),
        (
            format!("{{filters: [{prefix}], matches: [{{path: {{type: Exact, value: /a}}}}]}}"),
            "filters[0].urlRewrite.path.type: ReplacePrefixMatch needs a rule with exactly one match, of type PathPrefix",
        ),
        (
            format!("{{filters: [{prefix}], matches: [{{path: {{value: /a}}}}, {{path: {{value: /b}}}}]}}"),
            "filters[0].urlRewrite.path.type: ReplacePrefixMatch needs a rule with exactly one match, of type PathPrefix",
        ),
        (
            String::from("{filters: [{type: URLRewrite, requestRedirect: {}, urlRewrite: {}}]}"),
            "filters[0].requestRedirect: does not belong in a filter of type URLRewrite",
        ),
        (
            String::from("{filters: [{type: RequestRedirect}]}"),
            "filters[0]: a filter of type RequestRedirect needs `requestRedirect`",
        ),
        (
            String::from("{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 304}}]}"),
            "filters[0].requestRedirect.statusCode: 304 does not redirect",
        ),
        (
            String::from("{filters: [{type: URLRewrite, urlRewrite: {hostname: '*.a.b'}}]}"),
            "filters[0].urlRewrite.hostname: `*.a.b` is not one host: a wildcard cannot be used here",
        ),
        (
            String::from("{filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath}}}]}"),
            "filters[0].urlRewrite.path: type ReplaceFullPath needs `replaceFullPath`",
        ),
        (
            String::from(
                "{filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: 'a?b'}}}]}",
            ),
            "filters[0].urlRewrite.path.replaceFullPath: `a?b` is not a path: it must begin with `/` and hold no query",
        ),
    ] {
        assert_eq!(errors(&rule), [want], "{rule}");
    }
}

#[test]
fn values_that_cannot_be_used_are_refused_with_their_place() {
    for (rule, want) in [
        (
            String::from("{filters: [{type: CORS, cors: {allowOrigins: ['*', 'https://a']}}]}"),
            "filters[0].cors.allowOrigins[0]: `*` allows everything: nothing else can stand beside it",
        ),
        (
            String::from("{filters: [{type: CORS, cors: {allowOrigins: [a.b]}}]}"),
            "filters[0].cors.allowOrigins[0]: `a.b` is not an origin: write `*`, or a scheme and a host such as https://shop.example.com",
        ),
        (
            String::from("{filters: [{type: CORS, cors: {allowMethods: [get]}}]}"),
            "filters[0].cors.allowMethods[0]: `get` is not a method of HTTP: methods are written in upper case",
        ),
        (
            String::from("{filters: [{type: CORS, cors: {exposeHeaders: ['a b']}}]}"),
            "filters[0].cors.exposeHeaders[0]: `a b` is not a header name",
        ),
        (
            String::from("{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: cart}}}]}"),
            "filters[0].requestMirror.backendRef: the Service `cart` needs a `port`",
        ),
        (
            String::from(
                "{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: cart, port: 80}, percent: 1, fraction: {numerator: 1}}}]}",
            ),
            "filters[0].requestMirror.fraction: write either `percent` or `fraction`, not both",
        ),
        (
            String::from(
                "{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: cart, port: 80}, fraction: {numerator: 101}}}]}",
            ),
            "filters[0].requestMirror.fraction: 101 of 100 is more than all",
        ),
    ] {
        assert_eq!(errors(&rule), [want], "{rule}");
    }
}

#[test]
fn a_prefix_is_replaced_where_the_rules_only_match_is_one_written_or_not() {
    let filter =
        "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /x/}}}";
    for (matches, matched) in [("matches: [{path: {value: /a/}}], ", "/a"), ("", "")] {
        let path = PathModifier::Prefix { matched: matched.into(), replacement: "/x".into() };
        match &filters(&format!("{{{matches}filters: [{filter}]}}"))[..] {
            [RouteFilter::Rewrite(rewrite)] => assert_eq!(rewrite.path.as_ref(), Some(&path)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_redirect_is_302_unless_it_says_otherwise() {
    for (written, want) in [("{}", 302), ("{statusCode: 308}", 308)] {
        match &filters(&format!("{{filters: [{{type: RequestRedirect, requestRedirect: {written}}}]}}"))[..] {
            [RouteFilter::Redirect(redirect)] => assert_eq!(redirect.status.as_u16(), want),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_preflight_may_be_kept_for_five_seconds_unless_the_route_says_otherwise() {
    for (written, want) in [("{}", 5), ("{maxAge: 600}", 600)] {
        match &filters(&format!("{{filters: [{{type: CORS, cors: {written}}}]}}"))[..] {
            [RouteFilter::Cors(cors)] => assert_eq!(cors.max_age, want),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_backend_ref_may_have_every_filter_that_a_rule_may_have() {
    let redirect = "{type: RequestRedirect, requestRedirect: {port: 81}}";
    let rewrite = "{type: URLRewrite, urlRewrite: {hostname: a.b}}";
    let cors = "{type: CORS, cors: {allowOrigins: ['*']}}";
    for filter in [redirect, rewrite, cors] {
        let rule = format!("{{backendRefs: [{{name: cart, port: 80, filters: [{filter}]}}]}}");
        let resources = resources(&rule);
        let route = resources.routes.values().next().unwrap();
        assert_eq!(route.rules[0].backends[0].filters.len(), 1, "{filter}");
    }
}

#[test]
fn several_mirrors_may_be_written_each_with_its_share() {
    let mirror = |share: &str| {
        format!("{{type: RequestMirror, requestMirror: {{backendRef: {{name: cart, port: 80}}{share}}}}}")
    };
    let all = [
        "",
        ", percent: 0",
        ", percent: 42",
        ", fraction: {numerator: 1}",
        ", fraction: {numerator: 1, denominator: 3}",
    ];
    let written: Vec<_> = all.iter().map(|share| mirror(share)).collect();
    let shares: Vec<_> = filters(&format!("{{filters: [{}]}}", written.join(", ")))
        .into_iter()
        .map(|filter| match filter {
            RouteFilter::Mirror(mirror) => mirror.share,
            other => panic!("{other:?}"),
        })
        .collect();
    let want = [(1, 1), (0, 100), (42, 100), (1, 100), (1, 3)];
    assert_eq!(shares, want.map(|(numerator, denominator)| Share::new(numerator, denominator).unwrap()));
}

#[test]
fn a_mirror_without_its_backend_is_left_out_and_told() {
    let mirror = "{type: RequestMirror, requestMirror: {backendRef: {name: none, port: 80}}}";
    let text = documents(&format!("{{filters: [{mirror}], backendRefs: [{{name: cart, port: 80}}]}}"));
    let resolved = resolve(&parse(&Arc::from("a.yaml"), &text).objects);
    let rule = &resolved.resources.routes.values().next().unwrap().rules[0];
    assert!(rule.filters.is_empty() && rule.backends[0].target.is_ok());
    let conditions = resolved.conditions.values().flatten();
    let refs: Vec<_> = conditions.filter(|c| c.kind == "ResolvedRefs" && !c.holds).collect();
    assert_eq!((refs.len(), refs[0].reason), (1, "BackendNotFound"));
    assert_eq!(refs[0].message, "a.yaml:18: there is no Service shop/none");
}

#[test]
fn a_session_is_read_in_its_newest_shape_and_in_the_one_before() {
    let session = |text: &str| {
        let resources =
            resources(&format!("{{sessionPersistence: {text}, backendRefs: [{{name: cart, port: 80}}]}}"));
        resources.routes.values().next().unwrap().rules[0].session.clone().unwrap()
    };
    let cookie = |name: Option<&str>, path: &str, permanent| SessionCarrier::Cookie {
        name: name.map(Into::into),
        path: path.into(),
        permanent,
    };
    assert_eq!(session("{}").carrier, cookie(None, "/", false));
    let new = session(
        "{type: Cookie, absoluteTimeout: 1h, idleTimeout: 10m, \
         cookie: {name: sid, path: /shop, lifetimeType: Permanent}}",
    );
    assert_eq!(new.carrier, cookie(Some("sid"), "/shop", true));
    let times = (Some(Duration::from_secs(3600)), Some(Duration::from_secs(600)));
    assert_eq!((new.absolute_timeout, new.idle_timeout), times);
    let old = session("{sessionName: sid, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}");
    assert_eq!(old.carrier, cookie(Some("sid"), "/", true));
    let header = SessionCarrier::Header("x-session".parse().unwrap());
    assert_eq!(session("{type: Header, header: {name: X-Session}}").carrier, header);
    assert_eq!(session("{type: Header, sessionName: X-Session}").carrier, header);
}

#[test]
fn a_session_that_cannot_be_kept_is_refused_with_its_place() {
    for (text, want) in [
        ("{type: Header}", ": type Header needs a `header` with the `name` of it"),
        ("{header: {name: a}}", ".header: does not belong in a session of type Cookie"),
        (
            "{type: Header, header: {name: a}, cookie: {}}",
            ".cookie: does not belong in a session of type Header",
        ),
        ("{cookie: {}, cookieConfig: {}}", ".cookieConfig: is the old name of `cookie`: write one of them"),
        (
            "{sessionName: a, cookie: {name: b}}",
            ".sessionName: is the old place of the name: write one of them",
        ),
        ("{cookie: {name: 'a b'}}", ".cookie.name: `a b` is not the name of a cookie"),
        ("{cookie: {path: x}}", ".cookie.path: `x` is not the path of a cookie: it begins with `/`"),
        (
            "{type: Header, header: {name: Host}}",
            ".header.name: `host` has a meaning of its own: take another name",
        ),
        (
            "{cookie: {lifetimeType: Permanent}}",
            ".cookie.lifetimeType: a Permanent cookie needs an `absoluteTimeout`, which is how long it lasts",
        ),
        (
            "{cookieConfig: {lifetimeType: Permanent}}",
            ".cookieConfig.lifetimeType: a Permanent cookie needs an `absoluteTimeout`, which is how long it lasts",
        ),
        ("{absoluteTimeout: 10ms}", ".absoluteTimeout: 10ms is too short: sessions are timed in seconds"),
        ("{idleTime: 1m}", ".idleTime: unknown field"),
    ] {
        let rule = format!("{{sessionPersistence: {text}, backendRefs: [{{name: cart, port: 80}}]}}");
        assert_eq!(errors(&rule), [format!("sessionPersistence{want}")], "{text}");
    }
}
