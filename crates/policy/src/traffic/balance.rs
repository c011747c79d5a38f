//! Which of several endpoints is asked.
//!
//! All choices respect weights. A consistent one needs no table: each endpoint draws a score from the key and
//! its own name, and the best one is taken, so that a change of endpoints moves only the keys of those that
//! came or went, and several gateways agree without a word.

use std::{net::IpAddr, time::Duration};

use http::HeaderName;

/// By what an endpoint is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Chance.
    Random,
    /// Turns.
    RoundRobin,
    /// Which of two, drawn by chance, has fewer requests.
    LeastRequest,
    /// Which of two, drawn by chance, is expected to answer sooner.
    Latency,
    /// A property of the request.
    Consistent(HashKey),
}

/// Which property of a request chooses its endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address.
    Source,
    /// Headers.
    Headers(Vec<HeaderName>),
    /// Parameters of the path.
    Query(Vec<String>),
    /// A cookie, and what a client is given that has none.
    Cookie(Cookie),
    /// What a conversation begins with: it stays where the provider's cache is warm.
    Prefix,
}

/// A cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// Its name.
    pub name: String,
    /// How long a client keeps the one that it is given; without one it is given none.
    pub ttl: Option<Duration>,
    /// Its other attributes, as `; Path=/`.
    pub attributes: String,
}

/// An endpoint that may be asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit {
    /// Its share.
    pub weight: f64,
    /// What it is burdened with: requests under way, or the time that one more is expected to take.
    pub load: f64,
    /// The hash of its name.
    pub name: u64,
}

impl Balance {
    /// Returns the word for it, as it is written.
    pub fn name(&self) -> &'static str {
        match self {
            Balance::Random => "Random",
            Balance::RoundRobin => "RoundRobin",
            Balance::LeastRequest => "LeastRequest",
            Balance::Latency => "latency",
            Balance::Consistent(HashKey::Prefix) => "prefix",
            Balance::Consistent(
                HashKey::Source | HashKey::Headers(_) | HashKey::Query(_) | HashKey::Cookie(_),
            ) => "ConsistentHash",
        }
    }

    /// Returns the place of the endpoint to be asked. `turn` counts requests, `key` is the hash of the request's
    /// property, `random` returns numbers from 0 to 1.
    pub fn pick(
        &self,
        units: &[Unit],
        turn: u64,
        key: Option<u64>,
        mut random: impl FnMut() -> f64,
    ) -> Option<usize> {
        match (self, key) {
            (Balance::RoundRobin, _) => in_turn(units, turn),
            (Balance::LeastRequest | Balance::Latency, _) => {
                let first = drawn(units, None, random())?;
                let Some(second) = drawn(units, Some(first), random()) else {
                    return Some(first);
                };
                let burden = |at: usize| units.get(at).map_or(0.0, |unit| unit.load / unit.weight);
                Some(if burden(second) < burden(first) {
                    second
                } else {
                    first
                })
            }
            (Balance::Consistent(_), Some(key)) => best(units, key),
            (Balance::Random, _) | (Balance::Consistent(_), None) => drawn(units, None, random()),
        }
    }
}

/// Returns the place that `random`, from 0 to 1, stands for, by weight, without the one at `but`.
fn drawn(units: &[Unit], but: Option<usize>, random: f64) -> Option<usize> {
    let eligible = || {
        let units = units.iter().enumerate();
        units.filter(move |(at, unit)| Some(*at) != but && unit.weight > 0.0)
    };
    let sum: f64 = eligible().map(|(_, unit)| unit.weight).sum();
    let mut left = random * sum;
    let hit = eligible().find(|(_, unit)| {
        left -= unit.weight;
        left < 0.0
    });
    hit.or_else(|| eligible().next_back()).map(|(at, _)| at)
}

/// Returns the place whose turn it is. Turns are spread by the golden ratio, which keeps shares even however
/// few are looked at; endpoints of one weight come strictly one after the other.
fn in_turn(units: &[Unit], turn: u64) -> Option<usize> {
    let mut eligible = units.iter().enumerate().filter(|(_, unit)| unit.weight > 0.0);
    let (_, first) = eligible.next()?;
    let alike = eligible.all(|(_, unit)| unit.weight == first.weight);
    if alike {
        let count = units.iter().filter(|unit| unit.weight > 0.0).count();
        let place = usize::try_from(turn % count as u64).unwrap_or(0);
        let mut eligible = units.iter().enumerate().filter(|(_, unit)| unit.weight > 0.0);
        return eligible.nth(place).map(|(at, _)| at);
    }
    let golden = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    drawn(units, None, fraction(golden))
}

/// Returns the place with the best score for `key`: weighted rendezvous hashing.
fn best(units: &[Unit], key: u64) -> Option<usize> {
    let score = |unit: &Unit| {
        -unit.weight
            / fraction(mixed(key ^ mixed(unit.name)))
                .max(f64::MIN_POSITIVE)
                .ln()
    };
    let eligible = units.iter().enumerate().filter(|(_, unit)| unit.weight > 0.0);
    eligible
        .max_by(|(_, one), (_, other)| score(one).total_cmp(&score(other)))
        .map(|(at, _)| at)
}

/// Returns the hash of `bytes` under `seed` (FNV-1a, mixed); the same on every machine and in every version.
pub fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let hashed = bytes.iter().fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mixed(hashed)
}

/// Returns the hash of an address.
pub fn of_address(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => hash(0, &address.octets()),
        IpAddr::V6(address) => hash(0, &address.octets()),
    }
}

/// Returns `bits` with each bit depending on all of them (SplitMix64).
fn mixed(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Returns the number from 0 to 1 that the upper bits stand for.
fn fraction(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(weights: &[f64], loads: &[f64]) -> Vec<Unit> {
        let loads = loads.iter().copied().chain(std::iter::repeat(0.0));
        let both = weights.iter().zip(loads).enumerate();
        both.map(|(at, (weight, load))| Unit {
            weight: *weight,
            load,
            name: hash(0, &[u8::try_from(at).unwrap_or(0)]),
        })
        .collect()
    }

    /// Checks the shares of 10,000 requests, in percent, within two.
    #[track_caller]
    fn check(balance: &Balance, weights: &[f64], loads: &[f64], expected: &[usize]) {
        let units = units(weights, loads);
        let mut seed = 1_u64;
        let mut random = || {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            fraction(mixed(seed))
        };
        let mut shares = vec![0_usize; weights.len()];
        for turn in 0..10_000_u64 {
            let key = hash(7, &turn.to_le_bytes());
            let at = balance.pick(&units, turn, Some(key), &mut random);
            if let Some(share) = at.and_then(|at| shares.get_mut(at)) {
                *share += 1;
            }
        }
        let percent: Vec<usize> = shares.iter().map(|share| (share + 50) / 100).collect();
        let near = percent
            .iter()
            .zip(expected)
            .all(|(one, other)| one.abs_diff(*other) <= 2);
        assert!(near, "{balance:?} {weights:?} {loads:?}: {percent:?}");
    }

    #[test]
    fn weights_are_shares() {
        let prefix = Balance::Consistent(HashKey::Prefix);
        for balance in [
            Balance::Random,
            Balance::RoundRobin,
            Balance::LeastRequest,
            Balance::Latency,
            prefix,
        ] {
            check(&balance, &[1.0, 1.0], &[], &[50, 50]);
            check(&balance, &[9.0, 1.0], &[], &[90, 10]);
            check(&balance, &[2.0, 1.0, 1.0], &[], &[50, 25, 25]);
            check(&balance, &[0.0, 1.0], &[], &[0, 100]);
            check(&balance, &[0.0], &[], &[0]);
        }
    }

    #[test]
    fn the_less_burdened_of_two_is_taken() {
        check(&Balance::LeastRequest, &[1.0, 1.0], &[3.0, 1.0], &[0, 100]);
        check(&Balance::LeastRequest, &[3.0, 1.0], &[2.0, 1.0], &[100, 0]);
        check(
            &Balance::Latency,
            &[1.0, 1.0, 1.0],
            &[9.0, 1.0, 1.0],
            &[0, 50, 50],
        );
    }

    #[test]
    fn turns_are_strict_among_equals() {
        let units = units(&[1.0, 1.0, 1.0], &[]);
        let turns: Vec<usize> = (0..6)
            .filter_map(|turn| Balance::RoundRobin.pick(&units, turn, None, || 0.0))
            .collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn a_change_moves_only_the_keys_of_whom_it_concerns() {
        let (all, fewer) = (units(&[1.0, 1.0, 1.0], &[]), units(&[1.0, 1.0, 0.0], &[]));
        let balance = Balance::Consistent(HashKey::Source);
        for key in 0..1000 {
            let key = hash(0, &u64::to_le_bytes(key));
            let before = balance.pick(&all, 0, Some(key), || 0.0);
            let after = balance.pick(&fewer, 0, Some(key), || 0.0);
            assert!(before == after || before == Some(2));
        }
    }
}
