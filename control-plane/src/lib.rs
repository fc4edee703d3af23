//! The control plane: watches policy documents, checks them, pushes them to every proxy.

pub mod source;
