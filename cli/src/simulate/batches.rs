//! Requests in batches, from the thread that reads them to the one that replays them. Batches come back empty, so that their
//! requests' buffers are used again, and only so many are under way.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use tidegate_policy::simulate::Request;

/// Some requests, and how far the log had been read then.
#[derive(Debug, Default)]
pub(super) struct Batch {
    requests: Vec<Request>,
    filled: usize,
    pub(super) lines: u64,
    pub(super) bytes: u64,
}

/// Where requests go in.
pub(super) struct Inlet {
    batch: Batch,
    full: SyncSender<Batch>,
    empty: Receiver<Batch>,
}

/// Where they come out.
pub(super) struct Outlet {
    full: Receiver<Batch>,
    empty: Sender<Batch>,
}

/// Requests of a batch.
const SIZE: usize = 128;
/// Batches that wait to be replayed.
const WAITING: usize = 8;

pub(super) fn pipe() -> (Inlet, Outlet) {
    let (full, filled) = sync_channel(WAITING);
    let (empty, emptied) = channel();
    (Inlet { batch: Batch::default(), full, empty: emptied }, Outlet { full: filled, empty })
}

impl Batch {
    pub(super) fn requests(&mut self) -> &mut [Request] {
        &mut self.requests[..self.filled]
    }
}

impl Inlet {
    /// Takes a request out of `request`, and leaves an old one in it. `true`: the batch is full.
    pub(super) fn push(&mut self, request: &mut Request) -> bool {
        if self.batch.filled == self.batch.requests.len() {
            self.batch.requests.push(Request::default());
        }
        std::mem::swap(&mut self.batch.requests[self.batch.filled], request);
        self.batch.filled += 1;
        self.batch.filled == SIZE
    }

    /// Hands over what there is; `lines` and `bytes` were read so far. `false`: nobody takes it any more.
    pub(super) fn send(&mut self, lines: u64, bytes: u64) -> bool {
        let next = Batch { filled: 0, ..self.empty.try_recv().unwrap_or_default() };
        let batch = std::mem::replace(&mut self.batch, next);
        self.full.send(Batch { lines, bytes, ..batch }).is_ok()
    }
}

impl Outlet {
    /// The next one. `None`: there are no more.
    pub(super) fn next(&self) -> Option<Batch> {
        self.full.recv().ok()
    }

    /// Takes back one whose requests were replayed.
    pub(super) fn give_back(&self, batch: Batch) {
        // Whoever reads may have come to the end.
        let _ = self.empty.send(batch);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tidegate_policy::Timestamp;

    use super::*;

    #[test]
    fn requests_come_out_in_order_and_none_is_lost() {
        let count = (SIZE * (WAITING + 3) + 7) as u64;
        let (mut inlet, outlet) = pipe();
        let reading = thread::spawn(move || {
            for n in 0..count {
                let mut request = Request { at: Timestamp::from_millis(n), ..Request::default() };
                assert!(!inlet.push(&mut request) || inlet.send(n + 1, 2 * n));
            }
            inlet.send(count, 2 * count)
        });
        let (mut got, mut told) = (Vec::new(), 0);
        while let Some(mut batch) = outlet.next() {
            assert!(batch.lines > told && batch.requests().len() <= SIZE);
            told = batch.lines;
            got.extend(batch.requests().iter().map(|request| request.at));
            outlet.give_back(batch);
        }
        assert!(reading.join().unwrap());
        assert_eq!(got, (0..count).map(Timestamp::from_millis).collect::<Vec<_>>());
    }

    #[test]
    fn whoever_reads_learns_that_nobody_takes_any_more() {
        let (mut inlet, outlet) = pipe();
        drop(outlet);
        inlet.push(&mut Request::default());
        assert!(!inlet.send(1, 1));
    }
}
