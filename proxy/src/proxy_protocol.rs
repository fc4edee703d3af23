//! The PROXY protocol, versions 1 and 2 (HAProxy, doc/proxy-protocol.txt).
//!
//! As its receiver, takes exactly the header off the stream and not a byte more; as its sender, see `write`. What the
//! addresses mean is no business of this module.

#[cfg(test)]
mod tests;
mod write;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use tokio::io::{AsyncRead, AsyncReadExt};

pub(crate) use write::header;

/// No version 1 header begins like this, and no HTTP.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const V1: &[u8] = b"PROXY ";
/// The longest line of version 1, with its end (section 2.1).
const V1_MAX: usize = 107;
/// Of two IPv6 addresses and their ports.
const V2_ADDRESSES: usize = 36;

/// What the sender says of the connection that it stands in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Addresses {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("the connection does not begin with a PROXY protocol header")]
    Missing,
    #[error("the PROXY protocol header is malformed: {0}")]
    Malformed(&'static str),
    #[error("the PROXY protocol header broke off: {0}")]
    Broken(#[from] io::Error),
}

use HeaderError::Malformed;

/// Reads the header. `None` where the sender speaks for itself (`LOCAL`) or does not know the addresses: then those of
/// the connection count.
///
/// # Errors
/// There is no header, or none that can be read.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Addresses>, HeaderError> {
    let mut first = [0; SIGNATURE.len()];
    stream.read_exact(&mut first).await?;
    if first == SIGNATURE {
        read_v2(stream).await
    } else if first.starts_with(V1) {
        read_v1(stream, &first).await
    } else {
        Err(HeaderError::Missing)
    }
}

/// Byte by byte, for what follows the line is not ours; whoever minds the cost sends version 2.
async fn read_v1(
    stream: &mut (impl AsyncRead + Unpin),
    first: &[u8],
) -> Result<Option<Addresses>, HeaderError> {
    let mut line = Vec::with_capacity(V1_MAX);
    line.extend_from_slice(first);
    while !line.ends_with(b"\r\n") {
        if line.len() == V1_MAX {
            return Err(Malformed("its line does not end"));
        }
        line.push(stream.read_u8().await?);
    }
    let text = line.get(V1.len()..line.len() - 2).unwrap_or_default();
    v1(std::str::from_utf8(text).map_err(|_| Malformed("its line is not text"))?)
}

/// What follows `PROXY `.
fn v1(line: &str) -> Result<Option<Addresses>, HeaderError> {
    let mut words = line.split(' ');
    match words.next() {
        Some("TCP4") => v1_addresses::<Ipv4Addr>(words).map(Some),
        Some("TCP6") => v1_addresses::<Ipv6Addr>(words).map(Some),
        // "The receiver must ignore anything presented before the CRLF."
        Some("UNKNOWN") => Ok(None),
        _ => Err(Malformed("its protocol is none of TCP4, TCP6, UNKNOWN")),
    }
}

fn v1_addresses<'a, T: FromStr + Into<IpAddr>>(
    mut words: impl Iterator<Item = &'a str>,
) -> Result<Addresses, HeaderError> {
    let mut ip = || words.next()?.parse::<T>().ok().map(Into::into);
    let (source, destination) = (ip(), ip());
    let mut port = || words.next().and_then(v1_port);
    let (source_port, destination_port) = (port(), port());
    match (source, destination, source_port, destination_port, words.next()) {
        (Some(source), Some(destination), Some(source_port), Some(destination_port), None) => {
            Ok(Addresses::new((source, source_port), (destination, destination_port)))
        }
        _ => Err(Malformed("its addresses cannot be read")),
    }
}

/// Decimal, without sign and leading zeros.
fn v1_port(word: &str) -> Option<u16> {
    let canonical = word.bytes().all(|b| b.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    word.parse().ok().filter(|_| canonical)
}

/// What follows the signature.
async fn read_v2(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Addresses>, HeaderError> {
    let mut fixed = [0; 4];
    stream.read_exact(&mut fixed).await?;
    let [version_and_command, family, high, low] = fixed;
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed("its version or command is unknown")),
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let mut addresses = [0; V2_ADDRESSES];
    let addresses = &mut addresses[..length.min(V2_ADDRESSES)];
    stream.read_exact(addresses).await?;
    // Checksums, names, certificates (TLVs): skipped, whatever they are.
    let rest = (length - addresses.len()) as u64;
    let skipped = tokio::io::copy(&mut stream.take(rest), &mut tokio::io::sink()).await?;
    if skipped < rest {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    if is_local { Ok(None) } else { v2_addresses(family, addresses) }
}

fn v2_addresses(family: u8, bytes: &[u8]) -> Result<Option<Addresses>, HeaderError> {
    const SHORT: HeaderError = Malformed("it is too short for its addresses");
    match family {
        // Unspecified, and a Unix socket: a stream that has no address of ours.
        0x00 | 0x31 => Ok(None),
        0x11 => {
            let [a, b, c, d, e, f, g, h, ports @ ..] = *bytes.first_chunk::<12>().ok_or(SHORT)?;
            let (source, destination) = v2_ports(ports);
            let (from, to) = (Ipv4Addr::new(a, b, c, d), Ipv4Addr::new(e, f, g, h));
            Ok(Some(Addresses::new((from.into(), source), (to.into(), destination))))
        }
        0x21 => {
            let (from, rest) = bytes.split_first_chunk::<16>().ok_or(SHORT)?;
            let (to, rest) = rest.split_first_chunk::<16>().ok_or(SHORT)?;
            let (source, destination) = v2_ports(*rest.first_chunk::<4>().ok_or(SHORT)?);
            let (from, to) = (Ipv6Addr::from(*from), Ipv6Addr::from(*to));
            Ok(Some(Addresses::new((from.into(), source), (to.into(), destination))))
        }
        _ => Err(Malformed("it is not about a TCP connection")),
    }
}

fn v2_ports([a, b, c, d]: [u8; 4]) -> (u16, u16) {
    (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

impl Addresses {
    /// An IPv4 address that is written as IPv6 is the same address.
    fn new(source: (IpAddr, u16), destination: (IpAddr, u16)) -> Self {
        let canonical = |(ip, port): (IpAddr, u16)| SocketAddr::new(ip.to_canonical(), port);
        Self { source: canonical(source), destination: canonical(destination) }
    }
}
