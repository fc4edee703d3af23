//! One VM: an instance of a module, the plugin's root context and its streams. Calls into it are strictly one after another.

mod answers;
mod connections;
mod start;
mod streams;
mod work;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use wasmtime::Store;

use crate::abi::Callbacks;
use crate::engine::{TICK, thread_time};
use crate::error::Fault;
use crate::host::{Host, ROOT};

pub use work::Work;

/// A VM with its lock, held for one callback at a time.
pub type SharedVm = Arc<Mutex<Vm>>;

/// See the module.
pub struct Vm {
    store: Store<Host>,
    callbacks: Callbacks,
    /// Ids count up from the root's.
    last_id: u32,
    life: Life,
    /// Callbacks of it are told to the plugin's own.
    faults: Arc<dyn Fn(&Fault) + Send + Sync>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Life {
    Live,
    /// It gets no more streams and goes when the last has gone.
    Retired {
        root_asked: bool,
    },
    Dead(Fault),
    /// All was said to it that there was.
    Over,
}

impl Vm {
    fn alive(&self) -> Result<(), Fault> {
        match &self.life {
            Life::Live | Life::Retired { .. } => Ok(()),
            Life::Dead(fault) => Err(fault.clone()),
            Life::Over => Err(gone()),
        }
    }

    /// Calls one of its callbacks as `context`; `missing` if it has none, which costs nothing and counts as nothing.
    fn ask<F, R>(
        &mut self,
        context: u32,
        callback: fn(&Callbacks) -> &Option<F>,
        missing: R,
        call: impl FnOnce(&F, &mut Store<Host>) -> wasmtime::Result<R>,
    ) -> Result<R, Fault> {
        if callback(&self.callbacks).is_none() {
            return self.alive().map(|()| missing);
        }
        self.enter(context, self.budget(), |store, callbacks| match callback(callbacks) {
            Some(callback) => call(callback, store),
            None => Ok(missing),
        })
    }

    /// Calls into it as `context`, with `budget` of CPU time. Whatever goes wrong is its end.
    fn enter<R>(
        &mut self,
        context: u32,
        budget: Duration,
        call: impl FnOnce(&mut Store<Host>, &Callbacks) -> wasmtime::Result<R>,
    ) -> Result<R, Fault> {
        self.alive()?;
        let outside = self.store.data().world.outside.clone();
        let begun = outside.clock().monotonic();
        let host = self.store.data_mut();
        // Two system calls, so only where somebody is told. Fuel, which counts instructions, would slow down all of them.
        let measured = host.streams.get(&context).is_some_and(|stream| stream.exchange.is_measured());
        let cpu_begun = measured.then(thread_time);
        (host.effective, host.looked, host.budget) = (context, None, budget);
        // The first look is only to know what time it is on this thread.
        self.store.set_epoch_deadline(1);
        let outcome = call(&mut self.store, &self.callbacks);
        let host = self.store.data_mut();
        (host.effective, host.view) = (ROOT, None);
        let took = outside.clock().monotonic().saturating_sub(begun);
        host.stats.called(took);
        if let Some(stream) = host.streams.get_mut(&context) {
            stream.spent.callbacks += 1;
            stream.spent.time += took;
            if let Some(begun) = cpu_begun {
                *stream.spent.cpu.get_or_insert_default() += thread_time().saturating_sub(begun);
            }
        }
        outcome.map_err(|error| self.die(&error))
    }

    fn die(&mut self, error: &wasmtime::Error) -> Fault {
        let fault = Fault::of(error);
        self.life = Life::Dead(fault.clone());
        let host = self.store.data_mut();
        host.stats.fault(fault.kind);
        host.tick = None;
        host.calls.open.clear();
        host.calls.outbox.clear();
        host.wake_all();
        (self.faults)(&fault);
        fault
    }

    fn budget(&self) -> Duration {
        self.store.data().settings.budgets.callback
    }

    /// Why it is no more, if that was not in order.
    pub fn fault(&self) -> Option<&Fault> {
        match &self.life {
            Life::Dead(fault) => Some(fault),
            _ => None,
        }
    }

    /// Whether it takes streams.
    pub fn is_live(&self) -> bool {
        self.life == Life::Live
    }

    /// Linear memory, bytes.
    pub fn memory(&self) -> usize {
        self.store.data().limiter.memory
    }

    /// Streams that it has.
    pub fn streams(&self) -> usize {
        self.store.data().streams.len()
    }
}

/// Ends callbacks that take too long. By the CPU time of the thread, so that a machine that is busy elsewhere ends none.
fn watch(store: &mut Store<Host>) {
    store.epoch_deadline_callback(|mut cx| {
        let now = thread_time();
        let host = cx.data_mut();
        let since = *host.looked.get_or_insert(now);
        if now.saturating_sub(since) >= host.budget {
            return Ok(wasmtime::UpdateDeadline::Interrupt);
        }
        let left = host.budget.saturating_sub(now.saturating_sub(since));
        let ticks = left.as_nanos().div_ceil(TICK.as_nanos()).max(1);
        Ok(wasmtime::UpdateDeadline::Continue(u64::try_from(ticks).unwrap_or(1)))
    });
}

fn gone() -> Fault {
    Fault { kind: crate::error::FaultKind::Exit, told: String::from("the VM has ended") }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.store.data().stats.instance_ended();
    }
}

impl fmt::Debug for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vm")
            .field("life", &self.life)
            .field("streams", &self.streams())
            .finish_non_exhaustive()
    }
}
