//! What happens to streams, told in the order of the specification; heads are lent to the plugin and taken back.

use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use http::HeaderMap;

use super::{Life, Vm};
use crate::abi::OfBytes;
use crate::error::Fault;
use crate::host::{ROOT, Stage};
use crate::map::{Map, RequestHead, ResponseHead};
use crate::outside::Exchange;
use crate::stream::{Direction, Kind, LocalResponse, Logged, Spent, Step, Stream};

const PAUSE: u32 = 1;

impl Vm {
    /// A new stream; the plugin is told.
    ///
    /// # Errors
    /// That was the VM's end.
    pub fn open(&mut self, exchange: Arc<Exchange>) -> Result<u32, Fault> {
        self.open_as(exchange, Kind::Exchange)
    }

    pub(super) fn open_as(&mut self, exchange: Arc<Exchange>, kind: Kind) -> Result<u32, Fault> {
        let id = self.new_id();
        let host = self.store.data_mut();
        host.streams.insert(id, Stream::new(exchange, kind));
        host.stats.stream();
        self.ask(id, |all| &all.context_create, (), |create, store| create.call(store, (id, ROOT)))?;
        Ok(id)
    }

    fn new_id(&mut self) -> u32 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if self.last_id > ROOT && !self.store.data().streams.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    /// # Errors
    /// As [`Vm::open`].
    pub fn request_headers(&mut self, id: u32, head: RequestHead, eos: bool) -> Result<Step, Fault> {
        self.headers(id, Direction::Request, Map::Request(head), eos)
    }

    /// # Errors
    /// As [`Vm::open`].
    pub fn response_headers(&mut self, id: u32, head: ResponseHead, eos: bool) -> Result<Step, Fault> {
        self.headers(id, Direction::Response, Map::Response(head), eos)
    }

    fn headers(&mut self, id: u32, direction: Direction, map: Map, eos: bool) -> Result<Step, Fault> {
        let (index, count) = (direction.index(), number(map.len()));
        let new = self.callbacks.headers[index].clone();
        let old = self.callbacks.old_headers[index].clone();
        self.begin(id, direction, |stream| stream.sides[index].headers = Some(map));
        if new.is_none() && old.is_none() {
            return Ok(self.decided(id, direction, 0));
        }
        let action = self.enter(id, self.budget(), |store, _| match (new, old) {
            (Some(callback), _) => callback.call(store, (id, count, u32::from(eos))),
            (None, Some(callback)) => callback.call(store, (id, count)),
            (None, None) => Ok(0),
        })?;
        Ok(self.decided(id, direction, action))
    }

    /// More of a body; what the plugin holds back is kept, up to its budget.
    ///
    /// # Errors
    /// As [`Vm::open`].
    pub fn body(&mut self, id: u32, direction: Direction, chunk: Bytes, eos: bool) -> Result<Step, Fault> {
        self.bytes(id, (direction, |all| &all.body), chunk, eos)
    }

    /// Told by one of the two forms of bytes that there are.
    pub(super) fn bytes(
        &mut self,
        id: u32,
        (direction, callbacks): (Direction, OfBytes),
        chunk: Bytes,
        eos: bool,
    ) -> Result<Step, Fault> {
        let index = direction.index();
        let limit = self.store.data().settings.budgets.buffer;
        let Some(stream) = self.store.data_mut().streams.get_mut(&id) else { return Ok(Step::Close) };
        let side = &mut stream.sides[index];
        if side.body.len() + chunk.len() > limit && side.body.len() > 0 {
            return Ok(Step::TooLarge);
        }
        side.body.append(chunk);
        side.in_body = true;
        let size = number(side.body.len());
        let Some(callback) = callbacks(&self.callbacks)[index].clone() else {
            return Ok(self.decided(id, direction, 0));
        };
        self.begin(id, direction, |_| {});
        let action =
            self.enter(id, self.budget(), |store, _| callback.call(store, (id, size, u32::from(eos))))?;
        let step = self.decided(id, direction, action);
        let held = self.store.data().streams.get(&id).map_or(0, |stream| stream.sides[index].body.len());
        // Whole, it may still be too large to be kept for later.
        Ok(if step == Step::Pause && held > limit { Step::TooLarge } else { step })
    }

    /// # Errors
    /// As [`Vm::open`].
    pub fn trailers(&mut self, id: u32, direction: Direction, trailers: HeaderMap) -> Result<Step, Fault> {
        let (index, count) = (direction.index(), number(trailers.len()));
        self.begin(id, direction, |stream| stream.sides[index].trailers = Some(Map::Fields(trailers)));
        let Some(callback) = self.callbacks.trailers[index].clone() else {
            return Ok(self.decided(id, direction, 0));
        };
        let action = self.enter(id, self.budget(), |store, _| callback.call(store, (id, count)))?;
        Ok(self.decided(id, direction, action))
    }

    /// Until the callback says otherwise, it is paused: so one that goes on from within is noticed.
    pub(super) fn begin(&mut self, id: u32, direction: Direction, fill: impl FnOnce(&mut Stream)) {
        if let Some(stream) = self.store.data_mut().streams.get_mut(&id) {
            stream.side(direction).paused = true;
            fill(stream);
        }
    }

    /// Everything but 0 is a pause, whatever its number.
    pub(super) fn decided(&mut self, id: u32, direction: Direction, action: u32) -> Step {
        let Some(stream) = self.store.data_mut().streams.get_mut(&id) else { return Step::Close };
        if action < PAUSE {
            stream.side(direction).paused = false;
        }
        stream.step(direction)
    }

    /// For who waits: what is to be done now. As long as that is to wait, `waker` is woken when it changes.
    ///
    /// # Errors
    /// The VM has ended.
    pub fn poll(&mut self, id: u32, direction: Direction, waker: &Waker) -> Result<Step, Fault> {
        match &self.life {
            Life::Dead(fault) => return Err(fault.clone()),
            Life::Over => return Err(super::gone()),
            Life::Live | Life::Retired { .. } => {}
        }
        let Some(stream) = self.store.data_mut().streams.get_mut(&id) else { return Ok(Step::Close) };
        let step = stream.step(direction);
        if step == Step::Pause {
            stream.waker.get_or_insert_with(|| waker.clone()).clone_from(waker);
        }
        Ok(step)
    }

    /// Takes back the head, when the plugin has said to go on.
    pub fn take_request(&mut self, id: u32) -> Option<RequestHead> {
        match self.take_headers(id, Direction::Request)? {
            Map::Request(head) => Some(head),
            Map::Response(_) | Map::Fields(_) => None,
        }
    }

    /// As [`Vm::take_request`]; from then on, there is no other answer.
    pub fn take_response(&mut self, id: u32) -> Option<ResponseHead> {
        self.store.data_mut().streams.get_mut(&id)?.answered = true;
        match self.take_headers(id, Direction::Response)? {
            Map::Response(head) => Some(head),
            Map::Request(_) | Map::Fields(_) => None,
        }
    }

    fn take_headers(&mut self, id: u32, direction: Direction) -> Option<Map> {
        self.store.data_mut().streams.get_mut(&id)?.side(direction).headers.take()
    }

    /// What may go on of a body, and whether the plugin changed it.
    pub fn take_body(&mut self, id: u32, direction: Direction) -> (Bytes, bool) {
        let Some(stream) = self.store.data_mut().streams.get_mut(&id) else { return Default::default() };
        let side = stream.side(direction);
        side.in_body = false;
        side.body.take()
    }

    pub fn take_trailers(&mut self, id: u32, direction: Direction) -> Option<HeaderMap> {
        match self.store.data_mut().streams.get_mut(&id)?.side(direction).trailers.take()? {
            Map::Fields(fields) => Some(fields),
            Map::Request(_) | Map::Response(_) => None,
        }
    }

    /// The plugin's own answer, once. What is told of the answer from then on changes nothing of that.
    pub fn local_response(&mut self, id: u32) -> Option<LocalResponse> {
        let stream = self.store.data_mut().streams.get_mut(&id)?;
        let local = stream.local.take()?;
        stream.sides[Direction::Response.index()].paused = false;
        stream.spent.answered = true;
        Some(local)
    }

    /// Whether the plugin has a word on bodies in `direction`, or on trailers.
    pub fn reads(&self, direction: Direction) -> bool {
        let index = direction.index();
        self.callbacks.body[index].is_some() || self.callbacks.trailers[index].is_some()
    }

    /// Whether it wants to be told of requests that are over.
    pub fn logs(&self) -> bool {
        self.callbacks.log.is_some()
    }

    /// The exchange is over, however it ended: log, done, delete; of a connection done, log, delete, for that is the order in
    /// which Envoy tells them of each. Its side calls go on, for they are the root context's.
    pub fn close(&mut self, id: u32, logged: Logged) -> Spent {
        let host = self.store.data_mut();
        let Some(stream) = host.streams.get_mut(&id) else { return Spent::default() };
        (stream.logged, stream.waker, stream.answered) = (logged, None, true);
        for side in &mut stream.sides {
            *side = Default::default();
        }
        // Of each only whether it came to an end matters, and that `enter` has noted.
        let told = match stream.kind {
            Kind::Exchange => self.tell_log(id).and_then(|()| self.tell_done(id)),
            Kind::Connection => self.tell_done(id).and_then(|()| self.tell_log(id)),
        };
        let told =
            told.and_then(|()| self.ask(id, |all| &all.delete, (), |delete, store| delete.call(store, id)));
        if let Err(fault) = told {
            tracing::debug!(%fault, "a plugin ended while it was told of what is over");
        }
        let host = self.store.data_mut();
        let ended = host.streams.remove(&id);
        let spent =
            ended.map(|stream| Spent { answered: stream.spent.answered || stream.closed, ..stream.spent });
        let spent = spent.unwrap_or_default();
        if matches!(self.life, Life::Retired { .. }) {
            self.store.data().mailbox.wake();
        }
        Spent { failed: matches!(self.life, Life::Dead(_)), ..spent }
    }

    fn tell_log(&mut self, id: u32) -> Result<(), Fault> {
        self.store.data_mut().stage = Stage::Logging;
        let told = self.ask(id, |all| &all.log, (), |log, store| log.call(store, id));
        self.store.data_mut().stage = Stage::Running;
        told
    }

    fn tell_done(&mut self, id: u32) -> Result<(), Fault> {
        self.ask(id, |all| &all.done, 1, |done, store| done.call(store, id)).map(drop)
    }
}

fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
