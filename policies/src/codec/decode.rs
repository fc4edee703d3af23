use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{At, CodecError, proto};
use crate::model::{
    Accepts, Address, AppProtocol, Backend, BackendKind, BackendName, Certificate, Declared, Endpoint,
    Endpoints, HostPattern, Listener, ListenerName, MeshPeer, Meta, Mode, Placement, Policy, PrivateKey,
    ProxyProtocol, ResourceName, SourceMap, SourceRef, TargetKind, TargetRef, TlsMode,
};

pub(super) type Result<T> = std::result::Result<T, CodecError>;

impl TryFrom<proto::Backend> for Backend {
    type Error = CodecError;

    fn try_from(message: proto::Backend) -> Result<Self> {
        let name: BackendName = required(message.name)?.try_into().at("name")?;
        let meta: Meta = required(message.meta).and_then(TryInto::try_into).at("meta")?;
        if meta.name != name.object {
            return Err(CodecError::new(format!("is of {}, not of {name}", meta.name))).at("meta");
        }
        let protocol = match proto::AppProtocol::try_from(message.protocol) {
            Ok(proto::AppProtocol::Http1) => AppProtocol::Http1,
            Ok(proto::AppProtocol::H2c) => AppProtocol::H2c,
            Ok(proto::AppProtocol::Unspecified) | Err(_) => return unknown(message.protocol).at("protocol"),
        };
        let declared = match proto::Declared::try_from(message.declared) {
            Ok(proto::Declared::Unspecified) => Declared::Nothing,
            Ok(proto::Declared::Http) => Declared::Http,
            Ok(proto::Declared::Other) => Declared::Other,
            Err(_) => return unknown(message.declared).at("declared"),
        };
        let proxy_protocol = match proto::ProxyProtocol::try_from(message.proxy_protocol) {
            Ok(proto::ProxyProtocol::Unspecified) => None,
            Ok(proto::ProxyProtocol::V1) => Some(ProxyProtocol::V1),
            Ok(proto::ProxyProtocol::V2) => Some(ProxyProtocol::V2),
            Err(_) => return unknown(message.proxy_protocol).at("proxy_protocol"),
        };
        let connect_timeout = message.connect_timeout.map(duration).transpose().at("connect_timeout")?;
        let port_name = optional(&message.port_name);
        let cluster_ips = list(message.cluster_ips, "cluster_ips", |text| address(&text))?;
        let tls = message.tls.map(TryInto::try_into).transpose().at("tls")?;
        Ok(Self {
            name,
            source: meta.source,
            port_name,
            protocol,
            declared,
            connect_timeout,
            cluster_ips,
            tls,
            proxy_protocol,
        })
    }
}

fn address(text: &str) -> Result<IpAddr> {
    text.parse().or_else(|_| fault(format!("`{text}` is not an IP address")))
}

impl TryFrom<proto::Endpoints> for Endpoints {
    type Error = CodecError;

    fn try_from(message: proto::Endpoints) -> Result<Self> {
        let backend = required(message.backend).and_then(TryInto::try_into).at("backend")?;
        Ok(Self { backend, endpoints: list(message.endpoints, "endpoints", TryInto::try_into)? })
    }
}

impl TryFrom<proto::Endpoint> for Endpoint {
    type Error = CodecError;

    fn try_from(message: proto::Endpoint) -> Result<Self> {
        let port = port(message.port).at("port")?;
        let host = message.host;
        let address = match host.parse::<IpAddr>() {
            Ok(ip) => Address::Socket(SocketAddr::new(ip, port)),
            Err(_) if is_dns_name(&host) => Address::Name { host: host.into(), port },
            Err(_) => return fault(format!("`{host}` is neither an IP address nor a DNS name")).at("host"),
        };
        let placement = Placement {
            zone: (!message.zone.is_empty()).then(|| message.zone.into()),
            for_zones: message.for_zones.into_iter().map(Into::into).collect(),
            priority: message.priority,
        };
        let peer = |peer: proto::MeshPeer| {
            let service_accounts = list(peer.service_accounts, "service_accounts", TryInto::try_into)?;
            Ok(MeshPeer { service_accounts })
        };
        let mesh = message.mesh.map(peer).transpose().at("mesh")?;
        Ok(Self { address, weight: message.weight, placement, mesh })
    }
}

impl TryFrom<proto::Policy> for Policy {
    type Error = CodecError;

    fn try_from(message: proto::Policy) -> Result<Self> {
        let mode = match proto::Mode::try_from(message.mode) {
            Ok(proto::Mode::Enforce) => Mode::Enforce,
            Ok(proto::Mode::Shadow) => Mode::Shadow,
            Ok(proto::Mode::Unspecified) | Err(_) => return unknown(message.mode).at("mode"),
        };
        let spec = serde_json::from_str(&message.spec);
        Ok(Self {
            meta: required(message.meta).and_then(TryInto::try_into).at("meta")?,
            kind: name(message.kind).at("kind")?,
            targets: list(message.targets, "targets", TryInto::try_into)?,
            mode,
            spec: spec.map_err(|error| CodecError::new(error.to_string())).at("spec")?,
            lines: SourceMap(message.lines),
        })
    }
}

impl TryFrom<proto::TargetRef> for TargetRef {
    type Error = CodecError;

    fn try_from(message: proto::TargetRef) -> Result<Self> {
        let kind = match proto::TargetKind::try_from(message.kind) {
            Ok(proto::TargetKind::Namespace) => TargetKind::Namespace,
            Ok(proto::TargetKind::Gateway) => TargetKind::Gateway,
            Ok(proto::TargetKind::ListenerSet) => TargetKind::ListenerSet,
            Ok(proto::TargetKind::HttpRoute) => TargetKind::HTTPRoute,
            Ok(proto::TargetKind::GrpcRoute) => TargetKind::GRPCRoute,
            Ok(proto::TargetKind::TcpRoute) => TargetKind::TCPRoute,
            Ok(proto::TargetKind::TlsRoute) => TargetKind::TLSRoute,
            Ok(proto::TargetKind::Service) => TargetKind::Service,
            Ok(proto::TargetKind::Backend) => TargetKind::Backend,
            Ok(proto::TargetKind::Unspecified) | Err(_) => return unknown(message.kind).at("kind"),
        };
        let object = required(message.object).and_then(TryInto::try_into).at("object")?;
        Ok(Self { kind, object, section: optional(&message.section) })
    }
}

impl TryFrom<proto::Listener> for Listener {
    type Error = CodecError;

    fn try_from(message: proto::Listener) -> Result<Self> {
        let meta: Meta = required(message.meta).and_then(TryInto::try_into).at("meta")?;
        let section = name(message.section).at("section")?;
        let accepts = accepts(message.protocol, &message.hostname, message.tls)?;
        let parent = message.parent_gateway.map(TryInto::try_into).transpose().at("parent_gateway")?;
        let name = match parent {
            Some(gateway) => ListenerName { gateway, set: Some(meta.name), section },
            None => ListenerName::own(meta.name, section),
        };
        Ok(Self {
            accepts,
            name,
            source: meta.source,
            addresses: list(message.addresses, "addresses", |text| address(&text))?,
            port: port(message.port).at("port")?,
            clients: message.clients.map(TryInto::try_into).transpose().at("clients")?,
            client_certificate: message
                .client_certificate
                .map(TryInto::try_into)
                .transpose()
                .at("client_certificate")?,
        })
    }
}

fn accepts(protocol: i32, host: &str, tls: Option<proto::ListenerTls>) -> Result<Accepts> {
    let hostname = hostname(host).at("hostname")?;
    let tls = tls.map(certificates).transpose().at("tls")?;
    match proto::ListenerProtocol::try_from(protocol) {
        Ok(proto::ListenerProtocol::Http) => Ok(Accepts::Http { hostname, tls }),
        Ok(proto::ListenerProtocol::Tls) => {
            Ok(Accepts::Tls { hostname, mode: tls.map_or(TlsMode::Passthrough, TlsMode::Terminate) })
        }
        Ok(proto::ListenerProtocol::Tcp) if hostname != HostPattern::Any => {
            fault("TCP knows no names").at("hostname")
        }
        Ok(proto::ListenerProtocol::Tcp) if tls.is_some() => fault("TCP has no TLS").at("tls"),
        Ok(proto::ListenerProtocol::Tcp) => Ok(Accepts::Tcp),
        Ok(proto::ListenerProtocol::Unspecified) | Err(_) => unknown(protocol).at("protocol"),
    }
}

fn certificates(message: proto::ListenerTls) -> Result<Vec<Certificate>> {
    if message.certificates.is_empty() {
        return fault("TLS without a certificate").at("certificates");
    }
    list(message.certificates, "certificates", TryInto::try_into)
}

impl TryFrom<proto::Certificate> for Certificate {
    type Error = CodecError;

    fn try_from(message: proto::Certificate) -> Result<Self> {
        let secret = required(message.secret).and_then(TryInto::try_into).at("secret")?;
        Ok(Self { secret, chain: message.chain.into(), key: PrivateKey::new(message.key) })
    }
}

impl TryFrom<proto::ListenerName> for ListenerName {
    type Error = CodecError;

    fn try_from(message: proto::ListenerName) -> Result<Self> {
        let gateway = required(message.gateway).and_then(TryInto::try_into).at("gateway")?;
        let set = message.listener_set.map(TryInto::try_into).transpose().at("listener_set")?;
        Ok(Self { gateway, set, section: name(message.section).at("section")? })
    }
}

impl TryFrom<proto::BackendName> for BackendName {
    type Error = CodecError;

    fn try_from(message: proto::BackendName) -> Result<Self> {
        let kind = match proto::BackendKind::try_from(message.kind) {
            Ok(proto::BackendKind::Service) => BackendKind::Service,
            Ok(proto::BackendKind::Backend) => BackendKind::Backend,
            Ok(proto::BackendKind::Unspecified) | Err(_) => return unknown(message.kind).at("kind"),
        };
        let object = required(message.object).and_then(TryInto::try_into).at("object")?;
        Ok(Self { kind, object, port: port(message.port).at("port")? })
    }
}

impl TryFrom<proto::ObjectName> for ResourceName {
    type Error = CodecError;

    fn try_from(message: proto::ObjectName) -> Result<Self> {
        let namespace = name(message.namespace).at("namespace")?;
        Ok(Self { namespace, name: name(message.name).at("name")? })
    }
}

impl TryFrom<proto::Meta> for Meta {
    type Error = CodecError;

    fn try_from(message: proto::Meta) -> Result<Self> {
        let proto::Meta { namespace, name, generation, file, line, created } = message;
        let name: ResourceName = proto::ObjectName { namespace, name }.try_into()?;
        let source = if file.is_empty() {
            SourceRef::Object { name: name.clone(), generation }
        } else {
            SourceRef::File { path: file.into(), line }
        };
        Ok(Self { name, source, created })
    }
}

pub(super) fn fault<T>(message: impl Into<String>) -> Result<T> {
    Err(CodecError::new(message))
}

pub(super) fn unknown<T>(value: i32) -> Result<T> {
    fault(format!("{value} is not a value that this version knows"))
}

pub(super) fn required<T>(field: Option<T>) -> Result<T> {
    field.ok_or_else(|| CodecError::new("is missing, or of a form that this version does not know"))
}

pub(super) fn list<M, T>(
    messages: Vec<M>,
    field: &str,
    mut read: impl FnMut(M) -> Result<T>,
) -> Result<Vec<T>> {
    let numbered = messages.into_iter().enumerate();
    numbered.map(|(i, message)| read(message).at(format_args!("{field}[{i}]"))).collect()
}

/// Part of a name: whatever separates parts may not be in it.
pub(super) fn name(text: String) -> Result<Arc<str>> {
    if text.is_empty() || text.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
        return fault(format!("`{text}` is not a name"));
    }
    Ok(text.into())
}

pub(super) fn optional(text: &str) -> Option<Arc<str>> {
    (!text.is_empty()).then(|| text.into())
}

pub(super) fn port(number: u32) -> Result<u16> {
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    port.ok_or_else(|| CodecError::new(format!("{number} is not a port")))
}

fn is_dns_name(text: &str) -> bool {
    matches!(HostPattern::parse(text), Ok(HostPattern::Exact(name)) if *name == *text)
}

pub(super) fn hostname(text: &str) -> Result<HostPattern> {
    HostPattern::parse(text).map_err(|error| CodecError::new(error.to_string()))
}

pub(super) fn duration<D>(message: D) -> Result<std::time::Duration>
where
    std::time::Duration: TryFrom<D>,
{
    message.try_into().map_err(|_| CodecError::new("is negative or out of range"))
}
