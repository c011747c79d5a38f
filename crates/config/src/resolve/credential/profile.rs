//! Credentials files of AWS: profiles of names and values.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Shared config and credentials files".

use crate::{Secret, credential::AwsKeys};

/// Returns the keys of the profile `name` in `text`.
///
/// # Errors
/// What is missing, without anything of the text.
pub(super) fn keys(text: &str, name: &str) -> Result<AwsKeys, String> {
    let mut found = false;
    let mut within = false;
    let (mut id, mut secret, mut session) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[') {
            let section = section.split(']').next().unwrap_or_default().trim();
            let section = section.strip_prefix("profile ").unwrap_or(section).trim();
            within = section == name;
            found |= within;
            continue;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| within) else {
            continue;
        };
        let value = value.trim();
        match key.trim().to_ascii_lowercase().as_str() {
            "aws_access_key_id" => id = Some(value),
            "aws_secret_access_key" => secret = Some(value),
            "aws_session_token" => session = Some(value),
            // Regions, and settings of other tools.
            _ => {}
        }
    }
    if !found {
        return Err(format!("the credentials file has no profile \"{name}\""));
    }
    let given = |value: Option<&str>, key: &str| {
        let value = value.filter(|value| !value.is_empty());
        let value = value.map(str::to_owned);
        value.ok_or_else(|| format!("profile \"{name}\" of the credentials file has no {key}"))
    };
    Ok(AwsKeys {
        id: given(id, "aws_access_key_id")?,
        secret: Secret::new(given(secret, "aws_secret_access_key")?),
        session: session.filter(|token| !token.is_empty()).map(Secret::new),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, name: &str, expected: Result<(&str, &str, Option<&str>), &str>) {
        let keys = keys(text, name);
        let keys = keys.as_ref().map(|keys| {
            let session = keys.session.as_ref().map(Secret::expose);
            (keys.id.as_str(), keys.secret.expose(), session)
        });
        assert_eq!(keys.map_err(String::as_str), expected, "{text}");
    }

    #[test]
    fn a_profile_is_found_by_its_name() {
        let text = "# ours\n[default]\r\naws_access_key_id = AKID\naws_secret_access_key= a/b=\nregion = r\n\n\
                    [ profile other ]\nAWS_ACCESS_KEY_ID=O\naws_secret_access_key=s\naws_session_token = t==\n";
        check(text, "default", Ok(("AKID", "a/b=", None)));
        check(text, "other", Ok(("O", "s", Some("t=="))));
        check(text, "none", Err("the credentials file has no profile \"none\""));
        let lacks = |key: &str| format!("profile \"default\" of the credentials file has no {key}");
        check("[default]\n", "default", Err(&lacks("aws_access_key_id")));
        let half = "[default]\naws_access_key_id=a\naws_secret_access_key=\n[x]\naws_secret_access_key=b";
        check(half, "default", Err(&lacks("aws_secret_access_key")));
        check(
            "",
            "default",
            Err("the credentials file has no profile \"default\""),
        );
    }
}
