//! `assay invalid --csv`: writes invalid rows in the dialect of their source, to be corrected and loaded again.

use assay_tests::{Rows, Script, Stack, law};
use assay_transaction::{MAX_RAW_KEPT, Tally};

/// A file of a French spreadsheet in Windows-1252: two valid rows and five invalid ones.
fn file() -> Vec<u8> {
    let mut file = b"id;libell\xe9;description;amount;timestamp;operation_type;side\r\n".to_vec();
    let rows: [&[u8]; 4] = [
        b"1;\xe9t\xe9;Caf\xe9;-1,50;2026-01-01 10:00:00;card_payment;debit",
        b"2;hiver;\"Caf\xe9 \x80;\r\n\"\"du\"\" coin\";-2,5O;2026-01-01 10:00:00;card_payment;debit",
        b"3;hiver;\"never closed;-3,50;2026-01-01 10:00:00;card_payment;debit",
        b"4;CB 4111111111111111;Caf\xe9;-4,50;01/01/2026;card_payment;debit",
    ];
    for row in rows {
        file.extend_from_slice(row);
        file.extend_from_slice(b"\r\n");
    }
    for bytes in [MAX_RAW_KEPT, 300 * 1024] {
        let long = format!("5;{};Café;no amount;2026-01-01 10:00:00;card_payment;debit\r\n", "x".repeat(bytes));
        file.extend(long.chars().map(|character| if character == 'é' { 0xe9 } else { character as u8 }));
    }
    file.extend_from_slice(b"6;hiver;Caf\xe9;-6,50;2026-01-01 10:00:00;card_payment;debit\r\n");
    file
}

#[tokio::test]
async fn invalid_rows_are_corrected_and_loaded_again() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", file());
    let _stages = stack.start_stages();
    let load = |object: &str, run_id: &str| {
        let loader = stack.loader(object).arg("--wait").env("ENCODING", "windows-1252");
        loader.env("ID_NAMESPACE", "bank").env("BATCH_RUN_ID", run_id)
    };
    load(&object, "first").run().await.expect_exit(0);
    let tally = law::holds_for_one_run(&stack.database).await;
    assert_eq!(tally, Tally { predicted: 2, invalid: 5, ..Tally::default() });

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rejected.csv");
    let masked = stack.assay(["invalid", "first", "--csv", "--output"]).arg(&path).run().await;
    masked.expect_exit(0).expect_says("wrote 3 rows to ").expect_says("1 row has a card number that was masked");
    let csv = std::fs::read(&path).unwrap();
    let holds = |text: &[u8]| csv.windows(text.len()).any(|window| window == text);
    assert!(holds(b"\n4;CB ************1111;Caf\xe9;") && !holds(b"411111"), "{}", String::from_utf8_lossy(&csv));
    let unmasked = ["invalid", "first", "--csv", "--unmasked", "--reason", "to correct", "--output"];
    let written = stack.assay(unmasked).env("ASSAY_OPERATOR", "ada").arg(&path).run().await;
    let recorded =
        "SELECT concat_ws('|', operator, run_id, reason, details::text) FROM operations WHERE action = 'unmask'";
    let details = r#"{"form": "csv", "rows": 5, "command": "invalid"}"#;
    assert_eq!(stack.database.texts(recorded).await, [format!("ada|first|to correct|{details}")]);
    written
        .expect_exit(0)
        .expect_silent_about("masked")
        .expect_says("wrote 3 rows to ")
        .expect_says("2 rows are left out");
    assert_eq!(written.stdout, "");
    let csv = std::fs::read(&path).unwrap();
    // Byte for byte and not masked; the unterminated quote comes last.
    let expected: &[u8] = b"id;libell\xe9;description;amount;timestamp;operation_type;side\n\
        2;hiver;\"Caf\xe9 \x80;\r\n\"\"du\"\" coin\";-2,5O;2026-01-01 10:00:00;card_payment;debit\n\
        4;CB 4111111111111111;Caf\xe9;-4,50;01/01/2026;card_payment;debit\n\
        3;hiver;\"never closed;-3,50;2026-01-01 10:00:00;card_payment;debit\n";
    assert_eq!(csv, expected, "{}", String::from_utf8_lossy(&csv));
    let one = stack.assay(["invalid", "first", "--csv", "--limit", "1"]).run().await;
    assert_eq!(one.expect_exit(0).stdout.lines().count(), 3, "the header, and a row of two lines");

    // Corrected, as a person would.
    let text: Vec<u8> =
        [(&b"-2,5O"[..], &b"-2,50"[..]), (b"01/01/2026", b"2026-01-01 10:00:00"), (b"\"never", b"never")]
            .into_iter()
            .fold(csv, |csv, (from, to)| {
                let at = csv.windows(from.len()).position(|window| window == from).expect("the file says so");
                [&csv[..at], to, &csv[at + from.len()..]].concat()
            });
    let object = stack.s3.put("transactions", "corrected.csv", text);
    load(&object, "second").run().await.expect_exit(0);
    let tallies = law::holds(&stack.database).await;
    assert_eq!(tallies["second"], Tally { predicted: 3, ..Tally::default() });
    let corrected = "SELECT concat_ws('|', external_id, description, amount, attributes ->> 'libellé')
        FROM transactions WHERE run_id = 'second' ORDER BY row_number";
    assert_eq!(
        stack.database.texts(corrected).await,
        [
            "2|Café €;\r\n\"du\" coin|-2.5000|hiver",
            "4|Café|-4.5000|CB 4111111111111111",
            "3|never closed|-3.5000|hiver"
        ]
    );
}

#[tokio::test]
async fn a_run_without_invalid_rows_has_only_a_header() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(3));
    let _stages = stack.start_stages();
    stack.loader(&object).arg("--wait").env("BATCH_RUN_ID", "first").run().await.expect_exit(0);
    let csv = stack.assay(["invalid", "first", "--csv"]).run().await;
    assert_eq!(csv.expect_exit(0).stdout, format!("{}\n", assay_tests::HEADER));
    stack.assay(["invalid", "first"]).run().await.expect_exit(0).expect_says("no invalid rows");
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 3);
    let nowhere = stack.assay(["invalid", "first", "--csv", "--output", "/nowhere/at/all.csv"]).run().await;
    nowhere.expect_one_clear_line(2, &["/nowhere/at/all.csv", "--output"]);
}
