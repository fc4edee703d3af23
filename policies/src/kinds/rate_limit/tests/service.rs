//! `scope: Service`: what the service is asked, and what follows from each answer and from none.

#![allow(clippy::needless_pass_by_value, reason = "what is written is easier to read as it is")]

use std::num::NonZeroU32;

use http::request::Parts;

use super::*;
use crate::kind::BindFilter;
use crate::model::BackendKind;
use crate::pipeline::{Answer, Ask, Effect, Performed, Said, ServiceLimit};

const FROM_TENANT: &str = "x-tenant";

fn spec(service: Value, limits: Value) -> Value {
    let mut written = json!({"backendRef": {"name": "limits", "port": 8081}, "domain": "edge"});
    let fields = service.as_object().cloned().unwrap_or_default();
    written.as_object_mut().unwrap().extend(fields);
    json!({"scope": "Service", "service": written, "limits": limits})
}

/// A limit by tenant, and one for writes, which cost three.
fn two_limits() -> Value {
    json!([
        {"name": "tenant", "key": [{"type": "Header", "name": FROM_TENANT, "missing": "Deny"}]},
        {
            "name": "writes", "when": "request.method == 'POST'", "cost": {"fixed": 3},
            "descriptor": [{"key": "kind", "value": "write"}, {"key": "who", "from": {"type": "ClientAddress", "prefix": {"ipv4": 24}}}],
        },
    ])
}

fn asking(mode: Mode, service: Value) -> Arc<dyn Filter> {
    bind(mode, spec(service, two_limits()), &StateStore::new([3, 4]))
}

fn compiled(spec: Value) -> Arc<dyn BindFilter> {
    match compile(KIND, spec).expect("valid") {
        Compiled::Filter(filter) => filter,
        _ => panic!("not a filter"),
    }
}

/// What the filter asked, if it did, and what became of the request and its head.
struct Told {
    asked: Option<Ask>,
    met: Met,
    head: Parts,
}

fn tell(filter: &dyn Filter, request: request::Builder, performed: Performed) -> Told {
    let mut head = request.body(()).unwrap().into_parts().0;
    let (mut decisions, mut headers) = (Decisions::new(), HeaderMap::new());
    let mut cx = RequestContext {
        head: &mut head,
        peer: &peer("192.0.2.1:1", None),
        route: None,
        now: Timestamp::from_millis(1),
        unix: &|| Duration::ZERO,
        rng: &mut fastrand::Rng::with_seed(1),
        decisions: &mut decisions,
        response_headers: &mut headers,
        claims: &mut None,
        held: &mut Vec::new(),
    };
    let (asked, verdict) = match filter.on_request(&mut cx) {
        Verdict::Effect(Effect::Ask(ask)) => (Some(ask), filter.on_effect(&mut cx, &performed)),
        verdict => (None, verdict),
    };
    let reply = match verdict {
        Verdict::Continue => None,
        Verdict::Reply(reply) => Some(reply),
        other => panic!("{other:?}"),
    };
    Told { asked, met: Met { reply, decisions, headers, held: Vec::new() }, head }
}

fn post() -> request::Builder {
    Request::post("/").header(FROM_TENANT, "gold")
}

fn said(allowed: bool, remaining: u32, seconds: u64) -> Said {
    let quota = NonZeroU32::new(10).map(|requests| (requests, Duration::from_secs(60)));
    let limit = ServiceLimit { quota, remaining, reset: Some(Duration::from_secs(seconds)) };
    Said { allowed, limit: Some(limit) }
}

fn answer(allowed: bool, said: &[Said]) -> Answer {
    Answer { allowed, said: said.to_vec(), ..Answer::default() }
}

fn header(name: &str, value: &str) -> (http::HeaderName, http::HeaderValue) {
    (name.parse().unwrap(), value.parse().unwrap())
}

fn entries(ask: &Ask) -> Vec<(Vec<(&str, &str)>, u32)> {
    let descriptors = ask.descriptors.iter();
    descriptors.map(|d| (d.entries.iter().map(|(key, value)| (&**key, &**value)).collect(), d.hits)).collect()
}

#[test]
fn the_service_is_asked_once_for_every_limit_that_counts_the_request() {
    let filter = asking(Mode::Enforce, json!({"onFailure": "Allow", "timeout": "7ms"}));
    let asked = tell(&*filter, post(), Performed::Unanswered).asked.unwrap();
    assert_eq!((&*asked.domain, asked.timeout), ("edge", Duration::from_millis(7)));
    assert_eq!(asked.service.to_string(), "shop/limits:8081");
    let tenant = (vec![("x-tenant", "gold")], 1);
    let write = (vec![("kind", "write"), ("who", "192.0.2.0/24")], 3);
    assert_eq!(entries(&asked), [tenant.clone(), write]);
    let read = Request::get("/").header(FROM_TENANT, "gold");
    assert_eq!(entries(&tell(&*filter, read, Performed::Unanswered).asked.unwrap()), [tenant]);
}

#[test]
fn a_request_that_no_limit_counts_is_not_asked_for_and_one_without_what_it_must_have_is_refused() {
    let filter = asking(Mode::Enforce, json!({"onFailure": "Allow"}));
    let refused = tell(&*filter, Request::get("/"), Performed::Unanswered);
    assert!(refused.asked.is_none() && !refused.met.allowed());
    assert_eq!(&*refused.met.decisions[0].rule.name, "tenant");
    let skipping =
        json!([{"name": "t", "key": [{"type": "Header", "name": FROM_TENANT, "missing": "Skip"}]}]);
    let filter = bind(Mode::Enforce, spec(json!({"onFailure": "Deny"}), skipping), &StateStore::new([0, 0]));
    let passed = tell(&*filter, Request::get("/"), Performed::Unanswered);
    assert!(passed.asked.is_none() && passed.met.allowed() && passed.met.decisions.is_empty());
    let sharing = json!([{"name": "t", "key": [{"type": "Header", "name": FROM_TENANT}]}]);
    let filter = bind(Mode::Enforce, spec(json!({"onFailure": "Deny"}), sharing), &StateStore::new([0, 0]));
    let asked = tell(&*filter, Request::get("/"), Performed::Unanswered).asked.unwrap();
    assert_eq!(entries(&asked), [(vec![("x-tenant", "")], 1)]);
}

#[test]
fn several_values_of_a_header_are_one_value_of_the_descriptor() {
    let filter = asking(Mode::Enforce, json!({"onFailure": "Allow"}));
    let request = Request::get("/").header(FROM_TENANT, "a").header(FROM_TENANT, "b");
    let asked = tell(&*filter, request, Performed::Unanswered).asked.unwrap();
    assert_eq!(entries(&asked), [(vec![("x-tenant", "a,b")], 1)]);
}

#[test]
fn the_closest_limit_of_the_answer_is_told() {
    let spec = json!({"onFailure": "Allow"});
    let filter = asking(Mode::Enforce, spec);
    let told =
        tell(&*filter, post(), Performed::Answered(answer(true, &[said(true, 7, 9), said(true, 3, 30)])));
    assert!(told.met.allowed());
    assert_eq!(told.met.header("ratelimit"), Some("\"writes\";r=3;t=30"));
    assert_eq!(told.met.header("ratelimit-policy"), Some("\"tenant\";q=10;w=60, \"writes\";q=10;w=60"));
    assert_eq!(told.met.decisions[0].detail, Some(Detail::Remaining(3)));
    assert_eq!(&*told.met.decisions[0].rule.name, "writes");
}

#[test]
fn who_is_refused_is_told_by_the_limit_that_refuses_longest() {
    let filter = asking(Mode::Enforce, json!({"onFailure": "Allow"}));
    let refused = answer(false, &[said(false, 0, 9), said(true, 0, 30)]);
    let told = tell(&*filter, post(), Performed::Answered(refused));
    let reply = told.met.reply.as_ref().unwrap();
    assert_eq!((reply.reason, reply.again), (Reason::RateLimited, Some(Duration::from_secs(9))));
    assert_eq!(reply.headers, [header("retry-after", "9")]);
    assert_eq!(told.met.header("ratelimit"), Some("\"tenant\";r=0;t=9"));
    assert_eq!(told.met.decisions[0].outcome, Outcome::Refused(Reason::RateLimited));
}

#[test]
fn an_answer_that_says_of_no_limit_decides_and_nothing_is_told() {
    let filter = asking(Mode::Enforce, json!({"onFailure": "Allow"}));
    for (allowed, statuses) in [(true, 0), (false, 0), (true, 1), (false, 3)] {
        let said = vec![said(true, 0, 9); statuses];
        let told = tell(&*filter, post(), Performed::Answered(answer(allowed, &said)));
        assert_eq!(told.met.allowed(), allowed);
        assert!(told.met.headers.is_empty(), "{:?}", told.met.headers);
    }
    let retry = Answer { response_headers: vec![header("retry-after", "5")], ..answer(false, &[]) };
    let told = tell(&*filter, post(), Performed::Answered(retry));
    assert_eq!(told.met.reply.unwrap().headers, [header("retry-after", "5")]);
}

#[test]
fn the_headers_of_the_service_are_passed_on_but_those_that_are_not_its_to_say() {
    let ours = [
        "connection",
        "content-length",
        "transfer-encoding",
        "content-type",
        "host",
        "x-tidegate-reason",
        "te",
    ];
    let mut all: Vec<_> = ours.iter().map(|name| header(name, "1")).collect();
    all.push(header("x-plan", "gold"));
    all.push(header("x-plan", "trial"));
    let told = |allowed| {
        let (mut request, mut response) = (all.clone(), all.clone());
        request.push(header("x-forwarded-for", "6.6.6.6"));
        response.push(header("ratelimit", "none"));
        response.push(header("retry-after", "99"));
        let answer = Answer { request_headers: request, response_headers: response, ..answer(allowed, &[]) };
        tell(&*asking(Mode::Enforce, json!({"onFailure": "Allow"})), post(), Performed::Answered(answer))
    };
    let names = |headers: &HeaderMap| headers.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
    let passed = told(true);
    assert_eq!(names(&passed.met.headers), ["x-plan", "x-plan"]);
    assert_eq!(names(&passed.head.headers), [FROM_TENANT, "x-plan", "x-plan"]);
    let refused = told(false);
    assert_eq!(names(&refused.met.headers), ["x-plan", "x-plan"]);
    assert_eq!(names(&refused.head.headers), [FROM_TENANT], "nobody sees it");
}

#[test]
fn the_body_of_the_service_is_the_refusal_unless_the_policy_has_one() {
    let body = |on_limit: Value| {
        let mut spec = spec(json!({"onFailure": "Allow"}), two_limits());
        spec["onLimit"] = on_limit;
        let filter = bind(Mode::Enforce, spec, &StateStore::new([0, 0]));
        let response_headers = vec![header("content-type", "application/json")];
        let answer = Answer { body: (&b"{}"[..]).into(), response_headers, ..answer(false, &[]) };
        let reply = tell(&*filter, post(), Performed::Answered(answer)).met.reply.unwrap();
        let written = reply.written.unwrap();
        let (content_type, body) = written.body.clone().unwrap();
        (written.status.map(|status| status.as_u16()), content_type.to_str().unwrap().to_owned(), body)
    };
    assert_eq!(body(json!({})), (None, "application/json".into(), (&b"{}"[..]).into()));
    assert_eq!(body(json!({"status": 503})), (Some(503), "application/json".into(), (&b"{}"[..]).into()));
    let (_, content_type, said) = body(json!({"body": "later"}));
    assert_eq!((content_type.as_str(), &*said), ("text/plain; charset=utf-8", &b"later"[..]));
}

#[test]
fn without_an_answer_what_is_written_for_that_decides_and_says_so() {
    for (on_failure, passes) in [("Allow", true), ("Deny", false)] {
        let filter = asking(Mode::Enforce, json!({"onFailure": on_failure}));
        let told = tell(&*filter, post(), Performed::Unanswered);
        assert_eq!(told.met.allowed(), passes, "{on_failure}");
        assert_eq!(told.met.decisions[0].detail, Some(Detail::ServiceUnanswered));
    }
}

fn local(service: Value, mode: Mode) -> Arc<dyn Filter> {
    let descriptor = json!([{"key": "tenant", "from": {"type": "Header", "name": FROM_TENANT}}]);
    let limits = json!([{"name": "tenant", "requests": 20, "per": "1h", "descriptor": descriptor}]);
    bind(mode, spec(service, limits), &StateStore::new([0, 0]))
}

#[test]
fn without_an_answer_each_proxy_lets_its_part_through_of_each_key_that_the_service_is_asked_by() {
    let passes = |filter: &dyn Filter, tenant: &str| {
        let request = || Request::get("/").header(FROM_TENANT, tenant);
        let told: Vec<_> = (0..30).map(|_| tell(filter, request(), Performed::Unanswered)).collect();
        assert!(told.iter().all(|told| told.met.decisions[0].detail == Some(Detail::ServiceUnanswered)));
        told.iter().filter(|told| told.met.allowed()).count()
    };
    let filter = local(json!({}), Mode::Enforce);
    assert_eq!([passes(&*filter, "gold"), passes(&*filter, "trial")], [2, 2]);
    assert_eq!(passes(&*local(json!({"fallbackPercent": 50}), Mode::Enforce), "gold"), 10);
}

#[test]
fn a_shadow_policy_asks_nobody_unless_it_says_so() {
    let told = tell(&*local(json!({}), Mode::Shadow), post(), Performed::Unanswered);
    assert!(told.asked.is_none() && told.met.allowed());
    assert_eq!(told.met.decisions[0].detail, Some(Detail::ServiceNotAsked));
}

#[test]
fn a_shadow_policy_that_asks_changes_not_one_byte() {
    let filter = asking(Mode::Shadow, json!({"onFailure": "Deny", "askInShadow": true}));
    let extra = vec![header("x-plan", "gold")];
    for allowed in [true, false] {
        let answer = Answer {
            request_headers: extra.clone(),
            response_headers: extra.clone(),
            ..answer(allowed, &[said(allowed, 0, 9), said(allowed, 0, 9)])
        };
        let told = tell(&*filter, post(), Performed::Answered(answer));
        assert!(told.asked.is_some() && told.met.allowed() && told.met.headers.is_empty());
        assert_eq!(told.head.headers.len(), 1);
        let would = if allowed { Outcome::Allowed } else { Outcome::WouldRefuse(Reason::RateLimited) };
        assert_eq!(told.met.decisions[0].outcome, would);
    }
    let told = tell(&*filter, post(), Performed::Unanswered);
    assert!(told.met.allowed());
    assert_eq!(told.met.decisions[0].outcome, Outcome::WouldRefuse(Reason::RateLimited));
}

#[test]
fn the_service_is_known_by_its_reference() {
    let filter = compiled(spec(json!({"onFailure": "Allow"}), two_limits()));
    assert_eq!(filter.services()[0].0.to_string(), "shop/limits:8081");
    let backend =
        json!({"backendRef": {"kind": "Backend", "name": "rls", "namespace": "infra"}, "onFailure": "Allow"});
    let filter = compiled(spec(backend, two_limits()));
    let service = filter.services()[0].0;
    assert_eq!(
        (service.kind, service.port, &*service.object.namespace),
        (BackendKind::Backend, None, "infra")
    );
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn what_is_wrong_is_told_with_its_place() {
    let key = json!([{"type": "Header", "name": "x"}]);
    let limit = |more: Value| {
        let mut limit = json!({"name": "a", "key": key});
        limit.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec(json!({"onFailure": "Allow"}), json!([limit]))
    };
    let service =
        |service: Value| spec(service, json!([{"name": "a", "requests": 1, "per": "1s", "key": key}]));
    let described =
        |entries: Value| spec(json!({"onFailure": "Allow"}), json!([{"name": "a", "descriptor": entries}]));
    for (spec, want) in [
        (
            json!({"scope": "Service", "limits": [{"name": "a"}]}),
            "spec/scope: `scope: Service` needs a `service`",
        ),
        (
            json!({"service": service(json!({}))["service"], "limits": [{"name": "a", "requests": 1, "per": "1s"}]}),
            "spec/service: `service` goes with `scope: Service` only",
        ),
        (
            json!({"limits": [{"name": "a", "requests": 1, "per": "1s", "descriptor": [{"key": "a", "value": "b"}]}]}),
            "spec/limits/0/descriptor: `descriptor` goes with",
        ),
        (service(json!({"domain": ""})), "spec/service/domain: a domain has a name"),
        (service(json!({"timeout": "2s"})), "spec/service/timeout: 2s is out of range"),
        (service(json!({"fallbackPercent": 0})), "spec/service/fallbackPercent: 0 is out of range"),
        (service(json!({"askInShadow": true})), "spec/service/askInShadow: it goes with `mode: Shadow`"),
        (service(json!({"backendRef": {"name": "x"}})), "spec/service/backendRef: a Service needs a `port`"),
        (
            service(json!({"backendRef": {"name": "x", "group": "other", "port": 1}})),
            "spec/service/backendRef/group: the group of a Service",
        ),
        (service(json!({"surprise": 1})), "spec: unknown field `surprise`"),
        (limit(json!({"requests": 5})), "spec/limits/0/requests: the service knows"),
        (
            limit(json!({"responseCost": {"header": "x-cost"}})),
            "spec/limits/0/responseCost: `responseCost` goes with",
        ),
        (
            limit(json!({"mode": "Shadow"})),
            "spec/limits/0/mode: with `scope: Service`, write limits in Shadow",
        ),
        (
            limit(json!({"overrides": [{"key": ["a"], "unlimited": true}]})),
            "spec/limits/0/overrides: the service knows",
        ),
        (
            limit(json!({"cost": {"header": "x-cost"}})),
            "spec/limits/0/cost: what a request may ask for has no bound",
        ),
        (
            limit(json!({"descriptor": [{"key": "a", "value": "b"}]})),
            "spec/limits/0/key: write `key` or `descriptor`",
        ),
        (limit(json!({"key": []})), "spec/limits/0: a service is asked by a descriptor"),
        (
            limit(json!({"key": [{"type": "Expression", "expression": "'a'"}]})),
            "spec/limits/0/key/0: type Expression has no name",
        ),
        (described(json!([{"key": "a"}])), "spec/limits/0/descriptor/0: write one of `value` and `from`"),
        (described(json!([{"key": "", "value": "b"}])), "spec/limits/0/descriptor/0/key: an entry has a key"),
        (
            described(json!([{"key": "a", "from": {"type": "Descriptor", "name": "b"}}])),
            "spec/limits/0/descriptor/0/from/type: Descriptor goes with",
        ),
        (
            described(json!([{"key": "a", "from": {"type": "Header"}}])),
            "spec/limits/0/descriptor/0/from: type Header needs a `name`",
        ),
    ] {
        let faults = faults(KIND, spec);
        assert!(faults.len() == 1 && faults[0].starts_with(want), "{want}: {faults:?}");
    }
    let missing = faults(KIND, spec(json!({}), json!([{"name": "a", "key": key}])));
    let missing: Vec<_> = missing.iter().map(|fault| fault.split(':').nth(1).unwrap().trim()).collect();
    assert_eq!(missing, ["`per` is missing", "`requests` is missing"]);
    let mut all = limit(json!({}));
    all["concurrent"] = json!([{"name": "c", "atMost": 1}]);
    all["onLimit"] = json!({"delay": {"atMost": "1s"}});
    all["quotas"] = json!([{"name": "q", "requests": 1, "every": "Day"}]);
    let faults = faults(KIND, all);
    let places: Vec<_> = faults.iter().map(|fault| fault.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["spec/onLimit/delay", "spec/concurrent", "spec/quotas"], "{faults:?}");
}

proptest! {
    #[test]
    fn whatever_a_service_says_of_its_limits_the_word_of_all_together_decides(
        allowed: bool,
        statuses in prop::collection::vec((any::<bool>(), any::<u32>(), prop::option::of(any::<u64>())), 0..4),
        shadow: bool,
    ) {
        let mode = if shadow { Mode::Shadow } else { Mode::Enforce };
        let filter = asking(mode, if shadow { json!({"onFailure": "Deny", "askInShadow": true}) } else { json!({"onFailure": "Deny"}) });
        let said: Vec<_> = statuses.iter().map(|(allowed, remaining, reset)| {
            let limit = ServiceLimit { quota: None, remaining: *remaining, reset: reset.map(Duration::from_secs) };
            Said { allowed: *allowed, limit: Some(limit) }
        }).collect();
        let told = tell(&*filter, post(), Performed::Answered(answer(allowed, &said)));
        prop_assert_eq!(told.met.allowed(), allowed || shadow);
        prop_assert_eq!(told.met.decisions.len(), 1);
        prop_assert_eq!(told.met.decisions[0].outcome == Outcome::Allowed, allowed);
        prop_assert!(!shadow || told.met.headers.is_empty());
    }
}
