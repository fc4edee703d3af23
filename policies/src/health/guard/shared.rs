//! What a guard tells of its endpoints to other proxies, and hears of them.

use std::sync::Arc;
use std::time::Duration;

use tidegate_outliers::Statement;

use super::CircuitGuard;
use crate::health::{SharedRule, Suspect};
use crate::time::Timestamp;

impl CircuitGuard {
    /// `None` where nothing is shared, or only tried.
    pub(crate) fn sharing(&self) -> Option<&SharedRule> {
        self.circuit.sharing()
    }

    /// For how long a suspicion lasts without a word, where there may be any.
    pub(in crate::health) fn holds_suspicions(&self) -> Option<Duration> {
        Some(self.sharing()?.rules.hold)
    }

    /// What others should hear of each endpoint by now; `asked`: also that all is well there.
    pub(in crate::health) fn statements(
        &self,
        asked: impl Fn(&str) -> bool,
        now: Timestamp,
        mut say: impl FnMut(&Arc<str>, Statement),
    ) {
        let Some(SharedRule { rules, .. }) = self.sharing() else { return };
        for guarded in &self.endpoints {
            let Some(shared) = &guarded.shared else { continue };
            let held_back = guarded.breakers.iter().filter(|bound| bound.breaker.phase().holds_back());
            let ejected = held_back.map(|bound| bound.breaker.view().since).min();
            let asked = asked(&guarded.endpoint.label);
            if let Some(statement) = shared.statement(ejected, asked, rules, now) {
                say(&guarded.endpoint.label, statement);
            }
        }
    }

    /// The control plane's word: these are suspect, and no others. No more are left alone than may be ejected.
    pub(in crate::health) fn told(&self, suspects: &[Suspect], now: Timestamp, rng: &mut fastrand::Rng) {
        let Some(SharedRule { rules, .. }) = self.sharing() else { return };
        let find = |label: &str| suspects.iter().find(|suspect| &*suspect.endpoint == label);
        for guarded in &self.endpoints {
            let Some(shared) = &guarded.shared else { continue };
            match find(&guarded.endpoint.label) {
                Some(suspect) => self.ejections.suspect(&guarded.endpoint, |may| {
                    if may {
                        shared.told(Some(suspect), rules, now, rng);
                    }
                }),
                None => {
                    shared.told(None, rules, now, rng);
                    self.ejections.refresh();
                }
            }
        }
    }

    /// All is to be said again.
    pub(in crate::health) fn unheard(&self) {
        self.endpoints
            .iter()
            .filter_map(|guarded| guarded.shared.as_ref())
            .for_each(|shared| shared.unheard());
    }
}
