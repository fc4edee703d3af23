//! What came of side calls, told to the root context.

use super::Vm;
use crate::abi::Callbacks;
use crate::call::{Answer, GrpcAnswer, View};
use crate::error::Fault;
use crate::host::{Host, ROOT};
use crate::map::Map;
use wasmtime::Store;

impl Vm {
    /// An HTTP call has been answered; `None`: it failed or came too late. An answer that nobody waits for is dropped.
    ///
    /// # Errors
    /// That was the VM's end.
    pub fn answered(&mut self, call: u32, answer: Option<Answer>) -> Result<(), Fault> {
        if self.store.data_mut().calls.open.remove(&call) != Some(false) {
            return Ok(());
        }
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
        let number = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        let sizes = (number(sizes.0), number(sizes.1), number(sizes.2));
        self.tell(view, |store, callbacks| match &callbacks.http_call_response {
            Some(told) => told.call(store, (ROOT, call, sizes.0, sizes.1, sizes.2)),
            None => Ok(()),
        })
    }

    /// The same of a gRPC call: metadata, message, trailers and status, each in a callback of its own.
    ///
    /// # Errors
    /// That was the VM's end.
    pub fn grpc_answered(&mut self, call: u32, answer: GrpcAnswer) -> Result<(), Fault> {
        if !self.awaits_grpc(call) {
            return Ok(());
        }
        let number = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        let status = (answer.status, answer.status_message);
        let view = |status: &(u32, String)| View { grpc: true, status: status.clone(), ..View::default() };
        let entries = number(answer.metadata.len());
        let told = View { headers: Some(Map::Fields(answer.metadata)), ..view(&status) };
        self.tell(told, |store, callbacks| match &callbacks.grpc_initial {
            Some(callback) => callback.call(store, (ROOT, call, entries)),
            None => Ok(()),
        })?;
        if let Some(message) = answer.message.filter(|_| self.awaits_grpc(call)) {
            let size = number(message.len());
            let told = View { body: Some(message), ..view(&status) };
            self.tell(told, |store, callbacks| match &callbacks.grpc_receive {
                Some(callback) => callback.call(store, (ROOT, call, size)),
                None => Ok(()),
            })?;
        }
        if !answer.trailers.is_empty() && self.awaits_grpc(call) {
            let entries = number(answer.trailers.len());
            let told = View { trailers: Some(Map::Fields(answer.trailers)), ..view(&status) };
            self.tell(told, |store, callbacks| match &callbacks.grpc_trailing {
                Some(callback) => callback.call(store, (ROOT, call, entries)),
                None => Ok(()),
            })?;
        }
        if self.store.data_mut().calls.open.remove(&call).is_none() {
            return Ok(());
        }
        let code = status.0;
        self.tell(view(&status), |store, callbacks| match &callbacks.grpc_close {
            Some(callback) => callback.call(store, (ROOT, call, code)),
            None => Ok(()),
        })
    }

    /// It may have been cancelled in the callback before.
    fn awaits_grpc(&self, call: u32) -> bool {
        self.store.data().calls.open.get(&call) == Some(&true)
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
