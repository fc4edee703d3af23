//! Asks the service for all limits of a policy that count a request, together and once, and does what the answer says.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use smallvec::SmallVec;

use super::{AskedLimit, OnFailure, Service, entry, headers};
use crate::decision::{Decision, Detail, Outcome, RuleRef};
use crate::expression::Expression;
use crate::kinds::rate_limit::fields::{RATE_LIMIT, RATE_LIMIT_POLICY, policy_member, rate_limit};
use crate::kinds::rate_limit::filter::holds;
use crate::kinds::rate_limit::key::{self, Key};
use crate::kinds::rate_limit::on_limit::OnLimit;
use crate::kinds::rate_limit::told::{Standing, Told};
use crate::model::PolicyRef;
use crate::pipeline::{
    Answer, Ask, AskedDescriptor, Effect, Filter, LocalReply, Performed, Phase, RequestContext, Said,
    ServiceLimit, Verdict,
};
use crate::reason::Reason;
use crate::time::whole_seconds;

#[derive(Debug)]
pub(super) struct ServiceFilter {
    pub(super) policy: Arc<PolicyRef>,
    /// The requests that are counted at all.
    pub(super) when: Option<Arc<Expression>>,
    pub(super) service: Arc<Service>,
    /// Ordered by name.
    pub(super) limits: Arc<[AskedLimit]>,
    pub(super) told: Told,
    pub(super) on_limit: OnLimit,
    pub(super) shadow: bool,
    /// What counts while there is no answer.
    pub(super) local: Option<Arc<dyn Filter>>,
}

/// The limits that count a request, each with what it costs.
type Asked<'a> = SmallVec<[(&'a AskedLimit, u32); 4]>;

impl Filter for ServiceFilter {
    fn phase(&self) -> Phase {
        Phase::RateLimit
    }

    fn on_request(&self, cx: &mut RequestContext<'_>) -> Verdict {
        if !holds(self.when.as_deref(), cx) {
            return Verdict::Continue;
        }
        let asked = match self.asked(cx) {
            Ok(asked) => asked,
            Err(limit) => return self.refuse(&limit.rule, None, Vec::new(), cx),
        };
        if asked.is_empty() {
            return Verdict::Continue;
        }
        if !self.service.asks {
            for (limit, _) in asked {
                self.explain(&limit.rule, Outcome::Allowed, Some(Detail::ServiceNotAsked), cx);
            }
            return Verdict::Continue;
        }
        let descriptors = asked.iter().map(|(limit, hits)| AskedDescriptor {
            entries: entry::values(&limit.entries, &limit.key, cx),
            hits: *hits,
        });
        let Service { backend, domain, timeout, .. } = &*self.service;
        Verdict::Effect(Effect::Ask(Ask {
            policy: Arc::clone(&self.policy),
            service: Arc::clone(backend),
            domain: Arc::clone(domain),
            descriptors: descriptors.collect(),
            timeout: *timeout,
        }))
    }

    fn on_effect(&self, cx: &mut RequestContext<'_>, performed: &Performed) -> Verdict {
        // As it was when the question was put: nothing of the request has changed.
        let Ok(asked) = self.asked(cx) else { return Verdict::Continue };
        match performed {
            Performed::Answered(answer) => self.answered(answer, &asked, cx),
            _ => self.unanswered(&asked, cx),
        }
    }
}

impl ServiceFilter {
    /// # Errors
    /// This limit lets no request pass that is without a part of its key.
    fn asked(&self, cx: &RequestContext<'_>) -> Result<Asked<'_>, &AskedLimit> {
        let mut asked = Asked::new();
        for limit in self.limits.iter().filter(|limit| holds(limit.when.as_deref(), cx)) {
            match key::of(&limit.key, cx, [0; 2]) {
                Key::Of(_) => {}
                Key::Skip => continue,
                Key::Deny => return Err(limit),
            }
            let hits = limit.cost.of(cx, std::num::NonZeroU32::MAX);
            if hits > 0 {
                asked.push((limit, hits));
            }
        }
        Ok(asked)
    }

    fn answered(&self, answer: &Answer, asked: &Asked<'_>, cx: &mut RequestContext<'_>) -> Verdict {
        // One that says of more or of less than was asked, says of nothing that can be told.
        let said = if answer.said.len() == asked.len() { &answer.said[..] } else { &[] };
        let pairs = || asked.iter().map(|(limit, _)| *limit).zip(said);
        let Some((first, _)) = asked.first() else { return Verdict::Continue };
        let counted = pairs().filter_map(|(limit, said)| Some((limit, said, said.limit?)));
        let (limit, standing) = if answer.allowed {
            let closest = counted.min_by_key(|(_, _, standing)| standing.remaining);
            closest.map_or((*first, None), |(limit, _, standing)| (limit, Some(standing)))
        } else {
            let refusing = pairs().filter(|(_, said)| !said.allowed);
            let longest = refusing.max_by_key(|(_, said)| said.limit.and_then(|limit| limit.reset));
            longest.map_or((*first, None), |(limit, said)| (limit, said.limit))
        };
        self.tell(answer, (limit, standing), pairs(), cx);
        if answer.allowed {
            let detail = standing.map(|standing| Detail::Remaining(standing.remaining));
            self.explain(&limit.rule, Outcome::Allowed, detail, cx);
            return Verdict::Continue;
        }
        let wait = standing.and_then(|standing| standing.reset);
        let again = match wait {
            Some(_) => None,
            None => headers::find(&answer.response_headers, &RETRY_AFTER),
        };
        let verdict = self.refuse(&limit.rule, wait, again.into_iter().cloned().collect(), cx);
        self.in_its_words(verdict, answer)
    }

    /// By what is written for that.
    fn unanswered(&self, asked: &Asked<'_>, cx: &mut RequestContext<'_>) -> Verdict {
        let Some((limit, _)) = asked.first() else { return Verdict::Continue };
        let before = cx.decisions.len();
        let verdict = match (self.service.on_failure, &self.local) {
            (OnFailure::Local, Some(local)) => local.on_request(cx),
            (OnFailure::Allow, _) => {
                self.explain(&limit.rule, Outcome::Allowed, None, cx);
                Verdict::Continue
            }
            (OnFailure::Deny | OnFailure::Local, _) => self.refuse(&limit.rule, None, Vec::new(), cx),
        };
        for decision in &mut cx.decisions[before..] {
            decision.detail = Some(Detail::ServiceUnanswered);
        }
        verdict
    }

    /// Tells the client, and the backend of who passes, what the service says.
    fn tell<'a>(
        &self,
        answer: &Answer,
        (limit, standing): (&AskedLimit, Option<ServiceLimit>),
        all: impl Iterator<Item = (&'a AskedLimit, &'a Said)>,
        cx: &mut RequestContext<'_>,
    ) {
        if self.shadow {
            return;
        }
        if answer.allowed {
            headers::to_request(&answer.request_headers, &mut cx.head.headers);
        }
        headers::to_response(&answer.response_headers, self.told, cx.response_headers);
        let Some(ServiceLimit { quota, remaining, reset }) = standing else { return };
        let (remaining, refused) = if answer.allowed { (remaining, false) } else { (0, true) };
        if self.told.draft {
            let members: Vec<_> = all.filter_map(|(limit, said)| member(limit, said)).collect();
            if let Ok(policy) = HeaderValue::try_from(members.join(", "))
                && !members.is_empty()
            {
                cx.response_headers.append(RATE_LIMIT_POLICY, policy);
            }
            if let Some(value) = reset.and_then(|reset| rate_limit(&limit.rule.name, remaining, reset)) {
                cx.response_headers.append(RATE_LIMIT, value);
            }
        }
        if self.told.x {
            let (limit, reset) = (quota.map(|(requests, _)| requests.get()), reset.map_or(0, whole_seconds));
            Standing { limit, remaining, reset, refused }.tell(cx.response_headers);
        }
    }

    /// In Shadow, only says so.
    fn refuse(
        &self,
        rule: &Arc<RuleRef>,
        wait: Option<Duration>,
        again: Vec<HeaderValue>,
        cx: &mut RequestContext<'_>,
    ) -> Verdict {
        let refused = if self.shadow {
            Outcome::WouldRefuse(Reason::RateLimited)
        } else {
            Outcome::Refused(Reason::RateLimited)
        };
        self.explain(rule, refused, wait.map(Detail::RetryAfter), cx);
        if self.shadow {
            return Verdict::Continue;
        }
        let mut reply = self.on_limit.refusal(wait);
        reply.headers.extend(again.into_iter().map(|again| (RETRY_AFTER, again)));
        Verdict::Reply(reply)
    }

    /// The body of the service, where the policy has none.
    fn in_its_words(&self, verdict: Verdict, answer: &Answer) -> Verdict {
        let Verdict::Reply(reply) = verdict else { return verdict };
        let said = reply.written.as_ref().and_then(|written| written.body.as_ref());
        if said.is_some() || answer.body.is_empty() {
            return Verdict::Reply(reply);
        }
        let content_type = headers::find(&answer.response_headers, &CONTENT_TYPE).cloned();
        let content_type = content_type.unwrap_or(HeaderValue::from_static("text/plain; charset=utf-8"));
        let written = self.on_limit.with_body((content_type, answer.body.clone()));
        Verdict::Reply(LocalReply { written: Some(Arc::new(written)), ..reply })
    }

    fn explain(
        &self,
        rule: &Arc<RuleRef>,
        outcome: Outcome,
        detail: Option<Detail>,
        cx: &mut RequestContext<'_>,
    ) {
        let (policy, rule) = (Arc::clone(&self.policy), Arc::clone(rule));
        cx.decisions.push(Decision { policy, rule, outcome, detail });
    }
}

fn member(limit: &AskedLimit, said: &Said) -> Option<String> {
    let (requests, window) = said.limit?.quota?;
    Some(policy_member(&limit.rule.name, requests, window))
}
