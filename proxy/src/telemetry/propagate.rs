//! W3C Trace Context in and out of HTTP headers.
//!
//! Source: <https://www.w3.org/TR/trace-context/>. The SDK's propagator reads; the shape of `traceparent` is checked here
//! first, because the SDK also takes ids of the wrong length.

use std::borrow::Cow;

use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanContext, TraceContextExt, TraceFlags, TraceState};
use opentelemetry_sdk::propagation::TraceContextPropagator;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// `00-` + 32 + `-` + 16 + `-` + 2.
const VERSION_0_LENGTH: usize = 55;

struct Incoming<'a> {
    traceparent: &'a str,
    tracestate: Option<Cow<'a, str>>,
}

/// The trace that the sender of `headers` is in, if they name a valid one.
pub(super) fn extract(headers: &HeaderMap) -> Option<SpanContext> {
    let parent = parent(headers)?;
    let traceparent = parent.to_str().ok()?;
    let incoming = Incoming { traceparent, tracestate: joined_tracestate(headers) };
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &incoming);
    let span = context.span().span_context().clone();
    span.is_valid().then_some(span)
}

/// `traceparent`, if there is one and it has the right shape.
pub(super) fn parent(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut parents = headers.get_all(TRACEPARENT).iter();
    let parent = parents.next()?;
    // Two parents contradict each other: neither is believed.
    let alone = parents.next().is_none() && parent.to_str().is_ok_and(is_well_formed);
    alone.then(|| parent.clone())
}

/// Makes `context` the parent that the receiver of `headers` sees, in place of any other.
///
/// Written here and not by the SDK's propagator, which formats each part for itself: this is done for every request.
pub(super) fn inject(context: &SpanContext, headers: &mut HeaderMap) {
    if !context.is_valid() {
        return;
    }
    let mut text = *b"00-0123456789abcdef0123456789abcdef-0123456789abcdef-00";
    HEXLOWER.encode_mut(&context.trace_id().to_bytes(), &mut text[3..35]);
    HEXLOWER.encode_mut(&context.span_id().to_bytes(), &mut text[36..52]);
    // Of the flags, only the one of version 00 is ours to set.
    let flags = (context.trace_flags() & TraceFlags::SAMPLED).to_u8();
    HEXLOWER.encode_mut(&[flags], &mut text[53..55]);
    if let Ok(mut value) = HeaderValue::from_bytes(&text) {
        // No secret, but of no use in HTTP/2's table of headers that come again.
        value.set_sensitive(true);
        headers.insert(TRACEPARENT, value);
    }
    let state = context.trace_state();
    // An empty tracestate is not sent, and a stale one must not stay.
    let state = if *state == TraceState::NONE { None } else { HeaderValue::try_from(state.header()).ok() };
    match state.filter(|value| !value.is_empty()) {
        Some(value) => drop(headers.insert(TRACESTATE, value)),
        None if headers.contains_key(TRACESTATE) => drop(headers.remove(TRACESTATE)),
        None => {}
    }
}

fn is_well_formed(traceparent: &str) -> bool {
    let bytes = traceparent.as_bytes();
    let lower_hex = |range: std::ops::Range<usize>| {
        bytes.get(range).is_some_and(|part| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
    };
    let dash = |at: usize| bytes.get(at) == Some(&b'-');
    let fields = lower_hex(0..2)
        && dash(2)
        && lower_hex(3..35)
        && dash(35)
        && lower_hex(36..52)
        && dash(52)
        && lower_hex(53..55);
    // Later versions may append fields, after another dash.
    let end = bytes.len() == VERSION_0_LENGTH || (!traceparent.starts_with("00") && dash(VERSION_0_LENGTH));
    fields && end && !traceparent.starts_with("ff")
}

/// RFC 9110, 5.2: several headers of one name are one list.
fn joined_tracestate(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let mut values = headers.get_all(TRACESTATE).iter().map(HeaderValue::to_str);
    let first = values.next()?.ok()?;
    let mut joined = Cow::Borrowed(first);
    for value in values {
        let joined = joined.to_mut();
        joined.push(',');
        joined.push_str(value.ok()?);
    }
    Some(joined)
}

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => Some(self.traceparent),
            "tracestate" => self.tracestate.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_context_survives_the_way_in_and_out() {
        let incoming = headers(&[("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]);
        let context = extract(&incoming).unwrap();
        let mut outgoing = headers(&[("tracestate", "stale=1")]);
        inject(&context, &mut outgoing);
        assert_eq!(outgoing["traceparent"], PARENT);
        assert_eq!(outgoing["tracestate"], "a=1,b=2");
    }

    #[test]
    fn what_is_not_a_traceparent_is_no_context() {
        let long = format!("{PARENT}-00");
        let all_zero_trace = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let all_zero_span = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01";
        let short_ids = "00-4bf92f-00f067-01";
        let upper = PARENT.to_uppercase();
        let forbidden_version = PARENT.replacen("00", "ff", 1);
        let plus = "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for bad in
            ["", "x", &long, all_zero_trace, all_zero_span, short_ids, &upper, &forbidden_version, plus]
        {
            assert_eq!(extract(&headers(&[("traceparent", bad)])), None, "{bad}");
        }
        assert_eq!(extract(&headers(&[("traceparent", PARENT), ("traceparent", PARENT)])), None);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = format!("{}-what-comes", PARENT.replacen("00", "42", 1));
        assert!(extract(&headers(&[("traceparent", &later)])).unwrap().is_sampled());
    }

    #[test]
    fn an_empty_tracestate_replaces_a_stale_one() {
        let context = extract(&headers(&[("traceparent", PARENT)])).unwrap();
        let mut outgoing = headers(&[("tracestate", "stale=1")]);
        inject(&context, &mut outgoing);
        assert!(!outgoing.contains_key("tracestate"));
    }
}
