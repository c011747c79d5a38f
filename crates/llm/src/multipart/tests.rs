//! Forms in pieces, forms that lie, and forms that are edited.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use proptest::prelude::*;

use super::*;

const WANTED: &[&str] = &["model", "stream"];

/// What a scanner tells, as text.
type Told = Result<Vec<String>, Malformed>;

fn boundary(text: &str) -> Boundary {
    Boundary(text.to_owned())
}

fn scan(boundary: &Boundary, pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Told {
    let mut scanner = Scanner::new(boundary, WANTED);
    let mut told = Vec::new();
    for piece in pieces {
        let piece = piece.as_ref();
        let mut last = 0;
        scanner.push(piece, |event, read| {
            assert!(last <= read && read <= piece.len(), "in order");
            last = read;
            told.push(match event {
                Event::Begin(head) => {
                    format!("begin {}{}", head.name, if head.is_file { " file" } else { "" })
                }
                Event::End(head, None) => format!("end {}", head.name),
                Event::End(head, Some(value)) => {
                    format!("end {}={}", head.name, String::from_utf8_lossy(value))
                }
                Event::Close => "close".to_owned(),
            });
        })?;
    }
    scanner.end()?;
    Ok(told)
}

/// Scans `form`, whose lines end in `|`, with the boundary `b`; whole and byte by byte.
#[track_caller]
fn check(form: &str, expected: Result<&[&str], Malformed>) {
    let form = form.replace('|', "\r\n");
    let expected = expected.map(|told| told.iter().map(|told| (*told).to_owned()).collect());
    assert_eq!(scan(&boundary("b"), [&form]), expected, "{form:?}");
    assert_eq!(
        scan(&boundary("b"), form.as_bytes().chunks(1)),
        expected,
        "{form:?} byte by byte"
    );
}

const MODEL: &str = "--b|Content-Disposition: form-data; name=\"model\"||whisper-1|";

#[test]
fn parts_are_told() {
    check(
        &format!(
            "{MODEL}--b|content-type: audio/wav|CONTENT-DISPOSITION:form-data; name=file; filename=\"a;b.wav\"||\
             RIFF--bx|-b--|--b--|"
        ),
        Ok(&[
            "begin model",
            "end model=whisper-1",
            "begin file file",
            "end file",
            "close",
        ]),
    );
    check(
        &format!("{MODEL}--b--"),
        Ok(&["begin model", "end model=whisper-1", "close"]),
    );
    check(
        &format!("words|that mean nothing|{MODEL}--b-- \t|more words|--b|"),
        Ok(&["begin model", "end model=whisper-1", "close"]),
    );
    check(
        "--b \t|Content-Disposition: form-data; name=\"image[]\"; filename*=UTF-8''a.png||x|--b|\
         Content-Disposition: form-data; name=\"stream\"|||--b--|",
        Ok(&[
            "begin image[] file",
            "end image[]",
            "begin stream",
            "end stream=",
            "close",
        ]),
    );
    check("--b--|", Ok(&["close"]));
}

#[test]
fn what_looks_like_a_boundary_is_content() {
    let content = "x--b|-|--|--B|x--b|\n-b|\r|\r\r|--";
    check(
        &format!("--b|Content-Disposition: form-data; name=\"model\"||{content}|--b--"),
        Ok(&[
            "begin model",
            &format!("end model={}", content.replace('|', "\r\n")),
            "close",
        ]),
    );
}

#[test]
fn what_readers_disagree_on_is_refused() {
    use Malformed as M;
    let disposition = "Content-Disposition: form-data; name=\"model\"";
    check("", Err(M::Unfinished));
    check("{\"model\":\"m\"}", Err(M::Unfinished));
    check(MODEL, Err(M::Unfinished));
    check(&format!("{MODEL}--b-"), Err(M::Unfinished));
    check(&format!("{MODEL}--b--\r"), Err(M::Unfinished));
    check(&format!("{MODEL}--bb--"), Err(M::Delimiter));
    check(&format!("{MODEL}--b-x"), Err(M::Delimiter));
    check(&format!("{MODEL}--b--x"), Err(M::Delimiter));
    check(&format!("{MODEL}--b\n"), Err(M::Delimiter));
    check(&format!("--b|{disposition}||a\n--b--"), Err(M::BareLineFeed));
    check(&format!("--b|{disposition}||--b--"), Err(M::BareLineFeed));
    check(&format!("\n--b|{disposition}||a|--b--"), Err(M::BareLineFeed));
    for (head, reason) in [
        ("", "no content-disposition names the field"),
        (
            "Content-Type: text/plain|",
            "no content-disposition names the field",
        ),
        (
            "Content-Disposition: form-data|",
            "no content-disposition names the field",
        ),
        (
            "Content-Disposition: form-data; name=\"\"|",
            "no content-disposition names the field",
        ),
        (
            "Content-Disposition: attachment; name=\"model\"|",
            "content-disposition is not form-data",
        ),
        (
            "Content-Disposition: form-data; name=a; NAME=model|",
            "a field has two names",
        ),
        (
            "Content-Disposition: form-data; name*=UTF-8''model|",
            "a field's name is given as name*",
        ),
        (
            "Content-Disposition: form-data; name=\"mo\\del\"|",
            "a field's name has a backslash",
        ),
        (
            "Content-Disposition: form-data; name=\"a|",
            "a quoted value does not end",
        ),
        (
            "Content-Disposition: form-data; name=\"a\"x|",
            "something follows a quoted value",
        ),
        (
            "Content-Disposition: form-data; name=a b|",
            "a parameter's value is not a word",
        ),
        (
            "Content-Disposition: form-data; name|",
            "a parameter has no value",
        ),
        ("Content-Disposition: form-data;| name=model|", "a line is folded"),
        (
            "Content-Disposition : form-data; name=model|",
            "there is a blank before a colon",
        ),
        ("Content-Disposition form-data|", "a line has no colon"),
        (
            "Content-Disposition: form-data; name=a|Content-Disposition: form-data; name=b|",
            "content-disposition is given twice",
        ),
        (
            "Content-Disposition: form-data; name=\"a\0\"|",
            "there is a control character",
        ),
        ("X: a\r|", "there is a control character"),
        ("X: a\n|", "a line does not end in CRLF"),
    ] {
        check(&format!("--b|{head}|x|--b--"), Err(M::Head(reason)));
    }
}

#[test]
fn bounds_are_held() {
    let long = "x".repeat(MAX_HEAD + 100);
    let field = |length: usize| {
        format!(
            "--b|Content-Disposition: form-data; name=\"model\"||{}|--b--",
            "x".repeat(length)
        )
    };
    check(&long, Err(Malformed::NoPart));
    check(&format!("--b|X: {long}|"), Err(Malformed::LongHead));
    check(
        &field(MAX_FIELD + 1),
        Err(Malformed::LongField("model".to_owned())),
    );
    assert!(scan(&boundary("b"), [field(MAX_FIELD).replace('|', "\r\n")]).is_ok());
    // Files, and fields that nobody asked for, may be as long as they like.
    let other = field(MAX_FIELD + 1).replace("model", "prompt");
    assert!(scan(&boundary("b"), [other.replace('|', "\r\n")]).is_ok());
}

#[test]
fn names_are_read_as_clients_write_them() {
    let check = |disposition: &str, expected: &str, is_file: bool| {
        let head = format!("Content-Disposition: form-data; {disposition}\r\n\r\n");
        let head = Head::parse(head.as_bytes()).unwrap();
        assert_eq!(
            (head.name.as_str(), head.is_file),
            (expected, is_file),
            "{disposition}"
        );
    };
    check(r#"name="model""#, "model", false);
    check("name=model", "model", false);
    check(r#"filename="C:\audio\a.wav"; name="file""#, "file", true);
    check(r#"name="file"; filename="a\"; name=\"model.wav""#, "file", true);
    check(r#"name="file"; filename="a%22b.wav";"#, "file", true);
    check("name=\"größe\"", "größe", false);
    let bound = |line: &str| {
        let head = format!("Content-Disposition: form-data; name=a\r\n{line}\r\n\r\n");
        Head::parse(head.as_bytes()).unwrap().is_bound
    };
    assert!(bound("Content-Length: 3") && bound("Content-Transfer-Encoding: base64"));
    assert!(!bound("Content-Transfer-Encoding: 8BIT") && !bound("Content-Type: text/plain"));
}

#[test]
fn boundaries_are_found() {
    let of = |content_type: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
        Boundary::of(&headers).map(|boundary| boundary.map(|boundary| boundary.0))
    };
    let check = |content_type: &str, expected: Option<&str>| {
        assert_eq!(of(content_type).unwrap().as_deref(), expected, "{content_type}");
    };
    check("multipart/form-data; boundary=abc", Some("abc"));
    check(
        "Multipart/Form-Data;BOUNDARY=\"a b:c\"; charset=utf-8",
        Some("a b:c"),
    );
    check(
        "multipart/form-data ; charset=utf-8; boundary=----WebKitFormBoundaryX",
        Some("----WebKitFormBoundaryX"),
    );
    check("application/json", None);
    check("multipart/form-data2; boundary=a", None);
    check("multipart/mixed; boundary=a", None);
    for bad in [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"\"",
        "multipart/form-data; boundary=\"a \"",
        "multipart/form-data; boundary=\"a",
        "multipart/form-data; boundary=a; boundary=b",
        &format!("multipart/form-data; boundary={}", "x".repeat(MAX_BOUNDARY + 1)),
    ] {
        let error = of(bad).unwrap_err();
        assert!(
            error.message.starts_with("malformed content-type"),
            "{bad}: {error}"
        );
    }
}

fn edit(boundary: &Boundary, value: &str, pieces: &[&[u8]]) -> Vec<u8> {
    let mut editor = Editor::new(boundary, "model", value).unwrap();
    let mut out = Vec::new();
    for piece in pieces {
        editor.push(Bytes::copy_from_slice(piece), |bytes| {
            out.extend_from_slice(&bytes)
        });
    }
    out
}

#[test]
fn a_value_that_would_break_the_form_is_not_written() {
    assert!(Editor::new(&boundary("b"), "model", "a\r\n--b").is_none());
}

/// Returns bytes that are full of what looks like the boundary, but holds no line that begins with it.
fn lookalikes() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: &[&[u8]] = &[
        b"\r\n", b"\r", b"-", b"--", b"--b", b"--bb", b"x", b"\0\xff", b"\r\n--", b"\r\n-", b"--b--",
        b"\r\n--B",
    ];
    let pieces = prop::sample::select(PIECES);
    prop::collection::vec(pieces, 0..24)
        .prop_map(|pieces| pieces.concat())
        .prop_filter("no line begins with the boundary", |content| {
            let lines = [b"\r\n", content.as_slice(), b"\r\n"].concat();
            !lines.windows(4).any(|window| window == b"\n--b")
        })
}

/// Returns `form` in pieces that end at `cuts`.
fn pieces<'f>(form: &'f [u8], cuts: &[prop::sample::Index]) -> Vec<&'f [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(form.len() + 1)).collect();
    cuts.extend([0, form.len()]);
    cuts.sort_unstable();
    cuts.windows(2)
        .filter_map(|pair| form.get(pair[0]..pair[1]))
        .collect()
}

fn form(boundary: &str, parts: &[(&str, bool, Vec<u8>)]) -> Vec<u8> {
    let mut form = Vec::new();
    for (name, is_file, content) in parts {
        let file = if *is_file {
            "; filename=\"f.bin\"\r\nContent-Type: audio/wav"
        } else {
            ""
        };
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
        form.extend_from_slice(head.as_bytes());
        form.extend_from_slice(content);
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    form
}

proptest! {
    #[test]
    fn any_split_tells_the_same(
        before in lookalikes(),
        after in lookalikes(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        file_first in any::<bool>(),
    ) {
        let mut parts = vec![
            ("file", true, before),
            ("model", false, b"whisper-1".to_vec()),
            ("file2", true, after),
        ];
        if !file_first {
            parts.swap(0, 1);
        }
        let whole = form("b", &parts);
        let expected: Vec<String> = parts
            .iter()
            .flat_map(|(name, is_file, _)| {
                let (file, value) = if *is_file { (" file", "") } else { ("", "=whisper-1") };
                [format!("begin {name}{file}"), format!("end {name}{value}")]
            })
            .chain(["close".to_owned()])
            .collect();
        let pieces = pieces(&whole, &cuts);
        prop_assert_eq!(scan(&boundary("b"), &pieces), Ok(expected));
        parts[usize::from(file_first)].2 = b"other".to_vec();
        let edited = edit(&boundary("b"), "other", &pieces);
        prop_assert_eq!(edited, form("b", &parts));
    }

    #[test]
    fn any_split_of_anything_tells_the_same(
        bytes in prop::collection::vec(
            prop_oneof![
                Just("\r\n"), Just("--b"), Just("--"), Just("-"), Just("\r"), Just("\n"), Just("b"), Just(" "),
                Just("Content-Disposition: form-data; name=\"model\"\r\n"), Just("x"), Just(":"),
            ],
            0..32,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let bytes = bytes.concat();
        let pieces = pieces(bytes.as_bytes(), &cuts);
        let whole = scan(&boundary("b"), [&bytes]);
        prop_assert_eq!(&scan(&boundary("b"), &pieces), &whole);
        if whole.is_ok() {
            let edited = edit(&boundary("b"), "other", &[bytes.as_bytes()]);
            prop_assert_eq!(edit(&boundary("b"), "other", &pieces), edited);
        }
    }
}
