use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tidegate_identity::{Lifetimes, TrustDomain};

/// What a control plane that signs certificates starts from.
#[derive(Args, Clone, Debug, Default)]
pub struct IdentityArgs {
    /// Sign certificates of workloads with the authority in this directory: `ca-cert.pem`, `ca-key.pem` and `root-cert.pem`,
    /// as in Istio's Secret `cacerts`. In an empty one a root is made. `trust-bundle.pem` is kept there for proxies. With
    /// an authority, proxies that are not on this machine reach `--listen` by TLS only.
    #[arg(long, value_name = "DIR", env = "TIDEGATE_CA_DIR")]
    pub ca_dir: Option<PathBuf>,
    /// The join tokens of workloads, a line for each as `tidegate token` writes it; read again when it changes.
    #[arg(long, value_name = "FILE", env = "TIDEGATE_JOIN_TOKENS", requires = "ca_dir")]
    pub join_tokens: Option<PathBuf>,
    /// What identities begin with: `spiffe://TRUST-DOMAIN/ns/…`. Defaults to cluster.local.
    #[arg(long, value_name = "NAME", env = "TIDEGATE_TRUST_DOMAIN")]
    pub trust_domain: Option<TrustDomain>,
    /// How long certificates hold, from 1m to 168h. Proxies ask for the next at half of it. Defaults to 24h.
    #[arg(long, value_name = "DURATION", env = "TIDEGATE_CERTIFICATE_LIFETIME", value_parser = lifetime)]
    pub certificate_lifetime: Option<Duration>,
}

const MOST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl IdentityArgs {
    /// The one that is written, or the default.
    pub fn trust_domain(&self) -> Option<TrustDomain> {
        self.trust_domain.clone().or_else(|| TrustDomain::DEFAULT.parse().ok())
    }

    pub(crate) fn lifetimes(&self) -> Lifetimes {
        let usual = self.certificate_lifetime.unwrap_or(Lifetimes::DAY);
        Lifetimes { usual, most: usual }
    }
}

/// Of a certificate, as it is written: `24h`, `30m`, `90s`.
///
/// # Errors
/// It is no duration, or out of bounds.
pub fn lifetime(text: &str) -> Result<Duration, String> {
    let units = [("h", 3_600), ("m", 60), ("s", 1)];
    let read = units.into_iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
    let duration = read.and_then(|(number, seconds)| number.parse::<u64>().ok()?.checked_mul(seconds));
    let duration = duration.map(Duration::from_secs);
    let fits = |duration: &Duration| (Lifetimes::LEAST..=MOST).contains(duration);
    duration.filter(fits).ok_or_else(|| String::from("write a duration from 1m to 168h, such as 24h"))
}
