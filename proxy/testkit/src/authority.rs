//! Who signs certificates for the proxies of a test: the production code behind a real port, with a clock of the test's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use tidegate_identity::{Authority, Lifetimes, Material, SpiffeId, TrustDomain};
use tidegate_xds::ca::{
    AUTHORIZATION, IstioCertificateRequest, IstioCertificateResponse, IstioCertificateService,
    IstioCertificateServiceServer,
};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Says what time it is, for certificates.
#[derive(Clone, Debug)]
pub struct TestClock(Arc<AtomicU64>);

/// An authority at one address. Whoever shows a token `namespace/name` is that.
#[derive(Debug)]
pub struct TestAuthority {
    address: SocketAddr,
    inner: Arc<Inner>,
    serving: AbortHandle,
}

#[derive(Debug)]
struct Inner {
    trust_domain: TrustDomain,
    clock: TestClock,
    lifetimes: Lifetimes,
    authority: Mutex<(Material, Arc<Authority>)>,
    away: Mutex<bool>,
    /// By identity.
    given: Mutex<BTreeMap<String, u64>>,
}

impl TestClock {
    /// At the time of the machine.
    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(seconds(SystemTime::now()))))
    }

    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_secs(), Ordering::SeqCst);
    }

    pub fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

impl Default for TestClock {
    fn default() -> Self {
        Self::new()
    }
}

impl TimeProvider for TestClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::SeqCst))))
    }
}

impl TestAuthority {
    /// With a new root, on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// If there is no port, or no randomness.
    pub async fn start(trust_domain: &str, clock: &TestClock) -> Self {
        let trust_domain: TrustDomain = trust_domain.parse().expect("a trust domain");
        let material = Material::generate(&trust_domain, clock.now()).expect("there is randomness");
        let lifetimes = Lifetimes::default();
        let authority = Arc::new(Authority::read(&material, lifetimes).expect("it is our own"));
        let inner = Arc::new(Inner {
            trust_domain,
            clock: clock.clone(),
            lifetimes,
            authority: Mutex::new((material, authority)),
            away: Mutex::new(false),
            given: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let service = IstioCertificateServiceServer::new(Service(inner.clone()));
        let server = tonic::transport::Server::builder().add_service(service);
        let serving = server.serve_with_incoming(TcpListenerStream::new(listener));
        let serving = tokio::spawn(async move { drop(serving.await) }).abort_handle();
        Self { address, inner, serving }
    }

    pub fn uri(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn trust_domain(&self) -> TrustDomain {
        self.inner.trust_domain.clone()
    }

    /// Answers nobody, or everybody again.
    pub fn set_away(&self, away: bool) {
        *self.inner.away.lock() = away;
    }

    /// Begins to put another root in the place of the one in use.
    ///
    /// # Panics
    /// If that is under way.
    pub fn rotate(&self, overlap: Duration) {
        let mut authority = self.inner.authority.lock();
        let rotated = authority.0.rotate(&self.inner.trust_domain, self.inner.clock.now(), overlap);
        let rotated = rotated.expect("no rotation is under way");
        let read = Authority::read(&rotated, self.inner.lifetimes).expect("it is our own");
        *authority = (rotated, Arc::new(read));
    }

    /// Certificates that were signed for one identity.
    pub fn signed_for(&self, identity: &str) -> u64 {
        self.inner.given.lock().get(identity).copied().unwrap_or(0)
    }
}

impl Drop for TestAuthority {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Service(Arc<Inner>);

#[tonic::async_trait]
impl IstioCertificateService for Service {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let inner = &self.0;
        if *inner.away.lock() {
            return Err(Status::unavailable("away"));
        }
        let token = request.metadata().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let name = token.and_then(|token| token.strip_prefix("Bearer ")?.split_once('/'));
        let (namespace, name) = name.ok_or_else(|| Status::unauthenticated("no token"))?;
        let caller = SpiffeId::new(inner.trust_domain.clone(), namespace, name);
        let caller = caller.map_err(|error| Status::unauthenticated(error.to_string()))?;
        let authority = inner.authority.lock().1.clone();
        let issued = authority.issue(&request.get_ref().csr, &caller, Duration::ZERO, inner.clock.now());
        let issued = issued.map_err(|error| Status::invalid_argument(error.to_string()))?;
        *inner.given.lock().entry(caller.to_string()).or_default() += 1;
        Ok(Response::new(IstioCertificateResponse { cert_chain: issued.chain, trust_bundle: issued.bundle }))
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
