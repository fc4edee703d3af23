//! What came of side calls, told to the root context.

use bytes::Bytes;
use http::HeaderMap;

use super::Vm;
use crate::abi::{Callbacks, Three};
use crate::call::{Answer, GrpcAnswer, Open, View};
use crate::error::Fault;
use crate::host::{Host, ROOT};
use crate::map::Map;
use wasmtime::Store;

/// A code of gRPC's.
const INTERNAL: u32 = 13;

impl Vm {
    /// An HTTP call has been answered; `None`: it failed or came too late. An answer that nobody waits for is dropped.
    ///
    /// # Errors
    /// That was the VM's end.
    pub fn answered(&mut self, call: u32, answer: Option<Answer>) -> Result<(), Fault> {
        if !matches!(self.store.data().calls.open.get(&call), Some(Open::Http)) {
            return Ok(());
        }
        self.store.data_mut().calls.open.remove(&call);
        let sizes = answer.as_ref().map_or((0, 0, 0), |answer| {
            // With its pseudo-header.
            (answer.head.headers.len() + 1, answer.body.len(), answer.trailers.len())
        });
        let view = answer.map_or_else(View::default, |answer| View {
            status: (answer.head.status.as_u16().into(), String::new()),
            headers: Some(Map::Response(answer.head)),
            body: Some(answer.body),
            trailers: Some(Map::Fields(answer.trailers)),
            grpc: false,
        });
        let sizes = (number(sizes.0), number(sizes.1), number(sizes.2));
        self.tell(view, |store, callbacks| match &callbacks.http_call_response {
            Some(told) => told.call(store, (ROOT, call, sizes.0, sizes.1, sizes.2)),
            None => Ok(()),
        })
    }

    /// The same of a gRPC call. As in Envoy, a plugin is told of one thing only: of the message, if the call went well, else
    /// of the status. A message with a status that says no is none: whoever asked for leave would take it for one.
    ///
    /// # Errors
    /// That was the VM's end.
    pub fn grpc_answered(&mut self, call: u32, answer: GrpcAnswer) -> Result<(), Fault> {
        match answer {
            GrpcAnswer { status: 0, message: Some(message), .. } => {
                let told = self.grpc_received(call, message);
                self.store.data_mut().calls.open.remove(&call);
                told
            }
            GrpcAnswer { status: 0, .. } => self.grpc_closed(call, (INTERNAL, String::from("no message"))),
            GrpcAnswer { status, status_message, .. } => self.grpc_closed(call, (status, status_message)),
        }
    }

    /// The head of an answer by gRPC.
    ///
    /// # Errors
    /// That was the VM's end.
    pub fn grpc_initial(&mut self, call: u32, metadata: HeaderMap) -> Result<(), Fault> {
        let entries = number(metadata.len());
        let view = View { headers: Some(Map::Fields(metadata)), ..View::default() };
        self.tell_grpc(call, view, |all| &all.grpc_initial, entries)
    }

    /// A message, without its frame.
    ///
    /// # Errors
    /// That was the VM's end.
    pub fn grpc_received(&mut self, call: u32, message: Bytes) -> Result<(), Fault> {
        let size = number(message.len());
        let view = View { body: Some(message), ..View::default() };
        self.tell_grpc(call, view, |all| &all.grpc_receive, size)
    }

    /// # Errors
    /// That was the VM's end.
    pub fn grpc_trailing(&mut self, call: u32, trailers: HeaderMap) -> Result<(), Fault> {
        let entries = number(trailers.len());
        let view = View { trailers: Some(Map::Fields(trailers)), ..View::default() };
        self.tell_grpc(call, view, |all| &all.grpc_trailing, entries)
    }

    /// It is over, with a code of gRPC's and what is said of it.
    ///
    /// # Errors
    /// That was the VM's end.
    pub fn grpc_closed(&mut self, call: u32, status: (u32, String)) -> Result<(), Fault> {
        if !self.awaits_grpc(call) {
            return Ok(());
        }
        let code = status.0;
        // Told while it is open: afterwards it would be one that nobody knows.
        let told = self.tell_grpc(call, View { status, ..View::default() }, |all| &all.grpc_close, code);
        self.store.data_mut().calls.open.remove(&call);
        told
    }

    fn tell_grpc(
        &mut self,
        call: u32,
        view: View,
        callback: fn(&Callbacks) -> &Option<Three>,
        value: u32,
    ) -> Result<(), Fault> {
        if !self.awaits_grpc(call) {
            return Ok(());
        }
        self.tell(View { grpc: true, ..view }, |store, callbacks| match callback(callbacks) {
            Some(callback) => callback.call(store, (ROOT, call, value)),
            None => Ok(()),
        })
    }

    /// It may have been cancelled in the callback before.
    fn awaits_grpc(&self, call: u32) -> bool {
        matches!(self.store.data().calls.open.get(&call), Some(Open::Grpc | Open::Stream(_)))
    }

    fn tell(
        &mut self,
        view: View,
        call: impl FnOnce(&mut Store<Host>, &Callbacks) -> wasmtime::Result<()>,
    ) -> Result<(), Fault> {
        self.store.data_mut().view = Some(view);
        self.enter(ROOT, self.budget(), call)
    }
}

fn number(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
