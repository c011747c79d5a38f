//! Secrets: base64, values in clear, and values that annotations take from the environment or from files.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    Severity,
    document::{Document, Reader},
};
use crate::{
    Secret,
    kind::{SecretData, secret::Written},
};

impl Reader<'_> {
    pub(super) fn secret(&mut self, document: &Document<'_>) {
        let Some(written) = self.decoded::<Written>(document) else {
            return;
        };
        let mut data: BTreeMap<String, Secret> = BTreeMap::new();
        for (key, value) in &written.data {
            let value: String = value.split_ascii_whitespace().collect();
            let decoded = STANDARD.decode(value).map(String::from_utf8);
            match decoded {
                Ok(Ok(value)) => {
                    data.insert(key.clone(), Secret::new(value));
                }
                Ok(Err(_)) => self.remark(document, key, "the value is not UTF-8 and is left out"),
                Err(_) => {
                    let path = format!("data.{key}");
                    return self.fail(document, document.node.at, &path, "expected a value in base64");
                }
            }
        }
        let clear = written.string_data.into_iter();
        data.extend(clear.map(|(key, value)| (key, Secret::new(value))));
        // The environment comes last, because it wins over files.
        for origin in [FILE, ENVIRONMENT] {
            for (annotation, source) in &written.metadata.annotations {
                let Some(key) = annotation.strip_prefix(origin) else {
                    continue;
                };
                match self.fetch(origin, source) {
                    Ok(value) => {
                        data.insert(key.to_owned(), Secret::new(value));
                    }
                    Err(reason) => {
                        let message = format!("{reason}: the key stays as it is");
                        self.remark(document, annotation, &message);
                    }
                }
            }
        }
        self.insert(document, written.metadata, SecretData { data }, |resources| {
            &mut resources.secrets
        });
    }

    /// Returns what an annotation that begins with `origin` refers to.
    fn fetch(&self, origin: &str, source: &str) -> Result<String, String> {
        if origin == FILE {
            (self.surroundings.reader)(source)
                .map_err(|error| format!("the file {source} cannot be read ({error})"))
        } else {
            (self.surroundings.environment)(source)
                .filter(|value| !value.is_empty())
                .ok_or_else(|| format!("${source} is not set or empty"))
        }
    }

    fn remark(&mut self, document: &Document<'_>, field: &str, message: &str) {
        self.say(Severity::Warning, document.node.at, field, message);
    }
}

/// What annotations begin with that refer to something outside.
pub(super) const ORIGIN: &str = "substitution.aigw.run/";
const ENVIRONMENT: &str = "substitution.aigw.run/env/";
const FILE: &str = "substitution.aigw.run/file/";
