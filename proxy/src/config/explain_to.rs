//! Who is told what was decided of a request, if they ask with `x-tidegate-explain`. Nobody, unless it is written.

use std::fmt;
use std::net::{IpAddr, UdpSocket};
use std::str::FromStr;

use ipnet::IpNet;
use tidegate_policy::model::Peer;

use super::proxy_headers::net;
use crate::telemetry::Direction;

/// One of those who may know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExplainTo {
    /// The application beside this proxy: whoever calls at `--outbound` from this machine.
    App,
    /// Whoever connects from there, at any listener.
    Net(IpNet),
    /// Whoever has proved to have this SPIFFE id, or one that begins so, if it ends with `/*`.
    Identity(Box<str>),
}

impl ExplainTo {
    pub(crate) fn permits(&self, peer: &Peer, direction: Direction) -> bool {
        match self {
            Self::App => direction == Direction::Outbound && is_own(peer.address.ip()),
            Self::Net(net) => net.contains(&peer.address.ip().to_canonical()),
            Self::Identity(wanted) => {
                peer.identity.as_ref().is_some_and(|identity| match wanted.strip_suffix('*') {
                    Some(beginning) => identity.0.starts_with(beginning),
                    None => *identity.0 == **wanted,
                })
            }
        }
    }
}

/// Whether an address is one of this machine, or pod: nothing else can be bound to.
fn is_own(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

impl FromStr for ExplainTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "app" {
            return Ok(Self::App);
        }
        if let Some(id) = text.strip_prefix("spiffe://") {
            let star = id.find('*');
            return match star {
                None if !id.is_empty() => Ok(Self::Identity(text.into())),
                // Up to a slash: `ns/shop*` would also be `ns/shopping`.
                Some(at) if at + 1 == id.len() && id.ends_with("/*") => Ok(Self::Identity(text.into())),
                _ => Err(String::from("a SPIFFE id may end with `/*`, and has no other `*`")),
            };
        }
        net(text).map(Self::Net).map_err(|_| {
            String::from("write `app`, a network such as 10.0.0.0/8, or a SPIFFE id such as spiffe://cluster.local/ns/ops/*")
        })
    }
}

impl fmt::Display for ExplainTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App => f.write_str("app"),
            Self::Net(net) => net.fmt(f),
            Self::Identity(id) => f.write_str(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_policy::model::Identity;

    use super::*;

    fn peer(address: &str, identity: Option<&str>) -> Peer {
        Peer { address: address.parse().unwrap(), identity: identity.map(|id| Identity(id.into())) }
    }

    fn permits(who: &str, peer: &Peer, direction: Direction) -> bool {
        who.parse::<ExplainTo>().unwrap().permits(peer, direction)
    }

    #[test]
    fn the_application_is_who_calls_at_outbound_from_this_machine() {
        let (own, other) = (peer("127.0.0.1:1", None), peer("192.0.2.1:1", None));
        assert!(permits("app", &own, Direction::Outbound));
        assert!(!permits("app", &other, Direction::Outbound));
        assert!(!permits("app", &own, Direction::Inbound), "a neighbour may come from here");
        assert!(!permits("app", &own, Direction::Gateway));
    }

    #[test]
    fn a_network_is_where_the_connection_comes_from() {
        for (address, inside) in [("10.1.2.3:4", true), ("[::ffff:10.1.2.3]:4", true), ("11.0.0.1:4", false)]
        {
            assert_eq!(permits("10.0.0.0/8", &peer(address, None), Direction::Gateway), inside, "{address}");
        }
    }

    #[test]
    fn an_identity_is_proved_and_whole() {
        let ops = "spiffe://cluster.local/ns/ops/sa/debug";
        let at = |id: Option<&str>, who: &str| permits(who, &peer("10.0.0.1:1", id), Direction::Inbound);
        assert!(at(Some(ops), ops) && at(Some(ops), "spiffe://cluster.local/ns/ops/*"));
        assert!(!at(None, ops));
        assert!(!at(Some("spiffe://cluster.local/ns/ops/sa/debugger"), ops));
        assert!(!at(Some("spiffe://cluster.local/ns/opsy/sa/debug"), "spiffe://cluster.local/ns/ops/*"));
    }

    #[test]
    fn what_is_neither_is_refused_with_what_would_be_right() {
        for bad in ["", "apps", "*", "spiffe://", "spiffe://a/*/b", "spiffe://a/ns*", "10.0.0.0/99"] {
            assert!(bad.parse::<ExplainTo>().is_err(), "{bad}");
        }
        for good in ["app", "10.0.0.0/8", "spiffe://a/ns/x/*"] {
            assert_eq!(good.parse::<ExplainTo>().unwrap().to_string(), good);
        }
    }
}
