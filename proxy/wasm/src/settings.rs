//! What is written of a plugin: its names, its configuration, what it may use and what it may cost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

/// One plugin, as a policy has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For logs and metrics; unique in the process.
    pub name: Arc<str>,
    /// Which of the plugins in the module, for modules that hold several.
    pub root_id: String,
    /// Whose shared data and queues it uses.
    pub vm_id: String,
    /// Given to `proxy_on_configure`.
    pub configuration: Bytes,
    /// Given to `proxy_on_vm_start`.
    pub vm_configuration: Bytes,
    /// What WASI's `environ_get` tells.
    pub environment: Vec<(String, String)>,
    pub budgets: Budgets,
    pub capabilities: Capabilities,
    pub offences: OffenceLimits,
}

/// What a plugin may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// CPU time of one callback, to within 20 ms.
    pub callback: Duration,
    /// The same of a VM's start, with its configuration.
    pub start: Duration,
    /// Linear memory of one VM, bytes.
    pub memory: usize,
    /// Above which a VM gets no more streams and is replaced, bytes.
    pub soft_memory: usize,
    /// Side calls of one VM at one time.
    pub calls: usize,
    /// Bytes of a body that are held for it, each way; of the answer to a side call too.
    pub buffer: usize,
    /// Lines of log per second, of one VM.
    pub log_lines: u32,
}

/// What a plugin may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Names of hostcalls; `None`: all.
    pub hostcalls: Option<Vec<String>>,
    /// Names that it may give to side calls.
    pub upstreams: Vec<String>,
}

/// When a plugin is put in quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffenceLimits {
    /// So many traps, overruns and failed starts…
    pub count: usize,
    /// …within so long…
    pub within: Duration,
    /// …for so long, doubled each time that it offends again at once.
    pub quarantine: Duration,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            callback: Duration::from_millis(50),
            start: Duration::from_secs(1),
            memory: 64 << 20,
            soft_memory: 48 << 20,
            calls: 64,
            buffer: 1 << 20,
            log_lines: 100,
        }
    }
}

impl Default for OffenceLimits {
    fn default() -> Self {
        Self { count: 5, within: Duration::from_secs(60), quarantine: Duration::from_secs(10) }
    }
}

impl Settings {
    /// With everything as it is if nothing is written.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            root_id: String::new(),
            vm_id: name.to_owned(),
            configuration: Bytes::new(),
            vm_configuration: Bytes::new(),
            environment: Vec::new(),
            budgets: Budgets::default(),
            capabilities: Capabilities::default(),
            offences: OffenceLimits::default(),
        }
    }
}
