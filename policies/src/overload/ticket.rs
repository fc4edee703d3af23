//! A turn that has not come yet.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use super::gate::Gate;
use super::queue::Kin;
use crate::time::Timestamp;

/// Done when its request may go on, or need not wait any longer. Whoever awaits it does so for no longer than
/// [`Ticket::patience`], then tells it so by [`Ticket::give_up`].
///
/// Two are equal if they are of one request.
#[derive(Clone, Debug)]
pub struct Ticket {
    pub(super) gate: Arc<Gate>,
    pub(super) seat: Arc<Seat>,
    pub(super) kin: Kin,
    pub(super) patience: Duration,
}

/// What a request and the queue share. It changes only under the lock of its gate.
#[derive(Debug, Default)]
pub(super) struct Seat(Mutex<Turn>);

#[derive(Debug)]
pub(super) enum Turn {
    Waits(Option<Waker>),
    /// It is in service, and since when it knows it.
    Come(Option<Timestamp>),
    /// It never comes.
    Lost,
}

impl Default for Turn {
    fn default() -> Self {
        Self::Waits(None)
    }
}

impl Ticket {
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// It has waited long enough. Nothing changes if its turn has come meanwhile.
    pub fn give_up(&self) {
        self.gate.give_up(self.kin, &self.seat);
    }

    /// Whether its turn has come; from `now` on, it is in service.
    pub fn begin(&self, now: Timestamp) -> bool {
        match &mut *self.seat.0.lock() {
            Turn::Come(since) => {
                since.get_or_insert(now);
                true
            }
            Turn::Waits(_) | Turn::Lost => false,
        }
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }
}

impl Future for Ticket {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self.seat.0.lock() {
            Turn::Waits(waker) => {
                match waker {
                    Some(known) => known.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            Turn::Come(_) | Turn::Lost => Poll::Ready(()),
        }
    }
}

impl PartialEq for Ticket {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.seat, &other.seat)
    }
}

impl Eq for Ticket {}

impl Seat {
    /// Whom to tell, without the lock of the gate.
    pub(super) fn turn_to(&self, turn: Turn) -> Option<Waker> {
        match std::mem::replace(&mut *self.0.lock(), turn) {
            Turn::Waits(waker) => waker,
            Turn::Come(_) | Turn::Lost => None,
        }
    }

    pub(super) fn waits(&self) -> bool {
        matches!(*self.0.lock(), Turn::Waits(_))
    }

    /// Whether it is in service.
    pub(super) fn has_come(&self) -> bool {
        matches!(*self.0.lock(), Turn::Come(_))
    }

    pub(super) fn since(&self) -> Option<Timestamp> {
        match *self.0.lock() {
            Turn::Come(since) => since,
            Turn::Waits(_) | Turn::Lost => None,
        }
    }
}
