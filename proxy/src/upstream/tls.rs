//! TLS to endpoints: connections are opened by it, and not used before the endpoint has proved who it is.
//!
//! What the settings of a target are made into is kept with the settings, see [`TlsSettings::made`]. Keys go from the
//! configuration into rustls and nowhere else.

mod connector;
mod stream;
mod verify;

use std::error::Error;
use std::sync::Arc;

use rustls::AlertDescription;
use tidegate_policy::Reason;
use tidegate_policy::snapshot::{Snapshot, TlsSettings};

pub(super) use connector::{Connector, Made};
pub(crate) use stream::UpstreamStream;

/// What is made of settings, for as long as they are in use.
pub(super) fn made(settings: &TlsSettings) -> Arc<Made> {
    settings.made(Connector::of)
}

/// Makes everything ready that `snapshot` has in it; what cannot be used is in the log, and calls fail there.
pub(crate) fn prepare(snapshot: &Snapshot) {
    for (backend, tls) in snapshot.originations() {
        if tls.settings.is_made() {
            continue;
        }
        if let Err(reason) = &*made(&tls.settings) {
            tracing::warn!(%backend, policy = %tls.policy().name, source = %tls.policy().source, reason, "calls will fail");
        }
    }
}

/// Whether the endpoint broke off the handshake because of what it was shown, or not shown: in TLS 1.3 that is told
/// only after our side is done. Nothing of the request has been read then.
pub(crate) fn refused_us(error: &(dyn Error + 'static)) -> bool {
    use AlertDescription as Alert;
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::AlertReceived(alert)) = error.downcast_ref() {
            return matches!(
                alert,
                Alert::CertificateRequired
                    | Alert::BadCertificate
                    | Alert::UnsupportedCertificate
                    | Alert::CertificateRevoked
                    | Alert::CertificateExpired
                    | Alert::CertificateUnknown
                    | Alert::UnknownCA
                    | Alert::AccessDenied
                    | Alert::HandshakeFailure
                    | Alert::DecryptError
            );
        }
        // An I/O error does not count what it wraps as its source.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = wrapped.map(|error| error as &(dyn Error + 'static)).or_else(|| error.source());
    }
    false
}

/// Why a handshake came to nothing.
pub(crate) fn failure(error: &std::io::Error) -> Reason {
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(_)) => Reason::UpstreamTlsUntrusted,
        _ => Reason::UpstreamTlsFailed,
    }
}
