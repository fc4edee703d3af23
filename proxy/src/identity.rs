//! Who this workload is: a certificate that is asked for, kept fresh, shown to the mesh, and held against others.
//!
//! The key is made here and never leaves. What is replaced holds for handshakes from then on; connections that stand live
//! on. Without `--identity-token` and `--trust-root` there is none of it, and no connection pays for it.

mod agent;
mod config;
mod peer;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use tidegate_identity::dial::ByTls;
use tidegate_identity::tls::{self, Clients, FixedRoots, peer_id};
use tidegate_identity::{Credentials, Held};
use tidegate_policy::model::Identity;
use tidegate_xds::client::dial::{Secure, Secured};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};

pub(crate) use agent::start;
pub use config::{IdentityArgs, IdentityClock, IdentityConfig};
pub(crate) use config::{check, read};
pub(crate) use peer::MeshConnector;

/// What mesh connections agree upon (ALPN), by which they are told from TLS of the application itself. A name for each
/// thing that is inside.
pub(crate) const HTTP_2: &[u8] = b"tidegate-h2";
pub(crate) const HTTP_1: &[u8] = b"tidegate-http/1.1";
pub(crate) const CARRIED: &[u8] = b"tidegate-tcp";

/// How long the control plane's streams wait for the first certificate, to be known by it from the beginning.
const FIRST: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Debug)]
pub struct WorkloadIdentity {
    config: IdentityConfig,
    held: Arc<Held>,
    inbound: Arc<ServerConfig>,
    /// Moves with every certificate.
    changes: watch::Sender<u64>,
    renew: Notify,
    seen: Mutex<Seen>,
}

/// How asking went.
#[derive(Clone, Debug, Default)]
struct Seen {
    renewed: u64,
    failed: u64,
    last_error: Option<String>,
}

/// For the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdentitySample {
    /// When the certificate runs out, in seconds since the Unix epoch; `None` without one.
    pub expires: Option<u64>,
    pub renewed: u64,
    pub failed: u64,
    pub roots: usize,
}

impl WorkloadIdentity {
    pub(crate) fn new(config: &IdentityConfig) -> Arc<Self> {
        let held = match &config.clock {
            Some(clock) => Held::with_clock(config.trust_domain.clone(), clock.0.clone()),
            None => Held::new(config.trust_domain.clone()),
        };
        let held = Arc::new(held);
        let inbound = tls::server(&held, Clients::Named, &[HTTP_2, HTTP_1, CARRIED]);
        Arc::new(Self {
            config: config.clone(),
            held,
            inbound: Arc::new(inbound),
            changes: watch::Sender::new(0),
            renew: Notify::new(),
            seen: Mutex::default(),
        })
    }

    /// Whether a certificate is, or will be, there.
    pub(crate) fn is_wanted(&self) -> bool {
        self.config.token.is_some()
    }

    /// How connections of the mesh come in.
    pub(crate) fn inbound(&self) -> Arc<ServerConfig> {
        self.inbound.clone()
    }

    /// Counts certificates: moves with each that is put in place.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Asks for a certificate now, whatever the age of the one in use.
    pub fn renew_now(&self) {
        self.renew.notify_one();
    }

    /// # Errors
    /// One line that says what the proxy is waiting for.
    pub(crate) fn ready(&self) -> Result<(), String> {
        if !self.config.wait || self.held.usable().is_some() {
            return Ok(());
        }
        let seen = self.seen.lock();
        let why = seen.last_error.as_deref().unwrap_or("it was not answered yet");
        Err(format!("waiting for a certificate: {why}"))
    }

    fn replace(&self, credentials: Credentials) {
        self.held.replace(credentials);
        let mut seen = self.seen.lock();
        seen.renewed += 1;
        seen.last_error = None;
        drop(seen);
        self.changes.send_modify(|count| *count += 1);
    }

    fn failed(&self, why: &str) {
        let mut seen = self.seen.lock();
        seen.failed += 1;
        seen.last_error = Some(why.to_owned());
    }

    pub(crate) fn sample(&self) -> IdentitySample {
        let (seen, held) = (self.seen.lock().clone(), self.held.current());
        IdentitySample {
            expires: held.as_ref().map(|held| seconds(held.not_after)),
            renewed: seen.renewed,
            failed: seen.failed,
            roots: held.map_or(0, |held| held.roots()),
        }
    }

    pub(crate) fn status(&self) -> Value {
        let seen = self.seen.lock().clone();
        let certificate = self.held.current().map(|held| {
            json!({
                "identity": held.id.to_string(),
                "serial": held.serial,
                "not_before": seconds(held.not_before),
                "not_after": seconds(held.not_after),
                "usable": self.held.usable().is_some(),
                "trusted_roots": held.roots(),
            })
        });
        json!({
            "trust_domain": self.held.trust_domain.as_str(),
            "certificate": certificate,
            "renewed": seen.renewed,
            "failed": seen.failed,
            "last_error": seen.last_error,
        })
    }

    /// By TLS, to the control plane and nobody else.
    fn by_tls(&self, roots: Option<FixedRoots>) -> ByTls {
        ByTls::new(&self.held, roots)
    }
}

/// Who has shown these certificates, which were verified.
pub(crate) fn shown(certificates: Option<&[CertificateDer<'_>]>) -> Option<Identity> {
    let id = certificates?.first().and_then(peer_id)?;
    Some(Identity(id.to_string().into()))
}

/// The way to the control plane for its streams.
#[derive(Debug)]
pub(crate) struct Introduced(pub(crate) Arc<WorkloadIdentity>);

impl Secure for Introduced {
    fn secure(&self, stream: TcpStream) -> Secured {
        let identity = self.0.clone();
        Box::pin(async move {
            let mut changes = identity.changes();
            if identity.is_wanted() {
                // Without one for long, better a stream of nobody than none.
                let _ = tokio::time::timeout(FIRST, changes.wait_for(|count| *count > 0)).await;
            }
            identity.by_tls(identity.config.roots.clone()).secure(stream).await
        })
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
