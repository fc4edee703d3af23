//! Certificate signing requests (PKCS #10, RFC 2986) of whoever asks: only the key in one counts, and that its owner
//! has the other half. What else it asks for is not looked at.

use rcgen::{CertificateSigningRequestParams, PKCS_ECDSA_P256_SHA256, PublicKey, PublicKeyData as _};

use crate::authority::IssueError;

/// One with a key of 256 bits has less than 1 KB.
const MAX_BYTES: usize = 16 * 1024;
/// An uncompressed point of P-256 (SEC 1, section 2.3.3).
const P256_POINT: usize = 65;

/// # Errors
/// It cannot be read, is not signed by its own key, or the key is of another kind than ECDSA P-256.
pub(crate) fn public_key(pem: &str) -> Result<PublicKey, IssueError> {
    if pem.len() > MAX_BYTES {
        return Err(IssueError::TooLarge);
    }
    let read = CertificateSigningRequestParams::from_pem(pem).map_err(|error| match error {
        rcgen::Error::InvalidCertificationRequestSignature => IssueError::BadSignature,
        rcgen::Error::UnsupportedSignatureAlgorithm => IssueError::KeyKind,
        error => IssueError::Unreadable(error.to_string()),
    })?;
    let key = read.public_key;
    // The algorithm is that of the signature: a key of another curve could have made it.
    let fits = *key.algorithm() == PKCS_ECDSA_P256_SHA256 && key.der_bytes().len() == P256_POINT;
    if fits { Ok(key) } else { Err(IssueError::KeyKind) }
}
