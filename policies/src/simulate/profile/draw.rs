//! Numbers by chance, of the distributions that a profile names.

use std::time::Duration;

/// Above 0, so that it has a logarithm.
fn unit(rng: &mut fastrand::Rng) -> f64 {
    1.0 - rng.f64()
}

/// Of this mean.
pub(super) fn exponential(mean: f64, rng: &mut fastrand::Rng) -> f64 {
    -mean * unit(rng).ln()
}

/// Of mean 0 and deviation 1 (Box and Muller, 1958).
pub(super) fn normal(rng: &mut fastrand::Rng) -> f64 {
    (-2.0 * unit(rng).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
}

/// Never longer than a day, whatever was drawn.
pub(super) fn duration(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0))
}

/// Ranks by Zipf's law, by rejection-inversion (Hörmann and Derflinger, 1996): no table, however many there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Zipf {
    count: f64,
    exponent: f64,
    /// The integral up to one half before the first, and up to one half behind the last.
    low: f64,
    high: f64,
    /// Below this, whatever is drawn is taken.
    sure: f64,
}

impl Zipf {
    pub(super) fn new(count: u32, exponent: f64) -> Self {
        let mut zipf = Self { count: f64::from(count), exponent, low: 0.0, high: 0.0, sure: 0.0 };
        zipf.low = zipf.integral(1.5) - 1.0;
        zipf.high = zipf.integral(zipf.count + 0.5);
        zipf.sure = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.weight(2.0));
        zipf
    }

    /// From 1 to the count.
    pub(super) fn draw(&self, rng: &mut fastrand::Rng) -> u32 {
        loop {
            let drawn = self.high + rng.f64() * (self.low - self.high);
            let at = self.inverse(drawn);
            let rank = (at + 0.5).floor().clamp(1.0, self.count);
            if rank - at <= self.sure || drawn >= self.integral(rank + 0.5) - self.weight(rank) {
                return rank as u32;
            }
        }
    }

    fn weight(&self, at: f64) -> f64 {
        (-self.exponent * at.ln()).exp()
    }

    fn integral(&self, at: f64) -> f64 {
        let log = at.ln();
        grown((1.0 - self.exponent) * log) * log
    }

    fn inverse(&self, sum: f64) -> f64 {
        let part = (sum * (1.0 - self.exponent)).max(-1.0);
        (logged(part) * sum).exp()
    }
}

/// `(e^x - 1) / x`, at 0 too.
fn grown(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.exp_m1() / x } else { 1.0 + x / 2.0 }
}

/// `ln(1 + x) / x`, at 0 too.
fn logged(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.ln_1p() / x } else { 1.0 - x / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_come_as_often_as_the_law_says() {
        for exponent in [0.0, 0.7, 1.0, 1.5] {
            let (zipf, mut rng) = (Zipf::new(50, exponent), fastrand::Rng::with_seed(3));
            let mut counts = [0_u32; 51];
            (0..200_000).for_each(|_| counts[zipf.draw(&mut rng) as usize] += 1);
            let weights: f64 = (1..=50).map(|rank| f64::from(rank).powf(-exponent)).sum();
            for rank in [1, 2, 10, 50_u32] {
                let wanted = 200_000.0 * f64::from(rank).powf(-exponent) / weights;
                let got = f64::from(counts[rank as usize]);
                assert!(
                    (got - wanted).abs() < 5.0 * wanted.sqrt() + 5.0,
                    "{exponent} {rank}: {got}, {wanted}"
                );
            }
            assert_eq!(counts[0], 0);
        }
    }

    #[test]
    fn draws_have_the_mean_and_deviation_that_they_should() {
        let mut rng = fastrand::Rng::with_seed(5);
        let n = 100_000;
        let mean = (0..n).map(|_| exponential(2.0, &mut rng)).sum::<f64>() / f64::from(n);
        let square = (0..n).map(|_| normal(&mut rng).powi(2)).sum::<f64>() / f64::from(n);
        assert!((mean - 2.0).abs() < 0.05 && (square - 1.0).abs() < 0.05, "{mean} {square}");
        assert_eq!(duration(f64::INFINITY), Duration::from_secs(86_400));
        assert_eq!(duration(-1.0), Duration::ZERO);
    }
}
