//! TLS on the way to a target: what applies there, and the identity that keeps connections apart.
//!
//! The core links no TLS library. What the shell makes of the settings is kept with them, so that it lives exactly as
//! long as they do.

#[cfg(test)]
mod tests;

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rustc_hash::FxHashSet;

use super::build::Builder;
use super::rule::Side;
use crate::decision::{Decision, Outcome, RuleRef};
use crate::model::{BackendName, BackendTls, Certificate, PolicyRef, Verification};
use crate::reason::Reason;
use crate::state::{StateKey, StateStore};

/// That a target is called by TLS, and how.
#[derive(Clone, Debug)]
pub struct Origination {
    pub settings: Arc<TlsSettings>,
    policy: Arc<PolicyRef>,
    rule: Arc<RuleRef>,
}

/// What a connection by TLS depends on. There is one of each content for as long as anybody uses it: two connections
/// may stand in for each other only if their settings are the same allocation.
pub struct TlsSettings {
    pub verification: Verification,
    /// What the endpoint is shown if it asks.
    pub client_certificate: Option<Certificate>,
    made: OnceLock<Arc<dyn Any + Send + Sync>>,
}

/// The settings that are in use anywhere.
#[derive(Debug, Default)]
struct InUse(Mutex<FxHashSet<Arc<TlsSettings>>>);

impl Origination {
    /// Who says so.
    pub fn policy(&self) -> &PolicyRef {
        &self.policy
    }

    /// The policy's word on a call that failed for `reason`, if the policy was the cause.
    pub fn refusal(&self, reason: Reason) -> Option<Decision> {
        match reason {
            Reason::UpstreamTlsInvalid | Reason::UpstreamTlsUntrusted | Reason::UpstreamTlsFailed => {
                let (policy, rule) = (self.policy.clone(), self.rule.clone());
                Some(Decision { policy, rule, outcome: Outcome::Refused(reason), detail: None })
            }
            _ => None,
        }
    }
}

impl TlsSettings {
    pub(crate) fn new(verification: Verification, client_certificate: Option<Certificate>) -> Self {
        Self { verification, client_certificate, made: OnceLock::new() }
    }

    /// To be believed if whoever the machine trusts says that it is `host`.
    pub fn of_system(host: &str) -> Self {
        let verification = Verification {
            trust: Some(crate::model::Trust::System),
            hostname: host.into(),
            alt_names: Vec::new(),
        };
        Self::new(verification, None)
    }

    /// What `make` has made of these settings, the first time.
    pub fn made<T: Any + Send + Sync>(&self, make: impl Fn(&Self) -> T) -> Arc<T> {
        let made = self.made.get_or_init(|| Arc::new(make(self))).clone();
        // Of another type only if the shell makes two things of it.
        made.downcast().unwrap_or_else(|_| Arc::new(make(self)))
    }

    /// Whether anything has been made of them.
    pub fn is_made(&self) -> bool {
        self.made.get().is_some()
    }

    fn content(&self) -> (&Verification, Option<&Certificate>) {
        (&self.verification, self.client_certificate.as_ref())
    }
}

impl PartialEq for TlsSettings {
    fn eq(&self, other: &Self) -> bool {
        self.content() == other.content()
    }
}

impl Eq for TlsSettings {}

impl Hash for TlsSettings {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.verification.hash(state);
        self.client_certificate.as_ref().map(|certificate| &certificate.secret).hash(state);
    }
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.client_certificate.as_ref().map(|certificate| &certificate.secret);
        f.debug_struct("TlsSettings")
            .field("verification", &self.verification)
            .field("client_certificate", &shown)
            .finish_non_exhaustive()
    }
}

impl InUse {
    fn get(&self, settings: TlsSettings) -> Arc<TlsSettings> {
        let mut all = self.0.lock();
        if let Some(known) = all.get(&settings) {
            return known.clone();
        }
        let settings = Arc::new(settings);
        all.insert(settings.clone());
        settings
    }
}

impl Builder<'_> {
    /// How a backend is called from one side; `None`: without TLS.
    pub(super) fn origination(&mut self, backend: &BackendName, side: Side<'_>) -> Option<Origination> {
        let BackendTls { policy, verification } = self.resources.backends.get(backend)?.tls.as_ref()?;
        let shown = match side {
            Side::Gateway(listener) => self.resources.listeners.get(listener),
            Side::Outbound(_) => None,
        };
        let shown = shown.and_then(|listener| listener.client_certificate.clone());
        let rule = RuleRef { name: "validation".into(), source: policy.source.clone() };
        let settings = in_use(self.state).get(TlsSettings::new(verification.clone(), shown));
        let identity = Arc::as_ptr(&settings).addr();
        let tls = Origination { settings, policy: Arc::new(policy.clone()), rule: Arc::new(rule) };
        self.originations.entry(identity).or_insert_with(|| (backend.clone(), tls.clone()));
        Some(tls)
    }
}

/// Forgets what no snapshot uses any more.
pub(super) fn sweep(state: &StateStore) {
    in_use(state).0.lock().retain(|settings| Arc::strong_count(settings) > 1);
}

fn in_use(state: &StateStore) -> Arc<InUse> {
    state.get_or_insert(StateKey::new("upstream-tls", "settings"), InUse::default)
}
