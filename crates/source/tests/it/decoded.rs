//! Other encodings and several objects per line, from file to rows: detected, and read from the start and from each
//! row.

use assay_source::{FormatOptions, S3Options, SourceUrl, Sources};
use assay_transaction::{Compression, Encoding, FieldAccess as _, Format, Namespace, Position, RunSettings};
use async_compression::tokio::write::GzipEncoder;
use tokio::io::AsyncWriteExt as _;

async fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(bytes).await.unwrap();
    encoder.shutdown().await.unwrap();
    encoder.into_inner()
}

const CSV: &str = "id;description;amount;timestamp;operation_type;side\n\
    1;Żabka 商店;-1,50;2026-01-01 10:00:00;card;debit\n\
    2;\"two\n商; 店\";-2,50;2026-01-01 10:00:00;card;debit\n\
    3;カード;-3,50;2026-01-01 10:00:00;card;debit\n";
const JSON: &str = r#"{"id":1,"description":"café","amount":-1.5,"timestamp":"2026-01-01 10:00:00","operation_type":"c","side":"d"}{"id":2,"description":"caf\u00e9","amount":-1.5,"timestamp":"2026-01-01 10:00:00","operation_type":"c","side":"d"}"#;

/// The descriptions of a source's rows, read from the start and again from each row's end.
async fn descriptions(bytes: &[u8], declared: Option<Encoding>) -> (RunSettings, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    std::fs::write(&path, bytes).unwrap();
    let url: SourceUrl = path.to_str().unwrap().parse().unwrap();
    let sources = Sources::new(&S3Options::default()).unwrap();
    let found = sources.identify(&url).await.unwrap();
    let options = FormatOptions { encoding: declared, ..FormatOptions::default() };
    let layout = sources.inspect(&url, &found, &options).await.unwrap().layout;
    let settings = RunSettings {
        dialect: layout.dialect,
        format: layout.format,
        compression: layout.compression,
        header: layout.header,
        csv: layout.csv,
        ..RunSettings::standard(Namespace::new("bank"))
    };
    let column = settings.header.iter().position(|name| name == "description").unwrap();
    let read = async |from: Position| {
        let mut reader = sources.rows(&url, &found, &settings, from).await.unwrap();
        let mut seen = Vec::new();
        while let Some(batch) = reader.next_batch(1).await.unwrap() {
            for row in batch.rows() {
                let bytes = row.fields.get(column).unwrap_or_default();
                let text = settings
                    .encoding_of_rows()
                    .decode(bytes)
                    .map_or_else(|| "no text".to_owned(), std::borrow::Cow::into_owned);
                seen.push((row.line, row.end, text));
            }
        }
        seen
    };
    let all = read(layout.start).await;
    for (index, (_, end, _)) in all.iter().enumerate() {
        assert_eq!(read(*end).await, all[index + 1..]);
    }
    (settings, all.into_iter().map(|(_, _, text)| text).collect())
}

#[tokio::test]
async fn text_is_read_in_any_encoding() {
    let marked = format!("\u{feff}{CSV}");
    let cases = [
        (Encoding::UTF_16LE, None, marked.clone()),
        (Encoding::UTF_16BE, None, marked.clone()),
        // The mark overrides the setting.
        (Encoding::UTF_16BE, Some(Encoding::UTF_16LE), marked.clone()),
        (Encoding::UTF_16LE, None, format!("\u{feff}{marked}")),
        (Encoding::UTF_16LE, Some(Encoding::UTF_16LE), CSV.to_owned()),
        (Encoding::of("gb18030").unwrap(), Encoding::of("gb18030"), CSV.to_owned()),
        (Encoding::UTF_8, None, format!("\u{feff}{marked}")),
    ];
    for (encoding, declared, text) in cases {
        let bytes = encoding.encode(&text).unwrap();
        for (bytes, compression) in [(bytes.clone(), Compression::None), (gzip(&bytes).await, Compression::Gzip)] {
            let (settings, found) = descriptions(&bytes, declared).await;
            assert_eq!(found, ["Żabka 商店", "two\n商; 店", "カード"], "{encoding} declared as {declared:?}");
            assert_eq!((settings.dialect.encoding, settings.compression), (encoding, compression));
        }
    }
    // A malformed character costs its row.
    let gbk = Encoding::of("gbk").unwrap();
    let bytes: Vec<u8> = CSV.lines().filter(|line| !line.starts_with('1')).collect::<Vec<_>>().join("\n").into_bytes();
    let broken =
        [&gbk.encode(std::str::from_utf8(&bytes).unwrap()).unwrap()[..], b"\n4;\xc9;-1,0;2026-01-01 10:00:00;c;d\n"]
            .concat();
    assert_eq!(descriptions(&broken, Some(gbk)).await.1, ["two\n商; 店", "カード", "no text"]);
}

#[tokio::test]
async fn json_is_read_in_any_encoding_and_lines() {
    for (encoding, text) in [
        (Encoding::UTF_8, JSON.to_owned()),
        (Encoding::WINDOWS_1252, JSON.to_owned()),
        (Encoding::UTF_16LE, format!("\u{feff}{JSON}")),
        (Encoding::UTF_8, format!("\u{1e}{}", JSON.replace("}{", "}\n\u{1e}{"))),
    ] {
        let declared = (encoding == Encoding::WINDOWS_1252).then_some(encoding);
        let (settings, found) = descriptions(&encoding.encode(&text).unwrap(), declared).await;
        assert_eq!((settings.format, settings.dialect.encoding), (Format::JsonLines, encoding));
        assert_eq!(found, ["café", "café"], "{encoding}");
    }
}
