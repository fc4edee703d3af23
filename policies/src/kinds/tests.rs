use std::collections::BTreeMap;

use serde_json::Value;

use super::{KINDS, find};
use crate::kind::Compiled;
use crate::model::{Meta, Mode, Policy, ResourceName, SourceMap, SourceRef};

/// A policy `shop/p` of `policies.yaml`, whose list entries start at lines 11, 12, … of their list.
pub(super) fn policy(kind: &str, mode: Mode, spec: Value) -> Policy {
    let entries = |list: &'static str, line: u32| (0..5).map(move |i| (format!("{list}/{i}"), line + i));
    let lists = [
        ("/limits", 11),
        ("/breakers", 21),
        ("/caps", 31),
        ("/faults", 41),
        ("/classes", 51),
        ("/checks", 61),
        ("/providers", 71),
        ("/rules", 81),
    ];
    let lines: BTreeMap<_, _> = lists.into_iter().flat_map(|(list, line)| entries(list, line)).collect();
    Policy {
        meta: Meta {
            name: ResourceName::new("shop", "p"),
            source: SourceRef::File { path: "policies.yaml".into(), line: 1 },
            created: None,
        },
        kind: kind.into(),
        targets: Vec::new(),
        mode,
        spec,
        lines: SourceMap(lines),
    }
}

pub(super) fn compile(kind: &str, spec: Value) -> Result<Compiled, Vec<String>> {
    compile_in(Mode::Enforce, kind, spec)
}

pub(super) fn compile_in(mode: Mode, kind: &str, spec: Value) -> Result<Compiled, Vec<String>> {
    let entry = find(kind).expect("a kind of the registry");
    entry
        .compile(&policy(kind, mode, spec))
        .map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

pub(super) fn faults(kind: &str, spec: Value) -> Vec<String> {
    compile(kind, spec).expect_err("not valid")
}

#[test]
fn every_kind_is_listed_once_and_says_what_it_is_for() {
    for entry in KINDS {
        assert_eq!(KINDS.iter().filter(|other| other.kind == entry.kind).count(), 1);
        assert!(!entry.about.is_empty() && !entry.targets.is_empty(), "{}", entry.kind);
    }
}

#[test]
fn a_spec_that_is_no_object_is_a_fault_and_not_a_panic() {
    for entry in KINDS {
        for spec in [Value::Null, Value::from(1), Value::from("x"), Value::Array(Vec::new())] {
            assert!(compile(entry.kind, spec).is_err(), "{}", entry.kind);
        }
    }
}
