//! Load balancing: which endpoint takes the next call. Pure: the caller brings the random numbers.

pub mod p2c;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::model::Address;

/// What is known of one endpoint of one backend. Lives in the state store, so it survives pushes.
#[derive(Debug)]
pub struct EndpointState {
    pub address: Address,
    /// Pre-rendered `address`, for labels.
    pub label: Arc<str>,
    weight: AtomicU32,
    in_flight: AtomicU32,
}

/// One call in flight to an endpoint: counted from [`EndpointState::start`] until this is dropped.
#[derive(Debug)]
pub struct InFlight(Arc<EndpointState>);

impl EndpointState {
    /// With weight 1 and nothing in flight.
    pub fn new(address: Address) -> Self {
        let label = address.to_string().into();
        Self { address, label, weight: AtomicU32::new(1), in_flight: AtomicU32::new(0) }
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Relative share of the backend's calls; 0 takes none.
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Told by each push. Calls that still use the snapshot before see it too, which only moves their share early.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::Relaxed);
    }

    /// Counts one more call until the returned guard is dropped.
    pub fn start(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_counts_until_its_guard_is_dropped() {
        let endpoint = Arc::new(EndpointState::new(Address::Name { host: "cart".into(), port: 80 }));
        let (a, b) = (endpoint.start(), endpoint.start());
        assert_eq!(endpoint.in_flight(), 2);
        drop((a, b));
        assert_eq!(endpoint.in_flight(), 0);
    }
}
