//! How long a request is held up: always the same, anything between two bounds, or mostly short and sometimes long.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::crd::rules;
use crate::kind::CompileContext;
use crate::kinds::check;
use crate::objects::GepDuration;

const BOUNDS: (&str, &str) = ("1ms", "10m");

/// Exactly one of these.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [rules::exactly_one(&["fixed", "uniform", "exponential"])]))]
pub(super) struct DelaySpec {
    /// 1ms to 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fixed: Option<GepDuration>,
    /// Each length between the two as likely as any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uniform: Option<UniformSpec>,
    /// As the time until something happens that may happen at any moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exponential: Option<ExponentialSpec>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UniformSpec {
    /// 0s to 10m.
    min: GepDuration,
    /// 1ms to 10m, and more than `min`.
    max: GepDuration,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExponentialSpec {
    /// Before longer delays are cut at `max`. 1ms to 10m.
    mean: GepDuration,
    /// No delay is longer. 1ms to 10m, and no less than `mean`.
    max: GepDuration,
}

/// The same, valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delay {
    Fixed(Duration),
    Uniform { min: Duration, max: Duration },
    Exponential { mean: Duration, max: Duration },
}

impl DelaySpec {
    pub(super) fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Delay> {
        let mut duration = |field: &str, value, bounds| {
            let at = format!("{at}/{field}");
            check::duration_within(cx, &at, value, bounds)
        };
        let mut written = Vec::new();
        if let Some(fixed) = self.fixed {
            written.push(Delay::Fixed(duration("fixed", fixed, BOUNDS)));
        }
        if let Some(UniformSpec { min, max }) = self.uniform {
            let min = duration("uniform/min", min, ("0s", "10m"));
            written.push(Delay::Uniform { min, max: duration("uniform/max", max, BOUNDS) });
        }
        if let Some(ExponentialSpec { mean, max }) = self.exponential {
            let mean = duration("exponential/mean", mean, BOUNDS);
            written.push(Delay::Exponential { mean, max: duration("exponential/max", max, BOUNDS) });
        }
        match written[..] {
            [Delay::Uniform { min, max }] if min >= max => {
                cx.error(format!("{at}/uniform/max"), "must be more than `min`");
                None
            }
            [Delay::Exponential { mean, max }] if mean > max => {
                cx.error(format!("{at}/exponential/max"), "must be no less than `mean`");
                None
            }
            [delay] => Some(delay),
            _ => {
                cx.error(at, "write exactly one of `fixed`, `uniform` and `exponential`");
                None
            }
        }
    }
}

impl Delay {
    pub(super) fn draw(self, rng: &mut fastrand::Rng) -> Duration {
        match self {
            Self::Fixed(delay) => delay,
            Self::Uniform { min, max } => min + max.saturating_sub(min).mul_f64(rng.f64()),
            // `1 - u` is never 0, so its logarithm is finite.
            Self::Exponential { mean, max } => mean.mul_f64(-(1.0 - rng.f64()).ln()).min(max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// The mean of many draws, in milliseconds.
    fn mean(delay: Delay) -> f64 {
        let mut rng = fastrand::Rng::with_seed(3);
        let draws = 20_000_u32;
        let sum: Duration = (0..draws).map(|_| delay.draw(&mut rng)).sum();
        (sum / draws).as_secs_f64() * 1000.0
    }

    proptest! {
        #[test]
        fn no_delay_leaves_its_bounds(seed: u64, low in 0..1_000_u64, more in 1..1_000_u64) {
            let (mut rng, high) = (fastrand::Rng::with_seed(seed), low + more);
            for _ in 0..50 {
                let uniform = Delay::Uniform { min: ms(low), max: ms(high) }.draw(&mut rng);
                prop_assert!((ms(low)..=ms(high)).contains(&uniform));
                let exponential = Delay::Exponential { mean: ms(low.max(1)), max: ms(high) }.draw(&mut rng);
                prop_assert!(exponential <= ms(high));
            }
        }
    }

    #[test]
    fn delays_are_on_average_what_was_written() {
        assert_eq!(Delay::Fixed(ms(7)).draw(&mut fastrand::Rng::with_seed(1)), ms(7));
        let uniform = mean(Delay::Uniform { min: ms(100), max: ms(300) });
        assert!((195.0..205.0).contains(&uniform), "{uniform}");
        let exponential = mean(Delay::Exponential { mean: ms(100), max: ms(10_000) });
        assert!((95.0..105.0).contains(&exponential), "{exponential}");
    }
}
