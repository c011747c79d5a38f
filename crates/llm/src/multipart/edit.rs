//! One field of a form replaced while the form passes; every other byte stays.

use bytes::Bytes;

use super::{Boundary, Event, Scanner};

/// Replaces the content of one field. What is handed on are slices of what came in.
#[derive(Debug)]
pub struct Editor {
    /// `None` once the field has passed, after which nothing is looked at.
    scanner: Option<Scanner>,
    field: &'static str,
    value: Bytes,
    delimiter: Bytes,
    /// Inside the field, whose content is left out.
    inside: bool,
}

impl Editor {
    /// Returns what replaces the content of the first part called `field` by `value`; `None` if `value` would
    /// not be read back as it is.
    pub fn new(boundary: &Boundary, field: &'static str, value: &str) -> Option<Self> {
        (!value.contains(['\r', '\n'])).then(|| Self {
            scanner: Some(Scanner::new(boundary, &[])),
            field,
            value: Bytes::copy_from_slice(value.as_bytes()),
            delimiter: Bytes::from(boundary.delimiter()),
            inside: false,
        })
    }

    /// Takes the next bytes and hands to `out` what is to be sent for them. What becomes of bytes that are not
    /// a form is not said: whoever reads one must refuse those.
    pub fn push(&mut self, bytes: Bytes, mut out: impl FnMut(Bytes)) {
        let Some(scanner) = &mut self.scanner else {
            return out(bytes);
        };
        let mut from = 0;
        let mut passed = false;
        let (inside, field) = (&mut self.inside, self.field);
        let pushed = scanner.push(&bytes, |event, read| match event {
            _ if passed => {}
            Event::Begin(head) if head.name == field => {
                out(bytes.slice(from..read));
                out(self.value.clone());
                from = read;
                *inside = true;
            }
            Event::End(head, _) if head.name == field => {
                out(self.delimiter.clone());
                from = read;
                *inside = false;
                passed = true;
            }
            Event::Begin(_) | Event::End(..) | Event::Close => {}
        });
        if passed || pushed.is_err() {
            self.scanner = None;
            *inside = false;
        }
        if !self.inside && from < bytes.len() {
            out(bytes.slice(from..));
        }
    }
}
