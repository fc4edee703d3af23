//! What a VM's hostcalls act on: the data of its store.
//!
//! Hostcalls never call back and never wait. What they want done outside is kept here until the callback has returned.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use rustc_hash::FxHashMap;
use wasmtime::{Memory, ResourceLimiter, TypedFunc};

use crate::abi::AbiVersion;
use crate::call::{CallOut, Open, View};
use crate::log::Rate;
use crate::mailbox::Mailbox;
use crate::metrics::Metrics;
use crate::outside::Outside;
use crate::settings::Settings;
use crate::shared::{Shared, Store};
use crate::stats::Stats;
use crate::stream::Stream;

/// The root context: there is one plugin in a VM.
pub(crate) const ROOT: u32 = 1;

/// What the VMs of a process have in common.
#[derive(Clone, Debug)]
pub struct World {
    pub outside: Arc<dyn Outside>,
    pub shared: Arc<Shared>,
    pub metrics: Arc<Metrics>,
}

/// See the module.
pub(crate) struct Host {
    pub(crate) settings: Arc<Settings>,
    pub(crate) world: World,
    pub(crate) stats: Arc<Stats>,
    pub(crate) store: Arc<Store>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) abi: AbiVersion,
    /// Hostcalls that it may use, a bit each.
    pub(crate) allowed: u64,
    pub(crate) memory: Option<Memory>,
    pub(crate) allocate: Option<TypedFunc<u32, u32>>,
    pub(crate) limiter: Limiter,
    pub(crate) stage: Stage,
    /// Whose state hostcalls act on.
    pub(crate) effective: u32,
    pub(crate) streams: FxHashMap<u32, Stream>,
    pub(crate) tick: Option<Tick>,
    /// The root context has said that it is not done yet, and is waited for.
    pub(crate) pending_done: bool,
    /// Valid while an answer is told.
    pub(crate) view: Option<View>,
    pub(crate) calls: Calls,
    pub(crate) log_rate: Rate,
    /// CPU time of this thread at the first look at a callback that takes long; and what it may cost.
    pub(crate) looked: Option<Duration>,
    pub(crate) budget: Duration,
    /// For what is copied into the plugin.
    pub(crate) scratch: Vec<u8>,
}

/// What a VM is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing is told it yet: no hostcalls but those that log.
    Initializing,
    VmStart,
    Configure,
    Running,
    /// `proxy_on_log`: heads can be read, and nothing changed any more.
    Logging,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Tick {
    pub(crate) every: Duration,
    pub(crate) next: Duration,
}

/// Side calls.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    last: u32,
    /// Those that are not over.
    pub(crate) open: FxHashMap<u32, Open>,
    pub(crate) outbox: Vec<CallOut>,
    pub(crate) cancelled: Vec<u32>,
}

impl Host {
    /// The stream that hostcalls act on, if it is one.
    pub(crate) fn stream(&mut self) -> Option<&mut Stream> {
        self.streams.get_mut(&self.effective)
    }

    pub(crate) fn stream_ref(&self) -> Option<&Stream> {
        self.streams.get(&self.effective)
    }

    /// Those who wait for streams of this VM look again.
    pub(crate) fn wake_all(&mut self) {
        self.streams.values_mut().filter_map(|stream| stream.waker.take()).for_each(Waker::wake);
        self.mailbox.wake();
    }
}

impl Calls {
    /// A number that no open call has.
    pub(crate) fn number(&mut self) -> u32 {
        loop {
            self.last = self.last.wrapping_add(1).max(1);
            if !self.open.contains_key(&self.last) {
                return self.last;
            }
        }
    }
}

/// Holds a VM to its memory.
#[derive(Debug)]
pub(crate) struct Limiter {
    pub(crate) limit: usize,
    pub(crate) memory: usize,
    pub(crate) stats: Arc<Stats>,
}

/// Elements of all tables: functions that are called by pointer.
const MAX_TABLE: usize = 100_000;

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = desired <= self.limit;
        if allowed {
            self.memory = desired;
            self.stats.grown(desired.saturating_sub(current));
        } else {
            self.stats.memory_refused();
        }
        Ok(allowed)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE)
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        4
    }

    fn memories(&self) -> usize {
        1
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.stats.shrunk(self.memory);
    }
}
