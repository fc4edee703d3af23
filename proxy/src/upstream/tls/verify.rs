//! Certificates that are judged by other names than the one that is asked for (GEP-1897, `subjectAltNames`).
//!
//! Only which names count is ours. Chain, validity, usage and signatures are webpki's affair, as everywhere.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tidegate_policy::model::{AltName, HostPattern};
use webpki::EndEntityCert;

/// One of the names must be among the certificate's subjectAltNames.
#[derive(Debug)]
pub(super) struct AltNameVerifier {
    roots: Arc<RootCertStore>,
    names: Vec<AltName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl AltNameVerifier {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        names: Vec<AltName>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self { roots, names, algorithms }
    }
}

impl ServerCertVerifier for AltNameVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _asked_for: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        let names = EndEntityCert::try_from(end_entity)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if self.names.iter().any(|name| has_name(&certificate, &names, name)) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::NotValidForName))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn has_name(certificate: &ParsedCertificate<'_>, names: &EndEntityCert<'_>, wanted: &AltName) -> bool {
    match wanted {
        AltName::Uri(uri) => names.valid_uri_names().any(|name| *name == **uri),
        AltName::Dns(HostPattern::Exact(name)) => {
            ServerName::try_from(&**name).is_ok_and(|name| verify_server_name(certificate, &name).is_ok())
        }
        AltName::Dns(HostPattern::Suffix(suffix)) => {
            names.valid_dns_names().any(|name| is_below(&name.to_ascii_lowercase(), suffix))
        }
        AltName::Dns(HostPattern::Any) => false,
    }
}

/// A wildcard stands for one label (RFC 9525, 6.3), of a name in the certificate or of a wildcard there.
fn is_below(name: &str, suffix: &str) -> bool {
    name.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == suffix)
}
