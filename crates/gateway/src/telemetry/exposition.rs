//! Metrics as text, in the format that a scraper asks for.
//!
//! OpenMetrics is what the registry writes. The older text format, which tools still expect where they ask for nothing, says
//! the same in other places: the name of a counter's family has the suffix of its samples, and there are neither units nor an
//! end.

use http::{HeaderMap, header};

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's own, 0.0.4.
    Prometheus,
}

impl Exposition {
    /// Returns the format that a request asks for.
    pub(crate) fn asked(headers: &HeaderMap) -> Self {
        let mut accepted = headers.get_all(header::ACCEPT).iter();
        let names = |value: &[u8]| value.windows(OPEN.len()).any(|part| part == OPEN);
        if accepted.any(|value| names(value.as_bytes())) {
            Exposition::OpenMetrics
        } else {
            Exposition::Prometheus
        }
    }

    /// Returns its media type.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Exposition::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Returns `text`, which is OpenMetrics, in this format.
    pub(crate) fn write(self, text: String) -> String {
        match self {
            Exposition::OpenMetrics => text,
            Exposition::Prometheus => classic(&text),
        }
    }
}

fn classic(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut help = None;
    let mut line = |parts: [&str; 3]| {
        let [before, name, after] = parts;
        out.extend([before, name, after, "\n"]);
    };
    for written in text.lines() {
        let mut words = written.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), text) => help = Some((name, text.unwrap_or_default())),
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let suffix = if kind == "counter" { "_total" } else { "" };
                if let Some((_, text)) = help.take().filter(|(known, _)| *known == name) {
                    line(["# HELP ", name, &format!("{suffix} {text}")]);
                }
                line(["# TYPE ", name, &format!("{suffix} {kind}")]);
            }
            (Some("#"), ..) => {}
            _ => line(["", written, ""]),
        }
    }
    out
}

/// The media type of OpenMetrics.
const OPEN: &[u8] = b"application/openmetrics-text";

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn who_asks_for_openmetrics_gets_it() {
        let check = |accept: Option<&'static str>, expected| {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(Exposition::asked(&headers), expected, "{accept:?}");
        };
        check(None, Exposition::Prometheus);
        check(Some("*/*"), Exposition::Prometheus);
        let scraper = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        check(Some(scraper), Exposition::OpenMetrics);
    }

    #[test]
    fn the_older_format_names_counters_by_their_samples() {
        let open = "# HELP a_seconds How long, all told.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n\
                    a_seconds_bucket{le=\"+Inf\"} 1\n# HELP b Calls.\n# TYPE b counter\nb_total{x=\"# y\"} 2\n# EOF\n";
        let expected = "# HELP a_seconds How long, all told.\n# TYPE a_seconds histogram\n\
                        a_seconds_bucket{le=\"+Inf\"} 1\n# HELP b_total Calls.\n# TYPE b_total counter\n\
                        b_total{x=\"# y\"} 2\n";
        assert_eq!(Exposition::Prometheus.write(open.to_owned()), expected);
        assert_eq!(Exposition::OpenMetrics.write(open.to_owned()), open);
    }
}
