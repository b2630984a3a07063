//! Forms of uploads, whole, broken and hostile.

use axum::{
    body::Body,
    extract::{FromRequest as _, Request},
    http::header,
};
use futures::StreamExt as _;

use super::*;
use crate::testing::{SLOT, image};

#[test]
fn names_of_files_are_harmless() {
    for (name, safe) in [
        ("logger-1.2.0.bin", "logger-1.2.0.bin"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\a.bin", "a.bin"),
        ("...", "firmware.bin"),
        ("", "firmware.bin"),
        ("a\"b\r\nc.bin", "a_b__c.bin"),
        ("\u{202e}nib.exe", "_nib.exe"),
    ] {
        assert_eq!(safe_name(name), safe, "{name:?}");
    }
    assert_eq!(safe_name(&"x".repeat(500)).len(), 100);
}

const BOUNDARY: &str = "XXBOUNDARYXX";

/// A form of these parts, each with its name, its file name and its bytes.
fn form(parts: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, filename, bytes) in parts {
        let filename = filename.map(|f| format!("; filename=\"{f}\"")).unwrap_or_default();
        body.extend(
            format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{filename}\r\n\r\n"
            )
            .bytes(),
        );
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend(format!("--{BOUNDARY}--\r\n").bytes());
    body
}

async fn read_form(body: impl Into<Body>) -> Result<Form, ApiError> {
    let request = Request::builder()
        .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"))
        .body(body.into())
        .expect("a request");
    super::read(Multipart::from_request(request, &()).await.expect("a form"), SLOT).await
}

async fn refused(parts: &[(&str, Option<&str>, &[u8])]) -> (u16, String) {
    let problem = read_form(form(parts)).await.expect_err("refused").problem;
    let field = problem.errors.first().map(|error| error.field.clone());
    (problem.status, field.unwrap_or(problem.detail))
}

#[tokio::test]
async fn a_form_is_read_part_by_part_in_any_order() {
    let bytes = image("1.2.0");
    let form = read_form(form(&[
        ("mandatory", None, b"true"),
        ("active", None, b"false"),
        ("version", None, b"1.2.0"),
        ("file", Some("..\\logger.bin"), &bytes),
        ("release_notes", None, "- schöner\n- schneller".as_bytes()),
        ("hardware", None, b"rev-c"),
        ("checksum", None, b"ab"),
        ("signature", None, b"sig"),
    ]));
    let form = form.await.expect("a form");
    let UploadedImage { image, bytes: kept } = form.image.expect("an image");
    assert_eq!((kept.as_ref(), image.size), (bytes.as_slice(), bytes.len() as u64));
    assert_eq!(form.filename.as_deref(), Some("logger.bin"));
    assert_eq!(form.version.as_deref(), Some("1.2.0"));
    assert_eq!(form.release_notes.as_deref(), Some("- schöner\n- schneller"));
    assert_eq!((form.mandatory, form.active), (true, Some(false)));
    assert_eq!(form.hardware.as_deref(), Some("rev-c"));
    assert_eq!((form.checksum.as_deref(), form.signature.as_deref()), (Some("ab"), Some("sig")));
}

#[tokio::test]
async fn a_part_that_cant_be_taken_is_named() {
    let too_long = vec![b'x'; TEXT + 1];
    for (parts, field) in [
        (vec![("colour", None, &b"red"[..])], "colour"),
        (vec![("version", None, &b"1"[..]), ("version", None, &b"2"[..])], "version"),
        (vec![("mandatory", None, &b"yes"[..])], "mandatory"),
        (vec![("active", None, &b""[..])], "active"),
        (vec![("hardware", None, &b""[..])], "hardware"),
        (vec![("hardware", None, &b" rev"[..])], "hardware"),
        (vec![("version", None, &b"\xff\xfe"[..])], "version"),
        (vec![("release_notes", None, &b"\x07"[..])], "release_notes"),
        (vec![("signature", None, too_long.as_slice())], "signature"),
        (vec![("file", None, &b"GIF89a, and no image of ours"[..])], "file"),
        (vec![("file", None, &b""[..])], "file"),
    ] {
        assert_eq!(refused(&parts).await, (400, field.to_owned()));
    }
}

#[tokio::test]
async fn an_image_that_is_cut_short_or_changed_is_refused() {
    let whole = image("1.2.0");
    let cut = &whole[..whole.len() - 1];
    let mut changed = whole.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    let mut longer = whole.clone();
    longer.push(0);
    for bytes in [cut, changed.as_slice(), longer.as_slice()] {
        assert_eq!(refused(&[("file", None, bytes)]).await, (400, "file".to_owned()));
    }
}

#[tokio::test]
async fn an_image_larger_than_the_slot_is_too_large() {
    let slot = usize::try_from(SLOT).expect("small");
    let bytes = acuvim_firmware_registry::Sample::application("1.2.0", slot + 4096).bytes();
    let (status, detail) = refused(&[("file", None, &bytes)]).await;
    assert_eq!(status, 413, "{detail}");
}

#[tokio::test]
async fn a_form_that_breaks_off_is_a_400_and_what_follows_an_error_is_read() {
    let whole = form(&[("version", None, b"1.2.0"), ("hardware", None, b"rev-c")]);
    let cut = whole[..whole.len() - 20].to_vec();
    assert_eq!(read_form(cut).await.expect_err("cut short").problem.status, 400);
    assert_eq!(read_form("no form at all").await.expect_err("no form").problem.status, 400);
    let rest = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&rest);
    let bad = form(&[("colour", None, b"red"), ("file", None, &vec![0; 1 << 20])]);
    let total = bad.len();
    let chunks: Vec<Vec<u8>> = bad.chunks(4096).map(<[u8]>::to_vec).collect();
    let stream = futures::stream::iter(chunks).map(move |chunk| {
        counted.fetch_add(chunk.len(), std::sync::atomic::Ordering::Relaxed);
        Ok::<_, std::io::Error>(chunk)
    });
    let error = read_form(Body::from_stream(stream)).await.expect_err("an unknown part");
    assert_eq!(error.problem.errors[0].field, "colour");
    assert_eq!(rest.load(std::sync::atomic::Ordering::Relaxed), total, "the client may finish");
}
