//! What one client holds of one bucket, and until when.

use std::time::Duration;

use crate::{Assignment, BucketId, Cell, ClientId, Held, Rate, Report, Share, Terms, Usage};

/// What a client that never had a share, or lost it, admits on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    Share(Share),
    Rate(Rate),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Assigned,
    /// Cut off; the last share is still ours.
    Reused,
    Fallback,
}

#[derive(Debug)]
pub struct Lease {
    client: ClientId,
    bucket: BucketId,
    rate: Rate,
    terms: Terms,
    fallback: Fallback,
    joined: Duration,
    reported: Duration,
    held: Option<(Held, Duration)>,
    cell: Cell,
}

impl Lease {
    /// `now` must be later than that of the lease of the same bucket before, if there was one.
    pub fn new(
        client: ClientId,
        bucket: BucketId,
        rate: Rate,
        terms: Terms,
        fallback: Fallback,
        now: Duration,
    ) -> Self {
        let (own, share) = fallback.of(rate);
        let cell = Cell::new(own, share, now);
        Self { client, bucket, rate, terms, fallback, joined: now, reported: now, held: None, cell }
    }

    /// What requests spend.
    pub fn cell(&self) -> &Cell {
        &self.cell
    }

    /// Takes an assignment, unless it is older than what is held, or came too late. Says whether others wait for a
    /// report of it: the share was lowered.
    pub fn assign(&mut self, assignment: &Assignment, now: Duration) -> bool {
        let Assignment { version, share, stamp, renews, .. } = *assignment;
        let same = self.held.is_some_and(|(held, _)| version == held.version);
        let too_late = stamp < self.joined || now >= stamp + self.terms.lease();
        if too_late || (renews && !same) || self.held.is_some_and(|(held, _)| version < held.version) {
            return false;
        }
        let lowers = self.held.is_some_and(|(held, _)| share < held.share);
        let stamp = match self.held {
            Some((held, before)) if held.version == version => before.max(stamp),
            _ => stamp,
        };
        self.held = Some((Held { version, share }, stamp));
        self.cell.change(self.rate, share, now);
        lowers
    }

    /// Falls back when it is time; to be called a few times a second.
    pub fn tick(&mut self, now: Duration) {
        if self.held.is_some_and(|(_, stamp)| now >= stamp + self.terms.lease()) {
            self.held = None;
            let (rate, share) = self.fallback.of(self.rate);
            self.cell.change(rate, share, now);
        }
    }

    pub fn state(&self, now: Duration) -> State {
        match self.held {
            Some((_, stamp)) if now < stamp + self.terms.ttl => State::Assigned,
            Some((_, stamp)) if now < stamp + self.terms.lease() => State::Reused,
            _ => State::Fallback,
        }
    }

    pub fn share(&self) -> Option<Share> {
        self.held.map(|(held, _)| held.share)
    }

    pub fn report(&mut self, now: Duration) -> Report {
        let usage = self.cell.drain(now.saturating_sub(self.reported));
        self.reported = now;
        let held = self.held.map(|(held, _)| held);
        self.told(now, held, usage, false)
    }

    /// The last report; what was held may be given to others as soon as it arrives.
    pub fn leave(self, now: Duration) -> Report {
        self.told(now, None, Usage::default(), true)
    }

    fn told(&self, stamp: Duration, held: Option<Held>, usage: Usage, leaves: bool) -> Report {
        Report { client: self.client, bucket: self.bucket, stamp, held, usage, leaves }
    }
}

impl Fallback {
    fn of(self, rate: Rate) -> (Rate, Share) {
        match self {
            Self::Share(share) => (rate, share),
            Self::Rate(own) => (own, Share::WHOLE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Version;

    const SECOND: Duration = Duration::from_secs(1);
    const TERMS: Terms = Terms { ttl: SECOND, reuse: SECOND };

    fn lease() -> Lease {
        let rate = Rate { requests: 100, per: SECOND, burst: 10 };
        Lease::new(1, BucketId([0; 16]), rate, TERMS, Fallback::Share(Share::NONE), SECOND)
    }

    fn assignment(number: u64, stamp: Duration, renews: bool) -> Assignment {
        let (version, share) = (Version { epoch: 0, number }, Share::billionths(number));
        Assignment { client: 1, bucket: BucketId([0; 16]), version, share, stamp, renews }
    }

    #[test]
    fn a_lease_runs_from_the_report_and_not_from_the_assignment() {
        let mut lease = lease();
        lease.assign(&assignment(5, SECOND, false), SECOND * 3);
        assert_eq!(lease.share(), None, "it came when it had run out");
        lease.assign(&assignment(5, SECOND * 2, false), SECOND * 3);
        assert_eq!(lease.share(), Some(Share::billionths(5)));
        lease.tick(SECOND * 4);
        assert_eq!(lease.share(), None);
    }

    #[test]
    fn a_renewal_lengthens_only_what_is_held() {
        let mut lease = lease();
        lease.assign(&assignment(5, SECOND, true), SECOND);
        assert_eq!(lease.share(), None);
        lease.assign(&assignment(6, SECOND, false), SECOND);
        lease.assign(&assignment(7, SECOND * 2, true), SECOND * 2);
        assert_eq!(lease.share(), Some(Share::billionths(6)));
        lease.assign(&assignment(6, SECOND * 2, true), SECOND * 2);
        lease.tick(SECOND * 3);
        assert_eq!(lease.share(), Some(Share::billionths(6)));
    }

    #[test]
    fn one_that_never_had_a_share_admits_its_own_cap() {
        let rate = Rate { requests: 100, per: SECOND, burst: 10 };
        let own = Rate { requests: 3, per: SECOND, burst: 3 };
        let lease = Lease::new(1, BucketId([0; 16]), rate, TERMS, Fallback::Rate(own), Duration::ZERO);
        assert_eq!((0..100).filter(|_| lease.cell().take(1, SECOND)).count(), 3);
        assert_eq!(lease.state(SECOND), State::Fallback);
    }
}
