//! Did the mesh do what the policies say? Plain arithmetic on what was written and what was seen.
//!
//! Nothing is measured here and nothing is remembered: the same numbers always get the same verdict.

use std::collections::BTreeMap;
use std::time::Duration;

/// The policies in force, as far as the demo can judge them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Written {
    /// Limits on the storefront by user; several hold at once.
    pub(crate) limits: Vec<UserLimit>,
    /// Weight of each backend of the checkout route: name of the Service -> weight.
    pub(crate) weights: BTreeMap<String, u32>,
    /// Whether a breaker that acts guards checkout-v2; with the pause it makes.
    pub(crate) breaker: Option<Breaker>,
    /// What is written but cannot be judged here, in words.
    pub(crate) unjudged: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UserLimit {
    pub(crate) name: String,
    /// Requests per second.
    pub(crate) rate: f64,
    pub(crate) burst: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Breaker {
    pub(crate) open: Duration,
}

/// What happened in the time that is judged.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) time: Duration,
    pub(crate) users: Vec<User>,
    /// Requests that got no answer at all.
    pub(crate) lost: u64,
    /// Calls by the backend that was picked for them, refused ones included.
    pub(crate) picks: BTreeMap<String, u64>,
    pub(crate) breaker: BreakerSeen,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) sent: u64,
    pub(crate) admitted: u64,
    pub(crate) limited: u64,
}

/// The circuit in front of checkout-v2.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct BreakerSeen {
    pub(crate) opened: u64,
    pub(crate) closed: u64,
    /// Calls that the mesh refused in checkout's place.
    pub(crate) refused: u64,
    /// Those of them that did not come back at once.
    pub(crate) refused_slowly: u64,
    /// Calls that checkout-v2 itself failed.
    pub(crate) failed: u64,
    /// Whether checkout-v2 had a whole bad phase, and time to recover, in the time that is judged.
    pub(crate) whole_phase: bool,
}

/// One line of the summary.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) what: String,
    pub(crate) expected: String,
    pub(crate) seen: String,
    pub(crate) verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Fail,
    /// Too little was seen to tell.
    Unproven,
}

impl From<bool> for Verdict {
    fn from(pass: bool) -> Self {
        if pass { Self::Pass } else { Self::Fail }
    }
}

/// Requests that may be admitted beyond the exact bound: in flight at either end of the measured time.
const LIMIT_SLACK: f64 = 5.0;
/// And this share of it, for the two clocks involved.
const LIMIT_SLACK_SHARE: f64 = 0.02;
/// A limiter that lets through less than this share of what it should is too strict.
const LIMIT_FLOOR: f64 = 0.8;
/// A user who asks for less than this share of the limit is never to be limited.
const QUIET: f64 = 0.9;
/// How many standard deviations the canary's share may be off: by chance, once in 16,000 runs.
const SIGMAS: f64 = 4.0;
/// With fewer calls than this, a share tells nothing.
const ENOUGH_PICKS: u64 = 100;
/// The share of refused calls that may be slow, because this machine was busy.
const SLOW_SHARE: f64 = 0.1;

/// One line for everything that is expected.
pub(crate) fn judge(written: &Written, seen: &Seen) -> Vec<Line> {
    let mut lines = vec![delivery(seen)];
    lines.extend(limits(&written.limits, seen));
    lines.extend(breaker(written.breaker.as_ref(), &seen.breaker));
    lines.push(canary(&written.weights, &seen.picks));
    lines.extend(written.unjudged.iter().map(|what| Line {
        what: String::from("policies"),
        expected: String::from("only what this demo can judge"),
        seen: what.clone(),
        verdict: Verdict::Unproven,
    }));
    lines
}

fn delivery(seen: &Seen) -> Line {
    let sent: u64 = seen.users.iter().map(|u| u.sent).sum();
    Line {
        what: String::from("delivery"),
        expected: String::from("every request gets an answer"),
        seen: format!("{sent} sent, {} without an answer", seen.lost),
        verdict: (sent > 0 && seen.lost == 0).into(),
    }
}

fn limits(limits: &[UserLimit], seen: &Seen) -> Vec<Line> {
    let seconds = seen.time.as_secs_f64();
    let limited: u64 = seen.users.iter().map(|u| u.limited).sum();
    let Some(tightest) = limits.iter().min_by(|a, b| a.rate.total_cmp(&b.rate)) else {
        return vec![Line {
            what: String::from("limit"),
            expected: String::from("nobody is limited (no limit by user is enforced)"),
            seen: format!("{limited} limited"),
            verdict: (limited == 0).into(),
        }];
    };
    let bound = |l: &UserLimit| l.burst + l.rate * seconds;
    let allowed = limits.iter().map(bound).fold(f64::INFINITY, f64::min);
    let (quiet, noisy): (Vec<_>, Vec<_>) =
        seen.users.iter().partition(|u| (u.sent as f64) < QUIET * tightest.rate * seconds);
    let mut lines: Vec<Line> = noisy.iter().map(|user| noisy_user(user, tightest, allowed)).collect();
    if noisy.is_empty() {
        lines.push(Line {
            what: String::from("limit"),
            expected: String::from("somebody asks for more than the limit"),
            seen: format!("nobody asked for {:.0} requests/s; try --rps or a lower limit", tightest.rate),
            verdict: Verdict::Unproven,
        });
    }
    if quiet.is_empty() {
        return lines;
    }
    let wronged: Vec<&str> = quiet.iter().filter(|u| u.limited > 0).map(|u| u.name.as_str()).collect();
    lines.push(Line {
        what: String::from("limit, quiet users"),
        expected: String::from("never limited"),
        seen: match wronged.is_empty() {
            true => format!("{} users, {} requests, none limited", quiet.len(), sum(&quiet, |u| u.sent)),
            false => format!("{} limited: {}", sum(&quiet, |u| u.limited), wronged.join(", ")),
        },
        verdict: wronged.is_empty().into(),
    });
    lines
}

fn noisy_user(user: &User, limit: &UserLimit, allowed: f64) -> Line {
    let sent = user.sent as f64;
    let ceiling = allowed * (1.0 + LIMIT_SLACK_SHARE) + LIMIT_SLACK;
    let floor = LIMIT_FLOOR * allowed.min(sent);
    let admitted = user.admitted as f64;
    let over = sent > ceiling;
    Line {
        what: format!("limit, {}", user.name),
        expected: format!(
            "{floor:.0} to {ceiling:.0} admitted ({:.0}/s + {:.0}, +{:.0} % +{LIMIT_SLACK:.0})",
            limit.rate,
            limit.burst,
            LIMIT_SLACK_SHARE * 100.0
        ),
        seen: format!("{} admitted, {} limited, of {} sent", user.admitted, user.limited, user.sent),
        verdict: (admitted <= ceiling && admitted >= floor && (!over || user.limited > 0)).into(),
    }
}

fn sum(users: &[&User], count: impl Fn(&User) -> u64) -> u64 {
    users.iter().map(|u| count(u)).sum()
}

fn breaker(written: Option<&Breaker>, seen: &BreakerSeen) -> Vec<Line> {
    let line = |what: &str, expected: &str, text: String, verdict: Verdict| Line {
        what: what.to_owned(),
        expected: expected.to_owned(),
        seen: text,
        verdict,
    };
    let Some(written) = written else {
        let text = format!("opened {}, {} calls refused", times(seen.opened), seen.refused);
        let pass = seen.opened == 0 && seen.refused == 0;
        return vec![line("breaker", "never opens (none is enforced on checkout-v2)", text, pass.into())];
    };
    if !seen.whole_phase {
        let text = String::from("the judged time holds no whole bad phase; let it run longer");
        return vec![line("breaker", "checkout-v2 goes bad and recovers", text, Verdict::Unproven)];
    }
    let slow = seen.refused_slowly as f64 > SLOW_SHARE * seen.refused as f64;
    vec![
        line(
            "breaker opens",
            "at least once while checkout-v2 is bad",
            format!("{}, after {} failed calls", times(seen.opened), seen.failed),
            (seen.opened > 0 && seen.failed > 0).into(),
        ),
        line(
            "breaker refuses",
            &format!("calls at once, for {:?} each time", written.open),
            format!("{} refused, {} of them slowly", seen.refused, seen.refused_slowly),
            (seen.refused > 0 && !slow).into(),
        ),
        line(
            "breaker closes",
            "once checkout-v2 is well again",
            times(seen.closed),
            (seen.closed > 0).into(),
        ),
    ]
}

/// `once`, `3 times`.
pub(crate) fn times(n: u64) -> String {
    match n {
        0 => String::from("never"),
        1 => String::from("once"),
        n => format!("{n} times"),
    }
}

fn canary(weights: &BTreeMap<String, u32>, picks: &BTreeMap<String, u64>) -> Line {
    let what = String::from("canary, checkout-v2");
    let total_weight: u64 = weights.values().map(|w| u64::from(*w)).sum();
    let total: u64 = picks.values().sum();
    if total_weight == 0 {
        return Line {
            what,
            expected: String::from("a route that shares checkout's calls by weight"),
            seen: format!("no weights are written; {total} calls were made"),
            verdict: Verdict::Unproven,
        };
    }
    let weight = weights.get("checkout-v2").copied().unwrap_or(0);
    let want = f64::from(weight) / total_weight as f64;
    let tolerance = SIGMAS * (want * (1.0 - want) / total.max(1) as f64).sqrt();
    let picked = picks.get("checkout-v2").copied().unwrap_or(0);
    let share = picked as f64 / total.max(1) as f64;
    let percent = |x: f64| x * 100.0;
    Line {
        what,
        expected: format!(
            "{:.1} % ± {:.1} ({weight} of {total_weight}, {SIGMAS} sigma)",
            percent(want),
            percent(tolerance)
        ),
        seen: format!("{:.1} % ({picked} of {total} calls)", percent(share)),
        verdict: match total >= ENOUGH_PICKS {
            true => ((share - want).abs() <= tolerance).into(),
            false => Verdict::Unproven,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Written {
        Written {
            limits: vec![UserLimit { name: "user".into(), rate: 30.0, burst: 20.0 }],
            weights: BTreeMap::from([("checkout-v1".into(), 90), ("checkout-v2".into(), 10)]),
            breaker: Some(Breaker { open: Duration::from_secs(2) }),
            unjudged: Vec::new(),
        }
    }

    fn user(name: &str, sent: u64, admitted: u64) -> User {
        User { name: name.into(), sent, admitted, limited: sent - admitted }
    }

    fn seen() -> Seen {
        Seen {
            time: Duration::from_secs(20),
            users: vec![user("mallory", 1400, 618), user("alice", 400, 400), user("bob", 400, 400)],
            lost: 0,
            picks: BTreeMap::from([("checkout-v1".into(), 1800), ("checkout-v2".into(), 200)]),
            breaker: BreakerSeen {
                opened: 2,
                closed: 1,
                refused: 40,
                refused_slowly: 0,
                failed: 7,
                whole_phase: true,
            },
        }
    }

    /// The names of the lines that fail once `spoil` has been at the inputs.
    fn failing(spoil: impl FnOnce(&mut Written, &mut Seen)) -> Vec<String> {
        let (mut written, mut seen) = (written(), seen());
        spoil(&mut written, &mut seen);
        judge(&written, &seen).into_iter().filter(|l| l.verdict != Verdict::Pass).map(|l| l.what).collect()
    }

    #[test]
    fn what_acts_as_written_passes() {
        assert_eq!(failing(|_, _| {}), [""; 0]);
    }

    #[test]
    fn a_limit_that_lets_too_much_through_fails() {
        assert_eq!(failing(|_, s| s.users[0] = user("mallory", 1400, 700)), ["limit, mallory"]);
        assert_eq!(failing(|_, s| s.users[0] = user("mallory", 1400, 1400)), ["limit, mallory"]);
    }

    #[test]
    fn a_limit_that_lets_too_little_through_fails() {
        assert_eq!(failing(|_, s| s.users[0] = user("mallory", 1400, 450)), ["limit, mallory"]);
    }

    #[test]
    fn a_limit_that_everyone_is_above_is_judged_without_quiet_users() {
        let lines = judge(&written(), &Seen { users: vec![user("mallory", 4000, 3080)], ..seen() });
        assert!(lines.iter().all(|line| line.what != "limit, quiet users"), "{lines:?}");
    }

    #[test]
    fn a_quiet_user_who_was_limited_once_fails() {
        assert_eq!(failing(|_, s| s.users[2] = user("bob", 400, 399)), ["limit, quiet users"]);
    }

    #[test]
    fn a_run_in_which_nobody_is_noisy_proves_nothing() {
        assert_eq!(failing(|_, s| drop(s.users.remove(0))), ["limit"]);
    }

    #[test]
    fn without_an_enforced_limit_nobody_may_be_limited() {
        let none = |w: &mut Written| w.limits.clear();
        assert_eq!(failing(|w, _| none(w)), ["limit"]);
        let free = |s: &mut Seen| s.users[0] = user("mallory", 1400, 1400);
        assert_eq!(failing(|w, s| (none(w), free(s)).1), [""; 0]);
    }

    #[test]
    fn the_tightest_of_several_limits_counts() {
        let tighter = UserLimit { name: "tight".into(), rate: 5.0, burst: 1.0 };
        let lines = failing(|w, _| w.limits.push(tighter));
        assert!(lines.contains(&String::from("limit, mallory")), "{lines:?}");
    }

    #[test]
    fn a_breaker_must_open_refuse_at_once_and_close() {
        assert_eq!(failing(|_, s| s.breaker.opened = 0), ["breaker opens"]);
        assert_eq!(failing(|_, s| s.breaker.closed = 0), ["breaker closes"]);
        assert_eq!(failing(|_, s| s.breaker.refused = 0), ["breaker refuses"]);
        assert_eq!(failing(|_, s| s.breaker.refused_slowly = 5), ["breaker refuses"]);
    }

    #[test]
    fn a_run_without_a_whole_bad_phase_proves_nothing_of_the_breaker() {
        assert_eq!(failing(|_, s| s.breaker.whole_phase = false), ["breaker"]);
        let mut seen = seen();
        seen.breaker.whole_phase = false;
        let line = judge(&written(), &seen).into_iter().find(|l| l.what == "breaker").unwrap();
        assert_eq!(line.verdict, Verdict::Unproven);
    }

    #[test]
    fn without_an_enforced_breaker_nothing_may_be_refused() {
        assert_eq!(failing(|w, _| w.breaker = None), ["breaker"]);
        let quiet = BreakerSeen { failed: 30, whole_phase: true, ..BreakerSeen::default() };
        assert_eq!(failing(|w, s| (w.breaker, s.breaker) = (None, quiet)), [""; 0]);
    }

    #[test]
    fn a_canary_share_outside_the_tolerance_fails() {
        let split = |v2: u64| BTreeMap::from([("checkout-v1".into(), 2000 - v2), ("checkout-v2".into(), v2)]);
        assert_eq!(failing(|_, s| s.picks = split(250)), [""; 0], "3.7 sigma");
        assert_eq!(failing(|_, s| s.picks = split(256)), ["canary, checkout-v2"]);
        assert_eq!(failing(|_, s| s.picks = split(140)), ["canary, checkout-v2"]);
        assert_eq!(failing(|_, s| s.picks = BTreeMap::new()), ["canary, checkout-v2"]);
    }

    #[test]
    fn a_canary_of_zero_takes_not_one_call() {
        let off = |w: &mut Written| *w.weights.get_mut("checkout-v2").unwrap() = 0;
        assert_eq!(failing(|w, _| off(w)), ["canary, checkout-v2"]);
        let none = BTreeMap::from([("checkout-v1".into(), 2000_u64)]);
        assert_eq!(failing(|w, s| (off(w), s.picks = none).1), [""; 0]);
    }

    #[test]
    fn a_lost_request_and_a_policy_that_cannot_be_judged_fail() {
        assert_eq!(failing(|_, s| s.lost = 1), ["delivery"]);
        assert_eq!(failing(|w, _| w.unjudged.push("a limit by path".into())), ["policies"]);
    }
}
