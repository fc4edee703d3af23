//! The admission webhook: what the API server asks before it stores an object.
//!
//! Every replica answers, with the same certificate, which the leader renews; the API server trusts it by the `caBundle`
//! in our webhook configurations.

mod authority;
mod ca_bundle;
mod injector;
mod keeper;
mod mutate;
mod namespaces;
mod review;
mod serve;

pub use authority::{Keys, Timetable, advance};
pub(crate) use ca_bundle::{Ours, keep as keep_ca_bundle};
pub use injector::Injector;
pub(crate) use keeper::Keeper;
pub use mutate::{Mutate, Namespace, Patch, Refusal};
pub(crate) use namespaces::look_up;
pub use review::{MAX_REVIEW, validate};
pub(crate) use serve::{Answers, serve};
