//! Detection from the head of a source.

use std::io::Cursor;

use assay_source::{ByteStream, CsvReader, FormatOptions, RowBatch, SourceError, SourceLayout, inspect};
use assay_transaction::{DecimalMark, DecisionSubject, Delimiter, Dialect, Encoding, Exit, FieldAccess as _, Format};

const HEADER: [&str; 8] = ["side", "id", "amount", "timestamp", "merchant", "operation_type", "description", "country"];

fn stream(content: impl AsRef<[u8]>) -> ByteStream {
    Box::pin(Cursor::new(content.as_ref().to_vec()))
}

async fn look(content: impl AsRef<[u8]>, options: &FormatOptions) -> Result<SourceLayout, SourceError> {
    Ok(inspect(&mut stream(content), options).await?.layout)
}

async fn fails(content: impl AsRef<[u8]>) -> String {
    let error = look(content, &FormatOptions::default()).await.unwrap_err();
    assert_eq!(error.exit(), Exit::SourceUnreadable, "{error}");
    error.to_string()
}

/// A source with one row per amount.
fn source(delimiter: Delimiter, line_end: &str, amounts: &[&str]) -> String {
    let separator = char::from(delimiter.byte()).to_string();
    let mut text = HEADER.join(&separator) + line_end;
    for (index, amount) in amounts.iter().enumerate() {
        let id = index.to_string();
        let amount = if amount.contains(&separator) { format!("\"{amount}\"") } else { (*amount).to_owned() };
        let row = ["debit", &id, &amount, "2023-11-28 06:35:12", "EDF", "refund", "\"Card; expense, | at\tEDF\"", "FR"];
        text += &(row.join(&separator) + line_end);
    }
    text
}

#[tokio::test]
async fn every_dialect_is_detected() {
    use DecimalMark::{Comma, Point};
    // The delimiter proves no decimal mark.
    let amounts: [(&[&str], DecimalMark, bool); 5] = [
        (&["1.50", "-7"], Point, true),
        (&["1,50", "-7"], Comma, true),
        (&["1.234,50", "3.000"], Comma, true),
        (&["1", "2"], Point, false),
        (&[], Point, false),
    ];
    for (amounts, decimal_mark, is_known) in amounts {
        for delimiter in Delimiter::ALL {
            for (line_end, bom) in [("\n", ""), ("\r\n", ""), ("\r", ""), ("\n", "\u{feff}"), ("\r\n", "\u{feff}")] {
                let text = format!("{bom}{}", source(delimiter, line_end, amounts));
                let layout = look(&text, &FormatOptions::default()).await.unwrap();
                let expected = Dialect { delimiter, decimal_mark, encoding: Encoding::UTF_8 };
                assert_eq!((layout.dialect, layout.amounts.is_mark_unknown), (expected, !is_known), "{text:?}");
                assert_eq!(layout.header, HEADER);
                assert_eq!(layout.start.line, 2);
                let header_end = text.find(line_end).unwrap() + line_end.len();
                assert_eq!(usize::try_from(layout.start.offset).unwrap(), header_end);

                let mut reader = CsvReader::new(stream(&text[header_end..]), &(&layout).into(), layout.start);
                let rows = reader.next_batch(10).await.unwrap();
                assert_eq!(rows.as_ref().map_or(0, RowBatch::len), amounts.len());
                for (row, amount) in rows.iter().flat_map(|rows| rows.rows()).zip(amounts) {
                    assert_eq!(row.fields.get(2), Some(amount.as_bytes()));
                    assert_eq!(row.fields.get(6), Some(&b"Card; expense, | at\tEDF"[..]));
                }
            }
        }
    }
}

#[tokio::test]
async fn a_header_may_be_quoted_and_span_lines() {
    let text =
        "\n\r\n \"ID\" ; Amount;\"Timestamp\";operation_type;SIDE;description;\"notes;\r\n\"\"more\"\"\"\r\n1;2;3";
    let layout = look(text, &FormatOptions::default()).await.unwrap();
    let names = ["ID", "Amount", "Timestamp", "operation_type", "SIDE", "description", "notes;\r\n\"more\""];
    assert_eq!(layout.header, names);
    assert_eq!((layout.start.line, layout.start.offset), (5, text.find("1;2;3").unwrap() as u64));
}

#[tokio::test]
async fn options_override_detection() {
    let text = source(Delimiter::Semicolon, "\n", &["1,50"]);
    let options = FormatOptions {
        decimal_mark: Some(DecimalMark::Point),
        encoding: Some(Encoding::WINDOWS_1252),
        ..FormatOptions::default()
    };
    let layout = look(&text, &options).await.unwrap();
    assert_eq!((layout.dialect.decimal_mark, layout.dialect.encoding), (DecimalMark::Point, Encoding::WINDOWS_1252));
    let options = FormatOptions { delimiter: Some(Delimiter::Pipe), ..FormatOptions::default() };
    let error = look(&text, &options).await.unwrap_err().to_string();
    assert_eq!(error, "line 1 has every required column, separated by `;`: set DELIMITER=';'");

    let header = b"id;description;amount;timestamp;operation_type;side;soci\xe9t\xe9\n";
    assert!(fails(header).await.contains("in windows-1252 it is `é`; set ENCODING to the encoding of the source"));
    let options = FormatOptions { encoding: Some(Encoding::WINDOWS_1252), ..FormatOptions::default() };
    assert_eq!(look(header, &options).await.unwrap().header[6], "société");
}

#[tokio::test]
async fn only_complete_rows_prove_the_decimal_mark() {
    let mut text = source(Delimiter::Semicolon, "\n", &["1.5"]);
    text += "a;row;with.,too;few\n";
    text += &"debit;9;1.5;2023-11-28 06:35:12;1,2,3;refund;1,2,3;1,2,3\n".repeat(5_000);
    let layout = look(&text, &FormatOptions::default()).await.unwrap();
    assert_eq!(layout.dialect.decimal_mark, DecimalMark::Point);
}

#[tokio::test]
async fn json_in_another_encoding_is_not_malformed() {
    let object = r#"{"id":1,"description":"café","amount":-1.5,"timestamp":"2026-01-01 10:00:00","operation_type":"c","side":"d"}"#;
    let latin = Encoding::WINDOWS_1252.encode(&format!("{object}\n{object}\n")).unwrap();
    let error = fails(&latin).await;
    assert!(error.contains("in windows-1252 it is `é`; set ENCODING"), "{error}");
    let options = FormatOptions { encoding: Some(Encoding::WINDOWS_1252), ..FormatOptions::default() };
    assert_eq!(look(&latin, &options).await.unwrap().format, Format::JsonLines);
    // With the wrong format set, a source is not reported as empty.
    let options = FormatOptions { format: Some(Format::JsonLines), ..FormatOptions::default() };
    for text in ["id;amount\n1;2\n", "[{\"id\":1},{\"id\":2}]", "{\n\"id\": 1\n}\n"] {
        let error = look(text, &options).await.unwrap_err().to_string();
        assert!(error.contains("no complete object") && error.contains("jq"), "{error}");
    }
    // A single broken line is a slip, even the first.
    let slip =
        [&Encoding::WINDOWS_1252.encode(object).unwrap()[..], format!("\n{object}\n{object}").as_bytes()].concat();
    assert_eq!(look(&slip, &FormatOptions::default()).await.unwrap().format, Format::JsonLines);
}

#[tokio::test]
async fn a_repeated_header_is_no_evidence() {
    // One of three rows has no date, and one lacks the trailing delimiter.
    let header = HEADER.join(";");
    let row = "debit;9;1,5;25.04.2024;EDF;refund;x;FR;\n";
    let text = format!("{header}\n{row}{}\n{row}", header.to_uppercase());
    let layout = look(&text, &FormatOptions::default()).await.unwrap();
    assert_eq!((layout.timestamps.to_string(), layout.csv.trailing_delimiter), ("%d.%m.%Y".to_owned(), true));
}

/// A mapping of column positions.
fn by_place() -> FormatOptions {
    let mapping = r#"{"id":"column_1","description":"column_2","amount":"column_3","timestamp":"column_4","operation_type":{"constant":"x"},"side":{"constant":"y"}}"#;
    let mapping = Some(std::sync::Arc::new(serde_json::from_str(mapping).unwrap()));
    FormatOptions { mapping, ..FormatOptions::default() }
}

#[tokio::test]
async fn a_source_without_a_header_begins_with_its_first_row() {
    let rows = "1;Shop;-1,50;25.04.2024;a\n2;Shop;-2,50;26.04.2024;b\n";
    for (before, line, header, decided) in [
        ("0;Shop;oops;24.04.2024;a\n", 1, "column_1;column_2;column_3;column_4;column_5", Some("none")),
        ("", 1, "column_1;column_2;column_3;column_4;column_5", Some("none")),
        ("\u{feff}", 1, "column_1;column_2;column_3;column_4;column_5", Some("none")),
        ("sep=;\nAccount;7\n\n", 4, "column_1;column_2;column_3;column_4;column_5", Some("none")),
        ("# who, what; when; and; where; why; not;\n", 2, "column_1;column_2;column_3;column_4;column_5", Some("none")),
        ("no;text;sum;day;more\n", 2, "no;text;sum;day;more", None),
    ] {
        let text = format!("{before}{rows}");
        let found = inspect(&mut stream(&text), &by_place()).await.unwrap();
        let SourceLayout { start, header: names, decisions, .. } = found.layout;
        assert_eq!((start.row, start.line), (1, line), "{text}");
        let read: usize = found.sample.iter().map(RowBatch::len).sum();
        assert_eq!((names.join(";").as_str(), read), (header, 2 + before.matches("oops").count()), "{text}");
        let header = decisions.iter().find(|decision| decision.what == DecisionSubject::Header);
        assert_eq!(header.map(|decision| decision.value.as_str()), decided, "{text}");
    }
}

#[tokio::test]
async fn the_first_row_may_count_its_timestamp() {
    let mapping = r#"{"id":"column_1","description":"column_2","amount":"column_3","timestamp":{"column":"column_4","unit":"seconds"},"operation_type":{"constant":"x"},"side":{"constant":"y"}}"#;
    let mapping = Some(std::sync::Arc::new(serde_json::from_str(mapping).unwrap()));
    let options = FormatOptions { mapping, ..FormatOptions::default() };
    let layout = look("1,x,-1.50,1710583200\n2,x,-1.50,1710583200\n", &options).await.unwrap();
    assert_eq!(layout.start.line, 1);
}

#[tokio::test]
async fn a_trailer_is_no_evidence() {
    let row = "debit;9;1,5;25.04.2024;EDF;refund;x;FR\n";
    let text = format!("{}\n{row}{row}Total;2;3,0;none;;;;\nBalance;;1.00;4/25/2024;;;;\n", HEADER.join(";"));
    let trailer = Some("Total;*".parse().unwrap());
    let layout = look(&text, &FormatOptions { trailer, ..FormatOptions::default() }).await.unwrap();
    assert_eq!((layout.timestamps.to_string().as_str(), layout.dialect.decimal_mark), ("%d.%m.%Y", DecimalMark::Comma));
    assert!(fails(&text).await.contains("set DECIMAL_MARK"));
}

#[tokio::test]
async fn an_unusable_source_says_why() {
    for empty in ["", "\u{feff}", "\n\r\n\n"] {
        assert_eq!(fails(empty).await, "the source is empty: it has no header");
    }
    assert_eq!(
        fails("id;amount;timestamp;merchant\n1;2;3;4\n").await,
        "the header is not usable: missing required columns `description`, `operation_type`, `side`; \
         the header has `id`, `amount`, `timestamp`, `merchant` (line 1, the closest of 2 lines)"
    );
    let twice = fails("id,amount,timestamp,description,side,operation_type,Amount\n").await;
    assert!(
        twice.contains("column `amount` of `amount` occurs twice in the header, as column_2 and column_7"),
        "{twice}"
    );
    assert_eq!(
        fails("PK\u{3}\u{4} no, csv\nat all").await,
        "no header found: the first 50 lines have no required column (id, description, amount, timestamp, operation_type, side) with `,` `;` tab or `|` as delimiter, and the first line looks like `AA\\u{3}\\u{4} AA, AAA`; set DELIMITER to another one, or MAPPING to rename columns (see docs/mapping.md)"
    );
    assert!(fails("é".repeat(500)).await.contains(&format!("`{}…`; set", "A".repeat(40))));
    let endless = format!("id,\"{}", "amount,".repeat(60_000));
    assert_eq!(fails(endless).await, "the header does not end within 262144 bytes: is this a CSV source?");
}

#[tokio::test]
async fn a_truncated_row_is_no_evidence() {
    let row = "debit;9;1.5;2023-11-28 06:35:12;EDF;refund;text;FR";
    let text = source(Delimiter::Semicolon, "\n", &[]) + &format!("{row}\n").repeat(10_000);
    let inspected = inspect(&mut stream(&text), &FormatOptions::default()).await.unwrap();
    let sample: Vec<_> = inspected.sample.iter().flat_map(RowBatch::rows).map(|row| row.raw.to_vec()).collect();
    assert!(sample.len() > 1_000 && sample.iter().all(|raw| raw == row.as_bytes()));
    assert_eq!((inspected.rows, inspected.sample_rows()), (None, sample.len() as u64));
}

#[tokio::test]
async fn decisions_have_evidence() {
    let text = format!("# a report\n{}", source(Delimiter::Semicolon, "\n", &["1.234,50", "3.000"]));
    let layout = look(text, &FormatOptions { format: Some(Format::Csv), ..FormatOptions::default() }).await.unwrap();
    let decided: Vec<String> =
        layout.decisions.iter().map(|d| format!("{}: {} ({}) {}", d.what, d.value, d.by, d.evidence)).collect();
    assert_eq!(
        decided,
        [
            "format: CSV (set) ",
            "encoding: UTF-8 (default) the sample is ASCII",
            "delimiter: `;` (recognised) no other delimiter yields every required column",
            "header: line 2 (recognised) the first line with every required column; 1 line before it is skipped",
            "decimal mark: comma (recognised) 1 of 2 amounts have it, such as `N.NNN,NN` in row 1",
            "timestamps: iso (recognised) 2 of 2 values, such as `NNNN-NN-NN NN:NN:NN` in row 1",
        ]
    );
}

#[tokio::test]
async fn rows_before_a_header_are_no_preamble() {
    let row = "debit;9;1.5;2023-11-28 06:35:12;EDF;refund;text;FR\n";
    let error = fails(format!("{row}{}{row}", source(Delimiter::Semicolon, "\n", &["1.5"]))).await;
    assert!(
        error.starts_with("line 2 has every required column, but line 1 before it is a row under this header"),
        "{error}"
    );
    let other = "debit;account;balance;date;EDF;refund;text;FR\n";
    let layout =
        look(format!("{other}{}", source(Delimiter::Semicolon, "\n", &["1.5"])), &FormatOptions::default()).await;
    assert_eq!(layout.unwrap().start.line, 3);
}

#[tokio::test]
async fn json_texts_are_detected_and_json_numbers_have_a_point() {
    let lines = |amounts: &[&str]| {
        let line = |amount: &&str| {
            format!(
                "{{\"id\":\"1\",\"description\":\"d\",\"amount\":{amount},\"timestamp\":\"25/04/2024\",\"operation_type\":\"c\",\"side\":\"debit\"}}\n"
            )
        };
        amounts.iter().map(line).collect::<String>()
    };
    let layout = look(lines(&["-3.000", "\"1.250,00\"", "\"-12,5\""]), &FormatOptions::default()).await.unwrap();
    assert_eq!((layout.dialect.decimal_mark, layout.timestamps.to_string().as_str()), (DecimalMark::Comma, "%d/%m/%Y"));
    let layout = look(lines(&["-3.000", "1.250"]), &FormatOptions::default()).await.unwrap();
    assert!(layout.amounts.is_mark_unknown, "a text that comes later is not read by it");
    let error = fails(lines(&["\"3.000\"", "1.250"])).await;
    assert!(error.contains("DECIMAL_MARK=point or DECIMAL_MARK=comma"), "{error}");
}
