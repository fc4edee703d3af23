//! Who has which port, of the listeners looked at so far: whoever comes later yields.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::{HostPattern, ListenerName, SourceRef};
use crate::objects::ListenerProtocol;

/// Protocols that can share a port when the hostnames differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    Http,
    Tls,
    Tcp,
}

/// What a listener asks for beside its port.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) name: ListenerName,
    pub(super) source: SourceRef,
    /// Empty means all.
    pub(super) addresses: Vec<IpAddr>,
    /// `None` for what is not served: it takes no port from anybody.
    pub(super) family: Option<Family>,
    pub(super) host: HostPattern,
}

/// A listener that keeps its place against those that come later.
#[derive(Clone, Debug)]
struct Holder {
    claim: Claim,
    /// It cannot be told apart from another of its Gateway. Nobody serves the place, but it is not free for the
    /// Gateway's ListenerSets: what its owner meant would go to them.
    disputed: bool,
}

#[derive(Debug, Default)]
struct Port {
    /// One for each set of addresses and protocols: who has a whole port is found without looking at hostnames.
    places: Vec<Holder>,
    hosts: BTreeMap<(Option<Family>, HostPattern), Vec<Holder>>,
}

#[derive(Debug, Default)]
pub(super) struct Taken(BTreeMap<u16, Port>);

impl Family {
    /// `None` for what is not served.
    pub(super) fn of(protocol: &ListenerProtocol) -> Option<Self> {
        match protocol {
            ListenerProtocol::Http => Some(Self::Http),
            ListenerProtocol::Https | ListenerProtocol::Tls => Some(Self::Tls),
            ListenerProtocol::Tcp => Some(Self::Tcp),
            ListenerProtocol::Udp | ListenerProtocol::Other(_) => None,
        }
    }
}

impl Claim {
    /// Why two listeners on one port and address cannot both be served. What tells two TCP listeners apart is the port.
    pub(super) fn rivalry(&self, other: &Self) -> Option<&'static str> {
        match (self.family?, other.family?) {
            (Family::Tcp, Family::Tcp) => Some("PortUnavailable"),
            (a, b) if a == b => (self.host == other.host).then_some("HostnameConflict"),
            _ => Some("ProtocolConflict"),
        }
    }

    /// One address cannot be bound beside all addresses of the same port, whatever the hostnames are.
    pub(super) fn is_astride(&self, other: &Self) -> bool {
        self.addresses.is_empty() != other.addresses.is_empty()
    }

    fn meets(&self, other: &Self) -> bool {
        let none = self.addresses.is_empty() && other.addresses.is_empty();
        none || self.addresses.iter().any(|ip| other.addresses.contains(ip))
    }

    fn yields_to(&self, other: &Self) -> bool {
        self.is_astride(other) || (self.meets(other) && self.rivalry(other).is_some())
    }
}

impl Holder {
    fn keeps_from(&self, claim: &Claim) -> bool {
        (!self.disputed || self.claim.name.gateway == claim.name.gateway) && claim.yields_to(&self.claim)
    }

    /// Keeps the same place from the same others, whichever hostname they ask for.
    fn covers(&self, other: &Self) -> bool {
        let same = self.claim.addresses == other.claim.addresses && self.claim.family == other.claim.family;
        same && (!self.disputed || (other.disputed && self.claim.name.gateway == other.claim.name.gateway))
    }
}

impl Taken {
    /// The listener that `claim` has to yield to.
    pub(super) fn holder(&self, port: u16, claim: &Claim) -> Option<&Claim> {
        let port = self.0.get(&port).filter(|_| claim.family.is_some())?;
        let same_host = port.hosts.get(&(claim.family, claim.host.clone())).into_iter().flatten();
        let all = port.places.iter().chain(same_host);
        all.filter(|holder| holder.keeps_from(claim)).map(|holder| &holder.claim).next()
    }

    pub(super) fn insert(&mut self, port: u16, claim: Claim, disputed: bool) {
        if claim.family.is_none() {
            return;
        }
        let port = self.0.entry(port).or_default();
        let holder = Holder { claim, disputed };
        if !port.places.iter().any(|place| place.covers(&holder)) {
            port.places.push(holder.clone());
        }
        let key = (holder.claim.family, holder.claim.host.clone());
        port.hosts.entry(key).or_default().push(holder);
    }
}
