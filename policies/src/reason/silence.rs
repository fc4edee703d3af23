//! What a failure without a response says of the endpoint: one table for breakers and for retries.

use super::Reason;

/// Why there is no response, where the endpoint or the way to it is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    Connect,
    Timeout,
    Reset,
}

impl Reason {
    /// `None`: what the mesh refused, and a client that left, say nothing of the endpoint.
    pub(crate) fn silence(self) -> Option<Silence> {
        match self {
            Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::UpstreamTlsUntrusted
            | Self::UpstreamTlsFailed => Some(Silence::Connect),
            Self::RequestTimeout | Self::DeadlineExceeded => Some(Silence::Timeout),
            Self::UpstreamReset | Self::UpstreamProtocol => Some(Silence::Reset),
            Self::ClientGone
            | Self::ClientStalled
            | Self::IdleTimeout
            | Self::BadRequest
            | Self::Misdirected
            | Self::ConnectRefused
            | Self::UpgradeUnsupported
            | Self::BadHandshake
            | Self::NoRoute
            | Self::NoBackend
            | Self::InvalidBackend
            | Self::InvalidFilter
            | Self::UpstreamTlsInvalid
            | Self::NoEndpoint
            | Self::Unauthenticated
            | Self::KeysUnavailable
            | Self::AccessDenied
            | Self::MtlsRequired
            | Self::NoIdentity
            | Self::RateLimited
            | Self::Overloaded
            | Self::FaultInjected
            | Self::PluginAnswered
            | Self::PluginFailed
            | Self::PluginBodyTooLarge
            | Self::PluginClosed
            | Self::CircuitOpen
            | Self::EndpointsOpen
            | Self::Unhealthy
            | Self::ConnectionCap
            | Self::PendingCap
            | Self::RequestCap
            | Self::RetryCap
            | Self::Draining
            | Self::Internal => None,
        }
    }
}
