//! A limit beside a stricter one that counts the same requests.

use super::subject::Subject;
use super::{Findings, Lint};
use crate::kind::Compiled;

pub(super) const LINT: Lint = Lint {
    name: "limit-never-trips",
    about: "a limit that never refuses anybody, for another one of its policy always refuses before",
    explanation: "\
All limits of a policy must let a request through. Where one counts at least those that another one counts, in the same
buckets or in larger ones, and allows no more of them, the other one has nothing left to refuse: whoever would meet it
has met the stricter one.

    limits:
      - {name: per-user,  requests: 10, per: 1s, key: [{type: Header, name: x-user}]}
      - {name: all,       requests: 5,  per: 1s}      # 5 in all: no user ever gets to 10

The same holds for `concurrent`, for `newConnections`, for `quotas` beside each other, and for a quota that is larger
than what a limit lets through within its time.

Raise the stricter one, lower the other one, or delete it.",
    look,
};

fn look(subject: &Subject<'_>, findings: &mut Findings) {
    for valid in &subject.policies {
        let Compiled::Filter(filter) = &valid.compiled else { continue };
        for idle in filter.idle() {
            let rules = valid.parts.rules.iter().zip(&valid.parts.pointers);
            // Of equal names, as in none but a refused policy, the line decides.
            let found =
                rules.filter(|(rule, _)| **rule == idle.rule).map(|(_, pointer)| pointer.as_str()).next();
            let (name, stricter) = (&idle.rule.name, &idle.because.name);
            let message = format!(
                "`{name}` never refuses anybody: `{stricter}` counts the same requests and is stricter"
            );
            findings
                .tell_policy(valid.policy, found.unwrap_or_default(), message)
                .help(format!("delete `{name}`, or let it allow less than `{stricter}`"))
                .related(&idle.because.source, format!("`{stricter}` is written here"));
        }
    }
}
