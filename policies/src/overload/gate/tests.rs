mod shares;

use super::*;
use crate::overload::CLASSES;
use http::Response;
use proptest::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

fn queueing(most: usize) -> Queueing {
    let ms = Duration::from_millis;
    Queueing { most, max_wait: ms(100), target: ms(10), interval: ms(50) }
}

fn gate(limit: u32, queue: usize) -> Arc<Gate> {
    Arc::new(Gate::new(Settings { limit: Limit::Fixed(limit), queueing: queueing(queue) }))
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn admitted(arrival: Arrival) -> Place {
    match arrival {
        Arrival::Admitted(place) => place,
        other => panic!("{other:?}"),
    }
}

/// One that waits.
fn waits(gate: &Arc<Gate>, class: usize, tenant: u128, now: Timestamp) -> (Place, Ticket) {
    match gate.arrive((class, tenant), now).0 {
        Arrival::Waits(place, ticket) => (place, ticket),
        other => panic!("{other:?}"),
    }
}

fn is_shed(gate: &Arc<Gate>, class: usize, tenant: u128, now: Timestamp) -> bool {
    matches!(gate.arrive((class, tenant), now).0, Arrival::Shed)
}

fn come(all: &[&(Place, Ticket)]) -> Vec<bool> {
    all.iter().map(|(_, ticket)| ticket.begin(at(0))).collect()
}

fn lost(one: &(Place, Ticket)) -> bool {
    !one.1.seat.waits() && !one.1.seat.has_come()
}

fn answer(place: &mut Place, status: u16, now: Timestamp) {
    let (head, ()) = Response::builder().status(status).body(()).unwrap().into_parts();
    place.on_response(&head, now);
}

#[test]
fn beyond_the_limit_requests_wait_and_beyond_the_queue_they_are_shed() {
    let gate = gate(1, 1);
    let first = admitted(gate.arrive((0, 1), at(0)).0);
    let second = waits(&gate, 0, 1, at(1));
    assert!(is_shed(&gate, 0, 1, at(2)));
    assert_eq!(gate.load(), Load { limit: 1, in_flight: 1, queued: 1 });
    assert_eq!(second.1.patience(), Duration::from_millis(100));
    drop(first);
    assert_eq!(come(&[&second]), [true]);
    drop(second);
    assert_eq!(gate.load(), Load { limit: 1, in_flight: 0, queued: 0 });
}

#[test]
fn the_important_come_first_whoever_came_first() {
    let gate = gate(1, 10);
    let busy = admitted(gate.arrive((0, 0), at(0)).0);
    let (low, high) = (waits(&gate, 2, 1, at(1)), waits(&gate, 0, 2, at(2)));
    drop(busy);
    assert_eq!(come(&[&low, &high]), [false, true]);
    drop(high);
    assert_eq!(come(&[&low]), [true]);
}

#[test]
fn a_tenant_with_fewer_in_service_is_before_one_with_more() {
    let gate = gate(3, 10);
    let mut noisy: Vec<_> = (0..3).map(|_| admitted(gate.arrive((0, 1), at(0)).0)).collect();
    let more = waits(&gate, 0, 1, at(1));
    let quiet = waits(&gate, 0, 2, at(2));
    noisy.pop();
    assert_eq!(come(&[&more, &quiet]), [false, true]);
}

#[test]
fn tenants_with_as_many_in_service_take_turns() {
    let gate = gate(1, 20);
    let mut busy = Some(admitted(gate.arrive((0, 9), at(0)).0));
    let mut all: Vec<_> = (0..4).map(|_| (1, waits(&gate, 0, 1, at(1)))).collect();
    all.extend((0..2).map(|_| (2, waits(&gate, 0, 2, at(2)))));
    let mut order = Vec::new();
    while !all.is_empty() {
        drop(busy.take());
        let next = all.iter().position(|(_, (_, ticket))| ticket.begin(at(3))).expect("somebody is next");
        let (tenant, (place, _)) = all.remove(next);
        order.push(tenant);
        busy = Some(place);
    }
    assert_eq!(order, [1, 2, 1, 2, 1, 1]);
}

#[test]
fn who_is_important_takes_the_place_of_the_newest_of_the_least_important() {
    let gate = gate(1, 2);
    let _busy = admitted(gate.arrive((0, 0), at(0)).0);
    let (old, new) = (waits(&gate, 2, 1, at(1)), waits(&gate, 2, 1, at(2)));
    let high = waits(&gate, 1, 2, at(3));
    assert_eq!((lost(&old), lost(&new), lost(&high)), (false, true, false));
    assert!(is_shed(&gate, 2, 1, at(4)), "nobody is less important");
    let _higher = waits(&gate, 0, 2, at(5));
    assert!(lost(&old));
    assert!(is_shed(&gate, 1, 2, at(6)));
}

#[test]
fn a_tenant_that_has_less_takes_the_place_of_one_that_has_more() {
    let gate = gate(1, 3);
    let _busy = admitted(gate.arrive((0, 1), at(0)).0);
    let noisy: Vec<_> = (0..3).map(|_| waits(&gate, 0, 1, at(1))).collect();
    assert!(is_shed(&gate, 0, 1, at(2)), "its own place is no better");
    let _quiet = waits(&gate, 0, 2, at(3));
    assert_eq!(noisy.iter().map(lost).collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn in_a_standing_queue_the_newest_come_first_and_who_waited_too_long_is_told() {
    let gate = gate(2, 10);
    let (first, mut second) =
        (admitted(gate.arrive((0, 0), at(0)).0), admitted(gate.arrive((0, 0), at(0)).0));
    let (a, b) = (waits(&gate, 1, 1, at(10)), waits(&gate, 1, 1, at(20)));
    answer(&mut second, 200, at(30));
    assert!(!lost(&a), "it does not stand yet");
    let c = waits(&gate, 1, 1, at(59));
    // Since 10: it stands from 60 on.
    let d = waits(&gate, 1, 1, at(61));
    drop(first);
    assert_eq!(come(&[&a, &b, &c, &d]), [false, false, false, true]);
    answer(&mut second, 200, at(62));
    assert_eq!([lost(&a), lost(&b), lost(&c)], [true, true, false], "c has waited for 3 ms");
    answer(&mut second, 200, at(90));
    assert!(!lost(&c), "one of each tenant is left");
    drop(second);
    assert_eq!(come(&[&c]), [true]);
}

#[test]
fn a_queue_that_was_empty_in_between_does_not_stand() {
    let gate = gate(1, 10);
    let busy = admitted(gate.arrive((0, 0), at(0)).0);
    drop(waits(&gate, 0, 1, at(10)));
    let (a, b) = (waits(&gate, 0, 1, at(55)), waits(&gate, 0, 1, at(65)));
    drop(busy);
    assert_eq!(come(&[&a, &b]), [true, false]);
}

#[test]
fn who_gives_up_is_not_served_and_who_gives_up_too_late_is() {
    let gate = gate(1, 10);
    let busy = admitted(gate.arrive((0, 0), at(0)).0);
    let (a, b) = (waits(&gate, 0, 1, at(1)), waits(&gate, 0, 1, at(2)));
    a.1.give_up();
    assert!(lost(&a));
    drop(busy);
    b.1.give_up();
    assert!(b.1.begin(at(3)), "its turn came before");
    assert_eq!(gate.load().in_flight, 1);
    drop((a, b));
    assert_eq!(gate.load(), Load { limit: 1, in_flight: 0, queued: 0 });
}

#[test]
fn another_limit_holds_at_once_and_keeps_who_is_there() {
    let gate = gate(2, 10);
    let first = admitted(gate.arrive((0, 0), at(0)).0);
    let _second = admitted(gate.arrive((0, 0), at(0)).0);
    let waiting = waits(&gate, 0, 0, at(1));
    let of = |limit| Settings { limit: Limit::Fixed(limit), queueing: queueing(10) };
    gate.want(of(1));
    drop(first);
    assert_eq!(come(&[&waiting]), [false], "there is one, and no more may be");
    gate.want(of(3));
    let _third = admitted(gate.arrive((0, 0), at(2)).0);
    assert_eq!(come(&[&waiting]), [true], "those who wait go first");
}

#[test]
fn quick_failures_teach_nothing_and_answers_do() {
    let bounds = Bounds { min: 1, max: 100, initial: 10 };
    let of = |status: u16| {
        let gate = Arc::new(Gate::new(Settings { limit: Limit::Learnt(bounds), queueing: queueing(0) }));
        for round in 0..5_000_u64 {
            let next = || match gate.arrive((0, 0), at(round * 20)).0 {
                Arrival::Admitted(place) => Some(place),
                _ => None,
            };
            let mut full: Vec<_> = std::iter::from_fn(next).collect();
            full.iter_mut().for_each(|place| answer(place, status, at(round * 20 + 10)));
        }
        gate.load().limit
    };
    assert_eq!(of(503), 10);
    assert!(of(200) > 50, "{}", of(200));
}

#[test]
fn shadow_lets_everybody_in_and_says_who_would_not_have_been() {
    let gate = gate(1, 1);
    let fits: Vec<_> = (0..3).map(|_| gate.count((0, 0), at(0))).collect();
    assert_eq!(fits.iter().map(|(_, fits, _)| fits.is_ok()).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(gate.load().in_flight, 3);
    drop(fits);
    assert_eq!(gate.load().in_flight, 0);
}

#[derive(Clone, Debug)]
enum Step {
    Arrive(usize, u128),
    Leave(usize),
    GiveUp(usize),
    Answer(usize),
    Limit(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..CLASSES, 0..4_u128).prop_map(|(class, tenant)| Step::Arrive(class, tenant)),
        3 => any::<usize>().prop_map(Step::Leave),
        1 => any::<usize>().prop_map(Step::GiveUp),
        1 => any::<usize>().prop_map(Step::Answer),
        1 => (1..6_u32).prop_map(Step::Limit),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    /// Whoever comes, goes, gives up and in whatever order: those in service are counted, no more than the limit are let in,
    /// nobody waits while there is room, nobody is served twice or lost, and at the end everything has been given back.
    #[test]
    fn everything_is_given_back_and_nobody_waits_while_there_is_room(limit in 1..6_u32, most in 0..6_usize, steps in steps()) {
        let gate = gate(limit, most);
        let mut limit = limit;
        let mut there: Vec<(Place, Option<Ticket>)> = Vec::new();
        for (i, step) in steps.into_iter().enumerate() {
            let now = at(i as u64 * 7);
            let before = gate.load().in_flight;
            match step {
                Step::Arrive(class, tenant) => match gate.arrive((class, tenant), now).0 {
                    Arrival::Admitted(place) => {
                        prop_assert!(before < limit);
                        there.push((place, None));
                    }
                    Arrival::Waits(place, ticket) => there.push((place, Some(ticket))),
                    Arrival::Shed => {}
                },
                Step::Leave(n) if !there.is_empty() => drop(there.swap_remove(n % there.len())),
                Step::GiveUp(n) if !there.is_empty() => {
                    let n = n % there.len();
                    there[n].1.iter().for_each(Ticket::give_up);
                }
                Step::Answer(n) if !there.is_empty() => {
                    let n = n % there.len();
                    answer(&mut there[n].0, 200, now);
                }
                Step::Limit(other) => {
                    limit = other;
                    gate.want(Settings { limit: Limit::Fixed(other), queueing: queueing(most) });
                    // Whoever arrives next lets them in; here an answer does.
                    gate.answered(Duration::ZERO, now);
                }
                _ => {}
            }
            let serves = |(_, ticket): &&(Place, Option<Ticket>)| ticket.as_ref().is_none_or(|t| t.seat.has_come());
            let waits = |(_, ticket): &&(Place, Option<Ticket>)| ticket.as_ref().is_some_and(|t| t.seat.waits());
            let load = gate.load();
            prop_assert_eq!(load.in_flight as usize, there.iter().filter(serves).count());
            prop_assert_eq!(load.queued as usize, there.iter().filter(waits).count());
            prop_assert!(load.queued as usize <= most);
            prop_assert!(load.in_flight <= limit.max(before));
            prop_assert!(load.queued == 0 || load.in_flight >= limit, "somebody waits while there is room");
            prop_assert_eq!(gate.0.lock().tenants.values().sum::<u32>(), load.in_flight);
        }
        drop(there);
        prop_assert_eq!(gate.load(), Load { limit, in_flight: 0, queued: 0 });
        prop_assert!(gate.0.lock().tenants.is_empty(), "nothing is kept of who is not there");
    }
}

#[test]
fn threads_are_never_more_than_the_limit_and_nobody_is_forgotten() {
    let (gate, now, most, served) = (gate(3, 8), AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for tenant in 0..6_u128 {
            let (gate, now, most, served) = (&gate, &now, &most, &served);
            scope.spawn(move || {
                for round in 0..3_000 {
                    let arrived = gate.arrive((round % 2, tenant), at(round as u64));
                    let place = match arrived.0 {
                        Arrival::Admitted(place) => place,
                        Arrival::Shed => continue,
                        Arrival::Waits(place, ticket) => {
                            // Some lose patience, some wait for as long as it takes.
                            while round % 3 > 0 && ticket.seat.waits() {
                                thread::yield_now();
                            }
                            ticket.give_up();
                            if !ticket.begin(at(round as u64)) {
                                continue;
                            }
                            place
                        }
                    };
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    now.fetch_sub(1, Ordering::SeqCst);
                    served.fetch_add(1, Ordering::SeqCst);
                    drop(place);
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) <= 3 && served.load(Ordering::SeqCst) > 3_000);
    assert_eq!(gate.load(), Load { limit: 3, in_flight: 0, queued: 0 });
}
