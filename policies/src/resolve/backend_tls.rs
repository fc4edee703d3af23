//! BackendTLSPolicies: which of them holds where, and how its endpoints prove who they are.
//!
//! A policy that holds and cannot be carried out still makes calls go by TLS, to fail: what somebody wanted protected is
//! never sent in the clear because of a missing object.

mod standing;

use std::collections::BTreeMap;

use super::bundles::{self, Invalid};
use super::objects::Objects;
use crate::model::{
    AltName, BACKEND_TLS_POLICY, BackendKind, BackendTls, HostPattern, PolicyRef, ResourceName, Trust,
    Verification,
};
use crate::objects::{
    BackendTlsPolicy, BackendTlsValidation, LocalTargetRef, SubjectAltName, SubjectAltNameType,
    TIDEGATE_GROUP,
};

pub(super) use standing::tell;

const SYSTEM: &str = "System";

/// Reason and message.
type Fault = (&'static str, String);

/// A Service or Backend, and the name of its port; empty: the whole.
type Target = (BackendKind, ResourceName, String);

/// All of them, with who won.
#[derive(Debug, Default)]
pub(super) struct TlsPolicies<'a> {
    holders: BTreeMap<Target, &'a BackendTlsPolicy>,
    judged: BTreeMap<&'a ResourceName, Judged>,
}

/// One policy by itself.
#[derive(Debug)]
struct Judged {
    tls: BackendTls,
    /// What is wrong with its references.
    refs: Vec<Fault>,
    /// Why it is not accepted.
    refused: Option<Fault>,
}

impl<'a> TlsPolicies<'a> {
    /// Of several on one target the older holds, then the first by name.
    pub(super) fn find(objects: &Objects<'a>) -> Self {
        let mut found = Self::default();
        let mut policies: Vec<_> = objects.tls_policies.values().copied().collect();
        policies.sort_by(|a, b| a.meta.precedence().cmp(&b.meta.precedence()));
        for policy in policies {
            found.judged.insert(&policy.meta.name, judge(objects, policy));
            for written in &policy.spec.target_refs {
                if let Some(target) = target(policy, written) {
                    found.holders.entry(target).or_insert(policy);
                }
            }
        }
        found
    }

    /// How a port is called; `None`: without TLS. What was written for the port itself goes before what was written
    /// for the whole Service.
    pub(super) fn of_port(
        &self,
        kind: BackendKind,
        object: &ResourceName,
        port: &str,
    ) -> Option<&BackendTls> {
        let holder = |section: &str| self.holders.get(&(kind, object.clone(), section.to_owned()));
        let holder = holder(port).or_else(|| holder(""))?;
        self.judged.get(&holder.meta.name).map(|judged| &judged.tls)
    }
}

/// `None`: of a kind that is not called.
fn target(policy: &BackendTlsPolicy, written: &LocalTargetRef) -> Option<Target> {
    let kind = match (written.group.as_str(), written.kind.as_str()) {
        ("", "Service") => BackendKind::Service,
        (TIDEGATE_GROUP, "Backend") => BackendKind::Backend,
        _ => return None,
    };
    let object = ResourceName::new(policy.meta.name.namespace.clone(), written.name.as_str());
    Some((kind, object, written.section_name.clone()))
}

fn judge(objects: &Objects<'_>, policy: &BackendTlsPolicy) -> Judged {
    let validation = &policy.spec.validation;
    let mut refs = Vec::new();
    let bundle = bundle(objects, policy, &mut refs);
    let source = &policy.meta.source;
    let refused = match validation.well_known_ca_certificates.as_str() {
        "" if bundle.is_empty() => {
            let message = format!("{source}: no caCertificateRef can be used: every call fails");
            Some(("NoValidCACertificate", message))
        }
        "" | SYSTEM => None,
        other => {
            let message =
                format!("{source}: the CA certificates `{other}` are not known here, only `{SYSTEM}`");
            Some(("Invalid", message))
        }
    };
    let trust = match &refused {
        Some(_) => None,
        None if bundle.is_empty() => Some(Trust::System),
        None => Some(Trust::Bundle(bundle.into())),
    };
    let reference =
        PolicyRef { kind: BACKEND_TLS_POLICY.into(), name: policy.meta.name.clone(), source: source.clone() };
    Judged {
        tls: BackendTls { policy: reference, verification: verification(validation, trust) },
        refs,
        refused,
    }
}

/// The CA certificates of all references that lead somewhere.
fn bundle(objects: &Objects<'_>, policy: &BackendTlsPolicy, refs: &mut Vec<Fault>) -> Vec<u8> {
    let mut bundle = Vec::new();
    for (at, reference) in policy.spec.validation.ca_certificate_refs.iter().enumerate() {
        let name = ResourceName::new(policy.meta.name.namespace.clone(), reference.name.as_str());
        let (reason, why) = match bundles::find(objects, (&reference.group, &reference.kind), &name) {
            Ok(pem) => {
                bundle.extend(pem);
                continue;
            }
            Err(Invalid::Kind(why)) => ("InvalidKind", why),
            Err(Invalid::Object(why)) => ("InvalidCACertificateRef", why),
        };
        let line = policy.lines.line(&format!("/validation/caCertificateRefs/{at}"));
        refs.push((reason, format!("{}: {why}", policy.meta.at(line))));
    }
    bundle
}

fn verification(validation: &BackendTlsValidation, trust: Option<Trust>) -> Verification {
    let alt_names: Option<Vec<_>> = validation.subject_alt_names.iter().map(alt_name).collect();
    Verification {
        // The check of documents lets no other name pass; what it is to be verified by cannot be left out.
        trust: trust.filter(|_| alt_names.is_some()),
        hostname: validation.hostname.as_str().into(),
        alt_names: alt_names.unwrap_or_default(),
    }
}

fn alt_name(written: &SubjectAltName) -> Option<AltName> {
    Some(match written.kind {
        SubjectAltNameType::Uri => AltName::Uri(written.uri.as_str().into()),
        SubjectAltNameType::Hostname => match HostPattern::parse(&written.hostname).ok()? {
            HostPattern::Any => return None,
            name => AltName::Dns(name),
        },
    })
}
