//! What the demo remembers of what it has seen: turns of the circuits, shares of the last seconds, events.
//!
//! Takes snapshots and tells differences; it must not ask anyone for anything, so that it can be tested.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::metrics::{Callees, Counts, Turns};
use super::table::{Circuit, Event, Row, Tone};

/// The canary's share is shown over this long.
const SHARE_WINDOW: Duration = Duration::from_secs(10);

/// Older events than the last this many are forgotten.
const MAX_EVENTS: usize = 200;

#[derive(Debug, Default)]
pub(crate) struct Watch {
    last: Callees,
    /// One snapshot a second, the oldest at least [`SHARE_WINDOW`] old.
    history: VecDeque<(Duration, Callees)>,
    /// Since the start.
    turns: BTreeMap<String, Turns>,
    events: VecDeque<Event>,
}

impl Watch {
    /// A fresh look at the caller's sidecar.
    pub(crate) fn look(&mut self, at: Duration, callees: Callees) {
        for (service, now) in &callees.circuits {
            let before = self.last.circuits.get(service).copied().unwrap_or(Circuit::Closed);
            let turned = callees.turned(&self.last, service);
            self.turns.entry(service.clone()).or_default().add(turned);
            for (circuit, times) in turned.leading_to(before, *now) {
                let tone = match circuit {
                    Circuit::Closed => Tone::Good,
                    Circuit::HalfOpen => Tone::Plain,
                    Circuit::Open => Tone::Bad,
                };
                let often = if times > 1 { format!(", {times} times") } else { String::new() };
                self.note(Event {
                    at,
                    tone,
                    text: format!("{service}: circuit {}{often}", circuit.as_str()),
                });
            }
        }
        self.last = callees;
    }

    pub(crate) fn note(&mut self, event: Event) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// One row for each of `services`, over the time since the last call; `written` has their weights.
    pub(crate) fn rows(
        &mut self,
        at: Duration,
        services: &[&str],
        written: &BTreeMap<String, u32>,
    ) -> Vec<Row> {
        let nothing = (Duration::ZERO, Callees::default());
        let (since, before) = self.history.back().unwrap_or(&nothing);
        let seconds = at.saturating_sub(*since).as_secs_f64().max(0.001);
        let shares = self.shares();
        let total: u32 = written.values().sum();
        let rows = services.iter().map(|service| {
            let zero = Counts::default();
            let now = self.last.counts.get(*service).unwrap_or(&zero);
            let diff = now.since(before.counts.get(*service).unwrap_or(&zero));
            let weight = written.get(*service).filter(|_| total > 0);
            Row {
                service: (*service).to_owned(),
                rate: diff.requests / seconds,
                success: (diff.requests > 0.0).then(|| diff.ok / diff.requests),
                p50: diff.latency.quantile(0.5).map(Duration::from_secs_f64),
                p99: diff.latency.quantile(0.99).map(Duration::from_secs_f64),
                limited: diff.limited / seconds,
                breaker: self.last.circuits.get(*service).copied(),
                share: shares
                    .get(*service)
                    .map(|share| (*share, weight.map(|w| f64::from(*w) / f64::from(total)))),
            }
        });
        let rows = rows.collect();
        self.history.push_back((at, self.last.clone()));
        while self.history.get(1).is_some_and(|(taken, _)| *taken + SHARE_WINDOW <= at) {
            self.history.pop_front();
        }
        rows
    }

    /// Shares count from now on: what was written has changed.
    pub(crate) fn forget_shares(&mut self) {
        let old = self.history.len().saturating_sub(1);
        self.history.drain(..old);
    }

    /// How many calls were meant for each service since the start, refused ones included.
    pub(crate) fn picks(&self) -> BTreeMap<String, u64> {
        self.last.counts.iter().map(|(service, counts)| (service.clone(), counts.requests as u64)).collect()
    }

    pub(crate) fn turns(&self, service: &str) -> Turns {
        self.turns.get(service).copied().unwrap_or_default()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.iter().cloned().collect()
    }

    fn shares(&self) -> BTreeMap<String, f64> {
        let oldest = self.history.front().map(|(_, callees)| &callees.counts);
        let before =
            |service: &str| oldest.and_then(|counts| counts.get(service)).map_or(0.0, |c| c.requests);
        let diffs: Vec<(&String, f64)> =
            self.last.counts.iter().map(|(name, c)| (name, c.requests - before(name))).collect();
        let total: f64 = diffs.iter().map(|(_, calls)| calls).sum();
        diffs.into_iter().filter(|_| total > 0.0).map(|(name, calls)| (name.clone(), calls / total)).collect()
    }
}

impl Callees {
    /// What the circuit of `service` did since `earlier`. A count that went back (a rule written anew, a restart)
    /// counts from zero.
    fn turned(&self, earlier: &Self, service: &str) -> Turns {
        let of = |callees: &Self| callees.turns.get(service).copied().unwrap_or_default();
        let (now, before) = (of(self), of(earlier));
        let since = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        Turns {
            opened: since(now.opened, before.opened),
            half_opened: since(now.half_opened, before.half_opened),
            closed: since(now.closed, before.closed),
        }
    }
}

impl Turns {
    fn add(&mut self, more: Self) {
        self.opened += more.opened;
        self.half_opened += more.half_opened;
        self.closed += more.closed;
    }

    /// The states that were entered on the way to `now`, with how often; what was never counted, such as a rule that
    /// was written anew, at least shows where it led.
    fn leading_to(self, before: Circuit, now: Circuit) -> Vec<(Circuit, u64)> {
        let cycle = [
            (Circuit::Open, self.opened),
            (Circuit::HalfOpen, self.half_opened),
            (Circuit::Closed, self.closed),
        ];
        let end = cycle.iter().position(|(circuit, _)| *circuit == now).map_or(0, |index| index + 1);
        let mut entered = [&cycle[end..], &cycle[..end]].concat();
        entered.retain(|(_, times)| *times > 0);
        if entered.is_empty() && before != now {
            entered.push((now, 1));
        }
        entered
    }
}

impl Counts {
    fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: (self.requests - earlier.requests).max(0.0),
            ok: (self.ok - earlier.ok).max(0.0),
            limited: (self.limited - earlier.limited).max(0.0),
            latency: self.latency.since(&earlier.latency),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callees(v1: f64, v2: f64, circuit: Circuit) -> Callees {
        let counts = |n: f64| Counts { requests: n, ok: n, ..Counts::default() };
        Callees {
            counts: BTreeMap::from([("v1".into(), counts(v1)), ("v2".into(), counts(v2))]),
            circuits: BTreeMap::from([("v2".into(), circuit)]),
            turns: BTreeMap::new(),
        }
    }

    fn turned(circuit: Circuit, opened: u64, half_opened: u64, closed: u64) -> Callees {
        let turns = BTreeMap::from([("v2".into(), Turns { opened, half_opened, closed })]);
        Callees { turns, ..callees(1.0, 1.0, circuit) }
    }

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn turns_between_two_looks_are_counted_and_told_in_order() {
        let mut watch = Watch::default();
        watch.look(second(1), turned(Circuit::Closed, 0, 0, 0));
        watch.look(second(2), turned(Circuit::HalfOpen, 2, 2, 0));
        watch.look(second(3), turned(Circuit::Closed, 3, 3, 1));
        assert_eq!(watch.turns("v2"), Turns { opened: 3, half_opened: 3, closed: 1 });
        let texts: Vec<String> = watch.events().into_iter().map(|e| e.text).collect();
        assert_eq!(
            texts,
            [
                "v2: circuit open, 2 times",
                "v2: circuit half-open, 2 times",
                "v2: circuit open",
                "v2: circuit half-open",
                "v2: circuit closed",
            ]
        );
    }

    #[test]
    fn a_breaker_written_anew_counts_from_zero_and_loses_nothing() {
        let mut watch = Watch::default();
        watch.look(second(1), turned(Circuit::Open, 4, 3, 3));
        watch.look(second(2), turned(Circuit::Closed, 0, 0, 0));
        watch.look(second(3), turned(Circuit::Open, 1, 0, 0));
        assert_eq!(watch.turns("v2").opened, 5);
        let texts: Vec<String> = watch.events().into_iter().map(|e| e.text).collect();
        assert_eq!(texts[texts.len() - 2..], ["v2: circuit closed", "v2: circuit open"]);
    }

    #[test]
    fn a_row_tells_of_the_time_since_the_last() {
        let mut watch = Watch::default();
        watch.look(second(1), callees(90.0, 10.0, Circuit::Closed));
        watch.rows(second(1), &["v1", "v2"], &BTreeMap::new());
        watch.look(second(3), callees(270.0, 30.0, Circuit::Closed));
        let written = BTreeMap::from([("v1".into(), 90), ("v2".into(), 10)]);
        let rows = watch.rows(second(3), &["v1", "v2"], &written);
        assert_eq!(rows[0].rate, 90.0);
        assert_eq!(rows[1].rate, 10.0);
        assert_eq!(rows[1].success, Some(1.0));
        assert_eq!(rows[1].share, Some((0.1, Some(0.1))));
    }

    #[test]
    fn shares_forget_what_is_older_than_their_window() {
        let mut watch = Watch::default();
        for at in 1..=12 {
            watch.look(second(at), callees(100.0 * at as f64, 0.0, Circuit::Closed));
            watch.rows(second(at), &["v1"], &BTreeMap::new());
        }
        for at in 13..=23 {
            watch.look(second(at), callees(1200.0, 100.0 * (at - 12) as f64, Circuit::Closed));
            watch.rows(second(at), &["v1"], &BTreeMap::new());
        }
        let rows = watch.rows(second(23), &["v2"], &BTreeMap::new());
        assert_eq!(rows[0].share.unwrap().0, 1.0);
    }

    #[test]
    fn shares_start_anew_when_what_is_written_has_changed() {
        let mut watch = Watch::default();
        for at in 1..=5 {
            watch.look(second(at), callees(100.0 * at as f64, 0.0, Circuit::Closed));
            watch.rows(second(at), &["v1"], &BTreeMap::new());
        }
        watch.forget_shares();
        watch.look(second(6), callees(550.0, 50.0, Circuit::Closed));
        let rows = watch.rows(second(6), &["v1", "v2"], &BTreeMap::new());
        assert_eq!(rows[1].share.unwrap().0, 0.5);
        assert_eq!(rows[1].rate, 50.0, "the rate is still of the last second");
    }

    #[test]
    fn a_service_nobody_called_has_a_row_of_nothing() {
        let rows = Watch::default().rows(second(1), &["v1"], &BTreeMap::new());
        assert_eq!((rows[0].rate, rows[0].success, rows[0].share), (0.0, None, None));
    }

    #[test]
    fn events_do_not_pile_up() {
        let mut watch = Watch::default();
        for n in 0..1000 {
            watch.note(Event { at: second(n), tone: Tone::Plain, text: n.to_string() });
        }
        assert_eq!(watch.events().len(), MAX_EVENTS);
        assert_eq!(watch.events().last().unwrap().text, "999");
    }
}
