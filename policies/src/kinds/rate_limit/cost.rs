//! How much of a limit a request spends.

use std::num::NonZeroU32;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::crd::rules;
use crate::expression::{Expression, Facts, Kind};
use crate::kind::CompileContext;
use crate::kinds::check;
use crate::pipeline::RequestContext;

/// Write one of `fixed`, `header` and `expression`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [rules::exactly_one(&["fixed", "header", "expression"])]))]
pub(super) struct CostSpec {
    /// The same for every request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    fixed: Option<u32>,
    /// The number in this request header; 1 where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    /// A whole number, in CEL; 1 where it fails. What is 0 or less costs nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    expression: Option<String>,
    /// What a request asks for is not believed beyond this. Default: what the limit holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    at_most: Option<u32>,
}

/// What a request spends.
#[derive(Clone, Debug, Default)]
pub(super) enum Cost {
    #[default]
    One,
    Fixed(u32),
    /// The number in a header.
    Header(HeaderName, Option<u32>),
    Expression(Arc<Expression>, Option<u32>),
}

impl CostSpec {
    /// Whether it says itself how much a request may ask for.
    pub(super) fn is_bounded(&self) -> bool {
        self.fixed.is_some() || self.at_most.is_some()
    }

    /// `burst`: what the limit holds.
    pub(super) fn compile(&self, at: &str, burst: NonZeroU32, cx: &mut CompileContext<'_>) -> Option<Cost> {
        let most = self.at_most;
        if let Some(most) = most.filter(|most| *most > burst.get() || *most == 0) {
            cx.error(
                format!("{at}/atMost"),
                format!("{most} is out of range: use 1 to {burst}, what the limit holds"),
            );
        }
        match (self.fixed, &self.header, &self.expression) {
            (Some(fixed), None, None) => {
                if fixed == 0 || fixed > burst.get() {
                    let message = format!("{fixed} is out of range: use 1 to {burst}; no request would pass");
                    cx.error(format!("{at}/fixed"), message);
                }
                Some(Cost::Fixed(fixed))
            }
            (None, Some(header), None) => Some(Cost::Header(header_name(header, at, cx)?, most)),
            (None, None, Some(text)) => {
                let compiled = check::expression(cx, &format!("{at}/expression"), text, Kind::Int);
                compiled.map(|expression| Cost::Expression(expression, most))
            }
            _ => {
                cx.error(at, "write one of `fixed`, `header` and `expression`");
                None
            }
        }
    }
}

/// The header of a cost.
pub(super) fn header_name(text: &str, at: &str, cx: &mut CompileContext<'_>) -> Option<HeaderName> {
    let name = HeaderName::try_from(text).ok();
    if name.is_none() {
        cx.error(format!("{at}/header"), format!("`{text}` is not the name of a header"));
    }
    name
}

/// The number in a header, if there is one. More digits than fit are more than anybody believes.
pub(super) fn written(headers: &HeaderMap, name: &HeaderName) -> Option<u32> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u32::MAX))
}

/// What an expression says; less than nothing is nothing.
pub(super) fn cost(number: i64) -> u32 {
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}

impl Cost {
    /// 0 for a request that spends nothing. `burst`: what there is to be spent at once.
    pub(super) fn of(&self, cx: &RequestContext<'_>, burst: NonZeroU32) -> u32 {
        let believed = |cost: u32, most: &Option<u32>| cost.min(most.unwrap_or(burst.get()));
        match self {
            Self::One => 1,
            Self::Fixed(cost) => *cost,
            Self::Header(name, most) => {
                written(&cx.head.headers, name).map_or(1, |cost| believed(cost, most))
            }
            Self::Expression(expression, most) => {
                believed(cost(expression.number(&Facts::of(cx)).unwrap_or(1)), most)
            }
        }
    }
}
