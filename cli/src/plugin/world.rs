//! The world as plugins see it here: the machine's clocks, and a log that is kept for the answer.

use std::sync::{Arc, Mutex, PoisonError};

use tidegate_proxy::wasm::{Clock, Level, Line, Outside, StreamView, SystemClock, World};

#[derive(Debug)]
pub(super) struct Here {
    clock: Arc<SystemClock>,
    lines: Mutex<Vec<(Level, String)>>,
}

/// A request of nobody.
#[derive(Debug)]
pub(super) struct Nobody;

impl Here {
    pub(super) fn new() -> (Arc<Self>, World) {
        let here = Arc::new(Self { clock: SystemClock::shared(), lines: Mutex::default() });
        let world = World { outside: here.clone(), shared: Arc::default(), metrics: Arc::default() };
        (here, world)
    }

    /// What was logged since the last time.
    pub(super) fn lines(&self) -> Vec<(Level, String)> {
        std::mem::take(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Outside for Here {
    fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    fn log(&self, line: &Line<'_>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push((line.level, line.message.to_owned()));
    }

    fn log_level(&self) -> Level {
        Level::Trace
    }
}

impl StreamView for Nobody {
    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        match path {
            ["source", "address"] => Some(b"127.0.0.1:50000".to_vec()),
            ["request", "protocol"] => Some(b"HTTP/1.1".to_vec()),
            _ => None,
        }
    }
}
