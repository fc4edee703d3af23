//! Spans: one for the request as it came in, one for each attempt to answer it.
//!
//! What is told about a request is written when its span ends, and only if it is recorded: an unsampled request
//! costs two random numbers.

mod client;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, Span};
use tidegate_policy::decision::CallResult;
use tidegate_policy::health::Transition;
use tidegate_policy::{Decision, Outcome};
use tokio::runtime::Handle;

use super::attributes as name;
use super::exchange::{AttemptInfo, Finished, PluginTime, Record};
use super::exporter::{self, SpanQueue};
use super::fields::{self, Field};
use super::metrics::Metrics;
use super::propagate;
use super::settings::{Sampling, TelemetryConfig};
use client::ClientSpan;

/// How much of a trace this proxy is.
#[derive(Debug)]
pub(super) enum Tracing {
    /// No span is recorded, so none may stand between the caller's span and the callee's: a trace that comes in passes
    /// through as it is. None is started, for its first span would be missing wherever the others are recorded; log lines
    /// of the hops of a request share its `x-request-id`.
    Off,
    Record(SdkTracer),
}

/// The spans of one request.
#[derive(Debug, Default)]
pub(super) struct RequestTrace {
    /// Where the request is in its trace; `None` when it is in none.
    context: Option<SpanContext>,
    server: Option<Span>,
    client: Option<ClientSpan>,
}

impl Tracing {
    pub(super) fn start(
        config: &TelemetryConfig,
        runtime: &Handle,
        metrics: &Arc<Metrics>,
    ) -> (Self, Option<SpanQueue>) {
        let settings = &config.traces;
        if settings.disabled {
            return (Self::Off, None);
        }
        let started = settings.endpoint.as_deref().and_then(|endpoint| {
            let resource = exporter::resource(config);
            let (processor, queue) = exporter::start(config, endpoint, &resource, runtime, metrics)?;
            Some((processor, queue, resource))
        });
        let Some((processor, queue, resource)) = started else {
            return (Self::Off, None);
        };
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler(settings.sampling))
            .with_resource(resource)
            .with_span_processor(processor)
            .build();
        (Self::Record(provider.tracer("tidegate")), Some(queue))
    }

    pub(super) fn records(&self) -> bool {
        matches!(self, Self::Record(_))
    }

    /// `headers`: where they may say which trace the request is in.
    pub(super) fn begin(&self, headers: Option<&HeaderMap>, record: &Record) -> RequestTrace {
        let incoming = headers.and_then(propagate::extract);
        match self {
            Self::Off => RequestTrace { context: incoming, server: None, client: None },
            Self::Record(tracer) => {
                let span = start_span(tracer, incoming, SpanKind::Server, span_name(record));
                let context = Some(span.span_context().clone());
                RequestTrace { context, server: Some(span), client: None }
            }
        }
    }

    pub(super) fn attempt(
        &self,
        trace: &mut RequestTrace,
        record: &Record,
        info: &AttemptInfo,
        headers: &mut HeaderMap,
    ) {
        trace.end_client(record, None);
        let Self::Record(tracer) = self else { return };
        let span = start_span(tracer, trace.context.clone(), SpanKind::Client, span_name(record));
        propagate::inject(span.span_context(), headers);
        trace.client = Some(ClientSpan::new(span, info.clone()));
    }
}

impl RequestTrace {
    pub(super) fn context(&self) -> Option<&SpanContext> {
        self.context.as_ref()
    }

    pub(super) fn is_recorded(&self) -> bool {
        self.server.as_ref().is_some_and(Span::is_recording)
    }

    pub(super) fn transition(&mut self, transition: &Transition) {
        if let Some(client) = &mut self.client {
            client.transition(transition);
        }
    }

    /// The same place in the trace, for another attempt at the same time.
    pub(super) fn beside(&self) -> Self {
        Self { context: self.context.clone(), server: None, client: None }
    }

    /// Goes on with the attempt of another one.
    pub(super) fn adopt(&mut self, other: &mut Self) {
        self.client = other.client.take();
    }

    /// The span of a failed attempt ends here; that of a response lives on until its body has ended.
    pub(super) fn attempt_done(&mut self, record: &Record, result: CallResult) {
        if let Some(client) = &mut self.client {
            client.set_result(result);
        }
        if matches!(result, CallResult::Failed(_)) {
            self.end_client(record, None);
        }
    }

    pub(super) fn end(&mut self, record: &Record, finished: &Finished) {
        self.end_client(record, finished.grpc_status);
        let Some(mut span) = self.server.take().filter(Span::is_recording) else { return };
        if let Some(route) = record.destination.as_ref().and_then(|d| d.route.as_deref())
            && !record.grpc
        {
            span.update_name(format!("{} {route}", span_name(record)));
        }
        let mut attributes = Vec::with_capacity(32);
        fields::visit(record, finished, &mut |name, field| {
            attributes.push(KeyValue::new(name, Value::from(field)));
        });
        span.set_attributes(attributes);
        for decision in &finished.decisions {
            span.add_event(name::DECISION_EVENT, decision_attributes(decision));
        }
        for plugin in &finished.plugins {
            span.add_event(name::PLUGIN_EVENT, plugin_attributes(plugin));
        }
        if fields::server_error(record, finished).is_some() {
            span.set_status(Status::error(finished.reason.map_or("", |reason| reason.answer().message)));
        }
        span.end();
    }

    pub(super) fn end_client(&mut self, record: &Record, grpc_status: Option<u8>) {
        if let Some(client) = self.client.take() {
            client.end(record, grpc_status);
        }
    }
}

fn plugin_attributes(plugin: &PluginTime) -> Vec<KeyValue> {
    let microseconds = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    let verdict = match plugin {
        PluginTime { failed: true, .. } => "failed",
        PluginTime { answered: true, .. } => "answered",
        PluginTime { .. } => "done",
    };
    let mut attributes = vec![
        KeyValue::new(name::PLUGIN, plugin.plugin.to_string()),
        KeyValue::new(name::PLUGIN_CALLBACKS, i64::from(plugin.callbacks)),
        KeyValue::new(name::PLUGIN_TIME, microseconds(plugin.time)),
        KeyValue::new(name::PLUGIN_VERDICT, verdict),
    ];
    attributes.extend(plugin.cpu.map(|cpu| KeyValue::new(name::PLUGIN_CPU, microseconds(cpu))));
    attributes
}

fn start_span(
    tracer: &SdkTracer,
    parent: Option<SpanContext>,
    kind: SpanKind,
    name: Cow<'static, str>,
) -> Span {
    // Made from nothing, so that no context of the calling thread can slip in.
    let context = match parent {
        Some(parent) => Context::new().with_remote_span_context(parent),
        None => Context::new(),
    };
    tracer.build_with_context(SpanBuilder::from_name(name).with_kind(kind), &context)
}

fn sampler(sampling: Sampling) -> Sampler {
    let by_parent = |root| Sampler::ParentBased(Box::new(root));
    match sampling {
        Sampling::AlwaysOn => Sampler::AlwaysOn,
        Sampling::AlwaysOff => Sampler::AlwaysOff,
        Sampling::Ratio(ratio) => Sampler::TraceIdRatioBased(ratio),
        Sampling::ParentOrOn => by_parent(Sampler::AlwaysOn),
        Sampling::ParentOrOff => by_parent(Sampler::AlwaysOff),
        Sampling::ParentOrRatio(ratio) => by_parent(Sampler::TraceIdRatioBased(ratio)),
    }
}

/// HTTP conventions: the method alone until a route is known, `HTTP` for an unknown method. RPC: the full method.
fn span_name(record: &Record) -> Cow<'static, str> {
    if record.grpc {
        return Cow::Owned(fields::clip(fields::rpc_method(record)).into_owned());
    }
    match fields::method(&record.method) {
        (known, None) => Cow::Borrowed(known),
        _ => Cow::Borrowed("HTTP"),
    }
}

fn decision_attributes(decision: &Decision) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new(name::DECISION, decision.outcome.as_str()),
        KeyValue::new(name::POLICY_KIND, decision.policy.kind.clone()),
        KeyValue::new(name::POLICY_NAMESPACE, decision.policy.name.namespace.clone()),
        KeyValue::new(name::POLICY_NAME, decision.policy.name.name.clone()),
        KeyValue::new(name::POLICY_RULE, decision.rule.name.clone()),
        KeyValue::new(name::POLICY_SOURCE, decision.rule.source.to_string()),
    ];
    if let Outcome::Refused(reason) | Outcome::WouldRefuse(reason) = decision.outcome {
        attributes.push(KeyValue::new(name::REASON, reason.flag()));
    }
    if let Some(detail) = &decision.detail {
        attributes.push(KeyValue::new(name::POLICY_DETAIL, detail.to_string()));
    }
    attributes
}

impl From<Field<'_>> for Value {
    fn from(field: Field<'_>) -> Self {
        match field {
            Field::Static(text) => Self::from(text),
            Field::Shared(text) => Self::from(text.clone()),
            Field::Text(text) => Self::from(text.into_owned()),
            Field::Shown(value) => Self::from(value.to_string()),
            Field::Int(value) => Self::I64(value),
        }
    }
}
