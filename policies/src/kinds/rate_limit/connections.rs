//! `newConnections`: how many connections may be opened per time. Judged when one comes in, before TLS and before any
//! endpoint is called: of a `TCPRoute` or `TLSRoute` when its route is known, of a Service where its connections are
//! carried, of a Gateway or one of its listeners for requests as well.
//!
//! All of them must let a connection in; one that refuses it costs the others nothing. They are counted in the same
//! buckets as requests are.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cost::Cost;
use super::exact::Written;
use super::filter::{BoundLimit, Part, Parts, RateLimitFilter, Ruling, Wish, refusal, spend};
use super::key::{self, Key, KeySpec};
use super::scope::{Scope, Sharing};
use super::{Limit, LimitMode, MOST_LIMITS, RateLimitPolicySpec, key_parts, written_rate};
use crate::kind::CompileContext;
use crate::kinds::check;
use crate::model::{PolicyRef, TargetKind};
use crate::objects::GepDuration;
use crate::pipeline::{ConnectionContext, Cut};
use crate::reason::Reason;
use crate::state::StateStore;

/// At most so many new connections, in each proxy.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ConnectionSpec {
    /// For logs and metrics; unique in the policy, its other limits included.
    #[schemars(length(min = 1, max = 63))]
    name: String,
    /// At least 1; at most 1 million per second.
    #[schemars(range(min = 1))]
    connections: u32,
    /// 1ms to 8760h.
    per: GepDuration,
    /// Connections that may come at once after a pause. Default: `connections`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    burst: Option<u32>,
    /// What is counted apart: ClientAddress, with its `prefix`, and ServerName. Default: nothing, one bucket for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    key: Vec<KeySpec>,
    /// How one that is refused is closed. Default: Reset.
    #[serde(default)]
    refuse: Refuse,
    /// Shadow: only tells whom it would have refused. Default: the mode of the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<LimitMode>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum Refuse {
    /// By a reset (RST): nobody takes it for the end of an answer.
    #[default]
    Reset,
    /// In order (FIN).
    Close,
}

/// The same, valid.
#[derive(Debug)]
pub(super) struct Connections {
    limit: Limit,
    refuse: Refuse,
}

/// Joined to its counters.
#[derive(Debug)]
pub(super) struct BoundConnections {
    limit: BoundLimit,
    refuse: Refuse,
}

impl RateLimitPolicySpec {
    pub(super) fn connections(&self, cx: &mut CompileContext<'_>) -> Option<Vec<Connections>> {
        let count = self.new_connections.len();
        if count > MOST_LIMITS {
            cx.error("/newConnections", format!("{count} of them: write at most {MOST_LIMITS}"));
        }
        if count > 0 && self.scope != Scope::Local && self.domain.is_none() {
            cx.error(
                "/newConnections",
                "`newConnections` go with `scope: Local` only: each proxy counts its own",
            );
        }
        check::unique(cx, "/newConnections", self.new_connections.iter().map(|one| Some(one.name.as_str())));
        for (i, one) in self.new_connections.iter().enumerate() {
            let limits = self.limits.iter().map(|limit| &*limit.name);
            let quotas = self.quotas.iter().map(|quota| quota.name());
            let mut others = limits.chain(self.concurrent.iter().map(|one| one.name())).chain(quotas);
            if others.any(|name| *name == one.name) {
                let message = "a limit, a quota or one of `concurrent` has the same name";
                cx.error(format!("/newConnections/{i}/name"), message);
            }
        }
        self.check_targets(cx);
        let each = self.new_connections.iter().enumerate();
        let compiled: Vec<_> =
            each.map(|(i, one)| one.compile(&format!("/newConnections/{i}"), cx)).collect();
        let mut connections: Vec<Connections> = compiled.into_iter().collect::<Option<_>>()?;
        // What keeps the locks of two versions of a policy in one order.
        connections.sort_by(|a, b| a.limit.rule.name.cmp(&b.limit.rule.name));
        Some(connections)
    }

    /// What is counted must be there where the policy is attached.
    fn check_targets(&self, cx: &mut CompileContext<'_>) {
        let counts_requests =
            !self.limits.is_empty() || !self.concurrent.is_empty() || !self.quotas.is_empty();
        for kind in cx.target_kinds() {
            match kind {
                TargetKind::HTTPRoute | TargetKind::GRPCRoute if !self.new_connections.is_empty() => {
                    let message = format!(
                        "a connection is for whatever its requests ask, and of no {}: attach it to a Gateway, a listener, \
                         a Service, a TCPRoute or a TLSRoute",
                        kind.as_str()
                    );
                    cx.error("/newConnections", message);
                }
                TargetKind::TCPRoute | TargetKind::TLSRoute if counts_requests => {
                    let message = format!(
                        "a {} carries connections, and nobody sees requests in them: write `newConnections` only",
                        kind.as_str()
                    );
                    cx.error("", message);
                }
                _ => {}
            }
        }
    }
}

impl ConnectionSpec {
    fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Connections> {
        check::name(cx, &format!("{at}/name"), &self.name);
        let per = check::duration_within(cx, &format!("{at}/per"), self.per, ("1ms", "8760h"));
        let connections = check::at_least_one(self.connections, &format!("{at}/connections"), cx);
        let burst = match self.burst {
            Some(burst) => check::at_least_one(burst, &format!("{at}/burst"), cx),
            None => connections,
        };
        let key = key_parts(&self.key, KeySpec::of_connection, &format!("{at}/key"), cx);
        let (requests, burst) = (connections?, burst?);
        let rate = written_rate(at, "connections", (requests, (self.per, per), burst), cx)?;
        let limit = Limit {
            rule: cx.rule(&self.name, at),
            rate,
            written: Written { requests, per, burst },
            from: None,
            key: key?,
            when: None,
            cost: Cost::One,
            response_cost: None,
            overrides: Vec::new(),
            shadow: LimitMode::is_shadow(self.mode, cx),
            member: String::new(),
        };
        Some(Connections { limit, refuse: self.refuse })
    }
}

impl Connections {
    pub(super) fn limit(&self) -> &Limit {
        &self.limit
    }

    pub(super) fn bind(&self, owner: &Arc<str>, policy: &PolicyRef, store: &StateStore) -> BoundConnections {
        let limit = self.limit.bind(owner, policy, Sharing::Local, store);
        BoundConnections { limit, refuse: self.refuse }
    }
}

impl RateLimitFilter {
    /// By the limits that hold, or by those in Shadow.
    ///
    /// # Errors
    /// It is to be closed.
    pub(super) fn judge_connection(&self, shadow: bool, cx: &mut ConnectionContext<'_>) -> Result<(), Cut> {
        let Some(ruling) = self.rule_on_connection(shadow, cx) else { return Ok(()) };
        self.explain(ruling, cx.decisions);
        match ruling {
            Ruling::Refused(limit, _) if !limit.shadow => {
                let refused = |one: &&BoundConnections| std::ptr::eq(&one.limit, limit);
                let refuse = self.connections.iter().find(refused).map_or(Refuse::Reset, |one| one.refuse);
                Err(Cut { reason: Reason::RateLimited, reset: refuse == Refuse::Reset })
            }
            _ => Ok(()),
        }
    }

    fn rule_on_connection(&self, shadow: bool, cx: &ConnectionContext<'_>) -> Option<Ruling<'_>> {
        let mut parts = Parts::new();
        for limit in self.connections.iter().map(|one| &one.limit).filter(|limit| limit.shadow == shadow) {
            let key = match key::of_connection(&limit.key, cx, self.seed) {
                Key::Of(key) => key,
                Key::Skip => continue,
                Key::Deny => return Some(Ruling::Refused(limit, None)),
            };
            let wish = Wish { limit, own: None, key, cost: 1, number: None };
            parts.push(Part { wish, bucket: limit.counters.bucket(key, Vec::new, cx.now) });
        }
        refusal(&parts, Duration::ZERO, cx.now).or_else(|| spend(&parts, cx.now))
    }
}
