//! A real OTLP/gRPC collector on loopback that keeps what it is sent, or takes it and never answers.

use std::collections::BTreeMap;
use std::future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// Only a test that is broken waits this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// See the module. Stops when dropped.
#[derive(Debug)]
pub struct OtlpCollector {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

/// A span as it arrived, with its values as text: numbers in decimal, ids in hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedSpan {
    pub trace_id: String,
    pub span_id: String,
    /// Empty for a root.
    pub parent_span_id: String,
    pub name: String,
    pub kind: SpanKind,
    pub status: StatusCode,
    pub status_message: String,
    pub trace_state: String,
    pub attributes: BTreeMap<String, String>,
    pub events: Vec<ReceivedEvent>,
    /// Of the process that sent it.
    pub resource: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedEvent {
    pub name: String,
    pub attributes: BTreeMap<String, String>,
}

#[derive(Debug)]
struct State {
    hanging: AtomicBool,
    calls: watch::Sender<usize>,
    spans: watch::Sender<Vec<ReceivedSpan>>,
    metadata: Mutex<MetadataMap>,
}

#[derive(Debug)]
struct Service(Arc<State>);

impl OtlpCollector {
    /// Listens on a free port of loopback.
    ///
    /// # Panics
    /// When loopback cannot be bound.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback can be bound");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State {
            hanging: AtomicBool::new(false),
            calls: watch::Sender::new(0),
            spans: watch::Sender::new(Vec::new()),
            metadata: Mutex::default(),
        });
        let service = TraceServiceServer::new(Service(state.clone()));
        let server = Server::builder().add_service(service);
        let task = tokio::spawn(async move {
            // A test that is over drops the server in the middle of whatever it did.
            let _ = server.serve_with_incoming(TcpIncoming::from(listener)).await;
        });
        Self { address, state, task }
    }

    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, takes spans and never answers.
    pub fn hang(&self) {
        self.state.hanging.store(true, Ordering::SeqCst);
    }

    /// Answers again; calls that hang already hang for ever.
    pub fn recover(&self) {
        self.state.hanging.store(false, Ordering::SeqCst);
    }

    /// Metadata of the last export call.
    pub fn metadata(&self) -> MetadataMap {
        self.state.metadata.lock().clone()
    }

    /// Waits until `count` spans have come in all, and tells all there are.
    ///
    /// # Panics
    /// When they do not come.
    pub async fn spans(&self, count: usize) -> Vec<ReceivedSpan> {
        let mut spans = self.state.spans.subscribe();
        let enough = timeout(PATIENCE, spans.wait_for(|spans| spans.len() >= count)).await;
        enough.expect("the spans come").expect("the collector lives").clone()
    }

    /// Waits until `count` export calls have been made in all, answered or not.
    ///
    /// # Panics
    /// When they are not made.
    pub async fn calls(&self, count: usize) {
        let mut calls = self.state.calls.subscribe();
        let enough = timeout(PATIENCE, calls.wait_for(|calls| *calls >= count)).await;
        enough.expect("the calls come").expect("the collector lives");
    }
}

impl Drop for OtlpCollector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ReceivedSpan {
    /// The attribute's value as text; empty when it is not there.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    fn new(span: Span, resource: BTreeMap<String, String>) -> Self {
        let status = span.status.clone().unwrap_or_default();
        let events = span
            .events
            .iter()
            .map(|event| ReceivedEvent { name: event.name.clone(), attributes: texts(&event.attributes) });
        Self {
            events: events.collect(),
            trace_id: hex(&span.trace_id),
            span_id: hex(&span.span_id),
            parent_span_id: hex(&span.parent_span_id),
            kind: span.kind(),
            status: status.code(),
            status_message: status.message,
            attributes: texts(&span.attributes),
            resource,
            name: span.name,
            trace_state: span.trace_state,
        }
    }
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let state = &self.0;
        state.calls.send_modify(|calls| *calls += 1);
        if state.hanging.load(Ordering::SeqCst) {
            future::pending::<()>().await;
        }
        *state.metadata.lock() = request.metadata().clone();
        let received = request.into_inner().resource_spans.into_iter().flat_map(|group| {
            let resource = group.resource.map(|r| texts(&r.attributes)).unwrap_or_default();
            let spans = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.map(move |span| ReceivedSpan::new(span, resource.clone()))
        });
        state.spans.send_modify(|spans| spans.extend(received));
        Ok(Response::new(ExportTraceServiceResponse { partial_success: None }))
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    attributes.iter().map(|kv| (kv.key.clone(), text(kv.value.as_ref()))).collect()
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|v| v.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(yes)) => yes.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
