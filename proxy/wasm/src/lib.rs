//! A host for proxy-wasm plugins: the same binaries that Envoy and Istio run.
//!
//! Nothing here waits, opens a connection or reads a clock of its own: time, logs and properties come through [`Outside`],
//! side calls go out as values ([`Work::Calls`]) and come back as answers, and who waits for a plugin is woken by a plain
//! [`Waker`](std::task::Waker). So the same host runs in the proxy, in `tidegate plugin test` and in tests.
//!
//! **What a plugin may cost is bounded in every direction**: CPU time of a callback, memory, side calls, lines of log, bytes of
//! bodies held back, values and queues. A plugin that traps or runs over loses its VM, nobody else anything; one that
//! does so again and again is left out for a while ([`Plugin::seat`]).
//!
//! **Calls into a VM are strictly serial.** Hostcalls only write down what they want; it is done when the callback has
//! returned. Whoever deals with a VM holds its lock for one callback, and never while waiting.

mod abi;
mod buffer;
mod cache;
mod call;
mod code;
mod engine;
mod error;
mod host;
mod hostcalls;
mod log;
mod mailbox;
mod map;
mod metrics;
mod offences;
mod outside;
mod pairs;
mod plugin;
mod settings;
mod shared;
mod stats;
mod status;
mod stream;
mod vm;

pub use abi::AbiVersion;
pub use cache::Cache;
pub use call::{Answer, Asked, CallOut, GrpcAnswer, Outgoing};
pub use code::{Code, Digest, Hears, Inspection, digest};
pub use engine::{Clock, SystemClock};
pub use error::{Fault, FaultKind, LoadError, StartError};
pub use host::World;
pub use hostcalls::hostcall_names;
pub use log::{Level, Line};
pub use map::{RequestHead, ResponseHead};
pub use metrics::{BUCKETS, Histogram, Metric, Metrics};
pub use outside::{Exchange, Outside, StreamView};
pub use plugin::{Plugin, Seat, Standing, Unavailable};
pub use settings::{Budgets, Capabilities, OffenceLimits, Settings};
pub use shared::Shared;
pub use stats::{Counts, Stats};
pub use stream::{ClosedBy, Direction, LocalResponse, Logged, Spent, Step};
pub use vm::{SharedVm, Vm, Work};
