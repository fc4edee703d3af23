//! Who workloads are: the authority that signs for them, by Istio's protocol, and the port that knows them by it.
//!
//! What is signed, [`tidegate_identity`] decides; here are the files and the sockets. Without `--ca-dir` there is none of
//! it, and the port is plain.

mod args;
mod certifier;
mod files;
mod port;
mod service;

pub use args::{IdentityArgs, lifetime};
pub(crate) use certifier::{Certifier, Counts};
pub use certifier::{IdentityError, MaterialStore, Signing};
pub use files::CaDirectory;
pub(crate) use port::incoming;
pub(crate) use service::service;
