//! What a request is counted under, for people who replay traffic.

use std::sync::Arc;

use http::request;

use super::filter::RateLimitFilter;
use super::key::{self, KeyPart};
use crate::decision::RuleRef;
use crate::expression::Facts;
use crate::model::Peer;

impl RateLimitFilter {
    /// `None` where the rule is another's, or has one count for all.
    pub(super) fn shown_key(
        &self,
        rule: &Arc<RuleRef>,
        (head, peer): (&request::Parts, &Peer),
        route: Option<&str>,
    ) -> Option<String> {
        let limits = self.limits.iter().map(|limit| (&limit.rule, &limit.key));
        let places = self.concurrent.iter().map(|one| one.counts_by());
        let quotas = self.quotas.iter().map(|quota| quota.counts_by());
        let is_it = |(own, _): &(&Arc<RuleRef>, &Arc<[KeyPart]>)| Arc::ptr_eq(own, rule);
        let (_, parts) = limits.chain(places).chain(quotas).find(is_it).filter(|(_, key)| !key.is_empty())?;
        // Claims are not kept beyond the filters.
        let facts = Facts { head, peer, route, claims: None };
        let shown = parts.iter().map(|part| match key::text_of(part, &facts) {
            text if text.is_empty() => String::from("(none)"),
            text => text,
        });
        Some(shown.collect::<Vec<_>>().join(", "))
    }
}
