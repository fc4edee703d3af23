//! The query of `GET /status?kind=&namespace=&name=`.

use tidegate_policy::matching::query_value;

use super::ObjectStatus;

/// Picks objects by exact kind (in any case), namespace and name. Absent parts pick everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub kind: Option<String>,
    pub namespace: Option<String>,
    pub name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    #[error("`{0}` is not one of kind, namespace, name")]
    UnknownKey(String),
    #[error("`{0}` is not percent-encoded UTF-8")]
    Encoding(String),
}

impl Filter {
    /// Parses the query of a URL; `name` may also be `namespace/name`.
    ///
    /// # Errors
    /// On a key that is none of ours, since ignoring it would show too much.
    pub fn parse(query: &str) -> Result<Self, InvalidFilter> {
        let mut filter = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = query_value(value).ok_or_else(|| InvalidFilter::Encoding(value.to_owned()))?;
            let value = Some(value).filter(|value| !value.is_empty());
            match key {
                "kind" => filter.kind = value,
                "namespace" => filter.namespace = value,
                "name" => match value.as_deref().and_then(|v| v.split_once('/')) {
                    Some((namespace, name)) => {
                        filter.namespace = Some(namespace.to_owned());
                        filter.name = Some(name.to_owned());
                    }
                    None => filter.name = value,
                },
                other => return Err(InvalidFilter::UnknownKey(other.to_owned())),
            }
        }
        Ok(filter)
    }

    pub fn picks(&self, object: &ObjectStatus) -> bool {
        let is = |want: &Option<String>, have: &str| want.as_ref().is_none_or(|want| want == have);
        self.kind.as_ref().is_none_or(|kind| kind.eq_ignore_ascii_case(&object.kind))
            && is(&self.namespace, &object.namespace)
            && is(&self.name, &object.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_carry_its_namespace() {
        let filter = Filter::parse("kind=HTTPRoute&name=shop%2Fcart").unwrap();
        assert_eq!(filter.kind.as_deref(), Some("HTTPRoute"));
        assert_eq!(filter.namespace.as_deref(), Some("shop"));
        assert_eq!(filter.name.as_deref(), Some("cart"));
    }

    #[test]
    fn nothing_written_picks_everything() {
        assert_eq!(Filter::parse("").unwrap(), Filter::default());
        assert_eq!(Filter::parse("kind=&name=").unwrap(), Filter::default());
    }

    #[test]
    fn an_unknown_key_or_broken_encoding_is_refused() {
        assert!(Filter::parse("kinds=HTTPRoute").is_err());
        for broken in ["name=%", "name=%4", "name=%zz", "name=%ff"] {
            assert!(Filter::parse(broken).is_err(), "{broken}");
        }
    }
}
