//! The functions that plugins import: `env.proxy_*`. Each checks every pointer, acts on the [`Host`] and answers a status.
//!
//! Source: <https://github.com/proxy-wasm/spec/blob/main/abi-versions/v0.2.1/README.md>; where Envoy does otherwise, as
//! Envoy does, because that is what plugins were tried with.

mod buffers;
mod calls;
mod headers;
mod memory;
mod misc;
mod properties;
mod shared;
mod toolchain;
mod wasi;

use std::collections::HashSet;
use std::sync::LazyLock;

use wasmtime::{Caller, Linker};

use crate::engine::engine;
use crate::error::LoadError;
use crate::host::{Host, Stage};
use crate::status::{self, Outcome, Status};

pub(crate) use memory::Cx;

/// Everything there is to import, ready for modules.
pub(crate) struct Linked {
    pub(crate) linker: Linker<Host>,
    names: HashSet<(&'static str, &'static str)>,
    /// Of the hostcalls: the place is the bit.
    hostcalls: Vec<&'static str>,
}

static LINKED: LazyLock<Result<Linked, String>> =
    LazyLock::new(|| Linked::new().map_err(|error| format!("{error:#}")));

/// # Errors
/// This machine cannot run any.
pub(crate) fn linked() -> Result<&'static Linked, LoadError> {
    LINKED.as_ref().map_err(|error| LoadError::Engine(error.clone()))
}

/// Names of the hostcalls that a policy may allow.
pub fn hostcall_names() -> &'static [&'static str] {
    LINKED.as_ref().map_or(&[], |linked| &linked.hostcalls)
}

impl Linked {
    fn new() -> wasmtime::Result<Self> {
        let engine = engine().map_err(wasmtime::Error::msg)?;
        let mut linked = Self { linker: Linker::new(engine), names: HashSet::new(), hostcalls: Vec::new() };
        misc::link(&mut linked)?;
        headers::link(&mut linked)?;
        buffers::link(&mut linked)?;
        properties::link(&mut linked)?;
        shared::link(&mut linked)?;
        calls::link(&mut linked)?;
        wasi::link(&mut linked)?;
        toolchain::link(&mut linked)?;
        Ok(linked)
    }

    pub(crate) fn has(&self, module: &str, name: &str) -> bool {
        self.names.contains(&(module, name))
    }

    /// As bits; names that are none of ours allow nothing.
    pub(crate) fn allowed(&self, names: Option<&[String]>) -> u64 {
        let Some(names) = names else { return u64::MAX };
        let bit = |name: &String| self.hostcalls.iter().position(|own| own == name);
        names.iter().filter_map(bit).fold(0, |bits, bit| bits | 1 << bit)
    }

    /// Notes a name of something that the linker has been told of.
    fn named(&mut self, module: &'static str, name: &'static str) {
        self.names.insert((module, name));
    }

    /// Notes a hostcall; says which bit it is.
    fn hostcall(&mut self, name: &'static str) -> u32 {
        self.named("env", name);
        self.hostcalls.push(name);
        u32::try_from(self.hostcalls.len() - 1).unwrap_or(u32::MAX)
    }
}

/// Runs a hostcall, if the plugin may use it now.
fn run(
    caller: &mut Caller<'_, Host>,
    (name, bit): (&'static str, u32),
    call: impl FnOnce(&mut Cx<'_, '_>) -> Outcome,
) -> wasmtime::Result<u32> {
    let host = caller.data();
    if host.stage == Stage::Initializing && name != "proxy_log" && name != "proxy_get_log_level" {
        return Err(wasmtime::Error::msg(format!("`{name}` is called before the plugin was started")));
    }
    if host.allowed & (1 << bit) == 0 {
        return Ok(Status::InternalFailure as u32);
    }
    let Some(memory) = host.memory else {
        return Ok(Status::InvalidMemoryAccess as u32);
    };
    status::told(call(&mut Cx::new(caller, memory)))
}

/// Links functions of the ABI: `name(parameters) => what runs`.
macro_rules! hostcalls {
    ($linked:ident; $($name:literal ($($param:ident: $ty:ty),*) => $run:path;)*) => {
        $({
            let bit = $linked.hostcall($name);
            $linked.linker.func_wrap("env", $name, move |mut caller: ::wasmtime::Caller<'_, crate::host::Host>, $($param: $ty),*| {
                crate::hostcalls::run(&mut caller, ($name, bit), |cx| $run(cx, $($param),*))
            })?;
        })*
    };
}
use hostcalls;

/// Pointer and length, as hostcalls have them.
type Slice = (u32, u32);
