//! The parts of a status that are about a piece of an object, not about the whole.

use std::sync::Arc;

use super::Condition;
use crate::model::TargetRef;
use crate::objects::RouteGroupKind;

/// An entry of the `status.listeners` of a Gateway or ListenerSet, but for what only proxies know (`Programmed`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerStatus {
    pub name: Arc<str>,
    pub supported_kinds: Vec<RouteGroupKind>,
    /// Accepted routes, whether or not the listener can be used itself.
    pub attached_routes: usize,
    pub conditions: Vec<Condition>,
}

/// An entry of a policy's `status.ancestors` (GEP-713): one of its targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AncestorStatus {
    pub target: TargetRef,
    pub conditions: Vec<Condition>,
}
