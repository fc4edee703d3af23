//! `tidegate token` and `tidegate rotate-root`: what people do to identities by hand.

use std::fs::OpenOptions;
use std::io::{Write as _, stdout};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow, bail};
use tidegate_control_plane::identity::{CaDirectory, MaterialStore as _, lifetime};
#[cfg(feature = "cluster")]
use tidegate_identity::Material;
use tidegate_identity::TrustDomain;
use tidegate_identity::token::NewToken;

use crate::exit::Done;
#[cfg(feature = "cluster")]
use crate::runtime;

/// Id of the flag that says so; without the feature there is none, and the directory must be given.
const SECRET: &str = "secret";

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
      24h later the old one is gone. Nothing has to be restarted.
  tidegate rotate-root --secret
      the same on a cluster: Secret tidegate-ca in namespace tidegate-system, of
      the cluster that $KUBECONFIG leads to. Who was faster wins; a Secret that
      has changed under way is left as it is.";

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
    #[arg(long, value_name = "DIR", env = "TIDEGATE_CA_DIR", required_unless_present = SECRET)]
    ca_dir: Option<PathBuf>,
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    secret: SecretArgs,
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

/// Where the authority is on a cluster.
#[cfg(feature = "cluster")]
#[derive(Debug, clap::Args)]
struct SecretArgs {
    /// The authority is in a Secret, of the cluster that $KUBECONFIG leads to
    #[arg(long, conflicts_with = "ca_dir")]
    secret: bool,
    /// Of the Secret
    #[arg(long, value_name = "NS", env = "TIDEGATE_CP_NAMESPACE", default_value = "tidegate-system")]
    namespace: String,
    /// Of the Secret
    #[arg(long, value_name = "NAME", env = "TIDEGATE_CP_CA_SECRET", default_value = "tidegate-ca")]
    name: String,
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
    #[cfg(feature = "cluster")]
    if args.secret.secret {
        return rotate_secret(args);
    }
    let Some(folder) = &args.ca_dir else { bail!("--ca-dir: where is the authority?") };
    let store = CaDirectory::new(folder);
    let material = store.load().with_context(|| format!("cannot read {}", folder.display()))?;
    if material.is_empty() {
        bail!("there is no authority in {}: a control plane with --ca-dir makes one", folder.display());
    }
    let rotated = material.rotate(&args.trust_domain, SystemTime::now(), args.overlap)?;
    store.save(&rotated).with_context(|| format!("cannot write {}", folder.display()))?;
    Ok(Done::Well)
}

#[cfg(feature = "cluster")]
fn rotate_secret(args: &RotateArgs) -> Result<Done> {
    use tidegate_cluster::{app, identity};

    let place = (&*args.secret.namespace, &*args.secret.name);
    runtime::one()?.block_on(async {
        let client = app::client().await?;
        let to = |material: &Material| material.rotate(&args.trust_domain, SystemTime::now(), args.overlap);
        identity::rotate(client, place, to).await?;
        Ok(Done::Well)
    })
}

#[cfg(all(test, feature = "cluster"))]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Rotate {
        #[command(flatten)]
        args: RotateArgs,
    }

    #[test]
    fn an_authority_is_in_a_directory_or_in_a_secret() {
        let read = |flags: &[&str]| Rotate::try_parse_from([&["rotate-root"], flags].concat());
        let args = read(&["--secret"]).unwrap().args;
        assert_eq!((&*args.secret.namespace, &*args.secret.name), ("tidegate-system", "tidegate-ca"));
        let args = read(&["--secret", "--namespace", "mesh", "--name", "cacerts"]).unwrap().args;
        assert_eq!((&*args.secret.namespace, &*args.secret.name), ("mesh", "cacerts"));
        assert!(!read(&["--ca-dir", "ca"]).unwrap().args.secret.secret);
        assert!(read(&[]).is_err() && read(&["--ca-dir", "ca", "--secret"]).is_err());
    }

    #[test]
    fn an_overlap_in_which_not_everybody_would_hear_of_the_new_root_is_refused() {
        let args = Rotate::try_parse_from(["rotate-root", "--secret", "--overlap", "1h"]).unwrap().args;
        assert!(rotate(&args).unwrap_err().to_string().contains("--overlap is shorter"));
    }
}
