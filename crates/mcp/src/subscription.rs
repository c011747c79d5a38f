//! What a client wants to be told of unasked (revision 2026-07-28, "Subscriptions").

use serde_json::value::RawValue;

use crate::{
    Capabilities, Id, Notification,
    json::{self, Object},
    method,
};

/// The request for it.
pub const LISTEN: &str = "subscriptions/listen";
/// What is said first: what will be told.
pub const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
/// Where a message says which request for it it belongs to.
pub const ID: &str = "io.modelcontextprotocol/subscriptionId";

/// What is told, and what is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// That tools changed.
    pub tools: bool,
    /// That prompts changed.
    pub prompts: bool,
    /// That the list of resources changed.
    pub resources: bool,
    /// That one of these resources changed.
    pub uris: Vec<String>,
}

/// The most resources that one request names.
const MAX_URIS: usize = 1024;

impl Filter {
    /// Reads the parameters of a request; `None` if they are none.
    pub fn read(params: &Object<'_>) -> Option<Self> {
        let wanted = params.object("notifications")?;
        let uris = match wanted.get("resourceSubscriptions") {
            None => Vec::new(),
            Some(uris) => {
                let uris = json::elements(uris).filter(|uris| uris.len() <= MAX_URIS)?;
                let uris = uris
                    .into_iter()
                    .map(|uri| json::text(uri).map(|uri| uri.into_owned()));
                uris.collect::<Option<_>>()?
            }
        };
        let flag = |key: &str| wanted.flag(key) == Some(true);
        Some(Self {
            tools: flag("toolsListChanged"),
            prompts: flag("promptsListChanged"),
            resources: flag("resourcesListChanged"),
            uris,
        })
    }

    /// Returns what of it a server can tell; resources have to be left out by whoever knows whose they are.
    #[must_use]
    pub fn within(&self, able: Capabilities) -> Self {
        let able = |bit| able.has(bit);
        Self {
            tools: self.tools && able(Capabilities::TOOLS_CHANGED),
            prompts: self.prompts && able(Capabilities::PROMPTS_CHANGED),
            resources: self.resources && able(Capabilities::RESOURCES_CHANGED),
            uris: if able(Capabilities::SUBSCRIBE) {
                self.uris.clone()
            } else {
                Vec::new()
            },
        }
    }

    /// Returns the filter of all that a server can tell.
    pub fn all(uris: Vec<String>) -> Self {
        Self {
            tools: true,
            prompts: true,
            resources: true,
            uris,
        }
    }

    /// Returns whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether a notification, in the client's words, is told.
    pub fn wants(&self, notification: &Notification) -> bool {
        match notification.method.as_str() {
            "notifications/tools/list_changed" => self.tools,
            "notifications/prompts/list_changed" => self.prompts,
            "notifications/resources/list_changed" => self.resources,
            method::UPDATED => {
                let params = notification.params.as_deref().and_then(Object::parse);
                let uri = params.as_ref().and_then(|params| params.text("uri"));
                uri.is_some_and(|uri| self.uris.iter().any(|own| *own == uri))
            }
            _ => false,
        }
    }

    /// Returns the parameters of a request for it, or of the message that acknowledges one.
    pub fn to_raw(&self) -> Box<RawValue> {
        let mut wanted = Object::default();
        for (key, is) in [
            ("toolsListChanged", self.tools),
            ("promptsListChanged", self.prompts),
            ("resourcesListChanged", self.resources),
        ] {
            if is {
                wanted.set(key, json::raw(&true));
            }
        }
        if !self.uris.is_empty() {
            wanted.set("resourceSubscriptions", json::raw(&self.uris));
        }
        let mut params = Object::default();
        params.set("notifications", wanted.to_raw());
        params.to_raw()
    }

    /// Returns the first message to whoever made the request called `id`.
    pub fn acknowledged(&self, id: &Id) -> Notification {
        let notification = Notification {
            method: ACKNOWLEDGED.to_owned(),
            params: Some(self.to_raw()),
        };
        tagged(notification, id)
    }
}

/// Returns a notification that says which request it belongs to.
pub fn tagged(mut notification: Notification, id: &Id) -> Notification {
    let tagged = |params: Option<&RawValue>| {
        let mut params = match params {
            Some(params) => Object::parse(params)?,
            None => Object::default(),
        };
        let meta = params.get("_meta").map(RawValue::to_owned);
        let mut meta = meta.as_deref().and_then(Object::parse).unwrap_or_default();
        meta.set(ID, id.raw().to_owned());
        params.set("_meta", meta.to_raw());
        Some(params.to_raw())
    };
    notification.params = tagged(notification.params.as_deref()).or(notification.params);
    notification
}

/// Returns a notification that does not say so.
pub fn untagged(mut notification: Notification) -> Notification {
    let untagged = |params: &RawValue| {
        let mut params = Object::parse(params)?;
        params.get("_meta")?;
        let mut empty = false;
        params.edit("_meta", |meta| {
            let mut meta = Object::parse(meta)?;
            meta.remove(ID);
            empty = meta.members().next().is_none();
            Some(meta.to_raw())
        });
        if empty {
            params.remove("_meta");
        }
        let none = params.members().next().is_none();
        Some((!none).then(|| params.to_raw()))
    };
    if let Some(params) = &notification.params
        && let Some(changed) = untagged(params)
    {
        notification.params = changed;
    }
    notification
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn notification(method: &str, params: &serde_json::Value) -> Notification {
        Notification {
            method: method.to_owned(),
            params: Some(json::raw(params)),
        }
    }

    #[test]
    fn filters_come_back_as_they_went() {
        let raw = json::raw(
            &json!({ "notifications": { "toolsListChanged": true, "promptsListChanged": false,
            "resourceSubscriptions": ["a"] }, "_meta": {} }),
        );
        let filter = Filter::read(&Object::parse(&raw).expect("an object")).expect("a filter");
        assert_eq!(
            filter.to_raw().get(),
            r#"{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["a"]}}"#
        );
        assert!(
            filter
                .within(Capabilities::TOOLS | Capabilities::PROMPTS)
                .is_empty()
        );
        for bad in [
            json!({}),
            json!({ "notifications": { "resourceSubscriptions": [1] } }),
        ] {
            let raw = json::raw(&bad);
            assert_eq!(
                Filter::read(&Object::parse(&raw).expect("an object")),
                None,
                "{bad}"
            );
        }
    }

    #[test]
    fn only_what_is_wanted_is_told() {
        let filter = Filter {
            prompts: true,
            uris: vec!["a".to_owned()],
            ..Filter::default()
        };
        for (method, params, wanted) in [
            ("notifications/prompts/list_changed", json!({}), true),
            ("notifications/tools/list_changed", json!({}), false),
            (method::UPDATED, json!({ "uri": "a" }), true),
            (method::UPDATED, json!({ "uri": "b" }), false),
            ("notifications/message", json!({}), false),
        ] {
            assert_eq!(filter.wants(&notification(method, &params)), wanted, "{method}");
        }
    }

    #[test]
    fn messages_say_whose_they_are_and_no_longer() {
        let id = Id::text("7");
        let plain = notification(method::UPDATED, &json!({ "uri": "a", "_meta": { "x": 1 } }));
        let told = tagged(plain.clone(), &id);
        let params = told.params.as_deref().map(RawValue::get).unwrap_or_default();
        assert_eq!(
            params,
            r#"{"_meta":{"x":1,"io.modelcontextprotocol/subscriptionId":"7"},"uri":"a"}"#
        );
        let back = untagged(told).params.map(|params| params.get().to_owned());
        assert_eq!(back.as_deref(), plain.params.as_deref().map(RawValue::get));
        let bare = Notification::new("notifications/tools/list_changed");
        assert!(untagged(tagged(bare, &id)).params.is_none());
    }
}
