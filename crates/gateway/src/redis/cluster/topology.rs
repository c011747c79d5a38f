//! Who has which slots of a cluster.

use redis::{RedisResult, Value, aio::ConnectionLike};

/// Where a server is: its host, and its port.
pub(super) type Place = (String, u16);

/// Who has which slots.
pub(super) struct Ranges<T> {
    /// The first and the last slot of each range, in order.
    ranges: Vec<(u16, u16, T)>,
}

impl<T> Default for Ranges<T> {
    fn default() -> Self {
        Self { ranges: Vec::new() }
    }
}

impl<T> Ranges<T> {
    fn new(mut ranges: Vec<(u16, u16, T)>) -> Self {
        ranges.sort_by_key(|(first, last, _)| (*first, *last));
        Self { ranges }
    }

    /// Returns who has `slot`.
    pub(super) fn of(&self, slot: u16) -> Option<&T> {
        let after = self.ranges.partition_point(|(first, _, _)| *first <= slot);
        let (_, last, owner) = self.ranges.get(after.checked_sub(1)?)?;
        (slot <= *last).then_some(owner)
    }

    /// Returns the ranges with what `f` makes of who has them.
    pub(super) fn map<U>(self, mut f: impl FnMut(T) -> U) -> Ranges<U> {
        let ranges = self.ranges.into_iter();
        Ranges {
            ranges: ranges
                .map(|(first, last, owner)| (first, last, f(owner)))
                .collect(),
        }
    }
}

/// Asks the server behind `connection`, which is at `host`, who has what.
///
/// # Errors
/// If it does not say.
pub(super) async fn ask(connection: &mut impl ConnectionLike, host: &str) -> RedisResult<Ranges<Place>> {
    let mut asked = redis::cmd("CLUSTER");
    asked.arg("SLOTS");
    let ranges: Vec<Value> = asked.query_async(connection).await?;
    Ok(Ranges::new(
        ranges.iter().filter_map(|range| read(range, host)).collect(),
    ))
}

/// Reads a range: its first slot, its last, who takes writes for it, and who else has it.
fn read(range: &Value, asked: &str) -> Option<(u16, u16, Place)> {
    let Value::Array(range) = range else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(owner), ..] = range.as_slice() else {
        return None;
    };
    let [host, Value::Int(port), ..] = owner.as_slice() else {
        return None;
    };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        // The server does not know by which name it was reached.
        Value::Nil => "",
        _ => return None,
    };
    let host = if host.is_empty() { asked } else { host };
    let place = (host.to_owned(), u16::try_from(*port).ok()?);
    Some((u16::try_from(*first).ok()?, u16::try_from(*last).ok()?, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_by_slot() {
        let ranges = Ranges::new(vec![(100, 200, "b"), (0, 50, "a"), (201, 201, "c")]);
        for (slot, owner) in [
            (0, Some("a")),
            (50, Some("a")),
            (51, None),
            (99, None),
            (100, Some("b")),
            (200, Some("b")),
            (201, Some("c")),
            (202, None),
        ] {
            assert_eq!(ranges.of(slot).copied(), owner, "{slot}");
        }
        assert!(Ranges::<&str>::default().of(0).is_none());
    }

    #[test]
    fn read_as_servers_write_them() {
        let host = |host: &str| Value::BulkString(host.as_bytes().to_vec());
        let id = || Value::BulkString(b"id".to_vec());
        let range = |owner: Vec<Value>| Value::Array(vec![Value::Int(0), Value::Int(9), Value::Array(owner)]);
        let place = |host: &str| Some((0, 9, (host.to_owned(), 7000)));
        let full = range(vec![
            host("10.0.0.1"),
            Value::Int(7000),
            id(),
            Value::Array(Vec::new()),
        ]);
        assert_eq!(read(&full, "asked"), place("10.0.0.1"));
        assert_eq!(
            read(&range(vec![host(""), Value::Int(7000)]), "asked"),
            place("asked")
        );
        assert_eq!(
            read(&range(vec![Value::Nil, Value::Int(7000)]), "asked"),
            place("asked")
        );
        assert_eq!(read(&range(vec![host("h"), Value::Int(70_000)]), "asked"), None);
        assert_eq!(read(&range(vec![]), "asked"), None);
        assert_eq!(read(&Value::Nil, "asked"), None);
    }
}
