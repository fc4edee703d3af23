//! `tidegate token` and `tidegate rotate-root`: what people do to identities by hand.

use std::fs::OpenOptions;
use std::io::{Write as _, stdout};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow, bail};
use tidegate_control_plane::identity::{CaDirectory, MaterialStore as _, lifetime};
use tidegate_identity::TrustDomain;
use tidegate_identity::token::NewToken;

use crate::exit::Done;

pub(crate) const TOKEN_EXAMPLES: &str = "\
Examples:
  tidegate token --namespace shop --service-account cart --tokens join-tokens \\
                 > cart.token
      whoever has cart.token is spiffe://cluster.local/ns/shop/sa/cart:
      tidegate proxy --identity-token cart.token …";

pub(crate) const ROTATE_EXAMPLES: &str = "\
Examples:
  tidegate rotate-root --ca-dir ca
      for 24h the new root is trusted beside the old one; then it signs, and
      24h later the old one is gone. Nothing has to be restarted.";

/// Make a join token: it goes to standard output, its hash to the file of tokens.
#[derive(Debug, clap::Args)]
pub(crate) struct TokenArgs {
    /// Of the workload
    #[arg(long, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// As whom the workload is known
    #[arg(long, value_name = "NAME")]
    service_account: String,
    /// The file that the control plane reads (--join-tokens); a line is added
    #[arg(long, value_name = "FILE")]
    tokens: PathBuf,
    /// How long it can be joined with, from 1m to 168h; a certificate that was asked for in time is renewed without it.
    /// Defaults to for ever
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    lasts: Option<Duration>,
}

/// Put a new root in the place of the one in use, with overlap.
#[derive(Debug, clap::Args)]
pub(crate) struct RotateArgs {
    /// The directory of the authority
    #[arg(long, value_name = "DIR", env = "TIDEGATE_CA_DIR")]
    ca_dir: PathBuf,
    /// For how long the new root is only trusted, and then for how long the old one still is: at least as long as
    /// certificates hold
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = lifetime)]
    overlap: Duration,
    /// As the control plane has it
    #[arg(long, value_name = "DURATION", env = "TIDEGATE_CERTIFICATE_LIFETIME", default_value = "24h",
          value_parser = lifetime)]
    certificate_lifetime: Duration,
    /// As the control plane has it
    #[arg(long, value_name = "NAME", env = "TIDEGATE_TRUST_DOMAIN", default_value = TrustDomain::DEFAULT)]
    trust_domain: TrustDomain,
}

pub(crate) fn token(args: &TokenArgs) -> Result<Done> {
    let TokenArgs { namespace, service_account, tokens, lasts } = args;
    let made = NewToken::new(namespace, service_account, *lasts, SystemTime::now());
    let made = made.map_err(|why| anyhow!("no token: {why}"))?;
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(tokens);
    let kept = file.and_then(|mut file| file.write_all(format!("{}\n", made.line).as_bytes()));
    kept.with_context(|| format!("cannot add to --tokens {}", tokens.display()))?;
    writeln!(stdout(), "{}", made.token)?;
    Ok(Done::Well)
}

pub(crate) fn rotate(args: &RotateArgs) -> Result<Done> {
    if args.overlap < args.certificate_lifetime {
        bail!("--overlap is shorter than certificates hold: some proxy would not have heard of the new root");
    }
    let store = CaDirectory::new(&args.ca_dir);
    let material = store.load().with_context(|| format!("cannot read {}", args.ca_dir.display()))?;
    if material.is_empty() {
        bail!("there is no authority in {}: a control plane with --ca-dir makes one", args.ca_dir.display());
    }
    let rotated = material.rotate(&args.trust_domain, SystemTime::now(), args.overlap)?;
    store.save(&rotated).with_context(|| format!("cannot write {}", args.ca_dir.display()))?;
    Ok(Done::Well)
}
