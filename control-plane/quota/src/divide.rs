//! Max-min fair division: nobody gets more than asked while another, who got less, wants more.

/// Divides `capacity`; what nobody asked for is spread evenly.
pub(crate) fn divide(demands: &[u64], capacity: u64) -> Vec<u64> {
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by_key(|&i| demands[i]);
    let mut shares = vec![0; demands.len()];
    let mut left = capacity;
    for (done, &i) in order.iter().enumerate() {
        shares[i] = demands[i].min(left / (demands.len() - done) as u64);
        left -= shares[i];
    }
    if let Some(spare) = left.checked_div(demands.len() as u64) {
        shares.iter_mut().for_each(|share| *share += spare);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_small_get_what_they_ask_and_the_large_split_the_rest() {
        assert_eq!(divide(&[10, 500, 500], 110), [10, 50, 50]);
        assert_eq!(divide(&[10, 20], 90), [40, 50]);
        assert_eq!(divide(&[], 90), [] as [u64; 0]);
    }

    proptest! {
        #[test]
        fn a_division_is_within_the_capacity_and_max_min_fair(
            demands in prop::collection::vec(0_u64..2_000, 1..20),
            capacity in 0_u64..10_000,
        ) {
            let shares = divide(&demands, capacity);
            let (sum, n) = (shares.iter().sum::<u64>(), demands.len() as u64);
            prop_assert!(sum <= capacity && sum + n > capacity);
            for (i, share) in shares.iter().enumerate() {
                let poorest_is_short = *share < demands[i];
                prop_assert!(!poorest_is_short || shares.iter().all(|other| *other <= share + n));
            }
        }
    }
}
