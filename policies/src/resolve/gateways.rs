//! Gateways -> listeners, and what is said of each of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::objects::Objects;
use super::{Condition, ListenerStatus, Resolved, certificates, gateway_tls};
use crate::model::{
    Accepts, Certificate, ClientValidation, HostPattern, Listener, ListenerName, Resource, SourceRef, TlsMode,
};
use crate::objects::{AddressKind, GATEWAY_GROUP, Gateway, ListenerProtocol, ListenerSpec, RouteGroupKind};

/// One listener on its way: what it asks for, and what is wrong with that.
struct Draft<'a> {
    spec: &'a ListenerSpec,
    source: SourceRef,
    name: ListenerName,
    addresses: Vec<IpAddr>,
    host: HostPattern,
    /// Reason and message.
    conflict: Option<(&'static str, String)>,
    unusable: Option<(&'static str, String)>,
    /// Of a listener where TLS ends.
    certificates: Vec<Certificate>,
    /// What is wrong with its other certificateRefs: reason and message.
    unresolved: Vec<(&'static str, String)>,
    clients: Option<ClientValidation>,
}

/// A listener that keeps its place against those of younger Gateways.
struct Holder {
    name: ListenerName,
    source: SourceRef,
    addresses: Vec<IpAddr>,
    family: Option<Family>,
    host: HostPattern,
}

/// Protocols that can share a port when the hostnames differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Http,
    Tls,
    Tcp,
}

pub(super) fn resolve(objects: &Objects<'_>, resolved: &mut Resolved) {
    let mut taken = BTreeMap::<u16, Vec<Holder>>::new();
    let mut gateways: Vec<&Gateway> = objects.gateways.values().copied().collect();
    gateways.sort_by(|a, b| a.meta.precedence().cmp(&b.meta.precedence()));
    for gateway in gateways {
        let mut drafts = drafts(objects, gateway);
        tell_apart(&mut drafts);
        for draft in &mut drafts {
            draft.yield_to(taken.get(&draft.spec.port).map_or(&[], Vec::as_slice));
        }
        let refusal = refusal(gateway);
        let holding =
            |draft: &&Draft<'_>| refusal.is_none() && draft.conflict.is_none() && draft.family().is_some();
        for draft in drafts.iter().filter(holding) {
            taken.entry(draft.spec.port).or_default().push(draft.holder());
        }
        let shown = gateway_tls::client_certificate(objects, gateway);
        let of_tls = gateway_tls::conditions(gateway, shown.as_ref());
        for condition in of_tls.into_iter().chain(conditions(&drafts, refusal.as_ref())) {
            resolved.tell("Gateway", &gateway.meta.name, condition);
        }
        let shown = shown.and_then(Result::ok);
        let listeners = drafts.iter().map(Draft::status).collect();
        resolved.listeners.insert(gateway.meta.name.clone(), listeners);
        let usable = drafts.into_iter().filter(|draft| refusal.is_none() && draft.is_usable());
        for draft in usable {
            let listener = Listener { client_certificate: shown.clone(), ..draft.listener() };
            resolved.resources.insert(Resource::Listener(listener));
        }
    }
}

/// The kinds of route that a listener takes, with those of its `allowedRoutes` that nobody knows.
fn kinds(spec: &ListenerSpec) -> (Vec<RouteGroupKind>, Vec<&RouteGroupKind>) {
    let carried: &[&str] = match spec.protocol {
        ListenerProtocol::Http | ListenerProtocol::Https => &["HTTPRoute", "GRPCRoute"],
        ListenerProtocol::Tls => &["TLSRoute"],
        ListenerProtocol::Tcp => &["TCPRoute"],
        ListenerProtocol::Udp | ListenerProtocol::Other(_) => &[],
    };
    let known = carried
        .iter()
        .map(|kind| RouteGroupKind { group: GATEWAY_GROUP.to_owned(), kind: (*kind).to_owned() });
    let known: Vec<_> = known.collect();
    let wanted = &spec.allowed_routes.kinds;
    let unknown = wanted.iter().filter(|kind| !known.contains(kind)).collect();
    let taken = known.into_iter().filter(|kind| wanted.is_empty() || wanted.contains(kind)).collect();
    (taken, unknown)
}

/// Whether the listener takes routes of this kind at all.
pub(super) fn takes(spec: &ListenerSpec, kind: &str) -> bool {
    kinds(spec).0.iter().any(|taken| taken.kind == kind)
}

/// `None` for what is not served: it takes no port from anybody.
fn family(protocol: &ListenerProtocol) -> Option<Family> {
    match protocol {
        ListenerProtocol::Http => Some(Family::Http),
        ListenerProtocol::Https | ListenerProtocol::Tls => Some(Family::Tls),
        ListenerProtocol::Tcp => Some(Family::Tcp),
        ListenerProtocol::Udp | ListenerProtocol::Other(_) => None,
    }
}

/// Why two listeners on one port and address cannot both be served. What tells two TCP listeners apart is the port.
fn rivalry(a: (Option<Family>, &HostPattern), b: (Option<Family>, &HostPattern)) -> Option<&'static str> {
    match (a.0?, b.0?) {
        (Family::Tcp, Family::Tcp) => Some("PortUnavailable"),
        (x, y) if x == y => (a.1 == b.1).then_some("HostnameConflict"),
        _ => Some("ProtocolConflict"),
    }
}

fn ends_tls(spec: &ListenerSpec) -> bool {
    let terminates = spec.tls.as_ref().is_some_and(|tls| tls.mode == crate::objects::TlsMode::Terminate);
    match spec.protocol {
        ListenerProtocol::Https => true,
        ListenerProtocol::Tls => terminates,
        _ => false,
    }
}

fn overlap(a: &[IpAddr], b: &[IpAddr]) -> bool {
    (a.is_empty() && b.is_empty()) || a.iter().any(|ip| b.contains(ip))
}

fn drafts<'a>(objects: &Objects<'_>, gateway: &'a Gateway) -> Vec<Draft<'a>> {
    let addresses = gateway.spec.addresses.iter().filter_map(|address| address.value.parse().ok());
    let addresses: Vec<IpAddr> = addresses.collect();
    let listeners = gateway.spec.listeners.iter().enumerate();
    listeners
        .map(|(at, spec)| {
            Draft::new(gateway, at, spec, addresses.clone()).with_certificates(objects, gateway)
        })
        .collect()
}

/// Of listeners of one Gateway that cannot be told apart none wins.
fn tell_apart(drafts: &mut [Draft<'_>]) {
    let conflict = |this: &Draft<'_>| {
        let others = drafts.iter().filter(|that| that.name != this.name && that.spec.port == this.spec.port);
        others
            .into_iter()
            .find_map(|that| Some((this.rivalry(that)?, that.name.clone(), that.source.clone())))
    };
    let conflicts: Vec<_> = drafts.iter().map(conflict).collect();
    for (draft, conflict) in drafts.iter_mut().zip(conflicts) {
        if let Some((reason, name, source)) = conflict {
            draft.conflict = Some((reason, draft.conflict_message(reason, &name, &source)));
        }
    }
}

/// Why none of a Gateway's listeners may be served, whatever they ask for: reason and message.
fn refusal(gateway: &Gateway) -> Option<(&'static str, String)> {
    let source = &gateway.meta.source;
    if gateway.spec.infrastructure.parameters_ref.is_some() {
        let message = format!("{source}: infrastructure.parametersRef: there are no parameters to set");
        return Some(("InvalidParameters", message));
    }
    let address = gateway.spec.addresses.iter().find(|address| address.kind != AddressKind::IPAddress)?;
    let kind = address.kind.as_str();
    let message = format!("{source}: addresses: type {kind} is not supported: use IPAddress");
    Some(("UnsupportedAddress", message))
}

/// What is said of the Gateway as a whole, with what is wrong with its listeners.
fn conditions(drafts: &[Draft<'_>], refusal: Option<&(&'static str, String)>) -> Vec<Condition> {
    let mut told = Vec::new();
    for draft in drafts {
        if let Some((reason, message)) = &draft.conflict {
            told.push(Condition::holds("Conflicted", reason, message.clone()));
        }
        if let Some(message) = draft.unknown_kinds() {
            told.push(Condition::fails("ResolvedRefs", "ListenersNotResolved", message));
        }
        let unresolved = draft.unresolved.iter();
        told.extend(
            unresolved.map(|(_, why)| Condition::fails("ResolvedRefs", "ListenersNotResolved", why.clone())),
        );
    }
    let unusable: Vec<_> =
        drafts.iter().filter_map(|draft| Some(draft.unusable.as_ref()?.1.as_str())).collect();
    let works = drafts.iter().any(Draft::is_usable);
    let all = drafts.iter().all(Draft::is_usable);
    if let Some((reason, message)) = refusal {
        told.push(Condition::fails("Accepted", reason, message.clone()));
        return told;
    }
    told.push(match (works, all) {
        (true, true) => Condition::accepted(),
        (true, false) => {
            let message =
                if unusable.is_empty() { "some listeners cannot be used" } else { &unusable.join("; ") };
            Condition::holds("Accepted", "ListenersNotValid", message)
        }
        (false, _) => {
            let message = if unusable.is_empty() { "no listener can be used" } else { &unusable.join("; ") };
            Condition::fails("Accepted", "ListenersNotValid", message)
        }
    });
    told
}

impl<'a> Draft<'a> {
    fn new(gateway: &'a Gateway, at: usize, spec: &'a ListenerSpec, addresses: Vec<IpAddr>) -> Self {
        let source = gateway.meta.at(gateway.lines.line(&format!("/listeners/{at}")));
        let name = ListenerName { gateway: gateway.meta.name.clone(), section: spec.name.as_str().into() };
        let unusable = match (spec.protocol.is_served(), HostPattern::parse(&spec.hostname)) {
            (true, Ok(_)) => None,
            (true, Err(error)) => Some(("Invalid", error.to_string())),
            (false, _) => {
                let why = format!("protocol {} is not served; HTTP, HTTPS, TLS and TCP are", spec.protocol);
                Some(("UnsupportedProtocol", why))
            }
        };
        let unusable =
            unusable.map(|(reason, why)| (reason, format!("{source}: listener `{}`: {why}", spec.name)));
        let host = HostPattern::parse(&spec.hostname).unwrap_or(HostPattern::Any);
        let (conflict, certificates, unresolved, clients) = (None, Vec::new(), Vec::new(), None);
        Self { spec, source, name, addresses, host, conflict, unusable, certificates, unresolved, clients }
    }

    fn with_certificates(mut self, objects: &Objects<'_>, gateway: &Gateway) -> Self {
        if !ends_tls(self.spec) {
            return self;
        }
        let (usable, invalid) = certificates::of_listener(objects, gateway, self.spec);
        let clients = gateway_tls::of_listener(objects, gateway, self.spec);
        let (source, name) = (&self.source, &self.spec.name);
        let told = |(reason, why)| (reason, format!("{source}: listener `{name}`: {why}"));
        if clients.nobody_to_trust {
            let why = String::from("no caCertificateRef of `tls.frontend` for its port can be used");
            self.unusable.get_or_insert_with(|| told(("NoValidCACertificate", why)));
        }
        self.unresolved = invalid.into_iter().chain(clients.invalid).map(told).collect();
        self.certificates = usable;
        self.clients = clients.validation;
        self
    }

    fn rivalry(&self, other: &Self) -> Option<&'static str> {
        rivalry((self.family(), &self.host), (other.family(), &other.host))
    }

    fn family(&self) -> Option<Family> {
        family(&self.spec.protocol)
    }

    /// Listeners of an older Gateway keep their place.
    fn yield_to(&mut self, holders: &[Holder]) {
        if self.conflict.is_some() || self.family().is_none() {
            return;
        }
        let conflict = |holder: &Holder| {
            // One address cannot be bound beside all addresses of the same port, whatever the hostnames are.
            if self.addresses.is_empty() != holder.addresses.is_empty() {
                return Some(("PortUnavailable", self.overlap_message(holder)));
            }
            let reason = rivalry((self.family(), &self.host), (holder.family, &holder.host))?;
            let here = overlap(&self.addresses, &holder.addresses);
            here.then(|| (reason, self.conflict_message(reason, &holder.name, &holder.source)))
        };
        self.conflict = holders.iter().find_map(conflict);
    }

    fn conflict_message(&self, reason: &str, other: &ListenerName, other_source: &SourceRef) -> String {
        let same = match reason {
            "PortUnavailable" => "the same address and port, which TCP cannot share, as",
            "ProtocolConflict" => "the same address and port, with another protocol, as",
            _ => "the same address, port and hostname as",
        };
        format!("{}: listener {} has {same} {other} ({other_source})", self.source, self.name)
    }

    fn overlap_message(&self, holder: &Holder) -> String {
        let (ours, theirs) =
            if self.addresses.is_empty() { ("all addresses", "one") } else { ("one address", "all") };
        let (source, name, port) = (&self.source, &self.name, self.spec.port);
        let (other, other_source) = (&holder.name, &holder.source);
        format!(
            "{source}: listener {name} is for {ours} of port {port}, and {other} for {theirs} ({other_source}): give \
             both Gateways `addresses`, or neither"
        )
    }

    fn unknown_kinds(&self) -> Option<String> {
        let unknown = kinds(self.spec).1;
        let names: Vec<_> = unknown.iter().map(|kind| format!("`{}`", kind.kind)).collect();
        let (source, name) = (&self.source, &self.spec.name);
        let text = || format!("{source}: listener `{name}` cannot take routes of kind {}", names.join(", "));
        (!names.is_empty()).then(text)
    }

    fn is_usable(&self) -> bool {
        let shown = !ends_tls(self.spec) || !self.certificates.is_empty();
        shown && self.conflict.is_none() && self.unusable.is_none()
    }

    fn holder(&self) -> Holder {
        Holder {
            name: self.name.clone(),
            source: self.source.clone(),
            addresses: self.addresses.clone(),
            family: self.family(),
            host: self.host.clone(),
        }
    }

    fn listener(self) -> Listener {
        let Self { spec, source, name, addresses, host: hostname, certificates, clients, .. } = self;
        let tls = ends_tls(spec).then_some(certificates);
        let accepts = match spec.protocol {
            ListenerProtocol::Tls => {
                Accepts::Tls { hostname, mode: tls.map_or(TlsMode::Passthrough, TlsMode::Terminate) }
            }
            ListenerProtocol::Tcp => Accepts::Tcp,
            _ => Accepts::Http { hostname, tls },
        };
        let port = spec.port;
        Listener { name, source, addresses, port, accepts, clients, client_certificate: None }
    }

    fn status(&self) -> ListenerStatus {
        let accepted = match self.unusable.as_ref().or(self.conflict.as_ref()) {
            Some((reason, message)) => Condition::fails("Accepted", reason, message.clone()),
            None => Condition::accepted(),
        };
        let conflicted = match &self.conflict {
            Some((reason, message)) => Condition::holds("Conflicted", reason, message.clone()),
            None => Condition::fails("Conflicted", "NoConflicts", ""),
        };
        let refs = match (self.unknown_kinds(), self.unresolved.first()) {
            (Some(message), _) => Condition::fails("ResolvedRefs", "InvalidRouteKinds", message),
            (None, Some((reason, message))) => Condition::fails("ResolvedRefs", reason, message.clone()),
            (None, None) => Condition::holds("ResolvedRefs", "ResolvedRefs", ""),
        };
        ListenerStatus {
            name: self.name.section.clone(),
            supported_kinds: kinds(self.spec).0,
            attached_routes: 0,
            conditions: vec![accepted, conflicted, refs],
        }
    }
}
