//! Asks for certificates: at once, then at half of each one's life, and after a failure again and again. What is there
//! stays in use until it runs out.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidegate_identity::dial::ByTls;
use tidegate_identity::request::KeyRequest;
use tidegate_identity::{Credentials, SpiffeId};
use tidegate_xds::backoff::{Backoff, BackoffConfig};
use tidegate_xds::ca::{AUTHORIZATION, IstioCertificateRequest, IstioCertificateServiceClient};
use tidegate_xds::client::dial::Dial;
use tidegate_xds::client::grpc;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Request;

use super::WorkloadIdentity;
use super::config::is_https;
use crate::clock;
use crate::state::ProxyState;

/// For one question, from connecting to the answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Clocks are set, and machines sleep: the time for the next is looked at anew this often.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
const BACKOFF: BackoffConfig = BackoffConfig {
    min: Duration::from_millis(200),
    max: Duration::from_secs(30),
    healthy_after: Duration::from_secs(60),
};

/// Begins to ask, until `stop`. A proxy without a token asks nobody.
///
/// # Errors
/// The authority's address cannot be used.
pub(crate) fn start(
    proxy: &Arc<ProxyState>,
    runtime: &Handle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Some(identity) = proxy.identity.clone().filter(|identity| identity.is_wanted()) else {
        return Ok(());
    };
    let url = identity.config.ca.as_ref().or(proxy.config.control_plane.as_ref());
    let Some(url) = url else { return Ok(()) };
    let mut dial = grpc::endpoint(url.to_string())?;
    if is_https(url) {
        let by_tls = match (&identity.config.ca, &identity.config.roots) {
            (Some(ca), Some(roots)) => {
                let host = ca.host().unwrap_or_default();
                ByTls::to_host(&identity.held, roots, host).map_err(anyhow::Error::msg)?
            }
            _ => identity.by_tls(identity.config.roots.clone()),
        };
        dial = dial.secured(Arc::new(by_tls))?;
    }
    runtime.spawn(async move { stop.run_until_cancelled(keep(identity, dial)).await });
    Ok(())
}

async fn keep(identity: Arc<WorkloadIdentity>, dial: Dial) {
    let mut rng = fastrand::Rng::with_seed(clock::seed());
    let mut backoff = Backoff::new(BACKOFF, rng.fork());
    loop {
        let asked = timeout(ANSWER, ask(&identity, &dial)).await;
        match asked.unwrap_or_else(|_| Err(format!("no answer within {ANSWER:?}"))) {
            Ok(credentials) => {
                tracing::info!(id = %credentials.id, serial = credentials.serial, "has a certificate");
                let now = identity.held.now();
                let next = now + credentials.renew_after(now, rng.f64());
                identity.replace(credentials);
                backoff = Backoff::new(BACKOFF, rng.fork());
                due(&identity, next).await;
            }
            Err(why) => {
                let retry_in = backoff.next_delay(Duration::ZERO);
                identity.failed(&why);
                tell(&identity, &why, retry_in);
                tokio::select! {
                    () = sleep(retry_in) => {}
                    () = identity.renew.notified() => {}
                }
            }
        }
    }
}

fn tell(identity: &WorkloadIdentity, why: &str, retry_in: Duration) {
    match identity.held.current() {
        Some(held) if identity.held.usable().is_some() => {
            let left = held.not_after.duration_since(identity.held.now()).unwrap_or_default();
            tracing::warn!(why, ?left, ?retry_in, "no new certificate; the one in use holds for that long");
        }
        Some(_) => tracing::error!(why, ?retry_in, "the certificate has run out, and there is no new one"),
        None => tracing::error!(why, ?retry_in, "no certificate"),
    }
}

/// Waits until it is time for the next, or somebody wants it now.
async fn due(identity: &WorkloadIdentity, at: SystemTime) {
    while let Ok(left) = at.duration_since(identity.held.now())
        && !left.is_zero()
    {
        tokio::select! {
            () = sleep(left.min(LOOK_AGAIN)) => {}
            () = identity.renew.notified() => return,
        }
    }
}

async fn ask(identity: &WorkloadIdentity, dial: &Dial) -> Result<Credentials, String> {
    let request = KeyRequest::new().map_err(|error| error.to_string())?;
    let mut asked = Request::new(IstioCertificateRequest { csr: request.csr.clone(), ..Default::default() });
    match token(identity) {
        Ok(token) => {
            let bearer = format!("Bearer {token}").parse().map_err(|_| "the token is no header")?;
            asked.metadata_mut().insert(AUTHORIZATION, bearer);
        }
        // Whoever has a certificate is known by it.
        Err(why) if identity.held.usable().is_none() => return Err(why),
        Err(_) => {}
    }
    let channel = dial.connect().await.map_err(|error| grpc::cause(&error))?;
    let answer = IstioCertificateServiceClient::new(channel).create_certificate(asked).await;
    let answer = answer.map_err(|status| format!("{:?}: {}", status.code(), status.message()))?.into_inner();
    let read = Credentials::read(&answer.cert_chain, &answer.trust_bundle, request.key(), &identity.held);
    let credentials = read.map_err(|error| format!("what was answered is not used: {error}"))?;
    let before: Option<SpiffeId> = identity.held.current().map(|held| held.id.clone());
    if let Some(before) = before.filter(|before| *before != credentials.id) {
        tracing::warn!(%before, now = %credentials.id, "the authority knows this workload by another name now");
    }
    Ok(credentials)
}

fn token(identity: &WorkloadIdentity) -> Result<String, String> {
    let path = identity.config.token.as_deref().ok_or("there is no token")?;
    let read = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let token = read.trim();
    if token.is_empty() { Err(format!("{}: it is empty", path.display())) } else { Ok(token.to_owned()) }
}
