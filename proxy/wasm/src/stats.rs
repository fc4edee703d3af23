//! What is counted of one plugin, over all its VMs.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::error::FaultKind;

/// See the module.
#[derive(Debug, Default)]
pub struct Stats {
    callbacks: AtomicU64,
    nanoseconds: AtomicU64,
    streams: AtomicU64,
    traps: AtomicU64,
    overruns: AtomicU64,
    started: AtomicU64,
    instances: AtomicU64,
    memory: AtomicU64,
    memory_refused: AtomicU64,
    recycled: AtomicU64,
    calls: AtomicU64,
    lines_dropped: AtomicU64,
}

/// How they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub callbacks: u64,
    /// Spent in callbacks.
    pub time: Duration,
    pub streams: u64,
    /// VMs that trapped, or ended themselves.
    pub traps: u64,
    /// VMs that ran for longer than their budget.
    pub overruns: u64,
    /// VMs that were started.
    pub started: u64,
    /// VMs that are there.
    pub instances: u64,
    /// Linear memory of those, bytes.
    pub memory: u64,
    /// Times that a VM wanted more than its budget.
    pub memory_refused: u64,
    /// VMs that were replaced because they had grown.
    pub recycled: u64,
    /// Side calls.
    pub calls: u64,
    /// Lines of log over the rate.
    pub lines_dropped: u64,
}

impl Stats {
    pub fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        Counts {
            callbacks: get(&self.callbacks),
            time: Duration::from_nanos(get(&self.nanoseconds)),
            streams: get(&self.streams),
            traps: get(&self.traps),
            overruns: get(&self.overruns),
            started: get(&self.started),
            instances: get(&self.instances),
            memory: get(&self.memory),
            memory_refused: get(&self.memory_refused),
            recycled: get(&self.recycled),
            calls: get(&self.calls),
            lines_dropped: get(&self.lines_dropped),
        }
    }

    pub(crate) fn called(&self, took: Duration) {
        self.callbacks.fetch_add(1, Relaxed);
        self.nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn stream(&self) {
        self.streams.fetch_add(1, Relaxed);
    }

    pub(crate) fn fault(&self, kind: FaultKind) {
        match kind {
            FaultKind::Overrun => self.overruns.fetch_add(1, Relaxed),
            FaultKind::Trap | FaultKind::Exit => self.traps.fetch_add(1, Relaxed),
        };
    }

    pub(crate) fn instance_started(&self) {
        self.started.fetch_add(1, Relaxed);
        self.instances.fetch_add(1, Relaxed);
    }

    pub(crate) fn instance_ended(&self) {
        self.instances.fetch_sub(1, Relaxed);
    }

    pub(crate) fn grown(&self, bytes: usize) {
        self.memory.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn shrunk(&self, bytes: usize) {
        self.memory.fetch_sub(bytes as u64, Relaxed);
    }

    pub(crate) fn memory_refused(&self) {
        self.memory_refused.fetch_add(1, Relaxed);
    }

    pub(crate) fn recycled(&self) {
        self.recycled.fetch_add(1, Relaxed);
    }

    pub(crate) fn call(&self) {
        self.calls.fetch_add(1, Relaxed);
    }

    pub(crate) fn line_dropped(&self) {
        self.lines_dropped.fetch_add(1, Relaxed);
    }
}
