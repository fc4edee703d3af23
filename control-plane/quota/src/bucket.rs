//! One bucket at the server: who may hold how much of it, and who should.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::divide::divide;
use crate::{ClientId, Report, Share, Terms, Usage, Version};

/// For those who join: they are served at once, and others are lowered meanwhile.
const RESERVE: u64 = Share::WHOLE.as_billionths() / 128;

/// Demand is measured, and measures differ: a client gets a sixteenth more than it was seen to want.
const HEADROOM: u64 = 16;

/// Of one client, as long as it does not say which of them it took.
const GRANTS: usize = 16;

/// Smaller differences are not worth a message.
const WORTH: u64 = 32;

#[derive(Debug, Default)]
pub(crate) struct Bucket {
    /// Of the whole limit, in millionths of a request per second.
    pub(crate) per_second: u64,
    /// Until then shares may be held that this server knows nothing of.
    quiet_until: Duration,
    members: BTreeMap<ClientId, Member>,
}

#[derive(Debug, Default)]
struct Member {
    stamp: Duration,
    heard: Duration,
    /// In billionths of the limit.
    demand: u64,
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
    pub(crate) fn quiet_until(quiet_until: Duration) -> Self {
        Self { quiet_until, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn has_room(&self, client: ClientId, members: usize) -> bool {
        self.members.len() < members || self.members.contains_key(&client)
    }

    pub(crate) fn report(&mut self, report: &Report, terms: Terms, now: Duration) {
        let per_second = self.per_second;
        let quiet = now < self.quiet_until;
        let member = self.members.entry(report.client).or_default();
        if report.leaves {
            member.grants.retain(|grant| grant.stamp > report.stamp);
            member.demand = 0;
            if member.grants.is_empty() {
                self.members.remove(&report.client);
            }
            return;
        }
        if report.stamp < member.stamp {
            return;
        }
        (member.stamp, member.heard) = (report.stamp, now);
        member.learn(report.usage, per_second);
        let Some(held) = report.held else { return };
        member.grants.retain(|grant| grant.version >= held.version);
        // Of a server before this one. It is gone after the quiet period, unless it is confirmed until then.
        if quiet && !member.grants.iter().any(|grant| grant.version == held.version) {
            let gone = now + terms.lease();
            member.grants.push(Grant { version: held.version, share: held.share, stamp: report.stamp, gone });
        }
    }

    /// Calls `send` for every client that is to get an assignment, and counts it as held from then on.
    pub(crate) fn rebalance(
        &mut self,
        terms: Terms,
        now: Duration,
        mut next: impl FnMut() -> Version,
        mut send: impl FnMut(ClientId, &Grant, bool),
    ) {
        for member in self.members.values_mut() {
            member.grants.retain(|grant| grant.gone > now);
        }
        self.members.retain(|_, member| !member.grants.is_empty() || member.is_heard(terms, now));
        let quiet = now < self.quiet_until;
        let targets = if quiet { Vec::new() } else { self.targets(terms, now) };
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
                room -= member.may_hold() - may_hold;
                send(*client, &grant, quiet);
            }
        }
    }

    /// What everybody should have; nothing for those who are no longer heard of.
    fn targets(&self, terms: Terms, now: Duration) -> Vec<u64> {
        let floor = RESERVE / (self.members.len() as u64).max(1);
        let heard = |member: &&Member| member.is_heard(terms, now);
        let demands: Vec<u64> = self
            .members
            .values()
            .filter(heard)
            .map(|member| (member.demand + member.demand / HEADROOM).max(floor))
            .collect();
        let mut shares = divide(&demands, Share::WHOLE.as_billionths() - RESERVE).into_iter();
        let target = |member| if heard(&member) { shares.next().unwrap_or(0) } else { 0 };
        self.members.values().map(target).collect()
    }
}

impl Member {
    fn is_heard(&self, terms: Terms, now: Duration) -> bool {
        now < self.heard + terms.ttl
    }

    /// A change to less than half or more than twice is followed almost at once, a smaller one is taken for noise:
    /// shares that jitter cost messages, and tokens that no longer fit.
    fn learn(&mut self, usage: Usage, per_second: u64) {
        let nanos = usage.elapsed.as_nanos();
        if nanos == 0 || per_second == 0 {
            return;
        }
        let requests = u128::from(usage.allowed.saturating_add(usage.denied));
        let seen = requests * 1_000_000 * 1_000_000_000 / nanos;
        let seen = seen.saturating_mul(u128::from(Share::WHOLE.as_billionths())) / u128::from(per_second);
        // Nobody can use more than everything, however often it asks.
        let seen = u64::try_from(seen).unwrap_or(u64::MAX).min(Share::WHOLE.as_billionths());
        self.demand = if seen / 2 > self.demand {
            seen
        } else if seen < self.demand / 2 {
            seen + (self.demand - seen) / 4
        } else {
            (self.demand * 7 + seen) / 8
        };
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
