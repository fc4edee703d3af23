//! `x-tidegate-explain`: a request asks with it, and the answer says with it what was decided, at each hop that may tell.
//!
//! Whoever may not know is told nothing: the field of the request ends here, so that no later hop is asked in somebody
//! else's name, and that of an answer is taken away.

use http::{HeaderName, HeaderValue};
use tidegate_policy::decision::Said;
use tidegate_policy::snapshot::Selected;
use tidegate_policy::{Decision, Reason};

use crate::state::ProxyState;
use crate::telemetry::Direction;

pub(crate) const X_TIDEGATE_EXPLAIN: HeaderName = HeaderName::from_static("x-tidegate-explain");

/// The longest value, in bytes.
const MAX: usize = 1_024;
const CUT: &str = "; ...";

/// What one hop says: `web-1 outbound; route shop/pay all (mesh.yaml:11); RateLimitPolicy shop/strict everyone
/// (mesh.yaml:20): refused rate_limited`. Of more decisions than fit, the last are told.
pub(super) fn value(
    proxy: &ProxyState,
    direction: Direction,
    selected: Option<&Selected>,
    (decisions, reason): (&[Decision], Option<Reason>),
) -> HeaderValue {
    let mut first = format!("{} {}", proxy.config.node, direction.as_str());
    if let Some(selected) = selected {
        let (rule, target) = (&selected.rule, selected.target());
        let route = rule.route.as_ref().map(|route| format!("{route} ")).unwrap_or_default();
        let place = rule.source.as_ref().map(|source| format!(" ({source})")).unwrap_or_default();
        first += &format!("; route {route}{}{place}", rule.name);
        if let Ok(backend) = &target.backend {
            first += &format!("; backend {}", backend.label);
        }
    }
    if let Some(reason) = reason {
        first += &format!("; answered here: {}", reason.flag());
    }
    let said = decisions.iter().rev().map(|decision| format!("; {}", Said::from(decision)));
    written(&first, said)
}

/// `first`, and as many of `said` as fit, which come the last first.
fn written(first: &str, said: impl Iterator<Item = String>) -> HeaderValue {
    let mut text = first[..first.floor_char_boundary(MAX - CUT.len())].to_owned();
    let (mut left, mut fit, mut cut) = (MAX - CUT.len() - text.len(), Vec::new(), "");
    for one in said {
        match left.checked_sub(one.len()) {
            Some(rest) => left = rest,
            None => {
                cut = CUT;
                break;
            }
        }
        fit.push(one);
    }
    text += cut;
    text.extend(fit.into_iter().rev());
    // Names of files may be in any script; a header may not.
    let text: String = text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_more_than_fits_the_last_is_told() {
        let said = |n: usize| (0..n).rev().map(|n| format!("; decision {n}"));
        assert_eq!(written("web outbound", said(2)), "web outbound; decision 0; decision 1");
        let many = written("web outbound", said(500));
        let text = many.to_str().unwrap();
        assert!(text.len() <= MAX && text.starts_with("web outbound; ...; decision "), "{text}");
        assert!(text.ends_with("; decision 498; decision 499"), "{text}");
    }

    #[test]
    fn whatever_is_in_it_the_value_is_short_and_printable() {
        let value = written(&"ü\r\n".repeat(1_000), ["\0; x".repeat(600)].into_iter());
        let text = value.to_str().unwrap();
        assert!(text.len() <= MAX && text.ends_with("; ..."), "{text}");
    }
}
