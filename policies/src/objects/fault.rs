/// Something wrong inside an object, found after its shape was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// JSON pointer relative to the spec.
    pub pointer: String,
    pub message: String,
    pub help: Option<String>,
    /// The object can be used all the same.
    pub warning: bool,
}

/// Collects every fault of an object, not only the first.
#[derive(Debug, Default)]
pub(crate) struct Faults(pub(crate) Vec<Fault>);

impl Faults {
    pub(crate) fn error(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.push(pointer.into(), message.into(), None, false);
    }

    pub(crate) fn error_with_help(
        &mut self,
        pointer: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(pointer.into(), message.into(), Some(help.into()), false);
    }

    pub(crate) fn warn(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.push(pointer.into(), message.into(), None, true);
    }

    /// What is known to the Gateway API but not done here: never skipped in silence.
    pub(crate) fn unsupported(&mut self, pointer: impl Into<String>, what: &str) {
        self.error(pointer, format!("{what} is not supported yet"));
    }

    fn push(&mut self, pointer: String, message: String, help: Option<String>, warning: bool) {
        self.0.push(Fault { pointer, message, help, warning });
    }
}
