//! A response body that a policy holds back: no faster than so many bytes per second, in small pieces, so that a client sees
//! it drip. What waits is one frame of the backend; the next is not asked for before this one is out.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep_until};

/// Pieces in a second, unless they would be larger than [`LARGEST`].
const PIECES: u32 = 10;
const LARGEST: u32 = 16 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: NonZeroU32,
    /// Of the last frame, what is not out yet.
    rest: Bytes,
    /// Until the next piece may go.
    timer: Pin<Box<Sleep>>,
}

impl Pace {
    pub(super) fn new(bytes_per_second: NonZeroU32) -> Self {
        Self { bytes_per_second, rest: Bytes::new(), timer: Box::pin(sleep_until(Instant::now())) }
    }

    /// The next piece of what is held back, or nothing if there is none; pending until it is time.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        ready!(self.timer.as_mut().poll(cx));
        Poll::Ready((!self.rest.is_empty()).then(|| self.piece()))
    }

    /// A frame of the backend, at the time for it: its first piece. Trailers pass.
    pub(super) fn first(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match frame.into_data() {
            Ok(data) => {
                self.rest = data;
                Frame::data(self.piece())
            }
            Err(trailers) => trailers,
        }
    }

    pub(super) fn holds(&self) -> usize {
        self.rest.len()
    }

    fn piece(&mut self) -> Bytes {
        let rate = self.bytes_per_second.get();
        let most = (rate / PIECES).clamp(1, LARGEST) as usize;
        let piece = self.rest.split_to(most.min(self.rest.len()));
        let takes = Duration::from_secs_f64(piece.len() as f64 / f64::from(rate));
        // From when it was due, so that a late poll costs no speed; but what was not sent long ago is not made up for.
        let due = self.timer.deadline().max(Instant::now() - Duration::from_secs(1) / PIECES);
        self.timer.as_mut().reset(due + takes);
        piece
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    /// All of `frames`, with the time at which each piece went.
    async fn paced(rate: u32, frames: &[usize]) -> Vec<(Duration, usize)> {
        let begun = Instant::now();
        let (mut pace, mut out) = (Pace::new(NonZeroU32::new(rate).unwrap()), Vec::new());
        for length in frames {
            assert_eq!(poll_fn(|cx| pace.poll(cx)).await, None);
            let first = pace.first(Frame::data(Bytes::from(vec![7; *length])));
            out.push((begun.elapsed(), first.into_data().unwrap().len()));
            while pace.holds() > 0 {
                let piece = poll_fn(|cx| pace.poll(cx)).await.unwrap();
                out.push((begun.elapsed(), piece.len()));
            }
        }
        out
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_takes_as_long_as_its_bytes_and_comes_in_small_pieces() {
        let out = paced(1000, &[250, 1, 749, 1000]).await;
        assert_eq!(out.iter().map(|(_, length)| length).sum::<usize>(), 2000);
        assert!(out.iter().all(|(_, length)| *length <= 100), "{out:?}");
        let mut sent = 0;
        for (at, length) in &out {
            // What is out at any time is what the time allows, and one piece.
            sent += length;
            assert!(sent as f64 <= at.as_secs_f64() * 1000.0 + 101.0, "{out:?}");
        }
        let last = out.last().unwrap().0.as_secs_f64();
        assert!((1.85..2.05).contains(&last), "{last}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_is_slower_than_the_pace_gains_no_burst() {
        let mut pace = Pace::new(NonZeroU32::new(100).unwrap());
        pace.first(Frame::data(Bytes::from_static(b"0123456789")));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(poll_fn(|cx| pace.poll(cx)).await, None);
        let begun = Instant::now();
        pace.first(Frame::data(Bytes::from(vec![0; 100])));
        while pace.holds() > 0 {
            poll_fn(|cx| pace.poll(cx)).await;
        }
        assert!(begun.elapsed() > Duration::from_millis(750), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_pace_is_one_byte_at_a_time() {
        let out = paced(1, &[3]).await;
        let seconds: Vec<_> = out.iter().map(|(at, length)| (at.as_secs(), *length)).collect();
        assert_eq!(seconds, [(0, 1), (1, 1), (2, 1)]);
    }
}
