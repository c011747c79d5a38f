//! Changes of headers, as services write them by gRPC: Envoy's HeaderValueOption.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{
    is_reserved,
    protobuf::{Fields, Malformed, Value},
};

/// One change of headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderEdit {
    /// A header is taken off.
    Remove(HeaderName),
    /// A header is put in place of those of its name.
    Set(HeaderName, HeaderValue),
    /// A header is put beside those of its name.
    Append(HeaderName, HeaderValue),
    /// A header is put where there is none of its name.
    Fill(HeaderName, HeaderValue),
    /// A header is put in place of those of its name, if there are any.
    Replace(HeaderName, HeaderValue),
}

impl HeaderEdit {
    /// Makes the change.
    pub fn apply(&self, headers: &mut HeaderMap) {
        match self {
            HeaderEdit::Remove(name) => {
                headers.remove(name);
            }
            HeaderEdit::Set(name, value) => {
                headers.insert(name.clone(), value.clone());
            }
            HeaderEdit::Append(name, value) => {
                headers.append(name.clone(), value.clone());
            }
            HeaderEdit::Fill(name, value) => {
                headers.entry(name.clone()).or_insert_with(|| value.clone());
            }
            HeaderEdit::Replace(name, value) => {
                if headers.contains_key(name) {
                    headers.insert(name.clone(), value.clone());
                }
            }
        }
    }
}

/// Returns a header that a service may take off.
pub(crate) fn removable(name: &str) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).ok()?;
    (!is_reserved(name.as_str()) && name != header::HOST).then_some(name)
}

/// Returns a header that a service may set.
pub(crate) fn settable(name: &str, value: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    Some((removable(name)?, HeaderValue::from_bytes(value).ok()?))
}

/// A header as a service writes it: a HeaderValueOption.
#[derive(Debug, Default)]
pub(crate) struct Written<'a> {
    name: &'a str,
    value: &'a [u8],
    append: Option<bool>,
    action: u64,
}

impl<'a> Written<'a> {
    /// Reads a HeaderValueOption: header = 1, append = 2, append_action = 3.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut written = Self::default();
        for field in Fields::of(bytes) {
            match field? {
                // HeaderValue: key = 1, value = 2, raw_value = 3.
                (1, header) => {
                    for field in Fields::of(header.as_bytes()?) {
                        match field? {
                            (1, name) => written.name = name.as_text()?,
                            (2 | 3, value) => written.value = value.as_bytes()?,
                            _ => {}
                        }
                    }
                }
                (2, append) => written.append = Some(code(append)? != 0),
                (3, action) => written.action = action.as_number()?,
                _ => {}
            }
        }
        Ok(written)
    }

    /// Returns name and value, whatever they are.
    pub(crate) fn pair(&self) -> (&'a str, &'a [u8]) {
        (self.name, self.value)
    }

    /// Returns the header, if a service may set it.
    pub(crate) fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        settable(self.name, self.value)
    }

    /// Returns how the request is changed. What says neither overwrites, as it always has for such services.
    pub(crate) fn edit(&self) -> Option<HeaderEdit> {
        let (name, value) = self.header()?;
        Some(match (self.append, self.action) {
            (Some(true), _) => HeaderEdit::Append(name, value),
            (None, ADD_IF_ABSENT) => HeaderEdit::Fill(name, value),
            (None, OVERWRITE_IF_EXISTS) => HeaderEdit::Replace(name, value),
            (Some(false) | None, _) => HeaderEdit::Set(name, value),
        })
    }
}

/// Reads the number of a google.rpc.Status, an HttpStatus or a BoolValue: all have it as 1.
pub(crate) fn code(message: Value<'_>) -> Result<i32, Malformed> {
    let mut code = 0;
    for field in Fields::of(message.as_bytes()?) {
        if let (1, value) = field? {
            // Numbers below 0 are written with all 64 bits.
            code = value.as_number()? as i32;
        }
    }
    Ok(code)
}

/// `HeaderAppendAction` of HeaderValueOption, as far as it is not the default.
pub(crate) const ADD_IF_ABSENT: u64 = 1;
pub(crate) const OVERWRITE_IF_EXISTS: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decides_cannot_be_changed() {
        for name in ["Host", "content-length", "x-ai-eg-model", ":path", "a b"] {
            assert_eq!(removable(name), None, "{name}");
        }
    }
}
