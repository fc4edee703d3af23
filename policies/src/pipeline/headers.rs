use http::{HeaderMap, response};

use super::{Filter, Phase, RequestContext, Verdict};
use crate::model::HeaderModifier;

/// Gateway API `RequestHeaderModifier`.
#[derive(Debug)]
pub(super) struct RequestHeaders(pub(super) HeaderModifier);

/// Gateway API `ResponseHeaderModifier`.
#[derive(Debug)]
pub(super) struct ResponseHeaders(pub(super) HeaderModifier);

impl Filter for RequestHeaders {
    fn phase(&self) -> Phase {
        Phase::Transform
    }

    fn on_request(&self, cx: &mut RequestContext<'_>) -> Verdict {
        modify(&self.0, &mut cx.head.headers);
        Verdict::Continue
    }
}

impl Filter for ResponseHeaders {
    fn phase(&self) -> Phase {
        Phase::Transform
    }

    fn on_request(&self, _cx: &mut RequestContext<'_>) -> Verdict {
        Verdict::Continue
    }

    fn on_response(&self, head: &mut response::Parts) {
        modify(&self.0, &mut head.headers);
    }
}

/// `set` replaces every field of its name, `add` appends one, `remove` drops them all.
fn modify(modifier: &HeaderModifier, headers: &mut HeaderMap) {
    for (name, value) in &modifier.set {
        headers.insert(name.clone(), value.clone());
    }
    for (name, value) in &modifier.add {
        headers.append(name.clone(), value.clone());
    }
    for name in &modifier.remove {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn set_replaces_add_appends_and_remove_drops_every_field() {
        let name = |text: &str| text.parse::<http::HeaderName>().unwrap();
        let mut headers = HeaderMap::new();
        for (field, value) in [("x-set", "old"), ("x-set", "older"), ("x-add", "old"), ("x-gone", "1")] {
            headers.append(name(field), HeaderValue::from_static(value));
        }
        let modifier = HeaderModifier {
            set: vec![(name("X-Set"), HeaderValue::from_static("new"))],
            add: vec![(name("x-add"), HeaderValue::from_static("new"))],
            remove: vec![name("x-gone"), name("x-never")],
        };
        modify(&modifier, &mut headers);
        let of = |field: &str| headers.get_all(field).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(of("x-set"), ["new"]);
        assert_eq!(of("x-add"), ["old", "new"]);
        assert!(of("x-gone").is_empty());
    }
}
