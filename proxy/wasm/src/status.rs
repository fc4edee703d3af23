//! What a hostcall answers, and how it may fail.

/// The numbers of the ABI. SDKs panic at one that they do not expect of a call, so each is chosen with care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Status {
    Ok = 0,
    NotFound = 1,
    BadArgument = 2,
    ParseFailure = 4,
    InvalidMemoryAccess = 6,
    Empty = 7,
    CasMismatch = 8,
    InternalFailure = 10,
}

/// Why a hostcall did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The plugin is told.
    Status(Status),
    /// The plugin's own code failed while the host called it (its allocator, say): the VM is over.
    Trap(wasmtime::Error),
}

pub(crate) type Outcome = Result<(), Failure>;

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// As the plugin sees it.
pub(crate) fn told(outcome: Outcome) -> wasmtime::Result<u32> {
    match outcome {
        Ok(()) => Ok(Status::Ok as u32),
        Err(Failure::Status(status)) => Ok(status as u32),
        Err(Failure::Trap(error)) => Err(error),
    }
}
