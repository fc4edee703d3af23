//! How far it is, on a terminal only.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

pub(super) struct Progress {
    shown: bool,
    size: Option<u64>,
    begun: Instant,
    last: Instant,
    count: u64,
}

/// A clock is asked only so often.
const EVERY: u64 = 4096;
const PAUSE: Duration = Duration::from_millis(100);
const WIDTH: usize = 30;

impl Progress {
    /// `size`: of the file, where that is known.
    pub(super) fn new(size: Option<u64>) -> Self {
        let now = Instant::now();
        Self { shown: std::io::stderr().is_terminal(), size, begun: now, last: now, count: 0 }
    }

    pub(super) fn tell(&mut self, requests: u64, bytes: u64) {
        self.count += 1;
        if !self.shown || !self.count.is_multiple_of(EVERY) || self.last.elapsed() < PAUSE {
            return;
        }
        self.last = Instant::now();
        let line = line(requests, bytes, self.size, self.begun.elapsed());
        let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
    }
}

fn line(requests: u64, bytes: u64, size: Option<u64>, took: Duration) -> String {
    let rate = requests as f64 / took.as_secs_f64().max(1e-3);
    let bar = size.filter(|size| *size > 0).map(|size| {
        let share = (bytes as f64 / size as f64).clamp(0.0, 1.0);
        let full = (share * WIDTH as f64) as usize;
        format!("{}{} {:3.0} %  ", "█".repeat(full), "░".repeat(WIDTH - full), share * 100.0)
    });
    format!("{}{requests} requests, {rate:.0} a second", bar.unwrap_or_default())
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_the_file_is_read() {
        let of = |bytes, size| line(500, bytes, size, Duration::from_secs(2));
        let half = format!("{}{}  50 %  500 requests, 250 a second", "█".repeat(15), "░".repeat(15));
        assert_eq!(of(50, Some(100)), half);
        assert!(of(500, Some(100)).contains("100 %"));
        assert_eq!(of(5, None), "500 requests, 250 a second");
        assert_eq!(of(5, Some(0)), "500 requests, 250 a second");
    }
}
