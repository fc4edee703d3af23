//! Pools that share one cap on connections: where one waits, another may give.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::pool::EndpointPool;

/// The pools of all endpoints of one backend under one guard. Without a guard there is no cap, and a pool is alone.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Woken when a connection became idle or was closed.
    pub(crate) freed: Notify,
    members: Mutex<Vec<Weak<EndpointPool>>>,
}

impl Group {
    pub(crate) fn join(&self, pool: &Arc<EndpointPool>) {
        let mut members = self.members.lock();
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(pool));
    }

    /// The pools of other threads that lead to the same place as `pool`.
    pub(crate) fn siblings(&self, pool: &EndpointPool) -> Vec<Arc<EndpointPool>> {
        let members = self.members.lock();
        members.iter().filter_map(Weak::upgrade).filter(|member| member.is_sibling(pool)).collect()
    }

    /// Closes one idle connection of another member, so that its place under the cap becomes free: an endpoint
    /// must not starve because another one's idle connections hold all places.
    pub(crate) fn evict_idle(&self, except: &EndpointPool) -> bool {
        let members: Vec<_> = self.members.lock().iter().filter_map(Weak::upgrade).collect();
        members.iter().filter(|member| !std::ptr::eq(Arc::as_ptr(member), except)).any(|m| m.evict_one())
    }
}
