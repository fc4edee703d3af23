//! One plugin of a policy: its code and settings, a VM for each thread that needs one, and how it has behaved.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::code::Code;
use crate::error::{Fault, StartError};
use crate::host::World;
use crate::offences::Offences;
use crate::settings::Settings;
use crate::stats::{Counts, Stats};
use crate::vm::{SharedVm, Vm};

/// See the module. A change of code or settings makes another one; VMs of the old one go with their last streams.
pub struct Plugin {
    code: Code,
    settings: Arc<Settings>,
    world: World,
    stats: Arc<Stats>,
    shards: Box<[Mutex<Option<SharedVm>>]>,
    record: Arc<Mutex<Record>>,
}

#[derive(Debug)]
struct Record {
    offences: Offences,
    last: Option<String>,
    retired: bool,
}

/// Why there is no VM for a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("in quarantine for its offences, the last: {0}")]
    Quarantined(String),
    #[error("{0}")]
    NotStarting(StartError),
    #[error("another version has taken its place")]
    Retired,
}

/// How a plugin stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Until when it is left out (of [`Clock::monotonic`](crate::Clock::monotonic)).
    pub quarantined_until: Option<Duration>,
    /// How often it was.
    pub quarantines: u64,
    /// What went wrong last.
    pub last: Option<String>,
}

/// A VM to be used, and whether it is new: then somebody must do its [work](Vm::work).
#[derive(Debug)]
pub struct Seat {
    pub vm: SharedVm,
    pub is_new: bool,
}

thread_local! {
    static THREAD: Cell<Option<usize>> = const { Cell::new(None) };
}
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Of the thread that asks; those that ask first have the lowest.
fn thread_number() -> usize {
    THREAD.with(|thread| {
        let number = thread.get().unwrap_or_else(|| THREADS.fetch_add(1, Ordering::Relaxed));
        thread.set(Some(number));
        number
    })
}

impl Plugin {
    /// Tries the plugin on a VM that is thrown away, so that one which does not start is never in anybody's way.
    /// `threads` is how many will use it.
    ///
    /// # Errors
    /// It does not start.
    pub fn new(code: Code, settings: Settings, world: World, threads: usize) -> Result<Self, StartError> {
        let shards = (0..threads.max(1)).map(|_| Mutex::new(None)).collect();
        let offences = Offences::new(settings.offences);
        let record = Record { offences, last: None, retired: false };
        let plugin = Self {
            code,
            settings: Arc::new(settings),
            world,
            stats: Arc::default(),
            shards,
            record: Arc::new(Mutex::new(record)),
        };
        let mut canary = Vm::start(
            &plugin.code,
            &plugin.settings,
            &plugin.world,
            &plugin.stats,
            Arc::new(|_: &Fault| {}),
        )?;
        canary.end();
        Ok(plugin)
    }

    /// The VM of this thread; made anew if there is none, or it has ended or grown too large.
    ///
    /// # Errors
    /// There is none now.
    pub fn seat(&self) -> Result<Seat, Unavailable> {
        let shard = &self.shards[thread_number() % self.shards.len()];
        let mut shard = shard.lock();
        {
            let record = self.record.lock();
            let left_out = record.offences.until(self.world.outside.clock().monotonic()).is_some();
            if left_out || record.retired {
                let last = record.last.clone().unwrap_or_default();
                let retired = record.retired;
                drop(record);
                retire(shard.take());
                return Err(if retired { Unavailable::Retired } else { Unavailable::Quarantined(last) });
            }
        }
        if let Some(vm) = &*shard {
            let mut own = vm.lock();
            let grown = own.memory() > self.settings.budgets.soft_memory;
            if own.is_live() && !grown {
                drop(own);
                return Ok(Seat { vm: vm.clone(), is_new: false });
            }
            if own.is_live() {
                self.stats.recycled();
                own.retire();
            }
        }
        *shard = None;
        let vm = self.start().map_err(Unavailable::NotStarting)?;
        *shard = Some(vm.clone());
        Ok(Seat { vm, is_new: true })
    }

    fn start(&self) -> Result<SharedVm, StartError> {
        let (record, outside) = (self.record.clone(), self.world.outside.clone());
        let name = self.settings.name.clone();
        let offend = move |told: String| {
            let mut record = record.lock();
            let put_away = record.offences.add(outside.clock().monotonic());
            if let Some(length) = put_away {
                tracing::error!(plugin = %name, ?length, last = told, "plugin in quarantine: it failed too often");
            } else {
                tracing::warn!(plugin = %name, fault = told, "plugin failed; it gets a new VM");
            }
            record.last = Some(told);
        };
        let offend = Arc::new(offend);
        let on_fault = offend.clone();
        let faults = Arc::new(move |fault: &Fault| on_fault(fault.to_string()));
        let started = Vm::start(&self.code, &self.settings, &self.world, &self.stats, faults);
        match started {
            Ok(vm) => Ok(Arc::new(Mutex::new(vm))),
            Err(error) => {
                // A trap has been told already.
                if matches!(error, StartError::Refused(_)) {
                    offend(error.to_string());
                }
                Err(error)
            }
        }
    }

    /// Its VMs get no more streams, and go.
    pub fn retire(&self) {
        self.record.lock().retired = true;
        self.shards.iter().for_each(|shard| retire(shard.lock().take()));
    }

    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    pub fn code(&self) -> &Code {
        &self.code
    }

    pub fn counts(&self) -> Counts {
        self.stats.counts()
    }

    pub fn standing(&self) -> Standing {
        let record = self.record.lock();
        let now = self.world.outside.clock().monotonic();
        Standing {
            quarantined_until: record.offences.until(now),
            quarantines: record.offences.count(),
            last: record.last.clone(),
        }
    }
}

fn retire(vm: Option<SharedVm>) {
    if let Some(vm) = vm {
        vm.lock().retire();
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.retire();
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.settings.name)
            .field("code", &self.code)
            .finish_non_exhaustive()
    }
}
