use proptest::prelude::*;

use super::*;

/// The API: one Lease, versions, no overwriting of what was not read.
#[derive(Default)]
struct Api {
    record: Option<Record>,
    versions: u64,
}

impl Api {
    fn write(&mut self, over: Option<&Record>, holder: &str) -> Option<Record> {
        if self.record.as_ref().map(|r| &r.version) != over.map(|r| &r.version) {
            return None;
        }
        self.versions += 1;
        let moved = self.record.as_ref().is_some_and(|record| record.holder != holder);
        let transitions = self.record.as_ref().map_or(0, |r| r.transitions) + i64::from(moved);
        let record = Record { holder: holder.to_owned(), version: self.versions.to_string(), transitions };
        self.record = Some(record.clone());
        Some(record)
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn record(holder: &str, version: &str) -> Record {
    Record { holder: holder.into(), version: version.into(), transitions: 0 }
}

#[test]
fn the_first_to_come_leads_and_goes_on_for_as_long_as_it_renews() {
    let mut a = Election::new("a", Terms::default());
    assert_eq!(a.read(seconds(1), None), Action::Create);
    assert!(!a.leads(seconds(1)));
    assert_eq!(a.took(seconds(1), &record("a", "1")), Action::Wait(seconds(3)));
    assert!(a.leads(seconds(10)) && !a.leads(seconds(11)));
    assert!(matches!(a.read(seconds(3), Some(record("a", "1"))), Action::Take(_)));
    a.took(seconds(4), &record("a", "2"));
    assert!(a.leads(seconds(12)), "since the attempt began");
    assert!(!a.leads(seconds(13)), "not since it was answered");
}

#[test]
fn nobody_takes_over_from_one_who_renews_and_a_dead_one_is_replaced() {
    let mut b = Election::new("b", Terms::default());
    for second in 0..100 {
        let version = (second / 10).to_string();
        let action = b.read(seconds(second), Some(record("a", &version)));
        assert!(matches!(action, Action::Wait(_)), "{second}: {action:?}");
    }
    assert!(matches!(b.read(seconds(104), Some(record("a", "9"))), Action::Wait(_)));
    assert!(matches!(b.read(seconds(105), Some(record("a", "9"))), Action::Take(_)));
}

#[test]
fn what_was_given_up_is_taken_at_once() {
    let mut b = Election::new("b", Terms::default());
    assert!(matches!(b.read(seconds(1), Some(record("", "7"))), Action::Take(_)));
}

#[test]
fn who_reads_that_another_holds_it_leads_no_more() {
    let mut a = Election::new("a", Terms::default());
    a.read(seconds(1), None);
    a.took(seconds(1), &record("a", "1"));
    a.read(seconds(2), Some(record("b", "2")));
    assert!(!a.leads(seconds(2)));
}

/// A candidate with a clock of its own, and requests that take time or are lost.
struct Candidate {
    election: Election,
    /// Its clock: an offset, and how much faster than true time it runs, in thousandths.
    offset: u64,
    speed: u64,
    next: u64,
    /// A request on its way: when it arrives, when the answer is back, and what it asks.
    pending: Option<(u64, u64, Action)>,
    answer: Option<Result<Option<Record>, ()>>,
    dead: bool,
}

impl Candidate {
    fn clock(&self, now: u64) -> Duration {
        ms(self.offset + now * (1000 + self.speed) / 1000)
    }

    /// When in true time its clock will show `at`, rounded up.
    fn due(&self, at: Duration) -> u64 {
        let own = u64::try_from(at.as_millis()).unwrap().saturating_sub(self.offset);
        (own * 1000).div_ceil(1000 + self.speed)
    }
}

#[derive(Clone, Debug)]
struct Hazard {
    to: u64,
    back: u64,
    lost_to: bool,
    lost_back: bool,
}

fn hazards() -> impl Strategy<Value = Vec<Hazard>> {
    let hazard = (0_u64..4000, 0_u64..4000, prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    let hazard = hazard.prop_map(|(to, back, lost_to, lost_back)| Hazard { to, back, lost_to, lost_back });
    prop::collection::vec(hazard, 50..200)
}

proptest! {
    /// Clocks differ by any amount and drift by up to a tenth; requests are late, lost on the way there or on the way
    /// back; candidates die.
    #[test]
    fn there_are_never_two_who_lead_and_a_dead_one_is_replaced(
        clocks in prop::collection::vec((0_u64..1_000_000, 0_u64..100), 2..5),
        hazards in hazards(),
        deaths in prop::collection::vec(20_000_u64..300_000, 0..2),
    ) {
        let terms = Terms::default();
        let mut api = Api::default();
        let mut candidates: Vec<_> = clocks.iter().enumerate().map(|(i, (offset, speed))| Candidate {
            election: Election::new(i.to_string(), terms),
            offset: *offset,
            speed: *speed,
            next: 0,
            pending: None,
            answer: None,
            dead: false,
        }).collect();
        let mut hazards = hazards.iter().cycle();
        let (mut vacant, mut worst) = (0_u64, 0_u64);
        for now in (0..400_000_u64).step_by(20) {
            // From here on all goes well: somebody must lead in the end.
            let calm = now > 320_000;
            for (i, candidate) in candidates.iter_mut().enumerate() {
                if deaths.get(i).is_some_and(|at| now >= *at) && i < clocks.len() - 1 {
                    candidate.dead = true;
                }
                if candidate.dead {
                    continue;
                }
                step(candidate, &mut api, now, calm, || hazards.next().unwrap().clone());
            }
            let leading = candidates.iter().filter(|c| !c.dead && c.election.leads(c.clock(now)));
            let leading = leading.count();
            prop_assert!(leading <= 1, "{leading} lead at {now}");
            vacant = if leading == 0 && calm { vacant + 20 } else { 0 };
            worst = worst.max(vacant);
        }
        // At most a whole lease, on the slowest clock, and a round of requests.
        prop_assert!(worst <= 25_000, "nobody led for {worst} ms");
    }
}

fn step(c: &mut Candidate, api: &mut Api, now: u64, calm: bool, mut hazard: impl FnMut() -> Hazard) {
    // What the API does at the moment in which a request arrives.
    if let Some((arrives, _, action)) = &c.pending
        && now >= *arrives
        && c.answer.is_none()
    {
        c.answer = Some(match action {
            Action::Wait(_) => Ok(api.record.clone()),
            Action::Create => api.write(None, c.election.identity()).map(Some).ok_or(()),
            Action::Take(over) => api.write(Some(over), c.election.identity()).map(Some).ok_or(()),
        });
    }
    let mut todo = None;
    if let Some((_, back, action)) = c.pending.clone() {
        if now < back {
            return;
        }
        c.pending = None;
        let at = c.clock(now);
        let answer = c.answer.take();
        todo = Some(match (action, answer) {
            (Action::Wait(_), Some(Ok(record))) => c.election.read(at, record),
            (Action::Create | Action::Take(_), Some(Ok(Some(record)))) => c.election.took(at, &record),
            _ => c.election.failed(at),
        });
    } else if now >= c.next {
        todo = Some(Action::Wait(Duration::ZERO));
    }
    let Some(action) = todo else { return };
    if let Action::Wait(until) = action
        && until > c.clock(now)
    {
        c.next = c.due(until);
        return;
    }
    let Hazard { to, back, lost_to, lost_back } =
        if calm { Hazard { to: 10, back: 10, lost_to: false, lost_back: false } } else { hazard() };
    let arrives = if lost_to { u64::MAX } else { now + to };
    // A lost answer is a request that times out after five seconds; the API may have done it anyway.
    let back = if lost_to || lost_back { now + 5000 } else { now + to + back };
    if lost_back && !lost_to {
        // It arrives, and nobody hears of it.
        let answer = match &action {
            Action::Create => api.write(None, c.election.identity()),
            Action::Take(over) => api.write(Some(over), c.election.identity()),
            Action::Wait(_) => None,
        };
        drop(answer);
        c.pending = Some((u64::MAX, back, action));
        return;
    }
    c.pending = Some((arrives, back, action));
}
