//! Lints: what is valid, and cannot be what its author meant. A rule that nothing reaches, a limit that never refuses, a retry
//! for which no time is left.
//!
//! A lint never guesses from text: it asks the compiled policies, the tables in which requests are looked up and the
//! plans by which calls are made, and tells only what holds for every request. Whoever is told of something must be able to
//! change or delete it with a good conscience; so where it cannot be shown, a lint keeps silent.
//!
//! A lint is one file in `lint/` and one line in [`LINTS`]. None may compare every object with every other one.

mod breaker_cannot_open;
mod claims_without_tokens;
mod constant_expression;
mod hedge_too_late;
mod limit_never_trips;
mod odd_weights;
mod overridden_policy;
mod retries_exceed_timeout;
mod route_leads_nowhere;
mod shadow_replaces_enforced;
mod subject;
#[cfg(test)]
mod tests;
mod unreachable_rule;

use crate::document::ObjectKey;
use crate::model::{Policy, SourceRef};
use crate::objects::Object;
use crate::resolve::Resolved;
use subject::Subject;

/// One thing that is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Lint {
    /// For people and for flags: `unreachable-rule`.
    pub name: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// What it means, an example of it, and what to do.
    pub explanation: &'static str,
    look: fn(&Subject<'_>, &mut Findings),
}

/// What a lint has to say, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The name of the lint.
    pub lint: &'static str,
    pub object: ObjectKey,
    /// Where the object, or its part, was written.
    pub source: SourceRef,
    /// Of the field, relative to the object's spec.
    pub pointer: String,
    pub message: String,
    pub help: Option<String>,
    /// Other places that have to do with it, and why.
    pub related: Vec<(SourceRef, String)>,
}

/// Every lint, by name.
pub const LINTS: &[Lint] = &[
    breaker_cannot_open::LINT,
    claims_without_tokens::LINT,
    constant_expression::LINT,
    hedge_too_late::LINT,
    limit_never_trips::LINT,
    odd_weights::LINT,
    overridden_policy::LINT,
    retries_exceed_timeout::LINT,
    route_leads_nowhere::LINT,
    shadow_replaces_enforced::LINT,
    unreachable_rule::LINT,
];

/// What the lints have found until now.
#[derive(Debug, Default)]
struct Findings {
    lint: &'static str,
    all: Vec<Finding>,
}

/// Looks at objects that are valid, and at what they mean together.
pub fn lint<'a>(objects: impl IntoIterator<Item = &'a Object>, resolved: &'a Resolved) -> Vec<Finding> {
    let subject = Subject::new(objects, resolved);
    let mut findings = Findings::default();
    for lint in LINTS {
        findings.lint = lint.name;
        (lint.look)(&subject, &mut findings);
    }
    findings.all.sort_by(|a, b| (&a.object, &a.pointer, a.lint).cmp(&(&b.object, &b.pointer, b.lint)));
    findings.all.dedup();
    findings.all
}

/// The lint of that name.
pub fn find(name: &str) -> Option<&'static Lint> {
    LINTS.iter().find(|lint| lint.name == name)
}

/// The lint that was probably meant.
pub fn nearest(name: &str) -> Option<&'static str> {
    crate::document::schema::nearest(name, LINTS.iter().map(|lint| lint.name))
}

impl Findings {
    /// The caller adds what else there is to say.
    fn tell(
        &mut self,
        object: ObjectKey,
        (source, pointer): (SourceRef, impl Into<String>),
        message: impl Into<String>,
    ) -> &mut Finding {
        let at = self.all.len();
        self.all.push(Finding {
            lint: self.lint,
            object,
            source,
            pointer: pointer.into(),
            message: message.into(),
            help: None,
            related: Vec::new(),
        });
        &mut self.all[at]
    }

    /// Of a policy, at the line of `pointer`.
    fn tell_policy(&mut self, policy: &Policy, pointer: &str, message: impl Into<String>) -> &mut Finding {
        let source = policy.meta.at(policy.lines.line(pointer));
        self.tell(subject::key_of(policy), (source, pointer), message)
    }
}

impl Finding {
    fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    fn related(&mut self, source: &SourceRef, what: impl Into<String>) -> &mut Self {
        self.related.push((source.clone(), what.into()));
        self
    }
}
