//! Wakes at a time to the microsecond.
//!
//! A runtime's own timers tick in milliseconds, and a request that is sent half a millisecond late would show as
//! latency of whatever is measured.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

#[derive(Debug)]
pub(crate) struct Ticker(AsyncFd<OwnedFd>);

impl Ticker {
    #[expect(
        deprecated,
        reason = "its successor is unsafe; an OwnedFd that is never lent out meets what that asks"
    )]
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self(AsyncFd::new(timerfd_create(TimerfdClockId::Monotonic, flags)?)?))
    }

    /// Returns at `due`, or at once if that is over.
    pub(crate) async fn until(&self, due: Instant) -> io::Result<()> {
        let wait = due.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            // Whoever is late still lets the answers be read.
            tokio::task::yield_now().await;
            return Ok(());
        }
        let timer = Itimerspec { it_interval: spec(Duration::ZERO), it_value: spec(wait) };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &timer)?;
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(read) = ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut [0; 8])?)) {
                return read.map(drop);
            }
        }
    }
}

fn spec(wait: Duration) -> Timespec {
    Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec: wait.subsec_nanos().into() }
}
