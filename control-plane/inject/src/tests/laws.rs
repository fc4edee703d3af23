use proptest::prelude::*;

use super::*;

/// Pods with and without everything that injection appends to.
fn pods() -> impl Strategy<Value = Json> {
    let container = |name: &'static str| {
        (proptest::option::of(1_u16..15_000), any::<bool>()).prop_map(move |(port, env)| {
            let mut container = json!({ "name": name, "image": "i" });
            if let Some(port) = port {
                container["ports"] = json!([{ "containerPort": port }]);
            }
            if env {
                container["env"] = json!([{ "name": "A", "value": "~/b" }]);
            }
            container
        })
    };
    let plain = proptest::sample::select(vec![None, Some("native"), Some("plain")]);
    let labels = proptest::option::of(proptest::collection::btree_map("[a-z/~]{1,6}", "[a-z]{0,3}", 0..3));
    (
        proptest::collection::vec(container("a"), 1..3),
        proptest::option::of(container("b")),
        any::<bool>(),
        plain,
        labels,
    )
        .prop_map(|(containers, init, volumes, plain, labels)| {
            let mut pod = json!({ "metadata": { "name": "p" }, "spec": { "containers": containers } });
            if let Some(init) = init {
                pod["spec"]["initContainers"] = json!([init]);
            }
            if volumes {
                pod["spec"]["volumes"] = json!([{ "name": "v", "emptyDir": {} }]);
            }
            if let Some(word) = plain {
                pod["metadata"]["annotations"] = json!({ "tidegate.io/sidecar": word });
            }
            if let Some(labels) = labels {
                pod["metadata"]["labels"] = json!(labels);
            }
            pod
        })
}

/// Everything that changes where something is added.
fn settings() -> impl Strategy<Value = Settings> {
    (any::<bool>(), any::<bool>()).prop_map(|(cni, native_sidecar)| Settings {
        cni,
        native_sidecar,
        ..Settings::default()
    })
}

/// Whether all that `before` says is still said, in its order.
fn keeps(before: &Json, after: &Json) -> bool {
    match (before, after) {
        (Json::Object(old), Json::Object(new)) => {
            old.iter().all(|(name, value)| new.get(name).is_some_and(|new| keeps(value, new)))
        }
        (Json::Array(old), Json::Array(new)) => {
            let from = |first: usize| old.iter().zip(&new[first..]).all(|(old, new)| keeps(old, new));
            old.len() <= new.len() && (from(0) || from(new.len() - old.len()))
        }
        _ => before == after,
    }
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        (0..3_u8).prop_map(Json::from),
        "[a-z/~]{0,3}".prop_map(Json::from)
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            proptest::collection::btree_map("[a-c/~]{0,2}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn injecting_twice_is_injecting_once(before in pods(), settings in settings()) {
        let Ok(Outcome::Injected(after)) = pod(&before, Because::ItSaysSo, &settings) else { panic!() };
        prop_assert_eq!(pod(&after, Because::ItSaysSo, &settings), Ok(Outcome::AlreadyThere));
    }

    #[test]
    fn nothing_that_was_there_is_replaced(before in pods(), settings in settings()) {
        let Ok(Outcome::Injected(after)) = pod(&before, Because::OfWhereItIs, &settings) else { panic!() };
        prop_assert!(keeps(&before, &after), "{before}\n{after}");
    }

    #[test]
    fn the_patch_of_a_webhook_makes_the_document_of_the_command(before in pods(), settings in settings()) {
        let Ok(Outcome::Injected(after)) = pod(&before, Because::ItSaysSo, &settings) else { panic!() };
        let patch = patch(&before, &after);
        prop_assert_eq!(apply(&patch, &before), after);
        prop_assert!(patch.as_array().unwrap().iter().all(|operation| operation["op"] == "add"), "{}", patch);
    }

    #[test]
    fn a_patch_makes_one_document_of_any_other(before in any_json(), after in any_json()) {
        prop_assert_eq!(patch(&after, &after), json!([]));
        prop_assert_eq!(apply(&patch(&before, &after), &before), after);
    }
}
