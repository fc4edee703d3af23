//! What one proxy keeps of one request, as it is asked for and shown: who decided what, and where that is written.
//!
//! The same form on a proxy's admin port, on the way to the control plane, and in what people read.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Decision, Outcome};

/// One hop of a request. Reads what other versions wrote: what is missing is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DecisionRecord {
    /// The proxy, as the control plane knows it.
    pub node: String,
    /// `inbound`, `outbound` or `gateway`.
    pub direction: String,
    /// When the request arrived here, in microseconds since the Unix epoch, by this proxy's clock.
    pub time_unix_micros: u64,
    pub duration_micros: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trace_id: String,
    /// Why it was kept: `refused`, `asked` or `sample`.
    pub kept: String,
    pub method: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    pub path: String,
    /// The address that it came from.
    pub client: String,
    /// Who it proved to come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Where the route's rule is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    pub attempts: u32,
    pub status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u8>,
    /// Why this proxy answered, or cut the answer short; absent for what the next one answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub decisions: Vec<Said>,
}

/// A [`Decision`] in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Said {
    pub kind: String,
    /// `namespace/name`.
    pub policy: String,
    pub rule: String,
    /// `path:line`, or the object's `namespace/name@generation`.
    pub source: String,
    pub outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl DecisionRecord {
    /// In which order hops of one request are told: as they began, and of those that seem to have begun at once, who
    /// sends before who is called.
    pub fn order(&self) -> (u64, bool) {
        (self.time_unix_micros, self.direction == "inbound")
    }
}

impl From<&Decision> for Said {
    fn from(decision: &Decision) -> Self {
        let reason = match decision.outcome {
            Outcome::Refused(reason) | Outcome::WouldRefuse(reason) => Some(reason.flag().to_owned()),
            _ => None,
        };
        Self {
            kind: decision.policy.kind.to_string(),
            policy: decision.policy.name.to_string(),
            rule: decision.rule.name.to_string(),
            source: decision.rule.source.to_string(),
            outcome: decision.outcome.as_str().to_owned(),
            reason,
            detail: decision.detail.map(|detail| detail.to_string()),
        }
    }
}

/// `RateLimitPolicy shop/strict everyone (limits.yaml:12): refused rate_limited remaining=0`.
impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, policy, rule, source, outcome, reason, detail } = self;
        write!(f, "{kind} {policy} {rule} ({source}): {outcome}")?;
        for word in [reason, detail].into_iter().flatten() {
            write!(f, " {word}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Reason;
    use crate::decision::{Detail, RuleRef};
    use crate::model::{PolicyRef, ResourceName, SourceRef};

    #[test]
    fn a_decision_reads_as_policy_rule_line_and_outcome() {
        let source = |line| SourceRef::File { path: "limits.yaml".into(), line };
        let name = ResourceName::new("shop", "strict");
        let decision = Decision {
            policy: Arc::new(PolicyRef { kind: "RateLimitPolicy".into(), name, source: source(1) }),
            rule: Arc::new(RuleRef { name: "everyone".into(), source: source(12) }),
            outcome: Outcome::Refused(Reason::RateLimited),
            detail: Some(Detail::Remaining(0)),
        };
        let said = Said::from(&decision);
        let words = "RateLimitPolicy shop/strict everyone (limits.yaml:12): refused rate_limited remaining=0";
        assert_eq!(said.to_string(), words);
        let would = Decision { outcome: Outcome::WouldRefuse(Reason::RateLimited), detail: None, ..decision };
        assert!(Said::from(&would).to_string().ends_with(": would_refuse rate_limited"));
    }

    #[test]
    fn a_record_of_another_version_is_read_as_far_as_it_goes() {
        let read: DecisionRecord = serde_json::from_str(
            r#"{"node": "a", "status": 429, "colour": "red", "decisions": [{"rule": "x"}]}"#,
        )
        .unwrap();
        assert_eq!((read.node.as_str(), read.status, read.decisions[0].rule.as_str()), ("a", 429, "x"));
        let written = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<DecisionRecord>(&written).unwrap(), read);
    }

    #[test]
    fn who_sends_is_told_before_who_is_called() {
        let hop = |direction: &str, at| DecisionRecord {
            direction: direction.to_owned(),
            time_unix_micros: at,
            ..DecisionRecord::default()
        };
        let mut hops = [hop("inbound", 5), hop("outbound", 5), hop("gateway", 1)];
        hops.sort_by_key(DecisionRecord::order);
        assert_eq!(hops.map(|hop| hop.direction), ["gateway", "outbound", "inbound"]);
    }
}
