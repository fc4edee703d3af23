//! Which records are asked for, as the query of a URL says it.

use opentelemetry::trace::TraceId;
use tidegate_policy::matching::query_value;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionQuery {
    /// A request id, or a trace id in hex.
    pub id: Option<String>,
    pub request_id: Option<String>,
    pub trace_id: Option<String>,
    /// Only what was refused.
    pub refused: bool,
    pub limit: usize,
}

/// Why a query cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuery {
    #[error("`{0}` is not one of id, request_id, trace_id, refused, limit")]
    UnknownKey(String),
    #[error("`{0}` is not percent-encoded UTF-8")]
    Encoding(String),
    #[error("limit `{0}`: write a number from 1 to {max}", max = DecisionQuery::MOST)]
    Limit(String),
    #[error("trace_id `{0}`: write 32 hex digits")]
    TraceId(String),
}

impl Default for DecisionQuery {
    fn default() -> Self {
        Self { id: None, request_id: None, trace_id: None, refused: false, limit: 100 }
    }
}

impl DecisionQuery {
    /// Records of one answer.
    pub const MOST: usize = 1_000;

    /// All hops of a request or a trace.
    pub fn of_id(id: &str) -> Self {
        Self { id: Some(id.to_owned()), ..Self::default() }
    }

    /// Reads `request_id=…`, `trace_id=…`, `id=…` (either of both), `refused`, `limit=…`.
    ///
    /// # Errors
    /// On a key that is none of these, since ignoring it would show too much, and on values that make no sense.
    pub fn parse(query: &str) -> Result<Self, InvalidQuery> {
        let mut read = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, written) = pair.split_once('=').unwrap_or((pair, ""));
            let value = query_value(written).ok_or_else(|| InvalidQuery::Encoding(written.to_owned()))?;
            match key {
                "id" => read.id = Some(value),
                "request_id" => read.request_id = Some(value),
                "trace_id" => {
                    TraceId::from_hex(&value).map_err(|_| InvalidQuery::TraceId(value.clone()))?;
                    read.trace_id = Some(value.to_ascii_lowercase());
                }
                "refused" => read.refused = !matches!(&*value, "false" | "0"),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=Self::MOST).contains(limit));
                    read.limit = limit.ok_or(InvalidQuery::Limit(value))?;
                }
                other => return Err(InvalidQuery::UnknownKey(other.to_owned())),
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_it_is_written() {
        let read = DecisionQuery::parse("request_id=a%2Fb&refused&limit=7").unwrap();
        let wanted = DecisionQuery {
            request_id: Some(String::from("a/b")),
            refused: true,
            limit: 7,
            ..DecisionQuery::default()
        };
        assert_eq!(read, wanted);
        assert_eq!(DecisionQuery::parse("").unwrap(), DecisionQuery::default());
        let trace = "4BF92F3577B34DA6A3CE929D0E0E4736";
        let read = DecisionQuery::parse(&format!("trace_id={trace}")).unwrap();
        assert_eq!(read.trace_id.unwrap(), trace.to_lowercase());
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_not_ignored() {
        for bad in ["requestid=1", "limit=0", "limit=1001", "limit=many", "id=%4", "trace_id=xyz"] {
            assert!(DecisionQuery::parse(bad).is_err(), "{bad}");
        }
    }
}
