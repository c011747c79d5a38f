//! Server-sent events as MCP writes them. Only the writer is here: streams are read by the one framer that the
//! gateway has.

/// Writes an event: its type, its id where it has one, and one document.
pub fn write(out: &mut Vec<u8>, id: Option<&str>, document: &str) {
    out.extend_from_slice(b"event: message\n");
    if let Some(id) = id {
        field(out, "id", id);
    }
    field(out, "data", document);
    out.push(b'\n');
}

/// Writes an event that has an id and no document: a place to resume from.
pub fn write_place(out: &mut Vec<u8>, id: &str) {
    field(out, "id", id);
    out.extend_from_slice(b"data: \n\n");
}

/// Writes how long to wait, in milliseconds, before a stream is asked for again.
pub fn write_retry(out: &mut Vec<u8>, milliseconds: u64) {
    field(out, "retry", &milliseconds.to_string());
    out.push(b'\n');
}

/// What keeps a silent stream open; it means nothing.
pub const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// Line ends can only stand between the tokens of a document, where a blank does as well.
fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend(
        value
            .bytes()
            .map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }),
    );
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_written_on_lines_of_their_own() {
        let check = |write: &dyn Fn(&mut Vec<u8>), expected: &str| {
            let mut out = Vec::new();
            write(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        };
        check(
            &|out| write(out, None, "{\n\"a\":1}"),
            "event: message\ndata: { \"a\":1}\n\n",
        );
        check(
            &|out| write(out, Some("7"), "{}"),
            "event: message\nid: 7\ndata: {}\n\n",
        );
        check(&|out| write_place(out, "7"), "id: 7\ndata: \n\n");
        check(&|out| write_retry(out, 500), "retry: 500\n\n");
    }
}
