//! TLS of a Gateway as a whole: how its clients are judged, and what it shows to backends.

use super::certificates::{self, Invalid};
use super::objects::Objects;
use super::owner::Owner;
use super::{Condition, bundles};
use crate::model::{Certificate, ClientMode, ClientValidation, ResourceName};
use crate::objects::{
    FrontendValidation, FrontendValidationMode, Gateway, ListenerProtocol, ListenerSpec, ObjectRef,
};

/// How the clients of a listener are judged.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// `None`: not at all.
    pub(super) validation: Option<ClientValidation>,
    /// What is wrong with its caCertificateRefs.
    pub(super) invalid: Vec<Invalid>,
    /// There are caCertificateRefs, and none that can be used.
    pub(super) nobody_to_trust: bool,
}

pub(super) fn of_listener(objects: &Objects<'_>, gateway: &Gateway, listener: &ListenerSpec) -> Clients {
    let frontend = gateway.spec.tls.frontend.as_ref();
    let frontend = frontend.filter(|_| listener.protocol == ListenerProtocol::Https);
    let Some(written) = frontend.and_then(|frontend| frontend.on_port(listener.port)) else {
        return Clients::default();
    };
    let (mut bundle, mut invalid) = (Vec::new(), Vec::new());
    for reference in &written.ca_certificate_refs {
        match bundle_of(objects, gateway, reference) {
            Ok(pem) => bundle.extend(pem),
            Err(why) => invalid.push(why),
        }
    }
    let nobody_to_trust = bundle.is_empty();
    let validation = ClientValidation { bundle: bundle.into(), mode: mode(written) };
    Clients { validation: (!nobody_to_trust).then_some(validation), invalid, nobody_to_trust }
}

fn mode(written: &FrontendValidation) -> ClientMode {
    match written.mode {
        FrontendValidationMode::AllowValidOnly => ClientMode::ValidOnly,
        FrontendValidationMode::AllowInsecureFallback => ClientMode::InsecureFallback,
    }
}

fn bundle_of(objects: &Objects<'_>, gateway: &Gateway, reference: &ObjectRef) -> Result<Vec<u8>, Invalid> {
    let from = Owner::of_gateway(gateway).referrer();
    let namespace = reference.namespace.as_deref().unwrap_or(from.namespace);
    let name = ResourceName::new(namespace, reference.name.as_str());
    let kind = (reference.group.as_str(), reference.kind.as_str());
    if !objects.grants.permit(from, kind, &name) {
        let message = format!(
            "no ReferenceGrant in namespace `{namespace}` allows {} {name} to this Gateway",
            reference.kind
        );
        return Err(("RefNotPermitted", message));
    }
    bundles::find(objects, kind, &name).map_err(|why| match why {
        bundles::Invalid::Kind(message) => ("InvalidCACertificateKind", message),
        bundles::Invalid::Object(message) => ("InvalidCACertificateRef", message),
    })
}

/// What the Gateway shows to backends. Where the reference cannot be used it shows nothing: a backend that insists
/// refuses us, and one that does not was never promised anything.
pub(super) fn client_certificate(
    objects: &Objects<'_>,
    gateway: &Gateway,
) -> Option<Result<Certificate, Invalid>> {
    let reference = gateway.spec.tls.backend.as_ref()?.client_certificate_ref.as_ref()?;
    let found = certificates::certificate(objects, Owner::of_gateway(gateway).referrer(), reference);
    Some(found.map_err(|(reason, message)| match reason {
        "RefNotPermitted" => (reason, message),
        _ => ("InvalidClientCertificateRef", message),
    }))
}

/// What is said of it on the Gateway itself.
pub(super) fn conditions(gateway: &Gateway, shown: Option<&Result<Certificate, Invalid>>) -> Vec<Condition> {
    let mut told = Vec::new();
    match shown {
        Some(Err((reason, why))) => {
            let message = format!("{}: tls.backend.clientCertificateRef: {why}", gateway.meta.source);
            told.push(Condition::fails("ResolvedRefs", reason, message));
        }
        Some(Ok(_)) => told.push(Condition::holds("ResolvedRefs", "ResolvedRefs", "")),
        None => {}
    }
    let frontend = gateway.spec.tls.frontend.iter();
    let configs =
        frontend.flat_map(|f| std::iter::once(&f.default).chain(f.per_port.iter().map(|port| &port.tls)));
    let mut validations = configs.filter_map(|config| config.validation.as_ref());
    if validations.any(|validation| validation.mode == FrontendValidationMode::AllowInsecureFallback) {
        let message = format!(
            "{}: tls.frontend: with AllowInsecureFallback, clients need no valid certificate",
            gateway.meta.source
        );
        told.push(Condition::holds("InsecureFrontendValidationMode", "ConfigurationChanged", message));
    }
    told
}
