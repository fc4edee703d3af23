//! What the CRD's rules say about a BackendTLSPolicy and a JSON schema cannot.

use super::super::rules::{Reference, check_hostname, check_section_name, escaped};
use super::super::{Faults, Object, Spec, Written};
use super::{
    BackendTlsPolicySpec, BackendTlsValidation, LocalObjectRef, LocalTargetRef, SubjectAltName,
    SubjectAltNameType,
};
use crate::objects::is_dns_subdomain;

const MAX_OPTIONS: usize = 16;
const MAX_OPTION_CHARACTERS: usize = 4096;
const SYSTEM: &str = "System";

impl Spec for BackendTlsPolicySpec {
    fn check(object: &Written<Self>, faults: &mut Faults) {
        let Self { target_refs, validation, options } = &object.spec;
        check_targets(target_refs, faults);
        check_validation(validation, faults);
        if options.len() > MAX_OPTIONS {
            let message = format!("{} options; at most {MAX_OPTIONS} are allowed", options.len());
            faults.error("/options", message);
        }
        for (name, value) in options {
            let length = value.chars().count();
            if length > MAX_OPTION_CHARACTERS {
                let message = format!("at most {MAX_OPTION_CHARACTERS} characters are allowed, has {length}");
                faults.error(format!("/options/{}", escaped(name)), message);
            }
            faults.warn(
                format!("/options/{}", escaped(name)),
                "is not an option of Tidegate: it changes nothing",
            );
        }
    }

    fn wrap(object: Written<Self>) -> Object {
        Object::BackendTlsPolicy(Box::new(object))
    }
}

/// Targets must be distinct; of one object, either the whole or its sections.
fn check_targets(targets: &[LocalTargetRef], faults: &mut Faults) {
    for (i, target) in targets.iter().enumerate() {
        let at = format!("/targetRefs/{i}");
        Reference { group: &target.group, kind: &target.kind, namespace: None }.check(&at, faults);
        if !target.section_name.is_empty() {
            check_section_name(&format!("{at}/sectionName"), &target.section_name, faults);
        }
        let same = |other: &&LocalTargetRef| {
            (&other.group, &other.kind, &other.name) == (&target.group, &target.kind, &target.name)
        };
        let LocalTargetRef { kind, name, section_name, .. } = target;
        for other in targets[..i].iter().filter(same) {
            if other.section_name == *section_name {
                faults.error(&at, format!("{kind} `{name}` is written twice"));
            } else if other.section_name.is_empty() || section_name.is_empty() {
                faults.error(
                    &at,
                    format!("{kind} `{name}` is written more than once: give each a `sectionName`"),
                );
            }
        }
    }
}

fn check_validation(validation: &BackendTlsValidation, faults: &mut Faults) {
    let well_known = &validation.well_known_ca_certificates;
    let at = "/validation";
    match (validation.ca_certificate_refs.is_empty(), well_known.is_empty()) {
        (true, true) => faults.error(at, "needs `caCertificateRefs` or `wellKnownCACertificates`"),
        (false, false) => {
            let message = "cannot be combined with `caCertificateRefs`";
            faults.error(format!("{at}/wellKnownCACertificates"), message);
        }
        _ => {}
    }
    if !well_known.is_empty() && !is_well_known(well_known) {
        faults.error_with_help(
            format!("{at}/wellKnownCACertificates"),
            format!("`{well_known}` is not a set of certificates"),
            format!("write {SYSTEM}; another implementation's sets have names such as `example.com/name`"),
        );
    }
    check_name(&format!("{at}/hostname"), &validation.hostname, faults);
    if validation.hostname.starts_with("*.") {
        faults.error(format!("{at}/hostname"), "must be one name, not a wildcard");
    }
    for (i, LocalObjectRef { group, kind, .. }) in validation.ca_certificate_refs.iter().enumerate() {
        Reference { group, kind, namespace: None }.check(&format!("{at}/caCertificateRefs/{i}"), faults);
    }
    for (i, name) in validation.subject_alt_names.iter().enumerate() {
        check_alt_name(&format!("{at}/subjectAltNames/{i}"), name, faults);
    }
}

/// `System`, or a name with a domain before it.
fn is_well_known(name: &str) -> bool {
    let of_domain = |(domain, rest): (&str, &str)| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        is_dns_subdomain(domain)
            && (1..=63).contains(&rest.len())
            && rest.bytes().all(inner)
            && edge(rest.bytes().next())
            && edge(rest.bytes().last())
    };
    name == SYSTEM || name.split_once('/').is_some_and(of_domain)
}

fn check_name(at: &str, name: &str, faults: &mut Faults) {
    if !name.is_empty() {
        check_hostname(at, name, faults);
    }
}

fn check_alt_name(at: &str, name: &SubjectAltName, faults: &mut Faults) {
    let (hostname, uri) = (&name.hostname, &name.uri);
    match name.kind {
        SubjectAltNameType::Hostname if hostname.is_empty() => {
            faults.error(at, "type Hostname needs a `hostname`");
        }
        SubjectAltNameType::Uri if uri.is_empty() => faults.error(at, "type URI needs a `uri`"),
        SubjectAltNameType::Hostname if !uri.is_empty() => {
            faults.error(format!("{at}/uri"), "only type URI has a `uri`");
        }
        SubjectAltNameType::Uri if !hostname.is_empty() => {
            faults.error(format!("{at}/hostname"), "only type Hostname has a `hostname`");
        }
        SubjectAltNameType::Hostname => check_name(&format!("{at}/hostname"), hostname, faults),
        SubjectAltNameType::Uri if !is_absolute(uri) => faults.error_with_help(
            format!("{at}/uri"),
            format!("`{uri}` is not an absolute URI"),
            "begin with the scheme and `//`, as in spiffe://example.com/service",
        ),
        SubjectAltNameType::Uri => {}
    }
}

/// As the CRD's pattern has it: a scheme, then `//`.
fn is_absolute(uri: &str) -> bool {
    uri.split_once("://")
        .is_some_and(|(scheme, _)| !scheme.is_empty() && !scheme.contains(['/', '?', '#', ':']))
}
