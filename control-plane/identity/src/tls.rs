//! TLS 1.3 between those who have a SPIFFE id: each shows its certificate, and is known by the name in it.
//!
//! Names of hosts play no part. Chain, validity, usage and signatures are webpki's affair; which names count is ours.
//! Sessions are not resumed: whoever comes back is verified again, with the roots of then.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerIncompatible, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::credentials::{BadCredentials, Held, roots};
use crate::spiffe::SpiffeId;
use crate::x509::certificates;

/// Which end of a connection a certificate is shown by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    Server,
    Client,
}

/// Who the other side may be, beyond being of our trust domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Expected(pub Vec<SpiffeId>);

impl Expected {
    /// Nothing is written: anybody of the trust domain.
    fn allows(&self, id: &SpiffeId) -> bool {
        self.0.is_empty() || self.0.contains(id)
    }
}

/// Whether clients have to show who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    Named,
    /// Those who show a certificate are known by it.
    Any,
}

/// Roots from a file, which are trusted before there are credentials, and beside them.
#[derive(Clone, Debug)]
pub struct FixedRoots(Arc<RootCertStore>);

impl FixedRoots {
    /// # Errors
    /// What is wrong with the PEM.
    pub fn read(pem: &[u8]) -> Result<Self, BadCredentials> {
        let read = certificates(pem).map_err(|why| BadCredentials::Roots(why.to_owned()))?;
        roots(&read).map(|roots| Self(Arc::new(roots)))
    }
}

/// A server that is known by what is held at the time of each handshake.
pub fn server(held: &Arc<Held>, clients: Clients, protocols: &[&[u8]]) -> ServerConfig {
    let verifier =
        Verifier { held: held.clone(), fixed: None, expected: Expected::default(), clients, algorithms };
    let mut config = ServerConfig::builder_with_details(provider(), held.clock())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has suites for TLS 1.3")
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(Shown(held.clone())));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

/// A client that is known in the same way, for servers that are one of `expected`.
pub fn client(
    held: &Arc<Held>,
    expected: Expected,
    fixed: Option<FixedRoots>,
    protocols: &[&[u8]],
) -> ClientConfig {
    let verifier = Verifier { held: held.clone(), fixed, expected, clients: Clients::Named, algorithms };
    let mut config = ClientConfig::builder_with_details(provider(), held.clock())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has suites for TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(Shown(held.clone())));
    config.resumption = Resumption::disabled();
    // Addresses, and names that say nothing of who answers.
    config.enable_sni = false;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

/// A client for a server that is no workload, but a host with a name.
pub fn client_of_host(held: &Arc<Held>, roots: &FixedRoots, protocols: &[&[u8]]) -> ClientConfig {
    let mut config = ClientConfig::builder_with_details(provider(), held.clock())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has suites for TLS 1.3")
        .with_root_certificates(roots.0.clone())
        .with_client_cert_resolver(Arc::new(Shown(held.clone())));
    config.resumption = Resumption::disabled();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

/// The name in a certificate that was verified: the one URI that it has (X509-SVID, section 2).
pub fn peer_id(certificate: &CertificateDer<'_>) -> Option<SpiffeId> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let mut uris = certificate.valid_uri_names();
    let id = uris.next()?.parse().ok()?;
    uris.next().is_none().then_some(id)
}

pub(crate) fn verify_chain(
    chain: &[CertificateDer<'_>],
    roots: &RootCertStore,
    now: UnixTime,
    usage: Usage,
) -> Result<(), Error> {
    let [own, intermediates @ ..] = chain else {
        return Err(Error::NoCertificatesPresented);
    };
    let certificate = EndEntityCert::try_from(own).map_err(|error| invalid(&error))?;
    let usage = match usage {
        Usage::Server => KeyUsage::server_auth(),
        Usage::Client => KeyUsage::client_auth(),
    };
    let algorithms = algorithms().all;
    let verified =
        certificate.verify_for_usage(algorithms, &roots.roots, intermediates, now, usage, None, None);
    verified.map(drop).map_err(|error| invalid(&error))
}

/// Holds the other side to its certificate.
struct Verifier {
    held: Arc<Held>,
    fixed: Option<FixedRoots>,
    expected: Expected,
    clients: Clients,
    algorithms: fn() -> WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime, usage: Usage) -> Result<(), Error> {
        let held = self.held.current();
        let all = held.iter().map(|held| &held.roots).chain(self.fixed.iter().map(|fixed| &fixed.0));
        let mut verified = Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        for roots in all {
            verified = verify_chain(chain, roots, now, usage);
            if verified.is_ok() {
                break;
            }
        }
        verified?;
        let id = chain.first().and_then(peer_id);
        match id {
            Some(id) if id.trust_domain == self.held.trust_domain && self.expected.allows(&id) => Ok(()),
            id => Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(OtherName {
                shown: id,
                expected: self.expected.clone(),
            }))))),
        }
    }

    fn chain<'a>(own: &CertificateDer<'a>, rest: &[CertificateDer<'a>]) -> Vec<CertificateDer<'a>> {
        std::iter::once(own).chain(rest).cloned().collect()
    }

    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &(self.algorithms)())
    }
}

/// The other side is somebody, and not the one it should be.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the other side is {}, and should be {}", who(.shown.as_ref()), wanted(.expected))]
struct OtherName {
    shown: Option<SpiffeId>,
    expected: Expected,
}

fn who(id: Option<&SpiffeId>) -> String {
    id.map_or_else(|| String::from("nobody by name"), ToString::to_string)
}

fn wanted(expected: &Expected) -> String {
    match &*expected.0 {
        [] => String::from("of our trust domain"),
        ids => ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or "),
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _asked_for: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(&Self::chain(end_entity, intermediates), now, Usage::Server)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        (self.algorithms)().supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.clients == Clients::Named
    }

    /// No hint: a workload has one certificate.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(&Self::chain(end_entity, intermediates), now, Usage::Client)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        (self.algorithms)().supported_schemes()
    }
}

/// Shows what is held, unless that has run out: nobody would believe it, and whoever is asked says so at once.
#[derive(Debug)]
struct Shown(Arc<Held>);

impl Shown {
    fn key(&self) -> Option<Arc<CertifiedKey>> {
        self.0.usable().map(|credentials| credentials.key.clone())
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.key()
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.key()
    }

    fn has_certs(&self) -> bool {
        self.0.usable().is_some()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    aws_lc_rs::default_provider().signature_verification_algorithms
}

fn invalid(error: &webpki::Error) -> Error {
    use webpki::Error as Why;
    Error::InvalidCertificate(match error {
        Why::CertExpired { .. } => CertificateError::Expired,
        Why::CertNotValidYet { .. } => CertificateError::NotValidYet,
        Why::UnknownIssuer => CertificateError::UnknownIssuer,
        Why::BadDer | Why::BadDerTime => CertificateError::BadEncoding,
        other => CertificateError::Other(OtherError(Arc::new(other.clone()))),
    })
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("expected", &self.expected).finish_non_exhaustive()
    }
}
