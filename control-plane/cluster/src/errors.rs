//! What is told of requests that fail: what the API said, once.

use std::time::Duration;

use kube::runtime::watcher;

/// A request that takes longer is as good as lost. A watch is none of these.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A request's answer, or an error if there is none in time: an API that is silent must not hold up who asks.
pub(crate) async fn in_time<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, kube::Error> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(answer) => answer,
        Err(_) => Err(kube::Error::Service(format!("no answer within {} s", TIMEOUT.as_secs()).into())),
    }
}

pub(crate) fn told(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        kube::Error::Service(error) => causes(&**error),
        other => causes(other),
    }
}

pub(crate) fn told_of_watch(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => told(error),
        watcher::Error::WatchError(status) => format!("{} ({})", status.message, status.code),
        other @ watcher::Error::NoResourceVersion => other.to_string(),
    }
}

/// The error and what caused it: "connection refused" is at the end of a long chain.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut told = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !told.contains(&text) {
            told += ": ";
            told += &text;
        }
        next = cause.source();
    }
    told
}

/// Fields of a status that this cluster's version of a kind does not have, as a server-side apply was refused for them.
pub(crate) fn undeclared(message: &str) -> Vec<String> {
    let places = message.match_indices(".status.").map(|(at, found)| &message[at + found.len()..]);
    let fields = places.filter_map(|rest| {
        let (field, rest) = rest.split_at(rest.find(|c: char| !c.is_alphanumeric())?);
        rest.starts_with(": field not declared in schema").then(|| field.to_owned())
    });
    fields.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_a_cluster_does_not_know_are_found_in_its_words() {
        let one = "failed to create typed patch object (shop/edge; gateway.networking.k8s.io/v1, Kind=Gateway): \
                   .status.attachedListenerSets: field not declared in schema";
        assert_eq!(undeclared(one), ["attachedListenerSets"]);
        let two = "failed: errors:\n  .status.a: field not declared in schema\n  .status.b: field not declared in schema";
        assert_eq!(undeclared(two), ["a", "b"]);
        assert!(undeclared(".status.listeners[0].x: field not declared in schema").is_empty());
        assert!(undeclared("the object has been modified").is_empty());
    }
}
