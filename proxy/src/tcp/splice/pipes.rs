//! The pipes of this process: few, lent to a direction only while bytes are on their way through one.
//!
//! A pipe takes two file descriptors and room in the kernel that is shared by all processes of a user, so there is a
//! bound; whoever gets none copies.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::net::TcpStream;

/// The most that waits in one direction: by this much at a time, the two calls cost little beside the bytes.
pub(super) const CAPACITY: usize = 256 * 1024;
/// Of the whole process: 32 MiB, half of what Linux lets the pipes of a user take (`pipe-user-pages-soft`).
const MOST: usize = 128;
/// Empty ones that are kept, so that a burst need not make its own.
const KEPT: usize = 16;

/// See the module.
#[derive(Debug)]
pub(crate) struct Pipes {
    most: usize,
    lent: AtomicUsize,
    kept: Mutex<Vec<Pipe>>,
    /// The kernel, or what stands in for it, cannot do it.
    unusable: AtomicBool,
}

#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe on loan. It goes back when it is dropped, and is closed where bytes are left in it.
#[derive(Debug)]
pub(super) struct Lent<'p> {
    pipes: &'p Pipes,
    /// `None` only while it is dropped.
    pipe: Option<Pipe>,
    /// Bytes in it.
    held: usize,
}

/// What came of moving bytes without waiting.
#[derive(Debug)]
pub(super) enum Moved {
    Bytes(usize),
    /// The source has ended.
    Nothing,
    /// Not this way, and no byte was lost.
    Unable,
}

impl Pipes {
    /// No more than this at one time.
    pub(crate) const fn new(most: usize) -> Self {
        Self {
            most,
            lent: AtomicUsize::new(0),
            kept: Mutex::new(Vec::new()),
            unusable: AtomicBool::new(false),
        }
    }

    /// Those that all connections share.
    pub(crate) fn of_this_process() -> &'static Self {
        static PIPES: Pipes = Pipes::new(MOST);
        &PIPES
    }

    /// `None` where all are lent, or none can be had.
    pub(super) fn lend(&self) -> Option<Lent<'_>> {
        if self.unusable.load(Ordering::Relaxed) {
            return None;
        }
        let more = |lent: usize| (lent < self.most).then_some(lent + 1);
        self.lent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        // From here on its drop counts.
        let mut lent = Lent { pipes: self, pipe: self.kept.lock().pop(), held: 0 };
        if lent.pipe.is_none() {
            lent.pipe = Some(self.open()?);
        }
        Some(lent)
    }

    fn open(&self) -> Option<Pipe> {
        let opened = system::open();
        if let Err(error) = &opened {
            tracing::debug!(%error, "no pipe to be had; bytes are copied");
            if system::is_unable(error) {
                self.unusable.store(true, Ordering::Relaxed);
            }
        }
        opened.ok()
    }

    #[cfg(test)]
    pub(super) fn lent(&self) -> usize {
        self.lent.load(Ordering::Relaxed)
    }
}

impl Lent<'_> {
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes what `source` has, without waiting; only into an empty pipe, for a full one cannot be told from a source
    /// that has nothing.
    ///
    /// # Errors
    /// Of the source; `WouldBlock` where it has nothing.
    pub(super) fn fill(&mut self, source: &TcpStream) -> io::Result<Moved> {
        let Some(pipe) = self.pipe.as_ref().filter(|_| self.held == 0) else { return Ok(Moved::Unable) };
        match system::splice(source, &pipe.write, CAPACITY) {
            Ok(0) => Ok(Moved::Nothing),
            Ok(count) => {
                self.held = count;
                Ok(Moved::Bytes(count))
            }
            Err(error) => self.unable(error),
        }
    }

    /// Gives `sink` what it takes, without waiting.
    ///
    /// # Errors
    /// Of the sink; `WouldBlock` where it takes nothing.
    pub(super) fn drain(&mut self, sink: &TcpStream) -> io::Result<Moved> {
        let Some(pipe) = &self.pipe else { return Ok(Moved::Nothing) };
        match system::splice(&pipe.read, sink, self.held) {
            Ok(0) => Ok(Moved::Nothing),
            Ok(count) => {
                self.held = self.held.saturating_sub(count);
                Ok(Moved::Bytes(count))
            }
            Err(error) => self.unable(error),
        }
    }

    /// Reads back what is in it, for whoever has to send it in another way.
    ///
    /// # Errors
    /// Fewer bytes are there than were put in, which no kernel does.
    pub(super) fn take_back(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.held];
        let mut at = 0;
        while let (Some(pipe), Some(room @ [_, ..])) = (&self.pipe, bytes.get_mut(at..)) {
            match rustix::io::read(&pipe.read, room)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => at += count,
            }
        }
        self.held = 0;
        Ok(bytes)
    }

    fn unable(&self, error: io::Error) -> io::Result<Moved> {
        if !system::is_unable(&error) {
            return Err(error);
        }
        self.pipes.unusable.store(true, Ordering::Relaxed);
        tracing::debug!(%error, "bytes cannot be moved through pipes here; they are copied");
        Ok(Moved::Unable)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(pipe) = self.pipe.take().filter(|_| self.held == 0) {
            let mut kept = self.pipes.kept.lock();
            if kept.len() < KEPT {
                kept.push(pipe);
            }
        }
        self.pipes.lent.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::io;
    use std::os::fd::AsFd;

    use rustix::io::Errno;
    use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with};

    use super::{CAPACITY, Pipe};

    pub(super) fn open() -> io::Result<Pipe> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Fails where the user's pipes have all the room they may; one of the usual size will do.
        let _ = fcntl_setpipe_size(&write, CAPACITY);
        Ok(Pipe { read, write })
    }

    pub(super) fn splice(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
        loop {
            // Never `MORE`: the kernel would hold a last part of a segment back for what does not come.
            match rustix::pipe::splice(&from, None, &to, None, most, SpliceFlags::NONBLOCK) {
                Err(Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Not implemented, not for sockets, or not allowed (seccomp).
    pub(super) fn is_unable(error: &io::Error) -> bool {
        let unable = [Errno::INVAL, Errno::NOSYS, Errno::PERM, Errno::OPNOTSUPP];
        unable.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;

    use super::Pipe;

    pub(super) fn open() -> io::Result<Pipe> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn splice<F, T>(_: F, _: T, _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn is_unable(error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::Unsupported
    }
}
