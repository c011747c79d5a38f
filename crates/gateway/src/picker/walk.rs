//! In which order the endpoints are asked that a picker has named: in its own, each once, and again from the beginning
//! where a policy has retries to spare.

use http::StatusCode;
use policy::traffic::{Traffic, retry::Failure};

/// Who is asked next.
#[derive(Clone, Copy)]
pub(crate) struct Walk<'a> {
    ways: usize,
    asked: usize,
    most: usize,
    traffic: Option<&'a Traffic>,
}

impl<'a> Walk<'a> {
    /// Returns the walk along so many endpoints, under the policy that there is; with `once` there is one attempt.
    pub(crate) fn new(ways: usize, traffic: Option<&'a Traffic>, once: bool) -> Self {
        let retry = traffic.and_then(|traffic| traffic.retry.as_ref());
        let most = match retry {
            _ if once => 1,
            Some(retry) => usize::try_from(retry.retries)
                .unwrap_or(usize::MAX)
                .saturating_add(1),
            None => ways,
        };
        Self {
            ways,
            asked: 0,
            most,
            traffic,
        }
    }

    /// Returns which endpoint is asked next, and whether it was asked before; `None` if nobody is left.
    pub(crate) fn next(&mut self) -> Option<(usize, bool)> {
        if !self.has_more() {
            return None;
        }
        let place = self.asked.checked_rem(self.ways)?;
        let is_repeated = self.asked >= self.ways;
        self.asked += 1;
        Some((place, is_repeated))
    }

    /// Returns whether somebody is left.
    pub(crate) fn has_more(&self) -> bool {
        self.ways > 0 && self.asked < self.most
    }

    /// Notes that nobody is to be asked at all.
    pub(crate) fn leave_out(&mut self) {
        self.most = 0;
    }

    /// Returns how many attempts there were.
    pub(crate) fn attempts(&self) -> u32 {
        u32::try_from(self.asked).unwrap_or(u32::MAX)
    }

    /// Returns the policy.
    pub(crate) fn traffic(&self) -> Option<&'a Traffic> {
        self.traffic
    }

    /// Notes that an attempt failed, for which `status` stands; returns whether another one may be made.
    pub(crate) fn refused(&mut self, failure: Failure, status: StatusCode) -> bool {
        let retry = self.traffic.and_then(|traffic| traffic.retry.as_ref());
        match retry {
            Some(retry) => retry.covers(failure, status.as_u16()),
            None => {
                // The only one, if it was not reached, is asked once more.
                if failure == Failure::Connect && (self.ways, self.asked, self.most) == (1, 1, 1) {
                    self.most = 2;
                }
                failure.usually()
            }
        }
    }

    /// Returns whether a reply with this status is not the answer, because somebody else is asked.
    pub(crate) fn passes_over(mut self, status: StatusCode) -> bool {
        let is_error = status.is_client_error() || status.is_server_error();
        is_error && self.refused(Failure::of_status(status.as_u16()), status) && self.has_more()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ways: usize, once: bool, failures: &[Failure], expected: &[usize]) {
        let mut walk = Walk::new(ways, None, once);
        let mut asked = Vec::new();
        let mut failures = failures.iter();
        while let Some((place, _)) = walk.next() {
            asked.push(place);
            let failed = failures.next().copied();
            if !failed.is_some_and(|failure| walk.refused(failure, StatusCode::BAD_GATEWAY)) {
                break;
            }
        }
        assert_eq!(asked, expected);
    }

    #[test]
    fn endpoints_are_asked_in_order() {
        let (connect, server) = (Failure::Connect, Failure::GatewayStatus);
        check(3, false, &[connect, server, server], &[0, 1, 2]);
        check(3, false, &[Failure::ClientStatus], &[0]);
        check(3, true, &[connect], &[0]);
        check(1, false, &[connect, connect, connect], &[0, 0]);
        check(1, false, &[server, server], &[0]);
        check(0, false, &[], &[]);
    }

    #[test]
    fn an_error_is_passed_over_where_somebody_is_left() {
        let mut walk = Walk::new(2, None, false);
        assert_eq!(walk.next(), Some((0, false)));
        assert!(walk.passes_over(StatusCode::SERVICE_UNAVAILABLE));
        assert!(!walk.passes_over(StatusCode::BAD_REQUEST));
        assert!(!walk.passes_over(StatusCode::OK));
        assert_eq!(walk.next(), Some((1, false)));
        assert!(!walk.passes_over(StatusCode::SERVICE_UNAVAILABLE));
    }
}
