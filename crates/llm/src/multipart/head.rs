//! The headers of a part: what it is called, and whether its content is what it seems.

/// What the headers of a part say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The name of the field.
    pub name: String,
    /// Whether the content is a file: it has a name of its own.
    pub is_file: bool,
    /// That name, in plain characters.
    pub file: Option<String>,
    /// Whether the headers tie the content down: to an encoding, or to its length.
    pub is_bound: bool,
}

impl Head {
    /// Reads complete headers, their blank line included.
    pub(super) fn parse(head: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(head).map_err(|_| "something is not UTF-8")?;
        let mut part = Head::default();
        let mut disposed = false;
        for line in text.split("\r\n").filter(|line| !line.is_empty()) {
            if line.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
                return Err("there is a control character");
            }
            if line.starts_with([' ', '\t']) {
                return Err("a line is folded");
            }
            let (name, value) = line.split_once(':').ok_or("a line has no colon")?;
            let value = value.trim_matches([' ', '\t']);
            if name.eq_ignore_ascii_case("content-disposition") {
                if std::mem::replace(&mut disposed, true) {
                    return Err("content-disposition is given twice");
                }
                part.dispose(value)?;
            } else if name.eq_ignore_ascii_case("content-transfer-encoding") {
                let plain = ["7bit", "8bit", "binary"];
                part.is_bound |= !plain.iter().any(|plain| value.eq_ignore_ascii_case(plain));
            } else if name.eq_ignore_ascii_case("content-length") {
                part.is_bound = true;
            } else if name.trim_matches([' ', '\t']).len() != name.len() {
                return Err("there is a blank before a colon");
            }
        }
        if part.name.is_empty() {
            return Err("no content-disposition names the field");
        }
        Ok(part)
    }

    fn dispose(&mut self, value: &str) -> Result<(), &'static str> {
        let (kind, rest) = value.split_once(';').unwrap_or((value, ""));
        if !kind.trim().eq_ignore_ascii_case("form-data") {
            return Err("content-disposition is not form-data");
        }
        let mut name = None;
        for parameter in parameters(rest) {
            let (key, value) = parameter?;
            if key.eq_ignore_ascii_case("name") {
                if value.contains('\\') {
                    return Err("a field's name has a backslash");
                }
                if name.replace(value).is_some() {
                    return Err("a field has two names");
                }
            } else if key.eq_ignore_ascii_case("name*") {
                return Err("a field's name is given as name*");
            } else if key.eq_ignore_ascii_case("filename") || key.eq_ignore_ascii_case("filename*") {
                self.is_file = true;
                if !key.ends_with('*') {
                    self.file = Some(value);
                }
            }
        }
        self.name = name.unwrap_or_default();
        Ok(())
    }
}

/// Returns the parameters in what follows the first semicolon of a header.
///
/// In a quoted value `\"` is a quote and any other backslash stands for itself: browsers escape quotes alone,
/// or write them as `%22`, and old ones sent whole paths of Windows.
pub(super) fn parameters(text: &str) -> impl Iterator<Item = Result<(&str, String), &'static str>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        if rest.is_empty() {
            return None;
        }
        let parameter = parameter(rest);
        rest = parameter.as_ref().map_or("", |(_, _, rest)| rest);
        Some(parameter.map(|(name, value, _)| (name, value)))
    })
}

/// Returns the first parameter of `text`, and what follows it.
fn parameter(text: &str) -> Result<(&str, String, &str), &'static str> {
    let (name, text) = text.split_once('=').ok_or("a parameter has no value")?;
    let name = name.trim_matches([' ', '\t']);
    if name.contains([';', '"', ' ', '\t']) {
        return Err("a parameter has no value");
    }
    let text = text.trim_start_matches([' ', '\t']);
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find(';').unwrap_or(text.len()));
        let value = value.trim_end_matches([' ', '\t']);
        if value.is_empty() || value.contains(['"', ' ', '\t']) {
            return Err("a parameter's value is not a word");
        }
        return Ok((name, value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => {
                let rest = quoted.get(at + 1..).unwrap_or_default();
                let follows = rest.trim_start_matches([' ', '\t']);
                if !follows.is_empty() && !follows.starts_with(';') {
                    return Err("something follows a quoted value");
                }
                return Ok((name, value, rest));
            }
            '\\' if quoted.get(at + 1..).is_some_and(|rest| rest.starts_with('"')) => {
                value.push('"');
                chars.next();
            }
            char => value.push(char),
        }
    }
    Err("a quoted value does not end")
}
