//! What reads bytes of strangers, as pure functions, for whoever throws bytes at it. No part of the proxy's interface.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::FutureExt;

use crate::listener::{read_hello, read_proxy_header};

pub mod properties;

/// What a PROXY protocol header says.
pub type Told = Option<(SocketAddr, SocketAddr)>;

/// Reads the header that `bytes` begin with: what it says, and how many bytes it has. `None`: there is none, or not a
/// whole one.
pub fn proxy_header(bytes: &[u8]) -> Option<(Told, usize)> {
    let mut rest = bytes;
    let told = read_proxy_header(&mut rest).now_or_never()??;
    Some((told, bytes.len() - rest.len()))
}

/// Reads the first message of a TLS client: the server that it asks for, if it names one. `None`: there is no such
/// message, or not a whole one.
pub fn client_hello(bytes: &[u8]) -> Option<Option<Arc<str>>> {
    let mut rest = bytes;
    read_hello(&mut rest).now_or_never()?.ok().map(|hello| hello.server_name)
}
