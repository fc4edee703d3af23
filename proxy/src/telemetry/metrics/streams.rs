//! Counters of opaque connections.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::series::{Labels, OTHER, Series};
use crate::telemetry::stream::StreamRecord;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabels {
    direction: &'static str,
    /// `namespace/name`; empty where there is none.
    route: Option<Arc<str>>,
    backend: Option<Arc<str>>,
    /// Response flag; empty for an end in order.
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByteLabels {
    direction: &'static str,
    /// `received` from clients, `sent` to them.
    way: &'static str,
}

#[derive(Debug)]
pub(in crate::telemetry) struct StreamCounts {
    ended: Series<StreamLabels, Counter>,
    bytes: Family<ByteLabels, Counter>,
}

impl StreamCounts {
    pub(super) fn register(registry: &mut Registry, cap: usize) -> Self {
        let ended = Series::new(cap, Counter::default);
        registry.register("tidegate_streams", "Opaque connections that have ended", ended.clone());
        let bytes = Family::default();
        let help = "Bytes of opaque connections that have ended";
        registry.register("tidegate_stream_bytes", help, bytes.clone());
        Self { ended, bytes }
    }

    pub(in crate::telemetry) fn ended(&self, stream: &StreamRecord) {
        let direction = stream.direction();
        let reason = stream.reason().map_or("", |reason| reason.flag());
        let (route, backend) = (stream.route().cloned(), stream.backend().cloned());
        let labels = StreamLabels { direction, route, backend, reason };
        self.ended.with(&labels, Counter::inc);
        for (way, bytes) in [("received", stream.passed.received()), ("sent", stream.passed.sent())] {
            self.bytes.get_or_create(&ByteLabels { direction, way }).inc_by(bytes);
        }
    }
}

impl Labels for StreamLabels {
    fn overflow(&self) -> Self {
        Self { route: Some(OTHER.into()), backend: Some(OTHER.into()), ..self.clone() }
    }
}
