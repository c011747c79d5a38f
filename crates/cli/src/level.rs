//! How much is said on standard error, as it is written.

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// Reads a level, or several by part as in `warn,gateway=debug`. A word alone is a level and nothing else: one that is
/// misspelt must not silence the log.
///
/// # Errors
/// Why it is none.
pub(crate) fn filter(written: &str) -> Result<EnvFilter, String> {
    let alone = written
        .split(',')
        .filter(|piece| !piece.contains(['=', '[', ']', '}']));
    for word in alone {
        let level = word.trim().parse::<LevelFilter>().ok();
        level.filter(|_| !word.trim().is_empty()).ok_or_else(|| {
            format!(
                "\"{}\" is not one of error, warn, info, debug, trace and off",
                word.trim()
            )
        })?;
    }
    let filter = EnvFilter::builder().parse(written);
    filter.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_alone_are_levels() {
        let check = |written: &str, is_one: bool| {
            assert_eq!(filter(written).is_ok(), is_one, "{written:?}");
        };
        for one in [
            "warn",
            "DEBUG",
            "off",
            "warn,gateway=debug",
            "gateway=debug, warn",
            "gateway[span{name=a}]=trace,info",
        ] {
            check(one, true);
        }
        for none in [
            "",
            " ",
            "loud",
            "warn,",
            "warn,gateway",
            "gateway",
            "=,=",
            "gateway=loud",
        ] {
            check(none, false);
        }
    }
}
