//! Headers as we send them: nothing beside the addresses.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use tidegate_policy::model::ProxyProtocol;

use super::{Addresses, SIGNATURE};

/// What a connection begins with that carries bytes between these addresses; `None` for one that speaks for nobody, or
/// for somebody unknown: `LOCAL`, and in version 1 `UNKNOWN`.
pub(crate) fn header(version: ProxyProtocol, addresses: Option<&Addresses>) -> Vec<u8> {
    match version {
        ProxyProtocol::V1 => v1(addresses),
        ProxyProtocol::V2 => v2(addresses),
    }
}

/// Both of one family: there is one word for the two, and every IPv4 address has a form in IPv6 (RFC 4291, 2.5.5.2).
enum Families {
    V4([u8; 4], [u8; 4]),
    V6(Ipv6Addr, Ipv6Addr),
}

fn families(Addresses { source, destination }: &Addresses) -> Families {
    let mapped = |address: &SocketAddr| match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Families::V4(from.octets(), to.octets()),
        _ => Families::V6(mapped(source), mapped(destination)),
    }
}

fn v1(addresses: Option<&Addresses>) -> Vec<u8> {
    let Some(addresses) = addresses else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let (from, to) = (addresses.source.port(), addresses.destination.port());
    let line = match families(addresses) {
        Families::V4(source, destination) => {
            let (source, destination) = (IpAddr::from(source), IpAddr::from(destination));
            format!("PROXY TCP4 {source} {destination} {from} {to}\r\n")
        }
        Families::V6(source, destination) => format!("PROXY TCP6 {source} {destination} {from} {to}\r\n"),
    };
    line.into_bytes()
}

fn v2(addresses: Option<&Addresses>) -> Vec<u8> {
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    let mut header = SIGNATURE.to_vec();
    let Some(addresses) = addresses else {
        header.extend([LOCAL, 0, 0, 0]);
        return header;
    };
    match families(addresses) {
        Families::V4(source, destination) => {
            header.extend([PROXY, 0x11, 0, 12]);
            header.extend(source.into_iter().chain(destination));
        }
        Families::V6(source, destination) => {
            header.extend([PROXY, 0x21, 0, 36]);
            header.extend(source.octets().into_iter().chain(destination.octets()));
        }
    }
    for port in [addresses.source.port(), addresses.destination.port()] {
        header.extend(port.to_be_bytes());
    }
    header
}
