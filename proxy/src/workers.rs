//! The threads that move traffic: each has a runtime of its own, and what is begun there stays there.
//!
//! A connection, its requests, the connections upstream that they use and all their timers live on one thread: no task
//! moves, no wake-up crosses threads, and the scheduler needs no locks between them. What work-stealing would even out is
//! evened out when a connection is accepted: it goes to the thread that has the fewest. bench/README.md has both measured.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::Context as _;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Threads for name resolution, which the operating system only offers as a call that blocks.
pub(crate) const RESOLVER_THREADS: usize = 8;

/// Ends the threads, and drops what they carry, when it is dropped.
#[derive(Debug)]
pub(crate) struct WorkerThreads {
    workers: Workers,
    _stop: DropGuard,
}

/// Where to put work.
#[derive(Clone, Debug)]
pub(crate) struct Workers(Arc<[Worker]>);

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// Connections that it serves.
    connections: Arc<AtomicUsize>,
}

/// A connection's place on a thread; counts as long as it is held.
#[derive(Debug)]
pub(crate) struct Seat {
    connections: Arc<AtomicUsize>,
}

impl WorkerThreads {
    /// # Errors
    /// A thread or its runtime cannot be started.
    pub(crate) fn start(count: usize) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let workers = (0..count).map(|number| start(number, stop.clone()));
        let workers = workers.collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self { workers: Workers(workers.into()), _stop: stop.drop_guard() })
    }

    pub(crate) fn workers(&self) -> &Workers {
        &self.workers
    }
}

impl Workers {
    /// The first one, for what there is only one of.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn first(&self) -> anyhow::Result<Handle> {
        Ok(self.0.first().context("no thread moves traffic")?.runtime.clone())
    }

    /// All of them, for what each has one of.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Handle> {
        self.0.iter().map(|worker| &worker.runtime)
    }

    /// The thread that has the fewest connections, the first of several.
    pub(crate) fn seat(&self) -> Option<(&Handle, Seat)> {
        let open = |worker: &&Worker| worker.connections.load(Ordering::Relaxed);
        let worker = match &*self.0 {
            [only] => only,
            several => several.iter().min_by_key(open)?,
        };
        worker.connections.fetch_add(1, Ordering::Relaxed);
        Some((&worker.runtime, Seat { connections: worker.connections.clone() }))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

fn start(number: usize, stop: CancellationToken) -> anyhow::Result<Worker> {
    let failed = "cannot start the threads that move traffic";
    let runtime = runtime().context(failed)?;
    let handle = runtime.handle().clone();
    let name = format!("tidegate-data-{number}");
    thread::Builder::new()
        .name(name)
        .spawn(move || {
            runtime.block_on(stop.cancelled());
            // Who is being resolved is of no interest any more.
            runtime.shutdown_background();
        })
        .context(failed)?;
    Ok(Worker { runtime: handle, connections: Arc::default() })
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().max_blocking_threads(RESOLVER_THREADS).enable_all().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_go_where_the_fewest_are() {
        let threads = WorkerThreads::start(3).unwrap();
        let seat = || threads.workers().seat().map(|(runtime, seat)| (runtime.id(), seat)).unwrap();
        let ((first, _a), (second, b), (third, _c)) = (seat(), seat(), seat());
        assert!(first != second && second != third && third != first);
        drop(b);
        assert_eq!(seat().0, second);
    }

    #[test]
    fn what_a_thread_carries_is_dropped_with_it() {
        let threads = WorkerThreads::start(1).unwrap();
        let (held, dropped) = std::sync::mpsc::channel::<()>();
        threads.workers().first().unwrap().spawn(async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        drop(threads);
        assert!(dropped.recv().is_err());
    }
}
