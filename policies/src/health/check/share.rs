//! When so few endpoints are healthy that health is ignored: those few would not bear all calls, and a check that fails
//! everywhere says more of the check than of the endpoints. Those that breakers have ejected would not bear them either, so
//! they are not counted among the few. (Envoy, "Panic threshold".)

/// How the endpoints of a backend stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub healthy: u32,
    /// Of the healthy, those that no breaker has ejected.
    pub available: u32,
    /// Those that take calls at all.
    pub all: u32,
    /// Of these, those of which nothing is known yet, and which are not used before.
    pub waiting: u32,
}

/// Whether `healthy` of `known` is less than `percent`; never of none.
pub fn is_panic(healthy: u32, known: u32, percent: u8) -> bool {
    known > 0 && u64::from(healthy) * 100 < u64::from(known) * u64::from(percent)
}

impl Standing {
    /// Whether health is to be ignored. Endpoints that wait for their first check have not failed.
    pub fn is_panic(self, percent: u8) -> bool {
        is_panic(self.available, self.all.saturating_sub(self.waiting), percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn health_is_ignored_below_the_written_share_and_not_at_it() {
        assert!(!is_panic(1, 2, 50));
        assert!(is_panic(1, 3, 50));
        assert!(is_panic(0, 1, 1));
        assert!(!is_panic(0, 1, 0), "0 switches it off");
        assert!(is_panic(2, 3, 100) && !is_panic(3, 3, 100));
    }

    #[test]
    fn what_has_not_been_checked_yet_has_not_failed() {
        let start = Standing { healthy: 0, available: 0, all: 3, waiting: 3 };
        assert!(!start.is_panic(50));
        assert!(Standing { waiting: 2, ..start }.is_panic(50));
        assert!(Standing { healthy: 3, available: 1, all: 3, waiting: 0 }.is_panic(50), "two are ejected");
    }

    proptest! {
        #[test]
        fn it_is_ignored_exactly_below_the_share(healthy in 0_u32..1000, failing in 0_u32..1000, percent in 0_u8..=100) {
            let known = healthy + failing;
            let share = if known == 0 { 100.0 } else { f64::from(healthy) * 100.0 / f64::from(known) };
            prop_assert_eq!(is_panic(healthy, known, percent), share < f64::from(percent));
        }
    }
}
