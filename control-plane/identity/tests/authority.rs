//! What the authority promises: nobody gets a name that he was not authenticated for, and nothing is trusted, or signed,
//! for longer than is written.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its set-up too")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rcgen::{
    CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SanType,
};
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use tidegate_identity::material::{CA_KEY, ROOT_CERT, ROTATION};
use tidegate_identity::request::KeyRequest;
use tidegate_identity::{
    Authority, Credentials, Held, IssueError, Lifetimes, Material, MaterialError, SpiffeId, TrustDomain,
};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn domain() -> TrustDomain {
    "cluster.local".parse().unwrap()
}

fn cart() -> SpiffeId {
    SpiffeId::new(domain(), "shop", "cart").unwrap()
}

fn authority() -> Authority {
    Authority::read(&Material::generate(&domain(), start()).unwrap(), Lifetimes::default()).unwrap()
}

#[derive(Debug)]
struct At(SystemTime);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0.duration_since(SystemTime::UNIX_EPOCH).ok()?))
    }
}

fn held(now: SystemTime) -> Held {
    Held::with_clock(domain(), Arc::new(At(now)))
}

/// Asks, and reads the answer as a proxy does at `now`.
fn ask(authority: &Authority, at: SystemTime, read_at: SystemTime) -> Result<Credentials, String> {
    let request = KeyRequest::new().unwrap();
    let issued = authority.issue(&request.csr, &cart(), Duration::ZERO, at).map_err(|e| e.to_string())?;
    Credentials::read(&issued.chain, &issued.bundle, request.key(), &held(read_at)).map_err(|e| e.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nobody_gets_a_name_that_he_was_not_authenticated_for(
        names in prop::collection::vec("(spiffe://cluster[.]local/ns/shop/sa/[a-z]{1,5}|[a-z]{1,5}\\.example)", 0..4),
        subject in "[a-z]{0,8}",
        is_ca in any::<bool>(),
    ) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, subject);
        let san = |name: &String| match name.contains("://") {
            true => SanType::URI(name.as_str().try_into().unwrap()),
            false => SanType::DnsName(name.as_str().try_into().unwrap()),
        };
        params.subject_alt_names = names.iter().map(san).collect();
        if is_ca {
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        }
        let csr = params.serialize_request(&key).unwrap().pem().unwrap();
        let issued = authority().issue(&csr, &cart(), Duration::ZERO, start()).unwrap();
        let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let credentials = Credentials::read(&issued.chain, &issued.bundle, key, &held(start())).unwrap();
        prop_assert_eq!(credentials.id, cart());
        let der = pem(&issued.chain[0]);
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
        prop_assert!(!certificate.is_ca());
        prop_assert_eq!(certificate.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
        prop_assert_eq!(certificate.subject().iter().count(), 0);
    }

    #[test]
    fn a_lifetime_is_within_its_bounds_whatever_is_asked(asked in 0..u64::from(u32::MAX)) {
        let lifetimes = Lifetimes { usual: HOUR, most: DAY };
        let material = Material::generate(&domain(), start()).unwrap();
        let authority = Authority::read(&material, lifetimes).unwrap();
        let request = KeyRequest::new().unwrap();
        let issued = authority.issue(&request.csr, &cart(), Duration::from_secs(asked), start()).unwrap();
        let lasts = issued.not_after.duration_since(start()).unwrap();
        prop_assert!(lasts >= Lifetimes::LEAST && lasts <= DAY);
        prop_assert!(asked != 0 || lasts == HOUR);
    }

    /// A rotation with any overlap, looked at any two moments: what was signed at the first is trusted by whoever heard of
    /// the roots then or at the second, for as long as it holds.
    #[test]
    fn whoever_renews_in_time_trusts_everybody_who_does(
        overlap in 24_u64..96, first in 0_u64..300, later in 0_u64..24,
    ) {
        let old = Material::generate(&domain(), start()).unwrap();
        let rotated = old.rotate(&domain(), start() + HOUR, HOUR * u32::try_from(overlap).unwrap()).unwrap();
        let authority = Authority::read(&rotated, Lifetimes::default()).unwrap();
        let at = start() + HOUR * u32::try_from(first).unwrap();
        let then = at + HOUR * u32::try_from(later).unwrap();
        let (one, two) = (KeyRequest::new().unwrap(), KeyRequest::new().unwrap());
        let issue = |request: &KeyRequest, at| authority.issue(&request.csr, &cart(), Duration::ZERO, at).unwrap();
        let (earlier, later) = (issue(&one, at), issue(&two, then));
        prop_assume!(then < earlier.not_after);
        for (chain, key, bundle) in [
            (&earlier.chain, one.key(), &later.bundle),
            (&later.chain, two.key(), &earlier.bundle),
        ] {
            // As its peer would: by the roots that the other one was told.
            let read = Credentials::read(chain, bundle, key, &held(then));
            prop_assert!(read.is_ok(), "{:?}", read.err());
        }
    }
}

fn pem(text: &str) -> Vec<u8> {
    use rustls_pki_types::pem::PemObject;
    rustls_pki_types::CertificateDer::from_pem_slice(text.as_bytes()).unwrap().to_vec()
}

fn csr(key: &KeyPair) -> String {
    CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
}

fn refused(csr: &str) -> IssueError {
    authority().issue(csr, &cart(), Duration::ZERO, start()).unwrap_err()
}

#[test]
fn a_request_that_is_no_request_is_refused() {
    for text in
        ["", "hello", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"]
    {
        assert!(matches!(refused(text), IssueError::Unreadable(_)), "{text}");
    }
    assert_eq!(refused(&"a".repeat(1 << 20)), IssueError::TooLarge);
    let root = Material::generate(&domain(), start()).unwrap().0[ROOT_CERT].clone();
    assert!(matches!(refused(&String::from_utf8(root).unwrap()), IssueError::Unreadable(_)));
}

#[test]
fn a_request_whose_signature_is_of_another_key_is_refused() {
    let (one, two) = (csr(&KeyPair::generate().unwrap()), csr(&KeyPair::generate().unwrap()));
    let (mut one, two) = (decode(&one), decode(&two));
    // The last bytes are the signature; whole ones only fit where both have the same length.
    let at = one.len() - 20;
    one[at..].copy_from_slice(&two[two.len() - 20..]);
    assert_eq!(refused(&encode(&one)), IssueError::BadSignature);
}

fn decode(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    data_encoding::BASE64.decode(body.as_bytes()).unwrap()
}

fn encode(der: &[u8]) -> String {
    let body = data_encoding::BASE64.encode(der);
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
}

#[test]
fn only_one_kind_of_key_is_signed() {
    assert!(
        authority()
            .issue(&csr(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()), &cart(), HOUR, start())
            .is_ok()
    );
    for kind in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        assert_eq!(refused(&csr(&KeyPair::generate_for(kind).unwrap())), IssueError::KeyKind);
    }
}

#[test]
fn clocks_may_be_wrong_by_minutes() {
    for behind in [0, 60, 290] {
        let read = ask(&authority(), start(), start() - Duration::from_secs(behind));
        assert!(read.is_ok(), "{behind}: {:?}", read.err());
    }
    assert!(ask(&authority(), start(), start() - HOUR).is_err(), "by an hour is too much");
    assert!(ask(&authority(), start(), start() + DAY + HOUR).is_err(), "and it has run out");
}

#[test]
fn a_rotation_adds_the_new_root_first_and_takes_the_old_one_away_last() {
    let old = Material::generate(&domain(), start()).unwrap();
    let material = old.rotate(&domain(), start(), DAY * 2).unwrap();
    let authority = Authority::read(&material, Lifetimes::default()).unwrap();
    let roots = |hours: u32| authority.roots(start() + HOUR * hours).count();
    assert_eq!((roots(0), roots(47), roots(49), roots(95), roots(97)), (2, 2, 2, 2, 1));
    let signer = |hours: u32| {
        let request = KeyRequest::new().unwrap();
        let at = start() + HOUR * hours;
        authority.issue(&request.csr, &cart(), Duration::ZERO, at).unwrap().chain[1].clone()
    };
    assert_eq!(signer(0), signer(47));
    assert_ne!(signer(47), signer(48));
    assert_eq!(signer(48), signer(500));
    assert!(matches!(material.rotate(&domain(), start() + DAY, DAY), Err(MaterialError::UnderWay(_))));
    let again = material.rotate(&domain(), start() + DAY * 5, DAY).unwrap();
    assert_eq!(Authority::read(&again, Lifetimes::default()).unwrap().roots(start() + DAY * 5).count(), 2);
}

#[test]
fn an_intermediate_that_somebody_brings_signs_and_its_chain_leads_to_the_root() {
    let root = rcgen::CertifiedIssuer::self_signed(ca("root"), KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let pem = key.serialize_pem();
    let intermediate = rcgen::CertifiedIssuer::signed_by(ca("intermediate"), key, &root).unwrap();
    let files = [("ca-cert.pem", intermediate.pem()), ("ca-key.pem", pem), ("root-cert.pem", root.pem())];
    let material = Material(files.map(|(name, text)| (name.to_owned(), text.into_bytes())).into());
    let authority = Authority::read(&material, Lifetimes::default()).unwrap();
    let now = SystemTime::now();
    let credentials = ask(&authority, now, now).unwrap();
    assert_eq!((credentials.id.clone(), credentials.roots()), (cart(), 1));
    assert_eq!(material.rotate(&domain(), now, DAY), Err(MaterialError::NotOurs));
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    params
}

#[test]
fn files_that_do_not_belong_together_are_named() {
    let good = Material::generate(&domain(), start()).unwrap();
    let other = Material::generate(&domain(), start()).unwrap();
    let told = |name: &str, bytes: &[u8]| {
        let mut material = good.clone();
        material.0.insert(name.to_owned(), bytes.to_vec());
        Authority::read(&material, Lifetimes::default()).unwrap_err().to_string()
    };
    assert!(told(CA_KEY, &other.0[CA_KEY]).contains("ca-key.pem"));
    assert!(told(ROOT_CERT, b"nothing").contains("root-cert.pem"));
    assert!(told(ROTATION, b"{}").contains("rotation.json"));
    let leaf = ask(&authority(), start(), start()).map(|_| ());
    assert_eq!(leaf, Ok(()));
    let mut without = good.clone();
    without.0.remove(CA_KEY);
    assert_eq!(
        Authority::read(&without, Lifetimes::default()).unwrap_err(),
        MaterialError::Missing("ca-key.pem")
    );
}

#[test]
fn nothing_is_signed_that_outlives_its_authority() {
    let material = Material::generate(&domain(), start()).unwrap();
    let authority = Authority::read(&material, Lifetimes::default()).unwrap();
    let request = KeyRequest::new().unwrap();
    let end = start() + DAY * 3650;
    let late = authority.issue(&request.csr, &cart(), Duration::ZERO, end - HOUR).unwrap();
    assert_eq!(late.not_after, end);
    let over = authority.issue(&request.csr, &cart(), Duration::ZERO, end);
    assert_eq!(over.unwrap_err(), IssueError::Expired);
}

proptest! {
    #[test]
    fn the_next_certificate_is_asked_for_at_about_half_of_the_life_of_the_one_before(chance in 0.0..1.0_f64) {
        let credentials = ask(&authority(), start(), start()).unwrap();
        let after = credentials.renew_after(start(), chance);
        prop_assert!(after >= DAY.mul_f64(0.449) && after <= DAY.mul_f64(0.551), "{after:?}");
        prop_assert_eq!(credentials.renew_after(start() + DAY * 2, chance), Duration::ZERO);
    }
}
