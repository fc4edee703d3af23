use std::sync::Arc;

use super::decode::{Result, fault, hostname, list, required, unknown};
use super::{At, CodecError, proto};
use crate::model::{
    AltName, BACKEND_TLS_POLICY, BackendTls, ClientMode, ClientValidation, HostPattern, Meta, PolicyRef,
    Trust, Verification,
};

impl TryFrom<proto::ClientValidation> for ClientValidation {
    type Error = CodecError;

    fn try_from(message: proto::ClientValidation) -> Result<Self> {
        let mode = match proto::ClientMode::try_from(message.mode) {
            Ok(proto::ClientMode::ValidOnly) => ClientMode::ValidOnly,
            Ok(proto::ClientMode::InsecureFallback) => ClientMode::InsecureFallback,
            Ok(proto::ClientMode::Unspecified) | Err(_) => return unknown(message.mode).at("mode"),
        };
        Ok(Self { bundle: message.bundle.into(), mode })
    }
}

impl TryFrom<proto::BackendTls> for BackendTls {
    type Error = CodecError;

    fn try_from(message: proto::BackendTls) -> Result<Self> {
        use proto::backend_tls::Trust as Sent;
        let meta: Meta = required(message.policy).and_then(TryInto::try_into).at("policy")?;
        // A form of trust that this version does not know is none.
        let trust = message.trust.map(|trust| match trust {
            Sent::System(_) => Trust::System,
            Sent::Bundle(pem) => Trust::Bundle(pem.into()),
        });
        let verification = Verification {
            trust,
            hostname: exact(&message.hostname).at("hostname")?,
            alt_names: list(message.alt_names, "alt_names", TryInto::try_into)?,
        };
        let policy = PolicyRef { kind: BACKEND_TLS_POLICY.into(), name: meta.name, source: meta.source };
        Ok(Self { policy, verification })
    }
}

fn exact(text: &str) -> Result<Arc<str>> {
    match hostname(text)? {
        HostPattern::Exact(name) => Ok(name),
        _ => fault(format!("`{text}` is not one name")),
    }
}

impl TryFrom<proto::AltName> for AltName {
    type Error = CodecError;

    fn try_from(message: proto::AltName) -> Result<Self> {
        use proto::alt_name::Kind;
        match required(message.kind)? {
            Kind::Dns(name) => match hostname(&name).at("dns")? {
                HostPattern::Any => fault("is empty").at("dns"),
                name => Ok(Self::Dns(name)),
            },
            Kind::Uri(uri) if uri.is_empty() => fault("is empty").at("uri"),
            Kind::Uri(uri) => Ok(Self::Uri(uri.into())),
        }
    }
}
