//! What a load was answered, as one line of JSON.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::json;

/// Latencies beyond this count as this.
const HIGHEST: u64 = 60_000_000_000;

#[derive(Debug)]
pub(crate) struct Report {
    /// In nanoseconds.
    latency: Histogram<u64>,
    statuses: BTreeMap<u16, u64>,
    errors: u64,
    first_error: Option<String>,
}

impl Report {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let latency = Histogram::new_with_bounds(1, HIGHEST, 3)?;
        Ok(Self { latency, statuses: BTreeMap::new(), errors: 0, first_error: None })
    }

    /// One request: its status, or why there is none.
    pub(crate) fn record(&mut self, took: Duration, answer: Result<u16, impl std::fmt::Display>) {
        match answer {
            Ok(status) => {
                self.latency.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(HIGHEST));
                *self.statuses.entry(status).or_default() += 1;
            }
            Err(error) => self.fail(&error.to_string()),
        }
    }

    pub(crate) fn fail(&mut self, error: &str) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_owned());
    }

    /// Answered or failed.
    pub(crate) fn seen(&self) -> u64 {
        self.latency.len() + self.errors
    }

    #[cfg(test)]
    pub(crate) fn errors(&self) -> u64 {
        self.errors
    }

    /// The quickest answer there was.
    #[cfg(test)]
    pub(crate) fn least(&self) -> Duration {
        Duration::from_nanos(self.latency.min())
    }

    /// Latencies in microseconds.
    pub(crate) fn print(&self, elapsed: Duration) -> anyhow::Result<()> {
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let at = |quantile| micros(self.latency.value_at_quantile(quantile));
        let report = json!({
            "requests": self.latency.len(),
            "errors": self.errors,
            "first_error": self.first_error,
            "seconds": elapsed.as_secs_f64(),
            "rps": self.latency.len() as f64 / elapsed.as_secs_f64(),
            "p50": at(0.5),
            "p90": at(0.9),
            "p99": at(0.99),
            "p999": at(0.999),
            "max": micros(self.latency.max()),
            "statuses": self.statuses,
        });
        writeln!(std::io::stdout(), "{report}")?;
        Ok(())
    }
}
