//! Keeps the certificates in a Secret that all replicas share. Any of them makes it if there is none; the leader renews.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kube::api::PostParams;
use kube::core::DynamicObject;
use kube::{Api, Client};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::authority::{Keys, Timetable, advance};
use crate::clock;
use crate::errors::{in_time, told};
use crate::secrets::{secret, secrets};
use crate::source::{Pauses, Timing};

/// Well within the time for which a successor is trusted before it signs.
const LOOK: Duration = Duration::from_secs(30);
/// What the certificates are made from; a Secret without it was brought by somebody, and is served as it is.
const STATE: &str = "state.json";

/// The certificate to serve with, replaced while connections go on.
#[derive(Debug, Default)]
pub(crate) struct Identity(ArcSwapOption<CertifiedKey>);

/// Where the certificates are kept, and for which names.
#[derive(Debug)]
pub(crate) struct Keeper {
    api: Api<DynamicObject>,
    name: String,
    names: Vec<String>,
    table: Timetable,
    timing: Timing,
    identity: Arc<Identity>,
    bundle: watch::Sender<Option<String>>,
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{}", told(.0))]
    Api(#[from] kube::Error),
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("Secret {0} cannot be used: {1}")]
    Unusable(String, String),
}

/// What a Secret holds.
enum Held {
    Ours(Box<Keys>),
    Brought { certificate: String, key: String, bundle: Option<String> },
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

impl Keeper {
    /// `name` is the Secret's in `namespace`; the certificates are for `service` there, and for `hosts`.
    pub(crate) fn new(
        client: Client,
        (namespace, name): (&str, &str),
        (service, hosts): (&str, &[String]),
        timing: Timing,
    ) -> Self {
        let names = ["", ".svc", ".svc.cluster.local"].map(|end| format!("{service}.{namespace}{end}"));
        Self {
            api: secrets(client, namespace),
            name: name.to_owned(),
            names: names.into_iter().chain(hosts.iter().cloned()).collect(),
            table: Timetable::default(),
            timing,
            identity: Arc::default(),
            bundle: watch::Sender::new(None),
        }
    }

    pub(crate) fn identity(&self) -> Arc<Identity> {
        self.identity.clone()
    }

    /// What the API server is to trust; nothing as long as it is not known.
    pub(crate) fn bundle(&self) -> watch::Receiver<Option<String>> {
        self.bundle.subscribe()
    }

    pub(crate) async fn run(self, mut leads: watch::Receiver<bool>, shutdown: CancellationToken) {
        let mut pauses = Pauses::new(&self.timing, crate::seed());
        let mut complaint = None;
        loop {
            let leading = *leads.borrow_and_update();
            let pause = match self.look(leading).await {
                Ok(()) => {
                    pauses.reset();
                    complaint = None;
                    LOOK
                }
                // Another replica was faster.
                Err(Fault::Api(kube::Error::Api(status))) if status.code == 409 => pauses.next(),
                Err(fault) => {
                    let fault = fault.to_string();
                    if complaint.as_ref() != Some(&fault) {
                        tracing::warn!(%fault, "cannot keep the webhook's certificates; trying again");
                    }
                    complaint = Some(fault);
                    pauses.next()
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                Ok(()) = leads.changed() => {}
            }
        }
    }

    async fn look(&self, leading: bool) -> Result<(), Fault> {
        let Some(secret) = in_time(self.api.get_opt(&self.name)).await? else {
            let Some(keys) = advance(None, &self.names, clock::now(), &self.table)? else { return Ok(()) };
            // Whoever is first makes it; the others find it the next time.
            in_time(self.api.create(&PostParams::default(), &self.secret(&keys, None))).await?;
            return self.serve(&Held::Ours(Box::new(keys)));
        };
        let mut held = self.held(&secret)?;
        if leading && let Held::Ours(keys) = &held {
            let next = advance(Some(keys), &self.names, clock::now(), &self.table)?;
            if let Some(next) = next {
                let fresh = self.secret(&next, Some(&secret));
                in_time(self.api.replace(&self.name, &PostParams::default(), &fresh)).await?;
                tracing::info!(secret = self.name, "the webhook's certificates were renewed");
                held = Held::Ours(Box::new(next));
            }
        }
        self.serve(&held)
    }

    fn held(&self, secret: &DynamicObject) -> Result<Held, Fault> {
        let unusable = |why: String| Fault::Unusable(self.name.clone(), why);
        let text = |field: &str| {
            let bytes = BASE64_STANDARD.decode(secret.data["data"][field].as_str()?).ok()?;
            String::from_utf8(bytes).ok()
        };
        if let Some(state) = text(STATE) {
            let keys = serde_json::from_str(&state).map_err(|e| unusable(format!("{STATE}: {e}")))?;
            return Ok(Held::Ours(keys));
        }
        match (text("tls.crt"), text("tls.key")) {
            (Some(certificate), Some(key)) => Ok(Held::Brought { certificate, key, bundle: text("ca.crt") }),
            _ => Err(unusable(String::from("it has no tls.crt and tls.key; delete it to have it made anew"))),
        }
    }

    fn serve(&self, held: &Held) -> Result<(), Fault> {
        let (certificate, key, bundle) = match held {
            Held::Ours(keys) => (keys.serving().0, keys.serving().1, Some(keys.bundle())),
            Held::Brought { certificate, key, bundle } => (&**certificate, &**key, bundle.clone()),
        };
        let unusable = |why: String| Fault::Unusable(self.name.clone(), why);
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
        let chain = chain.map_err(|e| unusable(format!("tls.crt: {e}")))?;
        let key =
            PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| unusable(format!("tls.key: {e}")))?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|e| unusable(e.to_string()))?;
        self.identity.0.store(Some(Arc::new(certified)));
        self.bundle.send_if_modified(|last| {
            let differs = *last != bundle;
            last.clone_from(&bundle);
            differs
        });
        Ok(())
    }

    fn secret(&self, keys: &Keys, before: Option<&DynamicObject>) -> DynamicObject {
        let state = serde_json::to_string(keys).unwrap_or_default();
        let (certificate, key) = keys.serving();
        let bundle = keys.bundle();
        let fields = [(STATE, &*state), ("tls.crt", certificate), ("tls.key", key), ("ca.crt", &bundle)];
        secret(&self.name, fields.map(|(name, text)| (name, text.as_bytes())), before)
    }
}
