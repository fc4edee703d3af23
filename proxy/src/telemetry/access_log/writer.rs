//! The thread that writes the lines, and the bounded queue to it.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::telemetry::metrics::{Metrics, Signal};

/// Lines that may wait.
pub(super) const MAX_LINES: usize = 8_192;
/// Bytes that may wait, in all lines together.
pub(super) const MAX_BYTES: usize = 8 << 20;

/// How long lines are gathered before they are written together.
const GATHER: Duration = Duration::from_millis(5);

enum Message {
    Line(Vec<u8>),
    Flush(oneshot::Sender<()>),
}

#[derive(Debug)]
pub(super) struct LineSender {
    queue: mpsc::Sender<Message>,
    bytes: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

/// The way to the thread, kept by the guard for the last flush.
#[derive(Debug)]
pub(in crate::telemetry) struct LogWriter {
    queue: mpsc::Sender<Message>,
}

struct Writing {
    output: BufWriter<Box<dyn Write + Send>>,
    bytes: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    failing: bool,
}

/// # Errors
/// The thread cannot be started.
pub(super) fn start(
    output: Box<dyn Write + Send>,
    metrics: &Arc<Metrics>,
) -> io::Result<(LineSender, LogWriter)> {
    let (queue, messages) = mpsc::channel(MAX_LINES);
    let bytes = Arc::new(AtomicUsize::new(0));
    let output = BufWriter::with_capacity(64 << 10, output);
    let writing = Writing { output, bytes: bytes.clone(), metrics: metrics.clone(), failing: false };
    thread::Builder::new().name(String::from("access-log")).spawn(move || writing.run(messages))?;
    let sender = LineSender { queue: queue.clone(), bytes, metrics: metrics.clone() };
    Ok((sender, LogWriter { queue }))
}

impl LineSender {
    /// Queues a line, or drops and counts it. Never waits.
    pub(super) fn send(&self, line: Vec<u8>) {
        let size = line.len();
        let queued = self.bytes.fetch_add(size, Ordering::Relaxed);
        if queued + size > MAX_BYTES || self.queue.try_send(Message::Line(line)).is_err() {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
            self.metrics.dropped(Signal::AccessLog, 1);
        }
    }

    #[cfg(test)]
    pub(super) fn queued_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl LogWriter {
    /// Writes what is queued; gives up after `bound`, for a target may never take it.
    pub(in crate::telemetry) async fn flush(self, bound: Duration) {
        let (done, flushed) = oneshot::channel();
        let flush = async {
            if self.queue.send(Message::Flush(done)).await.is_ok() {
                // An error means that the thread is gone, and nothing can be flushed.
                let _ = flushed.await;
            }
        };
        if timeout(bound, flush).await.is_err() {
            warn!("the access log's target did not take the last lines in time; they are lost");
        }
    }
}

impl Writing {
    fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        while let Some(first) = messages.blocking_recv() {
            // To be woken for each line would cost more than to write it.
            if matches!(first, Message::Line(_)) {
                thread::sleep(GATHER);
            }
            self.take(first);
            while let Ok(next) = messages.try_recv() {
                self.take(next);
            }
            let flushed = self.output.flush();
            self.note(flushed, 0);
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Line(line) => {
                let written = self.output.write_all(&line);
                self.bytes.fetch_sub(line.len(), Ordering::Relaxed);
                self.note(written, 1);
            }
            Message::Flush(done) => {
                let flushed = self.output.flush();
                self.note(flushed, 0);
                // Nobody waits any more once the bound has passed.
                let _ = done.send(());
            }
        }
    }

    fn note(&mut self, result: io::Result<()>, lines: u64) {
        let was_failing = std::mem::replace(&mut self.failing, result.is_err());
        match result {
            Err(e) => {
                self.metrics.dropped(Signal::AccessLog, lines);
                if !was_failing {
                    warn!(error = %e, "the access log cannot be written; lines are dropped");
                }
            }
            Ok(()) if was_failing => info!("the access log is written again"),
            Ok(()) => {}
        }
    }
}
