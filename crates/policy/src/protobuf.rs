//! Messages of protocol buffers, written and read field by field.
//!
//! A handful of messages are spoken here and of each a few fields: generated types would bring a code generator and a
//! runtime for them. Whoever writes or reads one names the numbers of its fields beside it.

/// A message that is being written.
#[derive(Default)]
pub struct Message(Vec<u8>);

/// The fields of a message, in the order in which they stand there; it ends after one that is malformed.
#[derive(Clone, Debug)]
pub struct Fields<'a>(&'a [u8]);

/// The value of a field, as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A number, or a truth value.
    Number(u64),
    /// Eight bytes.
    Fixed64([u8; 8]),
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
    /// Four bytes.
    Fixed32([u8; 4]),
}

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message is malformed")]
pub struct Malformed;

impl Message {
    /// Returns one with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Returns what was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Returns how many bytes were written.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// Writes the fields of another message behind those that there are.
    pub fn append(&mut self, fields: &Message) {
        self.0.extend_from_slice(&fields.0);
    }

    /// Writes what stands before `length` bytes that are written next: a text, bytes or a message.
    pub fn announce(&mut self, field: u32, length: usize) {
        self.key(field, 2);
        self.bare(length as u64);
    }

    /// Writes a number, unless it is 0.
    pub fn varint(&mut self, field: u32, value: u64) {
        if value > 0 {
            self.number(field, value);
        }
    }

    /// Writes a number even if it is 0: where it is one of several alternatives that says which.
    pub fn number(&mut self, field: u32, value: u64) {
        self.key(field, 0);
        self.bare(value);
    }

    /// Writes a number that may be below 0, in the form that is short for small ones, even if it is 0.
    pub fn signed(&mut self, field: u32, value: i64) {
        self.number(field, ((value << 1) ^ (value >> 63)) as u64);
    }

    /// Writes the message after its length, as several of them stand behind one another.
    pub fn delimit(self, out: &mut Vec<u8>) {
        let mut length = Self::default();
        length.bare(self.0.len() as u64);
        out.extend(length.0);
        out.extend(self.0);
    }

    /// Writes eight bytes, unless they are 0.
    pub fn fixed64(&mut self, field: u32, value: u64) {
        if value > 0 {
            self.key(field, 1);
            self.0.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// Writes a number even if it is 0: where it is one of several alternatives that says which.
    pub fn double(&mut self, field: u32, value: f64) {
        self.key(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Writes bytes, even none.
    pub fn bytes(&mut self, field: u32, value: &[u8]) {
        self.announce(field, value.len());
        self.0.extend_from_slice(value);
    }

    /// Writes a text, unless it is empty.
    pub fn text(&mut self, field: u32, value: &str) {
        if !value.is_empty() {
            self.bytes(field, value.as_bytes());
        }
    }

    /// Writes a message, even an empty one.
    pub fn message(&mut self, field: u32, write: impl FnOnce(&mut Message)) {
        self.key(field, 2);
        // The length stands before what it counts. It is one byte, but for large messages, which are moved on then.
        let place = self.0.len();
        self.0.push(0);
        write(self);
        let start = place + 1;
        let length = self.0.len().saturating_sub(start);
        match (u8::try_from(length), self.0.get_mut(place)) {
            (Ok(short @ ..0x80), Some(byte)) => *byte = short,
            _ => {
                let mut long = Message::default();
                long.bare(length as u64);
                self.0.splice(place..start, long.0);
            }
        }
    }

    /// Writes an entry of a map from texts to texts: key = 1, value = 2.
    pub fn entry(&mut self, field: u32, key: &str, value: &str) {
        self.message(field, |entry| {
            entry.text(1, key);
            entry.text(2, value);
        });
    }

    /// Writes numbers of a fixed size one after the other.
    pub fn packed(&mut self, field: u32, values: impl Iterator<Item = [u8; 8]>) {
        let all: Vec<u8> = values.flatten().collect();
        if !all.is_empty() {
            self.bytes(field, &all);
        }
    }

    fn key(&mut self, field: u32, wire: u32) {
        self.bare(u64::from(field << 3 | wire));
    }

    fn bare(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// Returns how many bytes a text, bytes or a message of `length` take as a field with a number below 16.
pub fn field_size(length: usize) -> usize {
    let digits = (usize::BITS - length.leading_zeros()).max(1).div_ceil(7);
    1 + digits as usize + length
}

impl<'a> Fields<'a> {
    /// Reads the fields of a message.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u32, Value<'a>), Malformed> {
        let key = self.number()?;
        let field = u32::try_from(key >> 3).map_err(|_| Malformed)?;
        let value = match key & 7 {
            0 => Value::Number(self.number()?),
            1 => Value::Fixed64(self.take(8)?.try_into().map_err(|_| Malformed)?),
            2 => {
                let length = usize::try_from(self.number()?).map_err(|_| Malformed)?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(self.take(4)?.try_into().map_err(|_| Malformed)?),
            // Groups are from before messages had messages inside.
            _ => return Err(Malformed),
        };
        Ok((field, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Value<'a> {
    /// Returns a number.
    ///
    /// # Errors
    /// If it is something else.
    pub fn as_number(self) -> Result<u64, Malformed> {
        match self {
            Value::Number(number) => Ok(number),
            Value::Fixed64(_) | Value::Bytes(_) | Value::Fixed32(_) => Err(Malformed),
        }
    }

    /// Returns a number with a fraction.
    ///
    /// # Errors
    /// If it is something else.
    pub fn as_double(self) -> Result<f64, Malformed> {
        match self {
            Value::Fixed64(bytes) => Ok(f64::from_le_bytes(bytes)),
            Value::Number(_) | Value::Bytes(_) | Value::Fixed32(_) => Err(Malformed),
        }
    }

    /// Returns bytes, or a message as its bytes.
    ///
    /// # Errors
    /// If it is something else.
    pub fn as_bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Number(_) | Value::Fixed64(_) | Value::Fixed32(_) => Err(Malformed),
        }
    }

    /// Returns a text.
    ///
    /// # Errors
    /// If it is something else.
    pub fn as_text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.as_bytes()?).map_err(|_| Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_as_protocol_buffers_have_them() {
        let check = |write: &dyn Fn(&mut Message), expected: &[u8]| {
            let mut message = Message::default();
            write(&mut message);
            assert_eq!(message.into_bytes(), expected);
        };
        check(&|message| message.varint(1, 150), &[0x08, 0x96, 0x01]);
        check(&|message| message.varint(1, 0), &[]);
        check(&|message| message.number(1, 0), &[0x08, 0]);
        check(&|message| message.text(2, "testing"), b"\x12\x07testing");
        check(&|message| message.fixed64(7, 1), &[0x39, 1, 0, 0, 0, 0, 0, 0, 0]);
        check(
            &|message| message.message(3, |inner| inner.varint(1, 150)),
            &[0x1a, 3, 0x08, 0x96, 0x01],
        );
        let long = "x".repeat(300);
        let expected = [b"\x1a\xaf\x02\x0a\xac\x02", long.as_bytes()].concat();
        check(
            &|message| message.message(3, |inner| inner.text(1, &long)),
            &expected,
        );
        check(
            &|message| message.entry(4, "k", "v"),
            b"\x22\x06\x0a\x01k\x12\x01v",
        );
        check(&|message| message.varint(16, 1), &[0x80, 0x01, 1]);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut message = Message::default();
        message.number(1, u64::MAX);
        message.double(2, 0.5);
        message.text(300, "text");
        let bytes = message.into_bytes();
        let fields: Result<Vec<_>, _> = Fields::of(&bytes).collect();
        let half = Value::Fixed64(0.5_f64.to_le_bytes());
        let expected = vec![
            (1, Value::Number(u64::MAX)),
            (2, half),
            (300, Value::Bytes(b"text")),
        ];
        assert_eq!(fields, Ok(expected));
        for end in 1..bytes.len() {
            let read: Result<Vec<_>, _> = Fields::of(&bytes[..end]).collect();
            // Cut between two fields it is a shorter message.
            assert_eq!(read.is_ok(), [11, 20].contains(&end), "{end}");
        }
    }

    #[test]
    fn what_is_malformed_ends_the_fields() {
        for bytes in [
            &b"\x0b"[..],
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"\x80",
        ] {
            let read: Vec<_> = Fields::of(bytes).collect();
            assert_eq!(read, [Err(Malformed)], "{bytes:?}");
        }
    }
}
