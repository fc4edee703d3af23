//! Finished spans -> a bounded queue -> batches to an OTLP/gRPC collector.
//!
//! The SDK's own batch processor runs a thread that cannot drive a gRPC client; this one is a task on the
//! telemetry runtime. A request only ever does a `try_send`. A collector that is slow, hangs or is away costs the
//! spans that do not fit the queue, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use opentelemetry_semantic_conventions::resource::{SERVICE_INSTANCE_ID, SERVICE_VERSION};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{error, info, warn};

use super::metrics::{Metrics, Signal};
use super::settings::{TelemetryConfig, TraceSettings};

/// The way to the export task, kept by the guard for the last flush.
#[derive(Debug)]
pub(super) struct SpanQueue {
    flush: mpsc::Sender<oneshot::Sender<()>>,
}

/// The SDK's side of the queue.
#[derive(Debug)]
pub(super) struct QueueProcessor {
    spans: mpsc::Sender<SpanData>,
    metrics: Arc<Metrics>,
}

struct ExportTask<E> {
    exporter: E,
    spans: mpsc::Receiver<SpanData>,
    settings: TraceSettings,
    metrics: Arc<Metrics>,
    failing: bool,
}

/// Starts the export to `settings.endpoint`; `None` (and an error in the log) if that is no usable address.
pub(super) fn start(
    config: &TelemetryConfig,
    endpoint: &str,
    resource: &Resource,
    runtime: &Handle,
    metrics: &Arc<Metrics>,
) -> Option<(QueueProcessor, SpanQueue)> {
    // The client's channel needs a reactor to be made, though it connects only with the first batch.
    let _entered = runtime.enter();
    let built = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint).build();
    let mut exporter = match built {
        Ok(exporter) => exporter,
        Err(e) => {
            error!(endpoint, error = %e, "traces are not exported");
            return None;
        }
    };
    exporter.set_resource(resource);
    let settings = config.traces.clone();
    let (span_sender, spans) = mpsc::channel(settings.queue.max(1));
    let (flush, flush_requests) = mpsc::channel(1);
    let task = ExportTask { exporter, spans, settings, metrics: metrics.clone(), failing: false };
    runtime.spawn(task.run(flush_requests));
    Some((QueueProcessor { spans: span_sender, metrics: metrics.clone() }, SpanQueue { flush }))
}

/// Who sends the spans: the environment's word first, ours where it is silent.
pub(super) fn resource(config: &TelemetryConfig) -> Resource {
    let named_by_env = std::env::var("OTEL_SERVICE_NAME").is_ok_and(|name| !name.is_empty())
        || std::env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|list| {
            list.split(',')
                .any(|entry| entry.split_once('=').is_some_and(|(k, _)| k.trim() == "service.name"))
        });
    let mut ours = vec![KeyValue::new(SERVICE_VERSION, env!("CARGO_PKG_VERSION"))];
    ours.extend(config.node.clone().map(|node| KeyValue::new(SERVICE_INSTANCE_ID, node)));
    let ours = Resource::builder_empty().with_attributes(ours).build();
    let from_env = Resource::builder();
    let from_env =
        if named_by_env { from_env } else { from_env.with_service_name(config.service_name.clone()) };
    let known = from_env.build();
    let fill = ours.iter().filter(|(key, _)| known.get(key).is_none());
    let fill: Vec<_> = fill.map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
    let builder = Resource::builder_empty();
    let known = known.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    builder.with_attributes(known.chain(fill)).build()
}

impl SpanQueue {
    /// Sends what is queued; gives up after `bound`.
    pub(super) async fn flush(self, bound: Duration) {
        let (done, flushed) = oneshot::channel();
        let flush = async {
            if self.flush.send(done).await.is_ok() {
                // An error means that the task is gone, and nothing can be flushed.
                let _ = flushed.await;
            }
        };
        if timeout(bound, flush).await.is_err() {
            warn!("the collector did not take the last spans in time; they are lost");
        }
    }
}

impl SpanProcessor for QueueProcessor {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.spans.try_send(span).is_err() {
            self.metrics.dropped(Signal::Traces, 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl<E: SpanExporter> ExportTask<E> {
    async fn run(mut self, mut flush_requests: mpsc::Receiver<oneshot::Sender<()>>) {
        let mut batch = Vec::new();
        let mut open = true;
        while open {
            tokio::select! {
                more = fill(&mut self.spans, &mut batch, &self.settings) => {
                    open = more;
                    self.export(std::mem::take(&mut batch)).await;
                }
                Some(done) = flush_requests.recv() => {
                    self.drain(std::mem::take(&mut batch)).await;
                    // Nobody waits any more once the bound has passed.
                    let _ = done.send(());
                }
            }
        }
    }

    async fn drain(&mut self, mut batch: Vec<SpanData>) {
        loop {
            while batch.len() < self.settings.batch
                && let Ok(span) = self.spans.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            self.export(std::mem::take(&mut batch)).await;
        }
    }

    async fn export(&mut self, batch: Vec<SpanData>) {
        let count = batch.len();
        if count == 0 {
            return;
        }
        let failed = match timeout(self.settings.timeout, self.exporter.export(batch)).await {
            Ok(Ok(())) => None,
            Ok(Err(e)) => Some(e.to_string()),
            Err(_) => Some(String::from("the collector did not answer in time")),
        };
        let was_failing = std::mem::replace(&mut self.failing, failed.is_some());
        match failed {
            Some(reason) => {
                self.metrics.dropped(Signal::Traces, u64::try_from(count).unwrap_or(u64::MAX));
                if !was_failing {
                    warn!(
                        reason,
                        "spans cannot be exported; they are dropped until the collector takes them again"
                    );
                }
            }
            None if was_failing => info!("spans are exported again"),
            None => {}
        }
    }
}

/// Adds to `batch` until it is full or its first span has waited long enough; false once the queue has closed.
/// May be cancelled: what was taken stays in `batch`.
async fn fill(
    spans: &mut mpsc::Receiver<SpanData>,
    batch: &mut Vec<SpanData>,
    settings: &TraceSettings,
) -> bool {
    if batch.is_empty() {
        let Some(first) = spans.recv().await else { return false };
        batch.push(first);
    }
    let deadline = Instant::now() + settings.delay;
    while batch.len() < settings.batch {
        let room = settings.batch - batch.len();
        match timeout_at(deadline, spans.recv_many(batch, room)).await {
            Ok(0) => return false,
            Ok(_) => {}
            Err(_) => break,
        }
    }
    true
}
