//! Deadlines that travel with a request: read from the caller, told to the next hop as what is left of them.
//!
//! gRPC has `grpc-timeout` (gRPC over HTTP/2, "Timeout"). HTTP has no standard; `x-envoy-expected-rq-timeout-ms`, in
//! whole milliseconds, is what Envoy tells its backends, so that is what is read and written unless a policy names
//! another header. All are times from now and no points in time: clocks of two machines need not agree.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::plan::Said;

/// What a `TimeoutPolicy` says of deadlines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadlineRule {
    pub said: Arc<Said>,
    /// Where HTTP requests carry theirs.
    pub header: HeaderName,
    /// The next hop is told what is left.
    pub propagate: bool,
    /// Clients outside the mesh are believed too.
    pub trust_clients: bool,
    /// A deadline that lies further away counts as this.
    pub max: Option<Duration>,
    /// With less left than this, no call is made.
    pub minimum: Duration,
    /// Nor with less than half of the backend's calls take.
    pub refuse_hopeless: bool,
}

pub const DEFAULT_HEADER: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// `TimeoutValue`: a positive integer of at most so many digits.
const MOST_DIGITS: usize = 8;

impl DeadlineRule {
    /// How long the caller will wait. A client's `grpc-timeout` is always believed: it can only be its own loss.
    pub fn asked(&self, headers: &HeaderMap, grpc: bool, from_outside: bool) -> Option<Duration> {
        let asked = if grpc {
            headers.get(GRPC_TIMEOUT).and_then(|value| parse_grpc_timeout(value.as_bytes()))
        } else if from_outside && !self.trust_clients {
            None
        } else {
            headers.get(&self.header).and_then(|value| millis(value.as_bytes()))
        };
        asked.map(|asked| self.max.map_or(asked, |max| max.min(asked)))
    }

    /// Tells the next hop how long it has; `None`: as long as it likes, and a header that was not believed is gone.
    pub fn tell(&self, left: Option<Duration>, grpc: bool, headers: &mut HeaderMap) {
        let name = if grpc { &GRPC_TIMEOUT } else { &self.header };
        match left {
            Some(left) if self.propagate => {
                let value = if grpc { grpc_timeout(left) } else { whole_millis(left).into() };
                headers.insert(name, value);
            }
            Some(_) => {}
            None if grpc => {}
            None => drop(headers.remove(name)),
        }
    }

    /// Whether a call can still be answered in time. `usual`: what half of the backend's calls take.
    pub fn is_worth_it(&self, left: Duration, usual: Option<Duration>) -> bool {
        let hopeless = self.refuse_hopeless && usual.is_some_and(|usual| left < usual);
        !left.is_zero() && left >= self.minimum && !hopeless
    }
}

/// `TimeoutValue TimeoutUnit`: up to eight digits and one of `H M S m u n`. Anything else is no timeout.
pub fn parse_grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > MOST_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Eight digits always fit, in any unit.
    let amount = digits.iter().fold(0_u64, |n, digit| n * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// In the finest unit that has room for it, rounded down: nobody is promised time that is not there.
fn grpc_timeout(left: Duration) -> HeaderValue {
    const UNITS: [(u128, char); 6] = [
        (1, 'n'),
        (1_000, 'u'),
        (1_000_000, 'm'),
        (1_000_000_000, 'S'),
        (60_000_000_000, 'M'),
        (3_600_000_000_000, 'H'),
    ];
    let most = 10_u128.pow(8) - 1;
    let fitting = UNITS.iter().map(|(nanos, unit)| (left.as_nanos() / nanos, unit)).find(|(n, _)| *n <= most);
    let (amount, unit) = fitting.unwrap_or((most, &'H'));
    // Digits and a letter are always a value.
    HeaderValue::from_str(&format!("{amount}{unit}")).unwrap_or_else(|_| HeaderValue::from_static("0n"))
}

/// Rounded down, as above.
fn whole_millis(left: Duration) -> u64 {
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
}

/// 0 is Envoy's word for no timeout.
fn millis(value: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let millis = text.parse::<u64>().ok().filter(|millis| digits && *millis > 0)?;
    Some(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests;
