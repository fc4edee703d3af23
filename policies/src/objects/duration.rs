//! Durations as the Gateway API writes them (GEP-2257), for every spec that holds one.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration such as `1h30m` or `250ms`; zero is written `0s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GepDuration(Duration);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: use up to four parts such as `500ms`, `10s` or `1h30m`")]
pub struct InvalidDuration(String);

impl GepDuration {
    /// The form GEP-2257 allows: one to four parts, each up to five digits and a unit, summed up.
    pub(crate) const PATTERN: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";

    pub const fn get(&self) -> Duration {
        self.0
    }
}

impl From<GepDuration> for Duration {
    fn from(duration: GepDuration) -> Self {
        duration.0
    }
}

impl FromStr for GepDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        sum(text)
            .filter(|sum| sum.as_secs() / 3600 <= MAX_HOURS)
            .map(Self)
            .ok_or_else(|| InvalidDuration(text.to_owned()))
    }
}

/// As many as one part can say: the sum of several could not be written again.
const MAX_HOURS: u64 = 99_999;

fn sum(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        parts += 1;
        if !(1..=5).contains(&digits) || parts > 4 {
            return None;
        }
        let amount: u64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let unit = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        total += match &after[..unit] {
            "h" => Duration::from_secs(amount * 3600),
            "m" => Duration::from_secs(amount * 60),
            "s" => Duration::from_secs(amount),
            "ms" => Duration::from_millis(amount),
            _ => return None,
        };
        rest = &after[unit..];
    }
    (parts > 0).then_some(total)
}

impl fmt::Display for GepDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let parts = [
            (millis / 3_600_000, "h"),
            (millis / 60_000 % 60, "m"),
            (millis / 1000 % 60, "s"),
            (millis % 1000, "ms"),
        ];
        if millis == 0 {
            return f.write_str("0s");
        }
        parts
            .iter()
            .filter(|(amount, _)| *amount > 0)
            .try_for_each(|(amount, unit)| write!(f, "{amount}{unit}"))
    }
}

impl Serialize for GepDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GepDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for GepDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": GepDuration::PATTERN,
            "description": "A duration such as 500ms, 10s or 1h30m (GEP-2257).",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn millis(text: &str) -> Option<u128> {
        text.parse::<GepDuration>().ok().map(|d| d.get().as_millis())
    }

    #[test]
    fn parts_are_summed_whatever_their_order() {
        assert_eq!(millis("1h30m"), Some(5_400_000));
        assert_eq!(millis("1s1s500ms"), Some(2500));
        assert_eq!(millis("00010s"), Some(10_000));
        assert_eq!(millis("0s"), Some(0));
    }

    #[test]
    fn other_forms_are_refused() {
        for bad in
            ["", "0", "1", "s", "1.5s", "-1s", "1d", "100000s", "1s1s1s1s1s", "1S", " 1s", "1µs", "99999h60m"]
        {
            assert_eq!(millis(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_pattern_of_the_schema(text in "[0-9hms]{0,12}") {
            let pattern = regex::Regex::new(GepDuration::PATTERN).unwrap();
            prop_assert_eq!(pattern.is_match(&text), sum(&text).is_some());
        }

        #[test]
        fn prints_what_it_parses(ms in 0_u64..3_600_000 * 1000) {
            let printed = GepDuration(Duration::from_millis(ms)).to_string();
            prop_assert_eq!(millis(&printed), Some(u128::from(ms)));
        }
    }
}
