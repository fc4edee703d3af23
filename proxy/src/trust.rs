//! CA certificates, as configuration carries them, for whoever verifies.

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// All of a bundle, or none of it: an author who is told can mend it, one who is not believes that all are trusted.
///
/// # Errors
/// What is wrong with the bundle.
pub(crate) fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("the CA bundle cannot be read: {error}"))?;
        let added = roots.add(certificate);
        added.map_err(|error| format!("a certificate of the CA bundle cannot be used: {error}"))?;
    }
    if roots.is_empty() { Err(String::from("the CA bundle is empty")) } else { Ok(roots) }
}
