//! Messages about a source never contain row content.

use std::sync::Arc;

use assay_source::{ByteStream, FormatOptions, inspect};
use assay_transaction::{DecimalMark, Delimiter, Encoding, Format, TimestampFormat};
use bytes::Bytes;
use futures_util::stream;
use tokio_util::io::StreamReader;

/// Row values: a card number, a name, an account, and a text with control characters.
const CANARIES: [&str; 5] =
    ["4111111111111111", "Jean Dupont", "DE89370400440532013000", "4111 1111 1111 1111", "Kowalski\u{1b}[31m\u{202e}"];
/// Fragments that reveal them.
const PIECES: [&str; 6] = ["411111", "111111", "Jean", "Dupont", "370400", "Kowalski"];

fn bytes(content: &[u8]) -> ByteStream {
    Box::pin(StreamReader::new(stream::iter([Ok::<_, std::io::Error>(Bytes::copy_from_slice(content))])))
}

/// Sources with a value in unexpected places: alone, in names, before and after a header.
fn sources(canary: &str) -> Vec<Vec<u8>> {
    let header = "id;description;amount;timestamp;operation_type;side";
    // A line with two known names is a header, whatever else it has; but numbers are not names.
    let name = if canary.starts_with('4') { canary } else { "x" };
    let row = format!("{canary};{canary};12.50;2026-01-01 10:00:00;{canary};debit");
    let object = |amount: &str, timestamp: &str| {
        format!(
            r#"{{"id":"{canary}","description":"{canary}","amount":"{amount}","timestamp":"{timestamp}","operation_type":"x","side":"y"}}"#
        )
        .replace('\u{1b}', "")
    };
    let named = format!(r#"{{"{canary}":"{canary}"}}"#).replace('\u{1b}', "");
    let nested = format!(r#"{{"{canary}":{}}}"#, object("1", "2")).replace('\u{1b}', "");
    let sources: Vec<String> = vec![
        row.clone(),
        format!("{row}\n{row}\n"),
        row.replace(';', ","),
        row.replace(';', "\t"),
        row.replace(';', "|"),
        row.replace(';', "^"),
        row.replace(';', "||"),
        canary.to_owned(),
        format!("{canary};{canary}"),
        format!("id;{row}"),
        format!("{canary}\n\nid;amount;IBAN\n{row}\n"),
        format!("id;amount;{name}\n{row}\n"),
        format!("{header};{name};{name}\n{row};a;b\n"),
        format!("{header}\n{header};{name}\n{row}\n"),
        format!("{row}\n{header}\n{row}\n"),
        format!("{header}\n{}\n", row.replace("12.50", canary)),
        format!("{header}\n{}\n", row.replace("2026-01-01 10:00:00", canary)),
        format!("{header}\n{}\n", row.replace("12.50", "3.000")),
        format!("{header}\n{}\n{}\n", row, row.replace("12.50", "12,50")),
        format!("{header}\n{}\n", row.replace("2026-01-01 10:00:00", "03/04/2026")),
        format!(
            "{header}\n{}\n{}\n",
            row.replace("2026-01-01 10:00:00", "13/04/2026"),
            row.replace("2026-01-01 10:00:00", "04/13/2026")
        ),
        format!("{header}\n{}\n", row.replace("2026-01-01 10:00:00", "45367")),
        format!("{header}\n{}\n{row}\n", row.replace("2026-01-01 10:00:00", "25/04/2026")),
        format!("{}\n{row}\n", header.replace("side", "\"side")),
        format!("\"{row}"),
        named.clone(),
        format!("{named}\n{named}"),
        nested,
        format!("[{named},{named}]"),
        format!("{canary} {named}"),
        object(canary, canary),
        object("3.000", "03/04/2026"),
        format!("{{\"{canary}"),
    ];
    let texts = sources.iter().map(|text| text.clone().into_bytes());
    // The same in Latin letters that are not UTF-8, and in UTF-16.
    let latin = sources.iter().map(|text| [text.as_bytes(), b"\xe9"].concat());
    let broken = sources.iter().map(|text| [canary.as_bytes(), b"\xe9\xe8\n", text.as_bytes()].concat());
    let wide = sources.iter().map(|text| text.encode_utf16().flat_map(u16::to_le_bytes).collect());
    let endless = [format!("{}{canary}", "x".repeat(300_000)).into_bytes()];
    texts.chain(latin).chain(broken).chain(wide).chain(endless).collect()
}

fn options() -> Vec<FormatOptions> {
    let mapped = |mapping: &str| FormatOptions {
        mapping: Some(Arc::new(serde_json::from_str(mapping).unwrap())),
        ..FormatOptions::default()
    };
    vec![
        FormatOptions::default(),
        FormatOptions { delimiter: Some(Delimiter::Semicolon), ..FormatOptions::default() },
        FormatOptions {
            delimiter: Some(Delimiter::Comma),
            decimal_mark: Some(DecimalMark::Point),
            ..FormatOptions::default()
        },
        FormatOptions { encoding: Some(Encoding::UTF_16LE), ..FormatOptions::default() },
        FormatOptions { encoding: Some(Encoding::WINDOWS_1252), ..FormatOptions::default() },
        FormatOptions { format: Some(Format::JsonLines), ..FormatOptions::default() },
        FormatOptions {
            format: Some(Format::Csv),
            timestamp_format: Some(TimestampFormat::Iso),
            ..FormatOptions::default()
        },
        mapped(
            r#"{"id":"Ref","description":"Text","amount":"Sum","timestamp":"When","operation_type":"Kind","side":"Side"}"#,
        ),
        mapped(
            r#"{"id":"column_1","description":"column_2","amount":"column_3","timestamp":"column_4","operation_type":"Kind","side":{"constant":"x"}}"#,
        ),
        mapped(r#"{"id":"a.b","description":"a.c"}"#),
    ]
}

#[tokio::test]
async fn messages_hold_no_row_content() {
    let (mut refused, mut read) = (0, 0);
    for canary in CANARIES {
        for source in sources(canary) {
            for options in options() {
                let said = match inspect(&mut bytes(&source), &options).await {
                    Err(error) => {
                        refused += 1;
                        error.to_string()
                    }
                    Ok(inspected) => {
                        read += 1;
                        let decisions = inspected.layout.decisions.iter();
                        decisions.flat_map(|it| [it.value.clone(), it.evidence.clone()]).collect::<Vec<_>>().join(" ")
                    }
                };
                let text = String::from_utf8_lossy(&source[..source.len().min(300)]).into_owned();
                for piece in PIECES {
                    assert!(!said.contains(piece), "{text:?} by {options:?}:\n{said}");
                }
                assert!(!said.contains(|it: char| it.is_control() || it == '\u{202e}'), "{text:?}:\n{said:?}");
            }
        }
    }
    assert!(refused > 1_000 && read > 100, "{refused} are refused, and {read} read");
}
