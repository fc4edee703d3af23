//! Power of two choices: draw two endpoints by weight, take the one with less in flight per weight.
//!
//! With nothing in flight the shares are exactly the weights; under load a slow endpoint gets less. See
//! M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001).

use std::sync::Arc;

use super::EndpointState;

/// The index of the endpoint for the next call, among those with a weight above zero that `admits` lets through;
/// `None` where there is none. Two passes, no allocation.
pub fn pick(
    endpoints: &[Arc<EndpointState>],
    admits: impl Fn(usize) -> bool,
    rng: &mut fastrand::Rng,
) -> Option<usize> {
    let weight = |i: usize| match endpoints[i].weight() {
        0 => 0,
        weight if admits(i) => weight,
        _ => 0,
    };
    let first = draw(endpoints.len(), weight, rng)?;
    let second = draw(endpoints.len(), |i| if i == first { 0 } else { weight(i) }, rng);
    Some(second.map_or(first, |second| less_loaded(endpoints, first, second)))
}

/// What is wanted of a pick besides balance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'a> {
    /// Taken if it is among the endpoints and admitted, whatever its load and its weight: who has a session there goes
    /// back there.
    pub prefer: Option<&'a Arc<EndpointState>>,
    /// Tried before, the latest last: taken only where no other is left, the latest last of all.
    pub avoid: &'a [Arc<EndpointState>],
}

/// As [`pick`], with a wish: none of `avoid` as long as there is another; where there is none, the first of them is
/// forgiven first.
pub fn pick_other(
    endpoints: &[Arc<EndpointState>],
    Wish { prefer, avoid }: Wish<'_>,
    admits: impl Fn(usize) -> bool,
    rng: &mut fastrand::Rng,
) -> Option<usize> {
    let preferred = prefer.filter(|prefer| !avoid.iter().any(|tried| Arc::ptr_eq(tried, prefer)));
    let preferred = preferred.and_then(|prefer| endpoints.iter().position(|one| Arc::ptr_eq(one, prefer)));
    if let Some(index) = preferred.filter(|index| admits(*index)) {
        return Some(index);
    }
    (0..=avoid.len()).find_map(|forgiven| {
        let barred = |i: usize| avoid[forgiven..].iter().any(|tried| Arc::ptr_eq(tried, &endpoints[i]));
        pick(endpoints, |i| !barred(i) && admits(i), rng)
    })
}

/// Draws an index with probability proportional to its weight.
fn draw(len: usize, weight: impl Fn(usize) -> u32, rng: &mut fastrand::Rng) -> Option<usize> {
    let total: u64 = (0..len).map(|i| u64::from(weight(i))).sum();
    if total == 0 {
        return None;
    }
    let mut left = rng.u64(..total);
    let mut last = None;
    for i in 0..len {
        let w = u64::from(weight(i));
        if w == 0 {
            continue;
        }
        last = Some(i);
        if left < w {
            return last;
        }
        left -= w;
    }
    // Only where another thread lowered a weight or closed an endpoint between the two passes.
    last
}

/// Ties go to the first drawn, so that idle endpoints are taken by weight.
fn less_loaded(endpoints: &[Arc<EndpointState>], first: usize, second: usize) -> usize {
    let (a, b) = (&endpoints[first], &endpoints[second]);
    let load_a = u64::from(a.in_flight()) * u64::from(b.weight());
    let load_b = u64::from(b.in_flight()) * u64::from(a.weight());
    if load_a <= load_b { first } else { second }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Address;
    use proptest::prelude::*;

    fn endpoints(weights: &[u32]) -> Vec<Arc<EndpointState>> {
        let make = |(i, weight): (usize, &u32)| {
            let endpoint = EndpointState::new(Address::Name { host: format!("e{i}").into(), port: 80 });
            endpoint.set_weight(*weight);
            Arc::new(endpoint)
        };
        weights.iter().enumerate().map(make).collect()
    }

    #[test]
    fn one_endpoint_is_always_picked_and_none_never() {
        let rng = &mut fastrand::Rng::with_seed(1);
        assert_eq!(pick(&endpoints(&[1]), |_| true, rng), Some(0));
        assert_eq!(pick(&endpoints(&[]), |_| true, rng), None);
        assert_eq!(pick(&endpoints(&[0]), |_| true, rng), None);
        assert_eq!(pick(&endpoints(&[1]), |_| false, rng), None);
    }

    #[test]
    fn of_two_endpoints_the_less_loaded_is_always_picked() {
        let two = endpoints(&[1, 1]);
        let _busy = two[0].start();
        let rng = &mut fastrand::Rng::with_seed(1);
        assert!((0..1000).all(|_| pick(&two, |_| true, rng) == Some(1)));
    }

    #[test]
    fn load_is_compared_per_weight() {
        let two = endpoints(&[3, 1]);
        let _busy = [two[0].start(), two[0].start(), two[1].start()];
        let rng = &mut fastrand::Rng::with_seed(1);
        assert!((0..1000).all(|_| pick(&two, |_| true, rng) == Some(0)));
    }

    #[test]
    fn what_was_tried_is_taken_last_and_the_latest_last_of_all() {
        let three = endpoints(&[1, 1, 1]);
        let rng = &mut fastrand::Rng::with_seed(1);
        let mut pick = |avoid: &[usize], admits: fn(usize) -> bool| {
            let avoid: Vec<_> = avoid.iter().map(|i| three[*i].clone()).collect();
            let picked: Vec<_> = (0..100)
                .map(|_| pick_other(&three, Wish { prefer: None, avoid: &avoid }, admits, rng))
                .collect();
            picked.iter().all(|p| *p == picked[0]).then_some(picked[0]).flatten()
        };
        assert_eq!(pick(&[0, 1], |_| true), Some(2));
        assert_eq!(pick(&[0, 2, 1], |_| true), Some(0));
        assert_eq!(pick(&[0, 1], |i| i == 1), Some(1), "better the same again than none");
    }

    #[test]
    fn a_preferred_endpoint_is_taken_unless_it_was_tried_or_is_not_admitted() {
        let three = endpoints(&[1, 1, 0]);
        let _busy: Vec<_> = (0..50).map(|_| three[0].start()).collect();
        let rng = &mut fastrand::Rng::with_seed(1);
        let mut pick = |prefer: &Arc<EndpointState>, avoid: &[usize], admits: fn(usize) -> bool| {
            let avoid: Vec<_> = avoid.iter().map(|i| three[*i].clone()).collect();
            pick_other(&three, Wish { prefer: Some(prefer), avoid: &avoid }, admits, rng)
        };
        assert_eq!(pick(&three[0], &[], |_| true), Some(0), "whatever its load");
        assert_eq!(pick(&three[2], &[], |_| true), Some(2), "whatever its weight");
        assert_eq!(pick(&three[0], &[0], |_| true), Some(1));
        assert_eq!(pick(&three[0], &[], |i| i != 0), Some(1));
        assert_eq!(pick(&endpoints(&[1])[0], &[1], |_| true), Some(0), "it is gone");
    }

    #[test]
    fn a_slow_endpoint_gets_less_than_its_weight() {
        let four = endpoints(&[1, 1, 1, 1]);
        let _slow: Vec<_> = (0..50).map(|_| four[0].start()).collect();
        let rng = &mut fastrand::Rng::with_seed(1);
        assert!((0..1000).all(|_| pick(&four, |_| true, rng) != Some(0)));
    }

    proptest! {
        #[test]
        fn idle_endpoints_get_their_weights_share(
            weights in prop::collection::vec(0_u32..10, 1..8),
            barred in any::<u8>(),
            seed in any::<u64>(),
        ) {
            let all = endpoints(&weights);
            let admits = |i: usize| barred & (1 << i) == 0;
            let rng = &mut fastrand::Rng::with_seed(seed);
            const DRAWS: u32 = 20_000;
            let mut got = vec![0_u32; weights.len()];
            for _ in 0..DRAWS {
                if let Some(i) = pick(&all, admits, rng) {
                    got[i] += 1;
                }
            }
            let share = |i: usize| if admits(i) { weights[i] } else { 0 };
            let total: u32 = (0..weights.len()).map(share).sum();
            for (i, got) in got.into_iter().enumerate() {
                let want = if total == 0 { 0.0 } else { f64::from(share(i)) / f64::from(total) };
                // Six standard deviations of a binomial share: never by chance.
                let slack = 6.0 * (want * (1.0 - want) / f64::from(DRAWS)).sqrt();
                let share = f64::from(got) / f64::from(DRAWS);
                prop_assert!((share - want).abs() <= slack, "endpoint {i}: {share} instead of {want}");
            }
        }
    }
}
