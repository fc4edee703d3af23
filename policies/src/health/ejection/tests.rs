use std::thread;

use proptest::prelude::*;

use super::*;
use crate::health::{BreakerParams, Evidence};
use crate::model::Address;

const WHY: Evidence = Evidence::Consecutive { failures: 1 };

fn limits(max_percent: u8) -> EjectionLimits {
    EjectionLimits { max_percent, ..EjectionLimits::default() }
}

/// Endpoints with two breakers each.
fn members(many: u16) -> Vec<Member> {
    let breaker = || Arc::new(Breaker::new(BreakerParams::default(), 1));
    let endpoint = |port| Arc::new(EndpointState::new(Address::Socket(([127, 0, 0, 1], port).into())));
    let member =
        |port| Member { endpoint: endpoint(port), breakers: vec![breaker(), breaker()], shared: None };
    (1..=many).map(member).collect()
}

fn ejections(limits: EjectionLimits, members: &[Member]) -> Ejections {
    let ejections = Ejections::default();
    ejections.set(limits, members.to_vec());
    ejections
}

fn trips(ejections: &Ejections, member: &Member, breaker: usize) -> bool {
    let Some(trip) = member.breakers[breaker].trip(WHY) else { return false };
    ejections.eject(&member.endpoint, trip, &|_, _| false, Timestamp::ZERO).is_some()
}

#[test]
fn the_share_is_of_endpoints_and_not_of_breakers() {
    let members = members(4);
    let ejections = ejections(limits(50), &members);
    assert!(trips(&ejections, &members[0], 0) && trips(&ejections, &members[0], 1));
    assert!(trips(&ejections, &members[1], 0));
    assert!(!trips(&ejections, &members[2], 0));
    assert_eq!(ejections.counts(), (2, 4));
    assert_eq!(members[2].breakers[0].view().spared, Some(WHY));
    assert!(trips(&ejections, &members[1], 1), "it is ejected already");
}

#[test]
fn who_comes_back_makes_room_for_another() {
    let members = members(4);
    let ejections = ejections(limits(25), &members);
    assert!(trips(&ejections, &members[0], 0) && !trips(&ejections, &members[1], 0));
    members[0].breakers[0].pardon(Timestamp::ZERO);
    ejections.refresh();
    assert_eq!(ejections.counts(), (0, 4));
    assert!(trips(&ejections, &members[1], 0));
}

#[test]
fn a_push_pardons_as_few_as_it_must() {
    let members = members(6);
    let ejections = ejections(limits(50), &members);
    (0..3).for_each(|i| assert!(trips(&ejections, &members[i], 0)));
    ejections.set(limits(50), members[..4].to_vec());
    ejections.settle(Timestamp::ZERO);
    assert_eq!(ejections.counts(), (2, 4));
    ejections.set(limits(50), members[..3].to_vec());
    ejections.settle(Timestamp::ZERO);
    assert_eq!(ejections.counts(), (1, 3));
}

#[test]
fn a_panic_begins_below_its_share_and_not_at_it() {
    let members = members(4);
    let bounds = EjectionLimits { panic_percent: 50, ..limits(100) };
    let ejections = ejections(bounds, &members);
    (0..2).for_each(|i| assert!(trips(&ejections, &members[i], 0)));
    assert_eq!(ejections.panic(bounds), None);
    assert!(trips(&ejections, &members[2], 0));
    assert_eq!(ejections.panic(bounds), Some((1, 4)));
    assert_eq!(ejections.panic(limits(100)), None, "not written");
}

#[test]
fn threads_that_trip_at_once_eject_no_more_than_the_share() {
    for _ in 0..50 {
        let members = members(9);
        let ejections = ejections(limits(40), &members);
        let tripped: usize = thread::scope(|scope| {
            let one =
                |chunk: usize| (0..9).filter(|i| trips(&ejections, &members[(i + chunk) % 9], 0)).count();
            let threads: Vec<_> = (0..4).map(|chunk| scope.spawn(move || one(chunk * 2))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((tripped, ejections.counts()), (3, (3, 9)));
    }
}

proptest! {
    #[test]
    fn no_limit_ejects_more_than_it_says(
        all in 0_u32..1000, max_percent in 1_u8..=100, at_least_one in any::<bool>(), last_too in any::<bool>(),
    ) {
        let most = EjectionLimits { at_least_one, last_too, ..limits(max_percent) }.most(all);
        prop_assert!(most <= all);
        prop_assert!(most <= 1 || u64::from(most) * 100 <= u64::from(all) * u64::from(max_percent));
        prop_assert!(last_too || most < all.max(1));
        prop_assert!(!at_least_one || all < 2 || most >= 1);
    }
}
