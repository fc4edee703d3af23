//! Tenants with weights.

use super::*;
use crate::overload::Kin;

fn of(tenant: u128, weight: u32) -> Kin {
    Kin { class: 0, tenant, weight }
}

/// Keeps so many of each tenant waiting, whatever is served.
struct Crowd {
    gate: Arc<Gate>,
    weights: Vec<u32>,
    there: Vec<(usize, Place, Option<Ticket>)>,
}

impl Crowd {
    /// The first tenant has all of the service when the others come.
    fn new(limit: u32, weights: &[u32]) -> Self {
        let mut crowd = Self { gate: gate(limit, 1000), weights: weights.to_vec(), there: Vec::new() };
        (0..limit).for_each(|_| crowd.arrive(0));
        crowd.top_up();
        crowd
    }

    fn arrive(&mut self, tenant: usize) {
        match self.gate.arrive(of(tenant as u128, self.weights[tenant]), at(0)).0 {
            Arrival::Admitted(place) => self.there.push((tenant, place, None)),
            Arrival::Waits(place, ticket) => self.there.push((tenant, place, Some(ticket))),
            Arrival::Shed => panic!("there is room"),
        }
    }

    fn serves((_, _, ticket): &(usize, Place, Option<Ticket>)) -> bool {
        ticket.as_ref().is_none_or(|ticket| ticket.seat.has_come())
    }

    fn top_up(&mut self) {
        for tenant in 0..self.weights.len() {
            while self.there.iter().filter(|one| one.0 == tenant && !Self::serves(one)).count() < 2 {
                self.arrive(tenant);
            }
        }
    }

    /// Ends the request number `which` of those in service.
    fn end(&mut self, which: usize) {
        let served: Vec<_> = (0..self.there.len()).filter(|i| Self::serves(&self.there[*i])).collect();
        drop(self.there.swap_remove(served[which % served.len()]));
        self.top_up();
    }

    fn in_service(&self) -> Vec<u32> {
        let of = |tenant| self.there.iter().filter(|one| one.0 == tenant && Self::serves(one)).count();
        (0..self.weights.len()).map(|tenant| of(tenant) as u32).collect()
    }
}

#[test]
fn over_time_each_has_its_share_even_of_a_single_place() {
    let mut crowd = Crowd::new(1, &[10, 1, 1]);
    let mut served = [0; 3];
    for _ in 0..1200 {
        crowd.end(0);
        let now = crowd.in_service();
        served.iter_mut().zip(&now).for_each(|(sum, one)| *sum += one);
    }
    assert!((999..=1001).contains(&served[0]), "{served:?}");
    assert!(served[1..].iter().all(|one| (99..=101).contains(one)), "{served:?}");
}

#[test]
fn who_comes_one_by_one_has_no_more_turns_than_its_weight_gives() {
    let gate = gate(1, 100);
    let mut busy = Some(admitted(gate.arrive(of(9, 1), at(0)).0));
    let mut heavy: Vec<_> = Vec::new();
    let (mut light, mut served) = (None, [0, 0]);
    for _ in 0..330 {
        while heavy.len() < 2 {
            heavy.push(match gate.arrive(of(1, 10), at(1)).0 {
                Arrival::Waits(place, ticket) => (place, ticket),
                other => panic!("{other:?}"),
            });
        }
        if light.is_none() {
            light = Some(match gate.arrive(of(2, 1), at(1)).0 {
                Arrival::Waits(place, ticket) => (place, ticket),
                other => panic!("{other:?}"),
            });
        }
        drop(busy.take());
        if let Some((place, _)) = light.take_if(|(_, ticket)| ticket.begin(at(1))) {
            served[1] += 1;
            busy = Some(place);
        } else {
            let at_turn = heavy.iter().position(|(_, ticket)| ticket.begin(at(1))).expect("somebody is next");
            served[0] += 1;
            busy = Some(heavy.remove(at_turn).0);
        }
    }
    assert!((29..=31).contains(&served[1]), "{served:?}");
}

#[test]
fn in_a_full_queue_who_has_more_for_its_weight_makes_room() {
    let gate = gate(1, 4);
    let _busy = admitted(gate.arrive(of(9, 1), at(0)).0);
    let wait = |kin| match gate.arrive(kin, at(1)).0 {
        Arrival::Waits(place, ticket) => (place, ticket),
        other => panic!("{other:?}"),
    };
    let is_shed_as = |kin: Kin| matches!(gate.arrive(kin, at(2)).0, Arrival::Shed);
    let (heavy, light) = ([wait(of(1, 4)), wait(of(1, 4))], [wait(of(2, 1)), wait(of(2, 1))]);
    let more = wait(of(1, 4));
    assert!(!heavy.iter().any(lost) && !lost(&more));
    assert_eq!([lost(&light[0]), lost(&light[1])], [false, true], "two of one are more than two of four");
    assert!(is_shed_as(of(1, 4)), "four of four are no less than one of one");
    assert!(is_shed_as(of(3, 1)));
}

proptest! {
    #[test]
    fn while_all_wait_each_has_its_quota_in_service_within_one_request(
        limit in 1_u32..40,
        weights in prop::collection::vec(1_u32..20, 2..6),
        ends in prop::collection::vec(any::<usize>(), 1..150),
    ) {
        prop_assume!(weights.iter().any(|weight| *weight != 1));
        let (mut crowd, all) = (Crowd::new(limit, &weights), weights.iter().sum::<u32>());
        // What the first has beyond its quota goes to the others as it ends.
        for _ in 0..limit {
            let first = crowd.there.iter().filter(|one| Crowd::serves(one)).position(|one| one.0 == 0);
            crowd.end(first.unwrap_or(0));
        }
        for which in ends {
            crowd.end(which);
            for (has, weight) in crowd.in_service().iter().zip(&weights) {
                let (least, most) = (limit * weight / all, (limit * weight).div_ceil(all));
                prop_assert!((least..=most).contains(has), "{weights:?} of {limit}: {:?}", crowd.in_service());
            }
        }
        drop(crowd.there);
        prop_assert_eq!(crowd.gate.load(), Load { limit, in_flight: 0, queued: 0 });
    }
}
