//! HTTP/3 at a gateway's HTTPS listeners: the same address and port by UDP, the same certificates, and the same story
//! of a request. Only here is known that there is QUIC.
//!
//! No early data (0-RTT): it can be replayed, and no policy could tell.

mod advert;
mod body;
mod connection;
mod endpoint;
mod exchange;
mod frames;
mod quic;

pub(crate) use advert::Adverts;
pub(crate) use body::{BodyError, Incoming};
pub(crate) use endpoint::{Endpoint, tls};
