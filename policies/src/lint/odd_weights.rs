//! Weights that look like percent and are not.

use super::subject::{Subject, route_key};
use super::{Findings, Lint};
use crate::document::ObjectKey;
use crate::model::SourceRef;

pub(super) const LINT: Lint = Lint {
    name: "odd-weights",
    about: "weights of backends that do not add up to what was probably meant",
    explanation: "\
Weights are proportions: 90 and 1 are 98.9 % and 1.1 %, not 90 % and 10 %. Most people write percent, so that a sum of
99 or 101, or one that lacks exactly a zero, is most often a slip.

    backendRefs:
      - {name: stable, port: 80, weight: 90}
      - {name: canary, port: 80, weight: 1}       # 1.1 %; was 10 meant?

Where all weights are 0, no backend is asked, and clients get 500.

Equal weights (33, 33, 33) are taken for what they are.",
    look,
};

/// What weights are out of, for most people.
const WHOLES: [u64; 2] = [100, 1000];

fn look(subject: &Subject<'_>, findings: &mut Findings) {
    for route in subject.resources().routes.values() {
        for (index, rule) in route.rules.iter().enumerate() {
            let weights: Vec<_> = rule.backends.iter().map(|backend| backend.weight).collect();
            let pointer = format!("/rules/{index}/backendRefs");
            tell(
                route_key(route.kind.as_str(), &route.meta.name),
                (&rule.source, pointer),
                &weights,
                findings,
            );
        }
    }
    for route in subject.resources().streams.values() {
        let weights: Vec<_> = route.rule.backends.iter().map(|backend| backend.weight).collect();
        let place = (&route.rule.source, String::from("/rules/0/backendRefs"));
        tell(route_key(route.kind.as_str(), &route.meta.name), place, &weights, findings);
    }
}

fn tell(key: ObjectKey, (source, pointer): (&SourceRef, String), weights: &[u32], findings: &mut Findings) {
    if let Some((message, help)) = odd(weights) {
        findings.tell(key, (source.clone(), pointer), message).help(help);
    }
}

/// What is odd about them, and what would be right.
fn odd(weights: &[u32]) -> Option<(String, String)> {
    let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    if !weights.is_empty() && sum == 0 {
        let message = "all weights are 0: no backend is asked, and clients get 500";
        return Some((message.to_owned(), String::from("give at least one of them a weight")));
    }
    let [first, rest @ ..] = weights else { return None };
    if rest.is_empty() || rest.iter().all(|weight| weight == first) {
        return None;
    }
    let written = weights.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + ");
    if let Some(whole) = WHOLES.into_iter().find(|whole| sum.abs_diff(*whole) == 1) {
        let message =
            format!("the weights {written} add up to {sum}: if they are percent, one of them is wrong");
        return Some((message, format!("let them add up to {whole}")));
    }
    let largest = u64::from(*weights.iter().max()?);
    let others = sum - largest;
    let lacks_a_zero = WHOLES.into_iter().find(|whole| {
        others > 0 && largest >= whole / 2 && largest < *whole && others * 10 == whole - largest
    });
    let whole = lacks_a_zero?;
    #[expect(clippy::cast_precision_loss, reason = "less than a thousand")]
    let share = others as f64 * 100.0 / sum as f64;
    let message = format!(
        "the weights {written} add up to {sum}: the smaller part is {share:.1} %, not {} %",
        others * 1000 / whole
    );
    Some((message, format!("write {} if that was meant, so that they add up to {whole}", others * 10)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percent_too_many_or_a_zero_too_few_is_odd_and_any_other_proportion_is_not() {
        for weights in
            [&[90, 1][..], &[50, 49], &[1, 90], &[99, 2], &[80, 2], &[0, 0], &[0], &[900, 10], &[60, 30, 9]]
        {
            assert!(odd(weights).is_some(), "{weights:?}");
        }
        for weights in [
            &[90, 10][..],
            &[1, 1],
            &[33, 33, 33],
            &[34, 33, 33],
            &[9, 1],
            &[3, 1],
            &[100, 0],
            &[1],
            &[100],
            &[],
            &[95, 5],
            &[50, 25],
            &[1, 99],
            &[999, 1],
            &[2, 1],
            &[90, 2],
            &[0, 1],
        ] {
            assert_eq!(odd(weights), None, "{weights:?}");
        }
    }
}
