//! What a request costs by its answer: tokens of a language model, rows of a query. Known when the work is done, so it is
//! taken whether it is there or not, and those who come later wait until it is paid.

use std::num::NonZeroU32;
use std::sync::Arc;

use http::{HeaderName, response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cell::Rate;
use super::cost;
use super::mesh::LentBucket;
use super::state::{self, LimitState};
use crate::document::crd::rules;
use crate::expression::{Expression, Kind, ResponseFacts};
use crate::kind::CompileContext;
use crate::kinds::check;
use crate::pipeline::Held;
use crate::time::Timestamp;

/// Write one of `header` and `expression`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [rules::exactly_one(&["header", "expression"])]))]
pub(super) struct ResponseCostSpec {
    /// The number in this response header; nothing where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    /// A whole number, in CEL over `response.status` and `response.headers`; nothing where it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    expression: Option<String>,
    /// What an answer says is not believed beyond this. Default: what the limit holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    at_most: Option<u32>,
}

/// The same, valid.
#[derive(Clone, Debug)]
pub(super) struct ResponseCost {
    source: Source,
    most: Option<u32>,
}

#[derive(Clone, Debug)]
enum Source {
    Header(HeaderName),
    Expression(Arc<Expression>),
}

/// A bucket that is held on to until the answer says what it costs.
#[derive(Debug)]
pub(super) enum Kept {
    Here(Arc<LimitState>, u128),
    Lent(Arc<LentBucket>),
}

/// Charges one limit for one answer.
#[derive(Debug)]
pub(super) struct Settle {
    pub(super) bucket: Kept,
    pub(super) cost: ResponseCost,
    /// Of the request, where it has one of its own.
    pub(super) rate: Option<Rate>,
    /// What the limit holds.
    pub(super) holds: NonZeroU32,
}

impl ResponseCostSpec {
    pub(super) fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<ResponseCost> {
        if self.at_most == Some(0) {
            cx.error(format!("{at}/atMost"), "0 is out of range: use at least 1");
        }
        let source = match (&self.header, &self.expression) {
            (Some(header), None) => Source::Header(cost::header_name(header, at, cx)?),
            (None, Some(text)) => Source::Expression(check::response_expression(
                cx,
                &format!("{at}/expression"),
                text,
                Kind::Int,
            )?),
            _ => {
                cx.error(at, "write one of `header` and `expression`");
                return None;
            }
        };
        Some(ResponseCost { source, most: self.at_most })
    }
}

impl ResponseCost {
    fn of(&self, head: &response::Parts, holds: NonZeroU32) -> u32 {
        let said = match &self.source {
            Source::Header(name) => cost::written(&head.headers, name).unwrap_or(0),
            Source::Expression(expression) => {
                cost::cost(expression.number(&ResponseFacts(head)).unwrap_or(0))
            }
        };
        said.min(self.most.unwrap_or(holds.get()))
    }
}

impl Held for Settle {
    fn on_response(&mut self, head: &response::Parts, now: Timestamp) {
        let cost = self.cost.of(head, self.holds);
        if cost == 0 {
            return;
        }
        match &self.bucket {
            Kept::Here(state, key) => {
                let bucket = state.bucket(*key, now);
                self.rate.into_iter().fold(bucket, state::Bucket::with).charge(cost, now);
            }
            Kept::Lent(bucket) => bucket.charge(cost, now),
        }
    }
}
