use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// Kubernetes `LabelSelector`: all of it must hold; an empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    pub match_labels: BTreeMap<String, String>,
    pub match_expressions: Vec<LabelExpression>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelExpression {
    pub key: String,
    pub operator: LabelOperator,
    #[serde(default)]
    pub values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum LabelOperator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl LabelSelector {
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|e| e.matches(labels))
    }
}

impl LabelExpression {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let listed = value.is_some_and(|v| self.values.contains(v));
        match self.operator {
            LabelOperator::In => listed,
            LabelOperator::NotIn => !listed,
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn expression(operator: LabelOperator, values: &[&str]) -> LabelSelector {
        let values = values.iter().map(|v| (*v).to_owned()).collect();
        let expression = LabelExpression { key: String::from("team"), operator, values };
        LabelSelector { match_expressions: vec![expression], ..LabelSelector::default() }
    }

    #[test]
    fn an_empty_selector_selects_everything() {
        assert!(LabelSelector::default().matches(&labels(&[])));
    }

    #[test]
    fn all_labels_must_be_equal() {
        let selector =
            LabelSelector { match_labels: labels(&[("a", "1"), ("b", "2")]), ..LabelSelector::default() };
        assert!(selector.matches(&labels(&[("a", "1"), ("b", "2"), ("c", "3")])));
        assert!(!selector.matches(&labels(&[("a", "1"), ("b", "3")])));
    }

    #[test]
    fn a_missing_label_is_not_in_any_set() {
        let none = labels(&[]);
        assert!(!expression(LabelOperator::In, &["x"]).matches(&none));
        assert!(expression(LabelOperator::NotIn, &["x"]).matches(&none));
        assert!(!expression(LabelOperator::Exists, &[]).matches(&none));
        assert!(expression(LabelOperator::DoesNotExist, &[]).matches(&none));
    }
}
