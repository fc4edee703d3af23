//! The access log: one JSON object per request and line, under the names that the server span uses.
//!
//! Lines are rendered where the request ends and written by a thread of their own. Between them is a queue that is
//! bounded in lines and in bytes; when the target is slower than the traffic, lines are dropped and counted.

mod render;
mod writer;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::SpanContext;
use tracing::error;

use super::exchange::{Finished, Record};
use super::metrics::Metrics;
use super::stream::StreamRecord;
use writer::LineSender;
pub(super) use writer::LogWriter;

/// Where the access log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogTarget {
    #[default]
    Stdout,
    Stderr,
    Off,
    /// Appended to; created if it is not there.
    File(PathBuf),
}

/// The request path's side of the log.
#[derive(Debug)]
pub(super) struct AccessLog {
    lines: Option<LineSender>,
}

impl AccessLog {
    /// Starts the writing thread, unless the log is off or its file cannot be opened.
    pub(super) fn start(target: &LogTarget, metrics: &Arc<Metrics>) -> (Self, Option<LogWriter>) {
        let output: Box<dyn Write + Send> = match target {
            LogTarget::Off => return (Self { lines: None }, None),
            LogTarget::Stdout => Box::new(io::stdout()),
            LogTarget::Stderr => Box::new(io::stderr()),
            LogTarget::File(path) => match append_to(path) {
                Ok(file) => Box::new(file),
                Err(e) => {
                    error!(path = %path.display(), error = %e, "the access log cannot be opened and stays off");
                    return (Self { lines: None }, None);
                }
            },
        };
        Self::write_to(output, metrics)
    }

    fn write_to(output: Box<dyn Write + Send>, metrics: &Arc<Metrics>) -> (Self, Option<LogWriter>) {
        match writer::start(output, metrics) {
            Ok((lines, writer)) => (Self { lines: Some(lines) }, Some(writer)),
            Err(e) => {
                error!(error = %e, "the access log has no thread and stays off");
                (Self { lines: None }, None)
            }
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    pub(super) fn write(
        &self,
        record: &Record,
        finished: &Finished,
        duration: Duration,
        context: Option<&SpanContext>,
    ) {
        if let Some(lines) = &self.lines {
            lines.send(render::line(SystemTime::now(), record, finished, duration, context));
        }
    }
}

impl AccessLog {
    pub(super) fn write_stream(&self, stream: &StreamRecord, at: SystemTime, duration: Duration) {
        if let Some(lines) = &self.lines {
            lines.send(render::stream_line(at, stream, duration));
        }
    }
}

fn append_to(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    use crate::telemetry::metrics::Signal;

    /// A target that takes nothing until it is told to.
    struct Stuck(mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            // An error means that the test is over; then everything is taken.
            let _ = self.0.recv();
            Ok(buf.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_target_that_takes_nothing_costs_lines_and_bounded_memory() {
        let metrics = Arc::new(Metrics::new(10));
        let (unstick, stuck) = mpsc::channel();
        let (log, writer) = AccessLog::write_to(Box::new(Stuck(stuck)), &metrics);
        let lines = log.lines.unwrap();
        for _ in 0..3 * writer::MAX_LINES {
            lines.send(vec![b'x'; 100]);
        }
        assert!(lines.queued_bytes() <= writer::MAX_BYTES);
        assert!(metrics.dropped_so_far(Signal::AccessLog) >= u64::try_from(writer::MAX_LINES).unwrap());
        drop(unstick);
        writer.unwrap().flush(Duration::from_secs(60)).await;
        assert_eq!(lines.queued_bytes(), 0);
    }

    #[tokio::test]
    async fn long_lines_are_bounded_by_their_bytes() {
        let metrics = Arc::new(Metrics::new(10));
        let (_unstick, stuck) = mpsc::channel();
        let (log, _writer) = AccessLog::write_to(Box::new(Stuck(stuck)), &metrics);
        let lines = log.lines.unwrap();
        for _ in 0..40 {
            lines.send(vec![b'x'; 1 << 20]);
        }
        assert!(lines.queued_bytes() <= writer::MAX_BYTES);
        assert!(metrics.dropped_so_far(Signal::AccessLog) > 0);
    }

    #[test]
    fn a_file_that_cannot_be_opened_leaves_the_log_off() {
        let target = LogTarget::File(PathBuf::from("/dev/null/no/such/file"));
        let (log, writer) = AccessLog::start(&target, &Arc::new(Metrics::new(10)));
        assert!(log.lines.is_none() && writer.is_none());
    }
}
