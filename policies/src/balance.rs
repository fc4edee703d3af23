//! Load balancing: which endpoint takes the next call. Pure: the caller brings time and random numbers.
//!
//! A [`LoadBalancing`] is what a policy says, a [`Balancer`] is that joined to the endpoints of one backend, once per
//! snapshot, with all tables built. What calls have shown of an endpoint is in its [`EndpointState`], which survives
//! pushes. A [`Choice`] is the question for one call.

mod alias;
mod balanced;
mod balancer;
mod choice;
#[cfg(test)]
mod grouped_tests;
mod latency;
mod places;
mod pool;
mod settings;
mod slow_start;
mod spill;
mod table;
#[cfg(test)]
mod tests;
mod turns;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::model::{Address, MeshPeer};
use crate::time::Timestamp;
use slow_start::Warmth;

pub use balanced::{Balanced, By};
pub use balancer::{Backing, Balancer};
pub use choice::{Choice, Wish};
pub use latency::{Latency, Sample};
pub use pool::Carried;
pub use settings::{Algorithm, Asker, HashKey, HashTable, Keyless, LoadBalancing, Locality, Origin, Prefer};
pub(crate) use settings::{DECAY, OVERPROVISIONING};
pub(crate) use slow_start::Roster;
pub use slow_start::SlowStart;

/// What is known of one endpoint of one backend. Lives in the state store, so it survives pushes.
#[derive(Debug)]
pub struct EndpointState {
    pub address: Address,
    /// The proxy that is called in its place, by mTLS. Another one is another endpoint.
    pub mesh: Option<MeshPeer>,
    /// Pre-rendered `address`, for labels.
    pub label: Arc<str>,
    pub latency: Latency,
    weight: AtomicU32,
    in_flight: AtomicU32,
    warmth: Warmth,
}

/// The endpoint of one call in flight: counted from [`EndpointState::start`] until this is dropped.
#[derive(Debug)]
pub struct InFlight(Arc<EndpointState>);

impl EndpointState {
    /// With weight 1 and nothing in flight.
    pub fn new(address: Address) -> Self {
        let label = address.to_string().into();
        Self {
            address,
            mesh: None,
            label,
            latency: Latency::default(),
            weight: AtomicU32::new(1),
            in_flight: AtomicU32::new(0),
            warmth: Warmth::default(),
        }
    }

    /// The same behind a proxy of the mesh.
    pub fn behind(mut self, mesh: Option<MeshPeer>) -> Self {
        self.mesh = mesh;
        self
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Relative share of the backend's calls, as of the last push; 0 takes none. A [`Balancer`] has its own.
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Told by each push.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::Relaxed);
    }

    /// It is in push number `push` of its backend; see [`Roster`].
    pub(crate) fn seen(&self, push: u64) {
        self.warmth.seen(push);
    }

    /// Counts one more call until the returned guard is dropped.
    pub fn start(self: &Arc<Self>, now: Timestamp) -> InFlight {
        self.latency.touch(now);
        self.warmth.touch(now);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }
}

impl Deref for InFlight {
    type Target = Arc<EndpointState>;

    fn deref(&self) -> &Arc<EndpointState> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
