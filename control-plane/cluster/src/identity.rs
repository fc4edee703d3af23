//! Who workloads are, in a cluster: the authority's files are a Secret, and who asks is what the API says of its token.

mod review;
mod rotate;
mod secret;

use std::sync::Arc;

use tidegate_control_plane::identity::{MaterialStore as _, Signing};
use tidegate_identity::TrustDomain;
use tokio::runtime::Handle;
use tokio::sync::watch;

pub use review::Reviews;
pub use rotate::{RotateError, rotate};
pub use secret::CaSecret;

use crate::args::ClusterArgs;
use crate::source::{Cluster, Pauses};

/// What the control plane is known by, once that is known.
pub(crate) type Roots = watch::Receiver<Option<Arc<str>>>;

/// As the flags say; `None` where no Secret is named. Waits until that can be read. What is published goes to `roots`.
pub(crate) async fn signing(
    cluster: &Cluster,
    flags: &ClusterArgs,
    trust_domain: Option<TrustDomain>,
    roots: watch::Sender<Option<Arc<str>>>,
) -> Option<Signing> {
    let (secret, trust_domain) = flags.ca_secret.as_ref().zip(trust_domain)?;
    let client = cluster.client.clone();
    let (name, every) = ((&*flags.namespace, &**secret), cluster.timing.authority);
    let mut store = CaSecret::new(client.clone(), name, every, Handle::current(), roots);
    let mut pauses = Pauses::new(&cluster.timing, crate::seed());
    loop {
        let loading = tokio::task::spawn_blocking(move || (store.load().err(), store));
        // Fails only where the runtime ends.
        let (fault, loaded) = loading.await.ok()?;
        store = loaded;
        let Some(fault) = fault else { break };
        tracing::warn!(%fault, "cannot read the authority of workloads; trying again");
        tokio::time::sleep(pauses.next()).await;
    }
    let tokens = Reviews::new(client, flags.token_audience.clone(), trust_domain);
    Some(Signing { store: Box::new(store), tokens: Box::new(tokens) })
}
