//! Certificate authorities of tests, and what they sign.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ConfigBuilder, ConfigSide, RootCertStore, ServerConfig, WantsVerifier, WantsVersions,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tidegate_policy::model::{Certificate, PrivateKey, ResourceName};

/// An authority with a key of its own.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, both in PEM.
#[derive(Clone)]
pub struct Signed {
    pub chain: String,
    pub key: String,
}

impl Authority {
    /// # Panics
    /// Never: the name is plain.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, key()).expect("an authority can sign itself"))
    }

    /// The authority's own certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for subjectAltNames: DNS names, and URIs with their scheme.
    pub fn sign(&self, names: &[&str]) -> Signed {
        self.sign_until(names, 4000)
    }

    /// The same, for a time that was over long ago.
    pub fn sign_expired(&self, names: &[&str]) -> Signed {
        self.sign_until(names, 2001)
    }

    fn sign_until(&self, names: &[&str], year: i32) -> Signed {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let name = |name: &&str| {
            let text = (*name).try_into().expect("a name is ASCII");
            if name.contains("://") { SanType::URI(text) } else { SanType::DnsName(text) }
        };
        params.subject_alt_names = names.iter().map(name).collect();
        let key = key();
        let signed = params.signed_by(&key, &self.0).expect("the authority can sign");
        Signed { chain: signed.pem(), key: key.serialize_pem() }
    }

    /// What trusts this authority and no other.
    ///
    /// # Panics
    /// Never: its certificate is its own.
    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("the certificate can be read");
        Arc::new(roots)
    }
}

impl Signed {
    /// As a Secret holds it.
    pub fn certificate(&self, secret: &str) -> Certificate {
        Certificate {
            secret: ResourceName::new("shop", secret),
            chain: self.chain.as_bytes().into(),
            key: PrivateKey::new(self.key.as_bytes()),
        }
    }

    /// A server that shows it, and asks for a certificate of `clients`.
    ///
    /// # Panics
    /// If the two do not belong together.
    pub fn server(&self, clients: Option<&Authority>) -> Arc<ServerConfig> {
        let builder = versions(ServerConfig::builder_with_provider(provider()));
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(clients.roots(), provider());
                builder.with_client_cert_verifier(verifier.build().expect("there is a root"))
            }
        };
        let (chain, key) = self.der();
        let mut config = builder.with_single_cert(chain, key).expect("certificate and key belong together");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }

    fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes()).map(|c| c.expect("PEM")).collect();
        (chain, PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("PEM"))
    }
}

/// A client that trusts `server`, shows `shown` if it is asked, and speaks `alpn`.
///
/// # Panics
/// If certificate and key do not belong together.
pub fn client(server: &Authority, shown: Option<&Signed>, alpn: &[u8]) -> Arc<ClientConfig> {
    let builder =
        versions(ClientConfig::builder_with_provider(provider())).with_root_certificates(server.roots());
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some(shown) => {
            let (chain, key) = shown.der();
            builder.with_client_auth_cert(chain, key).expect("certificate and key belong together")
        }
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}

fn versions<S: ConfigSide>(builder: ConfigBuilder<S, WantsVersions>) -> ConfigBuilder<S, WantsVerifier> {
    builder.with_safe_default_protocol_versions().expect("the provider has suites for all versions")
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn key() -> KeyPair {
    KeyPair::generate().expect("there is randomness")
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Signed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signed").field("chain", &self.chain).finish_non_exhaustive()
    }
}
