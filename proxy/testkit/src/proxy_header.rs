//! PROXY protocol headers, as a load balancer or a redirecting init container would send them.

use std::net::{IpAddr, SocketAddr};

/// Version 1, the line.
pub fn v1(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

/// Version 2, with these extra bytes (TLVs) after the addresses.
///
/// # Panics
/// Where the two addresses are of different families, or all is too long for its length field.
pub fn v2(source: SocketAddr, destination: SocketAddr, tlvs: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    let family = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            body.extend(from.octets().into_iter().chain(to.octets()));
            0x11
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            body.extend(from.octets().into_iter().chain(to.octets()));
            0x21
        }
        _ => panic!("{source} and {destination} are of different families"),
    };
    body.extend(source.port().to_be_bytes().into_iter().chain(destination.port().to_be_bytes()));
    body.extend_from_slice(tlvs);
    v2_raw(0x21, family, &body)
}

/// Version 2 with any command, family and body.
///
/// # Panics
/// Where the body is too long for its length field.
pub fn v2_raw(version_and_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("a body within 65535 bytes");
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([version_and_command, family]);
    header.extend(length.to_be_bytes());
    header.extend_from_slice(body);
    header
}
