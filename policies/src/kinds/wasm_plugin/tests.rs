use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request};
use serde_json::{Value, json};

use crate::decision::{Decisions, Outcome};
use crate::kind::Compiled;
use crate::kinds::tests::{compile_in, faults};
use crate::model::{Mode, Peer, TargetKind};
use crate::pipeline::{Effect, Filter, Performed, Phase, RequestContext, Verdict};
use crate::plugin::{Carried, Failure, Plugged, Plugin, Source, Traffic};
use crate::reason::Reason;
use crate::state::StateStore;
use crate::time::Timestamp;

const KIND: &str = "WasmPlugin";

fn filter(mode: Mode, spec: Value) -> Arc<dyn Filter> {
    let Ok(Compiled::Filter(filter)) = compile_in(mode, KIND, spec) else { panic!("not valid") };
    filter.bind(&StateStore::new([0, 0]))
}

fn plugin(spec: Value) -> Arc<Plugin> {
    filter(Mode::Enforce, spec).plugin().unwrap().clone()
}

fn file() -> Value {
    json!({ "file": "/p.wasm" })
}

/// What the filter says to what came of asking, and what it decided.
fn judged(filter: &dyn Filter, performed: &Performed) -> (Verdict, Vec<Outcome>) {
    let mut decisions = Decisions::new();
    let (mut claims, mut held, mut rng) = (None, Vec::new(), fastrand::Rng::with_seed(1));
    let mut cx = RequestContext {
        head: &mut Request::get("/").body(()).unwrap().into_parts().0,
        peer: &Peer { address: "192.0.2.1:1000".parse().unwrap(), identity: None },
        route: None,
        now: Timestamp::ZERO,
        unix: &|| Duration::ZERO,
        rng: &mut rng,
        decisions: &mut decisions,
        response_headers: &mut HeaderMap::new(),
        claims: &mut claims,
        held: &mut held,
    };
    assert!(matches!(filter.on_request(&mut cx), Verdict::Effect(Effect::Plugin(_))));
    let verdict = filter.on_effect(&mut cx, performed);
    (verdict, decisions.iter().map(|decision| decision.outcome).collect())
}

#[test]
fn what_is_not_written_has_its_default() {
    let plugin = plugin(json!({ "source": file() }));
    assert_eq!(plugin.source, Source::File(String::from("/p.wasm")));
    assert_eq!((plugin.failure, plugin.hostcalls.is_none()), (Failure::Closed, true));
    assert_eq!((plugin.budgets.callback, plugin.budgets.memory), (Duration::from_millis(50), 64 << 20));
    assert_eq!((plugin.offences.count, plugin.offences.quarantine), (5, Duration::from_secs(10)));
    assert!(plugin.configuration.is_empty() && !plugin.shadow);
}

#[test]
fn a_text_is_given_as_it_is_and_anything_else_as_json() {
    let given =
        |value: Value| plugin(json!({ "source": file(), "configuration": value })).configuration.clone();
    assert_eq!(given(json!("plain: text")), "plain: text");
    assert_eq!(given(json!({ "a": [1, true] })), r#"{"a":[1,true]}"#);
}

#[test]
fn the_phase_is_one_of_those_that_policies_have() {
    let phase = |name: &str| filter(Mode::Enforce, json!({ "source": file(), "phase": name })).phase();
    assert_eq!((phase("Authenticate"), phase("Authorize")), (Phase::Authenticate, Phase::Authorize));
    assert_eq!(filter(Mode::Enforce, json!({ "source": file(), "order": -3 })).order(), -3);
}

#[test]
fn all_faults_are_told_at_once_with_their_place() {
    let spec = json!({
        "source": { "http": { "url": "ftp://a/b", "sha256": "12" } },
        "order": 2000,
        "budgets": { "callback": "1ms", "memoryMiB": 0 },
        "quarantine": { "failures": 0 },
        "capabilities": {
            "hostcalls": ["proxy_log", "proxy_fly"],
            "upstreams": [
                { "name": "a", "backendRef": { "name": "s" } },
                { "name": "a", "backendRef": { "kind": "Backend", "name": "" } }
            ]
        }
    });
    let told = faults(KIND, spec);
    for place in [
        "/source/http/url",
        "/source/http/sha256",
        "/order",
        "/budgets/callback",
        "/budgets/memoryMiB",
        "/quarantine/failures",
        "/capabilities/hostcalls/1",
        "/capabilities/upstreams/0/backendRef",
        "/capabilities/upstreams/1",
        "/capabilities/upstreams/1/backendRef/name",
    ] {
        assert!(told.iter().any(|fault| fault.starts_with(&format!("spec{place}"))), "{place}: {told:#?}");
    }
    let signed = json!({ "source": { "http": { "url": "https://a/b", "sha256": "+1".repeat(32) } } });
    assert_eq!(faults(KIND, signed), ["spec/source/http/sha256: a SHA-256 has 64 hexadecimal digits"]);
    assert_eq!(faults(KIND, json!({ "source": {} })), ["spec/source: write one of `file`, `http` and `oci`"]);
    assert!(faults(KIND, json!({ "source": { "file": "p.wasm" } }))[0].contains("whole path"));
}

#[test]
fn the_plugins_word_is_the_policys() {
    let filter = filter(Mode::Enforce, json!({ "source": file() }));
    let (verdict, outcomes) = judged(&*filter, &Performed::Plugged(Plugged::Passed));
    assert!(matches!(verdict, Verdict::Continue) && outcomes == [Outcome::Allowed]);
    let answered = Performed::Plugged(Plugged::Answered(Reason::PluginAnswered.into()));
    let (verdict, outcomes) = judged(&*filter, &answered);
    assert!(matches!(verdict, Verdict::Reply(_)) && outcomes == [Outcome::Refused(Reason::PluginAnswered)]);
    let (verdict, outcomes) = judged(&*filter, &Performed::Plugged(Plugged::Failed));
    assert!(matches!(verdict, Verdict::Reply(_)) && outcomes == [Outcome::Refused(Reason::PluginFailed)]);
}

#[test]
fn in_shadow_nobody_is_refused_and_it_is_said_who_would_be() {
    let filter = filter(Mode::Shadow, json!({ "source": file() }));
    assert!(filter.plugin().unwrap().shadow);
    let answered = Performed::Plugged(Plugged::Answered(Reason::PluginAnswered.into()));
    for (performed, reason) in [
        (answered, Reason::PluginAnswered),
        (Performed::Plugged(Plugged::Failed), Reason::PluginFailed),
        (Performed::Unanswered, Reason::PluginFailed),
    ] {
        let (verdict, outcomes) = judged(&*filter, &performed);
        assert!(matches!(verdict, Verdict::Continue) && outcomes == [Outcome::WouldRefuse(reason)]);
    }
}

#[test]
fn without_anybody_to_ask_requests_pass_only_where_that_is_written() {
    let passes = |policy: &str| {
        let filter = filter(Mode::Enforce, json!({ "source": file(), "failurePolicy": policy }));
        matches!(judged(&*filter, &Performed::Unanswered).0, Verdict::Continue)
    };
    assert_eq!((passes("Open"), passes("Closed"), passes("LastGood")), (true, false, false));
}

/// How a connection is closed for what came of asking, and what is decided.
fn carried(mode: Mode, failure: &str, word: Carried) -> (Option<(Reason, bool)>, Vec<Outcome>) {
    let filter = filter(mode, json!({ "source": file(), "failurePolicy": failure }));
    let mut decisions = Decisions::new();
    let cut = filter.on_carried(word, &mut decisions).err().map(|cut| (cut.reason, cut.reset));
    (cut, decisions.iter().map(|decision| decision.outcome).collect())
}

#[test]
fn a_plugin_closes_connections_in_order_and_its_failure_by_a_reset_unless_they_may_do_without() {
    let closed = |reason, reset| (Some((reason, reset)), vec![Outcome::Refused(reason)]);
    let passed = (None, vec![Outcome::Allowed]);
    assert_eq!(carried(Mode::Enforce, "Closed", Carried::Passed), passed);
    assert_eq!(carried(Mode::Enforce, "Open", Carried::Skipped), passed);
    assert_eq!(carried(Mode::Enforce, "Open", Carried::Closed), closed(Reason::PluginClosed, false));
    assert_eq!(carried(Mode::Enforce, "Open", Carried::TooLarge), closed(Reason::PluginBodyTooLarge, true));
    assert_eq!(carried(Mode::Enforce, "Open", Carried::Failed), passed);
    for failure in ["Closed", "LastGood"] {
        let failed = carried(Mode::Enforce, failure, Carried::Failed);
        assert_eq!(failed, closed(Reason::PluginFailed, true));
    }
}

#[test]
fn in_shadow_no_connection_is_closed_and_it_is_said_which_would_be() {
    for (word, reason) in [
        (Carried::Closed, Reason::PluginClosed),
        (Carried::TooLarge, Reason::PluginBodyTooLarge),
        (Carried::Failed, Reason::PluginFailed),
    ] {
        assert_eq!(carried(Mode::Shadow, "Closed", word), (None, vec![Outcome::WouldRefuse(reason)]));
    }
}

#[test]
fn what_a_plugin_can_meet_follows_from_the_kinds_it_is_attached_to() {
    use TargetKind::{GRPCRoute, Gateway, HTTPRoute, Service, TCPRoute, TLSRoute};
    for (kinds, expected) in [
        (&[TCPRoute, TLSRoute][..], Traffic::Connections),
        (&[HTTPRoute, GRPCRoute], Traffic::Requests),
        (&[HTTPRoute, TCPRoute], Traffic::Any),
        (&[TCPRoute, Gateway], Traffic::Any),
        (&[Service], Traffic::Any),
        (&[], Traffic::Any),
    ] {
        assert_eq!(super::traffic(kinds), expected, "{kinds:?}");
    }
}
