//! Routes of whole connections, both ways.

use super::decode::{Result, list, name, optional, required, unknown};
use super::decode_route::invalid_ref;
use super::{At, CodecError, encode, proto};
use crate::model::{Meta, SourceRef, StreamBackend, StreamKind, StreamRoute, StreamRule};

impl From<&StreamRoute> for proto::StreamRoute {
    fn from(route: &StreamRoute) -> Self {
        let kind = match route.kind {
            StreamKind::Tcp => proto::StreamKind::Tcp,
            StreamKind::Tls => proto::StreamKind::Tls,
        };
        let line = match &route.rule.source {
            SourceRef::File { line, .. } => *line,
            SourceRef::Object { .. } => 0,
        };
        Self {
            meta: Some((&route.meta).into()),
            kind: kind.into(),
            parents: route.parents.iter().map(Into::into).collect(),
            rule: encode::optional(route.rule.name.as_ref()),
            line,
            backends: route.rule.backends.iter().map(Into::into).collect(),
        }
    }
}

impl From<&StreamBackend> for proto::StreamBackend {
    fn from(backend: &StreamBackend) -> Self {
        use proto::stream_backend::Target;
        let target = match &backend.target {
            Ok(name) => Target::Backend(name.into()),
            Err(why) => Target::Invalid(encode::invalid_ref(*why).into()),
        };
        Self { target: Some(target), weight: backend.weight }
    }
}

impl TryFrom<proto::StreamRoute> for StreamRoute {
    type Error = CodecError;

    fn try_from(message: proto::StreamRoute) -> Result<Self> {
        let kind = match proto::StreamKind::try_from(message.kind) {
            Ok(proto::StreamKind::Tcp) => StreamKind::Tcp,
            Ok(proto::StreamKind::Tls) => StreamKind::Tls,
            Ok(proto::StreamKind::Unspecified) | Err(_) => return unknown(message.kind).at("kind"),
        };
        let meta: Meta = required(message.meta).and_then(TryInto::try_into).at("meta")?;
        let rule = StreamRule {
            name: optional(&message.rule).map(|text| name(text.to_string())).transpose().at("rule")?,
            source: meta.at(Some(message.line)),
            backends: list(message.backends, "backends", TryInto::try_into)?,
        };
        Ok(Self { kind, parents: list(message.parents, "parents", TryInto::try_into)?, meta, rule })
    }
}

impl TryFrom<proto::StreamBackend> for StreamBackend {
    type Error = CodecError;

    fn try_from(message: proto::StreamBackend) -> Result<Self> {
        use proto::stream_backend::Target;
        let target = match required(message.target).at("target")? {
            Target::Backend(name) => Ok(name.try_into().at("backend")?),
            Target::Invalid(why) => Err(invalid_ref(why).at("invalid")?),
        };
        Ok(Self { target, weight: message.weight })
    }
}
