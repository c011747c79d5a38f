//! Where names and URIs of a backend stand in its messages, and their replacement by the client's.
//!
//! Each message is rewritten exactly once: the mapping is not idempotent. What does not have the expected shape
//! passes as it is.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::{
    json::{self, Object},
    method::{List, Method, Named, Resource},
    modern, name,
};

/// How the names of one backend are said to clients.
#[derive(Clone, Copy, Debug)]
pub struct Naming<'a> {
    /// What stands before its names.
    pub backend: &'a str,
    /// Whether names are prefixed at all.
    pub prefixed: bool,
    /// How long a name of a tool or prompt may be.
    pub max: usize,
}

/// One page of a list.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The items, with the backend's own name of each; for resources and templates that is the URI.
    pub items: Vec<Item>,
    /// Where the next page begins.
    pub next: Option<Box<RawValue>>,
    /// The result's `_meta`.
    pub meta: Option<Box<RawValue>>,
    /// How long the list may be kept, in milliseconds, where the backend says so.
    pub ttl: Option<u64>,
    /// Whether everybody is given the same list, where the backend says so.
    pub public: bool,
}

/// One item of a list.
#[derive(Clone, Debug)]
pub struct Item {
    /// The backend's name for it.
    pub own: String,
    /// What it is, in the backend's words.
    pub raw: Box<RawValue>,
}

impl Page {
    /// Reads the result of a list; `None` if it is none.
    pub fn read(list: List, result: &RawValue) -> Option<Self> {
        let object = Object::parse(result)?;
        let key = key(list);
        let items = json::elements(object.get(list.member())?)?;
        let items = items.into_iter().filter_map(|raw| {
            let own = Object::parse(raw)?.text(key)?.into_owned();
            let raw = raw.to_owned();
            Some(Item { own, raw })
        });
        let next = object
            .get("nextCursor")
            .filter(|next| !matches!(next.get(), "null" | "\"\""));
        Some(Self {
            items: items.collect(),
            next: next.map(RawValue::to_owned),
            meta: object.get("_meta").and_then(meta),
            ttl: object.get("ttlMs").and_then(|ttl| ttl.get().parse().ok()),
            public: object.text("cacheScope").as_deref() == Some("public"),
        })
    }
}

/// Returns the `_meta` of a page without what a server says of itself: clients are told with whom they speak by us.
fn meta(own: &RawValue) -> Option<Box<RawValue>> {
    let Some(mut rest) = Object::parse(own) else {
        return Some(own.to_owned());
    };
    if !rest.remove(modern::SERVER_INFO) {
        return Some(own.to_owned());
    }
    rest.members().next()?;
    Some(rest.to_raw())
}

/// Returns the member that names an item.
fn key(list: List) -> &'static str {
    match list {
        List::Tools | List::Prompts => "name",
        List::Resources => "uri",
        List::Templates => "uriTemplate",
    }
}

impl Naming<'_> {
    /// Returns what clients call the tool or prompt `own`.
    pub fn name(&self, own: &str) -> String {
        if self.prefixed {
            name::shortened(&name::prefixed(self.backend, own), self.max).into_owned()
        } else {
            own.to_owned()
        }
    }

    /// Returns what clients call the resource or template `own`.
    pub fn uri(&self, own: &str) -> String {
        if self.prefixed {
            name::prefixed_uri(self.backend, own)
        } else {
            own.to_owned()
        }
    }

    /// Returns an item of a list in the client's words; `called` is what it is called, but for a prefix.
    pub fn item(&self, list: List, item: &Item, called: &str) -> Box<RawValue> {
        let differs = self.prefixed || called != item.own;
        let Some(mut object) = Object::parse(&item.raw).filter(|_| differs) else {
            return item.raw.clone();
        };
        if !self.prefixed {
            object.set(key(list), json::raw(called));
            return object.to_raw();
        }
        match list {
            List::Tools => {
                object.set("name", json::raw(&self.name(called)));
                object.edit("_meta", |meta| self.app_meta(meta));
            }
            List::Prompts => object.set("name", json::raw(&self.name(called))),
            List::Resources | List::Templates => {
                object.edit("name", |own| {
                    Some(json::raw(&name::prefixed(self.backend, &json::text(own)?)))
                });
                object.set(key(list), json::raw(&self.uri(&item.own)));
            }
        }
        object.edit("icons", |icons| self.icons(icons));
        object.to_raw()
    }

    /// Returns the result of `method` in the client's words.
    pub fn result<'r>(&self, method: Method, result: &'r RawValue) -> Cow<'r, RawValue> {
        if !self.prefixed {
            return Cow::Borrowed(result);
        }
        let changed = match method {
            Method::Named(Named::Tool) => self.called(result),
            Method::Named(Named::Prompt) => self.got(result),
            Method::Resource(Resource::Read) => self.read(result),
            Method::Resource(Resource::Subscribe | Resource::Unsubscribe)
            | Method::Initialize
            | Method::Ping
            | Method::List(_)
            | Method::SetLevel
            | Method::Complete
            | Method::Discover
            | Method::Listen => None,
        };
        changed.map_or(Cow::Borrowed(result), Cow::Owned)
    }

    /// Returns the parameters of `notifications/resources/updated` in the client's words.
    pub fn updated(&self, params: &RawValue) -> Option<Box<RawValue>> {
        let mut params = Object::parse(params).filter(|_| self.prefixed)?;
        params.edit("uri", |uri| self.raw_uri(uri));
        Some(params.to_raw())
    }

    /// Returns the parameters of a request for sampling in the client's words.
    pub fn sampling(&self, params: &RawValue) -> Option<Box<RawValue>> {
        let mut params = Object::parse(params).filter(|_| self.prefixed)?;
        params.edit("messages", |messages| self.messages(messages));
        Some(params.to_raw())
    }

    fn called(&self, result: &RawValue) -> Option<Box<RawValue>> {
        let mut object = Object::parse(result)?;
        object.edit("content", |content| self.blocks(content));
        object.edit("_meta", |meta| self.app_meta(meta));
        Some(object.to_raw())
    }

    fn got(&self, result: &RawValue) -> Option<Box<RawValue>> {
        let mut object = Object::parse(result)?;
        object.edit("messages", |messages| self.messages(messages));
        Some(object.to_raw())
    }

    fn read(&self, result: &RawValue) -> Option<Box<RawValue>> {
        let mut object = Object::parse(result)?;
        object.edit("contents", |contents| {
            each(contents, |content| {
                let mut content = Object::parse(content)?;
                content.edit("uri", |uri| self.raw_uri(uri));
                Some(content.to_raw())
            })
        });
        Some(object.to_raw())
    }

    fn messages(&self, messages: &RawValue) -> Option<Box<RawValue>> {
        each(messages, |message| {
            let mut message = Object::parse(message)?;
            // One block, or since 2025-11-25 an array of them.
            message.edit("content", |content| {
                self.blocks(content).or_else(|| self.block(content))
            });
            Some(message.to_raw())
        })
    }

    fn blocks(&self, content: &RawValue) -> Option<Box<RawValue>> {
        each(content, |block| self.block(block))
    }

    /// Rewrites a content block, if it is one that holds a URI.
    fn block(&self, block: &RawValue) -> Option<Box<RawValue>> {
        let mut object = Object::parse(block)?;
        match object.text("type").as_deref() {
            Some("resource_link") => object.edit("uri", |uri| self.raw_uri(uri)),
            Some("resource") => object.edit("resource", |resource| {
                let mut resource = Object::parse(resource)?;
                resource.edit("uri", |uri| self.raw_uri(uri));
                Some(resource.to_raw())
            }),
            Some(_) | None => return None,
        }
        Some(object.to_raw())
    }

    /// Rewrites the members that MCP Apps have in `_meta`.
    fn app_meta(&self, meta: &RawValue) -> Option<Box<RawValue>> {
        let mut meta = Object::parse(meta)?;
        meta.edit("ui/resourceUri", |uri| self.raw_uri(uri));
        meta.edit("ui", |ui| {
            let mut ui = Object::parse(ui)?;
            ui.edit("resourceUri", |uri| self.raw_uri(uri));
            Some(ui.to_raw())
        });
        Some(meta.to_raw())
    }

    /// Icons are loaded by the client itself, so only those in a backend's own scheme are rewritten.
    fn icons(&self, icons: &RawValue) -> Option<Box<RawValue>> {
        each(icons, |icon| {
            let mut icon = Object::parse(icon)?;
            icon.edit("src", |src| {
                let own = json::text(src)?;
                own.starts_with("ui://").then(|| json::raw(&self.uri(&own)))
            });
            Some(icon.to_raw())
        })
    }

    fn raw_uri(&self, own: &RawValue) -> Option<Box<RawValue>> {
        Some(json::raw(&self.uri(&json::text(own)?)))
    }
}

/// Returns the array `raw` with the elements that `change` has an opinion on replaced.
fn each(raw: &RawValue, change: impl Fn(&RawValue) -> Option<Box<RawValue>>) -> Option<Box<RawValue>> {
    let elements = json::elements(raw)?;
    let changed: Vec<Cow<'_, RawValue>> = elements
        .into_iter()
        .map(|element| change(element).map_or(Cow::Borrowed(element), Cow::Owned))
        .collect();
    Some(json::raw(&changed))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NAMING: Naming<'_> = Naming {
        backend: "b",
        prefixed: true,
        max: name::MAX_NAME,
    };

    #[track_caller]
    fn check(method: &str, before: Value, after: Value) {
        let before = json::raw(&before);
        let method = Method::find(method).expect("a method");
        assert_eq!(NAMING.result(method, &before).get(), after.to_string());
        let bare = Naming {
            prefixed: false,
            ..NAMING
        };
        assert_eq!(bare.result(method, &before).get(), before.get());
    }

    #[test]
    fn uris_in_results_are_the_clients() {
        check(
            "tools/call",
            json!({ "_meta": { "ui": { "resourceUri": "ui://r" }, "ui/resourceUri": "ui://s" },
                    "content": [
                        { "type": "text", "text": "file:///a" },
                        { "type": "resource_link", "uri": "file:///a" },
                        { "type": "resource", "resource": { "uri": "file:///b", "text": "x" } } ],
                    "structuredContent": { "uri": "file:///c" } }),
            json!({ "_meta": { "ui": { "resourceUri": "ui://b/r" }, "ui/resourceUri": "ui://b/s" },
                    "content": [
                        { "type": "text", "text": "file:///a" },
                        { "type": "resource_link", "uri": "b+file:///a" },
                        { "type": "resource", "resource": { "uri": "b+file:///b", "text": "x" } } ],
                    "structuredContent": { "uri": "file:///c" } }),
        );
        check(
            "prompts/get",
            json!({ "messages": [{ "role": "user", "content": { "type": "resource_link", "uri": "u:a" } }] }),
            json!({ "messages": [{ "role": "user", "content": { "type": "resource_link", "uri": "b+u:a" } }] }),
        );
        check(
            "resources/read",
            json!({ "contents": [{ "uri": "u:a", "blob": "AA==" }] }),
            json!({ "contents": [{ "uri": "b+u:a", "blob": "AA==" }] }),
        );
        check(
            "resources/read",
            json!({ "contents": 7 }),
            json!({ "contents": 7 }),
        );
        check("tools/call", json!([1]), json!([1]));
    }

    #[test]
    fn items_are_the_clients() {
        let check = |list: List, before: Value, after: Value| {
            let result =
                json::raw(&json!({ list.member(): [before.clone()], "nextCursor": "c", "ttlMs": 5 }));
            let page = Page::read(list, &result).expect("a page");
            assert_eq!(
                page.next.map(|next| next.get().to_owned()).as_deref(),
                Some("\"c\"")
            );
            assert_eq!(page.ttl, Some(5));
            let item = page.items.first().expect("an item");
            assert_eq!(NAMING.item(list, item, &item.own).get(), after.to_string());
            let bare = Naming {
                prefixed: false,
                ..NAMING
            };
            assert_eq!(bare.item(list, item, &item.own).get(), before.to_string());
            let renamed = bare.item(list, item, "n");
            let renamed: Value = serde_json::from_str(renamed.get()).expect("a document");
            assert_eq!(renamed[key(list)], "n");
        };
        check(
            List::Tools,
            json!({ "_meta": { "ui": { "resourceUri": "ui://x/y" } }, "inputSchema": { "$ref": "#" }, "name": "t" }),
            json!({ "_meta": { "ui": { "resourceUri": "ui://b/x/y" } }, "inputSchema": { "$ref": "#" }, "name": "b__t" }),
        );
        check(
            List::Prompts,
            json!({ "name": "p", "title": "p" }),
            json!({ "name": "b__p", "title": "p" }),
        );
        check(
            List::Resources,
            json!({ "icons": [{ "src": "ui://i" }, { "src": "https://i" }], "name": "r", "uri": "u:r" }),
            json!({ "icons": [{ "src": "ui://b/i" }, { "src": "https://i" }], "name": "b__r", "uri": "b+u:r" }),
        );
        check(
            List::Templates,
            json!({ "name": "r", "uriTemplate": "u:{r}" }),
            json!({ "name": "b__r", "uriTemplate": "b+u:{r}" }),
        );
    }

    #[test]
    fn what_servers_say_of_themselves_is_left_out() {
        let check = |before: Value, after: Option<&str>| {
            let result = json::raw(&json!({ "tools": [], "_meta": before }));
            let page = Page::read(List::Tools, &result).expect("a page");
            assert_eq!(page.meta.as_deref().map(RawValue::get), after, "{before}");
        };
        let own = json!({ "name": "s", "version": "1" });
        check(json!({ "io.modelcontextprotocol/serverInfo": own }), None);
        check(
            json!({ "io.modelcontextprotocol/serverInfo": own, "a": 1 }),
            Some(r#"{"a":1}"#),
        );
        check(json!({ "a": 1 }), Some(r#"{"a":1}"#));
        check(json!(7), Some("7"));
    }

    #[test]
    fn items_without_a_name_are_left_out() {
        let result = json::raw(&json!({ "tools": [{ "title": "x" }, 7, { "name": "t" }], "nextCursor": "" }));
        let page = Page::read(List::Tools, &result).expect("a page");
        assert_eq!(page.items.len(), 1);
        assert!(page.next.is_none());
        assert!(Page::read(List::Tools, &json::raw(&json!({ "tools": {} }))).is_none());
    }
}
