//! An expression that says the same of every request, or of none.

use super::subject::Subject;
use super::{Findings, Lint};

pub(super) const LINT: Lint = Lint {
    name: "constant-expression",
    about: "an expression whose result is the same for every request, or that fails for every one",
    explanation: "\
An expression is there to tell requests apart. One that asks nothing of them, or whose answer does not depend on what
it asks, tells none apart: a condition that is always true can be left out, and what has one that is always false never
has any effect.

    limits:
      - {name: a, requests: 5, per: 1s, when: '1 == 2'}                          # counts nothing
      - {name: b, requests: 5, per: 1s, when: 'true || request.method == \"GET\"'}   # counts everything
      - {name: c, requests: 5, per: 1s, when: '1 / 0 == 1'}                      # fails: counts nothing

It is evaluated by what evaluates it for requests, without any request.",
    look,
};

fn look(subject: &Subject<'_>, findings: &mut Findings) {
    for valid in &subject.policies {
        for (pointer, expression) in &valid.parts.expressions {
            let (message, help) = match expression.constant() {
                None => continue,
                Some(Ok(value)) if value == "true" => (
                    String::from("this expression is always true"),
                    "leave it out, or ask something of the request",
                ),
                Some(Ok(value)) => {
                    (format!("this expression is always {value}"), "ask something of the request")
                }
                Some(Err(())) => (
                    String::from("this expression fails, whatever it is asked of"),
                    "ask something of the request",
                ),
            };
            findings.tell_policy(valid.policy, pointer, message).help(help);
        }
    }
}
