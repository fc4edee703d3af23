//! Where documents come from. A source turns the outside world into [`Reading`]s: the whole of what is there now.
//!
//! A source must not parse or judge: whether a text is a valid document is [`crate::index`]'s question.

pub mod file;

use std::sync::Arc;

/// Everything a source saw at one moment. Each reading replaces the one before; nothing is a delta.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// By path, ascending.
    pub files: Vec<FileContent>,
    /// Folders that could not be listed: nothing is known about what is beneath them.
    pub unknown: Vec<UnknownFolder>,
    /// Whether the root could be listed: if not, an absent file means nothing.
    pub root_listed: bool,
}

/// One file that may hold documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileContent {
    /// As a person would type it: the watched directory as given, then the path inside it.
    pub path: Arc<str>,
    pub body: Result<FileText, FileFault>,
}

#[derive(Clone, Debug)]
pub struct FileText {
    /// SHA-256 of the text.
    pub hash: [u8; 32],
    pub text: Arc<str>,
    pub form: Form,
}

/// What kind of text it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// YAML or JSON as a person keeps it: faults have a line and a column.
    Documents,
    /// One object of a cluster as JSON: nobody has ever seen its lines.
    Object,
}

/// Why a file's text is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileFault {
    #[error("the file has {size} bytes; at most {limit} are read")]
    TooBig { size: u64, limit: u64 },
    #[error("the file is not UTF-8: byte {offset} is not text")]
    NotText { offset: usize },
    #[error("this is not a regular file")]
    NotAFile,
    #[error("the file cannot be read: {0}")]
    Unreadable(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFolder {
    pub path: Arc<str>,
    pub reason: String,
}

impl PartialEq for FileText {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}
impl Eq for FileText {}

impl FileText {
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        use sha2::Digest;
        let text = text.into();
        Self { hash: sha2::Sha256::digest(text.as_bytes()).into(), text, form: Form::Documents }
    }

    /// An object of a cluster, as JSON.
    pub fn object(json: impl Into<Arc<str>>) -> Self {
        Self { form: Form::Object, ..Self::new(json) }
    }

    /// No document at all: what a file is while it is being rewritten.
    pub fn is_blank(&self) -> bool {
        let is_nothing = |line: &str| line.is_empty() || line.starts_with('#') || line == "---";
        self.text.lines().map(str::trim).all(is_nothing)
    }
}
