//! What is written, checked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::hash_key::RequestKey;
use super::{
    AlgorithmSpec, KeylessSpec, LoadBalancingPolicySpec, LocalitySpec, PreferSpec, RingSizeSpec,
    SlowStartSpec,
};
use crate::balance::{
    Algorithm, DECAY, HashKey, HashTable, Keyless, LoadBalancing, Locality, OVERPROVISIONING, Origin, Prefer,
    SlowStart,
};
use crate::kind::CompileContext;
use crate::kinds::check;

const MOST_KEY_PARTS: usize = 8;
const MOST_FAILOVER: usize = 16;
const TABLE: u32 = 65_537;
const RING: (u32, u32) = (4096, 262_144);

impl LoadBalancingPolicySpec {
    pub(super) fn compile(&self, cx: &mut CompileContext<'_>) -> Option<LoadBalancing> {
        if self.is_empty() {
            cx.error("", "nothing to do: write at least an `algorithm`");
        }
        self.refuse_strangers(cx);
        let algorithm = self.algorithm(cx);
        let factor = self.overprovisioning_factor.unwrap_or(OVERPROVISIONING);
        between(cx, "/overprovisioningFactor", factor, (1.0, 100.0));
        if let Some(factor) = self.max_load_factor {
            between(cx, "/maxLoadFactor", factor, (1.05, 100.0));
        }
        if let Some(subset) = &self.subset {
            check::within(cx, "/subset/size", subset.size, 1..=10_000);
        }
        let decay = self.decay.map(|decay| check::duration_within(cx, "/decay", decay, ("1s", "10m")));
        let key = self.key(cx);
        let rule = cx.rule(algorithm.as_str(), "/algorithm");
        Some(LoadBalancing {
            origin: Some(Origin { policy: cx.policy().clone(), mode: cx.mode(), rule }),
            algorithm,
            decay: decay.unwrap_or(DECAY),
            key,
            max_load: self.max_load_factor,
            locality: self.locality.as_ref().map(|locality| locality.compile(cx)).unwrap_or_default(),
            overprovisioning: factor,
            slow_start: self.slow_start.as_ref().map(|slow| slow.compile(cx)),
            subset: self.subset.as_ref().map(|subset| subset.size),
        })
    }

    fn is_empty(&self) -> bool {
        let written = [
            self.algorithm.is_some(),
            self.decay.is_some(),
            self.choices.is_some(),
            !self.hash_key.is_empty(),
            self.on_missing_key.is_some(),
            self.max_load_factor.is_some(),
            self.ring_size.is_some(),
            self.table_size.is_some(),
            self.locality.is_some(),
            self.overprovisioning_factor.is_some(),
            self.slow_start.is_some(),
            self.subset.is_some(),
        ];
        !written.contains(&true)
    }

    fn written(&self) -> AlgorithmSpec {
        self.algorithm.unwrap_or(AlgorithmSpec::PeakEwma)
    }

    /// Fields that go with another algorithm are a mistake somewhere.
    fn refuse_strangers(&self, cx: &mut CompileContext<'_>) {
        use AlgorithmSpec::{LeastRequest, Maglev, PeakEwma, Random, RingHash, RoundRobin};
        let of_all = "PeakEwma, LeastRequest, RoundRobin and Random";
        let hashes = "RingHash and Maglev";
        let not_hashed = [PeakEwma, LeastRequest, RoundRobin, Random];
        for (field, written, algorithms, named) in [
            ("decay", self.decay.is_some(), &[PeakEwma][..], "PeakEwma"),
            ("choices", self.choices.is_some(), &[LeastRequest], "LeastRequest"),
            ("hashKey", !self.hash_key.is_empty(), &[RingHash, Maglev], hashes),
            ("onMissingKey", self.on_missing_key.is_some(), &[RingHash, Maglev], hashes),
            ("maxLoadFactor", self.max_load_factor.is_some(), &[RingHash, Maglev], hashes),
            ("ringSize", self.ring_size.is_some(), &[RingHash], "RingHash"),
            ("tableSize", self.table_size.is_some(), &[Maglev], "Maglev"),
            ("slowStart", self.slow_start.is_some(), &not_hashed, of_all),
            ("subset", self.subset.is_some(), &not_hashed, of_all),
        ] {
            if written && !algorithms.contains(&self.written()) {
                cx.error(format!("/{field}"), format!("`{field}` goes with algorithm {named} only"));
            }
        }
    }

    fn algorithm(&self, cx: &mut CompileContext<'_>) -> Algorithm {
        let keyless = match self.on_missing_key {
            None | Some(KeylessSpec::PeakEwma) => Keyless::PeakEwma,
            Some(KeylessSpec::Random) => Keyless::Random,
        };
        match self.written() {
            AlgorithmSpec::PeakEwma => Algorithm::PeakEwma,
            AlgorithmSpec::RoundRobin => Algorithm::RoundRobin,
            AlgorithmSpec::Random => Algorithm::Random,
            AlgorithmSpec::LeastRequest => {
                let choices = self.choices.unwrap_or(2);
                check::within(cx, "/choices", choices, 2..=10);
                Algorithm::LeastRequest { choices }
            }
            AlgorithmSpec::RingHash => {
                let (least, most) = self.ring_size.as_ref().map_or(RING, |size| size.compile(cx));
                Algorithm::Hash { table: HashTable::Ring { least, most }, keyless }
            }
            AlgorithmSpec::Maglev => {
                let size = self.table_size.unwrap_or(TABLE);
                table_size(size, cx);
                Algorithm::Hash { table: HashTable::Maglev { size }, keyless }
            }
        }
    }

    fn key(&self, cx: &mut CompileContext<'_>) -> Option<Arc<dyn HashKey>> {
        if !matches!(self.written(), AlgorithmSpec::RingHash | AlgorithmSpec::Maglev) {
            return None;
        }
        if self.hash_key.is_empty() || self.hash_key.len() > MOST_KEY_PARTS {
            cx.error("/hashKey", format!("{} parts: write 1 to {MOST_KEY_PARTS}", self.hash_key.len()));
        }
        let key = RequestKey::compile(&self.hash_key, cx)?;
        Some(Arc::new(key))
    }
}

impl RingSizeSpec {
    fn compile(&self, cx: &mut CompileContext<'_>) -> (u32, u32) {
        let least = self.minimum.unwrap_or(RING.0.min(self.maximum.unwrap_or(u32::MAX)));
        let most = self.maximum.unwrap_or(RING.1.max(least));
        check::within(cx, "/ringSize/minimum", least, 64..=1_048_576);
        check::within(cx, "/ringSize/maximum", most, 64..=1_048_576);
        if most < least.saturating_mul(2) && self.maximum.is_some() && self.minimum.is_some() {
            let message = format!("a ring grows by doubling: write at least {}", least.saturating_mul(2));
            cx.error("/ringSize/maximum", message);
        }
        (least, most)
    }
}

impl LocalitySpec {
    fn compile(&self, cx: &mut CompileContext<'_>) -> Locality {
        let prefer = match self.prefer {
            PreferSpec::SameZone => Prefer::SameZone,
            PreferSpec::Hints => Prefer::Hints,
            PreferSpec::None => Prefer::Nothing,
        };
        if prefer == Prefer::Nothing && !self.failover.is_empty() {
            cx.error("/locality/failover", "without a preferred zone there is nothing to fail over from");
        }
        if self.failover.len() > MOST_FAILOVER {
            let message = format!("{} zones: write at most {MOST_FAILOVER}", self.failover.len());
            cx.error("/locality/failover", message);
        }
        let mut seen = BTreeSet::new();
        for (i, zone) in self.failover.iter().enumerate() {
            if zone.is_empty() {
                cx.error(format!("/locality/failover/{i}"), "write the name of a zone");
            } else if !seen.insert(zone) {
                cx.error(format!("/locality/failover/{i}"), format!("zone `{zone}` is written twice"));
            }
        }
        Locality { prefer, failover: self.failover.iter().map(|zone| zone.as_str().into()).collect() }
    }
}

impl SlowStartSpec {
    fn compile(&self, cx: &mut CompileContext<'_>) -> SlowStart {
        let min_percent = self.min_percent.unwrap_or(10);
        check::within(cx, "/slowStart/minPercent", min_percent, 1..=100);
        let aggression = self.aggression.unwrap_or(1.0);
        between(cx, "/slowStart/aggression", aggression, (0.1, 10.0));
        let window = self.window.map_or(Duration::from_secs(30), |window| {
            check::duration_within(cx, "/slowStart/window", window, ("1s", "1h"))
        });
        SlowStart { window, min_percent, aggression }
    }
}

fn between(cx: &mut CompileContext<'_>, pointer: &str, value: f64, (low, high): (f64, f64)) {
    if !(low..=high).contains(&value) {
        cx.error(pointer, format!("{value} is out of range: use {low} to {high}"));
    }
}

/// Slots in a number that is no prime are never found by some endpoints.
fn table_size(size: u32, cx: &mut CompileContext<'_>) {
    check::within(cx, "/tableSize", size, 251..=655_373);
    if (251..=655_373).contains(&size) && !is_prime(size) {
        let next = (size..).find(|n| is_prime(*n)).unwrap_or(TABLE);
        cx.error("/tableSize", format!("{size} is not a prime: the next is {next}"));
    }
}

fn is_prime(n: u32) -> bool {
    (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}
