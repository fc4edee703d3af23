//! The span of one attempt, by the conventions for HTTP and RPC clients.

use std::borrow::Cow;

use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, Status};
use opentelemetry_sdk::trace::Span;
use tidegate_policy::decision::CallResult;
use tidegate_policy::health::Transition;

use crate::telemetry::attributes as name;
use crate::telemetry::exchange::{AttemptInfo, Record};
use crate::telemetry::fields;

#[derive(Debug)]
pub(super) struct ClientSpan {
    span: Span,
    info: AttemptInfo,
    result: Option<CallResult>,
}

impl ClientSpan {
    pub(super) fn new(span: Span, info: AttemptInfo) -> Self {
        Self { span, info, result: None }
    }

    pub(super) fn set_result(&mut self, result: CallResult) {
        self.result = Some(result);
    }

    pub(super) fn transition(&mut self, transition: &Transition) {
        if !self.span.is_recording() {
            return;
        }
        let Transition { rule, endpoint, from, to, evidence } = transition;
        let mut attributes = vec![
            KeyValue::new(name::POLICY_RULE, rule.name.clone()),
            KeyValue::new(name::POLICY_SOURCE, rule.source.to_string()),
            KeyValue::new(name::BREAKER_BEFORE, from.as_str()),
            KeyValue::new(name::BREAKER_STATE, to.as_str()),
        ];
        attributes.extend(endpoint.as_ref().map(|endpoint| KeyValue::new(name::ENDPOINT, endpoint.clone())));
        attributes.extend(evidence.map(|why| KeyValue::new(name::BREAKER_EVIDENCE, why.to_string())));
        self.span.add_event(name::BREAKER_EVENT, attributes);
    }

    /// `grpc_status` is that of the whole response, where it has come by now.
    pub(super) fn end(mut self, record: &Record, grpc_status: Option<u8>) {
        if !self.span.is_recording() {
            return;
        }
        let mut attributes = attributes(record, &self.info);
        if let Some(error) = outcome(self.result, grpc_status, record.grpc, &mut attributes) {
            attributes.push(KeyValue::new(name::ERROR_TYPE, error));
            self.span.set_status(Status::error(""));
        }
        self.span.set_attributes(attributes);
        self.span.end();
    }
}

fn attributes(record: &Record, info: &AttemptInfo) -> Vec<KeyValue> {
    let (address, port) = match info.endpoint.rsplit_once(':') {
        Some((address, port)) => (address, port.parse::<i64>().ok()),
        None => (&*info.endpoint, None),
    };
    let (method, original) = fields::method(&record.method);
    let mut attributes = vec![
        KeyValue::new(name::HTTP_REQUEST_METHOD, method),
        KeyValue::new(name::SERVER_ADDRESS, address.trim_matches(['[', ']']).to_owned()),
        KeyValue::new(name::BACKEND, info.backend.clone()),
        KeyValue::new(name::ENDPOINT, info.endpoint.clone()),
        KeyValue::new(name::WEIGHT, i64::from(info.weight)),
        KeyValue::new(name::ATTEMPT, i64::from(info.number)),
    ];
    attributes.extend(port.map(|port| KeyValue::new(name::SERVER_PORT, port)));
    attributes.extend(
        original.map(|o| KeyValue::new(name::HTTP_REQUEST_METHOD_ORIGINAL, fields::clip(o).into_owned())),
    );
    attributes.push(KeyValue::new(name::URL_FULL, fields::clip(&url(record, info)).into_owned()));
    if info.number > 1 {
        attributes.push(KeyValue::new(name::HTTP_REQUEST_RESEND_COUNT, i64::from(info.number) - 1));
    }
    if record.grpc {
        attributes.push(KeyValue::new(name::RPC_SYSTEM_NAME, "grpc"));
        let method = fields::clip(fields::rpc_method(record)).into_owned();
        attributes.push(KeyValue::new(name::RPC_METHOD, method));
    }
    attributes
}

/// Without credentials and without query: both may hold secrets.
fn url(record: &Record, info: &AttemptInfo) -> String {
    // Of the endpoint, whatever the client spoke.
    let (scheme, path) = (if info.tls { "https" } else { "http" }, record.uri.path());
    let Some(authority) = fields::authority(record) else {
        return format!("{scheme}://{}{path}", info.endpoint);
    };
    let host = authority.host();
    match authority.port_u16() {
        Some(port) => format!("{scheme}://{host}:{port}{path}"),
        None => format!("{scheme}://{host}{path}"),
    }
}

/// Adds how the call ended; the result is its `error.type`, if it failed. To a client every 4xx is an error.
fn outcome(
    result: Option<CallResult>,
    grpc_status: Option<u8>,
    grpc: bool,
    attributes: &mut Vec<KeyValue>,
) -> Option<Cow<'static, str>> {
    let code = match result {
        Some(CallResult::Grpc(code)) => Some(code),
        Some(CallResult::Status(_)) if grpc => grpc_status,
        _ => None,
    };
    let status = match result {
        Some(CallResult::Status(status)) => Some(status),
        Some(CallResult::Grpc(_)) => Some(200),
        _ => None,
    };
    attributes.extend(status.map(|s| KeyValue::new(name::HTTP_RESPONSE_STATUS_CODE, i64::from(s))));
    attributes.extend(code.map(|c| KeyValue::new(name::RPC_RESPONSE_STATUS_CODE, fields::grpc_code(c))));
    match (result, status, code) {
        (Some(CallResult::Failed(reason)), ..) => {
            attributes.push(KeyValue::new(name::REASON, reason.flag()));
            Some(Cow::Borrowed(reason.flag()))
        }
        // The request ended before the attempt did.
        (None, ..) => Some(Cow::Borrowed("cancelled")),
        (_, _, Some(code)) if code != 0 => Some(Cow::Borrowed(fields::grpc_code(code))),
        (_, Some(status), _) if status >= 400 => Some(Cow::Owned(status.to_string())),
        _ => None,
    }
}
