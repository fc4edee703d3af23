//! What a VM has to do beside requests: ticks, queues, side calls to be sent, and its end.

use std::task::Waker;
use std::time::Duration;

use super::{Life, Vm};
use crate::call::CallOut;
use crate::host::ROOT;

/// What its driver is to do.
#[derive(Debug)]
pub enum Work {
    /// Send these, and break off those; then ask again.
    Calls { send: Vec<CallOut>, cancel: Vec<u32> },
    /// Ask again when woken, or at this time (of [`Clock::monotonic`](crate::Clock::monotonic)).
    Wait(Option<Duration>),
    /// Nothing more.
    Over,
}

impl Vm {
    /// Does what is due, and says what the driver is to do. `waker` is woken when there is more.
    pub fn work(&mut self, now: Duration, waker: &Waker) -> Work {
        self.store.data().mailbox.driven_by(waker);
        if let Life::Retired { root_asked } = self.life {
            self.leave(root_asked);
        }
        if matches!(self.life, Life::Dead(_) | Life::Over) {
            return Work::Over;
        }
        self.tick(now);
        for queue in self.store.data().mailbox.take_ready() {
            // Of failures `enter` takes care.
            let _ =
                self.ask(ROOT, |all| &all.queue_ready, (), |ready, store| ready.call(store, (ROOT, queue)));
        }
        if matches!(self.life, Life::Dead(_) | Life::Over) {
            return Work::Over;
        }
        let more_post = self.store.data().mailbox.has_post();
        let host = self.store.data_mut();
        let calls = &mut host.calls;
        if !calls.outbox.is_empty() || !calls.cancelled.is_empty() || more_post {
            // What its own callbacks brought; the driver asks again at once.
            let (send, cancel) = (std::mem::take(&mut calls.outbox), std::mem::take(&mut calls.cancelled));
            return Work::Calls { send, cancel };
        }
        // The callbacks above may have woken and so used up the waker.
        host.mailbox.driven_by(waker);
        Work::Wait(host.tick.map(|tick| tick.next))
    }

    /// What was missed is not made up for.
    fn tick(&mut self, now: Duration) {
        let Some(tick) = &mut self.store.data_mut().tick else { return };
        if tick.next > now {
            return;
        }
        tick.next = now + tick.every;
        let _ = self.ask(ROOT, |all| &all.tick, (), |tick, store| tick.call(store, ROOT));
    }

    /// It gets no more streams, and goes when the last one has gone.
    pub fn retire(&mut self) {
        if self.life == Life::Live {
            self.life = Life::Retired { root_asked: false };
            self.store.data().mailbox.wake();
        }
    }

    /// Nobody waits for it any longer.
    pub fn end(&mut self) {
        if matches!(self.life, Life::Live | Life::Retired { .. }) {
            self.forget();
        }
        self.store.data_mut().wake_all();
    }

    /// Retired: without streams, the root context is asked whether it is done; if it is not, it says so later.
    fn leave(&mut self, root_asked: bool) {
        if self.streams() > 0 {
            return;
        }
        if root_asked {
            if !self.store.data().pending_done {
                self.forget();
            }
            return;
        }
        self.life = Life::Retired { root_asked: true };
        self.store.data_mut().pending_done = true;
        let done = self.ask(ROOT, |all| &all.done, 1, |done, store| done.call(store, ROOT));
        if done.is_ok_and(|done| done != 0 || !self.store.data().pending_done) {
            self.forget();
        }
    }

    /// The last thing that a plugin is told.
    fn forget(&mut self) {
        self.store.data_mut().pending_done = false;
        let told = self.ask(ROOT, |all| &all.delete, (), |delete, store| delete.call(store, ROOT));
        if told.is_ok() {
            self.life = Life::Over;
        }
        let host = self.store.data_mut();
        host.calls.open.clear();
        host.calls.outbox.clear();
        host.wake_all();
    }
}
