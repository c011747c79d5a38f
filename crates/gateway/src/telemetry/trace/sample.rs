//! Which requests have spans (OpenTelemetry SDK, "Built-in samplers").

/// Decides of which requests there are spans.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// The share of traces that have spans, by their ids, so that all systems decide alike.
    share: f64,
    /// Whether the client's decision comes first.
    parent: bool,
}

impl Sampler {
    /// Reads `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.
    ///
    /// # Errors
    /// If the sampler is not known, or the share is not one.
    pub fn parse(name: &str, argument: Option<&str>) -> Result<Self, String> {
        let (name, parent) = match name.strip_prefix("parentbased_") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let share = match name {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => {
                let written = argument.unwrap_or("1");
                let share = written.trim().parse().ok();
                share.filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| {
                    format!("OTEL_TRACES_SAMPLER_ARG: {written:?} is not a share from 0 to 1")
                })?
            }
            other => {
                return Err(format!(
                    "OTEL_TRACES_SAMPLER: {other:?} is not one of always_on, always_off and traceidratio, nor that with parentbased_ \
                     before it"
                ));
            }
        };
        Ok(Self { share, parent })
    }

    /// Returns whether the trace has spans; `parent` is the client's decision.
    pub(super) fn samples(&self, trace: &[u8; 16], parent: Option<bool>) -> bool {
        if let Some(decision) = parent.filter(|_| self.parent) {
            return decision;
        }
        if self.share >= 1.0 {
            return true;
        }
        let (_, low) = trace.split_at(8);
        let low = low
            .iter()
            .fold(0, |number, byte| (number << 8) | u64::from(*byte));
        // The conventional rule takes the 63 low bits of the id.
        ((low >> 1) as f64) < self.share * (1_u64 << 63) as f64
    }
}

impl Default for Sampler {
    fn default() -> Self {
        Self {
            share: 1.0,
            parent: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_ids_and_parents_come_first() {
        let check = |name, argument, id: u8, parent, expected| {
            let sampler = Sampler::parse(name, argument).expect("a sampler");
            assert_eq!(
                sampler.samples(&[id; 16], parent),
                expected,
                "{name} {argument:?} {id}"
            );
        };
        check("always_on", None, 0xff, Some(false), true);
        check("always_off", None, 1, Some(true), false);
        check("parentbased_always_on", None, 1, Some(false), false);
        check("parentbased_always_off", None, 1, Some(true), true);
        check("traceidratio", Some("0.5"), 0x7f, None, true);
        check("traceidratio", Some("0.5"), 0x80, None, false);
        check("parentbased_traceidratio", Some("0"), 1, None, false);
        for (name, argument) in [
            ("sometimes", None),
            ("traceidratio", Some("2")),
            ("traceidratio", Some("x")),
        ] {
            assert!(Sampler::parse(name, argument).is_err(), "{name} {argument:?}");
        }
    }
}
