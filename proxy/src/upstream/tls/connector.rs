use std::fmt;
use std::sync::{Arc, LazyLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tidegate_policy::Reason;
use tidegate_policy::model::{Certificate, Trust, Verification};
use tidegate_policy::snapshot::TlsSettings;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::failure;
use super::verify::AltNameVerifier;
use crate::trust::roots;
use crate::upstream::pool::Protocol;

const HTTP_1_1: &[u8] = b"http/1.1";
const HTTP_2: &[u8] = b"h2";

/// What opens connections by TLS, with one set of settings.
pub(crate) struct Connector {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    /// Without a word about protocols (ALPN).
    opaque: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// Or why it cannot be.
pub(crate) type Made = Result<Connector, String>;

/// What this machine trusts, as it was when it was first asked for.
static SYSTEM: LazyLock<Result<Arc<RootCertStore>, String>> = LazyLock::new(|| {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a CA certificate of this machine is not used");
    }
    let mut roots = RootCertStore::empty();
    // Machines have some that no verifier can read; that is no reason to trust none of them.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        Err(String::from("this machine trusts no CA certificate"))
    } else {
        Ok(Arc::new(roots))
    }
});

impl Connector {
    /// # Errors
    /// What is wrong with the settings, and nothing of what a key contains.
    pub(super) fn of(settings: &TlsSettings) -> Made {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let Verification { trust, hostname, .. } = &settings.verification;
        let roots = match trust {
            Some(Trust::System) => SYSTEM.clone()?,
            Some(Trust::Bundle(pem)) => Arc::new(roots(pem)?),
            None => return Err(String::from("there is no CA certificate to trust")),
        };
        let name = ServerName::try_from(hostname.to_string());
        let name = name.map_err(|_| format!("`{hostname}` cannot be asked for"))?;
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier(&settings.verification, roots, &provider)?);
        let config = match &settings.client_certificate {
            None => config.with_no_client_auth(),
            Some(shown) => {
                let (chain, key) = pair(shown).map_err(|why| format!("Secret {}: {why}", shown.secret))?;
                let config = config.with_client_auth_cert(chain, key);
                config.map_err(|_| format!("Secret {} holds no certificate with its key", shown.secret))?
            }
        };
        let speaking = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            Arc::new(config)
        };
        Ok(Self { http1: speaking(&[HTTP_1_1]), http2: speaking(&[HTTP_2]), opaque: speaking(&[]), name })
    }

    /// Takes a connection through its handshake. `protocol` is `None` where nobody knows what will be spoken.
    ///
    /// # Errors
    /// [`Reason::UpstreamTlsUntrusted`] or [`Reason::UpstreamTlsFailed`]; the details go to the log.
    pub(crate) async fn handshake(
        &self,
        stream: TcpStream,
        protocol: Option<Protocol>,
    ) -> Result<TlsStream<TcpStream>, Reason> {
        let config = match protocol {
            Some(Protocol::Http1) => &self.http1,
            Some(Protocol::Http2) => &self.http2,
            None => &self.opaque,
        };
        let peer = stream.peer_addr().ok();
        let connecting = TlsConnector::from(config.clone()).connect(self.name.clone(), stream);
        let stream = connecting.await.map_err(|error| {
            tracing::debug!(?peer, %error, "TLS handshake failed");
            failure(&error)
        })?;
        // HTTP/2 by TLS is agreed upon, or it is not HTTP/2 (RFC 9113, 3.2).
        if protocol == Some(Protocol::Http2) && stream.get_ref().1.alpn_protocol() != Some(HTTP_2) {
            tracing::debug!(?peer, "the endpoint does not speak HTTP/2 by TLS");
            return Err(Reason::UpstreamTlsFailed);
        }
        Ok(stream)
    }
}

fn verifier(
    verification: &Verification,
    roots: Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    if !verification.alt_names.is_empty() {
        let names = verification.alt_names.clone();
        return Ok(Arc::new(AltNameVerifier::new(roots, names, provider.signature_verification_algorithms)));
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
    Ok(verifier.map_err(|error| error.to_string())?)
}

fn pair(shown: &Certificate) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), &'static str> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&shown.chain).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or("no PEM certificate in `tls.crt`")?;
    let key = PrivateKeyDer::from_pem_slice(shown.key.expose()).map_err(|_| "no PEM key in `tls.key`")?;
    Ok((chain, key))
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("name", &self.name).finish_non_exhaustive()
    }
}
