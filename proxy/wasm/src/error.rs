//! Why a plugin cannot be used, in words for the one who wrote it or its policy.

use std::fmt;

use crate::abi::AbiVersion;

/// A module that is refused before any of it runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("not a WebAssembly module: it does not begin with `\\0asm`")]
    NotWasm,
    #[error("a component, not a core module; build for `wasm32-unknown-unknown` or `wasm32-wasip1`")]
    Component,
    #[error("{0}")]
    Invalid(String),
    #[error("no proxy-wasm plugin: it exports no `proxy_abi_version_…`")]
    NoAbi,
    #[error("speaks an ABI that is not supported ({0}); supported are {list}", list = AbiVersion::list())]
    UnknownAbi(String),
    #[error("says that it speaks several ABIs: {0}")]
    SeveralAbis(String),
    #[error("imports what the host does not have: {0}")]
    Imports(String),
    #[error("lacks the export {0}")]
    Lacks(&'static str),
    #[error("exports `{name}` as {found}; the ABI has {wanted}")]
    Signature { name: String, found: String, wanted: String },
    #[error("no WebAssembly on this machine: {0}")]
    Engine(String),
}

/// A plugin that does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    #[error("cannot be instantiated: {0}")]
    Instantiate(String),
    #[error("`{during}` failed: {fault}")]
    Fault { during: &'static str, fault: Fault },
    #[error("`{0}` refused its configuration")]
    Refused(&'static str),
}

/// What ends a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    /// What the engine says of it, with the functions it happened in.
    pub told: String,
}

/// See [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// It ran for longer than its budget.
    Overrun,
    /// It trapped: a panic, an access out of bounds, no stack left…
    Trap,
    /// It called `proc_exit`.
    Exit,
}

impl FaultKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Overrun => "overrun",
            Self::Trap => "trap",
            Self::Exit => "exit",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FaultKind::Overrun => f.write_str("it ran for longer than its budget"),
            FaultKind::Trap => write!(f, "it trapped: {}", self.told),
            FaultKind::Exit => write!(f, "it ended itself: {}", self.told),
        }
    }
}

/// `proc_exit`, on its way through the engine.
#[derive(Debug, thiserror::Error)]
#[error("proc_exit({0})")]
pub(crate) struct Exited(pub(crate) i32);

impl Fault {
    pub(crate) fn of(error: &wasmtime::Error) -> Self {
        let kind = if let Some(trap) = error.downcast_ref::<wasmtime::Trap>() {
            if *trap == wasmtime::Trap::Interrupt { FaultKind::Overrun } else { FaultKind::Trap }
        } else if error.downcast_ref::<Exited>().is_some() {
            FaultKind::Exit
        } else {
            FaultKind::Trap
        };
        Self { kind, told: told(error) }
    }
}

/// The cause, then where: one line.
fn told(error: &wasmtime::Error) -> String {
    let cause = error.root_cause().to_string();
    let mut told = cause.strip_prefix("wasm trap: ").unwrap_or(&cause).to_owned();
    if let Some(trace) = error.downcast_ref::<wasmtime::WasmBacktrace>() {
        let names = trace.frames().iter().filter_map(wasmtime::FrameInfo::func_name).take(5);
        let names = names.collect::<Vec<_>>().join(" < ");
        if !names.is_empty() {
            told.push_str(" in ");
            told.push_str(&names);
        }
    }
    told
}
