//! Validations that several kinds share, so that the same fault reads the same everywhere.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::expression::{Expression, Kind};
use crate::jwt::ClaimPath;
use crate::kind::CompileContext;
use crate::objects::GepDuration;

const LONGEST_NAME: usize = 63;

/// A rule's name goes into headers, metric labels and state keys: letters, digits, `-`, `_` and `.` only.
pub(super) fn name(cx: &mut CompileContext<'_>, pointer: &str, name: &str) {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(allowed) {
        let fix = format!("use 1 to {LONGEST_NAME} letters, digits, `-`, `_` or `.`");
        cx.error(pointer, format!("`{name}` cannot be a name: {fix}"));
    }
}

/// Names must tell the rules of one policy apart; `list` is the pointer of the list they are in.
pub(super) fn unique<'n>(
    cx: &mut CompileContext<'_>,
    list: &str,
    names: impl Iterator<Item = Option<&'n str>>,
) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, name) in names.enumerate() {
        let Some(name) = name else { continue };
        if seen.contains(&name) {
            cx.error(format!("{list}/{i}/name"), format!("`{name}` is used twice: give each its own name"));
        }
        seen.push(name);
    }
}

pub(super) fn within(cx: &mut CompileContext<'_>, pointer: &str, value: u32, range: RangeInclusive<u32>) {
    if !range.contains(&value) {
        cx.error(pointer, format!("{value} is out of range: use {} to {}", range.start(), range.end()));
    }
}

/// A claim: by its name, in a field of its own, or by `path` within another.
pub(super) fn claim(
    cx: &mut CompileContext<'_>,
    at: &str,
    (field, name): (&str, Option<&str>),
    path: &[String],
) -> Option<ClaimPath> {
    let claim = match (name, path) {
        (Some(name), []) => ClaimPath::new([name]),
        (None, [_, ..]) => ClaimPath::new(path.iter().map(String::as_str)),
        _ => {
            cx.error(at, format!("write the claim's `{field}`, or its `path` within others"));
            return None;
        }
    };
    if claim.is_none() {
        cx.error(at, "the name of a claim is not empty");
    }
    claim
}

/// An expression, with the place of its fault within it.
pub(super) fn expression(
    cx: &mut CompileContext<'_>,
    pointer: &str,
    text: &str,
    wanted: Kind,
) -> Option<Arc<Expression>> {
    let compiled = Expression::compile(text, wanted);
    let compiled = compiled.map(Arc::new).map_err(|fault| cx.error(pointer, fault.to_string())).ok()?;
    cx.found(pointer, &compiled);
    Some(compiled)
}

/// The same over a response.
pub(super) fn response_expression(
    cx: &mut CompileContext<'_>,
    pointer: &str,
    text: &str,
    wanted: Kind,
) -> Option<Arc<Expression>> {
    let compiled = Expression::compile_for_response(text, wanted);
    let compiled = compiled.map(Arc::new).map_err(|fault| cx.error(pointer, fault.to_string())).ok()?;
    cx.found(pointer, &compiled);
    Some(compiled)
}

/// The bounds are given in text, as an author would write them.
pub(super) fn duration_within(
    cx: &mut CompileContext<'_>,
    pointer: &str,
    value: GepDuration,
    (low, high): (&'static str, &'static str),
) -> Duration {
    let bound = |text: &str| text.parse::<GepDuration>().map(|d| d.get());
    let inside =
        bound(low).is_ok_and(|low| value.get() >= low) && bound(high).is_ok_and(|high| value.get() <= high);
    if !inside {
        cx.error(pointer, format!("{value} is out of range: use {low} to {high}"));
    }
    value.get()
}

/// A number that may not be zero.
pub(super) fn at_least_one(value: u32, pointer: &str, cx: &mut CompileContext<'_>) -> Option<NonZeroU32> {
    let value = NonZeroU32::new(value);
    if value.is_none() {
        cx.error(pointer, "0 is out of range: use at least 1");
    }
    value
}
