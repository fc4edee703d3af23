//! Claims of a token, asked for where nobody looks at tokens.

use std::collections::BTreeMap;

use super::subject::Subject;
use super::{Findings, Lint};
use crate::model::Policy;

pub(super) const LINT: Lint = Lint {
    name: "claims-without-tokens",
    about: "an expression that asks for `jwt.claims` where no JwtAuthenticationPolicy holds",
    explanation: "\
`jwt.claims` is what a verified token says. Tokens are verified by a JwtAuthenticationPolicy; where none holds for a
request, there are no claims, `has(jwt.claims...)` is false and everything else about them fails.

    kind: RateLimitPolicy
    spec:
      limits: [{name: free, requests: 5, per: 1s, when: 'jwt.claims.plan == \"free\"'}]    # counts nothing

Attach a JwtAuthenticationPolicy to the same target or to one before it on the way of the request.",
    look,
};

const TOKENS: &str = "JwtAuthenticationPolicy";

/// What is known of the ways on which a policy holds.
#[derive(Clone, Copy, Default)]
struct Ways {
    any: bool,
    with_tokens: bool,
}

fn look(subject: &Subject<'_>, findings: &mut Findings) {
    let mut holds = BTreeMap::<*const Policy, Ways>::new();
    for (_, effective) in &subject.ways {
        let with_tokens = effective.iter().any(|policy| *policy.kind == *TOKENS);
        for policy in effective {
            let ways = holds.entry(std::ptr::from_ref(*policy)).or_default();
            *ways = Ways { any: true, with_tokens: ways.with_tokens || with_tokens };
        }
    }
    for valid in &subject.policies {
        let ways = holds.get(&std::ptr::from_ref(valid.policy)).copied().unwrap_or_default();
        if !ways.any || ways.with_tokens {
            continue;
        }
        for (pointer, _) in valid.parts.expressions.iter().filter(|(_, expression)| expression.asks_claims())
        {
            let message =
                "there are never any claims here: no JwtAuthenticationPolicy holds where this policy does";
            findings
                .tell_policy(valid.policy, pointer, message)
                .help("attach a JwtAuthenticationPolicy to the same target");
        }
    }
}
