use super::encode::meta;
use super::proto;
use crate::model::{AltName, BackendTls, ClientMode, ClientValidation, Trust};

impl From<&ClientValidation> for proto::ClientValidation {
    fn from(validation: &ClientValidation) -> Self {
        let mode = match validation.mode {
            ClientMode::ValidOnly => proto::ClientMode::ValidOnly,
            ClientMode::InsecureFallback => proto::ClientMode::InsecureFallback,
        };
        Self { bundle: validation.bundle.to_vec(), mode: mode.into() }
    }
}

impl From<&BackendTls> for proto::BackendTls {
    fn from(BackendTls { policy, verification }: &BackendTls) -> Self {
        use proto::backend_tls::Trust as Sent;
        let trust = verification.trust.as_ref().map(|trust| match trust {
            Trust::System => Sent::System(proto::SystemTrust {}),
            Trust::Bundle(pem) => Sent::Bundle(pem.to_vec()),
        });
        Self {
            policy: Some(meta(&policy.name, &policy.source, None)),
            trust,
            hostname: verification.hostname.to_string(),
            alt_names: verification.alt_names.iter().map(Into::into).collect(),
        }
    }
}

impl From<&AltName> for proto::AltName {
    fn from(name: &AltName) -> Self {
        use proto::alt_name::Kind;
        let kind = match name {
            AltName::Dns(name) => Kind::Dns(name.to_string()),
            AltName::Uri(uri) => Kind::Uri(uri.to_string()),
        };
        Self { kind: Some(kind) }
    }
}
