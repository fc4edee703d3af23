//! One direction of a connection on its way through one plugin.

use std::task::{Context, ready};

use bytes::Bytes;
use tidegate_policy::plugin::Carried;
use tidegate_wasm::{Direction, Fault, Step};

use super::{Chain, Polled, Stop};

/// See the module.
#[derive(Debug)]
pub(super) struct Lane {
    /// The plugin has a word on it.
    carries: bool,
    /// Has passed the plugin, and is to be taken.
    passed: Option<Bytes>,
    /// It holds back, and is waited for.
    paused: bool,
    /// It was told of the end.
    told_end: bool,
}

impl Lane {
    pub(super) fn new(carries: bool) -> Self {
        Self { carries, passed: None, paused: false, told_end: false }
    }
}

impl Chain {
    /// What comes of the first `upto` plugins of a direction.
    pub(super) fn poll_upto(
        &mut self,
        upto: usize,
        direction: Direction,
        cx: &mut Context<'_>,
        source: &mut dyn FnMut(&mut Context<'_>) -> Polled,
    ) -> Polled {
        let Some(before) = upto.checked_sub(1) else { return source(cx) };
        let index = match direction {
            Direction::Request => before,
            Direction::Response => self.links.len() - upto,
        };
        let side = direction.index();
        loop {
            let (out, shadow) = (self.links[index].out, self.links[index].wanted.shadow);
            let lane = &mut self.links[index].lanes[side];
            if let Some(passed) = lane.passed.take() {
                return Polled::Ready(Ok(Some(passed)));
            }
            if out && lane.paused {
                // What it still held when it was left out.
                self.release(index, direction);
                continue;
            }
            if lane.told_end && !lane.paused {
                return Polled::Ready(Ok(None));
            }
            if lane.paused {
                let step = {
                    let link = &self.links[index];
                    link.vm.lock().poll(link.id, direction, cx.waker())
                };
                match step {
                    Ok(Step::Pause) if self.links[index].lanes[side].told_end => return Polled::Pending,
                    Ok(Step::Pause) => {}
                    step => {
                        self.settle(index, direction, &step).map_err(Stop::Cut)?;
                        continue;
                    }
                }
            }
            let next = ready!(self.poll_upto(before, direction, cx, source))?;
            if shadow {
                self.show_copy(index, direction, next.as_ref());
                self.links[index].lanes[side].told_end |= next.is_none();
                return Polled::Ready(Ok(next));
            }
            self.tell(index, direction, next).map_err(Stop::Cut)?;
        }
    }

    /// Tells a plugin what has come; nothing is the end.
    fn tell(&mut self, index: usize, direction: Direction, next: Option<Bytes>) -> Result<(), super::Cut> {
        let link = &mut self.links[index];
        let lane = &mut link.lanes[direction.index()];
        lane.told_end |= next.is_none();
        if link.out || !lane.carries {
            lane.passed = next;
            if !link.out && lane.told_end && direction == Direction::Response {
                self.upstream_ended(index);
            }
            return Ok(());
        }
        let (ended, data) = (next.is_none(), next.unwrap_or_default());
        let step = link.vm.lock().data(link.id, direction, data, ended);
        self.settle(index, direction, &step)
    }

    /// Does what a plugin wants done now.
    fn settle(
        &mut self,
        index: usize,
        direction: Direction,
        step: &Result<Step, Fault>,
    ) -> Result<(), super::Cut> {
        let lane = &mut self.links[index].lanes[direction.index()];
        lane.paused = matches!(step, Ok(Step::Pause));
        let word = match step {
            Ok(Step::Pause) => None,
            Ok(Step::Go) => {
                self.release(index, direction);
                None
            }
            Ok(Step::Close) => Some(Carried::Closed),
            Ok(Step::TooLarge) => Some(Carried::TooLarge),
            Ok(Step::Respond) | Err(_) => Some(Carried::Failed),
        };
        // As Envoy tells it: with the end of what the backend sends, whatever the plugin makes of that.
        if direction == Direction::Response && self.links[index].lanes[1].told_end {
            self.upstream_ended(index);
        }
        if let Some(word) = word {
            self.ends(index, word)?;
            self.release(index, direction);
        }
        Ok(())
    }

    /// What a plugin has had may go on.
    fn release(&mut self, index: usize, direction: Direction) {
        let link = &mut self.links[index];
        let (data, _) = link.vm.lock().take_body(link.id, direction);
        let lane = &mut link.lanes[direction.index()];
        lane.paused = false;
        if !data.is_empty() {
            lane.passed = Some(data);
        }
    }

    /// Tells a plugin in Shadow. What it says is only written down, and what it would do about bytes is not done.
    fn show_copy(&mut self, index: usize, direction: Direction, next: Option<&Bytes>) {
        let link = &mut self.links[index];
        if link.out || !link.lanes[direction.index()].carries {
            return;
        }
        let copy = next.cloned().unwrap_or_default();
        let mut vm = link.vm.lock();
        let step = vm.data(link.id, direction, copy, next.is_none());
        if !matches!(step, Ok(Step::Pause)) {
            vm.take_body(link.id, direction);
        }
        drop(vm);
        let word = match step {
            Ok(Step::Go | Step::Pause) => return,
            Ok(Step::Close) => Carried::Closed,
            Ok(Step::TooLarge) => Carried::TooLarge,
            Ok(Step::Respond) | Err(_) => Carried::Failed,
        };
        // In Shadow nobody is cut off.
        let _ = self.ends(index, word);
    }
}
