//! A chained plugin of the Container Network Interface: leads the connections of injected pods to their sidecars, from the
//! node, so that no pod needs the right to set rules itself.
//!
//! One small static binary, for it is copied onto every node: a runtime starts it for each pod that begins or ends
//! ([`plugin`]), and a pod of a DaemonSet, out of the same file, puts it into the node's configuration and keeps it
//! there ([`install`]). What a runtime says and is told is read in [`spec`], what a pod wants in [`pod`]; both are pure.
//!
//! A pod is never let go on with less than it asked for: what cannot be found out is an error, and the runtime tries again.
//! Pods without a sidecar are left alone.

pub mod api;
pub mod conflist;
pub mod install;
pub mod kubeconfig;
pub mod netns;
pub mod plugin;
pub mod pod;
pub mod spec;
