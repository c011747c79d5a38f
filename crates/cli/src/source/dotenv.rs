//! Files of variables, as editors and shells keep them: a line `NAME=value` each.
//!
//! `export` before a name, comments and quotes are understood as the library does that gave the files their name:
//! within double quotes `\n` and the like mean characters, within others nothing does, and either may hold lines.

/// A variable and its value.
pub(super) type Variable = (String, String);

/// Reads the variables of a file.
///
/// # Errors
/// What is wrong with it, by line.
pub(super) fn read(text: &str) -> Result<Vec<Variable>, String> {
    let mut variables = Vec::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut line = 1;
    while !rest.is_empty() {
        let before = rest;
        let (first, after) = rest.split_once('\n').unwrap_or((rest, ""));
        rest = after;
        let written = first.trim();
        if !written.is_empty() && !written.starts_with('#') {
            let (name, value) = assignment(written).ok_or_else(|| format!("line {line} is no NAME=value"))?;
            let value = match value.chars().next() {
                Some(quote @ ('"' | '\'' | '`')) => {
                    let begin = before.len() - before.trim_start().len() + (written.len() - value.len());
                    let unclosed = || format!("the quote in line {line} is not closed");
                    let (inner, after) = before
                        .get(begin + 1..)
                        .and_then(|inner| quoted(inner, quote))
                        .ok_or_else(unclosed)?;
                    rest = after.split_once('\n').map_or("", |(_, after)| after);
                    if quote == '"' {
                        unescaped(inner)
                    } else {
                        inner.to_owned()
                    }
                }
                Some(_) | None => bare(value).to_owned(),
            };
            variables.push((name.to_owned(), value));
        }
        line += before
            .len()
            .checked_sub(rest.len())
            .and_then(|read| before.get(..read))
            .map_or(0, lines);
    }
    Ok(variables)
}

fn lines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// Returns the name and the value of a line, which begins with neither spaces nor a comment.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = match line.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
        Some(_) | None => line,
    };
    let (name, value) = line.split_once('=')?;
    let name = name.trim_end();
    let clean = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (!name.is_empty() && name.bytes().all(clean)).then(|| (name, value.trim_start()))
}

/// Returns what stands before the closing quote, and what comes after it.
fn quoted(text: &str, quote: char) -> Option<(&str, &str)> {
    let mut escaped = false;
    let end = text.char_indices().find_map(|(at, c)| {
        let closes = c == quote && !escaped;
        escaped = quote == '"' && c == '\\' && !escaped;
        closes.then_some(at)
    })?;
    let (inner, after) = text.split_at_checked(end)?;
    Some((inner, after.strip_prefix(quote)?))
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, false) => out.push(c),
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some('t') => out.push('\t'),
                Some(own @ ('"' | '\\' | '$')) => out.push(own),
                Some(other) => out.extend(['\\', other]),
                None => out.push('\\'),
            },
        }
    }
    out
}

/// Returns a value without quotes, without the comment that may follow it.
fn bare(value: &str) -> &str {
    let comment = value.match_indices('#').map(|(at, _)| at).find(|at| {
        *at == 0
            || value
                .get(..*at)
                .is_some_and(|before| before.ends_with([' ', '\t']))
    });
    comment.and_then(|at| value.get(..at)).unwrap_or(value).trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_as_editors_do() {
        let check = |text: &str, expected: &[(&str, &str)]| {
            let expected: Vec<Variable> = expected
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            assert_eq!(read(text), Ok(expected), "{text:?}");
        };
        check("", &[]);
        check("A=b", &[("A", "b")]);
        check(
            "\u{feff}# c\n\n  export A = b c \r\nB=\n",
            &[("A", "b c"), ("B", "")],
        );
        check("A=b # c\nB=a#c\nC=# c", &[("A", "b"), ("B", "a#c"), ("C", "")]);
        check(
            "A=\"a # \\\"b\\\"\\n\\x\" # c\nB='a\\n$b'\nC=`it's`",
            &[("A", "a # \"b\"\n\\x"), ("B", "a\\n$b"), ("C", "it's")],
        );
        check("A=\"a\nb\"\nB=${X}=\n", &[("A", "a\nb"), ("B", "${X}=")]);
        check("exports=1\nexport=2", &[("exports", "1"), ("export", "2")]);
    }

    #[test]
    fn what_is_wrong_is_said_by_line() {
        let check = |text: &str, said: &str| assert_eq!(read(text), Err(said.to_owned()), "{text:?}");
        check("A=1\nB", "line 2 is no NAME=value");
        check("A='x\ny'\n=1", "line 3 is no NAME=value");
        check("A B=1", "line 1 is no NAME=value");
        check("\nA=\"b\\\"", "the quote in line 2 is not closed");
    }
}
