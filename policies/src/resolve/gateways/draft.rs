//! One listener on its way from what is written to what is served: what it asks for, and what is wrong with that.

use std::net::IpAddr;

use super::taken::{Claim, Family, Taken};
use crate::model::{Accepts, Certificate, ClientValidation, HostPattern, Listener, ListenerName, TlsMode};
use crate::objects::{GATEWAY_GROUP, ListenerProtocol, ListenerSpec, RouteGroupKind};
use crate::resolve::objects::Objects;
use crate::resolve::owner::Owner;
use crate::resolve::parents::Refusal;
use crate::resolve::{Condition, ListenerStatus, certificates, gateway_tls};

pub(super) struct Draft<'a> {
    pub(super) owner: Owner<'a>,
    pub(super) spec: &'a ListenerSpec,
    pub(super) claim: Claim,
    /// Reason and message.
    pub(super) conflict: Option<Refusal>,
    pub(super) unusable: Option<Refusal>,
    /// Of a listener where TLS ends.
    certificates: Vec<Certificate>,
    /// What is wrong with its other certificateRefs: reason and message.
    pub(super) unresolved: Vec<Refusal>,
    clients: Option<ClientValidation>,
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
pub(in crate::resolve) fn takes(spec: &ListenerSpec, kind: &str) -> bool {
    kinds(spec).0.iter().any(|taken| taken.kind == kind)
}

fn ends_tls(spec: &ListenerSpec) -> bool {
    let terminates = spec.tls.as_ref().is_some_and(|tls| tls.mode == crate::objects::TlsMode::Terminate);
    match spec.protocol {
        ListenerProtocol::Https => true,
        ListenerProtocol::Tls => terminates,
        _ => false,
    }
}

/// Of listeners of one owner that cannot be told apart none wins; but one that has to yield to others already does not
/// stand in the way.
pub(super) fn tell_apart(drafts: &mut [Draft<'_>]) {
    let left: Vec<usize> = (0..drafts.len()).filter(|at| drafts[*at].conflict.is_none()).collect();
    let found = |at: &usize| {
        let this = &drafts[*at];
        let others = left.iter().filter(|other| *other != at).map(|other| &drafts[*other]);
        let mut same_port = others.filter(|that| that.spec.port == this.spec.port);
        let rival = same_port.find(|that| this.claim.rivalry(&that.claim).is_some())?;
        Some((*at, conflict(this.spec.port, &this.claim, &rival.claim)))
    };
    let conflicts: Vec<_> = left.iter().filter_map(found).collect();
    for (at, conflict) in conflicts {
        drafts[at].conflict = Some(conflict);
    }
}

/// Why `claim` cannot be served beside `other`.
fn conflict(port: u16, claim: &Claim, other: &Claim) -> Refusal {
    let (source, name) = (&claim.source, &claim.name);
    let other_name = shown_to(&claim.name, other);
    if claim.is_astride(other) {
        let (ours, theirs) =
            if claim.addresses.is_empty() { ("all addresses", "one") } else { ("one address", "all") };
        let message = format!(
            "{source}: listener {name} is for {ours} of port {port}, and {other_name} for {theirs}: give both Gateways \
             `addresses`, or neither"
        );
        return ("PortUnavailable", message);
    }
    let reason = claim.rivalry(other).unwrap_or("HostnameConflict");
    let same = match reason {
        "PortUnavailable" => "the same address and port, which TCP cannot share, as",
        "ProtocolConflict" => "the same address and port, with another protocol, as",
        _ => "the same address, port and hostname as",
    };
    (reason, format!("{source}: listener {name} has {same} {other_name}"))
}

/// How a listener is called before those who wrote `name`: what other namespaces have in their ListenerSets is none of
/// the business of this one (GEP-1713).
fn shown_to(name: &ListenerName, other: &Claim) -> String {
    let own_gateway = other.name.set.is_none() && other.name.gateway == name.gateway;
    let same_namespace = other.name.owner().namespace == name.owner().namespace;
    if name.set.is_none() || own_gateway || same_namespace {
        format!("{} ({})", other.name, other.source)
    } else {
        String::from("a listener of another namespace, which came first")
    }
}

impl<'a> Draft<'a> {
    /// All listeners of one owner, with what is wrong with each of them by itself.
    pub(super) fn all(objects: &Objects<'_>, owner: Owner<'a>) -> Vec<Self> {
        let addresses = owner.gateway.spec.addresses.iter().filter_map(|address| address.value.parse().ok());
        let addresses: Vec<IpAddr> = addresses.collect();
        let draft = |(at, spec)| Draft::new(owner, at, spec, addresses.clone()).with_certificates(objects);
        owner.listeners().iter().enumerate().map(draft).collect()
    }

    fn new(owner: Owner<'a>, at: usize, spec: &'a ListenerSpec, addresses: Vec<IpAddr>) -> Self {
        let source = owner.source(at);
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
        let (name, family) = (owner.listener_name(&spec.name), Family::of(&spec.protocol));
        let host = HostPattern::parse(&spec.hostname).unwrap_or(HostPattern::Any);
        let claim = Claim { name, source, addresses, family, host };
        let (conflict, certificates, unresolved, clients) = (None, Vec::new(), Vec::new(), None);
        Self { owner, spec, claim, conflict, unusable, certificates, unresolved, clients }
    }

    fn with_certificates(mut self, objects: &Objects<'_>) -> Self {
        if !ends_tls(self.spec) {
            return self;
        }
        let (usable, invalid) = certificates::of_listener(objects, self.owner.referrer(), self.spec);
        let clients = gateway_tls::of_listener(objects, self.owner.gateway, self.spec);
        let (source, name) = (&self.claim.source, &self.spec.name);
        let told = |(reason, why)| (reason, format!("{source}: listener `{name}`: {why}"));
        if clients.nobody_to_trust {
            let why = String::from("no caCertificateRef of `tls.frontend` for its port can be used");
            self.unusable.get_or_insert_with(|| told(("NoValidCACertificate", why)));
        }
        // What the Gateway refers to is not for the eyes of those who write its ListenerSets.
        let discreet = |(reason, why)| match self.owner.set {
            Some(_) => {
                (reason, String::from("a caCertificateRef of the Gateway's `tls.frontend` cannot be used"))
            }
            None => (reason, why),
        };
        let of_clients = clients.invalid.into_iter().map(discreet);
        self.unresolved = invalid.into_iter().chain(of_clients).map(told).collect();
        self.certificates = usable;
        self.clients = clients.validation;
        self
    }

    /// Listeners that came before keep their place.
    pub(super) fn yield_to(&mut self, taken: &Taken) {
        let holder = taken.holder(self.spec.port, &self.claim);
        self.conflict = holder.map(|holder| conflict(self.spec.port, &self.claim, holder));
    }

    /// Nothing of the owner is served, whatever the listener asks for.
    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        self.unusable = Some(refusal.clone());
    }

    pub(super) fn unknown_kinds(&self) -> Option<String> {
        let unknown = kinds(self.spec).1;
        let names: Vec<_> = unknown.iter().map(|kind| format!("`{}`", kind.kind)).collect();
        let (source, name) = (&self.claim.source, &self.spec.name);
        let text = || format!("{source}: listener `{name}` cannot take routes of kind {}", names.join(", "));
        (!names.is_empty()).then(text)
    }

    pub(super) fn is_usable(&self) -> bool {
        let shown = !ends_tls(self.spec) || !self.certificates.is_empty();
        shown && self.conflict.is_none() && self.unusable.is_none()
    }

    pub(super) fn listener(self) -> Listener {
        let Self { spec, claim, certificates, clients, .. } = self;
        let Claim { name, source, addresses, host: hostname, .. } = claim;
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

    pub(super) fn status(&self) -> ListenerStatus {
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
            name: self.claim.name.section.clone(),
            supported_kinds: kinds(self.spec).0,
            attached_routes: 0,
            conditions: vec![accepted, conflicted, refs],
        }
    }
}
