//! Metrics in the format that a scraper asks for.
//!
//! OpenMetrics is what the registry writes. The older text format, which tools still expect where they ask for nothing, says
//! the same in other places: the name of a counter's family has the suffix of its samples, and there are neither units nor an
//! end. Native histograms cannot be said in either; Prometheus reads those as protocol buffers.

use std::fmt;

use http::{HeaderMap, header};

use super::{histogram::Form, native};

/// A format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's own, 0.0.4.
    Prometheus,
    /// Prometheus's protocol buffers, with native histograms.
    Native,
}

impl Exposition {
    /// Returns the format that a request asks for. `native` tells whether there are native histograms; whoever reads them
    /// reads text too.
    pub(crate) fn asked(headers: &HeaderMap, native: bool) -> Self {
        let names = |wanted: &[u8]| {
            let mut accepted = headers.get_all(header::ACCEPT).iter();
            accepted.any(|value| value.as_bytes().windows(wanted.len()).any(|part| part == wanted))
        };
        if native && names(NATIVE) {
            Exposition::Native
        } else if names(OPEN) {
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
            Exposition::Native => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// Returns what `read` tells, which is OpenMetrics, in this format.
    ///
    /// # Errors
    /// Those of `read`.
    pub(crate) fn write(
        self,
        read: impl Fn(Form) -> Result<String, fmt::Error>,
    ) -> Result<Vec<u8>, fmt::Error> {
        let text = read(Form::Declared)?;
        Ok(match self {
            Exposition::OpenMetrics => text.into_bytes(),
            Exposition::Prometheus => classic(&text).into_bytes(),
            Exposition::Native => native::write(&text, &read(Form::Fine)?),
        })
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

/// What who reads native histograms names.
const NATIVE: &[u8] = b"proto=io.prometheus.client.MetricFamily";

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn who_asks_for_openmetrics_gets_it() {
        let check = |accept: Option<&'static str>, native, expected| {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(Exposition::asked(&headers, native), expected, "{accept:?}");
        };
        check(None, true, Exposition::Prometheus);
        check(Some("*/*"), true, Exposition::Prometheus);
        let scraper = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        check(Some(scraper), true, Exposition::OpenMetrics);
        let reader = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
                      application/openmetrics-text;version=1.0.0;q=0.8";
        check(Some(reader), false, Exposition::OpenMetrics);
        check(Some(reader), true, Exposition::Native);
    }

    #[test]
    fn the_older_format_names_counters_by_their_samples() {
        let open = "# HELP a_seconds How long, all told.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n\
                    a_seconds_bucket{le=\"+Inf\"} 1\n# HELP b Calls.\n# TYPE b counter\nb_total{x=\"# y\"} 2\n# EOF\n";
        let expected = "# HELP a_seconds How long, all told.\n# TYPE a_seconds histogram\n\
                        a_seconds_bucket{le=\"+Inf\"} 1\n# HELP b_total Calls.\n# TYPE b_total counter\n\
                        b_total{x=\"# y\"} 2\n";
        let check = |format: Exposition, expected: &str| {
            let written = format.write(|_| Ok(open.to_owned())).expect("it is readable");
            assert_eq!(String::from_utf8_lossy(&written), expected);
        };
        check(Exposition::Prometheus, expected);
        check(Exposition::OpenMetrics, open);
    }
}
