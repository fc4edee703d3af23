//! Checks of single values that several kinds share.

use std::net::IpAddr;

use super::Faults;
use crate::model::HostPattern;

/// RFC 1123 subdomain: what Kubernetes takes as a name.
pub(crate) fn is_dns_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dns_label)
}

/// RFC 1123 label: what Kubernetes takes as a namespace.
pub(crate) fn is_dns_label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&label.len())
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

pub(super) fn check_hostname(pointer: &str, hostname: &str, faults: &mut Faults) {
    if hostname.parse::<IpAddr>().is_ok() {
        faults.error(pointer, format!("`{hostname}` is an IP address: a hostname must be a DNS name"));
    } else if let Err(invalid) = HostPattern::parse(hostname) {
        faults.error(pointer, invalid.to_string());
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
