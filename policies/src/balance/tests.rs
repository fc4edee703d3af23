//! What every algorithm must hold to.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::state::StateStore;

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_000_000);

pub(super) fn endpoints(weights: &[u32]) -> Vec<Arc<EndpointState>> {
    let make = |(i, weight): (usize, &u32)| {
        let endpoint = EndpointState::new(Address::Name { host: format!("e{i}").into(), port: 80 });
        endpoint.set_weight(*weight);
        Arc::new(endpoint)
    };
    weights.iter().enumerate().map(make).collect()
}

pub(super) fn by(algorithm: Algorithm) -> LoadBalancing {
    LoadBalancing { algorithm, ..LoadBalancing::new() }
}

pub(super) fn bind(settings: LoadBalancing, endpoints: &[Arc<EndpointState>]) -> Balancer {
    let backing = Backing { backend: "shop/cart:80", endpoints, ..Backing::default() };
    Balancer::bind(&Arc::new(settings), backing, &StateStore::new([0, 0]))
}

pub(super) fn choice<'a>(balancer: &'a Balancer, endpoints: &'a [Arc<EndpointState>]) -> Choice<'a> {
    Choice { balancer, endpoints, wish: Wish::default(), now: NOW }
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    prop_oneof![
        Just(Algorithm::PeakEwma),
        (2_u32..5).prop_map(|choices| Algorithm::LeastRequest { choices }),
        Just(Algorithm::RoundRobin),
        Just(Algorithm::Random),
        Just(Algorithm::Hash { table: HashTable::Maglev { size: 251 }, keyless: Keyless::Random }),
    ]
}

/// How often each endpoint was picked.
fn picks(choice: &Choice<'_>, admits: impl Fn(usize) -> bool + Copy, seed: u64, times: u32) -> Vec<u32> {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let mut got = vec![0; choice.endpoints.len()];
    for _ in 0..times {
        if let Some(i) = choice.pick(admits, rng) {
            got[i] += 1;
        }
    }
    got
}

#[test]
fn a_call_counts_until_its_guard_is_dropped() {
    let endpoint = &endpoints(&[1])[0];
    let (a, b) = (endpoint.start(NOW), endpoint.start(NOW));
    assert_eq!(endpoint.in_flight(), 2);
    drop((a, b));
    assert_eq!(endpoint.in_flight(), 0);
}

#[test]
fn of_two_endpoints_the_less_loaded_per_weight_is_always_picked() {
    for algorithm in [Algorithm::PeakEwma, Algorithm::LeastRequest { choices: 2 }] {
        for (weights, calls, want) in [(&[1, 1], [1, 0], 1), (&[3, 1], [2, 1], 0)] {
            let two = endpoints(weights);
            let busy = two.iter().zip(calls);
            let _busy: Vec<_> = busy.flat_map(|(e, calls)| (0..calls).map(|_| e.start(NOW))).collect();
            let balancer = bind(by(algorithm.clone()), &two);
            assert_eq!(picks(&choice(&balancer, &two), |_| true, 1, 1000)[want], 1000, "{algorithm:?}");
        }
    }
}

#[test]
fn more_choices_find_the_one_idle_endpoint_more_often() {
    let ten = endpoints(&[1; 10]);
    let _busy: Vec<_> = ten[1..].iter().map(|endpoint| endpoint.start(NOW)).collect();
    let share = |choices| {
        let balancer = bind(by(Algorithm::LeastRequest { choices }), &ten);
        picks(&choice(&balancer, &ten), |_| true, 1, 10_000)[0]
    };
    let (two, five) = (share(2), share(5));
    assert!((1_800..2_200).contains(&two) && five > 4_000, "{two} and {five}");
}

#[test]
fn a_slow_endpoint_gets_no_calls_until_what_is_known_of_it_fades() {
    let four = endpoints(&[1; 4]);
    let balancer = bind(LoadBalancing::new(), &four);
    for (i, endpoint) in four.iter().enumerate() {
        let latency = Duration::from_millis(if i == 0 { 50 } else { 5 });
        endpoint.latency.record(Sample { latency, ok: true }, balancer.decay(), NOW);
    }
    let at = |seconds| {
        let choice = Choice { now: NOW + Duration::from_secs(seconds), ..choice(&balancer, &four) };
        picks(&choice, |_| true, 1, 1000)[0]
    };
    assert_eq!(at(0), 0);
    assert_eq!(at(20), 0);
    assert!(at(25) > 200, "after a decay for each e-fold that it is slower");
}

#[test]
fn an_endpoint_that_fails_fast_attracts_nothing() {
    let two = endpoints(&[1, 1]);
    let balancer = bind(LoadBalancing::new(), &two);
    let rng = &mut fastrand::Rng::with_seed(1);
    let (mut now, mut to_the_failing) = (NOW, 0);
    for _ in 0..10_000 {
        let choice = Choice { now, ..choice(&balancer, &two) };
        let picked = choice.pick(|_| true, rng).unwrap();
        let call = two[picked].start(now);
        let latency = Duration::from_millis(if picked == 0 { 0 } else { 10 });
        now = now + Duration::from_millis(1);
        two[picked].latency.record(Sample { latency, ok: picked == 1 }, balancer.decay(), now);
        to_the_failing += u32::from(picked == 0);
        drop(call);
    }
    assert!(to_the_failing < 20, "{to_the_failing} of 10000");
}

#[test]
fn of_an_unknown_endpoint_one_call_at_a_time_finds_out() {
    let two = endpoints(&[1, 1]);
    let balancer = bind(LoadBalancing::new(), &two);
    two[0].latency.record(Sample { latency: Duration::from_millis(5), ok: true }, balancer.decay(), NOW);
    let of_new = || picks(&choice(&balancer, &two), |_| true, 1, 1000)[1];
    assert!((400..600).contains(&of_new()), "idle, it is as good as the other");
    let _call = two[1].start(NOW);
    assert_eq!(of_new(), 0, "and then it has to answer first");
}

#[test]
fn latencies_that_differ_by_little_are_alike() {
    let two = endpoints(&[1, 1]);
    let balancer = bind(LoadBalancing::new(), &two);
    for (endpoint, micros) in two.iter().zip([1000, 1100]) {
        let latency = Duration::from_micros(micros);
        endpoint.latency.record(Sample { latency, ok: true }, balancer.decay(), NOW);
    }
    assert!((400..600).contains(&picks(&choice(&balancer, &two), |_| true, 1, 1000)[0]));
}

#[test]
fn turns_go_on_after_a_push() {
    let (three, state) = (endpoints(&[1; 3]), StateStore::new([0, 0]));
    let mut seen = Vec::new();
    for _ in 0..6 {
        let backing = Backing { backend: "shop/cart:80", endpoints: &three, ..Backing::default() };
        let balancer = Balancer::bind(&Arc::new(by(Algorithm::RoundRobin)), backing, &state);
        seen.extend(choice(&balancer, &three).pick(|_| true, &mut fastrand::Rng::with_seed(1)));
    }
    assert_eq!(seen[..3], seen[3..]);
    assert!((0..3).all(|i| seen[..3].contains(&i)), "{seen:?}");
}

proptest! {
    #[test]
    fn idle_endpoints_get_their_weights_share_and_nobody_else_any(
        algorithm in algorithm(),
        weights in prop::collection::vec(0_u32..10, 0..8),
        held_back in any::<u8>(),
        seed in any::<u64>(),
    ) {
        let all = endpoints(&weights);
        let balancer = bind(by(algorithm), &all);
        let admits = |i: usize| held_back & (1 << i) == 0;
        const TIMES: u32 = 10_000;
        let got = picks(&choice(&balancer, &all), admits, seed, TIMES);
        let share = |i: usize| if admits(i) { weights[i] } else { 0 };
        let total: u32 = (0..weights.len()).map(share).sum();
        prop_assert_eq!(got.iter().sum::<u32>(), if total == 0 { 0 } else { TIMES });
        for (i, got) in got.into_iter().enumerate() {
            let want = if total == 0 { 0.0 } else { f64::from(share(i)) / f64::from(total) };
            // Six standard deviations of a binomial share: never by chance.
            let slack = 6.0 * (want * (1.0 - want) / f64::from(TIMES)).sqrt();
            let share = f64::from(got) / f64::from(TIMES);
            prop_assert!((share - want).abs() <= slack, "endpoint {i}: {share} instead of {want}");
        }
    }

    #[test]
    fn many_endpoints_get_their_weights_share_too(
        algorithm in algorithm(),
        few in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let weights: Vec<_> = (0..100).map(|i| 1 + i % 3).collect();
        let all = endpoints(&weights);
        let balancer = bind(by(algorithm), &all);
        let admits = |i: usize| !few || i.is_multiple_of(20);
        let got = picks(&choice(&balancer, &all), admits, seed, 10_000);
        let heavy = |weight: u32| -> f64 {
            let got = got.iter().zip(&weights).filter(|(_, w)| **w == weight).map(|(got, _)| got);
            f64::from(got.sum::<u32>()) / 10_000.0
        };
        let total: u32 = (0..100).filter(|i| admits(*i)).map(|i| weights[i]).sum();
        for weight in 1..4 {
            let of = (0..100).filter(|i| admits(*i) && weights[*i] == weight).count() as f64;
            let want = of * f64::from(weight) / f64::from(total);
            let slack = 6.0 * (want * (1.0 - want) / 10_000.0).sqrt();
            prop_assert!((heavy(weight) - want).abs() <= slack, "weight {weight}: {} instead of {want}", heavy(weight));
        }
        prop_assert!((0..100).all(|i| admits(i) || got[i] == 0));
    }

    #[test]
    fn what_was_tried_is_taken_last_and_the_latest_last_of_all(
        algorithm in algorithm(),
        weights in prop::collection::vec(1_u32..10, 1..6),
        order in any::<u64>(),
        seed in any::<u64>(),
    ) {
        let all = endpoints(&weights);
        let balancer = bind(by(algorithm), &all);
        let mut tried: Vec<_> = (0..all.len()).collect();
        fastrand::Rng::with_seed(order).shuffle(&mut tried);
        let rng = &mut fastrand::Rng::with_seed(seed);
        for n in 0..=tried.len() {
            let avoid: Vec<_> = tried[..n].iter().map(|i| all[*i].clone()).collect();
            let wish = Wish { avoid: &avoid, ..Wish::default() };
            let picked = Choice { wish, ..choice(&balancer, &all) }.pick(|_| true, rng).unwrap();
            if n == tried.len() {
                prop_assert_eq!(picked, tried[0], "better the first again than none");
            } else {
                prop_assert!(!tried[..n].contains(&picked));
            }
            if let Some(last) = tried[..n].last() {
                let only = Choice { wish, ..choice(&balancer, &all) }.pick(|i| i == *last, rng);
                prop_assert_eq!(only, Some(*last));
            }
        }
    }

    #[test]
    fn a_preferred_endpoint_is_taken_unless_it_was_tried_or_is_not_admitted(
        algorithm in algorithm(),
        weights in prop::collection::vec(0_u32..3, 2..6),
        at in any::<prop::sample::Index>(),
        seed in any::<u64>(),
    ) {
        let all = endpoints(&weights);
        let balancer = bind(by(algorithm), &all);
        let wanted = at.index(all.len());
        let _busy: Vec<_> = (0..50).map(|_| all[wanted].start(NOW)).collect();
        let rng = &mut fastrand::Rng::with_seed(seed);
        let prefer = all[wanted].clone();
        let mut pick = |avoid: &[Arc<EndpointState>], admitted: bool| {
            let wish = Wish { prefer: Some(&prefer), avoid, ..Wish::default() };
            Choice { wish, ..choice(&balancer, &all) }.pick(|i| admitted || i != wanted, rng)
        };
        prop_assert_eq!(pick(&[], true), Some(wanted), "whatever its load and weight");
        prop_assert!(pick(&[], false) != Some(wanted));
        let others = (0..all.len()).any(|i| i != wanted && weights[i] > 0);
        prop_assert!(!others || pick(std::slice::from_ref(&all[wanted]), true) != Some(wanted));
        let strange = &endpoints(&[1])[0];
        let wish = Wish { prefer: Some(strange), ..Wish::default() };
        let picked = Choice { wish, ..choice(&balancer, &all) }.pick(|_| true, rng);
        prop_assert_eq!(picked.is_some(), weights.iter().any(|weight| *weight > 0), "it is gone");
    }
}
