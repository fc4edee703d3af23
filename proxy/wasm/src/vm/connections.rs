//! What happens to connections that are carried as a whole, told as the specification says: each is a context of its own, and
//! its bytes are lent to the plugin as those of bodies are.
//!
//! Source: <https://github.com/proxy-wasm/spec/blob/main/abi-versions/v0.2.1/README.md>, "Network filters".

use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;

use super::Vm;
use crate::error::Fault;
use crate::outside::Exchange;
use crate::stream::{ClosedBy, Direction, Kind, Step};

impl Vm {
    /// A new connection; the plugin is told that there will be a context for it. It ends with [`Vm::close`].
    ///
    /// # Errors
    /// That was the VM's end.
    pub fn open_connection(&mut self, exchange: Arc<Exchange>) -> Result<u32, Fault> {
        self.open_as(exchange, Kind::Connection)
    }

    /// Asks whether it may begin. As long as the plugin pauses, nothing of it is to be read and nobody to be called for it:
    /// [`Vm::poll`] of [`Direction::Request`] says when.
    ///
    /// # Errors
    /// As [`Vm::open_connection`].
    pub fn new_connection(&mut self, id: u32) -> Result<Step, Fault> {
        self.begin(id, Direction::Request, |_| {});
        let action = self.ask(id, |all| &all.new_connection, 0, |new, store| new.call(store, id))?;
        Ok(self.decided(id, Direction::Request, action))
    }

    /// More bytes, which may be none; `eos`: there will be no more that way. What the plugin holds back is kept, up to its
    /// budget, and told again with the next ones; what may go on is had by [`Vm::take_body`].
    ///
    /// # Errors
    /// As [`Vm::open_connection`].
    pub fn data(&mut self, id: u32, direction: Direction, chunk: Bytes, eos: bool) -> Result<Step, Fault> {
        self.bytes(id, (direction, |all| &all.data), chunk, eos)
    }

    /// Whether the plugin has a word on bytes that way.
    pub fn carries(&self, direction: Direction) -> bool {
        self.callbacks.data[direction.index()].is_some()
    }

    /// Whether the plugin wants it closed. `waker` is woken when it does, or when it goes on with what it holds back.
    ///
    /// # Errors
    /// The VM has ended.
    pub fn watch(&mut self, id: u32, waker: &Waker) -> Result<bool, Fault> {
        self.alive()?;
        let Some(stream) = self.store.data_mut().streams.get_mut(&id) else { return Ok(true) };
        stream.waker.get_or_insert_with(|| waker.clone()).clone_from(waker);
        Ok(stream.closed)
    }

    /// One side is closed: that of the client ([`Direction::Request`]) or that of the backend. To be told once each.
    ///
    /// # Errors
    /// As [`Vm::open_connection`].
    pub fn connection_closed(&mut self, id: u32, side: Direction, by: ClosedBy) -> Result<(), Fault> {
        let of_side: fn(&crate::abi::Callbacks) -> &Option<_> = match side {
            Direction::Request => |all| &all.connection_close[0],
            Direction::Response => |all| &all.connection_close[1],
        };
        self.ask(id, of_side, (), |closed, store| closed.call(store, (id, by as u32)))
    }
}
