//! Label selectors: which resources are meant, by their labels.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// What labels must be; all of it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels with their values.
    #[serde(default)]
    pub match_labels: BTreeMap<String, String>,
    /// Conditions on single labels.
    #[serde(default)]
    pub match_expressions: Vec<Requirement>,
}

/// A condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// What must be true of it.
    pub operator: Operator,
    /// The values that `In` and `NotIn` speak of.
    #[serde(default)]
    pub values: Vec<String>,
}

/// What must be true of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Operator {
    /// It has one of the values.
    In,
    /// It is absent, or has none of the values.
    NotIn,
    /// It is there.
    Exists,
    /// It is absent.
    DoesNotExist,
}

impl LabelSelector {
    /// Returns whether `label`, which gives the value of a label, is as selected. An empty selector selects
    /// everything.
    pub fn matches<'l>(&self, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        let equal = self
            .match_labels
            .iter()
            .all(|(key, value)| label(key) == Some(value));
        equal
            && self.match_expressions.iter().all(|wanted| {
                let value = label(&wanted.key);
                let listed = value.is_some_and(|value| wanted.values.iter().any(|one| one == value));
                match wanted.operator {
                    Operator::In => listed,
                    Operator::NotIn => !listed,
                    Operator::Exists => value.is_some(),
                    Operator::DoesNotExist => value.is_none(),
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(operator: Operator, key: &str, values: &[&str], expected: bool) {
        let selector = LabelSelector {
            match_labels: BTreeMap::from([("team".to_owned(), "a".to_owned())]),
            match_expressions: vec![Requirement {
                key: key.to_owned(),
                operator,
                values: values.iter().map(|value| (*value).to_owned()).collect(),
            }],
        };
        let labels = [("team", "a"), ("stage", "test")];
        let label = |key: &str| {
            labels
                .iter()
                .find(|(name, _)| *name == key)
                .map(|(_, value)| *value)
        };
        assert_eq!(selector.matches(label), expected, "{operator:?} {key} {values:?}");
        assert!(!selector.matches(|_| None), "the label of a team is missing");
    }

    #[test]
    fn labels_are_held_against_conditions() {
        check(Operator::In, "stage", &["test", "live"], true);
        check(Operator::In, "stage", &["live"], false);
        check(Operator::In, "absent", &["live"], false);
        check(Operator::NotIn, "stage", &["test"], false);
        check(Operator::NotIn, "absent", &["test"], true);
        check(Operator::Exists, "stage", &[], true);
        check(Operator::Exists, "absent", &[], false);
        check(Operator::DoesNotExist, "stage", &[], false);
        check(Operator::DoesNotExist, "absent", &[], true);
        assert!(LabelSelector::default().matches(|_| None));
    }
}
