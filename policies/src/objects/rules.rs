//! Checks of single values that several kinds share: what the CRDs say of them in patterns, told in words.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::IpAddr;

use super::Faults;
use crate::model::HostPattern;

/// RFC 1123 subdomain: what Kubernetes takes as a name. Unlike in the DNS, a label may be as long as the whole.
pub(crate) fn is_dns_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(has_form_of_label)
}

/// RFC 1123 label: what Kubernetes takes as a namespace.
pub(crate) fn is_dns_label(label: &str) -> bool {
    label.len() <= 63 && has_form_of_label(label)
}

fn has_form_of_label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
}

pub(super) fn check_hostname(pointer: &str, hostname: &str, faults: &mut Faults) {
    if hostname.parse::<IpAddr>().is_ok() {
        faults.error(pointer, format!("`{hostname}` is an IP address: a hostname must be a DNS name"));
    } else if hostname.bytes().any(|b| b.is_ascii_uppercase()) {
        let help = format!("write {}", hostname.to_ascii_lowercase());
        faults.error_with_help(pointer, format!("`{hostname}` has upper case letters"), help);
    } else if let Err(invalid) = HostPattern::parse(hostname) {
        faults.error(pointer, invalid.to_string());
    }
}

/// What the Gateway API types `Group`, `Kind` and `Namespace` demand, of any reference to an object.
#[derive(Clone, Copy)]
pub(super) struct Reference<'a> {
    pub(super) group: &'a str,
    pub(super) kind: &'a str,
    pub(super) namespace: Option<&'a str>,
}

impl Reference<'_> {
    /// `at` is the reference itself.
    pub(super) fn check(self, at: &str, faults: &mut Faults) {
        let Self { group, kind, namespace } = self;
        if !group.is_empty() && !is_dns_subdomain(group) {
            faults.error_with_help(
                format!("{at}/group"),
                format!("`{group}` cannot be a group"),
                "write a DNS name such as gateway.networking.k8s.io, or \"\" for the core group",
            );
        }
        if !is_kind(kind) {
            faults.error_with_help(
                format!("{at}/kind"),
                format!("`{kind}` cannot be a kind"),
                "begin with a letter; letters, digits and `-` may follow",
            );
        }
        if let Some(namespace) = namespace.filter(|namespace| !is_dns_label(namespace)) {
            faults.error_with_help(
                format!("{at}/namespace"),
                format!("`{namespace}` cannot be a namespace"),
                "use at most 63 lower case letters, digits and `-`",
            );
        }
    }
}

fn is_kind(kind: &str) -> bool {
    kind.starts_with(|c: char| c.is_ascii_alphabetic())
        && !kind.ends_with('-')
        && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// `+listType=set`, or `+listType=map` with the keys alone: nothing is in the list twice. `field` leads from an item to
/// its key.
pub(super) fn check_distinct<T: Hash + Eq + std::fmt::Display>(
    at: &str,
    keys: impl IntoIterator<Item = T>,
    field: &str,
    faults: &mut Faults,
) {
    let mut seen = HashSet::new();
    for (i, key) in keys.into_iter().enumerate() {
        let message = format!("`{key}` is written twice");
        if !seen.insert(key) {
            faults.error(format!("{at}/{i}{field}"), message);
        }
    }
}

/// Gateway API `SectionName`: of listeners and route rules.
pub(super) fn check_section_name(pointer: &str, name: &str, faults: &mut Faults) {
    if !is_dns_subdomain(name) {
        faults.error_with_help(
            pointer,
            format!("`{name}` cannot be a name"),
            "use lower case letters, digits, `-` and `.`",
        );
    }
}

/// As a token of a JSON pointer (RFC 6901).
pub(super) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
