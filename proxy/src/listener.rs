//! Sockets: bound, accepted from, closed. Which HTTP is spoken on a connection is no business of this module.

mod accept;
mod beside;
mod clients;
mod gateway;
mod hello;
mod origin;
mod room;
mod seldom;
mod status;
mod tls;

pub(crate) use accept::{Acceptor, Site, listen, reserve};
pub(crate) use gateway::{follow, probe};
pub(crate) use hello::{Hello, NoHello, Rewound, read as read_hello};
pub(crate) use origin::canonical;
pub(crate) use room::{Busy, Presence};
pub(crate) use status::gateway_name;
pub use status::{ListenerStatus, Listeners};
pub(crate) use tls::{BySocket, Certificates, HANDSHAKE, HTTP_2, handshake};
