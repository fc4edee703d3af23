//! What one client holds of one bucket, and until when.

use std::sync::Arc;
use std::time::Duration;

use crate::{Assignment, BucketId, Cell, ClientId, Held, Rate, Report, Share, Terms, Tokens, Usage};

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
    fallback: Fallback,
    joined: Duration,
    reported: Duration,
    loan: Option<Loan>,
    left: bool,
    cell: Arc<Cell>,
}

#[derive(Clone, Copy, Debug)]
struct Loan {
    held: Held,
    terms: Terms,
    since: Duration,
}

impl Lease {
    /// Until there is an assignment, the fallback holds, and starts full. `now` must be later than that of the lease of the
    /// same bucket before, if there was one.
    pub fn new(client: ClientId, bucket: BucketId, rate: Rate, fallback: Fallback, now: Duration) -> Self {
        let (own, share) = fallback.of(rate);
        let cell = Arc::new(Cell::full(own, share, now));
        Self { client, bucket, rate, fallback, joined: now, reported: now, loan: None, left: false, cell }
    }

    /// What requests spend.
    pub fn cell(&self) -> &Arc<Cell> {
        &self.cell
    }

    pub fn bucket(&self) -> BucketId {
        self.bucket
    }

    /// The limit as it is written now; what was spent stays spent.
    pub fn rewrite(&mut self, rate: Rate, fallback: Fallback, now: Duration) {
        if (self.rate, self.fallback) == (rate, fallback) {
            return;
        }
        (self.rate, self.fallback) = (rate, fallback);
        let (rate, share) = match self.loan {
            Some(loan) => (rate, loan.held.share),
            None => fallback.of(rate),
        };
        self.cell.change(rate, share, now);
    }

    /// Takes an assignment, unless it is older than what is held, or came too late. Says whether others wait for a
    /// report of it: the share was lowered.
    pub fn assign(&mut self, assignment: &Assignment, now: Duration) -> bool {
        let Assignment { version, share, terms, tokens, stamp, renews, .. } = *assignment;
        let before = self.loan.map(|loan| loan.held);
        let same = before.is_some_and(|held| version == held.version);
        let too_late = stamp < self.joined || now >= stamp + terms.lease();
        if self.left || too_late || (renews && !same) || before.is_some_and(|held| version < held.version) {
            return false;
        }
        let since = match self.loan {
            Some(loan) if same => loan.since.max(stamp),
            _ => stamp,
        };
        self.loan = Some(Loan { held: Held { version, share }, terms, since });
        match before {
            // What the fallback has left was never part of the limit.
            None => self.cell.restart(self.rate, share, tokens, now),
            Some(_) if same => {}
            Some(_) => self.cell.exchange(self.rate, share, tokens, now),
        }
        before.is_some_and(|held| share < held.share)
    }

    /// Falls back when it is time; to be called a few times a second.
    pub fn tick(&mut self, now: Duration) {
        if self.loan.is_some_and(|loan| now >= loan.since + loan.terms.lease()) {
            self.loan = None;
            let (rate, share) = self.fallback.of(self.rate);
            self.cell.change(rate, share, now);
        }
    }

    pub fn state(&self, now: Duration) -> State {
        match self.loan {
            Some(loan) if now < loan.since + loan.terms.ttl => State::Assigned,
            Some(loan) if now < loan.since + loan.terms.lease() => State::Reused,
            _ => State::Fallback,
        }
    }

    pub fn share(&self) -> Option<Share> {
        self.loan.map(|loan| loan.held.share)
    }

    /// Whether a report is due although nothing was asked for: the loan ends before long, or there is none.
    pub fn is_due(&self, now: Duration) -> bool {
        self.loan.is_none_or(|loan| now >= loan.since.max(self.reported) + loan.terms.ttl / 3)
    }

    pub fn report(&mut self, now: Duration) -> Report {
        let usage = self.cell.drain(now.saturating_sub(self.reported));
        self.reported = now;
        let returned = if self.loan.is_some() { self.cell.returned(now) } else { Tokens::NONE };
        self.told(now, usage, returned, false)
    }

    /// The last report; what was held may be given to others as soon as it arrives, and no assignment is taken any more.
    pub fn leave(&mut self, now: Duration) -> Report {
        self.left = true;
        let usage = self.cell.drain(now.saturating_sub(self.reported));
        let rest = self.cell.close(now);
        let returned = if self.loan.is_some() { rest } else { Tokens::NONE };
        self.told(now, usage, returned, true)
    }

    fn told(&self, stamp: Duration, usage: Usage, returned: Tokens, leaves: bool) -> Report {
        let held = self.loan.map(|loan| loan.held);
        Report { client: self.client, bucket: self.bucket, stamp, held, usage, returned, leaves }
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
    const RATE: Rate = Rate { requests: 100, per: SECOND, burst: 10 };

    fn lease() -> Lease {
        Lease::new(1, BucketId([0; 16]), RATE, Fallback::Share(Share::NONE), SECOND)
    }

    fn assignment(number: u64, stamp: Duration, renews: bool) -> Assignment {
        let (version, share) = (Version { epoch: 0, number }, Share::billionths(number));
        let (terms, tokens) = (TERMS, Tokens::NONE);
        Assignment { client: 1, bucket: BucketId([0; 16]), version, share, terms, tokens, stamp, renews }
    }

    fn spendable(lease: &Lease, now: Duration) -> usize {
        (0..100).filter(|_| lease.cell().take(1, now).is_ok()).count()
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
        let own = Rate { requests: 3, per: SECOND, burst: 3 };
        let lease = Lease::new(1, BucketId([0; 16]), RATE, Fallback::Rate(own), SECOND);
        assert_eq!(spendable(&lease, SECOND), 3);
        assert_eq!(lease.state(SECOND), State::Fallback);
    }

    #[test]
    fn tokens_come_with_a_version_once_and_take_the_place_of_those_of_the_fallback() {
        let mut lease = Lease::new(1, BucketId([0; 16]), RATE, Fallback::Share(Share::WHOLE), SECOND);
        let mut assignment = assignment(1, SECOND, false);
        (assignment.share, assignment.tokens) = (Share::WHOLE, Tokens(4_000_000));
        lease.assign(&assignment, SECOND);
        lease.assign(&assignment, SECOND);
        assert_eq!(spendable(&lease, SECOND), 4);
        lease.assign(&assignment, SECOND);
        assert_eq!(spendable(&lease, SECOND), 0);
    }

    #[test]
    fn what_was_admitted_without_a_share_and_not_reported_is_missing_in_the_first_one() {
        let mut lease = Lease::new(1, BucketId([0; 16]), RATE, Fallback::Share(Share::WHOLE), SECOND);
        let take = |lease: &Lease, cost| lease.cell().take(cost, SECOND).is_ok();
        assert!(take(&lease, 2));
        lease.report(SECOND);
        assert!(take(&lease, 3));
        let mut assignment = assignment(1, SECOND, false);
        // The server knows of two.
        (assignment.share, assignment.tokens) = (Share::WHOLE, Tokens(8_000_000));
        lease.assign(&assignment, SECOND);
        assert_eq!(spendable(&lease, SECOND), 5);
    }

    #[test]
    fn what_a_lowered_share_has_no_room_for_is_returned_and_so_is_the_rest_at_the_end() {
        let mut lease = lease();
        let mut assignment = assignment(1, SECOND, false);
        (assignment.share, assignment.tokens) = (Share::WHOLE, Tokens(10_000_000));
        lease.assign(&assignment, SECOND);
        (assignment.share, assignment.tokens) = (Share::billionths(300_000_000), Tokens::NONE);
        assignment.version.number = 2;
        assert!(lease.assign(&assignment, SECOND), "others wait for it");
        assert_eq!(lease.report(SECOND).returned, Tokens(7_000_000));
        assert_eq!(lease.report(SECOND).returned, Tokens::NONE);
        let cell = lease.cell().clone();
        assert_eq!(lease.leave(SECOND).returned, Tokens(3_000_000));
        assert!(cell.take(1, SECOND * 9).is_err(), "who still has it in hand gets nothing any more");
    }

    #[test]
    fn a_limit_that_is_rewritten_keeps_what_was_spent() {
        let mut lease = Lease::new(1, BucketId([0; 16]), RATE, Fallback::Share(Share::WHOLE), SECOND);
        assert_eq!(spendable(&lease, SECOND), 10);
        let raised = Rate { burst: 50, ..RATE };
        lease.rewrite(raised, Fallback::Share(Share::WHOLE), SECOND);
        assert_eq!(spendable(&lease, SECOND), 0);
        assert_eq!(spendable(&lease, SECOND * 2), 50);
    }
}
