//! Drawing by weight in constant time: Walker's alias method, with whole numbers, so that the shares are exact (M. D. Vose,
//! "A Linear Algorithm for Generating Random Numbers with a Given Distribution", 1991).
//!
//! Each of the `n` columns is as wide as all weights together. Column `i` belongs to `i` up to its cut, and beyond it to its
//! alias; of the `n * total` places, `weight * n` belong to each.

/// See the module.
#[derive(Debug)]
pub(super) struct Alias {
    total: u64,
    columns: Box<[Column]>,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    cut: u64,
    alias: u32,
}

impl Alias {
    /// Of weights above zero.
    pub(super) fn new(weights: &[u32]) -> Self {
        let n = u64::try_from(weights.len()).unwrap_or(u64::MAX);
        let total: u64 = weights.iter().copied().map(u64::from).sum();
        // 65 536 endpoints of the greatest weight there is still fit.
        let mut left: Vec<u64> = weights.iter().map(|weight| u64::from(*weight).saturating_mul(n)).collect();
        let mut columns = vec![Column { cut: total, alias: 0 }; weights.len()];
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..weights.len()).partition(|i| left[*i] < total);
        while let (Some(low), Some(high)) = (small.pop(), large.last().copied()) {
            columns[low] = Column { cut: left[low], alias: u32::try_from(high).unwrap_or(0) };
            left[high] -= total - left[low];
            if left[high] < total {
                large.pop();
                small.push(high);
            }
        }
        Self { total, columns: columns.into() }
    }

    /// All weights together.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The place of one of the weights, each as often as its weight says. Of none: 0.
    pub(super) fn draw(&self, rng: &mut fastrand::Rng) -> usize {
        let at = match self.columns.len() {
            0 | 1 => return 0,
            n => rng.usize(..n),
        };
        let Column { cut, alias } = self.columns[at];
        if cut == self.total || rng.u64(..self.total) < cut { at } else { alias as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Counted and not drawn: the shares are exact.
        #[test]
        fn of_all_places_each_weight_has_its_share(
            weights in prop::collection::vec(prop_oneof![1_u32..5, any::<u32>().prop_map(|w| w.max(1))], 1..40),
        ) {
            let alias = Alias::new(&weights);
            let mut places = vec![0_u128; weights.len()];
            for (at, column) in alias.columns.iter().enumerate() {
                prop_assert!(column.cut <= alias.total);
                places[at] += u128::from(column.cut);
                places[column.alias as usize] += u128::from(alias.total - column.cut);
            }
            for (places, weight) in places.iter().zip(&weights) {
                prop_assert_eq!(*places, u128::from(*weight) * weights.len() as u128);
            }
        }
    }
}
