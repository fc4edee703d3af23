//! Keys, conditions, costs and limits in Shadow.

use super::*;

fn plain(head: request::Builder) -> (request::Builder, Peer) {
    (head, peer("192.0.2.1:1000", None))
}

fn at(uri: &str) -> (request::Builder, Peer) {
    plain(Request::get(uri))
}

#[test]
fn cookies_and_query_parameters_are_told_apart_by_value() {
    let cookie = || json!({"type": "Cookie", "name": "user"});
    let with = |value: &str| plain(Request::get("/").header("cookie", value));
    assert!(apart(cookie(), with("user=ann"), with("user=bob")));
    assert!(!apart(cookie(), with("a=1; user=ann"), with("user=ann; b=2")));
    assert!(apart(cookie(), with("user=ann"), with("xuser=ann")));
    let query = || json!({"type": "QueryParameter", "name": "key"});
    assert!(apart(query(), at("/?key=a"), at("/?key=b")));
    assert!(!apart(query(), at("/?key=a&x=1"), at("/?y&k%65y=%61")), "by whatever spelling");
    assert!(!apart(query(), at("/?other=a"), at("/")));
}

#[test]
fn paths_are_told_apart_by_template_and_addresses_by_network() {
    let templates = || json!({"type": "PathTemplate", "templates": ["/users/{id}", "/**"]});
    assert!(!apart(templates(), at("/users/1"), at("/users/2")));
    assert!(apart(templates(), at("/users/1"), at("/other")));
    let network = || json!({"type": "ClientAddress", "prefix": {"ipv4": 24, "ipv6": 64}});
    let from = |address: &str| (Request::get("/"), peer(address, None));
    assert!(!apart(network(), from("192.0.2.1:1"), from("192.0.2.9:1")));
    assert!(apart(network(), from("192.0.2.1:1"), from("192.0.3.1:1")));
    let behind = || json!({"type": "ClientAddress", "trustedHops": 1});
    let forwarded = |by: &str| plain(Request::get("/").header("x-forwarded-for", by));
    assert!(apart(behind(), forwarded("1.1.1.1"), forwarded("2.2.2.2")));
    assert!(!apart(behind(), forwarded("6.6.6.6, 1.1.1.1"), forwarded("7.7.7.7, 1.1.1.1")), "not believed");
}

#[test]
fn an_expression_tells_apart_by_what_it_says() {
    let tenant =
        || json!({"type": "Expression", "expression": "request.headers['x-tenant'] + request.method"});
    let with = |tenant: &str| plain(Request::get("/").header("x-tenant", tenant));
    assert!(apart(tenant(), with("a"), with("b")));
    assert!(!apart(tenant(), with("a"), with("a")));
    assert!(!apart(tenant(), at("/"), at("/")), "fails for both");
}

#[test]
fn a_request_without_a_part_shares_a_bucket_or_is_not_counted_or_refused_as_written() {
    let limited = |missing: &str| {
        let filter = keyed(json!({"type": "Header", "name": "x-user", "missing": missing}));
        [get(&filter, "/", 0), get(&filter, "/", 0)]
    };
    let [first, second] = limited("Share");
    assert!(first.allowed() && !second.allowed());
    let [first, second] = limited("Skip");
    assert!(first.allowed() && second.allowed() && second.decisions.is_empty() && second.headers.is_empty());
    let [denied, _] = limited("Deny");
    assert_eq!(denied.reply.as_ref().map(|reply| reply.reason), Some(Reason::RateLimited));
    assert_eq!((denied.header("retry-after"), denied.header("ratelimit")), (None, None), "it never passes");
    assert_eq!(denied.decisions[0].detail, None);
}

#[test]
fn a_condition_says_which_requests_are_counted_and_one_that_fails_counts_none() {
    let spec = |policy: &str, limit: &str| json!({"when": policy, "limits": [{"name": "a", "requests": 1, "per": "1h", "when": limit}]});
    let passed = |policy, limit| {
        let filter = bind(Mode::Enforce, spec(policy, limit), &StateStore::new([0, 0]));
        admitted(&filter, "/a", 3, 0)
    };
    assert_eq!(passed("true", "request.path == '/a'"), 1);
    assert_eq!(passed("true", "request.path == '/b'"), 3);
    assert_eq!(passed("request.method == 'POST'", "true"), 3);
    assert_eq!(passed("request.headers['x-tenant'] == 'gold'", "true"), 3);
}

fn costing(cost: &Value) -> Arc<dyn Filter> {
    let spec = json!({"limits": [
        {"name": "dear", "requests": 10, "per": "1h", "cost": cost},
        {"name": "plain", "requests": 100, "per": "1h"},
    ]});
    bind(Mode::Enforce, spec, &StateStore::new([0, 0]))
}

fn with_cost(filter: &Arc<dyn Filter>, cost: &str) -> Met {
    let (head, peer) = plain(Request::get("/").header("x-cost", cost));
    judge(&**filter, head, &peer, 0)
}

#[test]
fn a_request_spends_what_it_costs_or_nothing_anywhere() {
    let fixed = costing(&json!({"fixed": 4}));
    let met: Vec<_> = (0..3).map(|_| get(&fixed, "/", 0)).collect();
    assert_eq!(met.iter().map(Met::allowed).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(met[2].header("ratelimit"), Some("\"dear\";r=0;t=720"), "two of four are missing");

    let header = costing(&json!({"header": "x-cost"}));
    assert!(with_cost(&header, "7").allowed() && !with_cost(&header, "4").allowed());
    assert_eq!(with_cost(&header, "3").header("ratelimit"), Some("\"dear\";r=0;t=360"));
    let last = with_cost(&header, "0");
    assert!(last.allowed());
    assert_eq!(last.header("ratelimit"), Some("\"plain\";r=97;t=36"), "what was refused spent nothing here");
}

#[test]
fn a_cost_that_makes_no_sense_is_one_and_one_beyond_belief_is_all_there_is() {
    for nonsense in ["", "-1", "many", "1.5", "\u{1}"] {
        let header = costing(&json!({"header": "x-cost"}));
        let met = with_cost(&header, nonsense.trim_matches('\u{1}'));
        assert_eq!(met.header("ratelimit"), Some("\"dear\";r=9;t=360"), "{nonsense}");
    }
    let header = costing(&json!({"header": "x-cost"}));
    assert!(with_cost(&header, "99999999999999999999").allowed());
    assert!(!with_cost(&header, "1").allowed());
    let capped = costing(&json!({"header": "x-cost", "atMost": 3}));
    assert_eq!(with_cost(&capped, "8").header("ratelimit"), Some("\"dear\";r=7;t=360"));
    let expression = costing(&json!({"expression": "size(request.path) * 2"}));
    assert_eq!(get(&expression, "/ab", 0).header("ratelimit"), Some("\"dear\";r=4;t=360"));
    let free = costing(&json!({"expression": "0 - 5"}));
    assert_eq!(get(&free, "/", 0).header("ratelimit"), Some("\"plain\";r=99;t=36"));
}

#[test]
fn a_limit_in_shadow_tells_whom_it_would_refuse_and_holds_nobody() {
    let spec = json!({"limits": [
        {"name": "real", "requests": 3, "per": "1h"},
        {"name": "trial", "requests": 1, "per": "1h", "mode": "Shadow"},
    ]});
    let filter = bind(Mode::Enforce, spec, &StateStore::new([0, 0]));
    let met: Vec<_> = (0..4).map(|_| get(&filter, "/", 0)).collect();
    let told =
        |met: &Met| met.decisions.iter().map(|d| (d.rule.name.to_string(), d.outcome)).collect::<Vec<_>>();
    let (real, trial) = (String::from("real"), String::from("trial"));
    assert_eq!(told(&met[0]), [(real.clone(), Outcome::Allowed), (trial.clone(), Outcome::Allowed)]);
    let would = Outcome::WouldRefuse(Reason::RateLimited);
    assert_eq!(told(&met[1]), [(real.clone(), Outcome::Allowed), (trial, would)]);
    assert_eq!(told(&met[3]), [(real, Outcome::Refused(Reason::RateLimited))], "nobody to try it on");
    assert_eq!(met[1].header("ratelimit-policy"), Some("\"real\";q=3;w=3600"));
}

#[test]
fn x_ratelimit_is_told_where_it_is_asked_for_and_nothing_where_nothing_is() {
    let telling = |fields: Value| {
        let spec = json!({"responseHeaders": fields, "limits": [{"name": "a", "requests": 2, "per": "1h"}]});
        let filter = bind(Mode::Enforce, spec, &StateStore::new([0, 0]));
        [get(&filter, "/", 0), get(&filter, "/", 0), get(&filter, "/", 0)]
    };
    let told = |met: &Met| {
        ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"]
            .map(|name| met.header(name).map(str::to_owned))
    };
    let [first, _, refused] = telling(json!(["XRateLimit"]));
    assert_eq!(told(&first), ["2", "1", "1800"].map(|text| Some(text.to_owned())));
    assert_eq!(told(&refused), ["2", "0", "1800"].map(|text| Some(text.to_owned())));
    assert_eq!(first.header("ratelimit"), None);
    let [first, _, refused] = telling(json!([]));
    assert!(first.headers.is_empty() && refused.headers.is_empty());
    assert!(refused.reply.is_some_and(|reply| reply.headers.len() == 1), "retry-after stays");
}

#[test]
fn every_fault_of_a_part_is_named_with_its_place() {
    let key = |part: Value| json!({"name": "a", "requests": 5, "per": "1s", "key": [part]});
    let cost = |cost: Value| json!({"name": "a", "requests": 5, "per": "1s", "cost": cost});
    for (limit, want) in [
        (key(json!({"type": "Cookie"})), "/key/0: type Cookie needs a `name`"),
        (key(json!({"type": "Cookie", "name": "a b"})), "/key/0/name: `a b` is not the name of a cookie"),
        (
            key(json!({"type": "Path", "trustedHops": 1})),
            "/key/0/trustedHops: `trustedHops` goes with type ClientAddress only",
        ),
        (
            key(json!({"type": "ClientAddress", "prefix": {"ipv4": 33}})),
            "/key/0/prefix/ipv4: 33 is out of range",
        ),
        (
            key(json!({"type": "ClientAddress", "prefix": {"ipv6": 0}})),
            "/key/0/prefix/ipv6: 0 is out of range",
        ),
        (
            key(json!({"type": "PathTemplate", "templates": ["/a", "b"]})),
            "/key/0/templates/1: `b` does not begin",
        ),
        (key(json!({"type": "Expression"})), "/key/0: type Expression needs an `expression`"),
        (
            key(json!({"type": "Expression", "expression": "request.mehtod"})),
            "/key/0/expression: there is no `request.mehtod`; did you mean `request.method`? (at character 1",
        ),
        (cost(json!({})), "/cost: write one of"),
        (cost(json!({"fixed": 2, "header": "a"})), "/cost: write one of"),
        (cost(json!({"fixed": 6})), "/cost/fixed: 6 is out of range: use 1 to 5"),
        (cost(json!({"fixed": 0})), "/cost/fixed: 0 is out of range"),
        (cost(json!({"header": "a", "atMost": 6})), "/cost/atMost: 6 is out of range"),
        (cost(json!({"expression": "request.path"})), "/cost/expression: the result is a text"),
        (
            json!({"name": "a", "requests": 5, "per": "1s", "when": "1"}),
            "/when: the result is a whole number",
        ),
    ] {
        let faults = faults(KIND, one(limit));
        assert!(
            faults.len() == 1 && faults[0].starts_with(&format!("spec/limits/0{want}")),
            "{want}: {faults:?}"
        );
    }
    let faults =
        faults(KIND, json!({"when": "true &&", "limits": [{"name": "a", "requests": 5, "per": "1s"}]}));
    assert!(faults[0].starts_with("spec/when: not an expression"), "{faults:?}");
}

proptest! {
    #[test]
    fn no_more_is_spent_than_burst_plus_rate_times_time_whatever_requests_cost(
        steps in prop::collection::vec((0_u64..700, 0_u64..9), 1..120),
    ) {
        let spec = one(json!({"name": "a", "requests": 4, "per": "1s", "burst": 6, "cost": {"header": "x-cost"}}));
        let filter = bind(Mode::Enforce, spec, &StateStore::new([0, 0]));
        let (mut now, mut spent) = (0, Vec::new());
        for (step, cost) in steps {
            now += step;
            let head = Request::get("/").header("x-cost", cost.to_string());
            if judge(&*filter, head, &peer("192.0.2.1:1", None), now).allowed() {
                spent.push((now, cost.min(6)));
            }
        }
        for (i, (from, _)) in spent.iter().enumerate() {
            let mut sum = 0;
            for (to, cost) in &spent[i..] {
                sum += cost;
                prop_assert!(sum <= 6 + (to - from) * 4 / 1000, "{sum} from {from} to {to}");
            }
        }
    }

    #[test]
    fn a_limit_in_shadow_changes_not_one_byte(steps in prop::collection::vec((0_u64..900, 0_usize..3), 1..60)) {
        let real = json!({"name": "m", "requests": 2, "per": "1s", "burst": 3, "key": [{"type": "Path"}]});
        let trial = |name: &str| json!({"name": name, "requests": 1, "per": "1s", "mode": "Shadow"});
        let with = json!({"limits": [trial("a"), real, trial("z")], "responseHeaders": ["RateLimit", "XRateLimit"]});
        let without = json!({"limits": [real], "responseHeaders": ["RateLimit", "XRateLimit"]});
        let [with, without] =
            [with, without].map(|spec| bind(Mode::Enforce, spec, &StateStore::new([0, 0])));
        let mut now = 0;
        for (step, path) in steps {
            now += step;
            let path = ["/a", "/b", "/c"][path];
            let (with, without) = (get(&with, path, now), get(&without, path, now));
            prop_assert_eq!(with.reply, without.reply);
            prop_assert_eq!(with.headers, without.headers);
        }
    }
}

fn tenants() -> Arc<dyn Filter> {
    let spec = one(json!({
        "name": "tenant", "requests": 1, "per": "1h",
        "key": [{"type": "Header", "name": "x-tenant"}, {"type": "Host"}],
        "overrides": [
            {"key": ["gold", "Shop.Example"], "requests": 3},
            {"key": ["ours", "shop.example"], "unlimited": true},
        ],
    }));
    bind(Mode::Enforce, spec, &StateStore::new([7, 9]))
}

#[test]
fn a_named_key_has_a_limit_of_its_own_or_none() {
    let filter = tenants();
    let asks = |tenant: &str| {
        let head = Request::get("/").header("host", "shop.example:80").header("x-tenant", tenant);
        judge(&*filter, head, &peer("192.0.2.1:1", None), 0)
    };
    let passed = |tenant: &str| (0..5).filter(|_| asks(tenant).allowed()).count();
    assert_eq!([passed("gold"), passed("ours"), passed("tin"), passed("lead")], [3, 5, 1, 1]);
    assert_eq!(asks("gold").header("ratelimit-policy"), Some("\"tenant\";q=3;w=3600"));
    assert_eq!(asks("tin").header("ratelimit-policy"), Some("\"tenant\";q=1;w=3600"));
    assert!(asks("ours").headers.is_empty() && asks("ours").decisions.is_empty());
}

#[test]
fn an_override_keeps_what_was_spent_over_a_push_that_changes_it() {
    let store = StateStore::new([7, 9]);
    let with = |requests: u32| {
        let spec = one(json!({
            "name": "path", "requests": 1, "per": "1h", "key": [{"type": "Path"}],
            "overrides": [{"key": ["/a"], "requests": requests, "per": "1h"}],
        }));
        bind(Mode::Enforce, spec, &store)
    };
    assert_eq!(admitted(&with(4), "/a", 9, 0), 4);
    assert_eq!(admitted(&with(6), "/a", 9, 0), 2);
    assert_eq!(admitted(&with(5), "/b", 9, 0), 1);
}

#[test]
fn every_fault_of_an_override_is_named_with_its_place() {
    let with = |key: Value, own: Value| {
        one(json!({"name": "a", "requests": 5, "per": "1s", "key": [key], "overrides": [own]}))
    };
    let path = || json!({"type": "Path"});
    for (spec, want) in [
        (
            with(path(), json!({"key": ["/a", "b"], "requests": 1})),
            "/key: 2 values: the limit's key has 1 parts",
        ),
        (with(path(), json!({"key": ["/a"]})), ": write `requests`, `per` or `burst`, or `unlimited: true`"),
        (with(path(), json!({"key": ["/a"], "unlimited": true, "burst": 2})), "/unlimited: it goes without"),
        (with(path(), json!({"key": ["/a"], "requests": 0})), "/requests: 0 is out of range"),
        (
            with(path(), json!({"key": ["/a"], "requests": 2000, "per": "1ms"})),
            "/requests: 2000 per 1ms: more than",
        ),
        (
            with(json!({"type": "ClientAddress"}), json!({"key": ["10.0.0.1"], "unlimited": true})),
            "/key/0: a client address cannot be overridden",
        ),
    ] {
        let faults = faults(KIND, spec);
        let at = format!("spec/limits/0/overrides/0{want}");
        assert!(faults.len() == 1 && faults[0].starts_with(&at), "{want}: {faults:?}");
    }
}

#[test]
fn whoever_is_refused_is_told_what_is_written() {
    let spec = json!({
        "limits": [{"name": "a", "requests": 1, "per": "1h"}],
        "onLimit": {"status": 503, "body": "{}", "contentType": "application/json", "headers": [{"name": "x-why", "value": "busy"}]},
    });
    let filter = bind(Mode::Enforce, spec, &StateStore::new([0, 0]));
    assert!(get(&filter, "/", 0).allowed());
    let reply = get(&filter, "/", 0).reply.unwrap();
    assert_eq!((reply.reason, reply.again.map(|wait| wait.as_secs())), (Reason::RateLimited, Some(3600)));
    let names: Vec<_> = reply.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["retry-after", "x-why"]);
    let written = reply.written.unwrap();
    assert_eq!(written.status.map(|status| status.as_u16()), Some(503));
    assert_eq!(
        written.body.as_ref().map(|(kind, body)| (kind.to_str().unwrap(), &**body)),
        Some(("application/json", &b"{}"[..]))
    );
}

#[test]
fn every_fault_of_what_is_to_be_told_is_named_with_its_place() {
    let with =
        |on_limit: Value| json!({"limits": [{"name": "a", "requests": 1, "per": "1h"}], "onLimit": on_limit});
    let header = |name: &str, value: &str| with(json!({"headers": [{"name": name, "value": value}]}));
    for (spec, want) in [
        (with(json!({"status": 200})), "status: 200 is no refusal: use 400 to 599"),
        (with(json!({"status": 999})), "status: 999 is no refusal"),
        (with(json!({"body": "x".repeat(8193)})), "body: longer than 8192 bytes"),
        (with(json!({"contentType": "text/html"})), "contentType: it goes with a `body` only"),
        (with(json!({"body": "x", "contentType": "a\nb"})), "contentType: not the value of a header"),
        (
            header("content-length", "1"),
            "headers/0/name: `content-length` is not a header that can be set here",
        ),
        (header("grpc-status", "0"), "headers/0/name: `grpc-status` is not a header that can be set here"),
        (header("a b", "1"), "headers/0/name: `a b` is not a header"),
        (header("x-a", "a\r\nset-cookie: b"), "headers/0/value: not the value of a header"),
    ] {
        let faults = faults(KIND, spec);
        let at = format!("spec/onLimit/{want}");
        assert!(faults.len() == 1 && faults[0].starts_with(&at), "{want}: {faults:?}");
    }
}

#[test]
fn all_faults_of_a_limit_are_told_at_once() {
    let spec = one(json!({
        "name": "a", "requests": 5, "per": "1s", "when": "request.pth == '/'", "cost": {"fixed": 9},
        "key": [{"type": "PathTemplate", "templates": ["x"]}, {"type": "Cookie"}],
        "overrides": [{"key": ["a"], "requests": 0}],
    }));
    let faults = faults(KIND, spec);
    for place in
        ["when:", "cost/fixed:", "key/0/templates/0:", "key/1:", "overrides/0/key:", "overrides/0/requests:"]
    {
        assert!(
            faults.iter().any(|fault| fault.starts_with(&format!("spec/limits/0/{place}"))),
            "{place}: {faults:?}"
        );
    }
}
