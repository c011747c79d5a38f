//! Where clients find the endpoints: what stands before their paths, as it is configured.
//!
//! The table of endpoints has the paths as they are where nothing is configured: OpenAI's and Google's at the root,
//! Anthropic's and Cohere's in folders of their own. Any of these may be moved, and all together.

use std::borrow::Cow;

use crate::Endpoint;

/// The folders of the table; the paths of the last one are those in no other.
const ANTHROPIC: &str = "/anthropic";
const COHERE: &str = "/cohere";
const OPENAI: &str = "";

/// What stands before the paths of endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefixes {
    /// Without a slash at the end, as all of them; empty for the root.
    root: String,
    openai: String,
    cohere: String,
    anthropic: String,
}

/// Why prefixes cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Something that is not `name:path`.
    #[error("\"{0}\" is not of the form name:/path")]
    Malformed(String),
    /// A name of nobody.
    #[error("\"{0}\" is not one of openai, cohere and anthropic")]
    Unknown(String),
}

impl Default for Prefixes {
    fn default() -> Self {
        Self {
            root: String::new(),
            openai: OPENAI.to_owned(),
            cohere: COHERE.to_owned(),
            anthropic: ANTHROPIC.to_owned(),
        }
    }
}

impl Prefixes {
    /// Returns the prefixes that `endpoints` names, as in `openai:/x,anthropic:/y`; those that it does not name are as
    /// ever. The compatibility specification, "Client endpoint table".
    ///
    /// # Errors
    /// If `endpoints` is not of that form.
    pub fn parse(endpoints: &str) -> Result<Self, PrefixError> {
        let mut prefixes = Self::default();
        if endpoints.trim().is_empty() {
            return Ok(prefixes);
        }
        for pair in endpoints.split(',') {
            let malformed = || PrefixError::Malformed(pair.trim().to_owned());
            let (name, path) = pair.split_once(':').ok_or_else(malformed)?;
            let prefix = match name.trim() {
                "openai" => &mut prefixes.openai,
                "cohere" => &mut prefixes.cohere,
                "anthropic" => &mut prefixes.anthropic,
                other => return Err(PrefixError::Unknown(other.to_owned())),
            };
            *prefix = normal(path);
        }
        Ok(prefixes)
    }

    /// Returns the same prefixes, all of them below `root`.
    #[must_use]
    pub fn below(self, root: &str) -> Self {
        Self {
            root: normal(root),
            ..self
        }
    }

    /// Returns what the table of endpoints calls `path`; nothing that it has, where nothing is served.
    pub fn canonical<'p>(&self, path: &'p str) -> Cow<'p, str> {
        if *self == Self::default() {
            return Cow::Borrowed(path);
        }
        let Some(inside) = below(path, &self.root) else {
            return Cow::Borrowed("");
        };
        let found = self.folders().into_iter().filter_map(|(prefix, folder)| {
            let path = format!("{folder}{}", below(inside, prefix)?);
            // What was moved is not where it was.
            (folder_of(&path) == folder).then_some((prefix.len(), path))
        });
        // Of a path that is nowhere, the longest prefix tells whose it was meant to be.
        let best = found.max_by_key(|(length, path)| (Endpoint::find(path, "").is_some(), *length));
        best.map_or(Cow::Borrowed(""), |(_, path)| Cow::Owned(path))
    }

    /// Returns where clients find what the table of endpoints calls `path`.
    pub fn written(&self, path: &str) -> String {
        let folder = folder_of(path);
        let own = self.folders().into_iter().find(|(_, known)| *known == folder);
        let prefix = own.map_or("", |(prefix, _)| prefix);
        let rest = path.strip_prefix(folder).unwrap_or(path);
        format!("{}{prefix}{rest}", self.root)
    }

    /// Returns the prefixes and the folders that they stand for.
    fn folders(&self) -> [(&str, &'static str); 3] {
        [
            (&self.anthropic, ANTHROPIC),
            (&self.cohere, COHERE),
            (&self.openai, OPENAI),
        ]
    }
}

/// Returns the folder of the table in which `path` lies.
fn folder_of(path: &str) -> &'static str {
    let folders = [ANTHROPIC, COHERE];
    let own = folders.into_iter().find(|folder| below(path, folder).is_some());
    own.unwrap_or(OPENAI)
}

/// Returns what of `path` follows `prefix`, which is a whole number of segments.
fn below<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// Returns `path` with one slash before each segment and none at the end.
fn normal(path: &str) -> String {
    let segments = path.trim().split('/').filter(|segment| !segment.is_empty());
    segments.flat_map(|segment| ["/", segment]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_below_their_prefixes() {
        let check = |root: &str, endpoints: &str, cases: &[(&str, &str)]| {
            let prefixes = Prefixes::parse(endpoints).expect("prefixes").below(root);
            for (path, canonical) in cases {
                assert_eq!(
                    prefixes.canonical(path),
                    *canonical,
                    "{path} below {root} {endpoints}"
                );
                if !canonical.is_empty() && Endpoint::find(canonical, "").is_some() {
                    assert_eq!(prefixes.written(canonical), *path);
                }
            }
        };
        check(
            "/",
            "",
            &[
                ("/v1/chat/completions", "/v1/chat/completions"),
                ("/anthropic/v1/messages", "/anthropic/v1/messages"),
            ],
        );
        check(
            "ai/",
            "",
            &[
                ("/ai/v1/chat/completions", "/v1/chat/completions"),
                ("/ai/anthropic/v1/messages", "/anthropic/v1/messages"),
                ("/v1/chat/completions", ""),
                ("/aix/v1/chat/completions", ""),
                ("/ai/unknown", "/unknown"),
            ],
        );
        check(
            "/",
            "openai:/o, cohere://c/ ,anthropic:",
            &[
                ("/o/v1/chat/completions", "/v1/chat/completions"),
                ("/o/v1/models/m", "/v1/models/m"),
                ("/c/v2/rerank", "/cohere/v2/rerank"),
                ("/v1/messages", "/anthropic/v1/messages"),
                ("/anthropic/v1/messages", "/anthropic/anthropic/v1/messages"),
                ("/v1/chat/completions", "/anthropic/v1/chat/completions"),
                ("/c/unknown", "/cohere/unknown"),
            ],
        );
        check(
            "/",
            "anthropic:/a",
            &[
                ("/a/v1/messages", "/anthropic/v1/messages"),
                ("/anthropic/v1/messages", ""),
                (
                    "/v1beta/models/m:generateContent",
                    "/v1beta/models/m:generateContent",
                ),
            ],
        );
        // Where two share a prefix, the paths tell them apart.
        check(
            "/",
            "anthropic:/",
            &[
                ("/v1/messages", "/anthropic/v1/messages"),
                ("/v1/chat/completions", "/v1/chat/completions"),
            ],
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (endpoints, error) in [
            ("openai", PrefixError::Malformed("openai".to_owned())),
            ("openai:/a,", PrefixError::Malformed(String::new())),
            ("OpenAI:/a", PrefixError::Unknown("OpenAI".to_owned())),
        ] {
            assert_eq!(Prefixes::parse(endpoints), Err(error));
        }
    }
}
