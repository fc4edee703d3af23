//! Sticky cohorts: a rule's backend by user and not by request, so that weight w is w % of the users.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::SET_COOKIE;

use super::PickContext;
use super::hash::{self, BACKEND};
use super::rendezvous::{lot, winner};
use super::user::{KeySource, Missing, UserKeys, digest};
use crate::decision::{Decision, Detail, Outcome, RuleRef};
use crate::model::{Mode, PolicyRef, SourceRef};
use crate::reason::Reason;

/// A policy that has passed validation.
#[derive(Clone, Debug)]
pub struct Cohort {
    pub policy: Arc<PolicyRef>,
    pub mode: Mode,
    /// Where the key is written: what decisions point to.
    pub source: SourceRef,
    pub users: UserKeys,
    /// Shared by every rule that is to have the same cohorts; `None`: each rule has its own.
    pub seed: Option<Box<str>>,
    /// By the name of a backendRef: the cohort that it is hashed as, instead of under its own name.
    pub named: BTreeMap<Box<str>, Box<str>>,
}

/// A backendRef as its cohort is joined to it.
#[derive(Clone, Copy, Debug)]
pub struct Seat<'a> {
    /// Where it leads: `shop/cart-v2:80`.
    pub identity: &'a str,
    pub weight: u32,
}

/// A cohort joined to the backends of one rule.
#[derive(Debug)]
pub struct BoundCohort {
    cohort: Arc<Cohort>,
    /// In the order of their names, which is that of ties.
    seats: Box<[BoundSeat]>,
}

#[derive(Debug)]
struct BoundSeat {
    /// Which of the rule's targets it is.
    target: usize,
    weight: u32,
    key: [u64; 2],
    /// What is told where this one is picked: its name, and the line of the policy.
    told: Arc<RuleRef>,
}

impl<'a> Seat<'a> {
    /// The name alone, without namespace and port.
    fn object(&self) -> &'a str {
        let name = self.identity.rsplit('/').next().unwrap_or_default();
        name.split(':').next().unwrap_or_default()
    }
}

impl Cohort {
    /// `rule`: what tells the rule from every other, used where there is no seed.
    pub fn bind<'a>(self: &Arc<Self>, rule: &str, seats: impl Iterator<Item = Seat<'a>>) -> BoundCohort {
        // A seed is not to be mistaken for a rule of the same name.
        let salt = match &self.seed {
            Some(seed) => [&b"seed"[..], seed.as_bytes()],
            None => [&b"rule"[..], rule.as_bytes()],
        };
        let mut met = BTreeMap::<String, u32>::new();
        let mut named = Vec::new();
        for (target, seat) in seats.enumerate() {
            let name = match self.named.get(seat.object()) {
                Some(cohort) => format!("cohort {cohort}"),
                None => seat.identity.to_owned(),
            };
            // A backend may be there twice, with other filters: each has a share of its own.
            let before = met.entry(name.clone()).or_default();
            named.push((name, *before, target, seat));
            *before += 1;
        }
        named.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        let bound = named.into_iter().map(|(name, before, target, seat)| BoundSeat {
            target,
            weight: seat.weight,
            key: BACKEND
                .map(|half| hash::of(half, &[salt[0], salt[1], name.as_bytes(), &before.to_le_bytes()])),
            told: Arc::new(RuleRef { name: seat.identity.into(), source: self.source.clone() }),
        });
        BoundCohort { cohort: self.clone(), seats: bound.collect() }
    }
}

impl BoundCohort {
    pub fn policy(&self) -> &Arc<PolicyRef> {
        &self.cohort.policy
    }

    /// The target for this request. `by_chance` picks one by weight, which is what happens without a key, and in
    /// Shadow, where this only tells what it would have done.
    ///
    /// # Errors
    /// That of `by_chance`.
    pub fn pick(
        &self,
        cx: &mut PickContext<'_>,
        by_chance: impl FnOnce(&mut fastrand::Rng) -> Result<usize, Reason>,
    ) -> Result<usize, Reason> {
        let found = self.cohort.users.find(cx).or_else(|| self.newcomer(cx));
        let seat = found.and_then(|(user, source)| Some((self.seat_of(user)?.target, source)));
        if let (Some((target, source)), Mode::Enforce) = (seat, self.cohort.mode) {
            self.tell(cx, target, source);
            return Ok(target);
        }
        let drawn = by_chance(cx.rng)?;
        let (target, source) = seat.unwrap_or((drawn, KeySource::Missing));
        self.tell(cx, target, source);
        Ok(drawn)
    }

    fn seat_of(&self, user: u64) -> Option<&BoundSeat> {
        let lots = self.seats.iter().map(|seat| (lot(hash::under(seat.key, user)), seat.weight));
        self.seats.get(winner(lots)?)
    }

    /// A new user, where the policy makes some. The cookie goes out with this very answer, so that the first pick is
    /// the one that stays.
    fn newcomer(&self, cx: &mut PickContext<'_>) -> Option<(u64, KeySource)> {
        let Missing::SetCookie(cookie) = &self.cohort.users.missing else { return None };
        let id = format!("{:032x}", cx.rng.u128(..));
        if self.cohort.mode == Mode::Enforce {
            cx.response_headers.append(SET_COOKIE, cookie.render(&id, cx.secure)?);
        }
        Some((digest(id.as_bytes())?, KeySource::New))
    }

    fn tell(&self, cx: &mut PickContext<'_>, target: usize, source: KeySource) {
        let Some(seat) = self.seats.iter().find(|seat| seat.target == target) else { return };
        let outcome = match self.cohort.mode {
            Mode::Enforce => Outcome::Picked,
            Mode::Shadow => Outcome::WouldPick,
        };
        cx.decisions.push(Decision {
            policy: self.cohort.policy.clone(),
            rule: seat.told.clone(),
            outcome,
            detail: Some(Detail::Key(source)),
        });
    }
}

#[cfg(test)]
mod tests;
