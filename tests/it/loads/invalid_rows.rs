//! Invalid rows: each in `invalid_transactions` with its number, its line, its reason and its own bytes.

use std::collections::BTreeSet;

use assay_tests::{HEADER, Script, Stack, law};
use assay_transaction::{MAX_RAW_KEPT, MAX_ROW_BYTES, RejectReason, Tally};

/// A file that knows what is wrong with it.
struct File {
    bytes: Vec<u8>,
    line: i64,
    rows: i64,
    rejected: Vec<Rejected>,
}

/// Row number, line, reason, raw bytes.
type Rejected = (i64, i64, String, Vec<u8>);

impl File {
    fn new() -> Self {
        Self { bytes: format!("{HEADER}\n").into_bytes(), line: 2, rows: 0, rejected: Vec::new() }
    }

    fn push(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.bytes.push(b'\n');
        self.line += i64::try_from(row.split(|byte| *byte == b'\n').count()).unwrap();
        self.rows += 1;
    }

    fn valid(&mut self, row: &str) {
        self.push(row.as_bytes());
    }

    fn invalid(&mut self, row: &[u8], reason: &RejectReason) {
        let line = self.line;
        self.push(row);
        let kept = row[..row.len().min(MAX_RAW_KEPT)].to_vec();
        self.rejected.push((self.rows, line, reason.code().to_owned(), kept));
    }

    fn blank_line(&mut self) {
        self.bytes.push(b'\n');
        self.line += 1;
    }
}

/// Nothing is wrong with the last four fields.
const GOOD: &str = "2026-01-01 10:00:00,Shop,card_payment,debit";

/// With `~` standing for them.
fn completed(row: &[u8]) -> Vec<u8> {
    row.iter()
        .flat_map(|byte| if *byte == b'~' { GOOD.as_bytes() } else { std::slice::from_ref(byte) })
        .copied()
        .collect()
}

#[tokio::test]
async fn every_rule_rejects_its_rows_and_keeps_their_details() {
    use RejectReason as R;
    let mut file = File::new();
    file.valid(&format!("1,\"two\nlines, and \"\"quotes\"\"\",1.5,{GOOD}"));
    let cases: [(&[u8], R); 25] = [
        (b" ,Card,1,~", R::IdEmpty),
        (b"11,\"\",1,~", R::DescriptionEmpty),
        (b"12,Card,,~", R::AmountEmpty),
        (b"13,Card,12 EUR,~", R::AmountFormat),
        (b"14,Card,1e,~", R::AmountFormat),
        (b"15,Card,NaN,~", R::AmountNotFinite),
        (b"16,Card,-Infinity,~", R::AmountNotFinite),
        (b"17,Card,1.00001,~", R::AmountScale),
        (b"18,Card,10000000000000000,~", R::AmountRange),
        (b"19,Card,1,,Shop,card_payment,debit", R::TimestampEmpty),
        (b"20,Card,1,28/11/2023,Shop,card_payment,debit", R::TimestampFormat),
        (b"21,Card,1,2026-02-30 10:00:00,Shop,card_payment,debit", R::TimestampFormat),
        (b"22,Card,1,2026-03-29 02:30:00,Shop,card_payment,debit", R::TimestampGap),
        (b"23,Card,1,2026-01-01 10:00:00,Shop,,debit", R::OperationTypeEmpty),
        (b"24,Card,1,2026-01-01 10:00:00,Shop,card_payment,  ", R::SideEmpty),
        (b"25,Card,1,2026-01-01 10:00:00,Shop,card_payment", R::FieldCount),
        (b"26,Card,1,~,more", R::FieldCount),
        (b"just some words", R::FieldCount),
        (b"28,caf\xe9,1,~", R::Encoding),
        (b"29,Card,1,2026-01-01 10:00:00,\xff\xfe,x,debit", R::Encoding),
        (b"30,a\0b,1,~", R::NulByte),
        (b"31,\"two\nlines\",,~", R::AmountEmpty),
        (b"32,'; DROP TABLE runs; --,x,~", R::AmountFormat),
        (b"33,<b>\xe2\x80\xae</b>,one,~", R::AmountFormat),
        (b"34,\\N \\. \x01\x7f,,~", R::AmountEmpty),
    ];
    for (number, (row, reason)) in (100..).zip(&cases) {
        file.invalid(&completed(row), reason);
        match number % 3 {
            0 => file.blank_line(),
            1 => file.valid(&format!("{number},Card,1,{GOOD}")),
            _ => {}
        }
    }
    file.invalid(format!("40,{},1,{GOOD}", "x".repeat(MAX_ROW_BYTES)).as_bytes(), &R::RowTooLarge);
    file.invalid(HEADER.as_bytes(), &R::HeaderRepeated);
    file.invalid(b"99,\"never closed,1,2026-01-01 10:00:00,Shop,x,debit", &R::QuoteMalformed);
    let reasons: BTreeSet<&str> = file.rejected.iter().map(|(_, _, reason, _)| reason.as_str()).collect();
    // None can be in CSV without a mapping, in a run that begins now.
    let mapped = [R::JsonFormat, R::ValueUnknown, R::AmountTwice, R::AmountSign];
    // Nor these, where the source shows its decimal mark and its timestamps are ISO 8601.
    let elsewhere = [&mapped[..], &[R::UnterminatedQuote, R::AmountMark, R::TimestampZone]].concat();
    let all: BTreeSet<&str> = R::ALL.iter().filter(|reason| !elsewhere.contains(reason)).map(R::code).collect();
    assert_eq!(reasons, all, "the file breaks every rule there is");

    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", &file.bytes);
    let _stages = stack.start_stages();
    let invalid = file.rejected.len() as u64;
    let valid = u64::try_from(file.rows).unwrap() - invalid;
    let loader = stack.loader(&object).arg("--wait").env("TIME_ZONE", "Europe/Paris").env("CHUNK_ROWS", "10");
    // Set, as two broken texts of so few would make it doubtful.
    let loader = loader.env("ENCODING", "utf-8");
    let ended = loader.run().await;
    ended.expect_exit(0).expect_says(&format!("Pipeline complete: {valid} processed, 0 failed, {invalid} invalid"));

    let found: Vec<Rejected> =
        sqlx::query_as("SELECT row_number, line, reason, raw FROM invalid_transactions ORDER BY row_number")
            .fetch_all(stack.database.pool())
            .await
            .unwrap();
    for (found, expected) in found.iter().zip(&file.rejected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), file.rejected.len());
    for message in stack.database.texts("SELECT message FROM invalid_transactions").await {
        assert!(!message.is_empty() && message.len() < 300 && !message.contains('\n'), "for a person: {message:?}");
    }
    let tally = law::holds_for_one_run(&stack.database).await;
    assert_eq!(tally, Tally { predicted: valid, invalid, ..Tally::default() });
}

#[tokio::test]
async fn a_file_of_nothing_but_invalid_rows_has_failed() {
    let stack = Stack::new(Script::Score).await;
    let rows = "x,,,,,,\n".repeat(250);
    let object = stack.s3.put("transactions", "a.csv", format!("{HEADER}\n{rows}"));
    let _stages = stack.start_stages();
    let loaded = stack.loader(&object).arg("--wait").run().await;
    loaded.expect_exit(1).expect_says("not one of 250 rows is valid");
    assert_eq!(stack.ml_api.bodies().len(), 0, "there is nothing to ask the ML API");
    assert_eq!(law::holds_for_one_run(&stack.database).await.invalid, 250);
}
