//! Whether a pod shall have a sidecar: what it says itself, else what its namespace says.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::wish::INJECT;

/// Who asked for the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// The pod, by a label or an annotation: what cannot be done is refused.
    ItSaysSo,
    /// Its namespace, or the person that runs `tidegate inject`: what cannot be done is left alone, with the reason.
    OfWhereItIs,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Inject(Because),
    Leave(String),
}

/// `namespace`: the labels of the pod's namespace.
///
/// # Errors
/// The pod says what is neither yes nor no.
pub fn decide(pod: &Json, namespace: &BTreeMap<String, String>) -> Result<Decision, crate::Refusal> {
    let own = ["labels", "annotations"].into_iter().find_map(|place| {
        let value = pod.get("metadata")?.get(place)?.get(INJECT)?.as_str()?;
        Some((place, value))
    });
    match own {
        Some((_, "enabled")) => return Ok(Decision::Inject(Because::ItSaysSo)),
        Some((place, "disabled")) => {
            return Ok(Decision::Leave(format!("its {place} say {INJECT}: disabled")));
        }
        Some((place, other)) => {
            let fault = format!("metadata.{place}: {INJECT}: `{other}` is neither enabled nor disabled");
            return Err(crate::Refusal(vec![fault]));
        }
        None => {}
    }
    Ok(match namespace.get(INJECT).map(String::as_str) {
        Some("enabled") => Decision::Inject(Because::OfWhereItIs),
        _ => Decision::Leave(format!("neither it nor its namespace has {INJECT}: enabled")),
    })
}
