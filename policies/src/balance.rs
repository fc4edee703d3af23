//! Load balancing: which endpoint takes the next call. Pure: the caller brings the random numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::model::Address;

/// What is known of one endpoint of one backend. Lives in the state store, so it survives pushes.
#[derive(Debug)]
pub struct EndpointState {
    pub address: Address,
    /// Pre-rendered `address`, for labels.
    pub label: Arc<str>,
    in_flight: AtomicU32,
}

impl EndpointState {
    pub fn new(address: Address) -> Self {
        let label = address.to_string().into();
        Self { address, label, in_flight: AtomicU32::new(0) }
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }
}
