use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use http::Uri;
use rustls::time_provider::TimeProvider;
use tidegate_identity::TrustDomain;
use tidegate_identity::dial::is_loopback;
use tidegate_identity::tls::FixedRoots;

use crate::config::ConfigError;

/// The flags of a workload's identity.
#[derive(Args, Clone, Debug, Default)]
pub struct IdentityArgs {
    /// Ask for a certificate with the token in this file: a join token, or a service account's. It is read anew each time.
    /// With a certificate, other proxies of the mesh are called by mTLS, and call this one so.
    #[arg(long, env = "TIDEGATE_IDENTITY_TOKEN", value_name = "FILE")]
    pub identity_token: Option<PathBuf>,

    /// The roots that the control plane's certificate leads to, in PEM; for `--control-plane https://…`.
    #[arg(long, env = "TIDEGATE_TRUST_ROOT", value_name = "FILE")]
    pub trust_root: Option<PathBuf>,

    /// Who signs certificates, if not the control plane: anybody who speaks Istio's protocol for it.
    #[arg(long, env = "TIDEGATE_CA", value_name = "URL", requires = "identity_token")]
    pub ca: Option<Uri>,

    /// What the identities of the mesh begin with: `spiffe://TRUST-DOMAIN/ns/…`. Defaults to cluster.local.
    #[arg(long, env = "TIDEGATE_TRUST_DOMAIN", value_name = "NAME")]
    pub trust_domain: Option<TrustDomain>,

    /// Be ready only with a certificate.
    #[arg(long, env = "TIDEGATE_WAIT_FOR_IDENTITY", requires = "identity_token")]
    pub wait_for_identity: bool,
}

/// [`IdentityArgs`] after validation.
#[derive(Clone, Debug)]
pub struct IdentityConfig {
    pub trust_domain: TrustDomain,
    pub token: Option<PathBuf>,
    pub roots: Option<FixedRoots>,
    pub ca: Option<Uri>,
    pub wait: bool,
    /// By which certificates run out; `None`: the machine's.
    pub clock: Option<IdentityClock>,
}

/// A clock of somebody else's.
#[derive(Clone, Debug)]
pub struct IdentityClock(pub Arc<dyn TimeProvider>);

impl IdentityConfig {
    /// Of `trust_domain`, without anything to ask with.
    pub fn of(trust_domain: TrustDomain) -> Self {
        Self { trust_domain, token: None, roots: None, ca: None, wait: false, clock: None }
    }
}

/// # Errors
/// Flags that contradict each other.
pub(crate) fn check(args: &IdentityArgs, control_plane: Option<&Uri>) -> Result<(), ConfigError> {
    let asked = args.ca.as_ref().or(control_plane);
    if args.identity_token.is_some() && asked.is_none() {
        return Err(ConfigError::TokenWithoutControlPlane);
    }
    for url in control_plane.into_iter().chain(&args.ca) {
        if is_https(url) && args.trust_root.is_none() {
            return Err(ConfigError::HttpsWithoutRoot(url.clone()));
        }
    }
    match asked.filter(|url| !is_https(url) && !is_loopback(url.host().unwrap_or_default())) {
        Some(url) if args.identity_token.is_some() => Err(ConfigError::TokenInClear(url.clone())),
        _ => Ok(()),
    }
}

/// `None` where nothing is written of it.
///
/// # Errors
/// The roots cannot be read.
pub(crate) fn read(args: IdentityArgs) -> Result<Option<IdentityConfig>, ConfigError> {
    let IdentityArgs { identity_token: token, trust_root, ca, trust_domain, wait_for_identity: wait } = args;
    if token.is_none() && trust_root.is_none() {
        return Ok(None);
    }
    let roots = trust_root.map(|path| {
        let bad = |why: String| ConfigError::TrustRoot(path.clone(), why);
        let pem = fs::read(&path).map_err(|error| bad(error.to_string()))?;
        FixedRoots::read(&pem).map_err(|error| bad(error.to_string()))
    });
    let Some(trust_domain) = trust_domain.or_else(|| TrustDomain::DEFAULT.parse().ok()) else {
        return Ok(None);
    };
    let roots = roots.transpose()?;
    Ok(Some(IdentityConfig { trust_domain, token, roots, ca, wait, clock: None }))
}

pub(crate) fn is_https(url: &Uri) -> bool {
    url.scheme() == Some(&http::uri::Scheme::HTTPS)
}
