//! The authority at work: signs, knows the callers, follows its files, and has a certificate of its own.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tidegate_identity::dial::ByTls;
use tidegate_identity::request::KeyRequest;
use tidegate_identity::{
    Authenticate, Authority, Credentials, Held, Issued, JoinTokens, Lifetimes, Material, MaterialError,
    SpiffeId, TrustDomain, Unauthenticated,
};
use tidegate_xds::client::dial::Secure;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::IdentityArgs;
use super::files::{CaDirectory, TokenFile};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Where the authority's files are: a directory, or a Secret in a cluster.
pub trait MaterialStore: fmt::Debug + Send + Sync {
    /// # Errors
    /// It cannot be read now.
    fn load(&self) -> io::Result<Material>;
    /// Where several control planes share the files, one that was faster is no error: it is loaded then.
    ///
    /// # Errors
    /// It cannot be written.
    fn save(&self, material: &Material) -> io::Result<()>;
    /// Tells proxies which roots to begin with.
    ///
    /// # Errors
    /// It cannot be written.
    fn publish(&self, bundle: &str) -> io::Result<()>;
}

/// An authority whose files and callers somebody else knows about. Its store may wait: it is only asked on threads that may.
#[derive(Debug)]
pub struct Signing {
    pub store: Box<dyn MaterialStore>,
    pub tokens: Box<dyn Authenticate>,
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("the authority's files: {0}")]
    Files(#[from] io::Error),
    #[error("the authority's files: {0}")]
    Material(#[from] MaterialError),
    #[error("--join-tokens: {0}")]
    Tokens(String),
    #[error("the control plane cannot sign its own certificate: {0}")]
    Own(String),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Certifier {
    store: Box<dyn MaterialStore>,
    tokens: Box<dyn Authenticate>,
    lifetimes: Lifetimes,
    read: Mutex<(Material, Arc<Authority>)>,
    held: Arc<Held>,
    issued: AtomicU64,
    refused: AtomicU64,
}

/// For the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) issued: u64,
    pub(crate) refused: u64,
    pub(crate) roots: usize,
    pub(crate) expires: SystemTime,
}

impl Certifier {
    /// `None` where no authority is wanted.
    ///
    /// # Errors
    /// Files that cannot be used; a control plane without its authority is no use to those who ask.
    pub(crate) fn open(
        args: &IdentityArgs,
        signing: Option<Signing>,
    ) -> Result<Option<Arc<Self>>, IdentityError> {
        let Some(trust_domain) = args.trust_domain() else { return Ok(None) };
        if let Some(Signing { store, tokens }) = signing {
            let this = Self::with(store, tokens, trust_domain, args.lifetimes());
            return this.map(|this| Some(Arc::new(this)));
        }
        let Some(directory) = &args.ca_dir else { return Ok(None) };
        let tokens: Box<dyn Authenticate> = match &args.join_tokens {
            None => Box::new(JoinTokens::default()),
            Some(path) => {
                let told = |error| IdentityError::Tokens(format!("{}: {error}", path.display()));
                Box::new(TokenFile::open(path.clone(), trust_domain.clone()).map_err(told)?)
            }
        };
        let store = Box::new(CaDirectory::new(directory));
        Self::with(store, tokens, trust_domain, args.lifetimes()).map(|this| Some(Arc::new(this)))
    }

    /// With files and callers from anywhere.
    ///
    /// # Errors
    /// As [`Certifier::open`].
    pub(crate) fn with(
        store: Box<dyn MaterialStore>,
        tokens: Box<dyn Authenticate>,
        trust_domain: TrustDomain,
        lifetimes: Lifetimes,
    ) -> Result<Self, IdentityError> {
        let mut material = store.load()?;
        if material.is_empty() {
            material = Material::generate(&trust_domain, SystemTime::now())?;
            store.save(&material)?;
            material = store.load()?;
            tracing::info!(%trust_domain, "made a root for identities of workloads");
        }
        let authority = Arc::new(Authority::read(&material, lifetimes)?);
        let read = Mutex::new((material, authority));
        let (issued, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        let held = Arc::new(Held::new(trust_domain));
        let this = Self { store, tokens, lifetimes, read, held, issued, refused };
        this.renew().map_err(IdentityError::Own)?;
        Ok(this)
    }

    /// What the control plane itself is known by.
    pub(crate) fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// The way to other replicas, which have the same authority.
    pub(crate) fn secure(&self) -> Arc<dyn Secure> {
        Arc::new(ByTls::new(&self.held, None))
    }

    pub(crate) fn counts(&self) -> Counts {
        let (now, own) = (self.held.now(), self.held.current());
        Counts {
            issued: self.issued.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            roots: self.authority().roots(now).count(),
            expires: own.map_or(SystemTime::UNIX_EPOCH, |own| own.not_after),
        }
    }

    pub(super) fn count(&self, signed: bool) {
        let counter = if signed { &self.issued } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn authority(&self) -> Arc<Authority> {
        self.read.lock().1.clone()
    }

    /// Who asks: by its token; or, once that has expired or where there is none, by the certificate that it has.
    pub(super) async fn caller(
        &self,
        token: &str,
        by_tls: Option<SpiffeId>,
    ) -> Result<SpiffeId, Unauthenticated> {
        match self.tokens.authenticate(token, self.held.now()).await {
            Err(Unauthenticated::Expired | Unauthenticated::NoToken) if by_tls.is_some() => {
                by_tls.ok_or(Unauthenticated::NoToken)
            }
            found => found,
        }
    }

    /// Follows the files and renews its own certificate, until the shutdown.
    pub(crate) async fn keep(self: Arc<Self>, shutdown: CancellationToken) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = String::new();
        while shutdown.run_until_cancelled(looks.tick()).await.is_some() {
            let this = self.clone();
            let looked = tokio::task::spawn_blocking(move || this.look()).await;
            let fault = match looked {
                Ok(Ok(())) => String::new(),
                Ok(Err(fault)) => fault,
                Err(_) => return,
            };
            if !fault.is_empty() && fault != told {
                tracing::error!(fault, "the authority goes on with the files before");
            }
            told = fault;
        }
    }

    fn look(&self) -> Result<(), String> {
        let material = self.store.load().map_err(|error| error.to_string())?;
        let changed = self.read.lock().0 != material;
        if changed {
            let authority = Authority::read(&material, self.lifetimes).map_err(|error| error.to_string())?;
            *self.read.lock() = (material, Arc::new(authority));
            tracing::info!("the authority's files have changed");
        }
        let own = self.held.current();
        let now = self.held.now();
        let half = own.is_none_or(|own| {
            let left = own.not_after.duration_since(now).unwrap_or_default();
            left < self.lifetimes.usual / 2
        });
        if changed || half { self.renew() } else { Ok(()) }
    }

    fn renew(&self) -> Result<(), String> {
        let now = self.held.now();
        let request = KeyRequest::new().map_err(|error| error.to_string())?;
        let own = SpiffeId::control_plane(self.held.trust_domain.clone());
        let issued = self.authority().issue(&request.csr, &own, Duration::ZERO, now);
        let Issued { chain, bundle, .. } = issued.map_err(|error| error.to_string())?;
        let read = Credentials::read(&chain, &bundle, request.key(), &self.held);
        self.held.replace(read.map_err(|error| error.to_string())?);
        self.store.publish(&bundle.concat()).map_err(|error| error.to_string())
    }
}
