//! `requestsFrom`: the number of a limit told by an expression, request by request: by the plan that a customer pays for,
//! by a header that an authorizer has set.
//!
//! A bucket is a time (see [`super::cell`]), and here the same time whatever the number is: from empty to full it takes as
//! long as `burst` is worth at `requests`, so that a number `n` times as high has a burst `n` times as high, and each of
//! its requests takes an `n`th of the time. So when the number of a key changes between two requests, what was spent stays
//! spent in proportion: a bucket that was half empty is half empty. Whatever numbers come one after the other, no more
//! are let through than the burst and the rate of the largest of them say; with one number all along, it is the plain
//! limit.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::cell::Rate;
use super::exact::{Exact, Written};
use super::scope::Scope;
use super::{LimitSpec, RateLimitPolicySpec, SHORTEST_INTERVAL};
use crate::expression::{Expression, Facts, Kind};
use crate::kind::CompileContext;
use crate::kinds::check;
use crate::pipeline::RequestContext;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct RequestsFrom {
    expression: Arc<Expression>,
    /// What holds where the expression tells no valid number.
    base: Written,
    /// The highest number that can be counted.
    most: u32,
    /// Of what passes by itself at each proxy, where a store counts.
    exact: Option<Exact>,
}

/// Where it cannot be: whoever else counts the limit knows one number of it.
pub(super) fn check(spec: &RateLimitPolicySpec, cx: &mut CompileContext<'_>) {
    if spec.scope != Scope::Mesh {
        return;
    }
    for (i, _) in spec.limits.iter().enumerate().filter(|(_, limit)| limit.requests_from.is_some()) {
        let message = "`requestsFrom` goes with `scope: Local` and `scope: Exact`: of a limit that is lent, the control \
                       plane must know the number";
        cx.error(format!("/limits/{i}/requestsFrom"), message);
    }
}

impl LimitSpec {
    /// `None` if it is wrong.
    #[expect(clippy::option_option, reason = "wrong, or not written")]
    pub(super) fn requests_from(
        &self,
        at: &str,
        base: Option<Written>,
        cx: &mut CompileContext<'_>,
    ) -> Option<Option<RequestsFrom>> {
        let Some(text) = &self.requests_from else { return Some(None) };
        let expression = check::expression(cx, &format!("{at}/requestsFrom"), text, Kind::Int);
        Some(Some(RequestsFrom::new(expression?, base?)))
    }
}

impl RequestsFrom {
    fn new(expression: Arc<Expression>, base: Written) -> Self {
        let fastest = base.per.as_nanos() / SHORTEST_INTERVAL.as_nanos();
        // Beyond it, the burst is no number any more.
        let largest = u128::from(u32::MAX) * u128::from(base.requests.get()) / u128::from(base.burst.get());
        let most = fastest.min(largest).min(u128::from(u32::MAX));
        Self { expression, base, most: u32::try_from(most).unwrap_or(u32::MAX), exact: None }
    }

    /// The number for a request.
    pub(super) fn number(&self, cx: &RequestContext<'_>) -> NonZeroU32 {
        let facts = Facts::of(cx);
        let told = self.expression.number(&facts).ok().and_then(|told| u32::try_from(told).ok());
        let valid = told.filter(|told| *told <= self.most).and_then(NonZeroU32::new);
        valid.unwrap_or(self.base.requests)
    }

    /// The limit with this number in place of its own.
    pub(super) fn written(&self, requests: NonZeroU32) -> Written {
        let Written { requests: own, per, burst } = self.base;
        let burst = u64::from(burst.get()) * u64::from(requests.get()) / u64::from(own.get());
        let burst = NonZeroU32::new(u32::try_from(burst).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN);
        Written { requests, per, burst }
    }

    /// What of that is counted here.
    pub(super) fn rate(&self, requests: NonZeroU32) -> Option<Rate> {
        let written = self.written(requests);
        match self.exact {
            Some(exact) => written.share(exact.percent()),
            None => Rate::new(written.requests, written.per, written.burst),
        }
    }

    /// What the times of its buckets are written in: nothing that the number, or `requests`, has a say in.
    pub(super) fn unit(&self) -> Option<Rate> {
        let Written { requests, per, burst } = self.base;
        let periods = NonZeroU32::new(burst.get().div_ceil(requests.get()));
        Rate::new(NonZeroU32::MIN, per, periods.unwrap_or(NonZeroU32::MIN))
    }

    /// Of a policy that is counted so.
    pub(super) fn shared(&self, exact: Option<Exact>) -> Self {
        Self { exact, ..self.clone() }
    }
}
