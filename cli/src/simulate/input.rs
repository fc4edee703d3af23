//! Bytes of a log, line by line: of a file or of standard input, gzip or not, however long.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use flate2::bufread::MultiGzDecoder;
use tidegate_policy::simulate::log::LONGEST_LINE;

/// See the module.
pub(super) struct Input {
    reader: Box<dyn BufRead + Send>,
    /// Bytes of the file that were read, and of how many, where that is known.
    read: Arc<AtomicU64>,
    pub(super) size: Option<u64>,
}

/// One line, or what is there in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Line,
    /// Longer than any line of a log; passed over.
    TooLong,
    End,
}

struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

const BUFFER: usize = 1 << 17;
const GZIP: [u8; 2] = [0x1f, 0x8b];

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Input {
    pub(super) fn open(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Self::of(io::stdin(), None).context("cannot read standard input");
        }
        let cannot = || format!("cannot read {}", path.display());
        let file = File::open(path).with_context(cannot)?;
        let facts = file.metadata().with_context(cannot)?;
        let size = facts.is_file().then_some(facts.len());
        Self::of(file, size).with_context(cannot)
    }

    pub(super) fn of(bytes: impl Read + Send + 'static, size: Option<u64>) -> io::Result<Self> {
        let read = Arc::new(AtomicU64::new(0));
        let mut reader = BufReader::with_capacity(BUFFER, Counted { inner: bytes, read: read.clone() });
        let is_gzip = reader.fill_buf()?.starts_with(&GZIP);
        let reader: Box<dyn BufRead + Send> = match is_gzip {
            true => Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(reader))),
            false => Box::new(reader),
        };
        Ok(Self { reader, read, size })
    }

    /// Bytes of the file that were read.
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// The next line into `line`, without its end.
    pub(super) fn next(&mut self, line: &mut Vec<u8>) -> io::Result<Next> {
        line.clear();
        let mut length = 0;
        loop {
            let buffer = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                buffer => buffer?,
            };
            if buffer.is_empty() && length == 0 {
                return Ok(Next::End);
            }
            let end = memchr::memchr(b'\n', buffer);
            let part = &buffer[..end.unwrap_or(buffer.len())];
            line.extend_from_slice(&part[..part.len().min(LONGEST_LINE - line.len())]);
            length += part.len();
            let is_over = end.is_some() || buffer.is_empty();
            let count = part.len() + usize::from(end.is_some());
            self.reader.consume(count);
            if is_over {
                return Ok(if length > LONGEST_LINE { Next::TooLong } else { Next::Line });
            }
        }
    }
}
