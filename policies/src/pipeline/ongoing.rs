//! What was let in and still goes on when the configuration changes: connections that are carried as a whole, and tunnels.
//! Requests need none of this, for each is judged when it comes.

use std::sync::Arc;

use http::request;

use super::{Cut, Filter};
use crate::decision::Decisions;
use crate::jwt::Claims;
use crate::model::Peer;

/// What is known of it.
#[derive(Debug)]
pub struct Ongoing<'a> {
    pub peer: &'a Peer,
    /// What the client asked for by TLS (SNI), where that was read.
    pub server_name: Option<&'a str>,
    /// `None` for a connection that is carried as a whole.
    pub opened_by: Option<OpenedBy<'a>>,
    /// As of a request.
    pub decisions: &'a mut Decisions,
}

/// The request that opened a tunnel, as the policies saw it that were asked whether it may.
#[derive(Clone, Copy, Debug)]
pub struct OpenedBy<'a> {
    pub head: &'a request::Parts,
    pub route: Option<&'a str>,
    pub claims: Option<&'a Claims>,
}

/// Asks all filters for their word on what goes on, until one ends it.
///
/// # Errors
/// It is to be closed.
pub fn may_go_on(filters: &[Arc<dyn Filter>], cx: &mut Ongoing<'_>) -> Result<(), Cut> {
    filters.iter().try_for_each(|filter| filter.on_change(cx))
}
