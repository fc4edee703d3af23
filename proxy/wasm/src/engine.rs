//! The compiler and its settings: one for all plugins of a process, and the clock that ends callbacks which do not.

use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use wasmtime::{Config, Engine, OptLevel};

/// How often callbacks are looked at; none is ended sooner than after one.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// Of the plugin's stack, on the thread that calls it.
const STACK: usize = 512 * 1024;

static ENGINE: LazyLock<Result<Engine, String>> =
    LazyLock::new(|| start().map_err(|error| format!("{error:#}")));

/// The engine of this process; made, and its clock started, by the first who asks.
///
/// # Errors
/// This machine cannot run one.
pub(crate) fn engine() -> Result<&'static Engine, &'static str> {
    ENGINE.as_ref().map_err(String::as_str)
}

fn start() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        .max_wasm_stack(STACK)
        .wasm_memory64(false)
        .wasm_multi_memory(false);
    let engine = Engine::new(&config)?;
    let ticking = engine.weak();
    let tick = move || {
        while let Some(engine) = ticking.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(TICK);
        }
    };
    thread::Builder::new().name(String::from("tidegate-epoch")).spawn(tick)?;
    Ok(engine)
}

/// CPU time of this thread so far.
pub(crate) fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A host's clocks, as arguments: what a plugin is told the time is, and by what its callbacks are measured.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Since the Unix epoch.
    fn wall(&self) -> Duration;
    /// Since some moment before.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock(std::time::Instant);

impl SystemClock {
    pub fn shared() -> Arc<Self> {
        Arc::new(Self(std::time::Instant::now()))
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> Duration {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}
