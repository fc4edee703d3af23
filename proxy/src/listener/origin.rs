//! Where a connection of our own application wanted to go before it was led to us.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use socket2::{SockAddr, SockRef};
use tokio::net::TcpStream;

use super::proxy_protocol::{self, Addresses, HeaderError};
use crate::listener::{ListenerStatus, Listeners};

/// For a whole PROXY protocol header, which is sent at once.
const HEADER_TIME: Duration = Duration::from_secs(5);

/// Who connected, and to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) client: SocketAddr,
    /// `None`: to us; the request says what it is for.
    pub(super) destination: Option<SocketAddr>,
}

/// Why a connection is closed before its first byte is looked at.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("no PROXY protocol header within {HEADER_TIME:?}")]
    Late,
    #[error("it leads back to this proxy: {0}")]
    Loop(SocketAddr),
}

impl Origin {
    /// By the header that must be there with `--accept-proxy-protocol`, else by the kernel's memory of a redirection.
    ///
    /// # Errors
    /// The header cannot be had, or the destination is one of our own sockets.
    pub(super) async fn find(
        stream: &mut TcpStream,
        client: SocketAddr,
        header: bool,
        ours: &Listeners,
    ) -> Result<Self, Refusal> {
        let local = canonical(stream.local_addr().map_err(HeaderError::from)?);
        let client = canonical(client);
        let origin = if header {
            let told = tokio::time::timeout(HEADER_TIME, proxy_protocol::read(stream)).await;
            match told.map_err(|_| Refusal::Late)?? {
                Some(Addresses { source, destination }) => {
                    Self { client: source, destination: Some(destination) }
                }
                None => Self { client, destination: None },
            }
        } else {
            // A connection that was meant for us remembers nothing, or us.
            let redirected = original_destination(stream, local).filter(|address| *address != local);
            Self { client, destination: redirected }
        };
        match origin.destination {
            Some(address) if is_ours(address, local, ours) => Err(Refusal::Loop(address)),
            _ => Ok(origin),
        }
    }
}

/// What iptables or nftables REDIRECT keeps (`SO_ORIGINAL_DST`); `None` where nothing was redirected, or the kernel
/// keeps no such memory.
fn original_destination(stream: &TcpStream, local: SocketAddr) -> Option<SocketAddr> {
    let kept = if local.is_ipv4() { original_v4(stream) } else { original_v6(stream) };
    kept.ok()?.as_socket().map(canonical)
}

#[cfg(target_os = "linux")]
fn original_v4(stream: &TcpStream) -> io::Result<SockAddr> {
    SockRef::from(stream).original_dst_v4()
}

#[cfg(target_os = "linux")]
fn original_v6(stream: &TcpStream) -> io::Result<SockAddr> {
    SockRef::from(stream).original_dst_v6()
}

#[cfg(not(target_os = "linux"))]
fn original_v4(_: &TcpStream) -> io::Result<SockAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn original_v6(_: &TcpStream) -> io::Result<SockAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether a connection to `address` would come out at one of our own sockets, and go round for ever.
fn is_ours(address: SocketAddr, local: SocketAddr, ours: &Listeners) -> bool {
    let bound = |status: &ListenerStatus| match status {
        ListenerStatus::Bound(at) => same_socket(address, canonical(*at)),
        ListenerStatus::Waiting(_) | ListenerStatus::Failed(_) => false,
    };
    address == local || ours.any(bound)
}

fn same_socket(address: SocketAddr, listener: SocketAddr) -> bool {
    address.port() == listener.port()
        && (address.ip() == listener.ip()
            || address.ip().is_unspecified()
            || (listener.ip().is_unspecified() && is_of_this_machine(address)))
}

/// Nobody can bind an address that is another machine's. Asked only where a port is the same.
fn is_of_this_machine(address: SocketAddr) -> bool {
    UdpSocket::bind((address.ip(), 0)).is_ok()
}

/// An IPv4 address is the same whichever family the socket is of: to limits, to routes, and to who reads the log.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_told_in_its_own_family() {
        let told = |text: &str| canonical(address(text)).to_string();
        assert_eq!(told("[::ffff:192.0.2.7]:4000"), "192.0.2.7:4000");
        assert_eq!(told("[2001:db8::7]:4000"), "[2001:db8::7]:4000");
    }

    #[test]
    fn our_own_sockets_are_known_by_every_address_that_leads_there() {
        let listeners = Listeners::default();
        listeners.set("inbound", ListenerStatus::Bound(address("127.0.0.5:8080")));
        listeners.set("outbound", ListenerStatus::Bound(address("0.0.0.0:9000")));
        let local = address("127.0.0.1:15001");
        for (text, want) in [
            ("127.0.0.1:15001", true),
            ("127.0.0.5:8080", true),
            ("0.0.0.0:8080", true),
            ("127.0.0.6:8080", false),
            ("127.0.0.6:9000", true),
            // A documentation address (RFC 5737) is nobody's.
            ("192.0.2.7:9000", false),
            ("127.0.0.6:9001", false),
        ] {
            assert_eq!(is_ours(address(text), local, &listeners), want, "{text}");
        }
    }
}
