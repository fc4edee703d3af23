//! Traffic that is made up: how often, of which keys, and how backends answer. Drawn with a seed, so that it can be had again.

mod draw;
mod model;
mod spec;
mod traffic;

use std::sync::Arc;

use crate::document::{Diagnostic, Located};

pub use model::Models;
pub use spec::ProfileSpec;
pub use traffic::Traffic;

/// A profile that can be replayed.
#[derive(Debug)]
pub struct Profile {
    spec: ProfileSpec,
    models: Arc<Models>,
}

impl Profile {
    /// Reads a profile in YAML.
    ///
    /// # Errors
    /// Everything that is wrong with it, with its line.
    pub fn parse(file: &Arc<str>, text: &str) -> Result<Self, Vec<Diagnostic>> {
        let located = Located::<ProfileSpec>::read(file, text)?;
        let faults = located.value.faults();
        if !faults.is_empty() {
            let told = |(pointer, message): (String, String)| located.fault(file, &pointer, message);
            return Err(faults.into_iter().map(told).collect());
        }
        let models = Arc::new(Models::new(&located.value.backends));
        Ok(Self { spec: located.value, models })
    }

    /// Its requests, in the order in which they come.
    ///
    /// # Errors
    /// A request that is none.
    pub fn traffic(&self, seed: u64) -> Result<Traffic, String> {
        Traffic::new(&self.spec, seed)
    }

    /// How backends answer.
    pub fn models(&self) -> Arc<Models> {
        self.models.clone()
    }
}
