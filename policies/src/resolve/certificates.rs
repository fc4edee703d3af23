//! Secrets -> the certificates of HTTPS listeners.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::grants::Referrer;
use super::objects::Objects;
use crate::model::{Certificate, PrivateKey, ResourceName};
use crate::objects::{CertificateRef, Gateway, ListenerSpec, Secret, TLS_SECRET};

/// Labels of PEM blocks that hold a private key (RFC 5958, RFC 8017, RFC 5915).
const KEY_LABELS: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];

/// Why a certificateRef cannot be used: the reason of `ResolvedRefs`, and a message without anything secret in it.
pub(super) type Invalid = (&'static str, String);

/// The certificates of a listener that can be used, and what is wrong with the others. None for an HTTP listener.
pub(super) fn of_listener(
    objects: &Objects<'_>,
    gateway: &Gateway,
    listener: &ListenerSpec,
) -> (Vec<Certificate>, Vec<Invalid>) {
    let refs = listener.tls.as_ref().map_or(&[][..], |tls| tls.certificate_refs.as_slice());
    let (mut usable, mut invalid) = (Vec::new(), Vec::new());
    for reference in refs {
        match certificate(objects, gateway, reference) {
            Ok(certificate) => usable.push(certificate),
            Err(why) => invalid.push(why),
        }
    }
    (usable, invalid)
}

fn certificate(
    objects: &Objects<'_>,
    gateway: &Gateway,
    reference: &CertificateRef,
) -> Result<Certificate, Invalid> {
    let invalid = |message| ("InvalidCertificateRef", message);
    if !reference.group.is_empty() || reference.kind != "Secret" {
        return Err(invalid(format!("a {} cannot hold a certificate; use a Secret", reference.kind)));
    }
    let own = &gateway.meta.name.namespace;
    let namespace = reference.namespace.as_deref().unwrap_or(own);
    let name = ResourceName::new(namespace, reference.name.as_str());
    let from = Referrer { kind: "Gateway", namespace: own };
    if !objects.grants.permit(from, ("", "Secret"), &name) {
        let message =
            format!("no ReferenceGrant in namespace `{namespace}` allows Secret {name} to this Gateway");
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
    let labels = blocks(&chain).map_err(|why| format!("has a `tls.crt` that {why}"))?;
    if labels.is_empty() || labels.iter().any(|label| label != "CERTIFICATE") {
        return Err(String::from("has a `tls.crt` that is not a chain of PEM certificates"));
    }
    let labels = blocks(&key).map_err(|why| format!("has a `tls.key` that {why}"))?;
    if labels.iter().filter(|label| KEY_LABELS.contains(&label.as_str())).count() != 1 {
        return Err(String::from("has a `tls.key` that is not one PEM private key"));
    }
    Ok(Certificate { secret: secret.meta.name.clone(), chain: chain.into(), key: PrivateKey::new(key) })
}

/// The labels of the PEM blocks in `bytes` (RFC 7468), each with a body that is base64.
fn blocks(bytes: &[u8]) -> Result<Vec<String>, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "is not text")?;
    let (mut labels, mut open) = (Vec::new(), None::<(String, String)>);
    for line in text.lines().map(str::trim) {
        let boundary = |word: &str| line.strip_prefix(word)?.strip_suffix("-----").map(str::to_owned);
        match (&mut open, boundary("-----BEGIN "), boundary("-----END ")) {
            (None, Some(label), _) => open = Some((label, String::new())),
            (Some((label, body)), None, Some(end)) if *label == end => {
                STANDARD.decode(&*body).map_err(|_| "has a PEM block that is not base64")?;
                labels.push(end);
                open = None;
            }
            (_, Some(_), _) | (_, _, Some(_)) => return Err("has a PEM block without its other end"),
            (Some((_, body)), None, None) => body.push_str(line),
            // Text around the blocks is explanation.
            (None, None, None) => {}
        }
    }
    if open.is_some() { Err("has a PEM block without its other end") } else { Ok(labels) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: &str = "text before\n-----BEGIN CERTIFICATE-----\nAAAA\nBBBB\n-----END CERTIFICATE-----\n";

    #[test]
    fn pem_is_read_block_by_block_with_text_around() {
        assert_eq!(blocks(CHAIN.as_bytes()), Ok(vec![String::from("CERTIFICATE")]));
        let two = format!("{CHAIN}\r\n{CHAIN}");
        assert_eq!(blocks(two.as_bytes()).map(|labels| labels.len()), Ok(2));
        assert_eq!(blocks(b""), Ok(Vec::new()));
    }

    #[test]
    fn pem_that_is_cut_or_not_base64_is_told_apart() {
        assert_eq!(blocks(&CHAIN.as_bytes()[..60]), Err("has a PEM block without its other end"));
        assert_eq!(blocks(b"-----END CERTIFICATE-----"), Err("has a PEM block without its other end"));
        let odd = CHAIN.replace("BBBB", "B?BB");
        assert_eq!(blocks(odd.as_bytes()), Err("has a PEM block that is not base64"));
        assert_eq!(blocks(&[0xff, 0xfe]), Err("is not text"));
    }
}
