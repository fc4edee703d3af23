//! What the CRD demands of `infrastructure`. None of it has an effect here, but a file that a cluster refuses is no file to
//! deploy.

use std::collections::BTreeMap;

use super::{InfrastructureSpec, LocalParametersRef};
use crate::objects::Faults;
use crate::objects::rules::{Reference, escaped, is_dns_subdomain};

const MAX_LABELS: usize = 8;
const MAX_ANNOTATIONS: usize = 16;
const MAX_ANNOTATION_CHARACTERS: usize = 4096;

pub(super) fn check(infrastructure: &InfrastructureSpec, faults: &mut Faults) {
    let InfrastructureSpec { labels, annotations, parameters_ref } = infrastructure;
    check_keys("/infrastructure/labels", labels, MAX_LABELS, faults);
    check_keys("/infrastructure/annotations", annotations, MAX_ANNOTATIONS, faults);
    for (key, value) in labels.iter().filter(|(_, value)| !value.is_empty() && !is_name(value)) {
        faults.error_with_help(
            format!("/infrastructure/labels/{}", escaped(key)),
            format!("`{value}` cannot be the value of a label"),
            "use at most 63 letters, digits, `-`, `_` and `.`",
        );
    }
    for (key, value) in annotations {
        let length = value.chars().count();
        if length > MAX_ANNOTATION_CHARACTERS {
            let message = format!("at most {MAX_ANNOTATION_CHARACTERS} characters are allowed, has {length}");
            faults.error(format!("/infrastructure/annotations/{}", escaped(key)), message);
        }
    }
    if let Some(LocalParametersRef { group, kind, .. }) = parameters_ref {
        Reference { group, kind, namespace: None }.check("/infrastructure/parametersRef", faults);
    }
}

fn check_keys(at: &str, map: &BTreeMap<String, String>, most: usize, faults: &mut Faults) {
    if map.len() > most {
        faults.error(at, format!("at most {most} are allowed, has {}", map.len()));
    }
    for key in map.keys() {
        let (domain, name) = key.split_once('/').map_or((None, key.as_str()), |(d, n)| (Some(d), n));
        if !domain.is_none_or(is_dns_subdomain) || !is_name(name) {
            faults.error_with_help(
                format!("{at}/{}", escaped(key)),
                format!("`{key}` cannot be a key"),
                "write a name such as `team`, or example.com/team",
            );
        }
    }
}

/// Of a label or annotation: at most 63 characters that begin and end with a letter or digit.
fn is_name(name: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    (1..=63).contains(&bytes.len())
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}
