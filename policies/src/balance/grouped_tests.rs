//! Keys, zones, priorities, subsets and slow starts, as a whole balancer has them.

use std::time::Duration;

use proptest::prelude::*;

use super::tests::{NOW, bind, by, choice, endpoints};
use super::*;
use crate::model::Placement;
use crate::state::StateStore;

const MAGLEV: HashTable = HashTable::Maglev { size: 65_537 };
const RING: HashTable = HashTable::Ring { least: 4096, most: 262_144 };

fn hashing(table: HashTable, max_load: Option<f64>) -> LoadBalancing {
    let algorithm = Algorithm::Hash { table, keyless: Keyless::Random };
    LoadBalancing { max_load, ..by(algorithm) }
}

fn placed(zones: &[&str], priorities: &[u32]) -> Vec<Placement> {
    let placed = zones.iter().zip(priorities);
    placed
        .map(|(zone, priority)| Placement {
            zone: Some((*zone).into()),
            for_zones: Vec::new(),
            priority: *priority,
        })
        .collect()
}

fn in_zone_a(
    settings: LoadBalancing,
    endpoints: &[Arc<EndpointState>],
    placements: &[Placement],
) -> Balancer {
    let backing = Backing { backend: "shop/cart:80", endpoints, placements, zone: Some("a"), node: "web-1" };
    Balancer::bind(&Arc::new(settings), backing, &StateStore::new([0, 0]))
}

fn near() -> LoadBalancing {
    let locality = Locality { prefer: Prefer::SameZone, failover: vec!["b".into()] };
    LoadBalancing { locality, ..LoadBalancing::new() }
}

/// In percent.
fn shares(choice: &Choice<'_>, admits: impl Fn(usize) -> bool + Copy) -> Vec<u32> {
    let rng = &mut fastrand::Rng::with_seed(7);
    let mut got = vec![0_u32; choice.endpoints.len()];
    (0..10_000).filter_map(|_| choice.pick(admits, rng)).for_each(|i| got[i] += 1);
    got.iter().map(|got| (got + 50) / 100).collect()
}

fn pick_by(choice: &Choice<'_>, key: u64, admits: impl Fn(usize) -> bool) -> Option<usize> {
    let wish = Wish { key: Some(key), ..choice.wish };
    Choice { wish, ..*choice }.pick(admits, &mut fastrand::Rng::with_seed(1))
}

#[test]
fn all_traffic_stays_in_the_zone_as_long_as_enough_of_it_is_well() {
    let ten = endpoints(&[1; 10]);
    let zones = ["a", "a", "a", "a", "a", "b", "b", "c", "c", "c"];
    let placements = placed(&zones, &[0; 10]);
    let of = |down: &[usize]| {
        let balancer = in_zone_a(near(), &ten, &placements);
        let shares = shares(&choice(&balancer, &ten), |i| !down.contains(&i));
        [shares[..5].iter().sum::<u32>(), shares[5..7].iter().sum(), shares[7..].iter().sum()]
    };
    let about = |got: [u32; 3], want: [u32; 3]| {
        assert!(got.iter().zip(want).all(|(got, want)| got.abs_diff(want) <= 2), "{got:?}, not {want:?}");
    };
    about(of(&[]), [100, 0, 0]);
    about(of(&[0]), [100, 0, 0]);
    // 1.4 times two of five, and b takes the rest.
    about(of(&[0, 1, 2]), [56, 44, 0]);
    about(of(&[0, 1, 2, 3, 4]), [0, 100, 0]);
    about(of(&[0, 1, 2, 3, 4, 5, 6]), [0, 0, 100]);
}

#[test]
fn a_priority_is_called_when_those_before_cannot_take_it() {
    let four = endpoints(&[1; 4]);
    let placements = placed(&["a"; 4], &[0, 0, 1, 2]);
    let of = |down: &[usize]| {
        let balancer = in_zone_a(LoadBalancing::new(), &four, &placements);
        shares(&choice(&balancer, &four), |i| !down.contains(&i))
    };
    assert_eq!(of(&[])[2..], [0, 0]);
    let half = of(&[0]);
    assert!(half[1].abs_diff(70) <= 2 && half[2].abs_diff(30) <= 2, "{half:?}");
    assert_eq!(of(&[0, 1, 2])[3], 100);
}

#[test]
fn a_retry_goes_to_another_endpoint_even_in_another_zone() {
    let two = endpoints(&[1, 1]);
    let balancer = in_zone_a(near(), &two, &placed(&["a", "c"], &[0, 0]));
    let wish = Wish { avoid: &two[..1], ..Wish::default() };
    assert_eq!(shares(&Choice { wish, ..choice(&balancer, &two) }, |_| true), [0, 100]);
}

#[test]
fn a_new_endpoint_gets_its_share_in_steps() {
    let settings = |algorithm| LoadBalancing {
        slow_start: Some(SlowStart { window: Duration::from_secs(30), min_percent: 10, aggression: 1.0 }),
        ..by(algorithm)
    };
    for algorithm in [Algorithm::Random, Algorithm::RoundRobin, Algorithm::LeastRequest { choices: 2 }] {
        let four = endpoints(&[1; 4]);
        four[..3].iter().for_each(|old| old.seen(1));
        four[..3].iter().for_each(|old| old.seen(2));
        four[3].seen(2);
        four[3].warmth.touch(NOW);
        let balancer = bind(settings(algorithm.clone()), &four);
        for (seconds, want) in [(0, 0.1), (15, 0.5), (30, 1.0)] {
            let choice = Choice { now: NOW + Duration::from_secs(seconds), ..choice(&balancer, &four) };
            let (got, want) = (shares(&choice, |_| true)[3], 100.0 * want / (3.0 + want));
            assert!(
                (f64::from(got) - want).abs() <= 2.0,
                "{algorithm:?} after {seconds} s: {got}, not {want}"
            );
            let only = shares(&choice, |i| i == 3);
            assert_eq!(only[3], 100, "better a cold one than none");
        }
    }
}

#[test]
fn a_subset_takes_all_calls_and_others_only_where_it_cannot() {
    let many = endpoints(&[1; 100]);
    let settings = LoadBalancing { subset: Some(10), ..by(Algorithm::Random) };
    let balancer = in_zone_a(settings, &many, &[]);
    let got = shares(&choice(&balancer, &many), |_| true);
    let called: Vec<_> = (0..100).filter(|i| got[*i] > 0).collect();
    assert_eq!(called.len(), 10);
    assert!((0..100).all(|i| balancer.calls(i) == called.contains(&i)));
    let others = shares(&choice(&balancer, &many), |i| !called.contains(&i));
    assert!(called.iter().all(|i| others[*i] == 0) && others.iter().sum::<u32>() >= 80, "{others:?}");
}

#[test]
fn each_zone_has_a_subset_of_its_own() {
    let many = endpoints(&[1; 60]);
    let zones: Vec<_> = (0..60).map(|i| ["a", "b", "c"][i % 3]).collect();
    let settings = LoadBalancing { subset: Some(10), ..near() };
    let balancer = in_zone_a(settings, &many, &placed(&zones, &[0; 60]));
    for zone in ["a", "b", "c"] {
        let called = (0..60).filter(|i| zones[*i] == zone && balancer.calls(*i)).count();
        assert_eq!(called, 10, "{zone}");
    }
}

#[test]
fn no_endpoint_has_more_in_flight_than_its_load_factor_allows() {
    for table in [MAGLEV, RING] {
        let five = endpoints(&[1; 5]);
        let balancer = bind(hashing(table, Some(1.25)), &five);
        let mut held = Vec::new();
        for _ in 0..200 {
            // The key of a celebrity.
            let index = pick_by(&choice(&balancer, &five), 42, |_| true).unwrap();
            held.push((five[index].start(NOW), balancer.carry(index)));
        }
        let most = five.iter().map(|endpoint| endpoint.in_flight()).max().unwrap();
        assert!(most <= 50, "1.25 times a fifth of 200, not {most}");
        drop(held);
        let home = pick_by(&choice(&balancer, &five), 42, |_| true);
        assert!((0..9).all(|_| pick_by(&choice(&balancer, &five), 42, |_| true) == home));
    }
}

proptest! {
    #[test]
    fn a_key_goes_to_its_place_and_others_only_where_that_is_held_back(
        ring in any::<bool>(),
        weights in prop::collection::vec(0_u32..4, 0..8),
        held_back in any::<u8>(),
        key in any::<u64>(),
    ) {
        let all = endpoints(&weights);
        let balancer = bind(hashing(if ring { RING } else { HashTable::Maglev { size: 251 } }, None), &all);
        let choice = choice(&balancer, &all);
        let admits = |i: usize| held_back & (1 << i) == 0;
        let (home, picked) = (pick_by(&choice, key, |_| true), pick_by(&choice, key, admits));
        prop_assert_eq!(home.is_some(), weights.iter().any(|weight| *weight > 0));
        prop_assert_eq!(picked.is_some(), (0..weights.len()).any(|i| weights[i] > 0 && admits(i)));
        if let (Some(home), Some(picked)) = (home, picked) {
            prop_assert!(weights[picked] > 0 && admits(picked));
            prop_assert!(picked == home || !admits(home));
            let tried = [all[home].clone()];
            let wish = Wish { avoid: &tried, key: Some(key), ..Wish::default() };
            let again = Choice { wish, ..choice }.pick(|_| true, &mut fastrand::Rng::with_seed(1)).unwrap();
            prop_assert!(again != home || weights.iter().filter(|weight| **weight > 0).count() == 1);
        }
    }

    #[test]
    fn nobody_is_picked_who_is_not_admitted_wherever_they_are(
        places in prop::collection::vec((0_usize..3, 0_u32..3, 0_u32..3), 0..8),
        held_back in any::<u8>(),
        subset in prop::option::of(1_u32..4),
        seed in any::<u64>(),
    ) {
        let all = endpoints(&places.iter().map(|(_, _, weight)| *weight).collect::<Vec<_>>());
        let zones: Vec<_> = places.iter().map(|(zone, _, _)| ["a", "b", "c"][*zone]).collect();
        let priorities: Vec<_> = places.iter().map(|(_, priority, _)| *priority).collect();
        let settings = LoadBalancing { subset, ..near() };
        let balancer = in_zone_a(settings, &all, &placed(&zones, &priorities));
        let admits = |i: usize| held_back & (1 << i) == 0;
        let takes = |i: usize| admits(i) && places[i].2 > 0;
        let rng = &mut fastrand::Rng::with_seed(seed);
        for _ in 0..20 {
            let picked = choice(&balancer, &all).pick(admits, rng);
            prop_assert_eq!(picked.is_some(), (0..all.len()).any(takes));
            prop_assert!(picked.is_none_or(takes));
        }
    }
}
