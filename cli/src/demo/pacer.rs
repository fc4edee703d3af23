//! When the next request is due, and whose it is: the open-loop part of the load, as plain arithmetic.

use std::time::Duration;

/// A stalled machine catches up on this much and no more: what is older is given up and counted, because a burst
/// from the load itself would look like a noisy user.
const MAX_BEHIND: Duration = Duration::from_millis(250);

/// Hands out request numbers at an even rate, whatever the answers do.
#[derive(Debug)]
pub(crate) struct Pacer {
    rate: f64,
    next: u64,
    given_up: u64,
}

/// Deals requests to users by weight, as evenly as whole requests allow (smooth weighted round robin).
#[derive(Debug)]
pub(crate) struct Mix {
    users: Vec<User>,
}

#[derive(Debug)]
struct User {
    weight: i64,
    credit: i64,
}

/// How many of 15 requests the noisy user sends.
const NOISY_OF_15: i64 = 7;

/// No quiet user sends more than this a second: more load means more users.
const QUIET_RATE: f64 = 20.0;

impl Pacer {
    /// `rate` in requests per second.
    pub(crate) fn new(rate: f64) -> Self {
        Self { rate, next: 0, given_up: 0 }
    }

    /// When request `number` is due, counted from the start.
    pub(crate) fn due(&self, number: u64) -> Duration {
        Duration::from_secs_f64(number as f64 / self.rate)
    }

    pub(crate) fn next_due(&self) -> Duration {
        self.due(self.next)
    }

    /// The next request that is due at `elapsed`, if one is.
    pub(crate) fn take(&mut self, elapsed: Duration) -> Option<u64> {
        while self.next_due() + MAX_BEHIND < elapsed {
            self.next += 1;
            self.given_up += 1;
        }
        (self.next_due() <= elapsed).then(|| {
            self.next += 1;
            self.next - 1
        })
    }

    /// Requests that were due but never sent, because this machine was too busy.
    pub(crate) fn given_up(&self) -> u64 {
        self.given_up
    }
}

impl Mix {
    /// One noisy user (the first) and as many quiet ones as the rate needs.
    pub(crate) fn for_rate(rate: f64) -> Self {
        let quiet_rate = rate * (15 - NOISY_OF_15) as f64 / 15.0;
        let quiet = ((quiet_rate / QUIET_RATE).ceil() as i64).max(1);
        let mut users = vec![User { weight: NOISY_OF_15 * quiet, credit: 0 }];
        users.extend((0..quiet).map(|_| User { weight: 15 - NOISY_OF_15, credit: 0 }));
        Self { users }
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let quiet = (1..self.users.len()).map(|n| match n {
            1 => String::from("alice"),
            2 => String::from("bob"),
            3 => String::from("carol"),
            4 => String::from("dave"),
            n => format!("user-{n}"),
        });
        std::iter::once(String::from("mallory")).chain(quiet).collect()
    }

    /// Index of the user who sends the next request.
    pub(crate) fn pick(&mut self) -> usize {
        let total: i64 = self.users.iter().map(|u| u.weight).sum();
        let mut best = 0;
        for at in 0..self.users.len() {
            self.users[at].credit += self.users[at].weight;
            if self.users[at].credit > self.users[best].credit {
                best = at;
            }
        }
        self.users[best].credit -= total;
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(pacer: &mut Pacer, elapsed: Duration) -> Vec<u64> {
        std::iter::from_fn(|| pacer.take(elapsed)).collect()
    }

    #[test]
    fn requests_are_due_evenly() {
        let mut pacer = Pacer::new(100.0);
        assert_eq!(drain(&mut pacer, Duration::ZERO), [0]);
        assert_eq!(drain(&mut pacer, Duration::from_millis(9)), [0_u64; 0]);
        assert_eq!(drain(&mut pacer, Duration::from_millis(30)), [1, 2, 3]);
        assert_eq!(pacer.next_due(), Duration::from_millis(40));
    }

    #[test]
    fn a_long_stall_is_given_up_and_counted_not_burst() {
        let mut pacer = Pacer::new(100.0);
        let sent = drain(&mut pacer, Duration::from_secs(10));
        assert!(sent.len() <= 26, "{}", sent.len());
        assert_eq!(pacer.given_up() + sent.len() as u64, 1001);
    }

    #[test]
    fn the_noisy_user_gets_its_share_and_the_quiet_ones_an_equal_rest() {
        let mut mix = Mix::for_rate(150.0);
        let mut counts = vec![0; mix.names().len()];
        for _ in 0..1500 {
            counts[mix.pick()] += 1;
        }
        assert_eq!(counts, [700, 200, 200, 200, 200]);
    }

    #[test]
    fn more_load_means_more_quiet_users_not_louder_ones() {
        for rate in [1.0, 30.0, 150.0, 1000.0, 7777.0] {
            let quiet = Mix::for_rate(rate).users.len() - 1;
            assert!(rate * 8.0 / 15.0 / quiet as f64 <= QUIET_RATE + 1e-9, "{rate}");
        }
    }

    #[test]
    fn no_user_waits_long_for_a_turn() {
        let mut mix = Mix::for_rate(150.0);
        let turns: Vec<usize> = (0..60).map(|_| mix.pick()).collect();
        let quiet: Vec<usize> = (0..60).filter(|n| turns[*n] == 1).collect();
        assert!(quiet.windows(2).all(|w| w[1] - w[0] <= 9), "{quiet:?}");
    }
}
