//! How often values fell between which bounds: between the declared ones, which dashboards know, and, where somebody reads
//! them, between fine ones that are a tenth apart whatever the values are.
//!
//! Fine buckets are those of Prometheus's native histograms and of OpenTelemetry's exponential ones, of schema and scale
//! [`SCALE`]: bucket `i` holds what is above `2^((i - 1) / 8)` and not above `2^(i / 8)`. They are read as text like the
//! others, one form at a time.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric, family::MetricConstructor},
};

/// There are `2^SCALE` fine buckets between a number and its double.
pub(super) const SCALE: u32 = 3;

const PER_DOUBLE: f64 = (1 << SCALE) as f64;

/// The indices of the first and the last fine bucket, which hold everything below and above: a microsecond, and a billion
/// tokens.
const FINE: (i32, i32) = (-20 << SCALE, 30 << SCALE);

/// Which buckets are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Those between declared bounds.
    Declared,
    /// The fine ones, where they are kept.
    Fine,
}

/// How often values fell between which bounds.
#[derive(Clone, Debug)]
pub(super) struct Histogram(Arc<Shared>);

/// Makes histograms of one family.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    declared: &'static [f64],
    form: Forms,
}

/// Which form is read now; shared by all histograms.
#[derive(Clone, Debug, Default)]
pub(super) struct Forms {
    kept: bool,
    fine: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Shared {
    bounds: Bounds,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    sum: f64,
    count: u64,
    /// By declared bound; the last one is above all.
    buckets: Vec<u64>,
    /// `None` where nobody reads them.
    fine: Option<Fine>,
}

#[derive(Debug, Default)]
struct Fine {
    /// Values that are no more than 0.
    zero: u64,
    buckets: BTreeMap<i32, u64>,
}

impl Forms {
    /// Returns the forms that are kept: the declared one, and the fine one if it `is_kept`.
    pub(super) fn new(is_kept: bool) -> Self {
        Self {
            kept: is_kept,
            fine: Arc::default(),
        }
    }

    /// Has histograms tell this form from now on.
    pub(super) fn tell(&self, form: Form) {
        self.fine.store(form == Form::Fine, Ordering::Relaxed);
    }

    /// Returns what makes histograms with these bounds, which ascend.
    pub(super) fn of(&self, declared: &'static [f64]) -> Bounds {
        Bounds {
            declared,
            form: self.clone(),
        }
    }
}

impl MetricConstructor<Histogram> for Bounds {
    fn new_metric(&self) -> Histogram {
        Histogram(Arc::new(Shared {
            bounds: self.clone(),
            counted: Mutex::new(Counted {
                buckets: vec![0; self.declared.len() + 1],
                fine: self.form.kept.then(Fine::default),
                ..Counted::default()
            }),
        }))
    }
}

impl Histogram {
    /// Counts `value`.
    pub(super) fn observe(&self, value: f64) {
        let at = self.0.bounds.declared.partition_point(|bound| *bound < value);
        let mut counted = self.0.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.sum += value;
        counted.count += 1;
        if let Some(bucket) = counted.buckets.get_mut(at) {
            *bucket += 1;
        }
        if let Some(fine) = &mut counted.fine {
            fine.count(value);
        }
    }
}

impl Fine {
    fn count(&mut self, value: f64) {
        if value > 0.0 {
            *self.buckets.entry(index(value)).or_default() += 1;
        } else {
            self.zero += 1;
        }
    }

    /// Returns the buckets as text has them: bounds with what is between each and the one before.
    fn told(&self) -> Vec<(f64, u64)> {
        let zero = (self.zero > 0).then_some((0.0, self.zero));
        let buckets = self.buckets.iter().map(|(index, count)| (bound(*index), *count));
        let above = [(f64::INFINITY, 0)];
        zero.into_iter().chain(buckets).chain(above).collect()
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let counted = self.0.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let tells_fine = self.0.bounds.form.fine.load(Ordering::Relaxed);
        let buckets = match &counted.fine {
            Some(fine) if tells_fine => fine.told(),
            Some(_) | None => {
                let bounds = self.0.bounds.declared.iter().copied().chain([f64::INFINITY]);
                bounds.zip(counted.buckets.iter().copied()).collect()
            }
        };
        encoder.encode_histogram::<NoLabelSet>(counted.sum, counted.count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

/// Returns the fine bucket that `value` falls into, which is above 0.
fn index(value: f64) -> i32 {
    let (first, last) = FINE;
    let index = (value.log2() * PER_DOUBLE).ceil();
    // What is infinite saturates.
    (index as i32).clamp(first, last)
}

/// Returns the upper bound of a fine bucket.
fn bound(index: i32) -> f64 {
    (f64::from(index) / PER_DOUBLE).exp2()
}

/// Returns the fine bucket that ends at `bound`; `None` for the one of 0.
pub(super) fn index_of(bound: f64) -> Option<i32> {
    (bound > 0.0).then(|| (bound.log2() * PER_DOUBLE).round() as i32)
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, registry::Registry};

    use super::*;

    fn told(values: &[f64], kept: bool, form: Form) -> Vec<String> {
        let forms = Forms::new(kept);
        let histogram = forms.of(&[0.5, 1.0]).new_metric();
        values.iter().for_each(|value| histogram.observe(*value));
        let mut registry = Registry::default();
        registry.register("h", "Values", histogram);
        forms.tell(form);
        let mut out = String::new();
        text::encode(&mut out, &registry).expect("memory does not fail");
        let lines = out.lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn values_are_counted_between_bounds() {
        let expected = [
            "h_sum 3.5",
            "h_count 4",
            "h_bucket{le=\"0.5\"} 2",
            "h_bucket{le=\"1.0\"} 3",
            "h_bucket{le=\"+Inf\"} 4",
        ];
        let values = [0.0, 0.5, 1.0, 2.0];
        assert_eq!(told(&values, false, Form::Declared), expected);
        assert_eq!(told(&values, true, Form::Declared), expected);
        assert_eq!(told(&values, false, Form::Fine), expected, "nothing fine is kept");
    }

    #[test]
    fn fine_buckets_are_told_where_they_are_kept() {
        let expected = [
            "h_sum 3.5",
            "h_count 4",
            "h_bucket{le=\"0.0\"} 1",
            "h_bucket{le=\"0.5\"} 2",
            "h_bucket{le=\"1.0\"} 3",
            "h_bucket{le=\"2.0\"} 4",
            "h_bucket{le=\"+Inf\"} 4",
        ];
        assert_eq!(told(&[0.0, 0.5, 1.0, 2.0], true, Form::Fine), expected);
    }

    /// A bucket's bound is its own, and what is a little more is the next one's.
    #[test]
    fn bounds_and_buckets_agree() {
        for at in FINE.0..=FINE.1 {
            let bound = bound(at);
            assert_eq!(index_of(bound), Some(at));
            assert!((index(bound) - at).abs() <= 1, "{at}");
            assert_eq!(index(bound * 0.999), at, "{at}");
        }
        assert_eq!(index(f64::INFINITY), FINE.1);
        assert_eq!(index(f64::MIN_POSITIVE), FINE.0);
        assert_eq!(index_of(0.0), None);
    }
}
