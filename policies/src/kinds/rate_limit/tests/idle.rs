//! Without the rules that are said never to refuse anybody, all is as with them, whatever comes and when.

use proptest::sample::Index;

use super::*;
use crate::Decision;

fn optional(
    field: &'static str,
    values: impl Strategy<Value = Value> + 'static,
) -> BoxedStrategy<(String, Value)> {
    prop_oneof![Just(Value::Null), values].prop_map(move |value| (field.to_owned(), value)).boxed()
}

/// The fields of which some are missing, under a name of its own.
fn rule(fields: Vec<BoxedStrategy<(String, Value)>>) -> impl Strategy<Value = Value> {
    fields.prop_map(|fields| Value::from_iter(fields.into_iter().filter(|(_, value)| !value.is_null())))
}

fn key() -> BoxedStrategy<(String, Value)> {
    let part = |name: &str, missing: &str| json!({"type": "Header", "name": name, "missing": missing});
    let user = ["Share", "Skip", "Deny"].map(|missing| part("x-user", missing));
    let one = proptest::sample::select(user.to_vec());
    optional(
        "key",
        (one, any::<bool>()).prop_map(move |(user, two)| match two {
            true => json!([user, part("x-tenant", "Share")]),
            false => json!([user]),
        }),
    )
}

fn when() -> BoxedStrategy<(String, Value)> {
    optional("when", Just(json!("request.method == 'GET'")))
}

fn limits() -> impl Strategy<Value = Vec<Value>> {
    let number = |least: u32| (least..6).prop_map(Value::from);
    let each = vec![
        number(1).prop_map(|n| (String::from("requests"), n)).boxed(),
        prop_oneof![Just(json!("1s")), Just(json!("2s")), Just(json!("1h"))]
            .prop_map(|per| (String::from("per"), per))
            .boxed(),
        optional("burst", number(2)),
        optional("cost", (1_u32..2).prop_map(|cost| json!({"fixed": cost}))),
        optional("mode", Just(json!("Shadow"))),
        key(),
        when(),
    ];
    proptest::collection::vec(rule(each), 1..4)
}

fn quotas() -> impl Strategy<Value = Vec<Value>> {
    let every = proptest::sample::select(vec![json!("Hour"), json!("Day")]);
    let requests = prop_oneof![1_u32..6, 6_u32..200];
    let each = vec![
        requests.prop_map(|n| (String::from("requests"), Value::from(n))).boxed(),
        every.prop_map(|every| (String::from("every"), every)).boxed(),
        key(),
        when(),
    ];
    proptest::collection::vec(rule(each), 0..3)
}

/// One of them once more, with requests that nobody can use up: who meets the first is met by the other in vain.
fn and_a_looser(mut rules: Vec<Value>, (of, place): (Index, Index)) -> Vec<Value> {
    if !rules.is_empty() {
        let mut looser = of.get(&rules).clone();
        looser["requests"] = json!(1000);
        rules.insert(place.index(rules.len() + 1), looser);
    }
    rules
}

/// With names by their places.
fn named(list: Vec<Value>, letter: char) -> Value {
    let name = |(at, mut one): (usize, Value)| {
        one["name"] = json!(format!("{letter}{at}"));
        one
    };
    list.into_iter().enumerate().map(name).collect()
}

fn without(rules: &Value, names: &[Arc<str>]) -> Value {
    let kept = |rule: &&Value| !names.iter().any(|name| rule["name"] == **name);
    rules.as_array().unwrap().iter().filter(kept).cloned().collect()
}

fn bound(spec: Value) -> Arc<dyn Filter> {
    match compile_in(Mode::Enforce, KIND, spec) {
        Ok(Compiled::Filter(compiled)) => compiled.bind(&StateStore::new([0, 0])),
        _ => panic!("fewer rules of what is valid are valid"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn without_who_is_told_to_be_idle_the_same_requests_are_refused(
        (limits, quotas) in (limits(), quotas()),
        looser in any::<((Index, Index), (Index, Index))>(),
        requests in proptest::collection::vec((0_u64..1500, 0_u8..3, any::<bool>(), any::<bool>()), 1..60),
    ) {
        let (limits, quotas) = (and_a_looser(limits, looser.0), and_a_looser(quotas, looser.1));
        let (limits, quotas) = (named(limits, 'l'), named(quotas, 'q'));
        let Ok(Compiled::Filter(compiled)) =
            compile_in(Mode::Enforce, KIND, json!({"limits": limits, "quotas": quotas}))
        else {
            return Ok(());
        };
        let idle: Vec<_> = compiled.idle().into_iter().map(|one| one.rule.name.clone()).collect();
        prop_assert!(!idle.is_empty(), "the looser one is");
        let fewer = json!({"limits": without(&limits, &idle), "quotas": without(&quotas, &idle)});
        let (all, fewer) = (compiled.bind(&StateStore::new([0, 0])), bound(fewer));
        let mut now = 0;
        for (wait, user, tenant, get) in requests {
            now += wait;
            let refused = |filter: &dyn Filter| {
                let mut head = Request::builder().method(if get { "GET" } else { "POST" }).uri("/");
                if user > 0 {
                    head = head.header("x-user", user.to_string());
                }
                if tenant {
                    head = head.header("x-tenant", "a");
                }
                let met = judge(filter, head, &peer("192.0.2.1:1000", None), now);
                let would = |decision: &Decision| matches!(decision.outcome, Outcome::WouldRefuse(_));
                (met.reply.is_some(), met.decisions.iter().any(would))
            };
            prop_assert_eq!(refused(&*all), refused(&*fewer), "{:?} at {}", idle, now);
        }
    }
}
