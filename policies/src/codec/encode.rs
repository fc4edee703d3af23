use std::sync::Arc;

use super::proto;
use crate::model::{Accepts, Address, HostPattern};
use crate::model::{
    AppProtocol, Backend, BackendKind, BackendName, BackendRef, Certificate, Declared, Endpoint, Endpoints,
    InvalidRef, Listener, ListenerName, Meta, Mode, PathMatch, Placement, Policy, ProxyProtocol,
    ResourceName, Retry, Route, RouteKind, RouteMatch, RouteParent, RouteRule, SessionCarrier,
    SessionPersistence, SourceRef, StringMatch, TargetKind, TargetRef,
};

impl From<&Backend> for proto::Backend {
    fn from(backend: &Backend) -> Self {
        let protocol = match backend.protocol {
            AppProtocol::Http1 => proto::AppProtocol::Http1,
            AppProtocol::H2c => proto::AppProtocol::H2c,
        };
        let declared = match backend.declared {
            Declared::Nothing => proto::Declared::Unspecified,
            Declared::Http => proto::Declared::Http,
            Declared::Other => proto::Declared::Other,
        };
        let proxy_protocol = match backend.proxy_protocol {
            None => proto::ProxyProtocol::Unspecified,
            Some(ProxyProtocol::V1) => proto::ProxyProtocol::V1,
            Some(ProxyProtocol::V2) => proto::ProxyProtocol::V2,
        };
        Self {
            name: Some((&backend.name).into()),
            meta: Some(meta(&backend.name.object, &backend.source, None)),
            protocol: protocol.into(),
            connect_timeout: backend.connect_timeout.and_then(|d| d.try_into().ok()),
            port_name: optional(backend.port_name.as_ref()),
            cluster_ips: backend.cluster_ips.iter().map(ToString::to_string).collect(),
            tls: backend.tls.as_ref().map(Into::into),
            declared: declared.into(),
            proxy_protocol: proxy_protocol.into(),
        }
    }
}

impl From<&Endpoints> for proto::Endpoints {
    fn from(endpoints: &Endpoints) -> Self {
        let all = endpoints.endpoints.iter().map(Into::into).collect();
        Self { backend: Some((&endpoints.backend).into()), endpoints: all }
    }
}

impl From<&Endpoint> for proto::Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        let (host, port) = match &endpoint.address {
            Address::Socket(address) => (address.ip().to_string(), address.port()),
            Address::Name { host, port } => (host.to_string(), *port),
        };
        let Placement { zone, for_zones, priority } = &endpoint.placement;
        Self {
            host,
            port: port.into(),
            weight: endpoint.weight,
            zone: zone.as_deref().unwrap_or_default().to_owned(),
            for_zones: for_zones.iter().map(ToString::to_string).collect(),
            priority: *priority,
            mesh: endpoint.mesh.as_ref().map(|peer| proto::MeshPeer {
                service_accounts: peer.service_accounts.iter().map(Into::into).collect(),
            }),
        }
    }
}

impl From<&Policy> for proto::Policy {
    fn from(policy: &Policy) -> Self {
        let mode = match policy.mode {
            Mode::Enforce => proto::Mode::Enforce,
            Mode::Shadow => proto::Mode::Shadow,
        };
        Self {
            meta: Some((&policy.meta).into()),
            kind: policy.kind.to_string(),
            targets: policy.targets.iter().map(Into::into).collect(),
            mode: mode.into(),
            spec: policy.spec.to_string(),
            lines: policy.lines.0.clone(),
        }
    }
}

impl From<&TargetRef> for proto::TargetRef {
    fn from(target: &TargetRef) -> Self {
        let kind = match target.kind {
            TargetKind::Namespace => proto::TargetKind::Namespace,
            TargetKind::Gateway => proto::TargetKind::Gateway,
            TargetKind::ListenerSet => proto::TargetKind::ListenerSet,
            TargetKind::HTTPRoute => proto::TargetKind::HttpRoute,
            TargetKind::GRPCRoute => proto::TargetKind::GrpcRoute,
            TargetKind::TCPRoute => proto::TargetKind::TcpRoute,
            TargetKind::TLSRoute => proto::TargetKind::TlsRoute,
            TargetKind::Service => proto::TargetKind::Service,
            TargetKind::Backend => proto::TargetKind::Backend,
        };
        let object = Some((&target.object).into());
        Self { kind: kind.into(), object, section: optional(target.section.as_ref()) }
    }
}

impl From<&Listener> for proto::Listener {
    fn from(listener: &Listener) -> Self {
        let protocol = match &listener.accepts {
            Accepts::Http { .. } => proto::ListenerProtocol::Http,
            Accepts::Tls { .. } => proto::ListenerProtocol::Tls,
            Accepts::Tcp => proto::ListenerProtocol::Tcp,
        };
        Self {
            protocol: protocol.into(),
            meta: Some(meta(listener.name.owner(), &listener.source, None)),
            parent_gateway: listener.name.set.as_ref().map(|_| (&listener.name.gateway).into()),
            section: listener.name.section.to_string(),
            addresses: listener.addresses.iter().map(ToString::to_string).collect(),
            port: listener.port.into(),
            hostname: listener.hostname().to_string(),
            tls: listener.certificates().map(|certificates| proto::ListenerTls {
                certificates: certificates.iter().map(Into::into).collect(),
            }),
            clients: listener.clients.as_ref().map(Into::into),
            client_certificate: listener.client_certificate.as_ref().map(Into::into),
        }
    }
}

impl From<&Certificate> for proto::Certificate {
    fn from(certificate: &Certificate) -> Self {
        Self {
            secret: Some((&certificate.secret).into()),
            chain: certificate.chain.to_vec(),
            key: certificate.key.expose().to_vec(),
        }
    }
}

impl From<&Route> for proto::Route {
    fn from(route: &Route) -> Self {
        let kind = match route.kind {
            RouteKind::Http => proto::RouteKind::Http,
            RouteKind::Grpc => proto::RouteKind::Grpc,
        };
        Self {
            kind: kind.into(),
            meta: Some((&route.meta).into()),
            parents: route.parents.iter().map(Into::into).collect(),
            rules: route.rules.iter().map(Into::into).collect(),
        }
    }
}

impl From<&RouteParent> for proto::RouteParent {
    fn from(parent: &RouteParent) -> Self {
        use proto::route_parent::Parent;
        let parent = match parent {
            RouteParent::Listener { listener, hostnames } => Parent::Listener(proto::ListenerParent {
                listener: Some(listener.into()),
                hostnames: hostnames.iter().map(HostPattern::to_string).collect(),
            }),
            RouteParent::Service { service, port } => Parent::Service(proto::ServiceParent {
                service: Some(service.into()),
                port: port.map(Into::into),
            }),
        };
        Self { parent: Some(parent) }
    }
}

impl From<&RouteRule> for proto::RouteRule {
    fn from(rule: &RouteRule) -> Self {
        let line = match &rule.source {
            SourceRef::File { line, .. } => *line,
            SourceRef::Object { .. } => 0,
        };
        Self {
            name: optional(rule.name.as_ref()),
            line,
            matches: rule.matches.iter().map(Into::into).collect(),
            filters: rule.filters.iter().map(Into::into).collect(),
            backends: rule.backends.iter().map(Into::into).collect(),
            request_timeout: rule.timeouts.request.and_then(|d| d.try_into().ok()),
            backend_request_timeout: rule.timeouts.backend_request.and_then(|d| d.try_into().ok()),
            retry: rule.retry.as_ref().map(Into::into),
            session: rule.session.as_ref().map(Into::into),
        }
    }
}

impl From<&SessionPersistence> for proto::SessionPersistence {
    fn from(session: &SessionPersistence) -> Self {
        use proto::session_persistence::Carrier;
        let carrier = match &session.carrier {
            SessionCarrier::Cookie { name, path, permanent } => Carrier::Cookie(proto::SessionCookie {
                name: optional(name.as_ref()),
                path: path.to_string(),
                permanent: *permanent,
            }),
            SessionCarrier::Header(name) => Carrier::Header(name.to_string()),
        };
        Self {
            carrier: Some(carrier),
            absolute_timeout: session.absolute_timeout.and_then(|d| d.try_into().ok()),
            idle_timeout: session.idle_timeout.and_then(|d| d.try_into().ok()),
        }
    }
}

impl From<&Retry> for proto::Retry {
    fn from(retry: &Retry) -> Self {
        Self {
            codes: retry.codes.iter().copied().map(Into::into).collect(),
            attempts: retry.attempts,
            backoff: retry.backoff.and_then(|d| d.try_into().ok()),
        }
    }
}

impl From<&RouteMatch> for proto::RouteMatch {
    fn from(wanted: &RouteMatch) -> Self {
        use proto::path_match::Kind;
        let path = match &wanted.path {
            PathMatch::Exact(path) => Kind::Exact(path.to_string()),
            PathMatch::Prefix(prefix) => Kind::Prefix(prefix.to_string()),
            PathMatch::Regex(regex) => Kind::Regex(bare(regex.as_str())),
            PathMatch::AnyService(method) => Kind::AnyService(method.to_string()),
        };
        Self {
            path: Some(proto::PathMatch { kind: Some(path) }),
            method: wanted.method.as_ref().map(ToString::to_string).unwrap_or_default(),
            headers: wanted.headers.iter().map(|h| named(h.name.as_str(), &h.value)).collect(),
            query: wanted.query.iter().map(|q| named(&q.name, &q.value)).collect(),
        }
    }
}

impl From<&BackendRef> for proto::BackendRef {
    fn from(backend: &BackendRef) -> Self {
        use proto::backend_ref::Target;
        let target = match &backend.target {
            Ok(name) => Target::Backend(name.into()),
            Err(why) => Target::Invalid(invalid_ref(*why).into()),
        };
        Self {
            target: Some(target),
            weight: backend.weight,
            identity: backend.identity.to_string(),
            filters: backend.filters.iter().map(Into::into).collect(),
        }
    }
}

impl From<&BackendName> for proto::BackendName {
    fn from(name: &BackendName) -> Self {
        let kind = match name.kind {
            BackendKind::Service => proto::BackendKind::Service,
            BackendKind::Backend => proto::BackendKind::Backend,
        };
        Self { kind: kind.into(), object: Some((&name.object).into()), port: name.port.into() }
    }
}

impl From<&ListenerName> for proto::ListenerName {
    fn from(name: &ListenerName) -> Self {
        Self {
            gateway: Some((&name.gateway).into()),
            listener_set: name.set.as_ref().map(Into::into),
            section: name.section.to_string(),
        }
    }
}

impl From<&ResourceName> for proto::ObjectName {
    fn from(name: &ResourceName) -> Self {
        Self { namespace: name.namespace.to_string(), name: name.name.to_string() }
    }
}

impl From<&Meta> for proto::Meta {
    fn from(value: &Meta) -> Self {
        meta(&value.name, &value.source, value.created)
    }
}

pub(super) fn meta(name: &ResourceName, source: &SourceRef, created: Option<i64>) -> proto::Meta {
    let (file, line, generation) = match source {
        SourceRef::File { path, line } => (path.to_string(), *line, 0),
        SourceRef::Object { generation, .. } => (String::new(), 0, *generation),
    };
    let (namespace, name) = (name.namespace.to_string(), name.name.to_string());
    proto::Meta { namespace, name, generation, file, line, created }
}

fn named(name: &str, value: &StringMatch) -> proto::NamedMatch {
    use proto::named_match::Kind;
    let kind = match value {
        StringMatch::Exact(value) => Kind::Exact(value.to_string()),
        StringMatch::Regex(regex) => Kind::Regex(bare(regex.as_str())),
    };
    proto::NamedMatch { name: name.to_owned(), kind: Some(kind) }
}

/// The pattern as its author wrote it: without what makes it match the whole value.
fn bare(anchored: &str) -> String {
    let inner = anchored.strip_prefix("^(?:").and_then(|rest| rest.strip_suffix(")$"));
    inner.unwrap_or(anchored).to_owned()
}

pub(super) fn invalid_ref(why: InvalidRef) -> proto::InvalidRef {
    match why {
        InvalidRef::InvalidKind => proto::InvalidRef::InvalidKind,
        InvalidRef::BackendNotFound => proto::InvalidRef::BackendNotFound,
        InvalidRef::RefNotPermitted => proto::InvalidRef::NotPermitted,
        InvalidRef::UnsupportedProtocol => proto::InvalidRef::UnsupportedProtocol,
    }
}

pub(super) fn optional(text: Option<&Arc<str>>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}
