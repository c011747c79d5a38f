//! Which of a cluster's 16,384 slots a key lies in
//! (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>, "Key distribution model" and "Hash tags").

use crc::{CRC_16_XMODEM, Crc};

/// How many slots there are.
const SLOTS: u16 = 16_384;

static CHECKSUM: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// Returns the slot of `key`.
pub(super) fn of(key: &str) -> u16 {
    CHECKSUM.checksum(tag(key).unwrap_or(key).as_bytes()) % SLOTS
}

/// Returns what alone says where `key` lies, if that is a part of it: what is in its first braces.
fn tag(key: &str) -> Option<&str> {
    let (_, rest) = key.split_once('{')?;
    let (tag, _) = rest.split_once('}')?;
    Some(tag).filter(|tag| !tag.is_empty())
}

/// Returns a key that begins with `key`, ends with `suffix` and lies where `key` does.
pub(crate) fn beside(key: &str, suffix: &str) -> String {
    if tag(key).is_some() {
        format!("{key}{suffix}")
    } else {
        format!("{{{key}}}{suffix}")
    }
}

/// Returns `key` as it can be named in a cluster: a key that has a closing brace and lies by all of its letters has no other
/// beside it.
pub(crate) fn nameable(key: &str) -> String {
    if tag(key).is_none() && key.contains('}') {
        key.replace('}', ")")
    } else {
        key.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slots_are_those_of_the_servers() {
        // As `CLUSTER KEYSLOT` says.
        for (key, slot) in [
            ("", 0),
            ("123456789", 12_739),
            ("foo", 12_182),
            ("{user1000}.following", 3_443),
            ("{user1000}.followers", 3_443),
            ("foo{}{bar}", 8_363),
            ("foo{{bar}}zap", 4_015),
            ("foo{bar}{zap}", 5_061),
            ("bar", 5_061),
        ] {
            assert_eq!(of(key), slot, "{key}");
        }
    }

    proptest! {
        #[test]
        fn what_is_beside_lies_there_too(key in "[a-z{}:]{0,12}", suffix in "[a-z{}:]{1,8}") {
            prop_assume!(!key.is_empty());
            let key = nameable(&key);
            prop_assert_eq!(of(&beside(&key, &suffix)), of(&key));
        }
    }
}
