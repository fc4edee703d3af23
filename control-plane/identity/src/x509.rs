//! The few fields of certificates that somebody has to know beside their verification, which is webpki's affair.

use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::parse_x509_certificate;

/// What is said by a certificate of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    pub(crate) is_authority: bool,
    /// Whether it names itself as its issuer.
    pub(crate) is_root: bool,
    /// In hexadecimal.
    pub(crate) serial: String,
}

/// `None`: it cannot be read.
pub(crate) fn fields(certificate: &CertificateDer<'_>) -> Option<Fields> {
    let (rest, parsed) = parse_x509_certificate(certificate).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let validity = parsed.validity();
    Some(Fields {
        not_before: time(validity.not_before.timestamp()),
        not_after: time(validity.not_after.timestamp()),
        is_authority: parsed.is_ca(),
        is_root: parsed.subject() == parsed.issuer(),
        serial: data_encoding::HEXLOWER.encode(parsed.raw_serial()),
    })
}

/// Seconds since the epoch. No certificate of ours is from before it.
fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0))
}

/// All certificates of a PEM.
///
/// # Errors
/// There is none, or one that cannot be read.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err("there is no PEM certificate"),
        Err(_) => Err("the PEM cannot be read"),
    }
}

pub(crate) fn to_pem(certificate: &CertificateDer<'_>) -> String {
    let text = data_encoding::BASE64.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = &*text;
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem + "-----END CERTIFICATE-----\n"
}
