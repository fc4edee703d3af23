use parking_lot::Mutex;

/// Whether the control plane can be heard, and why not.
#[derive(Debug, Default)]
pub struct XdsStatus(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    connected: bool,
    last_error: Option<String>,
}

impl XdsStatus {
    pub fn is_connected(&self) -> bool {
        self.0.lock().connected
    }

    /// Why the last stream ended or could not be opened.
    pub fn last_error(&self) -> Option<String> {
        self.0.lock().last_error.clone()
    }

    pub(crate) fn connected(&self) {
        self.0.lock().connected = true;
    }

    pub(crate) fn disconnected(&self, reason: &str) {
        *self.0.lock() = Seen { connected: false, last_error: Some(reason.to_owned()) };
    }
}
