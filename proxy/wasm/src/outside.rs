//! What the host needs of the world around it, as traits: so it runs in a proxy, in a command and in tests alike.

use std::fmt::Debug;

use parking_lot::Mutex;

use crate::engine::Clock;
use crate::log::{Level, Line};

/// Properties that plugins set on one stream, with their names, bytes.
const MAX_PROPERTIES: usize = 64 * 1024;

/// Of the whole process.
pub trait Outside: Send + Sync + Debug {
    fn clock(&self) -> &dyn Clock;

    fn log(&self, line: &Line<'_>);

    /// Below which lines are of no interest to anybody.
    fn log_level(&self) -> Level {
        Level::Info
    }

    /// What is true of every stream (`node.id`, …): strings raw, numbers as 8 bytes, `None` for what there is not.
    fn property(&self, _path: &[&str]) -> Option<Vec<u8>> {
        None
    }
}

/// What is known of one stream beside its messages. Asked while the plugin waits: it must not block.
pub trait StreamView: Send + Sync + Debug {
    /// As [`Outside::property`], of this stream.
    fn property(&self, path: &[&str]) -> Option<Vec<u8>>;

    /// For logs.
    fn request_id(&self) -> Option<String> {
        None
    }
}

/// One exchange, or one connection, which several plugins may see.
#[derive(Debug)]
pub struct Exchange {
    view: Box<dyn StreamView>,
    /// What plugins have set, for themselves and each other.
    set: Mutex<Vec<(Vec<u8>, Vec<u8>)>>,
    measured: bool,
}

impl Exchange {
    pub fn new(view: impl StreamView + 'static) -> Self {
        Self { view: Box::new(view), set: Mutex::default(), measured: false }
    }

    /// Whether the CPU time of callbacks is to be told by [`Spent`](crate::Spent): it costs two system calls for each.
    #[must_use]
    pub fn measured(mut self, measured: bool) -> Self {
        self.measured = measured;
        self
    }

    pub(crate) fn is_measured(&self) -> bool {
        self.measured
    }

    pub(crate) fn view(&self) -> &dyn StreamView {
        &*self.view
    }

    pub(crate) fn get(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.set.lock().iter().find(|(name, _)| name == path).map(|(_, value)| value.clone())
    }

    /// Whether there was room for it.
    pub(crate) fn set(&self, path: &[u8], value: &[u8]) -> bool {
        let mut set = self.set.lock();
        set.retain(|(name, _)| name != path);
        let bytes: usize = set.iter().map(|(name, value)| name.len() + value.len()).sum();
        let fits = bytes + path.len() + value.len() <= MAX_PROPERTIES;
        if fits {
            set.push((path.to_owned(), value.to_owned()));
        }
        fits
    }
}
