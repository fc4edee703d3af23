//! The proxies' metrics, as numbers the table needs. The only file that knows what the proxies call them.

use std::collections::BTreeMap;

use super::table::Circuit;
use crate::prometheus::{Buckets, Samples};

/// What one proxy has counted since it started.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    pub(crate) requests: f64,
    pub(crate) ok: f64,
    pub(crate) limited: f64,
    pub(crate) latency: Buckets,
}

/// The caller's view of the services it calls: by name of the Service.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Callees {
    pub(crate) counts: BTreeMap<String, Counts>,
    pub(crate) circuits: BTreeMap<String, Circuit>,
}
