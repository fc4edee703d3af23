//! Whose request it is, by address: of the connection, or of what trusted proxies before us have written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::request;

use crate::model::Peer;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct ClientAddress {
    /// Proxies between the client and us that are believed, 0 for none: then no header is.
    pub(super) hops: u8,
    /// Bits that count.
    pub(super) ipv4: u8,
    pub(super) ipv6: u8,
}

/// An address as it is counted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Counted {
    octets: [u8; 16],
    length: usize,
}

impl Default for ClientAddress {
    fn default() -> Self {
        Self { hops: 0, ipv4: 32, ipv6: 128 }
    }
}

impl ClientAddress {
    /// As many proxies are believed.
    pub(in super::super) fn past(hops: u8) -> Self {
        Self { hops, ..Self::default() }
    }

    /// The whole address.
    pub(in super::super) fn ip(self, head: &request::Parts, peer: &Peer) -> IpAddr {
        let connected = peer.address.ip().to_canonical();
        self.forwarded(head, connected).unwrap_or(connected)
    }

    pub(super) fn of(self, head: &request::Parts, peer: &Peer) -> Counted {
        self.masked(self.ip(head, peer))
    }

    /// Of a connection, which nobody has told of but itself.
    pub(super) fn of_connection(self, peer: &Peer) -> Counted {
        self.masked(peer.address.ip().to_canonical())
    }

    /// As it is written; a network with its length.
    pub(super) fn text(self, head: &request::Parts, peer: &Peer) -> String {
        let Counted { octets, length } = self.of(head, peer);
        let [a, b, c, d, ..] = octets;
        let (ip, counted, whole) = match length {
            4 => (IpAddr::from([a, b, c, d]), self.ipv4, 32),
            _ => (IpAddr::from(octets), self.ipv6, 128),
        };
        if counted == whole { ip.to_string() } else { format!("{ip}/{counted}") }
    }

    /// What the outermost believed proxy has seen. `None` where there are fewer entries than believed proxies, or what is
    /// there is no address: whoever came past them is counted by the connection.
    fn forwarded(self, head: &request::Parts, connected: IpAddr) -> Option<IpAddr> {
        let believed = usize::from(self.hops).checked_sub(1)?;
        let fields = head.headers.get_all(X_FORWARDED_FOR).iter().rev();
        let entries = fields.flat_map(|field| field.to_str().unwrap_or("?").rsplit(','));
        let mut addresses = entries.map(|entry| parse(entry.trim())).peekable();
        // The proxy that this runs in has added the connection's address already.
        if addresses.peek() == Some(&Some(connected)) {
            addresses.next();
        }
        addresses.nth(believed)?
    }

    fn masked(self, address: IpAddr) -> Counted {
        let mut octets = [0; 16];
        match address {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.ipv4)).unwrap_or(0);
                octets[..4].copy_from_slice(&Ipv4Addr::from_bits(ip.to_bits() & mask).octets());
                Counted { octets, length: 4 }
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.ipv6)).unwrap_or(0);
                octets = Ipv6Addr::from_bits(ip.to_bits() & mask).octets();
                Counted { octets, length: 16 }
            }
        }
    }
}

impl Counted {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.octets[..self.length]
    }
}

/// With or without a port and brackets.
fn parse(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(entry, |(ip, _)| ip);
    let ip = bare.parse().ok().or_else(|| entry.parse::<std::net::SocketAddr>().ok().map(|with| with.ip()));
    ip.map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn counted(address: ClientAddress, peer: &str, fields: &[&str]) -> Counted {
        let mut request = Request::get("/");
        for field in fields {
            request = request.header(X_FORWARDED_FOR, *field);
        }
        let head = request.body(()).unwrap().into_parts().0;
        address.of(&head, &Peer { address: peer.parse().unwrap(), identity: None })
    }

    fn plain(ip: &str) -> Counted {
        ClientAddress::default().masked(ip.parse().unwrap())
    }

    #[test]
    fn as_many_proxies_are_believed_as_are_written_and_no_more() {
        let hops = |hops| ClientAddress { hops, ..ClientAddress::default() };
        let fields = &["6.6.6.6, 1.2.3.4", "10.0.0.2, 10.0.0.1"][..];
        for (believed, want) in [(0, "10.0.0.1"), (1, "10.0.0.2"), (2, "1.2.3.4"), (3, "6.6.6.6")] {
            assert_eq!(counted(hops(believed), "10.0.0.1:5", fields), plain(want), "{believed}");
        }
        assert_eq!(counted(hops(4), "10.0.0.1:5", fields), plain("10.0.0.1"), "past the proxies");
        // Not added by us yet.
        assert_eq!(counted(hops(1), "10.0.0.1:5", &["1.2.3.4"]), plain("1.2.3.4"));
        assert_eq!(counted(hops(1), "10.0.0.1:5", &[]), plain("10.0.0.1"));
    }

    #[test]
    fn what_is_no_address_is_not_believed() {
        let one = ClientAddress { hops: 1, ..ClientAddress::default() };
        for nonsense in ["unknown", "", "1.2.3", "::1::", ",", "1.2.3.4.5, x"] {
            assert_eq!(counted(one, "10.0.0.1:5", &[nonsense]), plain("10.0.0.1"), "{nonsense}");
        }
        assert_eq!(counted(one, "10.0.0.1:5", &["[2001:db8::1]:443"]), plain("2001:db8::1"));
        assert_eq!(counted(one, "10.0.0.1:5", &["1.2.3.4:80"]), plain("1.2.3.4"));
    }

    #[test]
    fn a_prefix_counts_a_network_as_one() {
        let networks = ClientAddress { hops: 0, ipv4: 24, ipv6: 64 };
        let of = |peer| counted(networks, peer, &[]);
        assert_eq!(of("10.1.2.3:1"), of("10.1.2.250:9"));
        assert_ne!(of("10.1.2.3:1"), of("10.1.3.3:1"));
        assert_eq!(of("[2001:db8:0:1::5]:1"), of("[2001:db8:0:1:ffff::]:1"));
        assert_ne!(of("[2001:db8:0:1::5]:1"), of("[2001:db8:0:2::5]:1"));
        assert_eq!(of("[::ffff:10.1.2.3]:1"), of("10.1.2.9:1"), "the same by whichever socket");
    }
}
