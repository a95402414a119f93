use assay_transaction::{Compression, Exit, Position, RunSettings};
use std::fmt::Write as _;

use async_compression::tokio::write::DeflateEncoder;
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::{FormatOptions, RowReader, S3Options};

/// A file of a test archive.
struct ArchivedFile<'a> {
    name: &'a str,
    text: &'a [u8],
    method: u16,
    flags: u16,
    /// Whether to use ZIP64 numbers.
    is_large: bool,
}

fn part<'a>(name: &'a str, text: &'a [u8]) -> ArchivedFile<'a> {
    ArchivedFile { name, text, method: DEFLATED, flags: 0, is_large: false }
}

async fn deflated(text: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new());
    encoder.write_all(text).await.unwrap();
    encoder.shutdown().await.unwrap();
    encoder.into_inner()
}

fn push(archive: &mut Vec<u8>, number: usize, bytes: usize) {
    archive.extend(&number.to_le_bytes()[..bytes]);
}

/// Writes an archive as a stream would: sizes are in its directory only.
async fn archive(parts: &[ArchivedFile<'_>]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for ArchivedFile { name, text, method, flags, is_large } in parts {
        let packed = if *method == DEFLATED { deflated(text).await } else { text.to_vec() };
        let at = archive.len();
        archive.extend(b"PK\x03\x04\x14\0\x08\0");
        push(&mut archive, usize::from(*method), 2);
        archive.extend([0; 16]);
        push(&mut archive, name.len(), 2);
        push(&mut archive, 3, 2);
        archive.extend(name.as_bytes());
        archive.extend(b"\x7f\x7f\0");
        archive.extend(&packed);
        let short = |number: usize| if *is_large { 0xffff_ffff } else { number };
        directory.extend(b"PK\x01\x02\x14\0\x14\0");
        push(&mut directory, usize::from(*flags), 2);
        push(&mut directory, usize::from(*method), 2);
        directory.extend([0; 4]);
        push(&mut directory, usize::try_from(crc32fast::hash(text)).unwrap(), 4);
        push(&mut directory, short(packed.len()), 4);
        push(&mut directory, short(text.len()), 4);
        push(&mut directory, name.len(), 2);
        push(&mut directory, if *is_large { 5 + 28 } else { 5 }, 2);
        push(&mut directory, 2, 2);
        directory.extend([0; 8]);
        push(&mut directory, short(at), 4);
        directory.extend(name.as_bytes());
        directory.extend(b"\x55\x54\x01\0\x03");
        if *is_large {
            directory.extend(b"\x01\0\x18\0");
            for number in [text.len(), packed.len(), at] {
                push(&mut directory, number, 8);
            }
        }
        directory.extend(b"ok");
    }
    let (at, is_large) = (archive.len(), parts.iter().any(|part| part.is_large));
    archive.extend(&directory);
    if is_large {
        let end = archive.len();
        archive.extend(b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0");
        for number in [parts.len(), parts.len(), directory.len(), at] {
            push(&mut archive, number, 8);
        }
        archive.extend(b"PK\x06\x07\0\0\0\0");
        push(&mut archive, end, 8);
        archive.extend(b"\x01\0\0\0");
    }
    archive.extend(b"PK\x05\x06\0\0\0\0");
    push(&mut archive, if is_large { 0xffff } else { parts.len() }, 2);
    push(&mut archive, if is_large { 0xffff } else { parts.len() }, 2);
    push(&mut archive, if is_large { 0xffff_ffff } else { directory.len() }, 4);
    push(&mut archive, if is_large { 0xffff_ffff } else { at }, 4);
    push(&mut archive, 7, 2);
    archive.extend(b"comment");
    archive
}

/// An archive as a source.
struct ArchiveSource {
    sources: Sources,
    url: SourceUrl,
    found: FoundSource,
    _folder: tempfile::TempDir,
}

impl ArchiveSource {
    async fn of(bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("drop");
        std::fs::write(&path, bytes).unwrap();
        let (sources, url) = (Sources::new(&S3Options::default()).unwrap(), SourceUrl::File(path));
        let found = sources.identify(&url).await.unwrap();
        Self { sources, url, found, _folder: folder }
    }

    async fn inspect(&self) -> Result<crate::Inspection, SourceError> {
        self.sources.inspect(&self.url, &self.found, &FormatOptions::default()).await
    }

    async fn rows(&self, from: Position) -> Result<RowReader, SourceError> {
        let settings = RunSettings { compression: Compression::Zip, ..RunSettings::example() };
        self.sources.rows(&self.url, &self.found, &settings, from).await
    }
}

async fn refused(bytes: &[u8]) -> String {
    let error = ArchiveSource::of(bytes).await.inspect().await.unwrap_err();
    assert_eq!(error.exit(), Exit::SourceUnreadable, "{error}");
    assert!(!error.to_string().contains('\n'), "{error}");
    error.to_string()
}

fn rows(count: usize) -> Vec<u8> {
    let mut text = "id,description,amount,timestamp,operation_type,side\n".to_owned();
    for row in 0..count {
        writeln!(text, "{row},Shop,-{row}.5,2024-03-15 10:00:00,card,debit").unwrap();
    }
    text.into_bytes()
}

#[tokio::test]
async fn an_archive_of_one_file_is_read_as_that_file() {
    let text = rows(20_000);
    let stored = |name| ArchivedFile { method: STORED, ..part(name, &text) };
    let large = |name| ArchivedFile { is_large: true, ..part(name, &text) };
    let cases = [
        vec![part("transactions.csv", &text)],
        vec![stored("transactions.csv")],
        vec![large("transactions.csv")],
        vec![part("drop/", b""), part("drop/a.csv", &text)],
        vec![part("__MACOSX/._a.csv", b"\0\x05\x16\x07"), part("a.csv", &text), part(".DS_Store", b"\0\0\0\x01Bud1")],
        vec![part("_a.csv", &text)],
    ];
    for parts in cases {
        let source = ArchiveSource::of(&archive(&parts).await).await;
        let inspected = source.inspect().await.unwrap();
        assert_eq!((inspected.layout.compression, inspected.layout.header.len()), (Compression::Zip, 6));
        let estimate = inspected.estimated_rows(source.found.size);
        // Compressed bytes are read in large chunks.
        assert!((5_000..40_000).contains(&estimate), "{estimate}");
        let mut reader = source.rows(inspected.layout.start).await.unwrap();
        let (mut count, mut middle) = (0, None);
        while let Some(batch) = reader.next_batch(1_000).await.unwrap() {
            count += batch.len();
            if count == 7_000 {
                middle = Some(reader.position());
            }
        }
        assert_eq!(count, 20_000);
        // From the middle, like a resumed load.
        let mut reader = source.rows(middle.unwrap()).await.unwrap();
        let batch = reader.next_batch(1).await.unwrap().unwrap();
        let first = batch.rows().next().unwrap();
        assert_eq!((first.number, assay_transaction::FieldAccess::get(&first.fields, 0)), (7_001, Some(&b"7000"[..])));
    }
}

#[tokio::test]
async fn an_unsupported_archive_is_rejected_by_name() {
    let text = rows(3);
    let method = |method| ArchivedFile { method, ..part("a.csv", &text) };
    let mut broken = archive(&[part("a.csv", &text)]).await;
    let end = broken.len();
    broken.truncate(end - 40);
    let cases = [
        (
            archive(&[part("a.csv", &text), part("b/c\n.csv", &text)]).await,
            "a zip archive of 2 files (`a.csv`, `b/c\\n.csv`): unpack it",
        ),
        (
            archive(&["1", "2", "3", "4", "5", "6"].map(|name| part(name, &text))).await,
            "6 files (`1`, `2`, `3`, `4`, `5`, …)",
        ),
        (archive(&[part("a/", b"")]).await, "an empty zip archive"),
        (archive(&[ArchivedFile { flags: 1, ..part("a.csv", &text) }]).await, "an encrypted zip archive (`a.csv`)"),
        (archive(&[method(99)]).await, "an encrypted zip archive"),
        (archive(&[method(9)]).await, "compressed with Deflate64: unpack it first"),
        (archive(&[method(14)]).await, "compressed with LZMA"),
        (archive(&[method(77)]).await, "compressed with method 77"),
        (
            archive(&[part("[Content_Types].xml", b"<x/>"), part("xl/workbook.xml", b"<x/>")]).await,
            "an Excel workbook (.xlsx): export",
        ),
        (archive(&[part("[Content_Types].xml", b"<x/>")]).await, "an Office document (.xlsx, .docx or .pptx)"),
        (archive(&[part("mimetype", b""), part("content.xml", b"<x/>")]).await, "an OpenDocument file (.ods or .odt)"),
        (
            archive(&[part("a.csv", &archive(&[part("b.csv", &text)]).await)]).await,
            "a zip archive inside of zip: unpack it once",
        ),
        (archive(&[part("a.csv.gz", b"\x1f\x8b\x08\0\0\0\0\0")]).await, "gzip data inside of zip: unpack it once"),
        (archive(&[part("a.parquet", b"PAR1\x15\x04")]).await, "a Parquet file inside of zip"),
        (archive(&[part("a.avro", b"Obj\x01\x04")]).await, "an Avro file inside of zip"),
        (archive(&[part("a.html", b"<html><body></body></html>")]).await, "an HTML page inside of zip"),
        (broken, "whose directory is cut off or damaged: send it again"),
        (b"PK\x03\x04".to_vec(), "whose directory is cut off or damaged"),
        (b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(), "an empty zip archive"),
    ];
    for (bytes, expected) in cases {
        let error = refused(&bytes).await;
        assert!(error.contains(expected), "{error}, not {expected}");
    }
}

#[tokio::test]
async fn a_file_that_differs_from_the_directory_is_damaged() {
    let text = rows(5_000);
    let whole = archive(&[part("a.csv", &text)]).await;
    let entry = memchr::memmem::find(&whole, ENTRY_SIGNATURE).unwrap();
    let changed = |at: usize, by: u8| {
        let mut bytes = whole.clone();
        bytes[at] ^= by;
        bytes
    };
    let mut fewer = whole.clone();
    let packed = u32::try_from(number(&whole, entry + 20, 4).unwrap()).unwrap();
    fewer[entry + 20..entry + 24].copy_from_slice(&(packed - 64).to_le_bytes());
    let cases = [
        (changed(entry + 16, 1), "their checksum differs from its directory"),
        (changed(entry + 24, 1), ""),
        (changed(40 + 1_000, 0x55), ""),
        (fewer, "they end too early"),
    ];
    for (bytes, expected) in cases {
        let source = ArchiveSource::of(&bytes).await;
        let mut reader = source.rows(Position::START).await.unwrap();
        let error = loop {
            match reader.next_batch(1_000).await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("no error, {expected}"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, SourceError::Damaged { what: "zip", .. }), "{error}");
        assert!(
            error.to_string().starts_with("its zip data are damaged: ") && error.to_string().contains(expected),
            "{error}"
        );
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(200))]
    #[test]
    fn any_directory_is_read_or_rejected(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let _ = read_entries(&[ENTRY_SIGNATURE, &bytes].concat()).map(|entries| choose_entry(&entries));
        let _ = CentralDirectory::find(&[&bytes[..], END_SIGNATURE, &[0; 18]].concat());
        let _ = CentralDirectory::large(&[ZIP64_END_SIGNATURE, &bytes].concat());
    }
}
