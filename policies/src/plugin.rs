//! Plugins as policies name them. What they do, the core does not know: it says which is to be asked, and the shell asks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::model::PolicyRef;
use crate::pipeline::{LocalReply, ServiceRef};

/// The hostcalls of the proxy-wasm ABI, for who may use only some of them.
pub const HOSTCALLS: &[&str] = &[
    "proxy_add_header_map_value",
    "proxy_call_foreign_function",
    "proxy_clear_route_cache",
    "proxy_close_stream",
    "proxy_continue_request",
    "proxy_continue_response",
    "proxy_continue_stream",
    "proxy_define_metric",
    "proxy_dequeue_shared_queue",
    "proxy_done",
    "proxy_enqueue_shared_queue",
    "proxy_get_buffer_bytes",
    "proxy_get_buffer_status",
    "proxy_get_configuration",
    "proxy_get_current_time_nanoseconds",
    "proxy_get_header_map_pairs",
    "proxy_get_header_map_size",
    "proxy_get_header_map_value",
    "proxy_get_log_level",
    "proxy_get_metric",
    "proxy_get_property",
    "proxy_get_shared_data",
    "proxy_get_status",
    "proxy_grpc_call",
    "proxy_grpc_cancel",
    "proxy_grpc_close",
    "proxy_grpc_send",
    "proxy_grpc_stream",
    "proxy_http_call",
    "proxy_increment_metric",
    "proxy_log",
    "proxy_record_metric",
    "proxy_register_shared_queue",
    "proxy_remove_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_resolve_shared_queue",
    "proxy_send_local_response",
    "proxy_set_buffer_bytes",
    "proxy_set_effective_context",
    "proxy_set_header_map_pairs",
    "proxy_set_property",
    "proxy_set_shared_data",
    "proxy_set_tick_period_milliseconds",
];

/// A plugin, everything about it checked that can be without its module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    pub policy: Arc<PolicyRef>,
    pub source: Source,
    /// Which of the plugins in the module; often empty.
    pub root_id: String,
    /// Whose shared data and queues it uses; `None`: its own.
    pub vm_id: Option<String>,
    pub configuration: Bytes,
    pub environment: Vec<(String, String)>,
    pub failure: Failure,
    pub budgets: Budgets,
    pub offences: Offences,
    /// `None`: all of them.
    pub hostcalls: Option<Vec<String>>,
    pub upstreams: Vec<(String, Arc<ServiceRef>)>,
    /// What it does is done to copies.
    pub shadow: bool,
    pub traffic: Traffic,
}

/// What a plugin can meet at all, by the kinds of what its policy is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    Requests,
    /// That are carried as a whole: a TCPRoute's, a TLSRoute's.
    Connections,
    Any,
}

/// Where a module is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// On the proxy's disk; looked at again when it changes.
    File(String),
    Http {
        url: String,
        sha256: [u8; 32],
    },
    Oci {
        image: Image,
        /// Of the module, if that is to be checked.
        sha256: Option<[u8; 32]>,
        /// A file on the proxy's disk with the credentials, as docker writes it.
        credentials: Option<String>,
    },
}

/// An image in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Host, with a port if it has one.
    pub registry: String,
    pub repository: String,
    /// A tag, or `sha256:…`.
    pub reference: String,
    /// Without TLS.
    pub plain: bool,
}

/// What becomes of requests when a plugin cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// They pass without it.
    Open,
    /// They are refused.
    Closed,
    /// The version before is asked; without one they are refused.
    LastGood,
}

/// What a plugin may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// CPU time of one callback.
    pub callback: Duration,
    pub start: Duration,
    /// Of one VM, bytes.
    pub memory: usize,
    /// Side calls of one VM at one time.
    pub calls: usize,
    /// Bytes of a body that are held for it.
    pub buffer: usize,
    /// Lines of log per second, of one VM.
    pub log_lines: u32,
}

/// So many within so long lead to so long a quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offences {
    pub count: usize,
    pub within: Duration,
    pub quarantine: Duration,
}

/// What came of asking a plugin about the head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plugged {
    /// The request goes on, perhaps changed.
    Passed,
    /// It answers in the backend's place.
    Answered(LocalReply),
    /// There is none that could be asked, and requests may pass without it.
    Skipped,
    /// It failed while it was asked, or there is none and requests may not pass without it.
    Failed,
}

/// What came of asking a plugin about a connection that is carried as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// It may begin.
    Passed,
    /// The plugin closes it.
    Closed,
    /// It holds back more of it than its budget allows.
    TooLarge,
    /// There is none that could be asked, and connections may pass without it.
    Skipped,
    /// It failed while it was asked, or there is none and connections may not pass without it.
    Failed,
}
