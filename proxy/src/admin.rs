//! The operator's port: is it ready, what is in force, what are its numbers.
//!
//! Runs on the runtime it is given, never on the one that carries traffic, and changes nothing: GET and HEAD only.

mod pages;
mod server;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::Serialize;

use crate::telemetry::Scrape;

pub use server::AdminServer;

/// What the admin port asks of the rest of the proxy. Called once per page view.
pub trait AdminSource: Send + Sync + 'static {
    /// # Errors
    /// One line that says what the proxy is waiting for.
    fn ready(&self) -> Result<(), String>;

    /// What is in force, as YAML that a person can read; [`to_yaml`] helps.
    ///
    /// # Errors
    /// Why it cannot be shown.
    fn config_yaml(&self) -> Result<String, String>;

    /// Node, versions, xDS state, listeners, breakers and caps.
    fn status(&self) -> serde_json::Value;

    /// What `/metrics` needs beyond the counters.
    fn scrape(&self) -> Scrape;
}

/// Renders anything as YAML, for [`AdminSource::config_yaml`].
///
/// # Errors
/// What in the value has no YAML form.
pub fn to_yaml(value: &impl Serialize) -> Result<String, String> {
    serde_saphyr::to_string(value).map_err(|e| e.to_string())
}

impl<T: AdminSource + ?Sized> AdminSource for Arc<T> {
    fn ready(&self) -> Result<(), String> {
        (**self).ready()
    }

    fn config_yaml(&self) -> Result<String, String> {
        (**self).config_yaml()
    }

    fn status(&self) -> serde_json::Value {
        (**self).status()
    }

    fn scrape(&self) -> Scrape {
        (**self).scrape()
    }
}
