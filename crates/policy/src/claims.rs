//! What a token says of whoever holds it, and what may be demanded of that.

use serde_json::{Map, Value};

/// The claims of a token that was verified.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims(Map<String, Value>);

/// What one claim must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimTest {
    /// The claim; dots lead into objects.
    pub name: String,
    /// Whether the claim may be a list, one element of which is enough.
    pub list: bool,
    /// What it may be.
    pub values: Vec<String>,
}

impl Claims {
    /// Wraps what a verified token holds.
    pub fn new(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    /// Returns the claim called `name`: the member of that name, or what the dots in it lead to.
    pub fn get(&self, name: &str) -> Option<&Value> {
        if let Some(value) = self.0.get(name) {
            return Some(value);
        }
        let mut words = name.split('.');
        let first = self.0.get(words.next()?)?;
        words.try_fold(first, |value, word| value.as_object()?.get(word))
    }

    /// Returns the claim as a header can carry it; lists and objects are not carried.
    pub fn text(&self, name: &str) -> Option<String> {
        match self.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(value) => Some(value.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Returns what the token allows: `scope` and `scp`, each a list or words of one string.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        ["scope", "scp"].into_iter().flat_map(|name| {
            let value = self.0.get(name);
            let words = value
                .and_then(Value::as_str)
                .unwrap_or_default()
                .split_ascii_whitespace();
            let list = value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            words.chain(list.iter().filter_map(Value::as_str))
        })
    }

    /// Returns whether the token allows `scope`.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes().any(|held| held == scope)
    }

    /// Returns all claims.
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }
}

impl ClaimTest {
    /// Returns whether `claims` are as demanded. Numbers and truth values are never what a string is.
    pub fn holds(&self, claims: &Claims) -> bool {
        let is_one = |value: &Value| {
            let text = value.as_str();
            text.is_some_and(|text| self.values.iter().any(|wanted| wanted == text))
        };
        match claims.get(&self.name) {
            Some(Value::Array(list)) => self.list && list.iter().any(is_one),
            Some(value) => is_one(value),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims() -> Claims {
        let claims = json!({
            "sub": "u1", "n": 7, "ok": true, "https://a.example/role": "admin",
            "org": {"id": "o1", "teams": ["x", "y"], "deep": {"er": 1}},
            "scope": "read  write", "scp": ["admin"], "groups": ["a", 3],
        });
        Claims::new(claims.as_object().expect("an object").clone())
    }

    #[test]
    fn tests_hold_or_do_not() {
        let check = |name: &str, list: bool, values: &[&str], expected: bool| {
            let test = ClaimTest {
                name: name.to_owned(),
                list,
                values: values.iter().map(|value| (*value).to_owned()).collect(),
            };
            assert_eq!(test.holds(&claims()), expected, "{test:?}");
        };
        check("sub", false, &["u2", "u1"], true);
        check("sub", true, &["u1"], true);
        check("sub", false, &["u"], false);
        check("org.id", false, &["o1"], true);
        check("org.teams", true, &["y"], true);
        check("org.teams", false, &["y"], false);
        check("https://a.example/role", false, &["admin"], true);
        check("n", false, &["7"], false);
        check("ok", false, &["true"], false);
        check("groups", true, &["3"], false);
        check("absent.at.all", false, &[""], false);
        check("sub.x", false, &["u1"], false);
    }

    #[test]
    fn scopes_and_texts() {
        let claims = claims();
        assert_eq!(claims.scopes().collect::<Vec<_>>(), ["read", "write", "admin"]);
        assert!(claims.has_scope("write") && !claims.has_scope("writ"));
        let texts = ["sub", "n", "ok", "org.deep.er", "org", "groups"].map(|name| claims.text(name));
        let texts: Vec<_> = texts.iter().map(Option::as_deref).collect();
        assert_eq!(
            texts,
            [Some("u1"), Some("7"), Some("true"), Some("1"), None, None]
        );
    }
}
