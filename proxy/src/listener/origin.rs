//! Whose a connection is, and where one of our own application wanted to go before it was led to us.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use socket2::{SockAddr, SockRef};
use tokio::net::TcpStream;

use crate::config::ProxyHeaders;
use crate::listener::{ListenerStatus, Listeners};
use crate::proxy_protocol::{self, Addresses, HeaderError};

/// For a whole PROXY protocol header, which is sent at once.
const HEADER_TIME: Duration = Duration::from_secs(5);

/// Who connected, and to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) client: SocketAddr,
    /// The address that the client connected to.
    pub(super) reached: SocketAddr,
    /// Where it is to go, for a connection of our own application; `None`: to us, the request says what it is for.
    pub(super) destination: Option<SocketAddr>,
}

/// Why a connection is closed before its first byte is looked at.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("no PROXY protocol header within {HEADER_TIME:?}")]
    Late,
    #[error("a PROXY protocol header of {0} is not accepted, see --proxy-protocol-from")]
    Sender(IpAddr),
    #[error("it leads back to this proxy: {0}")]
    Loop(SocketAddr),
}

impl Origin {
    /// Of a connection of our own application: by the header that must be there with `--accept-proxy-protocol`, else by
    /// the kernel's memory of a redirection.
    ///
    /// # Errors
    /// The header cannot be had, or the destination is one of our own sockets.
    pub(super) async fn find(
        stream: &mut TcpStream,
        client: SocketAddr,
        header: Option<&ProxyHeaders>,
        ours: &Listeners,
    ) -> Result<Self, Refusal> {
        let here = Self::of_socket(stream, client)?;
        let local = here.reached;
        let origin = match header {
            Some(headers) => match told(stream, client, headers).await? {
                Some(Addresses { source, destination }) => {
                    Self { client: source, reached: destination, destination: Some(destination) }
                }
                None => here,
            },
            // A connection that was meant for us remembers nothing, or us.
            None => match original_destination(stream, local).filter(|address| *address != local) {
                Some(redirected) => Self { reached: redirected, destination: Some(redirected), ..here },
                None => here,
            },
        };
        match origin.destination {
            Some(address) if is_ours(address, local, ours) => Err(Refusal::Loop(address)),
            _ => Ok(origin),
        }
    }

    /// Of a call of our own application: what it was meant for is told by the header that must be there, else by the kernel's
    /// memory of a redirection. It goes to the application in any case.
    ///
    /// # Errors
    /// The header cannot be had.
    pub(super) async fn of_call(
        stream: &mut TcpStream,
        client: SocketAddr,
        header: Option<&ProxyHeaders>,
    ) -> Result<Self, Refusal> {
        if let Some(headers) = header {
            return Self::told(stream, client, headers).await;
        }
        let here = Self::of_socket(stream, client)?;
        let reached = original_destination(stream, here.reached).unwrap_or(here.reached);
        Ok(Self { reached, ..here })
    }

    /// As the socket itself says.
    ///
    /// # Errors
    /// The socket is gone already.
    pub(super) fn of_socket(stream: &TcpStream, client: SocketAddr) -> Result<Self, Refusal> {
        let reached = canonical(stream.local_addr().map_err(HeaderError::from)?);
        Ok(Self { client: canonical(client), reached, destination: None })
    }

    /// Of a connection to one of our own listeners, by the header that must be there. Where it goes is not for the header
    /// to say.
    ///
    /// # Errors
    /// The header cannot be had.
    pub(super) async fn told(
        stream: &mut TcpStream,
        client: SocketAddr,
        headers: &ProxyHeaders,
    ) -> Result<Self, Refusal> {
        let here = Self::of_socket(stream, client)?;
        Ok(match told(stream, client, headers).await? {
            Some(Addresses { source, destination }) => {
                Self { client: source, reached: destination, destination: None }
            }
            None => here,
        })
    }
}

/// What the header says; `None` where the sender speaks for itself.
async fn told(
    stream: &mut TcpStream,
    sender: SocketAddr,
    headers: &ProxyHeaders,
) -> Result<Option<Addresses>, Refusal> {
    if !headers.believes(sender.ip()) {
        return Err(Refusal::Sender(sender.ip().to_canonical()));
    }
    let told = tokio::time::timeout(HEADER_TIME, proxy_protocol::read(stream)).await;
    Ok(told.map_err(|_| Refusal::Late)??)
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
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::time::Instant;

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

    #[tokio::test(start_paused = true)]
    async fn a_header_that_does_not_come_in_time_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, from) = listener.accept().await.unwrap();
        client.write_all(b"PROXY TCP4 192.0.2.1 ").await.unwrap();
        let begun = Instant::now();
        let refusal = Origin::told(&mut stream, from, &ProxyHeaders::default()).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Late), "{refusal}");
        assert_eq!(begun.elapsed().as_secs(), HEADER_TIME.as_secs());
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
