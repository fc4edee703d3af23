//! Whether connections between workloads must be mTLS: asked where they come in, and of those who open them.
//!
//! Both sides go by the same policy, so a caller knows what he will be held to, and never tries without.

use std::sync::Arc;

use crate::balance::EndpointState;
use crate::decision::{Decision, Outcome, RuleRef};
use crate::model::{MeshPeer, Mode, PolicyRef};
use crate::pipeline::{ConnectionContext, Cut, Filter, Phase, RequestContext, Verdict};
use crate::reason::Reason;
use crate::snapshot::BackendState;

/// What is asked of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mtls {
    /// By mTLS from those who can, from others as they come.
    Permissive,
    /// By mTLS or not at all.
    Strict,
    /// Callers come without.
    Disable,
}

/// A policy with its word for each port.
#[derive(Clone, Debug)]
pub struct MeshTls {
    pub policy: Arc<PolicyRef>,
    pub mode: Mode,
    pub usual: Asked,
    /// Of the workload, where it is another.
    pub ports: Vec<(u16, Asked)>,
}

/// What is asked, and where that is written.
#[derive(Clone, Debug)]
pub struct Asked {
    pub mtls: Mtls,
    pub rule: Arc<RuleRef>,
}

/// How an endpoint is to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// As its backend says.
    Plain,
    /// By mTLS, or not at all.
    Mesh,
}

/// Anybody of the trust domain.
const ANYBODY: &MeshPeer = &MeshPeer { service_accounts: Vec::new() };

impl MeshTls {
    fn at(&self, port: u16) -> &Asked {
        self.ports.iter().find(|(of, _)| *of == port).map_or(&self.usual, |(_, asked)| asked)
    }

    fn said(&self, rule: &Arc<RuleRef>, outcome: Outcome) -> Decision {
        Decision { policy: self.policy.clone(), rule: rule.clone(), outcome, detail: None }
    }
}

impl BackendState {
    /// How an endpoint of it is called by a proxy that has, or should have, an identity. TLS that a policy asks for on the
    /// way to the application itself is another matter, and comes before.
    pub fn way(&self, endpoint: &EndpointState, has_identity: bool) -> Way {
        if self.mtls.is_none() && endpoint.mesh.is_none() {
            return Way::Plain;
        }
        match self.asked(endpoint).map(|asked| asked.mtls) {
            Some(Mtls::Disable) => Way::Plain,
            Some(Mtls::Strict) => Way::Mesh,
            Some(Mtls::Permissive) | None if endpoint.mesh.is_some() && has_identity => Way::Mesh,
            Some(Mtls::Permissive) | None => Way::Plain,
        }
    }

    /// Who it must be that answers there.
    pub fn peer<'e>(&self, endpoint: &'e EndpointState) -> &'e MeshPeer {
        endpoint.mesh.as_ref().unwrap_or(ANYBODY)
    }

    /// The policy's word on a call that failed for want of an identity.
    pub fn refusal(&self, endpoint: &EndpointState, reason: Reason) -> Option<Decision> {
        let asked = self
            .asked(endpoint)
            .filter(|asked| asked.mtls == Mtls::Strict && matches!(reason, Reason::NoIdentity))?;
        Some(self.mtls.as_ref()?.said(&asked.rule, Outcome::Refused(reason)))
    }

    fn asked(&self, endpoint: &EndpointState) -> Option<&Asked> {
        let port = endpoint.address.port();
        self.mtls.as_ref().filter(|mtls| mtls.mode == Mode::Enforce).map(|mtls| mtls.at(port))
    }
}

impl Filter for MeshTls {
    fn phase(&self) -> Phase {
        Phase::Authenticate
    }

    fn on_request(&self, _: &mut RequestContext<'_>) -> Verdict {
        Verdict::Continue
    }

    fn judges_connections(&self) -> bool {
        true
    }

    fn on_connection(&self, cx: &mut ConnectionContext<'_>) -> Result<(), Cut> {
        let asked = self.at(cx.port);
        if asked.mtls != Mtls::Strict {
            return Ok(());
        }
        let reason = Reason::MtlsRequired;
        let outcome = match (&cx.peer.identity, self.mode) {
            (Some(_), _) => Outcome::Allowed,
            (None, Mode::Enforce) => Outcome::Refused(reason),
            (None, Mode::Shadow) => Outcome::WouldRefuse(reason),
        };
        cx.decisions.push(self.said(&asked.rule, outcome));
        if outcome == Outcome::Refused(reason) { Err(Cut { reason, reset: true }) } else { Ok(()) }
    }
}
