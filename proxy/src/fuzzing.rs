//! What reads bytes of strangers, as pure functions, for whoever throws bytes at it. No part of the proxy's interface.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::FutureExt;

use crate::listener::read_hello;
use crate::proxy_protocol::{self, Addresses};

pub mod properties;

/// What a PROXY protocol header says.
pub type Told = Option<(SocketAddr, SocketAddr)>;

/// Reads the header that `bytes` begin with: what it says, and how many bytes it has. `None`: there is none, or not a
/// whole one.
pub fn proxy_header(bytes: &[u8]) -> Option<(Told, usize)> {
    let mut rest = bytes;
    let told = proxy_protocol::read(&mut rest).now_or_never()?.ok()?;
    let told = told.map(|Addresses { source, destination }| (source, destination));
    Some((told, bytes.len() - rest.len()))
}

/// A header as it is sent, in both versions.
pub fn proxy_headers(addresses: Told) -> [Vec<u8>; 2] {
    use tidegate_policy::model::ProxyProtocol::{V1, V2};
    let addresses = addresses.map(|(source, destination)| Addresses { source, destination });
    [V1, V2].map(|version| proxy_protocol::header(version, addresses.as_ref()))
}

/// Reads the first message of a TLS client: the server that it asks for, if it names one. `None`: there is no such
/// message, or not a whole one.
pub fn client_hello(bytes: &[u8]) -> Option<Option<Arc<str>>> {
    let mut rest = bytes;
    read_hello(&mut rest).now_or_never()?.ok().map(|hello| hello.server_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_is_sent_is_read_to_its_end() {
        let told = Some(("192.0.2.1:4000".parse().unwrap(), "10.96.0.7:80".parse().unwrap()));
        for header in proxy_headers(told) {
            assert_eq!(proxy_header(&[&header, &b"more"[..]].concat()), Some((told, header.len())));
            assert_eq!(proxy_header(&header[..header.len() - 1]), None);
        }
        assert_eq!(client_hello(b"GET / HTTP/1.1\r\n"), None);
    }
}
