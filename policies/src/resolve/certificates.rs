//! Secrets -> the certificates of HTTPS listeners.

use super::grants::Referrer;
use super::objects::Objects;
use super::pem::{self, Block};
use crate::model::{Certificate, PrivateKey, ResourceName};
use crate::objects::{CertificateRef, ListenerSpec, Secret, TLS_SECRET};

/// Labels of PEM blocks that hold a private key (RFC 5958, RFC 8017, RFC 5915).
const KEY_LABELS: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];

/// Why a certificateRef cannot be used: the reason of `ResolvedRefs`, and a message without anything secret in it.
pub(super) type Invalid = (&'static str, String);

/// The certificates of a listener that can be used, and what is wrong with the others. None for an HTTP listener.
pub(super) fn of_listener(
    objects: &Objects<'_>,
    from: Referrer<'_>,
    listener: &ListenerSpec,
) -> (Vec<Certificate>, Vec<Invalid>) {
    let refs = listener.tls.as_ref().map_or(&[][..], |tls| tls.certificate_refs.as_slice());
    let (mut usable, mut invalid) = (Vec::new(), Vec::new());
    for reference in refs {
        match certificate(objects, from, reference) {
            Ok(certificate) => usable.push(certificate),
            Err(why) => invalid.push(why),
        }
    }
    (usable, invalid)
}

pub(super) fn certificate(
    objects: &Objects<'_>,
    from: Referrer<'_>,
    reference: &CertificateRef,
) -> Result<Certificate, Invalid> {
    let invalid = |message| ("InvalidCertificateRef", message);
    if !reference.group.is_empty() || reference.kind != "Secret" {
        return Err(invalid(format!("a {} cannot hold a certificate; use a Secret", reference.kind)));
    }
    let namespace = reference.namespace.as_deref().unwrap_or(from.namespace);
    let name = ResourceName::new(namespace, reference.name.as_str());
    if !objects.grants.permit(from, ("", "Secret"), &name) {
        let message = format!(
            "no ReferenceGrant in namespace `{namespace}` allows Secret {name} to this {}",
            from.kind
        );
        return Err(("RefNotPermitted", message));
    }
    let secret = objects.secrets.get(&name);
    let secret = secret.ok_or_else(|| invalid(format!("there is no Secret {name}")))?;
    read(secret).map_err(|why| invalid(format!("Secret {name} {why}")))
}

fn read(secret: &Secret) -> Result<Certificate, String> {
    let spec = &secret.spec;
    if spec.kind != TLS_SECRET {
        return Err(format!("is of type {}, not {TLS_SECRET}", spec.kind));
    }
    let field = |key: &str| spec.get(key).ok_or_else(|| format!("has no `{key}`"));
    let (chain, key) = (field("tls.crt")?, field("tls.key")?);
    let blocks = pem::blocks(&chain).map_err(|why| format!("has a `tls.crt` that {why}"))?;
    if blocks.is_empty() || blocks.iter().any(|block| block.label != "CERTIFICATE") {
        return Err(String::from("has a `tls.crt` that is not a chain of PEM certificates"));
    }
    let blocks = pem::blocks(&key).map_err(|why| format!("has a `tls.key` that {why}"))?;
    let is_key = |block: &&Block| KEY_LABELS.contains(&block.label.as_str());
    if blocks.iter().filter(is_key).count() != 1 {
        return Err(String::from("has a `tls.key` that is not one PEM private key"));
    }
    Ok(Certificate { secret: secret.meta.name.clone(), chain: chain.into(), key: PrivateKey::new(key) })
}
