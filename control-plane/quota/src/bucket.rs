//! One bucket at the server: who may hold how much of it, and who should.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cell::TOKEN;
use crate::divide::divide;
use crate::store::Store;
use crate::{ClientId, Held, Limit, Report, Share, Terms, Tokens, Usage, Version};

/// For those who join: they are served at once, and others are lowered meanwhile.
const RESERVE: u64 = Share::WHOLE.as_billionths() / 128;

/// Demand is measured, and measures differ: a client gets a sixteenth more than it was seen to want.
const HEADROOM: u64 = 16;

/// Of one client, as long as it does not say which of them it took.
const GRANTS: usize = 16;

/// Smaller differences are not worth a message.
const WORTH: u64 = 32;

#[derive(Debug)]
pub(crate) struct Bucket {
    limit: Limit,
    /// Until then shares may be held that this server knows nothing of.
    quiet_until: Duration,
    members: BTreeMap<ClientId, Member>,
    /// What nobody holds.
    store: Store,
}

#[derive(Debug, Default)]
struct Member {
    stamp: Duration,
    heard: Duration,
    /// In billionths of the limit.
    demand: u64,
    /// Requests that it refused, and that nothing was given for since.
    refused: u64,
    grants: Vec<Grant>,
}

/// A share that the client may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    pub(crate) version: Version,
    pub(crate) share: Share,
    pub(crate) stamp: Duration,
    pub(crate) gone: Duration,
}

impl Bucket {
    /// A bucket that nobody spoke of as long as shares are lent is full.
    pub(crate) fn new(limit: Limit, quiet_until: Duration, now: Duration) -> Self {
        let store = if now < quiet_until { Store::empty(now) } else { Store::full(limit.rate, now) };
        Self { limit, quiet_until, members: BTreeMap::new(), store }
    }

    pub(crate) fn terms(&self) -> Terms {
        self.limit.terms
    }

    /// The limit as it is written now. A longer lease holds for shares that are given from now on.
    pub(crate) fn rewrite(&mut self, limit: Limit, now: Duration) {
        if self.limit != limit {
            self.store.fill(self.limit.rate, now);
            self.limit = limit;
        }
    }

    /// Nothing is lost by it: it would come back as it is.
    pub(crate) fn is_forgettable(&self) -> bool {
        self.members.is_empty() && self.store.is_full(self.limit.rate)
    }

    pub(crate) fn has_room(&self, client: ClientId, members: usize) -> bool {
        self.members.len() < members || self.members.contains_key(&client)
    }

    pub(crate) fn report(&mut self, report: &Report, now: Duration) {
        if report.leaves {
            return self.farewell(report);
        }
        let Limit { rate, terms } = self.limit;
        let quiet = now < self.quiet_until;
        let member = self.members.entry(report.client).or_default();
        if report.stamp < member.stamp {
            return;
        }
        // One that comes twice must not count twice.
        if report.stamp > member.stamp {
            self.store.settle(report, member.knows(report.held), rate);
        }
        (member.stamp, member.heard) = (report.stamp, now);
        member.learn(report.usage, rate.per_second());
        let Some(held) = report.held else { return };
        member.grants.retain(|grant| grant.version >= held.version);
        // Of a server before this one. It is gone after the quiet period, unless it is confirmed until then.
        if quiet && !member.knows(report.held) && member.grants.len() < GRANTS {
            let gone = now + terms.lease();
            member.grants.push(Grant { version: held.version, share: held.share, stamp: report.stamp, gone });
        }
    }

    fn farewell(&mut self, report: &Report) {
        let Some(member) = self.members.get_mut(&report.client) else { return };
        if report.stamp > member.stamp {
            self.store.settle(report, member.knows(report.held), self.limit.rate);
            member.stamp = report.stamp;
        }
        member.grants.retain(|grant| grant.stamp > report.stamp);
        member.demand = 0;
        if member.grants.is_empty() {
            self.members.remove(&report.client);
        }
    }

    /// Calls `send` for every client that is to get an assignment, and counts it as held from then on.
    pub(crate) fn rebalance(
        &mut self,
        now: Duration,
        mut next: impl FnMut() -> Version,
        mut send: impl FnMut(ClientId, &Grant, Tokens, bool),
    ) {
        let Limit { rate, terms } = self.limit;
        self.store.fill(rate, now);
        for member in self.members.values_mut() {
            member.grants.retain(|grant| grant.gone > now);
        }
        self.members.retain(|_, member| !member.grants.is_empty() || member.is_heard(terms, now));
        let quiet = now < self.quiet_until;
        let targets = if quiet { Vec::new() } else { self.targets(now) };
        let held: u64 = self.members.values().map(Member::may_hold).sum();
        let mut room = Share::WHOLE.as_billionths().saturating_sub(held);
        for (i, (client, member)) in self.members.iter_mut().enumerate() {
            if !member.is_heard(terms, now) {
                continue;
            }
            let target = targets.get(i).copied().unwrap_or_else(|| member.current());
            let may_hold = member.may_hold();
            let share = target.min(may_hold + room);
            if let Some(grant) = member.grant(share, terms, quiet, &mut next) {
                let more = member.may_hold() - may_hold;
                room -= more;
                send(*client, &grant, self.store.take(rate, Share::billionths(more)), quiet);
            }
        }
        if !quiet {
            self.feed(&mut next, send);
        }
        self.store.lend(rate, Share::billionths(room));
    }

    /// Gives what some had no room for to those who refused requests.
    fn feed(
        &mut self,
        mut next: impl FnMut() -> Version,
        mut send: impl FnMut(ClientId, &Grant, Tokens, bool),
    ) {
        let hungry = |member: &&mut Member| member.refused > 0 && member.is_settled();
        let mut left = self.members.values_mut().filter(hungry).count() as u64;
        for (client, member) in self.members.iter_mut() {
            if left == 0 || !hungry(&member) {
                continue;
            }
            let even = self.store.whole().div_ceil(left);
            left -= 1;
            let most = even.min(member.refused);
            if most == 0 {
                continue;
            }
            let Some(grant) = member.again(&mut next) else { continue };
            member.refused = 0;
            send(*client, &grant, self.store.give(most * TOKEN), false);
        }
    }

    /// What everybody should have; nothing for those who are no longer heard of.
    fn targets(&self, now: Duration) -> Vec<u64> {
        let heard = |member: &&Member| member.is_heard(self.limit.terms, now);
        let many = self.members.len() as u64;
        // One alone has no use for others' reserve.
        let reserve = if many > 1 { RESERVE } else { 0 };
        let demands: Vec<u64> = self
            .members
            .values()
            .filter(heard)
            .map(|member| (member.demand + member.demand / HEADROOM).max(RESERVE / many.max(1)))
            .collect();
        let mut shares = divide(&demands, Share::WHOLE.as_billionths() - reserve).into_iter();
        let target = |member| if heard(&member) { shares.next().unwrap_or(0) } else { 0 };
        self.members.values().map(target).collect()
    }
}

/// Whether so many requests may be seen where so many are expected: within three standard deviations of a Poisson
/// distribution, or nearly equal.
fn is_chance(seen: u64, expected: u64) -> bool {
    let far = seen.abs_diff(expected);
    far <= expected / 8 || far.saturating_mul(far) <= 9 * expected.max(1)
}

impl Member {
    fn is_heard(&self, terms: Terms, now: Duration) -> bool {
        now < self.heard + terms.ttl
    }

    /// A change that is more than chance is followed at once, or almost; a smaller one is taken for noise: shares that
    /// jitter cost messages, and tokens that no longer fit.
    fn learn(&mut self, usage: Usage, per_second: u64) {
        self.refused = usage.denied;
        let nanos = usage.elapsed.as_nanos();
        if nanos == 0 || per_second == 0 {
            return;
        }
        let whole = u128::from(Share::WHOLE.as_billionths());
        let requests = usage.allowed.saturating_add(usage.denied);
        let seen = u128::from(requests) * 1_000_000 * 1_000_000_000 / nanos;
        let seen = seen.saturating_mul(whole) / u128::from(per_second);
        // Nobody can use more than everything, however often it asks.
        let seen = u64::try_from(seen).unwrap_or(u64::MAX).min(Share::WHOLE.as_billionths());
        let expected =
            u128::from(self.demand) * u128::from(per_second) / whole * nanos / 1_000_000_000_000_000;
        let expected = u64::try_from(expected).unwrap_or(u64::MAX);
        self.demand = if is_chance(requests, expected) {
            (self.demand * 7 + seen) / 8
        } else if seen > self.demand {
            seen
        } else {
            seen + (self.demand - seen) / 4
        };
    }

    fn knows(&self, held: Option<Held>) -> bool {
        held.is_some_and(|held| self.grants.iter().any(|grant| grant.version == held.version))
    }

    fn may_hold(&self) -> u64 {
        self.grants.iter().map(|grant| grant.share.as_billionths()).max().unwrap_or(0)
    }

    fn latest(&self) -> Option<&Grant> {
        self.grants.iter().max_by_key(|grant| grant.version)
    }

    fn current(&self) -> u64 {
        self.latest().map_or(0, |grant| grant.share.as_billionths())
    }

    /// Whether it has taken what it was sent.
    fn is_settled(&self) -> bool {
        self.grants.len() == 1
    }

    /// The share that it has, under a new version.
    fn again(&mut self, next: &mut impl FnMut() -> Version) -> Option<Grant> {
        let grant = Grant { version: next(), ..*self.latest()? };
        self.grants.push(grant);
        Some(grant)
    }

    fn grant(
        &mut self,
        share: u64,
        terms: Terms,
        quiet: bool,
        next: &mut impl FnMut() -> Version,
    ) -> Option<Grant> {
        let (current, gone) = (self.current(), self.heard + terms.lease());
        let changes = share.abs_diff(current) > current / WORTH;
        let stamp = self.stamp;
        if quiet || !changes || self.grants.len() >= GRANTS {
            // The same share under the same version only lengthens the lease, and only of who holds it.
            let latest = self.grants.iter_mut().max_by_key(|grant| grant.version);
            let latest = latest.filter(|grant| stamp.saturating_sub(grant.stamp) >= terms.ttl / 3)?;
            (latest.stamp, latest.gone) = (stamp, gone);
            return Some(*latest);
        }
        let grant = Grant { version: next(), share: Share::billionths(share), stamp, gone };
        self.grants.push(grant);
        Some(grant)
    }
}
