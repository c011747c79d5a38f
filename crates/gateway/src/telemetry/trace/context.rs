//! Where a request stands in a trace: read from the client's headers, written into each call.

use http::{HeaderMap, HeaderValue};

use super::span::hex;

/// A place in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) trace: [u8; 16],
    pub(crate) span: [u8; 8],
    pub(crate) sampled: bool,
    /// What other systems want handed on (W3C Trace Context, section 3.3).
    pub(crate) state: Option<HeaderValue>,
}

/// How places travel in headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagator {
    /// `traceparent` and `tracestate` of W3C Trace Context.
    TraceContext,
    /// The one header of B3.
    B3,
    /// The several headers of B3.
    B3Multi,
    /// `uber-trace-id` of Jaeger.
    Jaeger,
    /// `x-amzn-trace-id` of AWS X-Ray.
    XRay,
    /// The headers of OpenTracing, whose traces have ids of 64 bits.
    OtTrace,
}

impl Propagator {
    /// Returns the place that `headers` name.
    pub(crate) fn extract(self, headers: &HeaderMap) -> Option<Place> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        match self {
            Propagator::TraceContext => {
                let mut place = parent(text("traceparent")?)?;
                place.state = headers.get("tracestate").cloned();
                Some(place)
            }
            Propagator::B3 => {
                let mut pieces = text("b3")?.split('-');
                let (trace, span) = (pieces.next()?, pieces.next()?);
                b3(trace, span, pieces.next())
            }
            Propagator::B3Multi => {
                let sampled = match text("x-b3-flags") {
                    Some("1") => Some("d"),
                    _ => text("x-b3-sampled"),
                };
                b3(text("x-b3-traceid")?, text("x-b3-spanid")?, sampled)
            }
            Propagator::Jaeger => {
                let mut pieces = text("uber-trace-id")?.split(':');
                let (trace, span) = (pieces.next()?, pieces.next()?);
                let flags = u8::from_str_radix(pieces.nth(1)?, 16).ok()?;
                place(trace, span, flags & 1 == 1)
            }
            Propagator::XRay => xray(text("x-amzn-trace-id")?),
            Propagator::OtTrace => {
                let sampled =
                    text("ot-tracer-sampled").is_some_and(|sampled| matches!(sampled, "true" | "1"));
                place(text("ot-tracer-traceid")?, text("ot-tracer-spanid")?, sampled)
            }
        }
    }

    /// Writes `place` in place of what `headers` name.
    pub(crate) fn inject(self, place: &Place, headers: &mut HeaderMap) {
        for (name, value) in self.fields(place) {
            // Hexadecimal digits and dashes can always stand in a header.
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        if self == Propagator::B3Multi {
            headers.remove("x-b3-parentspanid");
        }
    }

    /// Returns what says that something stands in `place`, by name.
    pub(crate) fn fields(self, place: &Place) -> Vec<(&'static str, String)> {
        let (trace, span) = (hex(&place.trace), hex(&place.span));
        let sampled = u8::from(place.sampled);
        match self {
            Propagator::TraceContext => vec![("traceparent", format!("00-{trace}-{span}-0{sampled}"))],
            Propagator::B3 => vec![("b3", format!("{trace}-{span}-{sampled}"))],
            Propagator::B3Multi => vec![
                ("x-b3-traceid", trace),
                ("x-b3-spanid", span),
                ("x-b3-sampled", sampled.to_string()),
            ],
            Propagator::Jaeger => vec![("uber-trace-id", format!("{trace}:{span}:0:{sampled}"))],
            Propagator::XRay => {
                let (begun, random) = trace.split_at(8);
                let root = format!("Root=1-{begun}-{random};Parent={span};Sampled={sampled}");
                vec![("x-amzn-trace-id", root)]
            }
            Propagator::OtTrace => {
                let (_, low) = trace.split_at(16);
                vec![
                    ("ot-tracer-traceid", low.to_owned()),
                    ("ot-tracer-spanid", span),
                    ("ot-tracer-sampled", place.sampled.to_string()),
                ]
            }
        }
    }

    /// Returns the names under which a place may be read.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Propagator::TraceContext => &["traceparent", "tracestate"],
            Propagator::B3 => &["b3"],
            Propagator::B3Multi => &["x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "x-b3-flags"],
            Propagator::Jaeger => &["uber-trace-id"],
            Propagator::XRay => &["x-amzn-trace-id"],
            Propagator::OtTrace => &["ot-tracer-traceid", "ot-tracer-spanid", "ot-tracer-sampled"],
        }
    }
}

/// Reads `traceparent` (W3C Trace Context, section 3.2); later versions may have more at the end.
fn parent(text: &str) -> Option<Place> {
    let mut pieces = text.split('-');
    let (version, trace, span, flags) = (pieces.next()?, pieces.next()?, pieces.next()?, pieces.next()?);
    let [version] = digits::<1>(version)?;
    if version == 0xff || (version == 0 && pieces.next().is_some()) {
        return None;
    }
    let [flags] = digits::<1>(flags)?;
    let place = Place {
        trace: digits(trace)?,
        span: digits(span)?,
        sampled: flags & 1 == 1,
        state: None,
    };
    Some(place).filter(|place| place.trace != [0; 16] && place.span != [0; 8])
}

/// Reads the parts of B3.
fn b3(trace: &str, span: &str, sampled: Option<&str>) -> Option<Place> {
    place(trace, span, matches!(sampled, None | Some("1" | "d" | "true")))
}

/// Reads the header of X-Ray: `Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1`.
fn xray(text: &str) -> Option<Place> {
    let part = |name: &str| {
        let mut parts = text.split(';').filter_map(|part| part.trim().split_once('='));
        parts.find_map(|(key, value)| (key == name).then_some(value))
    };
    let root = part("Root")?.strip_prefix("1-")?;
    place(
        &root.replace('-', ""),
        part("Parent")?,
        part("Sampled") == Some("1"),
    )
}

/// Reads the ids of a place. Traces may have ids of 64 bits, and some leave zeros at the front away.
fn place(trace: &str, span: &str, sampled: bool) -> Option<Place> {
    let place = Place {
        trace: digits(&format!("{trace:0>32}"))?,
        span: digits(&format!("{span:0>16}"))?,
        sampled,
        state: None,
    };
    Some(place).filter(|place| place.trace != [0; 16] && place.span != [0; 8])
}

fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    let is_lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != 2 * N || !text.bytes().all(is_lower) {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[track_caller]
    fn check(propagator: Propagator, headers: &[(&'static str, &str)], sampled: Option<bool>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_str(value).expect("a value"));
        }
        let place = propagator.extract(&map);
        assert_eq!(place.as_ref().map(|place| place.sampled), sampled, "{headers:?}");
        if let Some(place) = place {
            let mut written = HeaderMap::new();
            propagator.inject(&place, &mut written);
            assert_eq!(
                propagator.extract(&written).map(|read| (read.trace, read.span)),
                Some((place.trace, place.span))
            );
        }
    }

    #[test]
    fn places_are_read_and_written() {
        let w3c = |text: &str, sampled| check(Propagator::TraceContext, &[("traceparent", text)], sampled);
        w3c(&format!("00-{TRACE}-{SPAN}-01"), Some(true));
        w3c(&format!("00-{TRACE}-{SPAN}-00"), Some(false));
        w3c(&format!("01-{TRACE}-{SPAN}-01-more"), Some(true));
        w3c(&format!("00-{TRACE}-{SPAN}-01-more"), None);
        w3c(&format!("ff-{TRACE}-{SPAN}-01"), None);
        w3c(&format!("00-{}-{SPAN}-01", "0".repeat(32)), None);
        w3c(&format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), None);
        w3c("", None);
        let b3 = |text: &str, sampled| check(Propagator::B3, &[("b3", text)], sampled);
        b3(&format!("{TRACE}-{SPAN}-1"), Some(true));
        b3(&format!("{SPAN}-{SPAN}-0-{SPAN}"), Some(false));
        b3(&format!("{TRACE}-{SPAN}"), Some(true));
        b3("0", None);
        let ids = [("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)];
        check(
            Propagator::B3Multi,
            &[ids[0], ids[1], ("x-b3-sampled", "0")],
            Some(false),
        );
        check(
            Propagator::B3Multi,
            &[ids[0], ids[1], ("x-b3-sampled", "0"), ("x-b3-flags", "1")],
            Some(true),
        );
        check(Propagator::B3Multi, &[ids[0]], None);
        let jaeger = |text: &str, sampled| check(Propagator::Jaeger, &[("uber-trace-id", text)], sampled);
        jaeger(&format!("{TRACE}:{SPAN}:0:1"), Some(true));
        jaeger(&format!("{}:7:0:0", TRACE.trim_start_matches('0')), Some(false));
        jaeger(&format!("{TRACE}:{SPAN}"), None);
        let (begun, random) = TRACE.split_at(8);
        let xray = |text: &str, sampled| check(Propagator::XRay, &[("x-amzn-trace-id", text)], sampled);
        xray(
            &format!("Root=1-{begun}-{random};Parent={SPAN};Sampled=1"),
            Some(true),
        );
        xray(
            &format!("Self=2; Root=1-{begun}-{random}; Parent={SPAN}"),
            Some(false),
        );
        xray(&format!("Root=1-{begun}-{random}"), None);
        check(
            Propagator::OtTrace,
            &[
                ("ot-tracer-traceid", SPAN),
                ("ot-tracer-spanid", SPAN),
                ("ot-tracer-sampled", "true"),
            ],
            Some(true),
        );
        check(Propagator::OtTrace, &[("ot-tracer-traceid", SPAN)], None);
    }
}
