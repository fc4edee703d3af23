//! Caps as they are written.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MOST, cap_key};
use crate::health::{CapLimits, CapRule, CapScope, CountedBy};
use crate::kind::CompileContext;
use crate::kinds::check;
use crate::kinds::key::KeySpec;

/// At least one of `connections`, `pending`, `requests` and `retries`. Strict: never one more, across all threads of a proxy.
/// A request that one cap refuses takes no place under any other.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CapsSpec {
    scope: CapScope,
    /// With scope Key: what is counted apart; 1 to 8 parts, as the keys of limits. Requests without a part share one count,
    /// unless `missing` says otherwise. A connection that is carried as a whole has only a ClientAddress and a PeerIdentity,
    /// and is not counted by anything else. Of one backend 10 000 keys are counted apart at one time; while each of them has
    /// somebody under way, further ones are counted together, so that fewer of their requests pass, never more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    key: Vec<KeySpec>,
    /// Open connections. With scope Backend or Endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    connections: Option<u32>,
    /// Requests that wait for a connection; 0 means that none may wait. With scope Backend or Endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<u32>,
    /// Requests in flight, until the end of the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    requests: Option<u32>,
    /// Attempts beyond a request's first, until the head of their response; 0 means that none may be made. Where one more
    /// would be too many, the client gets what the attempt before gave. With scope Backend, Rule or Key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retries: Option<u32>,
}

pub(super) fn compile(written: &[CapsSpec], cx: &mut CompileContext<'_>) -> Box<[CapRule]> {
    let mut rules: Vec<CapRule> = Vec::new();
    for (i, caps) in written.iter().enumerate() {
        let at = format!("/caps/{i}");
        if rules.iter().any(|rule| rule.scope == caps.scope) {
            cx.error(format!("{at}/scope"), "there is already an entry for this scope: merge the two");
        }
        let limits = caps.limits();
        if limits == CapLimits::default() {
            let fix = "write at least one of `connections`, `pending`, `requests` and `retries`";
            cx.error(&*at, format!("caps nothing: {fix}"));
        }
        caps.check(&at, cx);
        let key = caps.key(&at, cx);
        rules.push(CapRule { rule: cx.rule(&format!("caps[{i}]"), &at), scope: caps.scope, limits, key });
    }
    rules.into()
}

impl CapsSpec {
    fn limits(&self) -> CapLimits {
        let Self { connections, pending, requests, retries, .. } = *self;
        CapLimits { connections, pending, requests, retries }
    }

    fn key(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Arc<dyn CountedBy>> {
        let at = format!("{at}/key");
        if self.scope == CapScope::Key && self.key.is_empty() {
            cx.error(at, "scope Key needs a `key`: write what is counted apart, or scope Backend");
            return None;
        }
        if self.scope != CapScope::Key && !self.key.is_empty() {
            cx.error(at, "`key` goes with scope Key only");
            return None;
        }
        if self.key.is_empty() { None } else { cap_key::compile(&self.key, &at, cx) }
    }

    fn check(&self, at: &str, cx: &mut CompileContext<'_>) {
        let (of_backend, of_endpoint) = (CapScope::Backend, CapScope::Endpoint);
        let (of_rule, of_key) = (CapScope::Rule, CapScope::Key);
        for (field, value, least, scopes) in [
            ("connections", self.connections, 1, [of_backend, of_endpoint].as_slice()),
            ("pending", self.pending, 0, &[of_backend, of_endpoint]),
            ("requests", self.requests, 1, &[of_backend, of_endpoint, of_rule, of_key]),
            ("retries", self.retries, 0, &[of_backend, of_rule, of_key]),
        ] {
            let Some(value) = value else { continue };
            check::within(cx, &format!("{at}/{field}"), value, least..=MOST);
            if !scopes.contains(&self.scope) {
                let scopes: Vec<_> = scopes.iter().map(|scope| format!("{scope:?}")).collect();
                let only = scopes.join(" or ");
                cx.error(format!("{at}/{field}"), format!("`{field}` goes with scope {only} only"));
            }
        }
    }
}
