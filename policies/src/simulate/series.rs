use std::time::Duration;

use crate::time::Timestamp;

/// Counts over time, in at most so many steps. As the time gets longer, steps get wider, each time by two.
#[derive(Clone, Debug)]
pub struct Series<const COLUMNS: usize> {
    start: Option<Timestamp>,
    /// Nanoseconds.
    step: u64,
    counts: Vec<[u64; COLUMNS]>,
}

/// More than a report is wide.
const STEPS: usize = 240;
const FIRST_STEP: u64 = 1_000_000_000;

impl<const COLUMNS: usize> Default for Series<COLUMNS> {
    fn default() -> Self {
        Self { start: None, step: FIRST_STEP, counts: Vec::new() }
    }
}

impl<const COLUMNS: usize> Series<COLUMNS> {
    /// One that begins then, whatever is counted first.
    pub fn starting(start: Timestamp) -> Self {
        Self { start: Some(start), ..Self::default() }
    }

    /// The counts of a moment. What lies before the first moment counts with it.
    pub fn at(&mut self, moment: Timestamp) -> &mut [u64; COLUMNS] {
        let start = *self.start.get_or_insert(moment);
        let since = moment.as_nanos().saturating_sub(start.as_nanos());
        let mut index = self.index(since);
        while index >= STEPS {
            self.widen();
            index = self.index(since);
        }
        if index >= self.counts.len() {
            self.counts.resize(index + 1, [0; COLUMNS]);
        }
        &mut self.counts[index]
    }

    fn index(&self, since: u64) -> usize {
        usize::try_from(since / self.step).unwrap_or(usize::MAX)
    }

    fn widen(&mut self) {
        self.step = self.step.saturating_mul(2);
        let sum = |pair: &[[u64; COLUMNS]]| {
            std::array::from_fn(|column| pair.iter().map(|counts| counts[column]).sum())
        };
        self.counts = self.counts.chunks(2).map(sum).collect();
    }

    pub fn step(&self) -> Duration {
        Duration::from_nanos(self.step)
    }

    pub fn start(&self) -> Timestamp {
        self.start.unwrap_or_default()
    }

    /// Each step from the first to the last that has something in it.
    pub fn counts(&self) -> &[[u64; COLUMNS]] {
        &self.counts
    }

    /// One column.
    pub fn column(&self, column: usize) -> impl Iterator<Item = u64> {
        self.counts.iter().map(move |counts| counts.get(column).copied().unwrap_or_default())
    }
}
