//! Metrics as Prometheus's protocol buffers, the one form that has native histograms (Prometheus, "Exposition formats").
//!
//! Histograms are told in both kinds of buckets, so that queries over either find them.

use policy::protobuf::Message;

use super::{
    families::{self, Family, Kind, Labels, Series},
    histogram,
};

/// Returns what the two texts tell, of which the second has fine buckets and was written later.
pub(super) fn write(declared: &str, fine: &str) -> Vec<u8> {
    let fine = families::parse(fine);
    let mut out = Vec::new();
    for family in families::parse(declared) {
        let same = fine.iter().find(|fine| fine.name == family.name);
        family_of(&family, same).delimit(&mut out);
    }
    out
}

/// Returns a MetricFamily: name = 1, help = 2, type = 3, metric = 4.
fn family_of(family: &Family, fine: Option<&Family>) -> Message {
    let mut message = Message::default();
    // The name of a counter is that of its samples.
    let suffix = if family.kind == Kind::Counter {
        "_total"
    } else {
        ""
    };
    message.text(1, &format!("{}{suffix}", family.name));
    message.text(2, &family.help);
    message.number(
        3,
        match family.kind {
            Kind::Counter => 0,
            Kind::Gauge => 1,
            Kind::Histogram => 4,
        },
    );
    for (labels, series) in &family.series {
        let fine = fine.and_then(|fine| fine.series.get(labels));
        message.message(4, |metric| metric_of(metric, family.kind, labels, series, fine));
    }
    message
}

/// Writes a Metric: label = 1, gauge = 2, counter = 3, histogram = 7; of the first its name = 1 and value = 2, of the next
/// two the value = 1.
fn metric_of(metric: &mut Message, kind: Kind, labels: &Labels, series: &Series, fine: Option<&Series>) {
    for (name, value) in labels {
        metric.entry(1, name, value);
    }
    match kind {
        Kind::Gauge => metric.message(2, |gauge| gauge.double(1, series.sum)),
        Kind::Counter => metric.message(3, |counter| counter.double(1, series.sum)),
        Kind::Histogram => metric.message(7, |message| histogram_of(message, series, fine)),
    }
}

/// Writes a Histogram: sample_count = 1, sample_sum = 2, bucket = 3, schema = 5, zero_threshold = 6, zero_count = 7,
/// positive_span = 12, positive_delta = 13. A bucket has cumulative_count = 1 and upper_bound = 2, a span its offset = 1
/// from the end of the one before and its length = 2, and each delta is the difference to the bucket before.
fn histogram_of(message: &mut Message, series: &Series, fine: Option<&Series>) {
    // The later of the two counts, so that no bucket holds more.
    let whole = fine.unwrap_or(series);
    message.varint(1, whole.count);
    message.double(2, whole.sum);
    for (bound, count) in series.bounds.iter().zip(&series.buckets) {
        message.message(3, |bucket| {
            bucket.varint(1, *count);
            bucket.double(2, *bound);
        });
    }
    let Some(fine) = fine else {
        return;
    };
    message.signed(5, i64::from(histogram::SCALE));
    message.double(6, ZERO);
    let mut next = None;
    let mut before = 0;
    for (bound, count) in fine.bounds.iter().zip(fine.each()) {
        let Some(index) = histogram::index_of(*bound) else {
            message.varint(7, count);
            continue;
        };
        // A span for each bucket: few of them are neighbours.
        message.message(12, |span| {
            span.signed(1, i64::from(index - next.unwrap_or_default()));
            span.varint(2, 1);
        });
        next = Some(index + 1);
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        message.signed(13, count - before);
        before = count;
    }
}

/// What counts as 0: the smallest that Prometheus uses (2 to the power of -128).
const ZERO: f64 = f64::from_bits(0x37F0_0000_0000_0000);

#[cfg(test)]
mod tests {
    use policy::protobuf::{Fields, Value};

    use super::*;

    /// Returns the fields of a message with their values as numbers; of a message in it, its own.
    fn shown(bytes: &[u8], inside: &[u32]) -> Vec<String> {
        let fields = Fields::of(bytes).map(|field| field.expect("a sound message"));
        let shown = fields.map(|(field, value)| match value {
            Value::Number(number) => format!("{field}={number}"),
            Value::Fixed64(bytes) => format!("{field}={}", f64::from_le_bytes(bytes)),
            Value::Bytes(bytes) if inside.contains(&field) => {
                format!("{field}{:?}", shown(bytes, inside)).replace('"', "")
            }
            Value::Bytes(bytes) => format!("{field}={}", String::from_utf8_lossy(bytes)),
            Value::Fixed32(_) => panic!("there are none"),
        });
        shown.collect()
    }

    /// Returns the only metric of a family, which is its last field.
    fn metric(family: &[u8]) -> &[u8] {
        match Fields::of(family).last() {
            Some(Ok((4, Value::Bytes(metric)))) => metric,
            other => panic!("a metric: {other:?}"),
        }
    }

    #[test]
    fn histograms_have_both_kinds_of_buckets() {
        let declared = "# HELP h Values\n# TYPE h histogram\nh_sum{a=\"b\"} 3.5\nh_count{a=\"b\"} 4\n\
                        h_bucket{a=\"b\",le=\"1.0\"} 3\nh_bucket{a=\"b\",le=\"+Inf\"} 4\n";
        let fine = "# HELP h Values\n# TYPE h histogram\nh_sum{a=\"b\"} 5.5\nh_count{a=\"b\"} 5\n\
                    h_bucket{a=\"b\",le=\"0.0\"} 1\nh_bucket{a=\"b\",le=\"1.0\"} 3\nh_bucket{a=\"b\",le=\"2.0\"} 5\n\
                    h_bucket{a=\"b\",le=\"+Inf\"} 5\n";
        let written = write(declared, fine);
        let (length, message) = written.split_first().expect("a message");
        assert_eq!(usize::from(*length), message.len());
        let found = shown(message, &[]);
        assert_eq!(found[..3], ["1=h", "2=Values", "3=4"]);
        let found = shown(metric(message), &[3, 7, 12]);
        // Bucket 0 ends at 1, and bucket 8 at 2; deltas are 2 and 0, whose form doubles them.
        let histogram = "7[1=5, 2=5.5, 3[1=3, 2=1], 5=6, 6=0.000000000000000000000000000000000000002938735877055719, 7=1, \
                         12[1=0, 2=1], 13=4, 12[1=14, 2=1], 13=0]";
        assert_eq!(found.last().map(String::as_str), Some(histogram));
    }

    #[test]
    fn counters_have_the_names_of_their_samples() {
        let text = "# HELP c All.\n# TYPE c counter\nc_total 7\n# HELP g Now\n# TYPE g gauge\ng 2\n";
        let written = write(text, "");
        let first = usize::from(written[0]);
        let counter = &written[1..=first];
        assert_eq!(shown(counter, &[])[0], "1=c_total");
        assert_eq!(shown(metric(counter), &[3]), ["3[1=7]"]);
        assert_eq!(shown(metric(&written[first + 2..]), &[2]), ["2[1=2]"]);
    }
}
