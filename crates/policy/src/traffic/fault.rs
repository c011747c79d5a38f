//! Faults that are made on purpose, so that it shows what clients make of them.

use std::time::Duration;

use http::StatusCode;

/// Faults that are made on purpose. A request may be both held up and refused.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// How long requests are held up, and which share of them.
    pub delay: Option<(Duration, Share)>,
    /// How requests are refused, and which share of them.
    pub abort: Option<(Abort, Share)>,
}

/// How a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// The status of HTTP.
    pub status: StatusCode,
    /// The status of gRPC, for clients that speak it, where that is the one that was written.
    pub grpc: Option<u8>,
}

/// A share of all requests, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// Returns the share that is so many percent; more than all is all.
    pub fn of_percent(percent: f64) -> Self {
        Self((percent / 100.0).clamp(0.0, 1.0))
    }

    /// Returns whether a request is among it for which a number from 0 to below 1 was drawn.
    fn has(self, drawn: f64) -> bool {
        drawn < self.0
    }
}

impl From<StatusCode> for Abort {
    fn from(status: StatusCode) -> Self {
        Self { status, grpc: None }
    }
}

impl Abort {
    /// Returns what a status of gRPC means, for clients that speak HTTP alone too (google.rpc.Code); `None` if there is
    /// no such status.
    pub fn by_grpc(code: u32) -> Option<Self> {
        let grpc = u8::try_from(code).ok()?;
        let status = match grpc {
            0 => StatusCode::OK,
            1 => StatusCode::from_u16(499).ok()?,
            3 | 9 | 11 => StatusCode::BAD_REQUEST,
            4 => StatusCode::GATEWAY_TIMEOUT,
            5 => StatusCode::NOT_FOUND,
            6 | 10 => StatusCode::CONFLICT,
            7 => StatusCode::FORBIDDEN,
            8 => StatusCode::TOO_MANY_REQUESTS,
            12 => StatusCode::NOT_IMPLEMENTED,
            2 | 13 | 15 => StatusCode::INTERNAL_SERVER_ERROR,
            14 => StatusCode::SERVICE_UNAVAILABLE,
            16 => StatusCode::UNAUTHORIZED,
            _ => return None,
        };
        Some(Self {
            status,
            grpc: Some(grpc),
        })
    }
}

impl Faults {
    /// Returns how long a request is held up; `draw` gives numbers from 0 to below 1.
    pub fn delay(&self, draw: impl Fn() -> f64) -> Option<Duration> {
        let (time, share) = self.delay?;
        share.has(draw()).then_some(time)
    }

    /// Returns how a request is refused; `draw` gives numbers from 0 to below 1.
    pub fn abort(&self, draw: impl Fn() -> f64) -> Option<Abort> {
        let (abort, share) = self.abort?;
        share.has(draw()).then_some(abort)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_requests_is_hit() {
        for (percent, drawn, hit) in [
            (0.0, 0.0, false),
            (25.0, 0.2499, true),
            (25.0, 0.25, false),
            (100.0, 0.9999, true),
            (250.0, 0.9999, true),
            (f64::NAN, 0.0, false),
        ] {
            let share = Share::of_percent(percent);
            let faults = Faults {
                delay: Some((Duration::from_secs(1), share)),
                abort: Some((StatusCode::IM_A_TEAPOT.into(), share)),
            };
            assert_eq!(faults.delay(|| drawn).is_some(), hit, "{percent} {drawn}");
            assert_eq!(faults.abort(|| drawn).is_some(), hit, "{percent} {drawn}");
        }
        assert_eq!(Faults::default().abort(|| 0.0), None);
    }
}
