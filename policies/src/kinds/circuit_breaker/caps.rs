//! Caps as they are written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MOST;
use crate::health::{CapLimits, CapRule, CapScope};
use crate::kind::CompileContext;
use crate::kinds::check;

/// At least one of `connections`, `pending`, `requests` and `retries`. Strict: never one more, across all threads of a proxy.
/// A request that one cap refuses takes no place under any other.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CapsSpec {
    scope: CapScope,
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
    /// would be too many, the client gets what the attempt before gave. With scope Backend or Rule.
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
        rules.push(CapRule { rule: cx.rule(&format!("caps[{i}]"), &at), scope: caps.scope, limits });
    }
    rules.into()
}

impl CapsSpec {
    fn limits(&self) -> CapLimits {
        let Self { connections, pending, requests, retries, .. } = *self;
        CapLimits { connections, pending, requests, retries }
    }

    fn check(&self, at: &str, cx: &mut CompileContext<'_>) {
        let (of_backend, of_endpoint, of_rule) = (CapScope::Backend, CapScope::Endpoint, CapScope::Rule);
        for (field, value, least, scopes) in [
            ("connections", self.connections, 1, [of_backend, of_endpoint].as_slice()),
            ("pending", self.pending, 0, &[of_backend, of_endpoint]),
            ("requests", self.requests, 1, &[of_backend, of_endpoint, of_rule]),
            ("retries", self.retries, 0, &[of_backend, of_rule]),
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
