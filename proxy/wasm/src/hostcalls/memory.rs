//! The plugin's memory, with every access checked.

use wasmtime::{AsContextMut as _, Caller, Memory};

use crate::host::Host;
use crate::status::{Failure, Outcome, Status};

use super::Slice;

const BAD: Failure = Failure::Status(Status::InvalidMemoryAccess);

/// One hostcall: who calls, and its memory.
pub(crate) struct Cx<'a, 'b> {
    caller: &'a mut Caller<'b, Host>,
    memory: Memory,
}

impl<'a, 'b> Cx<'a, 'b> {
    pub(crate) fn new(caller: &'a mut Caller<'b, Host>, memory: Memory) -> Self {
        Self { caller, memory }
    }

    pub(crate) fn host(&mut self) -> &mut Host {
        self.caller.data_mut()
    }

    /// The memory and the host at once.
    pub(crate) fn split(&mut self) -> (&mut [u8], &mut Host) {
        self.memory.data_and_store_mut(self.caller.as_context_mut())
    }

    pub(crate) fn read(&self, slice: Slice) -> Result<&[u8], Failure> {
        part(self.memory.data(&self.caller), slice)
    }

    pub(crate) fn write(&mut self, at: u32, bytes: &[u8]) -> Outcome {
        let memory = self.memory.data_mut(&mut *self.caller);
        let at = usize::try_from(at).map_err(|_| BAD)?;
        let end = at.checked_add(bytes.len()).ok_or(BAD)?;
        memory.get_mut(at..end).ok_or(BAD)?.copy_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn write_u32(&mut self, at: u32, value: u32) -> Outcome {
        self.write(at, &value.to_le_bytes())
    }

    pub(crate) fn write_u64(&mut self, at: u32, value: u64) -> Outcome {
        self.write(at, &value.to_le_bytes())
    }

    /// Hands over what `fill` writes, in memory that the plugin allocates and then owns; `to` says where the plugin wants
    /// pointer and length told. Nothing is allocated for nothing.
    pub(crate) fn give(
        &mut self,
        to: (u32, u32),
        fill: impl FnOnce(&mut Host, &mut Vec<u8>) -> Outcome,
    ) -> Outcome {
        let host = self.host();
        let mut scratch = std::mem::take(&mut host.scratch);
        scratch.clear();
        let given = fill(host, &mut scratch).and_then(|()| self.hand_over(to, &scratch));
        // What was large once need not stay so.
        if scratch.capacity() <= 64 * 1024 {
            self.host().scratch = scratch;
        }
        given
    }

    /// The same of what is at hand.
    pub(crate) fn hand_over(&mut self, (pointer_at, length_at): (u32, u32), bytes: &[u8]) -> Outcome {
        // Before anything is allocated that nobody would free.
        self.write_u32(pointer_at, 0)?;
        self.write_u32(length_at, 0)?;
        if bytes.is_empty() {
            return Ok(());
        }
        let length = u32::try_from(bytes.len()).map_err(|_| BAD)?;
        let allocate = self.host().allocate.clone().ok_or(BAD)?;
        let pointer = allocate.call(&mut *self.caller, length).map_err(Failure::Trap)?;
        if pointer == 0 {
            return Err(BAD);
        }
        self.write(pointer, bytes)?;
        self.write_u32(pointer_at, pointer)?;
        self.write_u32(length_at, length)
    }
}

/// A piece of the plugin's memory.
pub(crate) fn part(memory: &[u8], (at, length): Slice) -> Result<&[u8], Failure> {
    let at = usize::try_from(at).map_err(|_| BAD)?;
    let end = at.checked_add(usize::try_from(length).map_err(|_| BAD)?).ok_or(BAD)?;
    memory.get(at..end).ok_or(BAD)
}
